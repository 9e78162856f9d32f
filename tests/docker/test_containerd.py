"""An engine that keeps its images in containerd's store: builds, judgements, sizes, pushes, caches in a registry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.engines import OwnEngine, own_engine
from support.images import size_above
from support.project import UserProject
from support.registry import Registry
from support.server import Server
from support.wheels import make_wheel

from builders.engine import Engine
from wheelcache.programs import run_program

pytestmark = pytest.mark.engine

BULK, LARGE = (make_wheel(name, "1.0", size=21_000_000) for name in ("bulk", "large"))
GREET = make_wheel("greet", "1.2")
DOCKERFILE = "FROM python:3.11-slim\nCOPY requirements.txt .\nRUN pip install --no-cache-dir -r requirements.txt\n"


@pytest.fixture(scope="module")
def containerd(engine: Engine, base: str) -> Iterator[OwnEngine]:
    """An engine with such a store, which has the base image, and which every program of these tests talks to."""
    with (
        own_engine(configuration={"features": {"containerd-snapshotter": True}}) as made,
        pytest.MonkeyPatch.context() as environ,
    ):
        made.take(base)
        environ.setenv("DOCKER_HOST", made.unix)
        yield made


def test_builds_are_shared_judged_pushed_and_cached(
    containerd: OwnEngine, base: str, registry: Registry, tmp_path: Path
) -> None:
    with Server() as index, Engine.connect(run=run_program) as engine:
        index.put_index([BULK, GREET])
        project = UserProject(
            tmp_path / "project", cache=tmp_path / "cache", index=f"{index.url}/simple/", key=tmp_path.name
        )
        for name, needs in (("one", "bulk\n"), ("two", "bulk\ngreet\n")):
            image = f"{registry.host}/containerd/{name}:1"
            project.add(name, {"Dockerfile": DOCKERFILE, "requirements.txt": needs}, image=image)
        place = f"{registry.host}/containerd/cache:main"
        first = project.wheelcache("build", "--cache-to", place, "--push")
        assert (first.code, set(first.states.values())) == (0, {"built"}), first.stderr
        (shared,) = {row["shared_base"] for row in first.services.values()}
        for name, row in first.services.items():
            assert size_above(engine, row["image"], shared) < 20_000_000 < size_above(engine, shared, base)
            assert row["pushed"] == {row["image"]: registry.manifest(f"containerd/{name}", "1")[0]}
        assert project.wheelcache("build").states == {"one": "unchanged", "two": "unchanged"}
        assert registry.tags("containerd/cache") == {"main-one", "main-two", f"main-base-{shared.partition(':')[2]}"}

        images = containerd.docker("images", "--format", "{{.Repository}}:{{.Tag}}").split()
        containerd.docker("rmi", "--force", *(ref for ref in images if ref != base))
        containerd.docker("builder", "prune", "--all", "--force")
        absent = f"{registry.host}/containerd/absent"
        again = project.wheelcache("build", "--cache-from", absent, "--cache-from", place)
        assert (again.code, set(again.states.values())) == (0, {"built"}), again.stderr
        ids = [{name: row["image_id"] for name, row in ran.services.items()} for ran in (first, again)]
        assert ids[0] == ids[1]


def test_wheels_of_one_service_cost_no_other_its_cache(containerd: OwnEngine, tmp_path: Path) -> None:
    """Whatever BuildKit prunes there, it runs all steps once more that stand on an image that was pulled or loaded."""
    with Server() as index:
        index.put_index([BULK, LARGE])
        project = UserProject(
            tmp_path / "project", cache=tmp_path / "cache", index=f"{index.url}/simple/", key=tmp_path.name
        )
        for wheel in (BULK, LARGE):
            project.add(wheel.name, {"Dockerfile": DOCKERFILE, "requirements.txt": f"{wheel.name}\n"})
        assert project.wheelcache("build").states == {"bulk": "built", "large": "built"}
        assert project.wheelcache("build").states == {"bulk": "unchanged", "large": "unchanged"}
