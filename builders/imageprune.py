"""Removes shared bases and wheels' images that no project is built with any more."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Final

from builders.engine import Engine
from builders.enginevalues import EngineImage
from builders.errors import EngineError
from builders.preparing import Prepared
from builders.sharedbase import REPOSITORY as BASES
from builders.sharedbase import shared_base_refs
from builders.wheelimage import REPOSITORY as WHEELS
from builders.wheelimage import wheel_image_ref

REPOSITORIES: Final = (BASES, WHEELS)


@dataclass(kw_only=True, slots=True)
class ImagesPruned:
    """What became of images.

    Attributes:
        removed: those that have no longer the reference they had.
        kept: those that the engine wants to keep, each with its reason.
        freed: bytes that the engine has less on its disk.
    """

    removed: list[EngineImage] = field(default_factory=list)
    kept: list[tuple[EngineImage, str]] = field(default_factory=list)
    freed: int = 0


def used_images(services: Iterable[Prepared]) -> set[str]:
    """Returns the references of the shared bases and wheels' images that services are built with as they are now."""
    used = set[str]()
    for prepared in services:
        if prepared.shared is not None:
            used.update(shared_base_refs(prepared.base_id, prepared.shared.wheels))
        if prepared.reading.installs:
            used.add(wheel_image_ref(prepared.own_wheels, constraints=prepared.constraints, locks=prepared.uv_locks))
    return used


def plan_image_prune(
    images: Sequence[EngineImage], *, used: AbstractSet[str], age: float, now: float
) -> list[EngineImage]:
    """Decides which images go: unused ones that were made so long ago.

    Args:
        images: all there are of our repositories.
        used: references of those that projects are built with.
        age: seconds; 0 for any age.
        now: seconds since 1970.
    """
    return [image for image in images if image.ref not in used and (not age or now - image.created_at >= age)]


def remove_images(
    engine: Engine,
    images: Sequence[EngineImage],
    *,
    guard: Callable[[], AbstractContextManager[None]],
    is_building: Callable[[], bool],
) -> ImagesPruned:
    """Removes images, one by one; what a container still uses the engine keeps.

    Args:
        engine: has them.
        images: which.
        guard: keeps builds from beginning while one is removed; one that begins later makes it anew.
        is_building: asked within *guard*: True while a build runs, which may use any of them.

    Raises:
        EngineError: the engine went away.
    """
    done = ImagesPruned()
    if not images:
        return done
    before = engine.disk_usage().images
    for image in images:
        with guard():
            if is_building():
                done.kept.append((image, "a build is running"))
            elif engine.image_id(image.ref) == image.image_id:
                try:
                    engine.remove_image(image.ref)
                except EngineError as error:
                    done.kept.append((image, str(error.facts.get("reason", error.message))))
                else:
                    done.removed.append(image)
    done.freed = max(before - engine.disk_usage().images, 0)
    return done
