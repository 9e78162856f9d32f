"""The sources of one wheel: which are left, which is asked next, and what became of those that failed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Final

from wheelcache.errors import IntegrityError, NetworkError, WheelcacheError
from wheelcache.events import Waiting
from wheelcache.faults import Fault, SourceFault, public_url
from wheelcache.hosts import Hosts
from wheelcache.lock import LockedWheel
from wheelcache.sources import OPEN_AFTER, Source, after_fault, choose_source, is_best, is_hopeless

_QUIET_SECONDS: Final = 0.5
"""Pauses shorter than this are not worth an event."""


class Roster:
    """The sources of one wheel; used by one thread at a time.

    Args:
        urls: of the file, best first.
        mirrors: roots that have yet to be asked where they have it.
        indexes: roots to ask once a URL is refused, since it may have expired.
        hosts: how hosts do.
        retries: failures in a row that a source is borne.
        pause: returns the seconds to wait after so many failures in a row.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        mirrors: Sequence[str],
        indexes: Sequence[str],
        hosts: Hosts,
        retries: int,
        pause: Callable[[int], float],
    ) -> None:
        self.sources = [Source(url=url) for url in urls] + [Source(url=url, is_lookup=True) for url in mirrors]
        """In order of preference."""
        self._indexes = indexes
        self._hosts = hosts
        self._budget = retries + 1
        self._pause = pause
        self._has_asked_indexes = False
        self._told = 0.0

    def choose(self, now: float, *, may_look_up: bool = True, avoid: Collection[str] = ()) -> Source | None:
        """Returns the best source that may be asked now; None where it is better to wait, or none is left.

        Args:
            now: seconds on the clock that rests are of.
            may_look_up: False where it is not worth asking a mirror while others serve.
            avoid: URLs that must not be asked.
        """
        states = self._hosts.states()
        source = choose_source(self.sources, now=now, hosts=states, may_look_up=may_look_up, avoid=avoid)
        if source is not None and source.from_zero and (self._promising(now) or self.lookups()):
            return None  # all that is there would be fetched again
        return source

    def choose_for_piece(self, now: float, *, among: Collection[str]) -> Source | None:
        """Returns the best source of those URLs that may be asked now for a piece in the middle."""
        able = [source for source in self.able(now) if source.url in among]
        return choose_source(able, now=now, hosts=self._hosts.states())

    def choose_lookup(self, now: float) -> Source | None:
        """Returns the mirror that may be asked now where it has the file."""
        return choose_source(self.lookups(), now=now, hosts=self._hosts.states())

    def is_best(self, source: Source, now: float) -> bool:
        """True when no other source is expected to do better."""
        serving = [other for other in self.sources if not other.is_lookup]
        return is_best(source, serving, now=now, hosts=self._hosts.states())

    def is_spent(self, now: float) -> bool:
        """True when no source is left that is worth asking."""
        return all(self._is_hopeless(source, now) for source in self.sources)

    def able(self, now: float) -> list[Source]:
        """Returns those that can still be asked for any part of the file."""
        return [
            source
            for source in self.sources
            if not source.is_lookup and not source.from_zero and not self._is_hopeless(source, now)
        ]

    def lookups(self) -> list[Source]:
        """Returns the mirrors that have yet to be asked."""
        return [source for source in self.sources if source.is_lookup and not source.is_dead]

    def from_zero(self) -> list[Source]:
        """Returns those that can be asked for the whole file only."""
        return [source for source in self.sources if source.from_zero and not source.is_dead]

    def find(self, url: str) -> Source | None:
        """Returns the source of *url* as it stands."""
        return next((source for source in self.sources if source.url == url), None)

    def worked(self, url: str) -> None:
        """Notes that a part came to its end."""
        source = self.find(url)
        if source is not None:
            self._put(source, replace(source, faults=0, fruitless=0))

    def failed(self, asked: Source, fault: SourceFault, *, now: float, progressed: bool, gave: bool) -> None:
        """Notes a failure.

        Args:
            asked: the source as it stood when it was asked.
            fault: what came of it.
            now: seconds on the clock that rests are of.
            progressed: a good many new bytes came before it.
            gave: the source gave bytes at any time: a URL that is refused now has expired.
        """
        source = self.find(asked.url)
        if source is None:
            return
        rest = fault.retry_after or self._pause(source.faults + 1)
        then = replace(source, from_zero=asked.from_zero)
        after = after_fault(then, fault, rests_until=now + rest, progressed=progressed)
        self._put(source, replace(after, from_zero=after.from_zero or source.from_zero))
        self._hosts.failed(source.host, fault, now=now, progressed=progressed, pause=self._pause)
        if fault.fault is Fault.REFUSED and not source.is_lookup:
            self._look_up_again(source, gave=gave)

    def revive(self) -> bool:
        """Gives those another chance who only spoke of another size than was believed; true when there are such."""
        doubted = [source for source in self.sources if source.last is not None and source.last.fault is Fault.SIZE]
        for source in doubted:
            self._put(source, replace(source, faults=0, fruitless=0, rests_until=0.0))
        return bool(doubted)

    def looked_up(self, mirror: Source, found: Sequence[Source]) -> None:
        """Puts what a mirror named in its place."""
        known = {source.url for source in self.sources}
        place = self.sources.index(mirror)
        self.sources[place : place + 1] = [source for source in found if source.url not in known]

    def notice(self, filename: str, now: float) -> Waiting | None:
        """Returns what to say while all sources rest; None when that was said already, or is no news."""
        rests = {
            source: max(source.rests_until, host.rests_until, host.asked_until)
            for source in self.sources
            if not source.is_dead
            for host in (self._hosts.state(source.host),)
        }
        source = min(rests, key=lambda each: rests[each], default=None)
        if source is None or rests[source] - now < _QUIET_SECONDS or rests[source] <= self._told:
            return None
        self._told = rests[source]
        last = source.last or self._hosts.state(source.host).last
        reason = last.reason if last else "its server asked for a pause"
        return Waiting(filename=filename, seconds=rests[source] - now, reason=reason, host=source.host)

    def failure(self, wheel: LockedWheel, *, kept: int, is_disputed: bool, is_offline: bool) -> WheelcacheError:
        """Returns the error that says what became of each source.

        Args:
            wheel: that none of them gave.
            kept: bytes of it that the next run will not fetch again.
            is_disputed: what they gave has another digest.
            is_offline: nobody else may be asked.
        """
        name = wheel.filename
        if not self.sources:
            if is_offline:
                return NetworkError(
                    f"{name}: not in the store, and --offline forbids fetching it",
                    hint="run the same command without --offline",
                )
            return NetworkError(f"{name}: the lockfile gives no URL for it", hint="name a mirror that has it")
        faults = [(public_url(source.url), source.last) for source in self.sources if source.last is not None]
        lines = [f"  {url}: {fault.fault}: {fault.message}" for url, fault in faults]
        if is_disputed:
            silent = [public_url(source.url) for source in self.sources if source.last is None]
            lines += [f"  {url}: what it and others gave has another digest" for url in silent]
        said = f"; {kept} bytes are kept for the next run" if kept else ""
        hints = [fault.hint for _, fault in faults if fault.hint]
        is_wrong = is_disputed or any(fault.fault is Fault.DIGEST for _, fault in faults)
        kind = IntegrityError if is_wrong else NetworkError
        return kind(
            "\n".join([f"{name}: every source failed{said}", *lines]),
            hint=hints[0] if hints else "check the network, or name another mirror, then run the same command again",
            digest=wheel.digest,
            filename=name,
        )

    def has_only_lasting_faults(self) -> bool:
        """True when none failed for a reason that may be gone in the next run: it might know better than the others."""
        passing = [source for source in self.sources if not source.is_dead and source.last is not None]
        return bool(self.sources) and not passing

    def _promising(self, now: float) -> list[Source]:
        """Returns those that can give any part, and are not known to be gone."""
        return [
            source
            for source in self.able(now)
            if max(source.fruitless, self._hosts.state(source.host).faults) < OPEN_AFTER
        ]

    def _is_hopeless(self, source: Source, now: float) -> bool:
        return is_hopeless(source, self._hosts.state(source.host), now=now, budget=self._budget)

    def _put(self, old: Source, new: Source) -> None:
        self.sources[self.sources.index(old)] = new

    def _look_up_again(self, refused: Source, *, gave: bool) -> None:
        """Has a URL looked up anew that may have expired: at the mirror that gave it, or at the project's indexes."""
        if refused.mirror:
            if gave:
                self.sources.append(Source(url=refused.mirror, is_lookup=True))
        elif not self._has_asked_indexes:
            self._has_asked_indexes = True
            known = {source.url for source in self.sources} | {source.mirror for source in self.sources}
            self.sources += [Source(url=url, is_lookup=True) for url in self._indexes if url not in known]
