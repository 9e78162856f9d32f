"""Who fetches what from where, next: a few threads share all wheels of a sync, and all connections go through here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from wheelcache.claims import Carrier, Claim, Revoked
from wheelcache.download import Download
from wheelcache.errors import NetworkError, StoreFullError, WheelcacheError
from wheelcache.events import Waiting, WheelFinished, WheelState
from wheelcache.faults import SourceFault
from wheelcache.lookup import LookUp
from wheelcache.outcome import WheelResult, not_tried
from wheelcache.pace import Halted
from wheelcache.shared import Shared
from wheelcache.writers import Taken

AGAIN: Final = "run the same command again: it continues where this one stopped"

_BUSY_SECONDS: Final = 0.3
"""How often a wheel that another process fetches is looked at."""

_LOOK_SECONDS: Final = 0.1
"""How often a thread without work looks for some."""


_TELL_SECONDS: Final = 10.0
"""How often it is said how far another process is."""

Work = Callable[[], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Elsewhere:
    """A wheel that another process fetches: which, when to say so again, and when to look whether it still does."""

    whom: str
    tell_at: float
    look_at: float = 0.0


class Dispatcher:
    """Hands out work to threads until every wheel is in the store or given up.

    Args:
        shared: what the downloads have in common.
        carrier: brings bytes.
        downloads: one per wheel, the largest first.
        guard: held while anything is decided.
    """

    def __init__(
        self, shared: Shared, carrier: Carrier, downloads: Sequence[Download], *, guard: threading.Condition
    ) -> None:
        self._shared = shared
        self._carrier = carrier
        self._guard = guard
        self._downloads = list(downloads)
        self._left = list(downloads)
        self._engaged: set[Download] = set()
        """Those that a thread opens or concludes: nobody else may touch them."""
        self._elsewhere: dict[Download, _Elsewhere] = {}
        """Those that another process fetches."""
        self._told: dict[str, float] = {}
        """Until when it was said that a host is waited for."""
        self._results: dict[Download, WheelResult] = {}
        self._full: StoreFullError | None = None
        self._defects: list[BaseException] = []

    def run(self) -> list[WheelResult]:
        """Works until all is done, or the sync is to end; returns a result per download, in order."""
        threads = [
            threading.Thread(target=self._serve, name=f"wheelcache-fetch-{number}", daemon=True)
            for number in range(self._shared.settings.connections)
        ]
        for thread in threads:
            thread.start()
        _join(threads, self._shared)
        with self._guard:
            begun = [download for download in self._left if download.is_open]
            for download in begun:
                download.abandon()
        for download in begun:
            download.close()
        defects = [*self._defects, *filter(None, [self._shared.watch.defect])]
        if defects:
            raise defects[0]
        with self._guard:
            results = {download: self._unfinished(download) for download in self._left} | self._results
        for download in begun:
            result = results[download]
            self._shared.emit(WheelFinished(filename=result.wheel.filename, state=result.state, error=result.error))
        return [results[download] for download in self._downloads]

    def _serve(self) -> None:
        try:
            while (work := self._next()) is not None:
                work()
        except Halted:
            return
        except BaseException as defect:  # noqa: BLE001 - raised again by the thread that called us
            self._defects.append(defect)
            self._shared.watch.halt("given up")
        finally:
            with self._guard:
                self._guard.notify_all()

    def _next(self) -> Work | None:
        """Waits for work; None when there is no more."""
        watch = self._shared.watch
        with self._guard:
            while self._left and self._full is None:
                watch.check()
                now = watch.clock()
                work = self._part(now) or self._start(now) or self._help(now)
                if work is not None:
                    return work
                self._say_what_is_waited_for(now)
                self._guard.wait(_LOOK_SECONDS)
            return None

    def _part(self, now: float) -> Work | None:
        """Returns a part of an open wheel that nobody fetches."""
        for download in self._idle():
            if not download.is_open:
                continue
            part = download.next_part(now)
            if part is not None:
                return self._work_of(download, part)
            if download.is_hopeless(now) and not download.begin_anew():
                return self._give_up(download)
        return None

    def _start(self, now: float) -> Work | None:
        """Returns the largest wheel that is not begun and can be."""
        for download in self._idle():
            elsewhere = self._elsewhere.get(download)
            if elsewhere is not None and elsewhere.look_at > now:
                continue
            if not download.is_open and download.can_start(now):
                self._engaged.add(download)
                return lambda: self._open(download)
        return None

    def _help(self, now: float) -> Work | None:
        """Returns half of what another connection needs longest for."""
        offers = [(offer, download) for download in self._idle() if (offer := download.next_share(now)) is not None]
        if not offers:
            return None
        (_, take), download = max(offers, key=lambda pair: pair[0][0])
        part = take()
        return self._work_of(download, part) if part is not None else None

    def _idle(self) -> list[Download]:
        return [download for download in self._left if download not in self._engaged]

    def _work_of(self, download: Download, part: Claim | LookUp) -> Work:
        if isinstance(part, LookUp):
            return lambda: self._look_up(download, part)
        return lambda: self._fetch(download, part)

    def _give_up(self, download: Download) -> Work:
        self._engaged.add(download)
        if download.is_unchecked:
            return lambda: self._conclude(download)
        return lambda: self._fail(download, download.failure())

    def _open(self, download: Download) -> None:
        wheel, store = download.wheel, self._shared.store
        try:
            lock = store.acquire(wheel.digest, timeout=0)
            if lock is None:
                self._put_back(download)
                return
            download.open(lock)
            if store.has(wheel):
                download.tell_present(store.size(wheel.digest) or 0)
                self._finish(download, WheelResult(wheel=wheel, state="cached"))
                return
            with self._guard:
                is_hopeless = download.is_hopeless(self._shared.watch.clock()) and not download.is_whole
            if is_hopeless:
                self._fail(download, download.failure())
                return
        except Taken:
            self._put_back(download)
            return
        except WheelcacheError as failure:
            self._fail(download, failure)
            return
        if download.is_whole:
            self._conclude(download)
        else:
            self._disengage(download)

    def _look_up(self, download: Download, part: LookUp) -> None:
        try:
            found, fault = download.look_up(part.source), None
        except SourceFault as error:
            found, fault = [], error
        with self._guard:
            download.learned(part.source, found, fault)
            self._guard.notify_all()

    def _fetch(self, download: Download, claim: Claim) -> None:
        """Brings one part; whoever brings the last one concludes the wheel."""
        fault: SourceFault | None = None
        failure: WheelcacheError | None = None
        is_due = claim.piece is None
        try:
            self._carrier.carry(
                claim, download.opened(), report=lambda fresh: download.receive(claim, fresh), learn=download.learn
            )
            is_due = is_due or download.compare(claim)
        except SourceFault as error:
            fault = error
        except Revoked:
            pass
        except WheelcacheError as error:
            failure = error
        finally:
            with self._guard:
                download.release(claim, fault)
                is_over = failure is not None or (is_due and download.is_whole)
                is_ours = is_over and download in self._left and download not in self._engaged
                if is_ours:
                    self._engaged.add(download)
                self._guard.notify_all()
        if is_ours and failure is not None:
            self._fail(download, failure)
        elif is_ours:
            self._conclude(download)

    def _conclude(self, download: Download) -> None:
        """Publishes a whole wheel, or begins to look for what is wrong with it."""
        try:
            found = download.conclude()
        except Taken:
            self._put_back(download)
            return
        except WheelcacheError as failure:
            self._fail(download, failure)
            return
        with self._guard:
            if found is not None:
                download.search(found)
                self._engaged.discard(download)
                self._guard.notify_all()
                return
            download.settle()
        state: WheelState = "resumed" if download.was_resumed else "downloaded"
        wheel = replace(download.wheel, size=download.opened().size)
        result = WheelResult(wheel=wheel, state=state, bytes_fetched=download.fetched, source=download.source)
        self._finish(download, result)

    def _put_back(self, download: Download) -> None:
        """Leaves a wheel to the process that fetches it, and says which that is, and now and then how far it is."""
        download.step_back()
        store, digest, now = self._shared.store, download.wheel.digest, self._shared.watch.clock()
        whom = store.describe_writer(digest)
        known = self._elsewhere.get(download)
        if known is None or known.whom != whom or now >= known.tell_at:
            share = f", {100 * store.partial_bytes(digest) // download.size} % there" if download.size else ""
            self._shared.emit(Waiting(filename=download.wheel.filename, seconds=0.0, reason=f"{whom}{share}"))
            known = _Elsewhere(whom=whom, tell_at=now + _TELL_SECONDS)
        with self._guard:
            self._elsewhere[download] = replace(known, look_at=now + _BUSY_SECONDS)
        self._disengage(download)

    def _disengage(self, download: Download) -> None:
        with self._guard:
            self._engaged.discard(download)
            self._guard.notify_all()

    def _fail(self, download: Download, failure: WheelcacheError) -> None:
        if isinstance(failure, StoreFullError):
            self._full = failure
        state: WheelState = "missing" if self._shared.offline else "failed"
        result = WheelResult(
            wheel=download.wheel,
            state=state,
            bytes_fetched=download.fetched,
            error=failure.message,
            failure=failure,
        )
        self._finish(download, result)

    def _finish(self, download: Download, result: WheelResult) -> None:
        with self._guard:
            download.abandon()
        download.close()
        with self._guard:
            self._results[download] = result
            self._left.remove(download)
            self._engaged.discard(download)
            self._guard.notify_all()
        self._shared.emit(WheelFinished(filename=result.wheel.filename, state=result.state, error=result.error))

    def _say_what_is_waited_for(self, now: float) -> None:
        """Says whom wheels wait for, once for all wheels that wait for the same."""
        for download in self._idle():
            notice = download.wait_notice(now)
            if notice is not None and self._told.get(notice.host, 0.0) <= now:
                self._told[notice.host] = now + notice.seconds
                self._shared.emit(notice)

    def _unfinished(self, download: Download) -> WheelResult:
        """Returns the result of a wheel that was not brought to its end."""
        wheel, watch = download.wheel, self._shared.watch
        if self._full is not None:
            return not_tried(wheel, self._full, bytes_fetched=download.fetched)
        kept = self._shared.store.partial_bytes(wheel.digest)
        error = f"{wheel.filename}: {watch.reason}; {kept} bytes are kept"
        failure = NetworkError(error, hint=AGAIN) if watch.is_expired else None
        return WheelResult(wheel=wheel, state="missing", bytes_fetched=download.fetched, error=error, failure=failure)


_GRACE_SECONDS: Final = 0.8
"""How long threads may take to end when asked to; who is stuck in a connect is left behind."""


def _join(threads: Sequence[threading.Thread], shared: Shared) -> None:
    """Waits for the threads; once the sync is to end, not much longer."""
    ends: float | None = None
    while alive := [thread for thread in threads if thread.is_alive()]:
        if shared.watch.halted.is_set():
            ends = ends or shared.watch.clock() + _GRACE_SECONDS
            if shared.watch.clock() >= ends:
                return
        alive[0].join(timeout=0.1)  # short, so that the main thread sees signals
