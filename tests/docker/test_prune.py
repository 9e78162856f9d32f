"""Images that no project is built with any more go, with a real engine; other projects' images are left alone here."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from support.project import UserProject
from support.server import Server
from support.wheels import make_wheel

from builders.engine import Engine
from builders.enginevalues import EngineImage
from builders.imageprune import ImagesPruned, plan_image_prune, remove_images

pytestmark = pytest.mark.engine

RUN = uuid.uuid4().hex[:10]
BULK = make_wheel("bulk", "1.0", size=21_000_000, seed=RUN)
GREET = make_wheel("greet", "1.2", seed=RUN)
EXTRA = make_wheel("extra", "3.1", seed=RUN)


@pytest.fixture(scope="module")
def index() -> Iterator[Server]:
    with Server() as server:
        server.put_index([BULK, GREET, EXTRA])
        yield server


@pytest.fixture
def project(engine: Engine, base: str, index: Server, tmp_path: Path) -> Iterator[UserProject]:
    """Two services that share a heavy wheel."""
    made = UserProject(
        tmp_path / "project",
        cache=tmp_path / "cache",
        index=f"{index.url}/simple/",
        key=f"{RUN}-{uuid.uuid4().hex[:6]}",
    )
    for name in ("one", "two"):
        files = {
            "Dockerfile": f"FROM {base}\nCOPY requirements.txt .\nRUN pip install -r requirements.txt\n",
            "requirements.txt": "bulk\ngreet\n",
        }
        made.add(name, files)
    yield made
    for ref in made.images():
        engine.remove_image(ref)


def images_of(project: UserProject, engine: Engine) -> dict[str, EngineImage]:
    """The shared bases and wheels' images that building this project made, as far as they are there."""
    refs = set(project.images())
    found = [each for repository in ("wheelcache/base", "wheelcache/wheels") for each in engine.images(repository)]
    return {image.ref: image for image in found if image.ref in refs}


def going(project: UserProject, *arguments: str) -> set[str]:
    ran = project.wheelcache("prune", "--images", "--dry-run", *arguments)
    assert ran.code == 0, ran
    return {row["name"] for row in ran.document["removed"] if row["kind"] == "image"}


def test_images_that_a_project_is_built_with_stay_and_those_of_before_go(engine, project):
    assert project.wheelcache("build").code == 0
    first = images_of(project, engine)
    assert {ref.partition(":")[0] for ref in first} == {"wheelcache/base", "wheelcache/wheels"}
    assert not first.keys() & going(project, "--all")

    project.write({"one/requirements.txt": "bulk\ngreet\nextra\n"})
    ran = project.wheelcache("build")
    assert ran.code == 0, ran
    both = images_of(project, engine)
    assert len(both.keys() - first.keys()) == 1
    assert not both.keys() & going(project, "--all")  # two is built with the first ones still

    project.write({"two/requirements.txt": "bulk\ngreet\nextra\n"})
    assert project.wheelcache("build").code == 0
    (old,) = {ref for ref in first if ref.startswith("wheelcache/wheels")}
    assert both.keys() & going(project, "--all") == {old}
    assert not both.keys() & going(project)  # not old enough

    done = remove_images(engine, [both[old]], guard=nullcontext, is_building=lambda: False)
    assert ([image.ref for image in done.removed], done.kept) == ([old], [])
    assert engine.image_id(old) is None
    assert images_of(project, engine).keys() == both.keys() - {old}


def test_nothing_goes_where_it_is_not_known_what_a_project_is_built_with(engine, project):
    assert project.wheelcache("build").code == 0
    (project.root / "wheelcache.toml").rename(project.root / "other.toml")
    ran = project.wheelcache("prune", "--images", "--older-than", "0", "--dry-run")
    assert ran.code == 0
    assert "its folder has no project file" in ran.stderr
    assert "no image is removed" in ran.stderr
    assert images_of(project, engine)


def test_an_image_in_use_is_kept_and_the_others_go(engine, make_image: Callable[..., str], run_of):
    used, other = (make_image("FROM scratch\nCOPY file /\n", {"file": uuid.uuid4().hex}) for _ in range(2))
    images = [image for ref in (used, other) for image in engine.images(ref.partition(":")[0])]
    assert [image.ref for image in images] == [used, other]
    assert all(0 <= time.time() - image.created_at < 3600 for image in images)
    with run_of(used):
        done = remove_images(engine, images, guard=nullcontext, is_building=lambda: False)
    assert [image.ref for image in done.removed] == [other]
    assert [image.ref for image, _ in done.kept] == [used]


@pytest.fixture
def run_of(engine: Engine):
    """A container of an image, not started."""
    return lambda ref: engine._container(ref, command=["unused"], network_mode="none")


def test_no_image_goes_while_a_build_runs(engine, make_image):
    ref = make_image("FROM scratch\nCOPY file /\n", {"file": uuid.uuid4().hex})
    images = engine.images(ref.partition(":")[0])
    done = remove_images(engine, images, guard=nullcontext, is_building=lambda: True)
    assert done == ImagesPruned(kept=[(images[0], "a build is running")])
    assert engine.image_id(ref) is not None


def test_images_go_by_their_age_and_use():
    images = [EngineImage(ref=f"r:{age}", image_id="", size=0, created_at=1000.0 - age) for age in (10, 20, 30)]
    assert plan_image_prune(images, used={"r:30"}, age=15, now=1000.0) == [images[1]]
    assert plan_image_prune(images, used=set(), age=0, now=0.0) == images
