"""The engine that is connected to is the docker client's own choice, whatever made it choose."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support.engines import OwnEngine, own_engine

from builders.connecting import open_connection
from builders.engine import Engine
from builders.errors import EngineError
from wheelcache.errors import ExitCode
from wheelcache.programs import run_program

pytestmark = pytest.mark.engine

Environ = Callable[..., dict[str, str]]


@pytest.fixture(scope="module")
def second() -> Iterator[OwnEngine]:
    with own_engine() as engine:
        yield engine


@pytest.fixture
def environ(second: OwnEngine, tmp_path: Path) -> Environ:
    """Returns environments whose docker client knows the context `second`, and has it as its current one where told."""
    folder = tmp_path / "docker"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DOCKER_", "BUILDX_"))}

    def make(*, current: bool = False, **more: str) -> dict[str, str]:
        made = {**kept, "DOCKER_CONFIG": str(folder), "BUILDX_CONFIG": str(tmp_path / "buildx")}
        create = ["docker", "context", "create", "second", "--docker", f"host={second.unix}"]
        subprocess.run(create, env=made, check=True, capture_output=True)
        if current:
            subprocess.run(["docker", "context", "use", "second"], env=made, check=True, capture_output=True)
        return {**made, **more}

    return make


def engines(environ: dict[str, str]) -> tuple[str, str]:
    """The engine that the client uses, and the one that we are connected to."""
    done = subprocess.run(
        ["docker", "info", "--format", "{{.ID}}"], env=environ, check=True, capture_output=True, text=True
    )
    with closing(open_connection(run=run_program, environ=environ)) as connection:
        return done.stdout.strip(), connection.client.info()["ID"]


@pytest.mark.parametrize("way", ["DOCKER_CONTEXT", "context use", "unix://", "tcp://", "host before context"])
def test_the_second_engine_is_used_where_the_client_uses_it(way: str, second: OwnEngine, environ: Environ) -> None:
    chosen = {
        "DOCKER_CONTEXT": lambda: environ(DOCKER_CONTEXT="second"),
        "context use": lambda: environ(current=True),
        "unix://": lambda: environ(DOCKER_HOST=second.unix),
        "tcp://": lambda: environ(DOCKER_HOST=second.tcp),
        "host before context": lambda: environ(DOCKER_HOST=second.unix, DOCKER_CONTEXT="default"),
    }[way]()
    clients, ours = engines(chosen)
    assert clients == ours == second.docker("info", "--format", "{{.ID}}")


@pytest.mark.parametrize("way", ["nothing said", "DOCKER_CONTEXT before use"])
def test_the_machines_engine_is_used_where_the_client_uses_it(
    way: str, engine: Engine, second: OwnEngine, environ: Environ
) -> None:
    chosen = environ() if way == "nothing said" else environ(current=True, DOCKER_CONTEXT="default")
    info = ["docker", "info"]
    if not os.environ.get("CI") and subprocess.run(info, env=chosen, capture_output=True, check=False).returncode:
        pytest.skip("NO ENGINE OF THE MACHINE'S OWN, NOT TESTED")
    clients, ours = engines(chosen)
    assert clients == ours != second.docker("info", "--format", "{{.ID}}")


def test_an_engine_behind_ssh(second: OwnEngine, environ: Environ, tmp_path: Path) -> None:
    """A program in the place of ssh runs on this machine what it was to run on the other one."""
    (tmp_path / "bin").mkdir()
    ssh = tmp_path / "bin" / "ssh"
    ssh.write_text(
        f'#!/bin/sh\nwhile [ "$1" != docker ]; do shift; done\nexport DOCKER_HOST={second.unix}\nexec "$@"\n'
    )
    ssh.chmod(0o755)
    made = environ()
    made |= {"PATH": f"{ssh.parent}{os.pathsep}{made['PATH']}", "DOCKER_HOST": "ssh://me@far.example"}
    clients, ours = engines(made)
    assert clients == ours == second.docker("info", "--format", "{{.ID}}")


def test_a_context_that_is_not_there_is_no_reason_to_take_another(second: OwnEngine, environ: Environ) -> None:
    with pytest.raises(EngineError, match='context "absent"') as caught:
        open_connection(run=run_program, environ=environ(DOCKER_CONTEXT="absent"))
    assert caught.value.exit_code is ExitCode.ENGINE
    assert "docker context ls" in caught.value.hint


def test_an_engine_of_a_context_that_does_not_answer_is_named(environ: Environ, tmp_path: Path) -> None:
    made = environ()
    create = ["docker", "context", "create", "gone", "--docker", f"host=unix://{tmp_path}/gone.sock"]
    subprocess.run(create, env=made, check=True, capture_output=True)
    with pytest.raises(EngineError, match=r"gone\.sock \(docker context gone\)"):
        open_connection(run=run_program, environ={**made, "DOCKER_CONTEXT": "gone"})


def test_a_builder_that_builds_elsewhere_is_refused(engine: Engine, environ: Environ) -> None:
    made = environ()
    for argv in (
        ["buildx", "create", "--name", "apart", "--driver", "docker-container"],
        ["buildx", "create", "--name", "remote", "--driver", "remote", "tcp://127.0.0.1:9"],
    ):
        subprocess.run(["docker", *argv], env=made, check=True, capture_output=True)
    for name, words in {
        "apart": r"'apart' of the driver docker-container: it does not see",
        "remote": r"'remote' of the driver remote",
        "second": r"of the docker context 'second'",
        "absent": r'no builder "absent" found',
    }.items():
        with pytest.raises(EngineError, match=words) as caught:
            open_connection(run=run_program, environ={**made, "BUILDX_BUILDER": name})
        assert caught.value.exit_code is ExitCode.ENGINE
        assert "BUILDX_BUILDER" in caught.value.hint
    subprocess.run(["docker", "buildx", "use", "apart"], env=made, check=True, capture_output=True)
    with pytest.raises(EngineError, match="'apart' of the driver"):
        open_connection(run=run_program, environ=made)
