"""One wheel's way into the store: from source to source until its bytes are there or no source is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from wheelcache.errors import IntegrityError, NetworkError, WheelcacheError
from wheelcache.events import Note, Sink, Waiting, WheelProgress, WheelStarted
from wheelcache.index import Mirror, mirror_urls
from wheelcache.lock import LockedWheel
from wheelcache.pace import FetchSettings, Hosts, Throttle, Watch
from wheelcache.store import Store
from wheelcache.transfer import (
    FIRST_READ,
    Body,
    Fault,
    Source,
    SourceFault,
    Whole,
    after_fault,
    choose_source,
    host_of,
    is_progress,
    judge_answer,
    judge_beginning,
    judge_end,
    next_read,
    public_url,
    rest_of,
)

if TYPE_CHECKING:
    from tenacity import RetryCallState

    from wheelcache.partial import Partial
    from wheelcache.transport import Answer, Transport

_QUIET_SECONDS: Final = 0.5
"""Pauses shorter than this are not worth an event."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shared:
    """What the downloads of one sync have in common."""

    store: Store
    transport: Callable[[], Transport]
    mirrors: Sequence[Mirror]
    settings: FetchSettings
    emit: Sink
    watch: Watch
    hosts: Hosts
    throttle: Throttle
    offline: bool
    now: Callable[[], float] = time.time


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """A wheel that is in the store now.

    Attributes:
        resumed: bytes of an earlier run are in it.
        source: where the last bytes came from, without credentials; empty when none had to come.
    """

    resumed: bool
    source: str


