"""Makes the store complete: which wheels are missing, whether they fit, who fetches what, and what became of each."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from wheelcache.digest import Digest
from wheelcache.errors import StoreError, StoreFullError
from wheelcache.events import Sink, TransferFinished, TransferPlanned, TransferStatus, WheelFinished
from wheelcache.index import wheel_sizes
from wheelcache.lock import LockedWheel
from wheelcache.outcome import WheelResult, not_tried
from wheelcache.pace import FetchSettings, Observed, Throttle, Watch
from wheelcache.rates import Sample
from wheelcache.room import no_room
from wheelcache.store import Store

if TYPE_CHECKING:
    from wheelcache.transport import Transport

__all__ = ["FetchSettings", "WheelResult", "sync_wheels"]

_SIZES_SECONDS: Final = 10.0
"""How long unknown sizes are asked for: they only serve to share the work, and to look at the disk."""

_RATE_SECONDS: Final = 5.0
"""The window over which the rate is taken that people see."""

_STATUS_SECONDS: Final = 1.0
"""How often a sync says how it does."""


def sync_wheels(
    wheels: Sequence[LockedWheel],
    *,
    store: Store,
    transport: Callable[[], Transport],
    mirrors: Sequence[str],
    settings: FetchSettings,
    emit: Sink,
    stop: threading.Event,
    offline: bool = False,
    indexes: Sequence[str] = (),
) -> list[WheelResult]:
    """Makes *store* hold *wheels*, several at once, the largest first.

    Args:
        wheels: of any number of lockfiles; a digest is fetched once.
        store: where to.
        transport: makes the transport; called, once, only when something is to be fetched.
        mirrors: roots of Simple APIs that serve the same files; each is asked for every wheel, the digest decides.
        settings: limits.
        emit: takes events, from any thread.
        stop: once set, this returns within a second or so with what is done.
        offline: nothing but `file:` URLs is read.
        indexes: roots of Simple APIs to ask where a wheel is now, when its own URL is refused: it may have expired.

    Returns:
        One result per digest, in the order of *wheels*; failures are in them, among them that the disk is too small.

    Raises:
        StoreError: the store cannot be read.
    """
    unique = _merged(wheels)
    missing = [wheel for wheel in unique if not store.has(wheel)]
    absent = {wheel.digest for wheel in missing}
    present = [wheel for wheel in unique if wheel.digest not in absent]
    results = {wheel.digest: _cached(wheel, store, emit) for wheel in present}
    if missing:
        made = _Once(transport)
        try:
            sync = _Sync(missing, store=store, transport=made, settings=settings, emit=emit, offline=offline)
            try:
                fetched = sync.run(mirrors=mirrors, indexes=indexes, stop=stop)
            except StoreFullError as full:
                fetched = [not_tried(wheel, full) for wheel in missing]
            results |= {result.wheel.digest: result for result in fetched}
        finally:
            made.close()
            emit(TransferFinished(fetched=sum(result.bytes_fetched for result in results.values())))
    done = [digest for digest, result in results.items() if not result.error]
    if done:
        store.touch(done)
    return [results[wheel.digest] for wheel in unique]


def _merged(wheels: Sequence[LockedWheel]) -> list[LockedWheel]:
    """Returns one wheel per digest, with all URLs and the size that any lockfile knows."""
    merged: dict[Digest, LockedWheel] = {}
    for wheel in wheels:
        known = merged.setdefault(wheel.digest, wheel)
        if known is not wheel:
            urls = tuple(dict.fromkeys((*known.urls, *wheel.urls)))
            merged[wheel.digest] = replace(known, urls=urls, size=wheel.size if known.size is None else known.size)
    return list(merged.values())


def _cached(wheel: LockedWheel, store: Store, emit: Sink) -> WheelResult:
    emit(WheelFinished(filename=wheel.filename, state="cached"))
    sized = wheel if wheel.size is not None else replace(wheel, size=store.size(wheel.digest))
    return WheelResult(wheel=sized, state="cached")


class _Once:
    """Makes a transport when it is first asked for, from any thread."""

    def __init__(self, make: Callable[[], Transport]) -> None:
        self._make = make
        self._guard = threading.Lock()
        self._made: Transport | None = None

    def __call__(self) -> Transport:
        with self._guard:
            if self._made is None:
                self._made = self._make()
            return self._made

    def close(self) -> None:
        if self._made is not None:
            self._made.close()


class _Sync:
    """One sync of wheels that are missing: what it takes is made, watched and put together here."""

    def __init__(
        self,
        missing: Sequence[LockedWheel],
        *,
        store: Store,
        transport: Callable[[], Transport],
        settings: FetchSettings,
        emit: Sink,
        offline: bool,
    ) -> None:
        self._missing = missing
        self._store = store
        self._transport = transport
        self._settings = settings
        self._emit = emit
        self._offline = offline
        self._guard = threading.Condition()
        from wheelcache.hosts import Hosts  # noqa: PLC0415 - not needed when all is present

        self._clock = time.monotonic
        now, records = time.time(), store.host_records()
        self._hosts = Hosts(settings.per_host, records=records, now=now, learns_speed=not settings.limit_rate)
        self._recent: deque[Sample] = deque()
        self._present: dict[Digest, int] = {}
        self._received = 0
        self._told = 0.0

    def run(self, *, mirrors: Sequence[str], indexes: Sequence[str], stop: threading.Event) -> list[WheelResult]:
        """Fetches what is missing; returns a result per wheel."""
        from wheelcache.claims import Carrier  # noqa: PLC0415 - not needed when all is present
        from wheelcache.dispatch import Dispatcher  # noqa: PLC0415
        from wheelcache.download import Download  # noqa: PLC0415
        from wheelcache.shared import Shared  # noqa: PLC0415

        settings = self._settings
        with Watch(stop=stop, settings=settings, observe=self._observe) as watch:
            sizes = self._plan(watch)
            shared = Shared(
                store=self._store,
                transport=self._transport,
                mirrors=mirrors,
                indexes=indexes,
                settings=settings,
                emit=self._emit,
                watch=watch,
                hosts=self._hosts,
                offline=self._offline,
                pause=self._pause,
            )
            throttle = Throttle(settings.limit_rate, clock=watch.clock)
            carrier = Carrier(transport=self._transport, watch=watch, throttle=throttle, now=time.time)
            wheels = sorted(self._missing, key=lambda wheel: sizes.get(wheel.digest, 0), reverse=True)
            downloads = [
                Download(wheel, shared, size=sizes.get(wheel.digest), planned=self._present[wheel.digest])
                for wheel in wheels
            ]
            try:
                results = Dispatcher(shared, carrier, downloads, guard=self._guard).run()
            finally:
                with self._guard, suppress(StoreError):  # good to have, and no reason to fail
                    self._store.keep_host_records(self._hosts.records(now=time.time()))
        if not any(isinstance(result.failure, StoreFullError) for result in results):
            return results
        left = {download.wheel.digest: download.size for download in downloads}
        full = self._no_room({result.wheel.digest: left[result.wheel.digest] for result in results if result.error})
        return [
            replace(result, failure=full) if isinstance(result.failure, StoreFullError) else result
            for result in results
        ]

    def _no_room(self, sizes: Mapping[Digest, int]) -> StoreFullError:
        """Returns the error of a disk that has no room for wheels, whose sizes are given; 0 where unknown."""
        needed = sum(self._store.room_for(digest, size) for digest, size in sizes.items())
        return no_room(
            self._store.root,
            needed=needed,
            free=self._store.free_bytes(),
            reserve=self._settings.reserve,
            purpose=f"{len(sizes)} wheel{'s' if len(sizes) != 1 else ''}",
            elsewhere="choose another disk with --cache-dir",
            is_least=not all(sizes.values()),
        )

    def _plan(self, watch: Watch) -> dict[Digest, int]:
        """Returns the sizes as far as they can be known, once the disk is seen to have room."""
        sizes = {wheel.digest: wheel.size for wheel in self._missing if wheel.size is not None}
        if len(sizes) < len(self._missing) and not self._offline:
            ends = watch.clock() + _SIZES_SECONDS
            sizes = wheel_sizes(
                self._missing,
                transport=self._transport(),
                attempts=1,
                parallel=min(self._settings.connections, self._settings.per_host),
                give_up=lambda: watch.halted.is_set() or watch.clock() > ends,
            )
        present = {wheel.digest: self._store.partial_bytes(wheel.digest) for wheel in self._missing}
        self._present = present
        needed = sum(self._store.room_for(digest, size) for digest, size in sizes.items())
        free = self._store.free_bytes()
        if needed and needed + self._settings.reserve > free:
            raise self._no_room({wheel.digest: sizes.get(wheel.digest, 0) for wheel in self._missing})
        self._emit(TransferPlanned(wheels=len(self._missing), size=sum(sizes.values()), present=sum(present.values())))
        return sizes

    def _observe(self, observed: Mapping[str, Observed], seconds: float) -> None:
        """Lets the hosts learn from what came in, and says about once a second how the sync does."""
        now = self._clock()
        with self._guard:
            self._hosts.observe(observed, seconds=seconds, now=now)
            connections = {host: state.active for host, state in self._hosts.states().items() if state.active}
        self._received += sum(what.received for what in observed.values())
        self._recent.append(Sample(time=now, received=self._received))
        while len(self._recent) > 1 and self._recent[1].time <= now - _RATE_SECONDS:
            self._recent.popleft()
        if now - self._told >= _STATUS_SECONDS:
            self._told = now
            first = self._recent[0]
            rate = (self._received - first.received) / (now - first.time) if now > first.time else 0.0
            self._emit(TransferStatus(received=self._received, rate=rate, connections=connections))

    def _pause(self, failures: int) -> float:
        """Returns the seconds to wait after so many failures in a row: twice as many each time, with jitter."""
        from tenacity import RetryCallState, Retrying, wait_exponential, wait_random  # noqa: PLC0415 - 40 ms

        first, longest = self._settings.backoff, self._settings.longest_pause
        state = RetryCallState(Retrying(), None, (), {})
        state.attempt_number = max(failures, 1)
        return (wait_exponential(multiplier=first, max=longest) + wait_random(0, first))(state)
