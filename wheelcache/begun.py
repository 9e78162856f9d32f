"""What is begun of a digest: its files below `partial/`, held so that nobody else writes there, and what is wrong."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
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
    part, journal, lock_file = partial_files(store, digest)
    with held(store, digest) as is_ours:
        if not is_ours:
            return Checked()
        oldest = now - OLD_SECONDS if not is_needed else 0.0
        try:
            begun = [file.stat().st_mtime for file in (part, journal) if file.exists()]
            if begun and now - max(begun) < LEFT_SECONDS and _holds_nothing(store, digest):
                return Checked()
            checked = check_partial(part.parent, digest, boot=store.boot, size=size, oldest=oldest, is_over=stop.is_set)
            if checked.is_anything or not lock_file.exists():
                return checked
            found = lock_file.stat()
        except OSError as error:
            return Checked(findings=(_unreadable(error, part, digest),))
        if now - found.st_mtime < LEFT_SECONDS:
            return checked
        left = Finding(
            kind="lock",
            path=lock_file,
            digest=digest,
            expected="a partial beside it, or somebody who holds it",
            found=f"neither, {(now - found.st_mtime) / 86_400:.0f} days after it was made",
            hint="harmless; wheelcache verify --repair moves it into the quarantine",
            seen=found,
        )
        return Checked(findings=(left,))


def _holds_nothing(store: Store, digest: Digest) -> bool:
    """True for a partial without a byte, and for the journal of one that became the blob."""
    part, journal, _ = partial_files(store, digest)
    if part.exists():
        return part.stat().st_size == 0 and not any(mark.written for mark in read_journal(journal)[1])
    return store.blob(digest).exists()


def _inode(file: Path) -> int | None:
    try:
        return file.lstat().st_ino
    except FileNotFoundError:
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
