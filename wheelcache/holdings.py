"""What a store holds that may go, as values: looked at once, before anything is decided."""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from wheelcache.begun import holds_nothing
from wheelcache.catalog import Entry
from wheelcache.digest import Digest, parse_digest
from wheelcache.files import is_gone_name, store_errors
from wheelcache.inventory import take_inventory
from wheelcache.layout import DEAD_SECONDS, Layout, read_layout
from wheelcache.ordinary import all_below
from wheelcache.roots import Roots
from wheelcache.store import Store

Kind = Literal[
    "wheel",  # a blob
    "view",  # a folder of blobs that a build mounts
    "partial",  # a wheel that is begun, with its journal
    "quarantine",  # what was put aside
    "lock",  # a lock file, or a journal, beside no byte
    "temporary",  # what a killed process was writing
    "gone",  # what a killed prune, or the power, left of what it was removing
    "lease",  # what a killed command needed
    "project",  # the needs of a project that is gone
]

Inode = tuple[int, int]
"""The device and the number of a file: names that share them are one file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Holding:
    """One thing that goes as a whole.

    Attributes:
        kind: of what sort.
        path: where; of a partial its bytes, or what there is in their place.
        name: what people know it by.
        size: bytes of its files.
        last_used: seconds since 1970: when it was last used, written or put aside.
        inodes: of its files, one for each name.
        digests: the wheels that it is, or holds.
        is_whole: False for a view with a wheel that the store has no blob of.
        why: of a project, why it is gone.
    """

    kind: Kind
    path: Path
    name: str
    size: int
    last_used: float
    inodes: tuple[Inode, ...] = ()
    digests: frozenset[Digest] = frozenset()
    is_whole: bool = True
    why: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class FileFacts:
    """One file, however many names it has: its bytes on the disk, and how many names."""

    size: int
    links: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Holdings:
    """All that may go.

    Attributes:
        items: in the order of their kinds and paths.
        files: every file that one of them has a name of.
    """

    items: tuple[Holding, ...]
    files: Mapping[Inode, FileFacts]

    def of_kind(self, *kinds: Kind) -> list[Holding]:
        """Returns those of some sorts."""
        return [item for item in self.items if item.kind in kinds]


def take_holdings(store: Store, roots: Roots, *, now: float) -> Holdings:
    """Looks through a store; others may use it meanwhile.

    Args:
        store: which.
        roots: its roots.
        now: seconds since 1970.

    Raises:
        StoreError: a folder or file cannot be read.
    """
    return _Look(store, roots, now).run()


class _Look:
    """One look through a store."""

    def __init__(self, store: Store, roots: Roots, now: float) -> None:
        self._store = store
        self._base = store.root / "v1"
        self._roots = roots
        self._now = now
        self._files: dict[Inode, FileFacts] = {}
        self._items: list[Holding] = []

    def run(self) -> Holdings:
        with store_errors(self._base):
            layout = read_layout(self._base, now=self._now)
            entries = take_inventory(self._store)
            self._items += self._wheels(layout, entries)
            self._items += self._views(layout, entries)
            self._items += self._partials(layout)
            aside = [path for path in sorted((self._base / "quarantine").iterdir()) if not is_gone_name(path)]
            self._items += self._plain("quarantine", aside)
            dead = [finding.path for finding in layout.findings if finding.kind == "debris"]
            temporary = self._plain("temporary", (path for path in dead if not is_gone_name(path)))
            self._items += [item for item in temporary if self._now - item.last_used > DEAD_SECONDS]
            self._items += self._plain("gone", sorted(self._gone()))
        self._items += self._plain("lease", self._roots.dead_leases())
        for file, (project, why) in self._roots.gone().items():
            self._items += self._plain("project", [file], name=str(project.path), why=why)
        return Holdings(items=tuple(self._items), files=self._files)

    def _wheels(self, layout: Layout, entries: Mapping[Digest, Entry]) -> Iterator[Holding]:
        for digest, entry in entries.items():
            path, found = layout.blobs.get(digest, (None, None))
            if path is None or found is None:  # published since
                continue
            yield Holding(
                kind="wheel",
                path=path,
                name=entry.filename or digest,
                size=found.st_size,
                last_used=entry.last_used,
                inodes=(self._note(found, found.st_size),),
                digests=frozenset([digest]),
            )

    def _views(self, layout: Layout, entries: Mapping[Digest, Entry]) -> Iterator[Holding]:
        blobs = {_inode(found): digest for digest, (_, found) in layout.blobs.items()}
        named: dict[tuple[str, int], set[Digest]] = defaultdict(set)
        for digest, entry in entries.items():
            named[entry.filename, entry.size].add(digest)
        for view in sorted((self._base / "views").iterdir()):
            if view.name.startswith(".") or not view.is_dir() or view.is_symlink():
                continue
            files = list(_tree(view))
            wheels = [(path, found) for path, found in files if path.suffix == ".whl"]
            # A copy, or a reflink, is known by its name and size; a hard link is the very file.
            meant = [
                {blobs[_inode(found)]} if _inode(found) in blobs else named.get((path.name, found.st_size), set())
                for path, found in wheels
            ]
            yield self._holding(
                "view", view, files, digests=frozenset[Digest]().union(*meant), is_whole=all(meant), name=view.name
            )

    def _partials(self, layout: Layout) -> Iterator[Holding]:
        belonging: dict[str, list[Path]] = defaultdict(list)
        for path in layout.files.get("partial", []):
            belonging[path.stem].append(path)
        for name, paths in sorted(belonging.items()):
            files = [(path, found) for path in paths if (found := _stat(path)) is not None]
            digest = parse_digest(f"sha256:{name}")
            begun = [(path, found) for path, found in files if path.suffix != ".lock"]
            if files:
                # Of what a sync begins in this very moment only the lock file was seen.
                kind: Kind = "lock" if not begun or holds_nothing(self._store, digest) else "partial"
                path = next((path for path, _ in files if path.suffix == ".part"), files[0][0])
                touched = max(found.st_mtime for _, found in (files if kind == "lock" else begun))
                yield self._holding(kind, path, files, name=digest, digests=frozenset([digest]), last_used=touched)

    def _gone(self) -> Iterator[Path]:
        """Yields what prunes were removing, wherever; nothing is followed."""
        folders = [self._base / name for name in ("partial", "views", "projects", "leases", "quarantine")]
        for folder in (*folders, *(self._base / "blobs" / "sha256").iterdir()):
            if stat.S_ISDIR(folder.lstat().st_mode):
                yield from filter(is_gone_name, folder.iterdir())

    def _plain(self, kind: Kind, paths: Iterable[Path], *, name: str = "", why: str = "") -> Iterator[Holding]:
        for path in paths:
            yield self._holding(kind, path, list(_tree(path)), name=name or path.name, why=why)

    def _holding(
        self,
        kind: Kind,
        path: Path,
        files: Sequence[tuple[Path, os.stat_result]],
        *,
        name: str,
        digests: frozenset[Digest] = frozenset(),
        is_whole: bool = True,
        last_used: float | None = None,
        why: str = "",
    ) -> Holding:
        if last_used is None:
            own = _stat(path)
            times = [own.st_mtime] if own is not None else []
            # What a view links to is as old as its blob; a copy in the making is as young as its last byte.
            last_used = max([*times, *(found.st_mtime for _, found in files)] if kind == "temporary" else times or [0])
        inodes = {file: self._note(found, _on_disk(found)) for file, found in files}
        return Holding(
            kind=kind,
            path=path,
            name=name,
            size=sum(self._files[inode].size for inode in set(inodes.values())),
            last_used=last_used,
            inodes=tuple(inodes.values()),
            digests=digests,
            is_whole=is_whole,
            why=why,
        )

    def _note(self, found: os.stat_result, size: int) -> Inode:
        inode = _inode(found)
        self._files.setdefault(inode, FileFacts(size=size, links=found.st_nlink))
        return inode


def _inode(found: os.stat_result) -> Inode:
    return found.st_dev, found.st_ino


def _on_disk(found: os.stat_result) -> int:
    """Returns the bytes that a file takes: a partial has holes where pieces are missing."""
    blocks: int = getattr(found, "st_blocks", found.st_size)  # Windows does not say
    return min(found.st_size, blocks * 512)


def _stat(path: Path) -> os.stat_result | None:
    with suppress(FileNotFoundError):  # gone since
        return path.lstat()
    return None


def _tree(path: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yields the files below *path*, or itself; nothing is followed."""
    found = _stat(path)
    if found is None:
        return
    if not stat.S_ISDIR(found.st_mode):
        yield path, found
        return
    for entry in all_below(path):
        if not entry.is_dir(follow_symlinks=False) and (each := _stat(Path(entry.path))) is not None:
            yield Path(entry.path), each
