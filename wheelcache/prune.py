"""Prunes a store: decides what goes, then removes it in small batches, so that nothing that is needed is ever lost.

What is decided upon is only proposed: each batch holds the roots' guard, asks anew what is needed, and leaves that. A
command that leased before then keeps its wheels, and one that comes later sees them missing and fetches them.

A process that is killed at any step leaves nothing wrong. A view goes before the blobs in it: by itself it is made
anew, and without it a removed blob's bytes are free. A blob goes before its row in the catalog: a row without a blob
says nothing, since whether a blob is there its file alone decides, and the next prune takes the row away; a blob
without its row would lose its last use and its pieces' checksums. A partial goes before its journal, whose marks vouch
for no byte that is not in the file; its lock file goes last, by whoever holds it.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from wheelcache.digest import Digest
from wheelcache.files import store_errors, sync_folder
from wheelcache.holdings import Holding, Holdings, Inode, Kind
from wheelcache.roots import Roots
from wheelcache.store import Store
from wheelcache.verify import LEFT_SECONDS, held, partial_files

OLD_SECONDS: Final = 30 * 86_400.0
"""What was not used for so long goes where nobody says for how long."""

_BATCH: Final = 8
"""As many things are removed while commands that start wait: a gigabyte takes tenths of a second to unlink."""

_DAY: Final = 86_400.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What is wanted of a prune; where several are, all of it.

    Attributes:
        max_size: bytes that the store may have; None for no bound.
        older_than: seconds for which something was not used; None for 30 days, and for wheels too unless a size is
            given: then any age will do.
        is_all: True to remove all that nobody needs.
    """

    max_size: int | None = None
    older_than: float | None = None
    is_all: bool = False

    @property
    def age(self) -> float:
        """Seconds for which what is no wheel was not used."""
        if self.is_all:
            return 0.0
        return OLD_SECONDS if self.older_than is None else self.older_than

    @property
    def wheel_age(self) -> float | None:
        """Seconds for which a wheel was not used; None where that is no reason."""
        return None if self.max_size is not None and self.older_than is None and not self.is_all else self.age


