"""Prunes a store: removes what was decided upon in small batches, so that nothing that is needed is ever lost.

What is decided upon is only proposed: each batch holds the roots' guard, asks anew what is needed, and leaves that. A
command that leased before then keeps its wheels, and one that comes later sees them missing and fetches them.

What goes gets another name first, beside its own; it is unlinked once that has reached the disk, and nobody waits for
that. A power cut may bring back a name that was removed just before, and the bytes under it may be others' by then
(ext4 with data=writeback gives blocks away at once): so what comes back is none of ours, and the next prune's.

A process that is killed at any step leaves nothing wrong. A view goes before the blobs in it: by itself it is made
anew, and without it a removed blob's bytes are free. A blob goes before its row in the catalog: a row without a blob
says nothing, since whether a blob is there its file alone decides, and the next prune takes the row away; a blob
without its row would lose its last use and its pieces' checksums. A partial goes before its journal, whose marks vouch
for no byte that is not in the file; its lock file goes last, by whoever holds it.
"""

from __future__ import annotations

import os
import shlex
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from wheelcache.begun import held, holds_nothing, partial_files
from wheelcache.digest import Digest
from wheelcache.errors import StoreError
from wheelcache.files import date_now, gone_name, is_gone_name, store_errors, sync_folder
from wheelcache.holdings import Holding, Holdings
from wheelcache.ordinary import all_below
from wheelcache.pruneplan import Plan, Removal, Tally, is_mounted
from wheelcache.roots import Roots
from wheelcache.store import Store

_BATCH: Final = 8
"""As many things lose their names while commands that start wait."""


@dataclass(kw_only=True, slots=True)
class Pruned:
    """What a prune did.

    Attributes:
        removed: what is gone.
        kept: what was to go, and is needed, used or written by now.
        freed: bytes that the disk has more.
        store_bytes: what is left in the store.
    """

    removed: list[Removal] = field(default_factory=list)
    kept: list[Removal] = field(default_factory=list)
    freed: int = 0
    store_bytes: int = 0


def prune(
    store: Store,
    roots: Roots,
    holdings: Holdings,
    plan: Plan,
    *,
    stop: threading.Event,
    now: Callable[[], float] = time.time,
) -> Pruned:
    """Removes what was decided upon, but for what is needed, used or written by now.

    Args:
        store: from where.
        roots: its roots.
        holdings: what was decided upon.
        plan: the decision.
        stop: once set, this returns after the batch at hand.
        now: seconds since 1970.

    Raises:
        StoreError: what must stay is not known, or the disk failed; what was removed by then is gone.
    """
    return _Pruning(store, roots, holdings, now).run(plan, stop)


