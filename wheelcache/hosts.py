"""How each host does, over all wheels of a sync and kept from the runs before: breaker, speed, connections."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from wheelcache.catalog import HostRecord
from wheelcache.faults import Fault, SourceFault
from wheelcache.pace import Observed
from wheelcache.rates import Ramp, after_level, after_setback, is_judged
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

_SAMPLE_SECONDS: Final = 1.0
_FIRST_SAMPLE_SECONDS: Final = 0.3
"""How much is taken in at a time; of a host of unknown speed sooner."""

_SMOOTHING: Final = 0.3
"""The weight of the newest sample in a speed."""


@dataclass(slots=True)
class _Level:
    """What came in since a host's connections were all in use; bytes and seconds."""

    since: float
    received: int = 0


@dataclass(slots=True)
class _Sample:
    """What came of a host since its speed was last taken in."""

    received: int = 0
    connection_seconds: float = 0.0
    seconds: float = 0.0


class Hosts:
    """The hosts of one sync; the caller makes sure that one thread at a time uses it.

    Args:
        per_host: connections at most, per host.
        records: of earlier runs, by host.
        now: seconds since 1970.
        learns_speed: False where it is we who set it.
    """

    def __init__(
        self, per_host: int, *, records: Mapping[str, HostRecord], now: float, learns_speed: bool = True
    ) -> None:
        self._per_host = per_host
        self._learns_speed = learns_speed
        self._met: set[str] = set()
        self._samples: dict[str, _Sample] = {}
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
                    lies=record.lies,
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
        self._met.add(host)
        self._states[host] = replace(state, active=state.active + 1)

    def end(self, host: str) -> None:
        """Notes that it is not any more."""
        state = self.state(host)
        self._states[host] = replace(state, active=state.active - 1)

    def worked(self, host: str, *, now: float) -> None:
        """Notes that bytes came: the breaker closes."""
        self._states[host] = replace(self.state(host), faults=0, rests_until=0.0, worked_at=now, last=None)

    def vouched(self, host: str) -> None:
        """Notes that a right wheel came of it: what it did before is forgiven."""
        self._states[host] = replace(self.state(host), lies=0)

    def failed(
        self, host: str, fault: SourceFault, *, now: float, progressed: bool, pause: Callable[[int], float]
    ) -> None:
        """Notes a failure that may concern other wheels too.

        Args:
            host: which.
            fault: what came of it.
            now: seconds on the clock that rests are of.
            progressed: a good many bytes came before it: the host works, though perhaps not with so many connections.
            pause: the seconds to leave it alone after so many failures in a row.
        """
        state = self.state(host)
        if not host:
            return
        ramp = self._ramps.get(host, Ramp(limit=self._first_limit()))
        if fault.fault in _SETBACKS and (now >= ramp.calm_until or fault.fault is Fault.BUSY):
            ramp = self._ramps[host] = after_setback(ramp, now=now)
            self._levels.pop(host, None)
            state = replace(state, limit=ramp.limit)
        if fault.fault is Fault.DIGEST:
            state = replace(state, lies=state.lies + 1)
        if fault.retry_after:
            state = replace(state, asked_until=max(state.asked_until, now + fault.retry_after))
        if fault.fault in HOST_FAULTS and not progressed:
            faults = state.faults + 1
            rest = pause(faults - OPEN_AFTER + 1) if faults >= OPEN_AFTER else 0.0
            state = replace(state, faults=faults, rests_until=max(state.rests_until, now + rest), last=fault)
        self._states[host] = state

    def observe(self, observed: Mapping[str, Observed], *, seconds: float, now: float) -> None:
        """Learns speeds, and lets hosts have more connections where those brought more.

        Args:
            observed: what came of each host since the last call.
            seconds: since the last call.
            now: seconds on the clock that rests are of.
        """
        for host in [host for host in self._levels if host not in observed]:
            del self._levels[host]
        for host, what in observed.items():
            if not host or seconds <= 0:
                continue
            if what.is_working:
                self.worked(host, now=now)
            if self._learns_speed:
                self._learn_speed(host, what, seconds)
            self._climb(host, what, seconds=seconds, now=now)

    def _learn_speed(self, host: str, what: Observed, seconds: float) -> None:
        """Takes in a second's worth of bytes at a time: reads are long where lines are slow."""
        sample = self._samples.setdefault(host, _Sample())
        sample.received += what.received
        sample.connection_seconds += what.connection_seconds
        sample.seconds += seconds
        is_enough = sample.seconds >= (_SAMPLE_SECONDS if self.state(host).rate else _FIRST_SAMPLE_SECONDS)
        if not sample.received or not is_enough or not sample.connection_seconds:
            return
        del self._samples[host]
        state = self.state(host)
        weight = _SMOOTHING if state.rate else 1.0
        per_connection = sample.received / sample.connection_seconds
        self._totals[host] = _mean(self._totals.get(host, 0.0), sample.received / sample.seconds, weight)
        self._states[host] = replace(state, rate=_mean(state.rate, per_connection, weight))

    def records(self, *, now: float) -> list[HostRecord]:
        """Returns what is worth knowing in the next run.

        Args:
            now: seconds since 1970.
        """
        for host, sample in self._samples.items():
            if not self.state(host).rate and sample.connection_seconds:  # too short for a second's worth
                self._states[host] = replace(self.state(host), rate=sample.received / sample.connection_seconds)
                self._totals[host] = sample.received / sample.seconds
        return [
            HostRecord(
                host=host,
                rate=self._totals.get(host, 0.0),
                per_connection=state.rate,
                lies=state.lies,
                faults=state.faults,
                seen_at=now,
            )
            for host, state in self._states.items()
            if host in self._met and host and (state.worked_at is not None or state.faults or state.lies)
        ]

    def _climb(self, host: str, what: Observed, *, seconds: float, now: float) -> None:
        ramp = self._ramps.setdefault(host, Ramp(limit=self._first_limit()))
        if what.delivering < ramp.limit:
            self._levels.pop(host, None)
            return
        level = self._levels.setdefault(host, _Level(since=now - seconds))
        level.received += what.received
        if not is_judged(now - level.since, level.received, connections=what.delivering):
            return
        ramp = after_level(ramp, rate=level.received / (now - level.since), now=now, most=self._per_host)
        del self._levels[host]
        self._ramps[host] = ramp
        self._states[host] = replace(self.state(host), limit=ramp.limit)

    def _first_limit(self) -> int:
        return min(Ramp().limit, self._per_host)


def _mean(old: float, new: float, weight: float) -> float:
    return old * (1 - weight) + new * weight
