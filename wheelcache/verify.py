"""Verifies a store: reads every blob, and looks at everything beside them, without changing what it finds."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from wheelcache.begun import examine_partial, partial_files
from wheelcache.blobstats import changed_blobs, exposed_blobs, is_still, names_of_files
from wheelcache.catalog import Entry, Pieces
from wheelcache.catalogcheck import check_catalog
from wheelcache.digest import Digest, parse_digest
from wheelcache.errors import StoreError
from wheelcache.events import Sink, StoreRead
from wheelcache.findings import Findings
from wheelcache.inventory import entry_of
from wheelcache.layout import DEAD_SECONDS, Layout, read_layout
from wheelcache.partial import PIECE_BYTES
from wheelcache.reading import Content, Unread, Wanted, read_files
from wheelcache.roots import Roots
from wheelcache.store import Store

_MOST_THREADS: Final = 8
_TELL_SECONDS: Final = 0.25
"""How often progress is told."""


@dataclass(kw_only=True, slots=True)
class Report:
    """What a verification found.

    Attributes:
        findings: all that is wrong, in the order of their paths.
        blobs: how many there are.
        read: bytes of them that were read.
        is_complete: False where it was stopped.
    """

    findings: Findings = field(default_factory=Findings)
    blobs: int = 0
    read: int = 0
    is_complete: bool = True


def usable_threads() -> int:
    """Returns how many files are read at once: as many as this process has processors, up to eight."""
    with suppress(AttributeError):  # not everywhere
        return max(1, min(_MOST_THREADS, len(os.sched_getaffinity(0))))
    return max(1, min(_MOST_THREADS, os.cpu_count() or 1))


def verify_store(
    store: Store,
    *,
    fast: bool,
    threads: int,
    emit: Sink,
    stop: threading.Event,
    sizes: Mapping[Digest, int] | None = None,
    now: Callable[[], float] = time.time,
) -> Report:
    """Finds what is wrong with a store, while others may use it: what they publish or write meanwhile is no finding.

    Of blobs whose bytes are right the catalog is told so; and the checksums of their pieces, where it has none.

    Args:
        store: which.
        fast: no blob is read; their stat is compared with that of when they last were.
        threads: as many blobs are read at once.
        emit: takes events.
        stop: once set, this returns within a second with what was found by then.
        sizes: of wheels in bytes, where lockfiles say them.
        now: seconds since 1970.

    Raises:
        StoreError: the catalog cannot be read.
    """
    return _Verification(store, emit, stop, now).run(fast=fast, threads=threads, sizes=sizes or {})


class _Verification:
    """One look at a whole store."""

    def __init__(self, store: Store, emit: Sink, stop: threading.Event, now: Callable[[], float]) -> None:
        self._store = store
        self._base = store.root / "v1"
        self._emit = emit
        self._stop = stop
        self._now = now
        self._report = Report()
        self._known: Mapping[Digest, Entry] = {}

    def run(self, *, fast: bool, threads: int, sizes: Mapping[Digest, int]) -> Report:
        """Looks at everything."""
        report = self._report
        layout = read_layout(self._base, now=self._now())
        damage = check_catalog(self._base / "catalog.sqlite")
        report.findings += [*layout.findings, *damage]
        report.blobs = len(layout.blobs)
        is_known = not damage  # to ask a damaged one would make it anew, and hide what was wrong
        if is_known:
            self._known = self._store.known()
        needed = self._check_roots(layout) - layout.blobs.keys()
        known_sizes = {digest: entry.size for digest, entry in self._known.items()}
        self._check_partials(layout, {**known_sizes, **sizes}, needed)
        report.findings += exposed_blobs(self._store, layout.blobs)
        if fast:
            report.findings += changed_blobs(layout.blobs, self._known)
        else:
            self._read_blobs(layout, threads, is_known=is_known)
        report.findings.sort(key=lambda finding: (finding.path, finding.kind))
        report.is_complete = not self._stop.is_set()
        return report

    # Blobs.

    def _read_blobs(self, layout: Layout, threads: int, *, is_known: bool) -> None:
        wanted = {
            Wanted(
                path=path, size=found.st_size, piece=0 if is_known and self._store.piece_checks(digest) else PIECE_BYTES
            ): digest
            for digest, (path, found) in layout.blobs.items()
        }
        verified: list[tuple[Digest, Content]] = []
        progress = _Progress(sum(each.size for each in wanted), self._emit)
        try:
            for content in read_files(wanted, threads=threads, stop=self._stop, report=progress.tell):
                digest = wanted[content.wanted]
                if isinstance(content, Unread):
                    self._unread(digest, content, layout.blobs[digest][1])
                elif content.digest == digest:
                    verified.append((digest, content))
                elif is_still(content.wanted.path, content.found):
                    self._rotten(digest, content.wanted.path, content.digest, content.found)
        finally:
            progress.end()
            self._report.read = progress.read
        if is_known:
            self._note(verified)

    def _unread(self, digest: Digest, content: Unread, found: os.stat_result) -> None:
        if content.is_broken:
            self._rotten(digest, content.wanted.path, content.reason, found)
        elif not content.is_gone:  # as one is that was pruned, or put aside by a sync
            hint = "check its permissions"
            self._report.findings.note(
                "unreadable", content.wanted.path, str(digest), content.reason, hint, digest=digest
            )

    def _rotten(self, digest: Digest, path: Path, what: str, found: os.stat_result) -> None:
        hint = "wheelcache verify --repair fetches what is damaged"
        self._report.findings.note("rot", path, str(digest), what, hint, digest=digest, seen=found)
        views = self._base / "views"
        for linked in names_of_files(self._store).get((found.st_dev, found.st_ino), []):
            if not linked.is_relative_to(views):
                continue
            hint = "this view has the same file; wheelcache verify --repair moves it away, the next build makes it anew"
            self._report.findings.note("rot", linked, str(digest), what, hint, digest=digest, seen=found)

    def _note(self, verified: list[tuple[Digest, Content]]) -> None:
        """Tells the catalog what was read."""
        news: list[tuple[Digest, os.stat_result, Pieces | None]] = []
        unknown = []
        for digest, content in verified:
            if digest not in self._known:
                unknown.append(entry_of(digest, content.wanted.path, content.found))
            piece, size = content.wanted.piece, content.found.st_size
            news.append(
                (digest, content.found, Pieces(size=size, piece_bytes=piece, crcs=content.crcs) if piece else None)
            )
        self._store.add_known(entry for entry in unknown if entry.filename)
        self._store.note_verified(news)

    # What is beside them.

    def _check_partials(self, layout: Layout, sizes: Mapping[Digest, int], needed: set[Digest]) -> None:
        odd = {finding.path for finding in layout.findings}
        for name in sorted({file.stem for file in layout.files.get("partial", [])}):
            digest = parse_digest(f"sha256:{name}")
            if odd.isdisjoint(partial_files(self._store, digest)) and not self._stop.is_set():
                checked = examine_partial(
                    self._store,
                    digest,
                    size=sizes.get(digest),
                    is_needed=digest in needed,
                    now=self._now(),
                    stop=self._stop,
                )
                self._report.findings += checked.findings

    def _check_roots(self, layout: Layout) -> set[Digest]:
        """Looks at the files that say who needs what; returns what is needed."""
        if any(finding.path.parent.name in ("projects", "leases", "pins") for finding in layout.findings):
            return set()  # something there may be a pipe: nothing is opened
        roots = Roots(self._store.root)
        try:
            needs, leases = roots.survey(), roots.leases()
        except StoreError as error:
            self._report.findings.note(
                "unreadable", self._base, "projects, leases and pins that can be read", error.message, error.hint
            )
            return set()
        for path, reason in needs.damaged.items():
            hint = "sync its project again, or remove this file: then nothing is kept on its account"
            self._report.findings.note("root", path, "what a project or command needs", reason, hint)
        live = {lease.file for lease in leases} | needs.damaged.keys()
        for path in layout.files.get("leases", []):
            with suppress(FileNotFoundError):
                found = path.lstat()
                if path not in live and self._now() - found.st_mtime > DEAD_SECONDS:
                    hint = "wheelcache verify --repair moves it into the quarantine"
                    self._report.findings.note("debris", path, "a command that runs", "none", hint, seen=found)
        return set(needs.reasons)


class _Progress:
    """Tells how far the reading is, a few times a second."""

    def __init__(self, size: int, emit: Sink) -> None:
        self.read = 0
        self._size = size
        self._emit = emit
        self._began = time.monotonic()
        self._told = -_TELL_SECONDS

    def tell(self, read: int) -> None:
        """Takes in that so many bytes were read in all."""
        self.read = read
        now = time.monotonic()
        if now - self._told >= _TELL_SECONDS and read < self._size:
            self._told = now
            self._emit(StoreRead(read=read, size=self._size, rate=read / max(now - self._began, 0.001)))

    def end(self) -> None:
        """Tells that no more is read: of what was to be read, that is as much as it is."""
        seconds = max(time.monotonic() - self._began, 0.001)
        if self._size:
            self._emit(StoreRead(read=self.read, size=self.read, rate=self.read / seconds))
