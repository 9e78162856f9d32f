"""What is begun of a digest: its files below `partial/`, held so that nobody else writes there, and what is wrong."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from wheelcache.digest import Digest, hex_of
from wheelcache.errors import StoreError
from wheelcache.findings import Finding
from wheelcache.journal import read_journal
from wheelcache.partialcheck import Checked, check_partial
from wheelcache.store import Store

OLD_SECONDS: Final = 30 * 86_400.0
"""A partial that nobody touched for so long, and that no running command needs, is nobody's any more."""

LEFT_SECONDS: Final = 86_400.0
"""What holds no bytes is left by a sync that was killed before its first or after its last; so old, it is left over."""


def partial_files(store: Store, digest: Digest) -> list[Path]:
    """Returns where a partial, its journal and its lock file are, or would be."""
    return [store.root / "v1" / "partial" / f"{hex_of(digest)}.{suffix}" for suffix in ("part", "json", "lock")]


@contextmanager
def held(store: Store, digest: Digest) -> Iterator[bool]:
    """Holds the lock of a digest, without leaving a lock file where there was none.

    Yields:
        False where somebody writes to this digest, or the lock file is another user's: nothing of it may be touched.
    """
    lock_file = partial_files(store, digest)[2]
    before = _inode(lock_file)
    try:
        lock = store.acquire(digest, timeout=0)
    except StoreError:
        lock = None
    if lock is None:
        yield False
        return
    with lock:
        ours = _inode(lock_file)
        try:
            yield True
        finally:
            # Another one is held by whoever made it since ours was taken away.
            if ours != before and _inode(lock_file) == ours:
                lock_file.unlink(missing_ok=True)


def examine_partial(
    store: Store, digest: Digest, *, size: int | None, is_needed: bool, now: float, stop: threading.Event
) -> Checked:
    """Looks at what there is of a digest; what somebody writes to, or is not ours, has no findings.

    Args:
        store: where.
        digest: of what.
        size: of the whole, in bytes, where it is known.
        is_needed: True where somebody may still go on with it, however old it is.
        now: seconds since 1970.
        stop: once set, this returns.
    """
    files = partial_files(store, digest)
    part = files[0]
    times = {file: found.st_mtime for file in files if (found := _stat(file)) is not None}  # holding makes a lock file
    with held(store, digest) as is_ours:
        if not is_ours:
            return Checked()
        try:
            if holds_nothing(store, digest):
                return Checked(findings=tuple(_debris(digest, times, now)))
            oldest = now - OLD_SECONDS if not is_needed else 0.0
            return check_partial(part.parent, digest, boot=store.boot, size=size, oldest=oldest, is_over=stop.is_set)
        except OSError as error:
            return Checked(findings=(_unreadable(error, part, digest),))


def holds_nothing(store: Store, digest: Digest) -> bool:
    """True where there is no byte, and no word of any: just a lock file, a journal, or a partial that never began."""
    part, journal, _ = partial_files(store, digest)
    try:
        size = part.stat().st_size
    except FileNotFoundError:
        return True
    return size == 0 and not any(mark.written for mark in read_journal(journal)[1])


def _debris(digest: Digest, times: Mapping[Path, float], now: float) -> Iterator[Finding]:
    age = now - max(times.values(), default=now)
    if age >= LEFT_SECONDS:
        yield Finding(
            kind="debris",
            path=next(iter(times)),
            digest=digest,
            expected="bytes of a wheel, or somebody who fetches them",
            found=f"neither, {age / 86_400:.0f} days after anybody wrote to it",
            hint="wheelcache verify --repair moves it into the quarantine, wheelcache prune removes it",
        )


def _inode(file: Path) -> int | None:
    found = _stat(file)
    return found.st_ino if found is not None else None


def _stat(file: Path) -> os.stat_result | None:
    with suppress(FileNotFoundError):
        return file.lstat()
    return None


def _unreadable(error: OSError, part: Path, digest: Digest) -> Finding:
    return Finding(
        kind="unreadable",
        path=Path(error.filename or part),
        digest=digest,
        expected="a partial and its journal that can be read",
        found=str(error.strerror),
        hint="check its permissions and the disk",
    )
