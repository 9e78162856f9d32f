"""What images in a real engine hold."""

from __future__ import annotations

import json
import subprocess

from builders.engine import Engine
from builders.imagecheck import list_distributions
from wheelcache.programs import run_program

LOCK_LABEL = "wheelcache.lock"


def added(engine: Engine, image: str, base: str) -> set[tuple[str, str]]:
    """The distributions that *image* holds beyond its base image's own."""
    return set(list_distributions(engine, image)) - set(list_distributions(engine, base))


def layers(ref: str) -> list[str]:
    done = run_program(["docker", "image", "inspect", "--format", "{{json .RootFS.Layers}}", ref])
    assert done.is_done, done.reason()
    return list(json.loads(done.stdout))


def size_above(engine: Engine, ref: str, below: str) -> int:
    """The bytes that *ref* adds to the image *below* it."""
    whole, lower = engine.image_size(ref), engine.image_size(below)
    assert whole is not None
    assert lower is not None
    assert layers(ref)[: len(layers(below))] == layers(below)
    return whole - lower


def output_of(image: str, *argv: str) -> str:
    return subprocess.run(
        ["docker", "run", "--rm", "--network=none", image, *argv], check=True, capture_output=True, text=True
    ).stdout