@dataclass(frozen=True, kw_only=True, slots=True)
class Removal:
    """Something that goes, and why."""

    holding: Holding
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a prune would do.

    Attributes:
        removals: in their order.
        freed: bytes that the disk would have more.
        store_bytes: what would be left in the store.
    """

    removals: tuple[Removal, ...] = ()
    freed: int = 0
    store_bytes: int = 0


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


def plan_prune(
    holdings: Holdings,
    *,
    needed: AbstractSet[Digest],
    leased: AbstractSet[Digest],
    limits: Limits,
    now: float,
    is_idle: bool = True,
) -> Plan:
    """Decides what goes: what is dead or old, views of what goes, then wheels, the least recently used first.

    Args:
        holdings: what there is.
        needed: what must stay.
        leased: what running commands need.
        limits: what is wanted.
        now: seconds since 1970.
        is_idle: False while some command holds a lease.
    """
    return _Planning(holdings, needed, leased, limits, now, is_idle=is_idle).run()


class _Planning:
    """One decision."""

    def __init__(
        self,
        holdings: Holdings,
        needed: AbstractSet[Digest],
        leased: AbstractSet[Digest],
        limits: Limits,
        now: float,
        *,
        is_idle: bool,
    ) -> None:
        self._holdings = holdings
        self._needed = needed
        self._limits = limits
        self._now = now
        self._tally = Tally(holdings)
        self._removals: dict[Path, Removal] = {}
        views = sorted(holdings.of_kind("view"), key=_oldest_first)
        self._views = [view for view in views if not _is_mounted(view, leased, is_idle=is_idle)]

    def run(self) -> Plan:
        """Decides."""
        for item in self._holdings.items:
            if reason := self._reason(item):
                self._take(item, reason)
        for view in self._views:
            if not view.is_whole:
                self._take(view, "holds a wheel that is not in the store any more")
            elif self._is_old(view):
                self._take(view, f"not made for {self._ago(view)}; a build that needs it makes it anew")
        unneeded = [wheel for wheel in self._holdings.of_kind("wheel") if self._needed.isdisjoint(wheel.digests)]
        unneeded.sort(key=_oldest_first)
        if (age := self._limits.wheel_age) is not None:
            for wheel in unneeded:
                if self._is_unused(wheel, age):
                    self._take_wheel(wheel, f"needed by nobody, last used {self._ago(wheel)} ago")
        if self._limits.max_size is not None:
            self._shrink(self._limits.max_size, unneeded)
        return Plan(
            removals=tuple(self._removals.values()), freed=self._tally.freed, store_bytes=self._tally.store_bytes
        )

    def _reason(self, item: Holding) -> str:
        """Returns why something goes that no size is a reason for; empty where it stays."""
        ago, is_old = self._ago(item), self._is_old(item)
        reasons: dict[Kind, tuple[bool, str]] = {
            "lease": (True, "its command has ended"),
            "project": (True, "the project or its lockfiles are gone"),
            "temporary": (True, f"nobody has written it for {ago}"),
            "lock": (self._now - item.last_used >= LEFT_SECONDS, "nobody holds it, and nothing is beside it"),
            "quarantine": (is_old, f"put aside {ago} ago"),
            "partial": (
                is_old and self._needed.isdisjoint(item.digests),
                f"needed by nobody, nothing came in for {ago}",
            ),
        }
        goes, reason = reasons.get(item.kind, (False, ""))
        return reason if goes else ""

    def _shrink(self, size: int, unneeded: Sequence[Holding]) -> None:
        """Takes views with bytes of their own, then wheels, until the store is at most *size* bytes."""
        wanted = f"the store is to have at most {size:,} bytes"
        for view in self._views:
            if self._tally.store_bytes > size and self._tally.gain(view):
                self._take(view, f"{wanted}; a build that needs it makes it anew")
        for wheel in unneeded:
            if self._tally.store_bytes > size:
                self._take_wheel(wheel, f"needed by nobody, last used {self._ago(wheel)} ago; {wanted}")

    def _take_wheel(self, wheel: Holding, reason: str) -> None:
        for view in self._views:
            if view.digests & wheel.digests:
                self._take(view, f"holds {wheel.name}, which goes")
        self._take(wheel, reason)

    def _take(self, item: Holding, reason: str) -> None:
        if item.path not in self._removals:
            self._removals[item.path] = Removal(holding=item, reason=reason)
            self._tally.remove(item)

    def _is_old(self, item: Holding) -> bool:
        return self._is_unused(item, self._limits.age)

    def _is_unused(self, item: Holding, age: float) -> bool:
        """True for what was not used for *age* seconds; 0 is any age, also where a clock was ahead."""
        return not age or self._now - item.last_used >= age

    def _ago(self, item: Holding) -> str:
        """Returns how long something was not used, as people say it."""
        seconds = max(self._now - item.last_used, 0.0)
        for unit, length in (("day", _DAY), ("hour", 3600.0), ("minute", 60.0)):
            if seconds >= length:
                count = int(seconds / length)
                return f"1 {unit}" if count == 1 else f"{count} {unit}s"
        return "less than a minute"


class Tally:
    """Counts what is left and what becomes free, file by file: one with several names goes with its last one.

    Attributes:
        store_bytes: of the files that have a name in the store.
        freed: of those that have none anywhere any more.
    """

    def __init__(self, holdings: Holdings) -> None:
        self._files = holdings.files
        self._names: Counter[Inode] = Counter(inode for item in holdings.items for inode in item.inodes)
        self._gone: Counter[Inode] = Counter()
        self.store_bytes = sum(self._files[inode].size for inode in self._names)
        self.freed = 0

    def gain(self, item: Holding) -> int:
        """Returns the bytes that the store would have less without *item*."""
        names = Counter(item.inodes)
        return sum(self._files[inode].size for inode, count in names.items() if self._names[inode] == count)

    def remove(self, item: Holding) -> None:
        """Takes *item* out."""
        for inode in item.inodes:
            facts = self._files[inode]
            self._names[inode] -= 1
            self._gone[inode] += 1
            if not self._names[inode]:
                self.store_bytes -= facts.size
            if self._gone[inode] == facts.links:
                self.freed += facts.size


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
                    if is_free and item.kind == "view":
                        aside.append(self._move_aside(item.path))
                    elif is_free:
                        self._remove(item)
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
        for path in aside:  # nobody knows it by this name: it takes as long as it takes
            with store_errors(path):
                _remove_tree(path)

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
            is_ours = digest not in needed and locks.enter_context(held(self._store, digest))
            return is_ours and self._is_unchanged(item, digest)
        if item.kind == "view":
            return item.path.is_dir() and not _is_mounted(item, leased, is_idle=is_idle)
        if item.kind == "lease":
            return item.path in self._roots.dead_leases()
        if item.kind == "project":
            return any(each.file == item.path and not each.standing() for each in self._roots.projects())
        return os.path.lexists(item.path)

    def _is_unchanged(self, item: Holding, digest: Digest) -> bool:
        """True when a blob, partial or lock file is what it was when its removal was decided."""
        if item.kind == "wheel":
            return item.path.exists()
        part, journal, _ = partial_files(self._store, digest)
        if item.kind == "lock":
            return not part.exists() and not journal.exists()
        times = [file.stat().st_mtime for file in (part, journal) if file.exists()]
        return bool(times) and max(times) <= item.last_used

    def _remove(self, item: Holding) -> None:
        kind: Kind = item.kind
        if kind in {"partial", "lock"}:
            (digest,) = item.digests
            for file in partial_files(self._store, digest):
                file.unlink(missing_ok=True)
        elif item.path.is_dir() and not item.path.is_symlink():
            _remove_tree(item.path)
        else:
            item.path.unlink(missing_ok=True)

    def _move_aside(self, view: Path) -> Path:
        """Gives a view the name of one that a killed build left: so it goes at once, also where this is killed."""
        target = view.with_name(f".{view.name}.{os.getpid()}.{time.monotonic_ns()}")
        view.rename(target)
        return target

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


def _oldest_first(item: Holding) -> tuple[float, Path]:
    return item.last_used, item.path


def _is_mounted(view: Holding, leased: AbstractSet[Digest], *, is_idle: bool) -> bool:
    """True when a running build may have mounted a view: it leased its wheels; on doubt it does."""
    return not is_idle and (not view.is_whole or not view.digests or not view.digests.isdisjoint(leased))


def _remove_tree(path: Path) -> None:
    """Removes a folder, also one whose folders nobody may write to."""
    for folder, _, _ in os.walk(path):
        with suppress(OSError):
            Path(folder).chmod(0o700)
    shutil.rmtree(path)
