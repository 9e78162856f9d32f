"""What the stats of blobs tell without a byte of them: another file than was read, a right to write, foreign names."""

from __future__ import annotations

import os
import stat
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from wheelcache.begun import held
from wheelcache.catalog import Entry
from wheelcache.digest import Digest
from wheelcache.findings import Finding
from wheelcache.layout import BLOB_MODE
from wheelcache.ordinary import all_below
from wheelcache.store import Store

Inode = tuple[int, int]
Blobs = Mapping[Digest, tuple[Path, os.stat_result]]


def changed_blobs(blobs: Blobs, known: Mapping[Digest, Entry]) -> Iterator[Finding]:
    """Yields the blobs whose size, time or inode is another than when their bytes were last read."""
    for digest, (path, found) in blobs.items():
        entry = known.get(digest)
        if entry is None:
            continue
        was, now = (entry.size, entry.mtime_ns, entry.inode), (found.st_size, found.st_mtime_ns, found.st_ino)
        if was != now and is_still(path, found):
            words = "size {:,}, changed {} ns after 1970, inode {}"
            yield Finding(
                kind="changed",
                path=path,
                digest=digest,
                expected=words.format(*was),
                found=words.format(*now),
                hint="run wheelcache verify, which reads it",
                seen=found,
            )


def exposed_blobs(store: Store, blobs: Blobs) -> Iterator[Finding]:
    """Yields the blobs that can be changed: through a name that is not the store's, or since somebody may write."""
    several = {digest: _inode(found) for digest, (_, found) in blobs.items() if found.st_nlink > 1}
    ours = Counter(several.values())
    if several:
        ours.update({inode: len(paths) for inode, paths in names_of_files(store).items()})
    for digest, (path, found) in blobs.items():
        now = _stat(path)
        if now is None or not os.path.samestat(now, found):
            continue
        foreign = min(found.st_nlink, now.st_nlink) - max(ours[_inode(found)], 1)
        if foreign > 0:
            yield Finding(
                kind="linked",
                path=path,
                digest=digest,
                expected="no name outside of the store",
                found=f"{foreign} (hard links)",
                hint=f"what is written under that name changes the blob: find it with find -inum {found.st_ino}",
                seen=found,
            )
        elif stat.S_IMODE(now.st_mode) != BLOB_MODE:
            with held(store, digest) as is_ours:  # who publishes it has not come that far
                now = _stat(path)
                if is_ours and now is not None and stat.S_IMODE(now.st_mode) != BLOB_MODE:
                    yield Finding(
                        kind="mode",
                        path=path,
                        digest=digest,
                        expected=f"mode {BLOB_MODE:o}",
                        found=f"mode {stat.S_IMODE(now.st_mode):o}",
                        hint="wheelcache verify --repair sets it, if you own it",
                        seen=found,
                    )


def names_of_files(store: Store) -> dict[Inode, list[Path]]:
    """Returns all names that files have in views and in the quarantine."""
    names: dict[Inode, list[Path]] = defaultdict(list)
    for folder in ("views", "quarantine"):
        for entry in all_below(store.root / "v1" / folder):
            if entry.is_file(follow_symlinks=False) and (found := _stat(Path(entry.path))) is not None:
                names[_inode(found)].append(Path(entry.path))
    return names


def is_still(path: Path, seen: os.stat_result) -> bool:
    """True when a path has the very file that was seen: another is one that was published since, and whole."""
    now = _stat(path)
    return now is not None and os.path.samestat(now, seen)


def _inode(found: os.stat_result) -> Inode:
    return found.st_dev, found.st_ino


def _stat(path: Path) -> os.stat_result | None:
    with suppress(OSError):
        return path.lstat()
    return None
