"""Where a wheel can be had from, how those places did so far, and which of them is asked next."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from wheelcache.faults import FATAL, Fault, SourceFault, host_of

OPEN_AFTER: Final = 3
"""Failures in a row after which a host is left alone for a while (the breaker opens)."""

OUTAGE_SECONDS: Final = 900.0
"""How long a host that worked in this run may be gone before it is given up."""

_SPEED_STEPS: Final = 2.0
"""Steps per doubling: hosts of about one speed count as equal, and the order given decides."""

_FIRST: Final = -(1 << 10)
"""The rank of a local file, and of a host whose speed is to be found out."""

_MAY_PASS: Final = frozenset({Fault.CONNECT, Fault.SILENT})
"""What a line that is down looks like."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """One place that a wheel may be had from, and how it did so far.

    Attributes:
        url: of the file; of a mirror's root as long as *is_lookup*.
        is_lookup: the mirror has yet to be asked for the file's URL.
        mirror: the root of the mirror that gave the URL; empty for the lockfile's own.
        is_guess: nobody said that the file is there: a refusal is no news.
        faults: failures in a row.
        fruitless: those of them since the last that brought a good many bytes.
        rests_until: not to be asked before (seconds on the caller's clock).
        is_dead: not to be asked again for this wheel.
        from_zero: it serves no ranges: the whole file is asked for, what is on disk already is skipped.
        last: its last failure.
    """

    url: str
    is_lookup: bool = False
    mirror: str = ""
    is_guess: bool = False
    faults: int = 0
    fruitless: int = 0
    rests_until: float = 0.0
    is_dead: bool = False
    from_zero: bool = False
    last: SourceFault | None = None

    @property
    def host(self) -> str:
        """Its host and port; empty for a file."""
        return host_of(self.url)


@dataclass(frozen=True, kw_only=True, slots=True)
class HostState:
    """How a host does, over all wheels: the breaker, and what may be expected of it.

    Attributes:
        faults: failures in a row: fewer than `OPEN_AFTER` is closed; from then on the host rests after each, and is
            tried by one connection when the rest is over (half-open).
        rests_until: not to be asked before (seconds on the caller's clock).
        asked_until: its server asked to be left alone so long (Retry-After).
        lies: wheels of which it gave wrong bytes, since it last gave a right one.
        worked_at: when bytes last came from it in this run; None before the first.
        rate: bytes per second of one connection; 0 where unknown.
        active: connections in use.
        limit: connections that it may have now.
        last: its last failure.
    """

    faults: int = 0
    rests_until: float = 0.0
    asked_until: float = 0.0
    lies: int = 0
    worked_at: float | None = None
    rate: float = 0.0
    active: int = 0
    limit: int = 1 << 30
    last: SourceFault | None = None

    @property
    def has_room(self) -> bool:
        """True when it may get one more connection."""
        return self.active < (1 if self.faults >= OPEN_AFTER else self.limit)


_UNKNOWN: Final = HostState()


def choose_source(
    sources: Sequence[Source],
    *,
    now: float,
    hosts: Mapping[str, HostState],
    may_look_up: bool = True,
    avoid: Collection[str] = (),
) -> Source | None:
    """Returns the best source that may be asked now; None when there is none.

    Fewer failures before more; then the faster host, an untried one first, once; then the order given.

    Args:
        sources: in order of preference.
        now: seconds on the clock that `rests_until` is of.
        hosts: what is known of each host, by `host_of`.
        may_look_up: False where it is not worth asking a mirror while others serve.
        avoid: URLs that must not be asked.
    """
    able = [source for source in sources if not source.is_dead and source.url not in avoid]
    able = [source for source in able if not hosts.get(source.host, _UNKNOWN).lies] or able  # whoever lied, rests
    serving = [source for source in able if not source.is_lookup]
    if serving and not may_look_up and any(not source.faults and not _rest(source, now, hosts) for source in serving):
        able = serving
    ready = [source for source in able if not _rest(source, now, hosts) and hosts.get(source.host, _UNKNOWN).has_room]
    return min(ready, key=lambda source: _rank(source, hosts), default=None)


def is_best(source: Source, sources: Sequence[Source], *, now: float, hosts: Mapping[str, HostState]) -> bool:
    """True when no other source, busy or not, is expected to be faster or more reliable than *source*."""
    others = [other for other in sources if not other.is_dead and not _rest(other, now, hosts)]
    known = [other for other in others if hosts.get(other.host, _UNKNOWN).rate or other.host == source.host]
    return source == min(known or [source], key=lambda other: (_rank(other, hosts)[:4], other != source))


def after_fault(source: Source, fault: SourceFault, *, rests_until: float, progressed: bool) -> Source:
    """Returns *source* as it stands after *fault*.

    Args:
        source: as it was asked.
        fault: what came of it.
        rests_until: when it may be asked again, if it may.
        progressed: new bytes came before it. A source that was merely cut then is as good as before; a slow one is not.
    """
    is_harmless = progressed and fault.fault is Fault.CUT
    failed = replace(
        source,
        faults=0 if is_harmless else source.faults + 1,
        fruitless=0 if progressed else source.fruitless + 1,
        rests_until=0.0 if is_harmless else rests_until,
        last=fault,
    )
    if fault.fault in FATAL:
        return replace(failed, is_dead=True)
    if source.from_zero and fault.fault in (Fault.RANGE, Fault.CUT):
        return replace(failed, is_dead=True)  # restarting from zero is tried once: each try may cost a whole file
    return replace(failed, from_zero=source.from_zero or fault.fault is Fault.RANGE)


def is_hopeless(source: Source, host: HostState, *, now: float, budget: int) -> bool:
    """True when asking *source* again is of no use.

    Args:
        source: which.
        host: how its host does.
        now: seconds on the clock that `worked_at` is of.
        budget: failures in a row that are borne. A line that worked before and is down now is waited for longer.
    """
    if source.is_dead:
        return True
    if max(source.fruitless, host.faults) < budget:
        return False
    last = host.last if host.faults >= source.fruitless else source.last
    is_outage = last is not None and last.fault in _MAY_PASS and host.worked_at is not None
    return not (is_outage and host.worked_at is not None and now - host.worked_at < OUTAGE_SECONDS)


def _rest(source: Source, now: float, hosts: Mapping[str, HostState]) -> float:
    host = hosts.get(source.host, _UNKNOWN)
    return max(source.rests_until - now, host.rests_until - now, host.asked_until - now, 0.0)


def _rank(source: Source, hosts: Mapping[str, HostState]) -> tuple[bool, int, int, int, bool]:
    host = hosts.get(source.host, _UNKNOWN)
    speed = -math.floor(math.log2(host.rate) * _SPEED_STEPS) if host.rate >= 1 else 1
    if not source.host or (not host.rate and not host.active):
        speed = _FIRST
    return (source.from_zero, source.faults, host.faults, speed, source.is_guess)
