"""Decides what goes from a store: what is dead or old, then wheels that nobody needs, the least recently used first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wheelcache.begun import LEFT_SECONDS, OLD_SECONDS
from wheelcache.digest import Digest
from wheelcache.holdings import Holding, Holdings, Inode, Kind

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
        self._views = [view for view in views if not is_mounted(view, leased, is_idle=is_idle)]

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
            "project": (True, item.why),
            "temporary": (True, f"nobody has written it for {ago}"),
            "gone": (True, "a prune that was cut short was removing it"),
            "lock": (self._now - item.last_used >= LEFT_SECONDS, "it holds no byte, and nobody writes to it"),
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


def _oldest_first(item: Holding) -> tuple[float, Path]:
    return item.last_used, item.path


def is_mounted(view: Holding, leased: AbstractSet[Digest], *, is_idle: bool) -> bool:
    """True when a running build may have mounted a view: it leased its wheels; on doubt it does."""
    return not is_idle and (not view.is_whole or not view.digests or not view.digests.isdisjoint(leased))
