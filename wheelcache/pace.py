"""What all transfers of a sync share: who stops them, how fast they may be, and how slow."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from wheelcache.errors import StoreError
from wheelcache.faults import Fault, SourceFault
from wheelcache.partial import PIECE_BYTES
from wheelcache.rates import Sample, is_progress, is_stalled

if TYPE_CHECKING:
    from types import TracebackType

    from wheelcache.partial import Partial
    from wheelcache.transport import Answer

_TICK_SECONDS: Final = 0.1
_FLUSH_SECONDS: Final = 2.0
_FLUSH_BYTES: Final = 16 << 20
"""What comes is brought to the disk so often, and once it is so much, all partials together: a power cut costs about
that."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FetchSettings:
    """How to fetch; times in seconds, rates in bytes per second, 0 for none.

    Attributes:
        connections: at most, all files together.
        per_host: connections at most, per host.
        timeout: without a byte.
        deadline: for a whole sync.
        min_rate: slower than this over *rate_window* counts as stalled.
        limit_rate: all connections together.
        retries: failures in a row, without progress between them, that a source is borne.
        backoff: the first pause is at most this; later ones grow to *longest_pause*.
        reserve: bytes of the disk that are left free.
        piece: bytes of a piece of a new partial.
    """

    connections: int = 4
    per_host: int = 4
    timeout: float = 60.0
    deadline: float = 0.0
    min_rate: int = 20_000
    rate_window: float = 30.0
    limit_rate: int = 0
    retries: int = 8
    backoff: float = 0.5
    longest_pause: float = 10.0
    reserve: int = 16_000_000
    piece: int = PIECE_BYTES

    @property
    def rate_floor(self) -> float:
        """The rate below which one connection counts as stalled; never what our own limit makes of it."""
        if not self.limit_rate:
            return self.min_rate
        return min(self.min_rate, self.limit_rate / self.connections / 4)


@dataclass(frozen=True, kw_only=True, slots=True)
class Observed:
    """What came of one host in a moment.

    Attributes:
        received: bytes.
        connection_seconds: how long its connections took for them, added up.
        delivering: connections that bring a good many bytes and are not at their end.
        is_working: one of those brought some just now.
    """

    received: int = 0
    connection_seconds: float = 0.0
    delivering: int = 0
    is_working: bool = False


class Halted(Exception):  # noqa: N818 - somebody asked for it
    """The sync is to end now: it was interrupted, or its time is up."""


class Reading:
    """One answer's body while a worker reads it and the watch looks on."""

    def __init__(self, answer: Answer, host: str) -> None:
        self._answer = answer
        self._cause: Exception | None = None
        self.host = host
        self.received = 0
        self.observed = 0
        """Bytes that the watch has seen of it."""
        self.observed_at = 0.0
        """When that was."""
        self.samples: deque[Sample] = deque()

    def read(self, size: int) -> bytes:
        """Returns the next bytes; empty at the end.

        Raises:
            SourceFault: the source failed, or the watch gave it up.
            Halted: the sync is to end.
        """
        try:
            data = self._answer.read(size)
        except Exception:  # an abort in mid-read ends in whatever the TLS layer makes of it
            if self._cause is not None:
                raise self._cause from None
            raise
        if self._cause is not None:  # after an abort a TLS socket may hand out bytes that were never decrypted
            raise self._cause
        self.received += len(data)
        return data

    def give_up(self, cause: Exception) -> None:
        """Ends the body, from another thread; the worker gets *cause*."""
        if self._cause is None:
            self._cause = cause
            self._answer.abort()


