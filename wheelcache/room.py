"""How much room a disk lacks, told as an error."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import Final

from wheelcache.errors import StoreFullError

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_AGAIN = "then run the same command again: it continues where this one stopped"


def is_full(error: OSError) -> bool:
    """True when that is what the operating system says of a disk, or of a quota, that has no room left."""
    return error.errno in _FULL


def free_bytes(place: Path) -> int:
    """Returns the bytes that the disk has room for on which *place* is, or would be."""
    there = next(folder for folder in (place, *place.absolute().parents) if folder.exists())
    return shutil.disk_usage(there).free


def no_room(
    place: Path, *, needed: int, free: int, purpose: str, elsewhere: str, reserve: int = 0, is_least: bool = False
) -> StoreFullError:
    """Returns the error of a disk that has not enough room.

    Args:
        place: what was to grow: a folder or a file.
        needed: bytes that are still to come.
        free: bytes that the disk has room for.
        purpose: what for, in words.
        elsewhere: how to take another disk, in words.
        reserve: bytes that are to be left free.
        is_least: *needed* is not all: of some of it nobody knows the size.
    """
    least = "at least " if is_least else ""
    spare = f" (and {reserve:,} to spare)" if reserve else ""
    lacking = needed + reserve - free
    if lacking > 0:
        hint = f"needs {least}{lacking:,} more bytes: free some space, or {elsewhere}; {_AGAIN}"
    else:  # somebody freed some meanwhile; or there are no inodes left, or a quota is used up
        hint = f"look whether the disk has inodes (df -i) and you a quota left, {_AGAIN}"
    return StoreFullError(
        f"{place}: no room left on the disk: expected {least}{needed:,} bytes free for {purpose}{spare}, "
        f"found {free:,}",
        hint=hint,
        path=str(place),
        needed=needed,
        free=free,
    )
