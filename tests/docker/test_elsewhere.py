"""A builder that is not the engine, sees none of its images, and builds on them all the same."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.engines import OwnEngine, own_engine
from support.images import output_of, size_above
from support.project import UserProject
from support.remote import buildkit_socket
from support.server import Server
from support.wheels import make_wheel

from builders.engine import Engine
from wheelcache.errors import ExitCode

pytestmark = pytest.mark.engine

BULK = make_wheel("bulk", "1.0", size=21_000_000)
GREET = make_wheel("greet", "1.2")
DOCKERFILE = "FROM python:3.11-slim\nCOPY requirements.txt .\nRUN pip install --no-cache-dir -r requirements.txt\n"


@pytest.fixture(scope="module")
def index() -> Iterator[Server]:
    with Server() as server:
        server.put_index([BULK, GREET])
        yield server


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OwnEngine]:
    """An engine without images, whose BuildKit is the builder `far`, which is chosen, too."""
    with (
        own_engine(configuration={"features": {"containerd-snapshotter": True}}) as engine,
        buildkit_socket(tmp_path / "buildkit.sock", environ=engine.environ) as address,
    ):
        monkeypatch.setenv("BUILDX_CONFIG", str(tmp_path / "buildx"))
        create = ["docker", "buildx", "create", "--use", "--name", "far", "--driver", "remote", address]
        subprocess.run(create, env=os.environ, check=True, capture_output=True)
        yield engine


def test_shared_bases_and_wheels_reach_it_and_its_images_the_engine(
    far: OwnEngine, project: UserProject, engine: Engine, base: str
) -> None:
    for name, needs in (("one", "bulk\n"), ("two", "bulk\ngreet\n")):
        project.add(name, {"Dockerfile": DOCKERFILE, "requirements.txt": needs})
    assert project.wheelcache("build").code == ExitCode.ENGINE  # nothing goes elsewhere without being asked to
    ran = project.wheelcache("build", "--builder", "far")
    assert (ran.code, ran.states) == (0, {"one": "built", "two": "built"}), ran.stderr
    (shared,) = {row["shared_base"] for row in ran.services.values()}
    for row in ran.services.values():
        assert size_above(engine, row["image"], shared) < 20_000_000 < size_above(engine, shared, base)
        assert engine.image_id(row["image"]) == row["image_id"]
    assert output_of(project.image("two"), "python3", "-c", "import bulk, greet; print(greet.__version__)") == "1.2\n"
    assert [step for step in project.install_steps("two") if "--network=none" not in step] == []
    assert "wheelcache" not in far.docker("images")
    assert engine.images("wheelcache/built") == []
    assert project.wheelcache("build", "two", "--builder", "far").states == {"two": "unchanged"}


@pytest.mark.parametrize(
    ("name", "message"),
    [("absent", "--builder: expected a builder that runs, found 'absent'"), ("default", "")],
)
def test_a_builder_is_one_that_is_there_or_the_engines_own(project: UserProject, name: str, message: str) -> None:
    project.add("one", {"Dockerfile": DOCKERFILE, "requirements.txt": "greet\n"})
    ran = project.wheelcache("build", "--builder", name)
    assert (ran.code == ExitCode.ENGINE) == bool(message)
    assert ran.document.get("error", {}).get("message", "").startswith(message)
