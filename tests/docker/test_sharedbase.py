"""Heavy wheels become a base image that services share."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.wheels import MadeWheel, make_wheel

from builders.attempt import Builder
from builders.engine import Engine
from builders.errors import BuildError, RefusedError
from builders.sharedbase import SharedBase, ensure_shared_base, shared_base_refs
from wheelcache.lock import LockedWheel
from wheelcache.programs import Completed, run_program
from wheelcache.store import Store

pytestmark = pytest.mark.engine

Put = Callable[[MadeWheel], LockedWheel]
MakeImage = Callable[..., str]
MakeBase = Callable[..., SharedBase]

NVIDIA = make_wheel("nvidia-cublas-cu12", "12.8")
TRITON = make_wheel("triton", "3.4", requires=("not-locked-here",))
TORCH = make_wheel("torch", "2.8.0", requires=("nvidia-cublas-cu12",))

LOOK = """
import importlib.metadata as m, json, os, pathlib
from importlib.util import cache_from_source
names = ["torch", "triton", "nvidia-cublas-cu12"]
files = [pathlib.Path(str(file.locate())) for name in names for file in m.distribution(name).files]
print(json.dumps({
    "versions": [m.version(name) for name in names],
    "user": os.getuid(),
    "direct": [name for name in names if m.distribution(name).read_text("direct_url.json")],
    "compiled": all(os.path.exists(cache_from_source(path)) for path in files if path.suffix == ".py"),
    "readable": all(os.access(path, os.R_OK) for path in files if path.suffix == ".py"),
    "stubs": [name for name in os.listdir("/") if name.startswith("wheelcache")],
}))
"""


def layers(ref: str) -> list[str]:
    done = run_program(["docker", "image", "inspect", "--format", "{{json .RootFS.Layers}}", ref])
    return list(json.loads(done.stdout))


@pytest.fixture
def make_base(
    engine: Engine, store: Store, stored: Put, builder: Builder, made_images: list[str]
) -> Callable[..., SharedBase]:
    def make(base: str, *wheels: MadeWheel, **options: object) -> SharedBase:
        locked = [stored(wheel) for wheel in wheels]
        made = ensure_shared_base(engine, store, base=base, wheels=locked, builder=builder, **options)  # type: ignore[arg-type]
        config = engine.image_config(base)
        assert config is not None
        interpreter = str(options.get("interpreter", ""))
        made_images.extend(shared_base_refs(config.image_id, locked, interpreter=interpreter))
        return made

    return make


@pytest.mark.parametrize("by_pip", [False, True])
def test_heavy_wheels_are_installed_as_the_bases_own_user_finds_them(
    engine: Engine, base: str, make_image: MakeImage, make_base: MakeBase, *, by_pip: bool
) -> None:
    unique = uuid.uuid4().hex  # so that nothing of an earlier run is in the engine
    ground = make_image(f"FROM {base}\nLABEL run={unique}\nUSER 1234:5678\nWORKDIR /srv\n")
    made = make_base(ground, TORCH, NVIDIA, TRITON, **({"find_uv": lambda *_: None} if by_pip else {}))
    assert made.built
    assert made.sent > 0
    config, before = engine.image_config(made.ref), engine.image_config(ground)
    assert config is not None
    assert before is not None
    assert (config.user, config.workdir, config.labels, config.env) == (
        "1234:5678",
        "/srv",
        {"run": unique},
        before.env,
    )
    seen = json.loads(engine.run(made.ref, ["-c", LOOK], entrypoint="python3").stdout)
    assert seen == {
        "versions": ["2.8.0", "3.4", "12.8"],
        "user": 1234,
        "direct": [],
        "compiled": True,
        "readable": True,
        "stubs": [],
    }
    assert layers(made.ref)[:-3] == layers(ground)


def test_the_engine_keeps_no_second_copy_of_the_wheels(engine: Engine, base: str, make_base: MakeBase) -> None:
    key = make_base(base, make_wheel("torch", "2.8.0", size=21_000_000), NVIDIA).ref.rpartition(":")[2]
    kept = run_program(["docker", "buildx", "du", "--verbose"]).stdout.decode()
    assert "Description" in kept
    assert f"local source for wheelcache-heavy-{key}" not in kept


def test_wheels_go_into_the_interpreter_that_is_named(
    engine: Engine, base: str, make_image: MakeImage, make_base: MakeBase
) -> None:
    ground = make_image(f"FROM {base}\nRUN python3 -m venv --without-pip /opt/venv\n")
    made = make_base(ground, TORCH, interpreter="/opt/venv/bin/python")
    look = "import importlib.metadata as m; print(m.distribution('torch').locate_file(''))"
    assert engine.run(made.ref, ["-c", look], entrypoint="/opt/venv/bin/python").stdout.startswith(b"/opt/venv/")


def test_a_shared_base_is_made_once(base: str, make_base: MakeBase) -> None:
    first, again = make_base(base, TORCH, NVIDIA), make_base(base, NVIDIA, TORCH)
    assert (again.ref, again.image_id, again.built, again.sent) == (first.ref, first.image_id, False, 0)
    assert again.size == first.size


@pytest.mark.parametrize("versions", [("2.8.0", "2.9.0"), ("2.8.0+cu128", "2.8.1+cu128")])
def test_with_another_torch_cudas_libraries_are_neither_sent_nor_installed_again(
    base: str, make_base: MakeBase, versions: tuple[str, str]
) -> None:
    nvidia = make_wheel("nvidia-cublas-cu12", "12.8", size=1_000_000, seed=uuid.uuid4().hex)
    torches = [make_wheel("torch", version) for version in versions]
    old, new = (make_base(base, nvidia, torch, find_uv=lambda *_: None) for torch in torches)  # uv would be sent, too
    assert layers(old.ref)[:-1] == layers(new.ref)[:-1]
    assert layers(old.ref)[-1] != layers(new.ref)[-1]
    assert new.sent < 1_000_000 < old.sent


def test_wheels_of_one_name_and_other_bytes_make_another_base(base: str, make_base: MakeBase) -> None:
    one, other = (layers(make_base(base, make_wheel("torch", "2.8.0", size=9000, seed=seed)).ref) for seed in "ab")
    assert one[-1] != other[-1]


def test_a_base_with_onbuild_is_left_alone(base: str, make_image: MakeImage, make_base: MakeBase) -> None:
    with pytest.raises(RefusedError, match="ONBUILD"):
        make_base(make_image(f"FROM {base}\nONBUILD RUN touch /fired\n"), TORCH)


def test_a_base_that_cannot_take_wheels_is_an_error_with_its_log(make_image: MakeImage, make_base: MakeBase) -> None:
    ground = make_image("FROM scratch\nCOPY app /app\n", {"app": ""})
    with pytest.raises(BuildError, match="shared base") as caught:
        make_base(ground, TORCH)
    assert ".log" in caught.value.message
    tags = run_program(["docker", "image", "inspect", "--format", "{{json .RepoTags}}", ground])
    assert json.loads(tags.stdout) == [ground]


def test_a_base_that_is_not_in_the_engine_is_an_error(engine: Engine, make_base: MakeBase) -> None:
    with pytest.raises(BuildError, match="not in the engine"):
        make_base("wheelcache-test/absent:1")


def test_two_runs_at_once_do_not_take_each_others_names_away(
    engine: Engine, base: str, store: Store, stored: Put, builder: Builder
) -> None:
    wheels, grounds = [stored(TORCH)], []

    def look(argv: Any, **_: Any) -> Completed:
        grounds.append(Path(argv[argv.index("--file") + 1]).read_text().split()[1])
        assert engine.image_id(grounds[-1]) == engine.image_id(base)
        if len(grounds) == 1:  # another run begins and ends meanwhile
            make()
            assert engine.image_id(grounds[0]) == engine.image_id(base)
        return Completed(argv=tuple(argv), returncode=1, stdout=b"", stderr=b"")

    def make() -> None:
        with pytest.raises(BuildError, match="shared base"):
            ensure_shared_base(engine, store, base=base, wheels=wheels, builder=replace(builder, run=look))

    make()
    assert len(grounds) == 2
    assert [engine.image_id(ground) for ground in grounds] == [None, None]
