"""Which parts of a file are still to be fetched, and how connections share them: no file, no socket, no clock."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

WORTH_SPLITTING: Final = 0.5
"""Seconds: a connection that needs less for the rest of its part is left to finish it."""

WORTH_TAKING: Final = 2.0
"""Seconds: a connection that needs less for the rest of its last piece keeps it, however slow it is."""

FASTER: Final = 3.0
"""So many times as fast must another be to take over a piece in the middle: it costs both a connection."""

UNSEEN_PIECES: Final = 4
"""A shorter part is not shared before its connection has brought something."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """A part of a file: from *start* up to, not including, *end*; without an end as long as the size is unknown."""

    start: int
    end: int | None

    @property
    def length(self) -> int | None:
        """Its bytes; None where unknown."""
        return None if self.end is None else self.end - self.start


def missing_spans(written: Sequence[int], *, piece: int, size: int | None) -> list[Span]:
    """Returns the parts that are not there, in order, neighbours joined.

    Args:
        written: of each piece, the bytes that are there from its start.
        piece: bytes of a piece, but for the last.
        size: of the file; None where unknown: there is always more to come then.
    """
    spans: list[Span] = []
    end = len(written) * piece if size is None else size
    for index, count in enumerate(written):
        low, high = index * piece + count, min((index + 1) * piece, end)
        if low >= high:
            continue
        if spans and spans[-1].end == low:
            spans[-1] = Span(start=spans[-1].start, end=high)
        else:
            spans.append(Span(start=low, end=high))
    if size is None:
        start = spans.pop().start if spans and spans[-1].end == end else end
        spans.append(Span(start=start, end=None))
    elif len(written) * piece < size:
        low = len(written) * piece
        start = spans.pop().start if spans and spans[-1].end == low else low
        spans.append(Span(start=start, end=size))
    return spans


def unclaimed(missing: Iterable[Span], claimed: Iterable[Span], *, piece: int) -> list[Span]:
    """Returns what of *missing* nobody fetches; a piece that is claimed in part is claimed whole.

    Args:
        missing: in order.
        claimed: what connections are fetching, each from where it is now.
        piece: bytes of a piece.
    """
    left = list(missing)
    for claim in claimed:
        low = claim.start // piece * piece
        high = None if claim.end is None else -(-claim.end // piece) * piece
        kept: list[Span] = []
        for span in left:
            if (high is not None and span.start >= high) or (span.end is not None and span.end <= low):
                kept.append(span)
            else:
                if span.start < low:
                    kept.append(Span(start=span.start, end=low))
                if high is not None and (span.end is None or span.end > high):
                    kept.append(Span(start=high, end=span.end))
        left = kept
    return left


def split_point(span: Span, *, piece: int, rate: float, other_rate: float, is_mute: bool = False) -> int | None:
    """Returns where a second connection should begin, so that both end together; None where it is not worth it.

    Args:
        span: what the first connection has yet to fetch. A start of its own means that all is taken over.
        piece: bytes of a piece; parts begin at a piece's start.
        rate: of the first connection, in bytes per second; 0 where it has not brought anything yet.
        other_rate: what is expected of the second; 0 where unknown.
        is_mute: the first has brought nothing for so long that another source is better asked.
    """
    if span.end is None or span.end <= span.start:
        return None
    if is_mute:
        return span.start
    length = span.end - span.start
    if (length / rate < WORTH_SPLITTING) if rate else (length < UNSEEN_PIECES * piece):
        return None
    share = 0.5 if not rate or not other_rate else rate / (rate + other_rate)
    first = span.start // piece + 1  # the piece that the first connection is in stays with it
    point = max(round((span.start + length * share) / piece), first) * piece
    if point < span.end:
        return point
    is_crawling = rate > 0 and length / rate > WORTH_TAKING and other_rate > FASTER * rate
    return span.start if is_crawling else None
