"""One part of a wheel on its way over one connection: asked for, judged, read, written where it belongs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from wheelcache.answers import Body, Whole, judge_answer, judge_beginning, judge_end
from wheelcache.rates import FIRST_READ, next_read
from wheelcache.sources import Source
from wheelcache.spans import Span, split_point

if TYPE_CHECKING:
    from wheelcache.pace import Reading, Throttle, Watch
    from wheelcache.partial import Partial
    from wheelcache.transport import Answer, Transport

_RATED_SECONDS: Final = 0.5
"""A connection that is younger has no rate yet."""

_MUTE_SECONDS: Final = 5.0
"""A connection that has not brought a byte by then may lose its part to another source."""

_REPORT_SECONDS: Final = 0.1
"""How often a connection says what it received."""


class Revoked(Exception):  # noqa: N818 - no failure: somebody faster took over
    """The part was given to another connection."""


@dataclass(slots=True, eq=False)
class Claim:
    """A part of a wheel that one connection fetches, and nobody else.

    Attributes:
        source: from where.
        position: the file position of the next byte that is wanted.
        end: where it ends; lowered by whoever takes its rest, from another thread; None while the size is unknown.
        piece: the piece that is fetched again, to be compared and not to be written; None for an ordinary part.
        began: seconds on the clock.
        start: the file position that it began at.
        asked_to: as far as its body goes; None before it is asked for, and where that is not known.
        received: bytes that came over the network, useless ones included.
        fresh: bytes of them that were new.
    """

    source: Source
    position: int
    end: int | None
    began: float
    piece: int | None = None
    received: int = 0
    fresh: int = 0
    data: bytearray = field(default_factory=bytearray)
    guard: threading.Lock = field(default_factory=threading.Lock)
    reading: Reading | None = None
    is_revoked: bool = False
    start: int = field(init=False)
    asked_to: int | None = None

    def __post_init__(self) -> None:
        self.start = self.position

    def span(self) -> Span:
        """Returns what is still to come."""
        return Span(start=self.position, end=self.end)

    def rate(self, now: float) -> float:
        """Returns the bytes per second so far; 0 as long as it is too early to say."""
        age = now - self.began
        return self.received / age if age >= _RATED_SECONDS else 0.0

    def is_mute(self, now: float) -> bool:
        """True when it has brought nothing for longer than a server takes that means to answer."""
        return not self.received and now - self.began >= _MUTE_SECONDS

    def shorten(self, end: int) -> int:
        """Lets the part end at *end*, or where it is by now; returns which: from there on another may write."""
        with self.guard:
            self.end = max(end, self.position)
            return self.end

    def take_back(self, rest: Claim) -> bool:
        """Fetches *rest*, which follows, after all: true when the body goes so far and is not at its end yet."""
        with self.guard:
            is_able = (
                self.end == rest.start
                and not self.is_revoked
                and self.position < rest.start
                and rest.end is not None
                and (self.asked_to is None or self.asked_to >= rest.end)
            )
            if is_able:
                self.end = rest.end
            return is_able

    def revoke(self) -> None:
        """Takes the part away: once this returns, nothing more of it is written."""
        with self.guard:
            self.is_revoked = True
        if self.reading is not None:
            self.reading.give_up(Revoked())


def share_longest(
    claims: Iterable[Claim], source: Source, *, piece: int, rate: float, now: float
) -> tuple[float, Claim, int] | None:
    """Returns the part that needs longest of those that one more connection could help with.

    Args:
        claims: what connections are fetching.
        source: where the other connection would go.
        piece: bytes of a piece.
        rate: what is expected of the other connection, in bytes per second; 0 where unknown.
        now: seconds on the clock.

    Returns:
        The seconds that it needs, the part, and from where on the other connection would fetch; None where there is
        none.
    """
    best: tuple[float, Claim, int] | None = None
    for claim in claims:
        point = None
        if not claim.source.from_zero:
            point = split_point(
                claim.span(),
                piece=piece,
                rate=claim.rate(now),
                other_rate=rate,
                is_mute=claim.is_mute(now) and source.url != claim.source.url,
            )
        if point is not None and claim.end is not None:
            left = (claim.end - claim.position) / max(claim.rate(now), 1.0)
            if best is None or left > best[0]:
                best = (left, claim, point)
    return best


@dataclass(frozen=True, kw_only=True, slots=True)
class Carrier:
    """Brings claims' bytes from their sources into partials.

    Attributes:
        transport: makes, or gives, the connections.
        watch: ends what stalls.
        throttle: keeps below a rate.
        now: seconds since 1970.
    """

    transport: Callable[[], Transport]
    watch: Watch
    throttle: Throttle
    now: Callable[[], float]

    def carry(
        self, claim: Claim, partial: Partial, *, report: Callable[[int], None], learn: Callable[[int], None]
    ) -> None:
        """Fetches one claim to its end.

        Args:
            claim: which; what it says of itself is kept up to date.
            partial: where to.
            report: told how many new bytes came, every moment.
            learn: told the size of the file where nobody knew it.

        Raises:
            SourceFault: the source failed; what came stays.
            Revoked: another connection has it now.
            StoreError: the disk failed.
            Halted: the sync is to end.
        """
        self.watch.check()
        source = claim.source
        offset = 0 if source.from_zero else claim.position
        with claim.guard:
            is_bounded = not source.from_zero and claim.end is not None and claim.end != partial.size
            end = claim.end if is_bounded else None
            claim.asked_to = claim.end
        with self.transport().open(source.url, offset=offset, end=end) as answer:
            self.watch.check()
            verdict = judge_answer(
                answer.status,
                answer.headers,
                offset=claim.position,
                size=partial.size,
                now=self.now(),
                from_zero=source.from_zero,
            )
            if isinstance(verdict, Whole):
                learn(claim.position)
                return
            if partial.size is None and verdict.total is not None:
                learn(verdict.total)
                with claim.guard:
                    claim.end = verdict.total
            position = self._read(claim, answer, verdict, partial, report)
            end = claim.end if claim.end is not None else verdict.end
            if end is None:
                learn(position)  # a body without a length ends where the file does, or was cut: the digest will tell
            judge_end(position, end=end)

    def _read(self, claim: Claim, answer: Answer, body: Body, partial: Partial, report: Callable[[int], None]) -> int:
        """Reads a body as far as it is wanted; returns the file position that it reached."""
        clock = self.watch.clock
        position, amount = body.start, FIRST_READ
        reported, told = 0, clock()
        with self.watch.reading(answer, claim.source.host) as reading:
            claim.reading = reading
            try:
                while (left := _left(claim.end, body.end, position)) is None or left > 0:
                    began = clock()
                    wanted = self.throttle.largest_read(amount)
                    data = reading.read(wanted if left is None else min(wanted, left))
                    if not data:
                        break
                    amount = next_read(amount, clock() - began)
                    claim.received += len(data)
                    if not position:
                        judge_beginning(data)
                    _take(claim, position, data, partial)
                    position += len(data)
                    if began - told > _REPORT_SECONDS:
                        report(claim.fresh - reported)
                        reported, told = claim.fresh, began
                    if delay := self.throttle.delay(len(data)):
                        self.watch.sleep(delay)
            finally:
                claim.reading = None
                report(claim.fresh - reported)
        return position


def _left(end: int | None, body_end: int | None, position: int) -> int | None:
    """Returns the bytes that are still wanted of a body; None where nobody knows."""
    ends = [known for known in (end, body_end) if known is not None]
    return min(ends) - position if ends else None


def _take(claim: Claim, position: int, data: bytes, partial: Partial) -> None:
    """Puts bytes where they belong, unless they belong to another connection by now."""
    with claim.guard:
        if claim.is_revoked:
            raise Revoked
        end = claim.end
        if end is not None and position + len(data) > end:
            data = data[: max(end - position, 0)]
        if claim.piece is not None:
            claim.data += data
        else:
            claim.fresh += partial.write(position, data)
        claim.position = max(claim.position, position + len(data))