class Download:
    """The download of one wheel; the caller holds its digest's lock.

    Args:
        wheel: which.
        shared: with what.
        size: the wheel's size as far as known, for people only; the lockfile's word alone is trusted.
    """

    def __init__(self, wheel: LockedWheel, shared: Shared, *, size: int | None) -> None:
        self.fetched = 0
        """Bytes that came over the network, wasted ones included."""
        self._wheel = wheel
        self._shared = shared
        self._watch = shared.watch
        self._size = size
        self._sources = [Source(url=url) for url in wheel.urls if not shared.offline or _is_local(url)]
        if not shared.offline:
            self._sources += [Source(url=mirror.url, is_lookup=True) for mirror in shared.mirrors]
        self._givers: set[str] = set()
        """Whose bytes are in the partial; the empty string stands for an earlier run's."""
        self._one_giver = False
        """A mixture turned out wrong: from now on all bytes are to be of one source, so that it can be told which."""

    def run(self) -> Outcome:
        """Fetches, verifies and publishes the wheel.

        Raises:
            NetworkError: every source failed; what came stays for the next run.
            IntegrityError: every source failed, one of them with wrong bytes; none of them is kept.
            StoreError: the disk failed or is full; what came stays.
            Halted: the sync is to end; what came stays.
        """
        partial = self._shared.store.partial(self._wheel)
        try:
            if partial.length:
                self._givers = {""}
            self._shared.emit(
                WheelStarted(
                    filename=self._wheel.filename,
                    size=self._wheel.size or self._size or 0,
                    present=partial.length,
                    source=public_url(self._sources[0].url) if self._sources else "",
                )
            )
            with self._watch.flushing(partial):
                source = self._fill(partial)
            self._shared.store.publish(self._wheel, partial)
            return Outcome(resumed="" in self._givers, source=source)
        finally:
            partial.close()

    def _fill(self, partial: Partial) -> str:
        """Makes *partial* whole and right; returns its last source."""
        from tenacity import Retrying, retry_if_exception_type, wait_random_exponential  # noqa: PLC0415 - 40 ms

        settings = self._shared.settings
        backoff = wait_random_exponential(multiplier=settings.backoff, max=settings.longest_pause)
        while True:  # each round begins with a full budget: an attempt that made progress returns, and refills it
            retrying = Retrying(
                retry=retry_if_exception_type(SourceFault),
                stop=lambda state: state.attempt_number >= settings.retries + len(self._sources),
                wait=lambda state: self._pause(backoff, state),
                sleep=self._watch.sleep,
                reraise=True,
            )
            try:
                done = retrying(self._attempt, partial)
            except SourceFault as fault:
                raise self._failure(partial) from fault
            if done is not None:
                return done

    def _attempt(self, partial: Partial) -> str | None:
        """Asks one source once; returns its URL when the wheel is whole, None when it is merely nearer.

        Raises:
            SourceFault: it is no nearer.
            WheelcacheError: no source is left.
        """
        self._watch.check()
        if partial.length and partial.length == self._wheel.size:
            return self._verified(partial, None)
        source = self._next_source()
        if source is None:
            raise self._failure(partial)
        if source.is_lookup:
            self._look_up(source)
            return None
        if self._one_giver and partial.length and self._givers != {source.url}:
            self._restart(partial)
        before = partial.length
        try:
            with self._shared.hosts.slot(host_of(source.url), self._watch):
                self._transfer(source, partial)
        except SourceFault as fault:
            progressed = is_progress(partial.length - before)
            self._note_fault(source, fault, progressed=progressed)
            if progressed:
                return None
            raise
        return self._verified(partial, source)

    def _next_source(self) -> Source | None:
        return choose_source(self._sources, now=self._watch.clock(), hosts=self._shared.hosts.states())

    def _look_up(self, source: Source) -> None:
        """Puts the URLs that a mirror gives for the file in the mirror's place.

        Raises:
            SourceFault: it cannot be asked, or does not offer the file.
        """
        try:
            urls = self._urls_of(source)
        except SourceFault as fault:
            self._note_fault(source, fault, progressed=False)
            raise
        known = {other.url for other in self._sources}
        place = self._sources.index(source)
        self._sources[place : place + 1] = [
            Source(url=url, mirror=source.url) for url in dict.fromkeys(urls) if url not in known
        ]

    def _urls_of(self, source: Source) -> tuple[str, ...]:
        mirror = next(mirror for mirror in self._shared.mirrors if mirror.url == source.url)
        wheel = self._wheel
        urls = mirror_urls(wheel.name, wheel.filename, wheel.digest, mirror, transport=self._shared.transport())
        if not urls:
            raise SourceFault(Fault.REFUSED, f"expected {wheel.filename}, found no such file of that digest")
        return urls

    def _transfer(self, source: Source, partial: Partial) -> None:
        """Reads one answer to its end into *partial*."""
        offset = 0 if source.from_zero else partial.length
        with self._shared.transport().open(source.url, offset=offset) as answer:
            self._watch.check()
            verdict = judge_answer(
                answer.status,
                answer.headers,
                offset=partial.length,
                size=self._wheel.size,
                now=self._shared.now(),
                from_zero=source.from_zero,
            )
            if not isinstance(verdict, Whole):
                self._read(source, answer, verdict, partial)

    def _read(self, source: Source, answer: Answer, body: Body, partial: Partial) -> None:
        size = self._wheel.size if self._wheel.size is not None else body.total
        position = body.start
        amount = FIRST_READ
        clock, throttle = self._watch.clock, self._shared.throttle
        with self._watch.reading(answer) as reading:
            while body.end is None or position < body.end:
                began = clock()
                data = reading.read(throttle.largest_read(amount))
                if not data:
                    break
                amount = next_read(amount, clock() - began)
                self.fetched += len(data)
                if not position:
                    judge_beginning(data)
                if reading.received == len(data):
                    self._shared.hosts.worked(host_of(source.url))
                position += len(data)
                if size is not None and position > size:
                    raise SourceFault(Fault.FOREIGN, f"expected {size} bytes, found more")
                self._append(source, data[max(partial.length - (position - len(data)), 0) :], partial)
                if delay := throttle.delay(len(data)):
                    self._watch.sleep(delay)
        judge_end(position, end=body.end, size=size)

    def _append(self, source: Source, data: bytes, partial: Partial) -> None:
        if data:
            self._givers.add(source.url)
            partial.append(data)
            self._shared.emit(WheelProgress(filename=self._wheel.filename, received=len(data)))

    def _verified(self, partial: Partial, source: Source | None) -> str:
        """Returns where the last bytes came from, once the digest is right.

        Raises:
            SourceFault: it is wrong; nothing is kept, and who gave all the bytes is not asked again.
        """
        found = partial.digest()
        if found == self._wheel.digest:
            return public_url(source.url) if source else ""
        length, givers = partial.length, self._givers
        self._restart(partial)
        fault = SourceFault(
            Fault.DIGEST,
            f"expected {self._wheel.digest}, found {found} ({length} bytes)",
            hint="whoever serves this file serves another one under its name: lock again only if you trust that one",
        )
        if source is not None and givers == {source.url}:
            self._note_fault(source, fault, progressed=False)
        else:
            self._one_giver = True
            self._note(f"the bytes gathered so far are wrong and were dropped: {fault.message}")
        raise fault

    def _restart(self, partial: Partial) -> None:
        self._shared.emit(WheelProgress(filename=self._wheel.filename, received=-partial.length))
        partial.restart()
        self._givers = set()

    def _note_fault(self, source: Source, fault: SourceFault, *, progressed: bool) -> None:
        place = self._sources.index(source)
        self._sources[place] = after_fault(source, fault, now=self._watch.clock(), progressed=progressed)
        if not progressed:
            self._shared.hosts.failed(host_of(source.url), fault)
        if fault.fault is Fault.REFUSED and source.mirror and source.url in self._givers:
            self._sources.append(Source(url=source.mirror, is_lookup=True))  # a signed URL that served has expired
        self._note(f"{public_url(source.url)}: {fault.fault}: {fault.message}")

    def _note(self, sentence: str) -> None:
        self._shared.emit(Note(level="warning", message=f"{self._wheel.filename}: {sentence}"))

    def _pause(self, backoff: Callable[[RetryCallState], float], state: RetryCallState) -> float:
        """Returns the seconds until the next attempt: none while a source is untried and its host does not rest."""
        source = self._next_source()
        if source is None:
            return 0.0
        seconds = rest_of(source, now=self._watch.clock(), hosts=self._shared.hosts.states())
        if source.faults:
            seconds = max(seconds, backoff(state))
        if seconds >= _QUIET_SECONDS:
            reason = source.last.fault.value if source.last else "its server asked for a pause"
            self._shared.emit(Waiting(filename=self._wheel.filename, seconds=seconds, reason=reason))
        return seconds

    def _failure(self, partial: Partial) -> WheelcacheError:
        """Returns the error that says what became of each source."""
        name = self._wheel.filename
        if not self._sources:
            if self._shared.offline:
                return NetworkError(
                    f"{name}: not in the store, and --offline forbids fetching it",
                    hint="run the same command without --offline",
                )
            return NetworkError(f"{name}: the lockfile gives no URL for it", hint="name a mirror that has it")
        faults = [(public_url(source.url), source.last) for source in self._sources if source.last]
        lines = [f"  {url}: {fault.fault}: {fault.message}" for url, fault in faults]
        hints = [fault.hint for _, fault in faults if fault.hint]
        kept = f"; {partial.length} bytes are kept for the next run" if partial.length else ""
        message = "\n".join([f"{name}: every source failed{kept}", *lines])
        hint = hints[0] if hints else "check the network, or name another mirror, then run the same command again"
        if any(fault.fault is Fault.DIGEST for _, fault in faults):
            return IntegrityError(message, hint=hint, digest=self._wheel.digest, filename=name)
        return NetworkError(message, hint=hint, digest=self._wheel.digest, filename=name)


def _is_local(url: str) -> bool:
    return url.startswith("file:")
