"""Makes the store complete: which wheels are missing, whether they fit, who fetches what, and what became of each."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from wheelcache.digest import Digest
from wheelcache.errors import NetworkError, StoreFullError, WheelcacheError
from wheelcache.events import Sink, TransferFinished, TransferPlanned, Waiting, WheelFinished, WheelState
from wheelcache.index import Mirror, wheel_sizes
from wheelcache.lock import LockedWheel
from wheelcache.pace import FetchSettings, Halted, Hosts, Throttle, Watch
from wheelcache.store import Store

if TYPE_CHECKING:
    from wheelcache.download import Shared
    from wheelcache.transport import Transport

__all__ = ["FetchSettings", "Mirror", "WheelResult", "sync_wheels"]

_GRACE_SECONDS: Final = 0.8
"""How long workers may take to end when asked to; who is stuck in a connect is left behind."""
_BUSY_SECONDS: Final = 0.2
_SIZES_SECONDS: Final = 10.0
"""How long unknown sizes are asked for: they only serve to begin with the largest, and to look at the disk."""
_AGAIN: Final = "run the same command again: it continues where this one stopped"


@dataclass(frozen=True, kw_only=True, slots=True)
class WheelResult:
    """What became of one wheel.

    Attributes:
        wheel: as locked, with the URLs of all lockfiles that name its digest.
        state: `missing` means that it was not tried to the end.
        bytes_fetched: over the network, wasted ones included.
        source: where it came from, without credentials; empty when nothing had to come.
        error: why it is not there; empty when it is.
        failure: the same as an error with its exit code; None when it is there, or the sync was interrupted.
    """

    wheel: LockedWheel
    state: WheelState
    bytes_fetched: int = 0
    source: str = ""
    error: str = ""
    failure: WheelcacheError | None = None


def sync_wheels(
    wheels: Sequence[LockedWheel],
    *,
    store: Store,
    transport: Callable[[], Transport],
    mirrors: Sequence[Mirror],
    settings: FetchSettings,
    emit: Sink,
    stop: threading.Event,
    offline: bool = False,
) -> list[WheelResult]:
    """Makes *store* hold *wheels*, several at once, the largest first.

    Args:
        wheels: of any number of lockfiles; a digest is fetched once.
        store: where to.
        transport: makes the transport; called, once, only when something is to be fetched.
        mirrors: asked after a wheel's own URLs.
        settings: limits.
        emit: takes events, from any thread.
        stop: once set, this returns within a second or so with what is done.
        offline: nothing but `file:` URLs is read.

    Returns:
        One result per digest, in the order of *wheels*; failures are in them.

    Raises:
        StoreFullError: what is missing does not fit on the disk; nothing was fetched.
        StoreError: the store cannot be read.
    """
    unique = _merged(wheels)
    missing = [wheel for wheel in unique if not store.has(wheel)]
    absent = {wheel.digest for wheel in missing}
    results = {wheel.digest: _cached(wheel, emit) for wheel in unique if wheel.digest not in absent}
    if missing:
        made = _Once(transport)
        try:
            work = _Work(missing, store=store, transport=made, settings=settings, emit=emit, offline=offline)
            results |= work.run(mirrors=mirrors, stop=stop)
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


def _cached(wheel: LockedWheel, emit: Sink) -> WheelResult:
    emit(WheelFinished(filename=wheel.filename, state="cached"))
    return WheelResult(wheel=wheel, state="cached")


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


class _Work:
    """The wheels still to be had, and the threads that have them."""

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
        self._guard = threading.Lock()
        self._results: dict[Digest, WheelResult] = {}
        self._waited: set[Digest] = set()
        self._full: StoreFullError | None = None
        self._defects: list[BaseException] = []

    def run(self, *, mirrors: Sequence[Mirror], stop: threading.Event) -> dict[Digest, WheelResult]:
        from wheelcache.download import Shared  # noqa: PLC0415 - not needed when all is present

        with Watch(stop=stop, settings=self._settings) as watch:
            self._sizes = self._plan(watch)
            shared = Shared(
                store=self._store,
                transport=self._transport,
                mirrors=mirrors,
                settings=self._settings,
                emit=self._emit,
                watch=watch,
                hosts=Hosts(self._settings.per_host, clock=watch.clock),
                throttle=Throttle(self._settings.limit_rate, clock=watch.clock),
                offline=self._offline,
            )
            self._queue = deque(sorted(self._missing, key=lambda wheel: self._sizes.get(wheel.digest, 0), reverse=True))
            threads = [
                threading.Thread(target=self._worker, args=(shared,), name=f"wheelcache-fetch-{number}", daemon=True)
                for number in range(min(self._settings.connections, len(self._missing)))
            ]
            for thread in threads:
                thread.start()
            _join(threads, watch)
        if self._defects:
            raise self._defects[0]
        with self._guard:
            return {
                wheel.digest: self._results.get(wheel.digest) or self._left(wheel, watch) for wheel in self._missing
            }

    def _plan(self, watch: Watch) -> dict[Digest, int]:
        """Returns the sizes as far as they can be known, once the disk is seen to have room."""
        sizes = {wheel.digest: wheel.size for wheel in self._missing if wheel.size is not None}
        if len(sizes) < len(self._missing) and not self._offline:
            ends = watch.clock() + _SIZES_SECONDS
            sizes = wheel_sizes(
                self._missing,
                transport=self._transport(),
                attempts=1,
                give_up=lambda: watch.halted.is_set() or watch.clock() > ends,
            )
        present = {wheel.digest: self._store.partial_bytes(wheel.digest) for wheel in self._missing}
        needed = sum(max(size - present[digest], 0) for digest, size in sizes.items())
        free = self._store.free_bytes()
        if needed and needed + self._settings.reserve > free:
            raise StoreFullError(
                f"{self._store.root}: expected {needed:,} bytes free for {len(self._missing)} wheels "
                f"(and {self._settings.reserve:,} to spare), found {free:,}",
                hint="free some space, or choose another disk with --cache-dir",
                needed=needed,
                free=free,
            )
        self._emit(TransferPlanned(wheels=len(self._missing), size=sum(sizes.values()), present=sum(present.values())))
        return sizes

    def _worker(self, shared: Shared) -> None:
        try:
            busy = 0
            while not shared.watch.halted.is_set() and self._full is None:
                with self._guard:
                    if not self._queue:
                        return
                    wheel = self._queue.popleft()
                    others = len(self._queue)
                busy = 0 if self._take(wheel, shared) else busy + 1
                if busy > others:  # all that is left is with other processes
                    shared.watch.halted.wait(_BUSY_SECONDS)
        except BaseException as defect:  # noqa: BLE001 - raised again by the thread that called us
            self._defects.append(defect)
            shared.watch.halt("given up")

    def _take(self, wheel: LockedWheel, shared: Shared) -> bool:
        """Brings *wheel* to its end; False where another process is at it, and it was put back."""
        try:
            lock = self._store.acquire(wheel.digest, timeout=0)
            if lock is None:
                self._put_back(wheel)
                return False
            with lock:
                if self._store.has(wheel):
                    self._finish(WheelResult(wheel=wheel, state="cached"))
                else:
                    self._download(wheel, shared)
        except WheelcacheError as failure:
            self._fail(wheel, failure, 0)
        return True

    def _download(self, wheel: LockedWheel, shared: Shared) -> None:
        from wheelcache.download import Download  # noqa: PLC0415

        download = Download(wheel, shared, size=self._sizes.get(wheel.digest))
        try:
            outcome = download.run()
        except Halted as halted:
            self._finish(self._halted(wheel, shared.watch, str(halted), download.fetched))
        except WheelcacheError as failure:
            self._fail(wheel, failure, download.fetched)
        else:
            self._finish(
                WheelResult(
                    wheel=wheel,
                    state="resumed" if outcome.resumed else "downloaded",
                    bytes_fetched=download.fetched,
                    source=outcome.source,
                )
            )

    def _put_back(self, wheel: LockedWheel) -> None:
        with self._guard:
            self._queue.append(wheel)
            is_news = wheel.digest not in self._waited
            self._waited.add(wheel.digest)
        if is_news:
            self._emit(Waiting(filename=wheel.filename, seconds=0.0, reason="another process is fetching it"))

    def _fail(self, wheel: LockedWheel, failure: WheelcacheError, fetched: int) -> None:
        if isinstance(failure, StoreFullError):
            self._full = failure
        state: WheelState = "missing" if self._offline else "failed"
        self._finish(
            WheelResult(wheel=wheel, state=state, bytes_fetched=fetched, error=failure.message, failure=failure)
        )

    def _finish(self, result: WheelResult) -> None:
        with self._guard:
            self._results[result.wheel.digest] = result
        self._emit(WheelFinished(filename=result.wheel.filename, state=result.state, error=result.error))

    def _halted(self, wheel: LockedWheel, watch: Watch, reason: str, fetched: int) -> WheelResult:
        error = f"{wheel.filename}: {reason}; {self._store.partial_bytes(wheel.digest)} bytes are kept"
        failure = NetworkError(error, hint=_AGAIN) if watch.is_expired else None
        return WheelResult(wheel=wheel, state="missing", bytes_fetched=fetched, error=error, failure=failure)

    def _left(self, wheel: LockedWheel, watch: Watch) -> WheelResult:
        """Returns the result of a wheel that no worker brought to its end."""
        if self._full is not None:
            error = f"{wheel.filename}: not tried, the disk is full"
            return WheelResult(wheel=wheel, state="missing", error=error, failure=self._full)
        return self._halted(wheel, watch, watch.reason, 0)


def _join(threads: Sequence[threading.Thread], watch: Watch) -> None:
    """Waits for the workers; once the sync is to end, not much longer."""
    ends: float | None = None
    while alive := [thread for thread in threads if thread.is_alive()]:
        if watch.halted.is_set():
            ends = ends or watch.clock() + _GRACE_SECONDS
            if watch.clock() >= ends:
                return
        alive[0].join(timeout=0.1)  # short, so that the main thread sees signals
