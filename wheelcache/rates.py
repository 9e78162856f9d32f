"""How large reads are, when a body has stalled, and how many connections a host gets: judgements of speed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

FIRST_READ: Final = 16 << 10
LARGEST_READ: Final = 256 << 10
"""Bytes per read: what a kill -9 can lose per connection."""

REFILL_BYTES: Final = 64 << 10
"""So many new bytes are progress; fewer and a server that sends one byte per connection would be asked for ever."""


def next_read(size: int, seconds: float) -> int:
    """Returns the size of the next read, so that one takes a moment and not a minute, whatever the rate.

    Args:
        size: of the last read.
        seconds: it took.
    """
    if seconds < 0.1:  # noqa: PLR2004 - double what came fast, halve what made people wait
        return min(size * 2, LARGEST_READ)
    return max(size // 2, 1 << 10) if seconds > 0.5 else size  # noqa: PLR2004


def is_progress(gained: int) -> bool:
    """True when *gained* new bytes are reason enough to refill the retry budget."""
    return gained >= REFILL_BYTES


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """How far a transfer was at a time, both since any one start; seconds and bytes."""

    time: float
    received: int


def is_stalled(samples: Sequence[Sample], *, min_rate: float, window: float) -> bool:
    """True when a whole *window* (seconds) passed with fewer bytes than *min_rate* (bytes per second) allows.

    Args:
        samples: oldest first.
        min_rate: 0 for none.
        window: how long slowness is borne.
    """
    if not samples or not min_rate:
        return False
    last = samples[-1]
    base = next((sample for sample in reversed(samples) if sample.time <= last.time - window), None)
    return base is not None and last.received - base.received < min_rate * window


LOWEST_LIMIT: Final = 2
"""Connections that a host gets to begin with."""

LEVEL_SECONDS: Final = 0.2
"""How long a number of connections must at least have been in full use before its throughput is judged."""

LEVEL_READS: Final = 4
"""So many full reads per connection make a judgement; on a slow line `SLOW_LEVEL_SECONDS` must do."""

SLOW_LEVEL_SECONDS: Final = 3.0

CALM_SECONDS: Final = 10.0
"""How long after a setback, or a step that brought nothing, no further step is tried."""

_WORTHWHILE: Final = 1.15
"""The factor by which more connections must have raised the throughput."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ramp:
    """How many connections a host may have: doubled while its throughput grows, as TCP's slow start does, and no more.

    Attributes:
        limit: connections allowed now.
        previous: the limit before the last step.
        rate: bytes per second that the last judged level brought; 0 before the first.
        calm_until: no step before (seconds on the caller's clock).
    """

    limit: int = LOWEST_LIMIT
    previous: int = LOWEST_LIMIT
    rate: float = 0.0
    calm_until: float = 0.0


def is_judged(seconds: float, received: int, *, connections: int) -> bool:
    """True when a level has lasted long enough, and brought enough, for its throughput to mean something."""
    enough = received >= connections * LEVEL_READS * LARGEST_READ
    return seconds >= (LEVEL_SECONDS if enough else SLOW_LEVEL_SECONDS)


def after_level(ramp: Ramp, *, rate: float, now: float, most: int) -> Ramp:
    """Returns the ramp once its limit was in full use for `LEVEL_SECONDS`.

    Args:
        ramp: as it was.
        rate: bytes per second that all connections of the host brought together.
        now: seconds on the clock that `calm_until` is of.
        most: connections that the user allows.
    """
    if now < ramp.calm_until:
        return ramp
    has_stepped = ramp.limit > ramp.previous
    if has_stepped and rate < ramp.rate * _WORTHWHILE:
        return replace(ramp, limit=ramp.previous, calm_until=now + CALM_SECONDS)
    limit = min(ramp.limit * 2, most)
    return Ramp(limit=limit, previous=min(ramp.limit, limit), rate=rate, calm_until=ramp.calm_until)


def after_setback(ramp: Ramp, *, now: float) -> Ramp:
    """Returns the ramp after a 429, a reset or a stall: half the connections, and none more for a while."""
    limit = max(1, ramp.limit // 2)
    return Ramp(limit=limit, previous=limit, calm_until=now + CALM_SECONDS)
