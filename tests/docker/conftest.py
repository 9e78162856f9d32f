"""A real engine, small images in it, and nothing left behind."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from support.engines import BASE
from support.images import LOCK_LABEL
from support.project import UserProject
from support.registry import Registry, own_registry
from support.server import Server
from support.wheels import MadeWheel

from builders.attempt import Builder
from builders.engine import Engine
from builders.errors import EngineError
from wheelcache.events import ignore
from wheelcache.lock import LockedWheel
from wheelcache.programs import run_program
from wheelcache.store import Store


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    try:
        connected = Engine.connect(run=run_program)
    except EngineError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"NO ENGINE, NOT TESTED: {error.message}")
    with connected:
        yield connected


@pytest.fixture(scope="session")
def base(engine: Engine) -> str:
    """The reference of a base image with Python, in the engine."""
    if engine.image_id(BASE) is None:
        give_up = pytest.fail if os.environ.get("CI") else pytest.skip
        give_up(f"NO {BASE} IN THE ENGINE, NOT TESTED: run Dockerfiles/provision.sh base")
    return BASE


@pytest.fixture
def spare_ref(engine: Engine) -> Iterator[Callable[[], str]]:
    """Makes references that are taken away, with their images, when the test ends."""
    made: list[str] = []

    def make() -> str:
        made.append(f"wheelcache-test/{uuid.uuid4().hex[:12]}:1")
        return made[-1]

    yield make
    for ref in reversed(made):
        engine.remove_image(ref)


@pytest.fixture
def make_image(spare_ref: Callable[[], str], tmp_path: Path) -> Callable[..., str]:
    """Builds an image of a Dockerfile's text and files, with plain `docker buildx build`."""

    def make(dockerfile: str, files: Mapping[str, str | bytes] | None = None) -> str:
        ref = spare_ref()
        context = tmp_path / ref.partition("/")[2].replace(":", "-")
        context.mkdir()
        (context / "Dockerfile").write_text(dockerfile)
        for name, content in (files or {}).items():
            (context / name).parent.mkdir(parents=True, exist_ok=True)
            (context / name).write_bytes(content.encode() if isinstance(content, str) else content)
        argv = ["docker", "buildx", "build", "--quiet", "--load", "--provenance=false", "--tag", ref, str(context)]
        subprocess.run(argv, check=True, capture_output=True)
        return ref

    return make


@pytest.fixture
def builder(tmp_path: Path) -> Builder:
    return Builder(
        run=run_program,
        emit=ignore,
        logs=tmp_path / "logs",
        retries=0,
        stop=threading.Event(),
        environ=dict(os.environ),
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "cache")


@pytest.fixture
def stored(store: Store) -> Callable[[MadeWheel], LockedWheel]:
    """Puts a wheel into the store."""

    def put(made: MadeWheel) -> LockedWheel:
        wheel = made.locked()
        lock = store.acquire(wheel.digest)
        assert lock is not None
        with lock:
            partial = store.partial(wheel)
            partial.write(0, made.data)
            store.publish(wheel, partial)
            partial.close()
        return wheel

    return put


@pytest.fixture
def made_images(engine: Engine) -> Iterator[list[str]]:
    """Takes away, when the test ends, the images whose references it is given."""
    refs: list[str] = []
    yield refs
    for ref in refs:
        engine.remove_image(ref)


@pytest.fixture
def project(engine: Engine, base: str, index: Server, tmp_path: Path) -> Iterator[UserProject]:
    """A project whose wheels come from the test module's own index on loopback."""
    made = UserProject(
        tmp_path / "project",
        cache=tmp_path / "cache",
        index=f"{index.url}/simple/",
        key=uuid.uuid4().hex[:12],
    )
    yield made
    configs = [config for ref in made.images() if (config := engine.image_config(ref)) is not None]
    for ref in made.images():
        engine.remove_image(ref)
    for lock in {config.labels[LOCK_LABEL] for config in configs if LOCK_LABEL in config.labels}:
        # Images whose tag moved on, or that never got one.
        look = ["docker", "images", "--quiet", "--filter=dangling=true", f"--filter=label={LOCK_LABEL}={lock}"]
        for image_id in set(run_program(look).stdout.decode().split()):
            engine.remove_image(image_id)


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A container registry on loopback that lets everybody in."""
    with own_registry(tmp_path_factory.mktemp("registry")) as started:
        yield started


@pytest.fixture
def pinned(registry: Registry, engine: Engine, base: str) -> Iterator[str]:
    """The base image's reference by digest in the registry; the engine does not know it yet."""
    name = f"{registry.host}/python"
    for argv in (["tag", base, f"{name}:test"], ["push", "--quiet", f"{name}:test"]):
        subprocess.run(["docker", *argv], check=True, capture_output=True)
    done = run_program(["docker", "image", "inspect", "--format", "{{json .RepoDigests}}", f"{name}:test"])
    (ref,) = [ref for ref in json.loads(done.stdout) if ref.startswith(f"{name}@")]
    subprocess.run(["docker", "rmi", f"{name}:test"], check=True, capture_output=True)
    yield ref
    engine.remove_image(ref)
