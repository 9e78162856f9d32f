"""A real engine, small images in it, and nothing left behind."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from builders.engine import Engine
from builders.errors import EngineError
from wheelcache.programs import run_program

BASE = "python:3.11-slim"


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
        pytest.skip(f"NO {BASE} IN THE ENGINE, NOT TESTED: run Dockerfiles/provision.sh base")
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

    def make(dockerfile: str, files: dict[str, str] | None = None) -> str:
        ref = spare_ref()
        context = tmp_path / ref.partition("/")[2].replace(":", "-")
        context.mkdir()
        (context / "Dockerfile").write_text(dockerfile)
        for name, text in (files or {}).items():
            (context / name).parent.mkdir(parents=True, exist_ok=True)
            (context / name).write_text(text)
        argv = ["docker", "buildx", "build", "--quiet", "--load", "--provenance=false", "--tag", ref, str(context)]
        subprocess.run(argv, check=True, capture_output=True)
        return ref

    return make
