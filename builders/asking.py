"""Runs our script in an image, with the Python found there, and reads its answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, Final

from builders.engine import Engine, EntrypointMissingError
from builders.errors import BuildError
from builders.inside import MARK, START

_TIMEOUT: Final = 120.0
"""Seconds; a container answers in half of one."""


def ask_inside(
    engine: Engine,
    image_id: str,
    question: Sequence[str],
    *,
    entrypoints: Sequence[str],
    name: str,
    user: str | None = None,
) -> Any:  # noqa: ANN401 - whatever JSON the script prints
    """Runs `builders.inside` in an image and returns what it says; None where the image has none of *entrypoints*.

    Args:
        engine: runs the container.
        image_id: the image.
        question: the script's arguments.
        entrypoints: interpreters to try, in this order.
        name: the image, for messages.
        user: as whom; None for the image's own user.

    Raises:
        BuildError: the script failed.
    """
    script = files("builders").joinpath("inside.py").read_text(encoding="utf-8")
    argv = ["-c", START, script, *question]
    for entrypoint in entrypoints:
        try:
            ran = engine.run(image_id, argv, entrypoint=entrypoint, user=user, timeout=_TIMEOUT)
        except EntrypointMissingError:
            continue
        _, mark, answer = ran.stdout.decode(errors="replace").rpartition(MARK)
        if ran.status == 0 and mark:
            return json.loads(answer)
        words = ran.stderr.decode(errors="replace").strip().splitlines()
        raise BuildError(
            f"{name}: {entrypoint} could not answer (status {ran.status}): {words[-1] if words else 'it said nothing'}",
            hint="the image's Python must be 3.8 or newer and whole: try it with docker run",
        )
    return None