class _Pruning:
    """One prune."""

    def __init__(self, store: Store, roots: Roots, holdings: Holdings, now: Callable[[], float]) -> None:
        self._store = store
        self._base = store.root / "v1"
        self._roots = roots
        self._now = now
        self._tally = Tally(holdings)
        self._done = Pruned()

    def run(self, plan: Plan, stop: threading.Event) -> Pruned:
        for start in range(0, len(plan.removals), _BATCH):
            if stop.is_set():
                break
            self._remove_batch(plan.removals[start : start + _BATCH])
        if not stop.is_set():
            self._forget_lost()
        self._done.freed, self._done.store_bytes = self._tally.freed, self._tally.store_bytes
        return self._done

    def _remove_batch(self, batch: Sequence[Removal]) -> None:
        folders: set[Path] = set()
        aside: list[Path] = []
        with self._roots.guard(), ExitStack() as locked:
            needed = self._roots.needed()
            leases = self._roots.leases()
            leased = {digest for lease in leases for digest in lease.digests}
            for removal in batch:
                item = removal.holding
                with store_errors(item.path):
                    is_free = self._is_free(item, needed, leased, locked, is_idle=not leases)
                    if is_free:
                        aside += self._take_away(item)
                if is_free:
                    folders.add(item.path.parent)
                    self._tally.remove(item)
                    self._done.removed.append(removal)
                else:
                    self._done.kept.append(removal)
            for folder in folders:
                with store_errors(folder):
                    sync_folder(folder)
            if gone := [digest for removal in batch for digest in self._gone_blobs(removal.holding)]:
                self._store.forget(gone)
        for path in aside:  # nobody knows it by this name: a gigabyte takes tenths of a second
            with store_errors(path), suppress(FileNotFoundError):  # another prune may go on with it
                _remove(path)

    def _is_free(
        self,
        item: Holding,
        needed: Mapping[Digest, object],
        leased: AbstractSet[Digest],
        locks: ExitStack,
        *,
        is_idle: bool,
    ) -> bool:
        """True when something may still go; what somebody could write to meanwhile is locked then."""
        if item.kind in {"wheel", "partial", "lock"}:
            (digest,) = item.digests
            is_unneeded = item.kind == "lock" or digest not in needed
            is_ours = is_unneeded and locks.enter_context(held(self._store, digest))
            return is_ours and self._is_unchanged(item, digest)
        if item.kind == "view":
            return item.path.is_dir() and not is_mounted(item, leased, is_idle=is_idle)
        if item.kind == "lease":
            return item.path in self._roots.dead_leases()
        if item.kind == "project":
            return item.path in self._roots.gone()
        return os.path.lexists(item.path)

    def _is_unchanged(self, item: Holding, digest: Digest) -> bool:
        """True when a blob, partial or lock file is what it was when its removal was decided."""
        if item.kind == "wheel":
            return item.path.exists()
        part, journal, _ = partial_files(self._store, digest)
        if item.kind == "lock":
            return holds_nothing(self._store, digest)
        times = [file.stat().st_mtime for file in (part, journal) if file.exists()]
        return bool(times) and max(times) <= item.last_used

    def _take_away(self, item: Holding) -> list[Path]:
        """Gives what goes names by which nobody knows it any more; returns them."""
        if is_gone_name(item.path):
            return [item.path]
        if item.kind not in {"partial", "lock"}:
            return [_move_aside(item.path)]
        (digest,) = item.digests
        part, journal, lock = partial_files(self._store, digest)
        aside = [_move_aside(path) for path in (part, journal) if os.path.lexists(path)]
        lock.unlink(missing_ok=True)  # at once: who waits for it sees by its names that it locks nothing any more
        return aside

    def _gone_blobs(self, item: Holding) -> Iterable[Digest]:
        return [digest for digest in item.digests if item.kind == "wheel" and not item.path.exists()]

    def _forget_lost(self) -> None:
        """Takes rows out of the catalog whose blobs are gone: a prune that was killed left them."""
        lost = [digest for digest in self._store.known() if not self._is_there(digest)]
        if not lost:
            return
        with self._roots.guard():
            needed = self._roots.needed()  # whoever publishes one now has leased it
            self._store.forget(digest for digest in lost if digest not in needed and not self._is_there(digest))

    def _is_there(self, digest: Digest) -> bool:
        return self._store.blob(digest).exists() or any(file.exists() for file in partial_files(self._store, digest))


def _move_aside(path: Path) -> Path:
    target = gone_name(path)
    path.rename(target)
    date_now(target)  # so that nobody takes it for long dead
    return target


def _remove(path: Path) -> None:
    """Removes a file or a folder, also one whose folders nobody may write to."""
    if path.is_symlink() or not path.is_dir():
        path.unlink()
        return
    with suppress(OSError):
        path.chmod(0o700)
    for entry in all_below(path):
        if entry.is_dir(follow_symlinks=False):
            with suppress(OSError):
                Path(entry.path).chmod(0o700)
    try:
        shutil.rmtree(path, ignore_errors=True)  # what another prune removes meanwhile is no reason to stop
        shutil.rmtree(path)
    except RecursionError as error:
        raise StoreError(f"{path}: too deep to be removed", hint=f"rm -rf {shlex.quote(str(path))}") from error
