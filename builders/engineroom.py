"""Whether the engine's disk has room for what is to be built, told before anything is."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from builders.engine import Engine
from builders.errors import BuildError
from builders.preparing import Prepared
from builders.sharedbase import missing_groups
from builders.wheelimage import wheel_image_ref
from wheelcache.lock import LockedWheel
from wheelcache.room import free_bytes
from wheelcache.store import Store
from wheelcache.wheelfile import read_unpacked_size


class EngineFullError(BuildError):
    """The disk under the engine has not enough room for what is to be installed."""

    kind = "engine-full"


def check_room(services: Iterable[Prepared], *, engine: Engine, store: Store) -> None:
    """Makes sure that the engine's disk holds what is to be installed; nothing where that disk is not to be seen.

    Args:
        services: what is to be built.
        engine: builds it.
        store: holds the wheels.

    Raises:
        EngineFullError: there is not enough room.
    """
    needed = needed_bytes(services, engine=engine, store=store)
    folder = engine.data_folder() if needed else None
    if folder is None:
        return
    try:
        free = free_bytes(folder)
    except OSError:
        return
    if needed > free:
        raise EngineFullError(
            f"disk: {folder}: no room for the images: expected at least {needed:,} bytes free for what is to be "
            f"installed, found {free:,}",
            hint=f"free at least {needed - free:,} bytes there: docker builder prune, wheelcache prune --images, "
            "docker image prune; then run the same command again",
            fault="disk",
            path=str(folder),
            needed=needed,
            free=free,
        )


def needed_bytes(services: Iterable[Prepared], *, engine: Engine, store: Store) -> int:
    """Returns how many bytes the engine's disk needs at least for wheels that are not installed yet.

    Wheels come as a copy that is dropped when they are in an image of their own; what is installed is one layer, and
    BuildKit's cache of that step is the same layer. Bytecode, and all that no wheel brings, come on top.
    """

    @cache
    def unpacked(wheel: LockedWheel) -> int:
        return read_unpacked_size(store.blob(wheel.digest)) or 0

    @cache
    def packed(wheel: LockedWheel) -> int:
        return store.size(wheel.digest) or 0

    lasting, passing = 0, [0]
    made: set[str] = set()
    for prepared in services:
        if prepared.refusal is not None:
            continue
        for ref, group in missing_groups(engine, prepared.base_id, prepared.shared.wheels) if prepared.shared else ():
            if ref not in made:
                made.add(ref)
                lasting += sum(map(unpacked, group))
                passing.append(sum(map(packed, group)))
        wheels = prepared.own_wheels if prepared.reading.installs else ()
        ref = wheel_image_ref(wheels, constraints=prepared.constraints, locks=prepared.uv_locks)
        is_new = engine.image_id(ref) is None
        if is_new and ref not in made:
            made.add(ref)
            lasting += sum(map(packed, wheels))
            passing.append(sum(map(packed, wheels)))
        if is_new or engine.image_id(prepared.reading.service.images[0]) is None:
            lasting += sum(map(unpacked, wheels))
    return lasting + max(passing)
