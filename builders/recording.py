"""What is kept of a service's build, to compare the next one with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from builders.engine import Engine
from builders.labels import REVISION
from builders.preparing import Prepared
from builders.sharedbase import SharedBase
from builders.wheelimage import WheelImage
from wheelcache.digest import digest_of_bytes, hex_of
from wheelcache.events import StepState
from wheelcache.lock import LockedWheel
from wheelcache.runs import Basis, StepRun

_KEPT_DIGITS: Final = 12
_KEPT_OF_SECRETS: Final = 4
"""Hex digits, enough to tell a change by; of a build argument so few that a guessed password cannot be told right."""


def basis_of(prepared: Prepared, *, engine: Engine, labels: Mapping[str, str]) -> Basis:
    """Returns what a service's image is made from, as far as that is cheap to tell: its context is BuildKit's to judge.

    Args:
        prepared: the service.
        engine: has its base images.
        labels: that its image gets.
    """
    reading = prepared.reading
    stages = reading.findings.stages
    refs = {stages.external_base(stage) for stage in stages.needed()} - {"scratch"}
    known = {prepared.base: prepared.base_id}
    return Basis(
        dockerfile=_short(reading.dockerfile.text, _KEPT_DIGITS),
        files={name: _short(text, _KEPT_DIGITS) for name, text in reading.files.items()},
        wheels={wheel.name: (wheel.version, hex_of(wheel.digest)[:_KEPT_DIGITS]) for wheel in prepared.locked.wheels},
        bases={ref: known.get(ref) or engine.image_id(ref) or "" for ref in sorted(refs)},
        arguments={name: _short(value, _KEPT_OF_SECRETS) for name, value in reading.service.args.items()},
        shared=tuple(sorted(wheel.name for wheel in prepared.shared.wheels)) if prepared.shared is not None else (),
        mode=prepared.mode,
        stage=reading.service.stage or "",
        revision=labels.get(REVISION, ""),
    )


def shared_base_step(base: SharedBase, *, over: int | None) -> StepRun:
    """Returns what is recorded of a shared base.

    Args:
        base: as it was taken or made.
        over: bytes of the image below it; None where nobody knows.
    """
    size = base.size - over if over is not None else None
    return StepRun(name="shared base", state="done" if base.built else "cached", seconds=base.seconds, size=size)


def wheels_step(made: WheelImage, wheels: Sequence[LockedWheel]) -> StepRun:
    """Returns what is recorded of the wheels that a build mounts: how they came to the engine, and how many bytes."""
    size = sum(wheel.size or 0 for wheel in wheels)
    state: StepState = "done" if made.seconds else "cached"
    return StepRun(name="mounted wheels", state=state, seconds=made.seconds, size=size)


def check_step(is_right: bool, *, is_checked: bool, seconds: float) -> StepRun:  # noqa: FBT001
    """Returns what is recorded of the check of an image, which is spared one that was checked before."""
    state: StepState = "cached" if is_checked else "done" if is_right else "failed"
    return StepRun(name="check of the image", state=state, seconds=seconds)


def _short(text: str, digits: int) -> str:
    return hex_of(digest_of_bytes(text.encode(errors="surrogateescape")))[:digits]
