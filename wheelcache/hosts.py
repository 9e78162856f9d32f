"""How each host does, over all wheels of a sync and kept from the runs before: breaker, speed, connections."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from wheelcache.catalog import HostRecord
from wheelcache.faults import Fault, SourceFault
from wheelcache.rates import LEVEL_SECONDS, Ramp, after_level, after_setback
from wheelcache.sources import OPEN_AFTER, HostState

HOST_FAULTS: Final = frozenset(
    {Fault.CONNECT, Fault.TLS, Fault.BUSY, Fault.SILENT, Fault.SLOW, Fault.FOREIGN, Fault.DIGEST}
)
"""These say something of the host, the others only of one file."""

_SETBACKS: Final = frozenset({Fault.BUSY, Fault.CUT, Fault.SILENT, Fault.SLOW, Fault.CONNECT})
"""These may be a host's way to say that it has too many connections."""

_KEPT_SECONDS: Final = 7 * 86_400.0
"""How long an earlier run's figures count."""

_RECENT_SECONDS: Final = 3600.0
"""How long an earlier run's failures count."""

_SMOOTHING: Final = 0.3
"""The weight of the newest second in a speed."""


@dataclass(slots=True)
class _Level:
    """What came in since a host's connections were all in use; bytes and seconds."""

    since: float
    received: int = 0


class Hosts:
    """The hosts of one sync; the caller makes sure that one thread at a time uses it.

    Args:
        per_host: connections at most, per host.
        records: of earlier runs, by host.
        now: seconds since 1970.
    """

    def __init__(self, per_host: int, *, records: Mapping[str, HostRecord], now: float) -> None:
        self._per_host = per_host
        self._states: dict[str, HostState] = {}
        self._ramps: dict[str, Ramp] = {}
        self._levels: dict[str, _Level] = {}
        self._totals: dict[str, float] = {}
        for host, record in records.items():
            if 0 <= now - record.seen_at < _KEPT_SECONDS:
                is_recent = now - record.seen_at < _RECENT_SECONDS
                self._states[host] = HostState(
                    rate=record.per_connection,
                    limit=self._first_limit(),
                    faults=min(record.faults, OPEN_AFTER - 1) if is_recent else 0,
                )
                self._totals[host] = record.rate

    def states(self) -> Mapping[str, HostState]:
        """Returns what is known of each host."""
        return self._states

    def state(self, host: str) -> HostState:
        """Returns what is known of *host*; a local file has no limits."""
        if host not in self._states:
            self._states[host] = HostState(limit=self._first_limit()) if host else HostState()
        return self._states[host]

    def begin(self, host: str) -> None:
        """Notes that a connection to *host* is in use."""
        state = self.state(host)
        self._states[host] = replace(state, active=state.active + 1)

    def end(self, host: str) -> None:
        """Notes that it is not any more."""
        state = self.state(host)
        self._states[host] = replace(state, active=state.active - 1)

    def worked(self, host: str, *, now: float) -> None:
        """Notes that bytes came: the breaker closes."""
        self._states[host] = replace(self.state(host), faults=0, rests_until=0.0, worked_at=now, last=None)

    def failed(self, host: str, fault: SourceFault, *, now: float, pause: Callable[[int], float]) -> None:
        """Notes a failure that may concern other wheels too.

        Args:
            host: which.
            fault: what came of it.
            now: seconds on the clock that rests are of.
            pause: the seconds to leave it alone after so many failures in a row.
        """
        state = self.state(host)
        if not host:
            return
        if fault.fault in _SETBACKS:
            ramp = after_setback(self._ramps.get(host, Ramp(limit=self._first_limit())), now=now)
            self._ramps[host] = ramp
            self._levels.pop(host, None)
            state = replace(state, limit=ramp.limit)
        if fault.fault in HOST_FAULTS:
            faults = state.faults + 1
            rest = fault.retry_after or (pause(faults - OPEN_AFTER + 1) if faults >= OPEN_AFTER else 0.0)
            state = replace(state, faults=faults, rests_until=max(state.rests_until, now + rest), last=fault)
        self._states[host] = state

    def observe(self, received: Mapping[str, tuple[int, int]], *, seconds: float, now: float) -> None:
        """Learns speeds, and lets hosts have more connections where those brought more.

        Args:
            received: by host, the connections that bring bytes and how many bytes came since the last call.
            seconds: since the last call.
            now: seconds on the clock that rests are of.
        """
        for host in [host for host in self._levels if host not in received]:
            del self._levels[host]
        for host, (connections, count) in received.items():
            if not host or not connections or not count or seconds <= 0:
                continue
            self.worked(host, now=now)
            weight = min(_SMOOTHING * seconds, 1.0) if self.state(host).rate else 1.0
            per_connection = _mean(self.state(host).rate, count / seconds / connections, weight)
            self._totals[host] = _mean(self._totals.get(host, 0.0), count / seconds, weight)
            self._states[host] = replace(self.state(host), rate=per_connection)
            self._climb(host, connections, count, seconds=seconds, now=now)

    def records(self, *, now: float) -> list[HostRecord]:
        """Returns what is worth knowing in the next run.

        Args:
            now: seconds since 1970.
        """
        return [
            HostRecord(
                host=host,
                rate=self._totals.get(host, 0.0),
                per_connection=state.rate,
                connections=self._ramps.get(host, Ramp()).limit,
                faults=state.faults,
                seen_at=now,
            )
            for host, state in self._states.items()
            if host and (state.worked_at is not None or state.faults)
        ]

    def _climb(self, host: str, connections: int, count: int, *, seconds: float, now: float) -> None:
        ramp = self._ramps.setdefault(host, Ramp(limit=self._first_limit()))
        if connections < ramp.limit:
            self._levels.pop(host, None)
            return
        level = self._levels.setdefault(host, _Level(since=now - seconds))
        level.received += count
        if now - level.since < LEVEL_SECONDS:
            return
        rate = level.received / (now - level.since)
        ramp = after_level(ramp, rate=rate, now=now, most=self._per_host)
        del self._levels[host]
        self._ramps[host] = ramp
        self._states[host] = replace(self.state(host), limit=ramp.limit)

    def _first_limit(self) -> int:
        return min(Ramp().limit, self._per_host)


def _mean(old: float, new: float, weight: float) -> float:
    return old * (1 - weight) + new * weight
