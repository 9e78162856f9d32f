"""The engine's door against a real engine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import docker
import pytest

from builders.connecting import Connection
from builders.engine import Engine, EntrypointMissingError
from builders.errors import BuildError, EngineError
from builders.registries import MissingImageError
from wheelcache.errors import ExitCode
from wheelcache.programs import run_program

pytestmark = pytest.mark.engine

SCRATCH = """\
FROM scratch
COPY app /srv/app
ENV MODE=staging PATH=/srv
LABEL team=shop
USER 1000
WORKDIR /srv
ENTRYPOINT ["/srv/app"]
ONBUILD ENV CHILD=1
"""

MakeImage = Callable[..., str]


def containers(ref: str) -> bytes:
    return run_program(["docker", "ps", "--all", "--quiet", "--filter", f"ancestor={ref}"]).stdout


def test_an_image_says_what_it_is(engine: Engine, make_image: MakeImage) -> None:
    ref = make_image(SCRATCH, {"app": "x" * 1000})
    config = engine.image_config(ref)
    assert config is not None
    assert config.image_id == engine.image_id(ref)
    assert config.image_id.startswith("sha256:")
    assert config.size == engine.image_size(ref) == 1000
    assert config.platform.startswith("linux/")
    assert config.env == {"MODE": "staging", "PATH": "/srv"}
    assert (config.user, config.workdir, config.entrypoint) == ("1000", "/srv", ("/srv/app",))
    assert config.labels == {"team": "shop"}
    assert config.onbuild == ("ENV CHILD=1",)


def test_an_image_that_is_not_there_is_none(engine: Engine) -> None:
    ref = "wheelcache-test/absent:1"
    assert (engine.image_id(ref), engine.image_config(ref), engine.image_size(ref)) == (None, None, None)
    assert not engine.remove_image(ref)


def test_a_program_runs_without_a_network_and_its_container_goes(engine: Engine, base: str) -> None:
    code = "import os, sys; print(sorted(os.listdir('/sys/class/net'))); print('err', file=sys.stderr); sys.exit(4)"
    before = containers(base)
    ran = engine.run(base, ["-c", code], entrypoint="python3", user="65534")
    assert (ran.status, ran.stdout, ran.stderr) == (4, b"['lo']\n", b"err\n")
    assert containers(base) == before


def test_the_images_own_entrypoint_and_user_are_kept_out_or_in(
    engine: Engine, make_image: MakeImage, base: str
) -> None:
    ref = make_image(f'FROM {base}\nUSER 1234\nENTRYPOINT ["/bin/false"]\n')
    code = "import os; print(os.getuid())"
    assert engine.run(ref, ["-c", code], entrypoint="python3").stdout == b"1234\n"
    assert engine.run(ref, ["-c", code], entrypoint="python3", user="0").stdout == b"0\n"


def test_a_program_that_an_image_lacks_is_named(engine: Engine, make_image: MakeImage) -> None:
    ref = make_image(SCRATCH, {"app": ""})
    with pytest.raises(EntrypointMissingError, match="python3"):
        engine.run(ref, [], entrypoint="python3")
    assert containers(ref) == b""


def test_a_program_that_does_not_end_is_ended(engine: Engine, base: str) -> None:
    before = containers(base)
    with pytest.raises(BuildError, match="did not end within 1 s"):
        engine.run(base, ["60"], entrypoint="sleep", timeout=1)
    assert containers(base) == before


def test_files_are_read_out_of_an_image_in_which_nothing_can_run(engine: Engine, make_image: MakeImage) -> None:
    ref = make_image("FROM scratch\nCOPY . /\n", {"a/METADATA": "one", "a/other": "two", "big": "x" * 3_000_000})
    assert dict(engine.files(ref, wanted=lambda path: path.endswith("METADATA"))) == {"a/METADATA": b"one"}
    assert [len(data) for _, data in engine.files(ref, wanted=lambda path: path == "big")] == [3_000_000]
    assert containers(ref) == b""


def test_tags_move_and_go(engine: Engine, make_image: MakeImage, spare_ref: Callable[[], str]) -> None:
    first, second = make_image(SCRATCH, {"app": "1"}), make_image(SCRATCH, {"app": "2"})
    moving = spare_ref()
    engine.tag(first, moving)
    engine.tag(second, moving)
    assert engine.image_id(moving) == engine.image_id(second) != engine.image_id(first)
    assert engine.remove_image(moving)
    assert engine.image_id(moving) is None
    assert engine.image_id(second) is not None


def test_an_image_that_cannot_be_pulled_is_missing(engine: Engine) -> None:
    ref = "127.0.0.1:9/team/absent:1"
    with pytest.raises(MissingImageError, match="cannot be pulled") as caught:
        engine.pull(ref, silence=30)
    assert ref in caught.value.hint
    assert "docker load" in caught.value.hint


def test_disk_usage_counts_images(engine: Engine, base: str) -> None:
    size = engine.image_size(base)
    assert size is not None
    assert engine.disk_usage().images >= size


def test_what_the_engine_refuses_is_an_engine_error(engine: Engine) -> None:
    with pytest.raises(EngineError, match="NOT A REFERENCE"):
        engine.image_id("NOT A REFERENCE")


@pytest.mark.parametrize(
    "host", ["unix:///nonexistent.sock", "tcp://127.0.0.1:9", "nonsense://x", "ssh://user:pw@127.0.0.1:9"]
)
def test_without_an_engine_the_next_step_is_said(host: str) -> None:
    with pytest.raises(EngineError, match="expected a Docker engine") as caught:
        Engine.connect(run=run_program, environ={**os.environ, "DOCKER_HOST": host})
    assert caught.value.exit_code is ExitCode.ENGINE
    assert "quickstart.sh" in caught.value.hint
    assert "pw@" not in caught.value.message


def test_an_engine_without_buildx_is_unfit(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = tmp_path / "docker"
    lacking = "echo \"docker: 'buildx' is not a docker command.\" >&2; exit 1"
    client.write_text(f'#!/bin/sh\n[ "$1" != buildx ] || {{ {lacking}; }}\nexec {shutil.which("docker")} "$@"\n')
    client.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match="buildx plugin") as caught:
        Engine.connect(run=run_program)
    assert "docker-buildx" in caught.value.hint


def test_an_engine_without_its_client_is_unfit(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match="docker client on PATH, found none"):
        Engine.connect(run=run_program)


def test_a_clean_up_that_fails_fails_nothing_else() -> None:
    nobody = docker.DockerClient(base_url="tcp://127.0.0.1:9", version="1.45")
    with Engine(Connection(client=nobody)) as gone:
        assert gone.forget_context("wheelcache-heavy-x") == 0
        assert not gone.discard("sha256:" + "0" * 64)


def test_only_an_image_that_no_reference_names_is_discarded(
    engine: Engine, make_image: MakeImage, spare_ref: Callable[[], str]
) -> None:
    moving = make_image(SCRATCH, {"app": spare_ref()})
    nameless = engine.image_id(moving)
    assert nameless is not None
    assert not engine.discard(nameless)
    assert engine.image_id(moving) == nameless
    engine.tag(make_image(SCRATCH, {"app": spare_ref()}), moving)
    assert engine.discard(nameless)
    assert engine.image_id(nameless) is None