class Watch:
    """Looks at all readings every moment: ends them when asked to stop, when time is up or when one has stalled.

    A context; leaving it ends its threads.

    Args:
        stop: set from outside, by a signal's handler for one.
        settings: the limits.
        observe: told every moment what came of each host since the last time, and how many seconds ago that was.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        *,
        stop: threading.Event,
        settings: FetchSettings,
        observe: Callable[[Mapping[str, Observed], float], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.halted = threading.Event()
        self.reason = ""
        """Why it halted, for people."""
        self.is_expired = False
        """True when it halted because the time for the whole sync was up."""
        self.clock = clock
        self._stop = stop
        self._settings = settings
        self._observe = observe
        self._ends = clock() + settings.deadline if settings.deadline else None
        self._guard = threading.Lock()
        self._readings: set[Reading] = set()
        self._ended: dict[str, Observed] = {}
        self.defect: BaseException | None = None
        """What went wrong in looking on; the sync was halted by it."""
        self._partials: set[Partial] = set()
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._look_on, name="wheelcache-watch", daemon=True),
            threading.Thread(target=self._flush, name="wheelcache-flush", daemon=True),
        ]

    def __enter__(self) -> Self:
        if self._stop.is_set():
            self.halt("interrupted")
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.halt("given up")
        self._over.set()
        self._threads[0].join()
        self._threads[1].join(timeout=1.0)  # may be in the midst of bringing a gigabyte to the disk

    def halt(self, reason: str) -> None:
        """Ends everything: readings now, workers at their next step."""
        if not self.halted.is_set():
            self.reason = reason
            self.halted.set()
        with self._guard:
            readings = list(self._readings)
        for reading in readings:
            reading.give_up(Halted(self.reason))

    def check(self) -> None:
        """Does nothing unless the sync is to end.

        Raises:
            Halted: it is.
        """
        if self.halted.is_set():
            raise Halted(self.reason)

    def sleep(self, seconds: float) -> None:
        """Waits, but not beyond the end of the sync.

        Raises:
            Halted: the sync is to end.
        """
        self.halted.wait(seconds)
        self.check()

    @contextmanager
    def reading(self, answer: Answer, host: str) -> Iterator[Reading]:
        """Watches an answer's body for as long as the context lasts."""
        reading = Reading(answer, host)
        reading.observed_at = self.clock()
        with self._guard:
            self._readings.add(reading)
        try:
            self.check()
            yield reading
        finally:
            with self._guard:
                self._readings.discard(reading)
                _observe(reading, self._ended, now=self.clock(), is_over=True)

    @contextmanager
    def flushing(self, partial: Partial) -> Iterator[None]:
        """Brings a partial's bytes to the disk again and again for as long as the context lasts."""
        with self._guard:
            self._partials.add(partial)
        try:
            yield
        finally:
            with self._guard:
                self._partials.discard(partial)

    def _look_on(self) -> None:
        try:
            self._keep_looking()
        except BaseException as defect:  # noqa: BLE001 - raised again by whoever runs the sync
            self.defect = defect
            self.halt("given up")

    def _keep_looking(self) -> None:
        looked = self.clock()
        while not self._over.wait(_TICK_SECONDS):
            if self._stop.is_set():
                self.halt("interrupted")
            elif self._ends is not None and self.clock() >= self._ends:
                self.is_expired = not self.halted.is_set() or self.is_expired
                self.halt(f"the deadline of {self._settings.deadline:g} s has passed")
            else:
                with self._guard:
                    readings = list(self._readings)
                for reading in readings:
                    self._sample(reading)
                now = self.clock()
                with self._guard:
                    observed, self._ended = self._ended, {}
                    for reading in self._readings:
                        _observe(reading, observed, now=now)
                self._observe(observed, now - looked)
                looked = now

    def _sample(self, reading: Reading) -> None:
        """Looks whether a body has stalled; one that trickles from the start may not have filled a single read."""
        now, window = self.clock(), self._settings.rate_window
        reading.samples.append(Sample(time=now, received=reading.received))
        if is_stalled(reading.samples, min_rate=self._settings.rate_floor, window=window):
            rate = (reading.received - reading.samples[0].received) / window
            reading.give_up(
                SourceFault(
                    Fault.SLOW,
                    f"expected {self._settings.rate_floor:,.0f} bytes/s, found {rate:,.0f} over {window:g} s",
                    hint="name a faster mirror, or lower min-rate",
                )
            )
        while len(reading.samples) > 1 and reading.samples[1].time <= now - window:
            reading.samples.popleft()

    def _flush(self) -> None:
        flushed = self.clock()
        while not self._over.wait(_TICK_SECONDS):
            is_time = self.clock() - flushed >= _FLUSH_SECONDS
            if is_time:
                flushed = self.clock()
            with self._guard:
                partials = list(self._partials)
            for partial in partials:
                if is_time or partial.unsynced * len(partials) >= _FLUSH_BYTES:
                    with suppress(
                        StoreError
                    ):  # the mark stays where it is; the worker meets the same disk and reports it
                        partial.flush()


def _observe(reading: Reading, observed: dict[str, Observed], *, now: float, is_over: bool = False) -> None:
    """Adds what came of a reading since it was last looked at."""
    known = observed.get(reading.host, Observed())
    count, reading.observed = reading.received - reading.observed, reading.received
    seconds, reading.observed_at = now - reading.observed_at, now
    observed[reading.host] = Observed(
        received=known.received + count,
        connection_seconds=known.connection_seconds + seconds,
        delivering=known.delivering + (is_progress(reading.received) and not is_over),
        is_working=known.is_working or (count > 0 and is_progress(reading.received)),
    )


class Throttle:
    """Keeps all connections together below a rate.

    Args:
        rate: bytes per second; 0 for none.
        clock: seconds, monotonic.
    """

    def __init__(self, rate: int, *, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._clock = clock
        self._guard = threading.Lock()
        self._paid_until = 0.0

    def largest_read(self, wanted: int) -> int:
        """Returns *wanted*, or less where so much at once would be seconds of the rate."""
        return min(wanted, max(self._rate // 16, 1 << 10)) if self._rate else wanted

    def delay(self, received: int) -> float:
        """Returns the seconds to wait after *received* bytes."""
        if not self._rate:
            return 0.0
        with self._guard:
            now = self._clock()
            self._paid_until = max(self._paid_until, now) + received / self._rate
            return self._paid_until - now
