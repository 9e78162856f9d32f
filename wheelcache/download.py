"""One wheel's way into the store: which parts are still to come, from which source each, and what became of them.

The methods marked "held" are called with the sync's guard held, and only decide; the others do the work they name.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING, Final, Literal

from wheelcache.claims import Claim, share_longest
from wheelcache.digest import Digest
from wheelcache.errors import WheelcacheError
from wheelcache.events import Note, Waiting, WheelProgress, WheelStarted
from wheelcache.faults import Fault, SourceFault, public_url
from wheelcache.lock import LockedWheel
from wheelcache.lookup import LookUp, is_local, look_up
from wheelcache.provenance import Provenance
from wheelcache.rates import is_progress
from wheelcache.roster import Roster
from wheelcache.shared import Shared
from wheelcache.sources import Source
from wheelcache.spans import Span, unclaimed

if TYPE_CHECKING:
    from wheelcache.partial import Partial

_PROBE_BYTES: Final = 8 << 20
"""What a source of unknown speed is given to show it, where there is another."""

_TURN_SECONDS: Final = 4.0
"""How long a source that is not the best keeps a connection before it is looked at again."""

_HEAVY_BYTES: Final = 20_000_000
"""From this size on it is worth asking mirrors for a wheel that its own source serves."""


class Download:
    """The download of one wheel.

    Args:
        wheel: which.
        shared: with what.
        size: the wheel's size as far as known; the lockfile's word alone is trusted.
        planned: bytes that were said to be there already; what is found to be there is told as progress from them on.
    """

    def __init__(self, wheel: LockedWheel, shared: Shared, *, size: int | None, planned: int = 0) -> None:
        self.wheel = wheel
        self.size = size or 0
        """In bytes, as far as known; 0 where unknown."""
        self.claims: list[Claim] = []
        """The parts that connections are fetching."""
        self.source = ""
        """Where the last bytes came from, without credentials; empty when none had to come."""
        self._shared = shared
        self._hint = size
        self._planned = planned
        self._fetched = 0
        self._resources = ExitStack()
        self._partial: Partial | None = None
        self._asking: set[str] = set()
        self._revoked: list[Claim] = []
        self._has_begun_anew = False
        local = [url for url in wheel.urls if is_local(url)]
        self._roster = Roster(
            local if shared.offline else wheel.urls,
            mirrors=[] if shared.offline else shared.mirrors,
            indexes=[] if shared.offline else shared.indexes,
            hosts=shared.hosts,
            retries=shared.settings.retries,
            pause=shared.pause,
        )
        self._provenance = Provenance(self._roster)

    # Held: what to do next.

    @property
    def fetched(self) -> int:
        """Bytes that came over the network, useless ones included."""
        return self._fetched + sum(claim.received for claim in (*self.claims, *self._revoked))

    @property
    def is_open(self) -> bool:
        """True when its partial is open."""
        return self._partial is not None

    @property
    def was_resumed(self) -> bool:
        """True when bytes of an earlier run are in it."""
        return self._provenance.has_earlier_bytes

    @property
    def is_whole(self) -> bool:
        """True when every byte is there and nobody is at it: time to look whether they are right."""
        return self._partial is not None and self._partial.is_complete and not self.claims

    def can_start(self, now: float) -> bool:
        """True when a source would be asked at once, or none is left to ask."""
        return self._choose(now) is not None or self.is_hopeless(now)

    def is_hopeless(self, now: float) -> bool:
        """True when no source is left that is worth asking."""
        if self.claims or self._asking:
            return False
        return self._roster.is_spent(now) or self._provenance.is_stuck(now)

    @property
    def is_unchecked(self) -> bool:
        """True when pieces were replaced and nobody has looked at the digest since."""
        return self.is_whole and self._provenance.is_unchecked

    def begin_anew(self) -> bool:
        """Starts from nothing, once, where all failed but some spoke of another size than a server had said first."""
        partial = self._partial
        if self.wheel.size is not None or partial is None or self._has_begun_anew or not self._roster.revive():
            return False
        self._has_begun_anew = True
        self._restart(partial)
        return True

    def next_part(self, now: float) -> Claim | LookUp | None:
        """Claims the next part that nobody fetches, for a source that may be asked now; None where there is none."""
        partial = self._partial
        if partial is None:
            return None
        if self._provenance.is_disputed:
            return self._next_check(partial, now)
        free = unclaimed(partial.missing(), [claim.span() for claim in self.claims], piece=partial.piece)
        if not free:
            return None
        source = self._choose(now)
        if source is None or (source.from_zero and self.claims):
            return None
        if source.is_lookup:
            return self._ask(source)
        end = partial.size if source.from_zero else self._share(source, free[0], now)
        return self._claim(Claim(source=source, position=free[0].start, end=end, began=now))

    def next_share(self, now: float) -> tuple[float, Callable[[], Claim | LookUp | None]] | None:
        """Returns how one more connection could help with what others are fetching, and how many seconds that saves."""
        partial = self._partial
        if partial is None or self._provenance.is_disputed or not self.claims:
            return None
        source = self._choose(now)
        if source is None or source.from_zero:
            return None
        expected = self._shared.hosts.state(source.host).rate
        best = share_longest(self.claims, source, piece=partial.piece, rate=expected, now=now)
        if best is None:
            return None
        left, claim, point = best
        return left, lambda: self._ask(source) if source.is_lookup else self._split(claim, point, source, now)

    def wait_notice(self, now: float) -> Waiting | None:
        """Returns what to say when nothing can be done now; None when that was said already, or is no news."""
        if self.claims or self._asking:
            return None
        return self._roster.notice(self.wheel.filename, now)

    # Held: what became of it.

    def release(self, claim: Claim, fault: SourceFault | None) -> None:
        """Takes in that a connection ended."""
        now = self._shared.watch.clock()
        if claim in self.claims:
            self._end(claim)
        else:
            self._revoked.remove(claim)
        if fault is not None and not claim.fresh and claim.piece is None and not claim.is_revoked:
            any(other.take_back(claim) for other in self.claims)  # whoever gave the part away may still have it coming
        self._fetched += claim.received
        self._shared.hosts.end(claim.source.host)
        if claim.received and (fault is None or fault.fault is not Fault.FOREIGN):
            self._shared.hosts.worked(claim.source.host, now=now)
        if fault is not None:
            self._note_fault(claim.source, fault, progressed=is_progress(claim.fresh), now=now)
        else:
            self._roster.worked(claim.source.url)

    def learned(self, mirror: Source, found: Sequence[Source], fault: SourceFault | None) -> None:
        """Takes in what a mirror said of the wheel."""
        self._asking.discard(mirror.url)
        now = self._shared.watch.clock()
        self._shared.hosts.end(mirror.host)
        if fault is not None:
            self._note_fault(mirror, fault, progressed=False, now=now)
        else:
            self._roster.looked_up(mirror, found)

    def search(self, found: Digest) -> None:
        """Begins, or goes on with, finding the wrong pieces of a file whose digest is *found*."""
        partial = self.opened()
        fault = SourceFault(
            Fault.DIGEST,
            f"expected {self.wheel.digest}, found {found} ({partial.present} bytes)",
            hint="whoever serves this file serves another one under its name: lock again only if you trust that one",
        )
        if self._provenance.dispute():
            self._note(f"the bytes gathered are wrong and are compared with other sources': {fault.message}")
        self._name_liars(self._provenance.proven_liars(), fault)
        if self._provenance.is_stuck(self._shared.watch.clock()) and self._roster.from_zero():
            self._restart(partial)  # who has no ranges cannot be asked for pieces, only for the whole

    def settle(self) -> None:
        """Rests whoever gave bytes that others' had to take the place of, and trusts the others; the wheel is right."""
        fault = SourceFault(Fault.DIGEST, "gave bytes that are not the wheel's; other sources' took their place")
        self._name_liars(self._provenance.outvoted(), fault)
        for source in self._provenance.givers():
            self._shared.hosts.vouched(source.host)

    def _name_liars(self, urls: Collection[str], fault: SourceFault) -> None:
        for source in map(self._roster.find, urls):
            if source is not None and not source.is_dead:
                self._note_fault(source, fault, progressed=False, now=self._shared.watch.clock())

    def abandon(self) -> None:
        """Lets no connection write any more: the partial is about to be closed."""
        for claim in self.claims:
            claim.revoke()

    # The work.

    def open(self, lock: AbstractContextManager[object]) -> None:
        """Opens the partial, adopting what an earlier run left; *lock*, which is held, is given back with it.

        Raises:
            StoreError: it cannot be opened.
        """
        self._resources.enter_context(lock)
        partial = self._shared.store.partial(self.wheel, piece=self._shared.settings.piece)
        self._resources.callback(partial.close)
        self._resources.enter_context(self._shared.watch.flushing(partial))
        if partial.size is None and self._hint is not None:
            partial.assume(self._hint)
        self.size = partial.size or 0
        self._partial = partial
        self._provenance.adopt(partial.counts())
        self.tell_present(partial.present)
        sources = self._roster.sources
        self._shared.emit(
            WheelStarted(
                filename=self.wheel.filename,
                size=partial.size or 0,
                present=partial.present,
                source=public_url(sources[0].url) if sources else "",
            )
        )

    def close(self) -> None:
        """Lets go of the partial and of the digest's lock."""
        self._resources.close()

    def step_back(self) -> None:
        """Lets another process have it: nothing of it is open any more, so that it can be opened again later."""
        self._planned = self._partial.present if self._partial is not None else self._planned
        self.close()
        self._partial = None
        self._provenance.forget()

    def tell_present(self, count: int) -> None:
        """Says as progress how far what is there differs from what was said to be."""
        if count != self._planned:
            self._shared.emit(WheelProgress(filename=self.wheel.filename, received=count - self._planned))

    def look_up(self, mirror: Source) -> list[Source]:
        """Asks a mirror, or an index, where it has the wheel; see `look_up`."""
        return look_up(
            self.wheel,
            mirror.url,
            transport=self._shared.transport(),
            may_guess=mirror.url not in self._shared.indexes,
            note=self._note,
        )

    def receive(self, claim: Claim, fresh: int) -> None:
        """Says that new bytes came."""
        if fresh and claim.piece is None:
            self._shared.emit(WheelProgress(filename=self.wheel.filename, received=fresh))

    def learn(self, size: int) -> None:
        """Takes a server's word for the size, where the lockfile says none."""
        partial = self.opened()
        if partial.size is None:
            partial.assume(size)
            self.size = size

    def conclude(self) -> Digest | None:
        """Publishes the wheel if its bytes are right; returns their digest if they are wrong.

        Raises:
            StoreError: the disk failed.
        """
        partial = self.opened()
        found = partial.digest()
        if found != self.wheel.digest:
            return found
        self._shared.store.publish(self.wheel, partial)
        return None

    def compare(self, claim: Claim) -> bool:
        """Puts a piece that was fetched again beside the one that is there; True when the digest is to be looked at."""
        is_due, is_replaced = self._provenance.compare(claim, self.opened(), self._shared.watch.clock())
        if is_replaced:
            self.source = public_url(claim.source.url)
        return is_due

    def failure(self) -> WheelcacheError:
        """Returns the error that says what became of each source; wrong bytes are not kept."""
        partial, is_disputed = self._partial, self._provenance.is_disputed
        if partial is not None and is_disputed and self._roster.has_only_lasting_faults():
            self._restart(partial)
        kept = partial.present if partial is not None else 0
        return self._roster.failure(self.wheel, kept=kept, is_disputed=is_disputed, is_offline=self._shared.offline)

    def opened(self) -> Partial:
        """Returns its partial, which is open.

        Raises:
            RuntimeError: it is not.
        """
        if self._partial is None:
            raise RuntimeError("the partial is not open")
        return self._partial

    # Within.

    def _choose(self, now: float) -> Source | None:
        tried = {claim.source.url for claim in self.claims if claim.source.fruitless or claim.source.from_zero}
        is_mute = any(claim.is_mute(now) for claim in self.claims)
        is_worth_it = (self._left() >= _HEAVY_BYTES or is_mute) and not self._asking
        return self._roster.choose(now, may_look_up=is_worth_it, avoid=tried | self._asking)

    def _left(self) -> int:
        return self.size - (self._partial.present if self._partial is not None else 0)

    def _ask(self, source: Source) -> LookUp:
        self._asking.add(source.url)
        self._shared.hosts.begin(source.host)
        return LookUp(source=source)

    def _claim(self, claim: Claim) -> Claim:
        self.claims.append(claim)
        self._shared.hosts.begin(claim.source.host)
        return claim

    def _share(self, source: Source, span: Span, now: float) -> int | None:
        """Returns where a part is to end: a source that is not the best gets what it can bring in a few seconds."""
        if span.end is None or self._roster.is_best(source, now):
            return span.end
        piece = self.opened().piece
        amount = max(int(self._shared.hosts.state(source.host).rate * _TURN_SECONDS), _PROBE_BYTES, piece)
        return min(span.end, (span.start + amount) // piece * piece)

    def _split(self, claim: Claim, point: int, source: Source, now: float) -> Claim | None:
        """Gives the rest of a part, from *point* on, to another connection; None where none is left by now."""
        end = claim.end
        if point <= claim.position:
            claim.revoke()
            point = claim.position
            self._end(claim)
            self._revoked.append(claim)
        else:
            point = claim.shorten(point)
        if end is not None and point >= end:
            return None
        return self._claim(Claim(source=source, position=point, end=end, began=now))

    def _end(self, claim: Claim) -> None:
        """Takes a part from those that are being fetched, and notes who gave its bytes."""
        self.claims.remove(claim)
        if claim.fresh:
            self.source = public_url(claim.source.url)
            self._provenance.credit(claim, piece=self.opened().piece)

    def _next_check(self, partial: Partial, now: float) -> Claim | LookUp | None:
        """Claims the next piece that another source is to be asked for, one at a time."""
        if self.claims or self._asking:
            return None
        check = self._provenance.next_check(now)
        if check is None:
            mirror = self._roster.choose_lookup(now)
            return self._ask(mirror) if mirror is not None else None
        source = self._roster.choose_for_piece(now, among=check.sources)
        if source is None or partial.size is None:
            return None
        start = check.piece * partial.piece
        end = min(start + partial.piece, partial.size)
        return self._claim(Claim(source=source, position=start, end=end, began=now, piece=check.piece))

    def _note_fault(self, source: Source, fault: SourceFault, *, progressed: bool, now: float) -> None:
        gave = self._provenance.has_bytes_of(source.url)
        self._roster.failed(source, fault, now=now, progressed=progressed, gave=gave)
        partial = self._partial
        is_free = self.wheel.size is None and partial is not None and not self.claims and not partial.present
        if fault.fault is Fault.SIZE and is_free and partial is not None:
            self._restart(partial)  # the size was another server's word
        level: Literal["debug", "warning"] = "debug" if source.is_guess else "warning"
        self._note(f"{public_url(source.url)}: {fault.fault}: {fault.message}", level=level)

    def _restart(self, partial: Partial) -> None:
        """Throws all bytes away."""
        self._shared.emit(WheelProgress(filename=self.wheel.filename, received=-partial.present))
        partial.restart(size=self.wheel.size)
        self.size = self.wheel.size or 0
        self._provenance.forget()

    def _note(self, sentence: str, *, level: Literal["debug", "warning"] = "warning") -> None:
        self._shared.emit(Note(level=level, message=f"{self.wheel.filename}: {sentence}"))
