"""Puts right what a verification found wrong, as far as that goes without a network; removes nothing for good."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from wheelcache.begun import held, holds_nothing, partial_files
from wheelcache.catalog import Catalog
from wheelcache.digest import Digest
from wheelcache.files import move_into, store_errors
from wheelcache.findings import Finding
from wheelcache.layout import BLOB_MODE
from wheelcache.ordinary import open_regular
from wheelcache.partialcheck import check_partial, rewrite_journal
from wheelcache.store import Store

_MOVED: Final = frozenset({"stray", "wrong-name", "debris"})


@dataclass(kw_only=True, slots=True)
class Mended:
    """What became of findings.

    Attributes:
        repaired: those that are put right.
        missing: the blobs that were rotten and are away, each to be fetched again; with what of it was found.
    """

    repaired: list[Finding] = field(default_factory=list)
    missing: dict[Digest, Finding] = field(default_factory=dict)


def put_catalog_aside(store: Store) -> Path | None:
    """Moves a damaged catalog into the quarantine, and makes it anew with what is sound of it.

    Returns:
        Where the damaged one is now; None where there was none.

    Raises:
        StoreError: the disk failed.
    """
    return Catalog(store.root / "v1" / "catalog.sqlite").renew(aside=store.root / "v1" / "quarantine")


def mend_store(
    store: Store,
    findings: Sequence[Finding],
    *,
    sizes: Mapping[Digest, int],
    stop: threading.Event,
) -> Mended:
    """Puts findings right: wrong blobs aside, their good pieces into partials; damaged journals anew; the rest aside.

    Args:
        store: which.
        findings: of `verify_store`.
        sizes: of wheels in bytes, where lockfiles say them.
        stop: once set, this returns with what is done.

    Raises:
        StoreError: the disk failed.
    """
    mended = Mended()
    mending = _Mending(store, mended, sizes, stop)
    for finding in findings:
        if stop.is_set():
            break
        mending.mend(finding)
    return mended


class _Mending:
    """One run over findings."""

    def __init__(self, store: Store, mended: Mended, sizes: Mapping[Digest, int], stop: threading.Event) -> None:
        self._store = store
        self._base = store.root / "v1"
        self._mended = mended
        self._sizes = sizes
        self._stop = stop

    def mend(self, finding: Finding) -> None:
        """Puts one finding right, or leaves it."""
        place = finding.path.relative_to(self._base).parts[:1]
        if finding.kind in _MOVED and finding.seen is not None:
            self._move(finding, finding.seen)
        elif place == ("blobs",) and finding.kind == "rot":
            self._blob(finding)
        elif place == ("blobs",) and finding.kind == "mode":
            self._mode(finding)
        elif place == ("views",) and finding.kind == "rot":
            self._view(finding)
        elif place == ("partial",) and finding.kind in {"rot", "journal", "partial", "debris"}:
            self._partial(finding)

    def _move(self, finding: Finding, seen: os.stat_result) -> None:
        """Moves something into the quarantine, if it is still what was seen."""
        with store_errors(finding.path), suppress(FileNotFoundError):
            if os.path.samestat(finding.path.lstat(), seen):
                move_into(self._base / "quarantine", finding.path)
        self._mended.repaired.append(finding)

    def _mode(self, finding: Finding) -> None:
        """Takes the right to write away, where this user may and the file system knows of it."""
        with suppress(OSError), open_regular(finding.path) as file:
            os.fchmod(file.fileno(), BLOB_MODE)
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) == BLOB_MODE:
                self._mended.repaired.append(finding)

    def _blob(self, finding: Finding) -> None:
        if finding.digest is None or finding.seen is None:
            return
        if self._store.set_aside(finding.digest, finding.seen) is None and self._store.blob(finding.digest).exists():
            self._mended.repaired.append(finding)  # somebody else was faster
        else:
            self._mended.missing[finding.digest] = finding

    def _view(self, finding: Finding) -> None:
        """Moves the whole view: a build is to find all of it or none."""
        views = self._base / "views"
        view = views / finding.path.relative_to(views).parts[0]
        with store_errors(view):
            if view.exists():
                move_into(self._base / "quarantine", view)
        self._mended.repaired.append(finding)

    def _partial(self, finding: Finding) -> None:
        """Makes a journal anew of what is still good; where nothing is, partial and journal go."""
        digest = finding.digest
        if digest is None:
            return
        files = partial_files(self._store, digest)
        with held(self._store, digest) as is_ours, store_errors(files[0]):
            if is_ours and not self._is_sound(finding, digest) and not self._stop.is_set():
                for file in files:
                    if file.exists():
                        move_into(self._base / "quarantine", file)
        if not self._stop.is_set():  # what somebody else holds is looked at, piece by piece, by that sync
            self._mended.repaired.append(finding)

    def _is_sound(self, finding: Finding, digest: Digest) -> bool:
        """True when a partial can be gone on with, if need be by a journal that is made anew."""
        if finding.kind == "debris":
            return not holds_nothing(self._store, digest)
        if finding.kind == "partial":
            return False
        checked = check_partial(
            self._base / "partial",
            digest,
            boot=self._store.boot,
            size=self._sizes.get(digest),
            oldest=0.0,
            is_over=self._stop.is_set,
        )
        if not checked.findings:
            return True
        return rewrite_journal(self._base / "partial", digest, checked, boot=self._store.boot)
