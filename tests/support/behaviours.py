"""How a server may answer one request: honestly, and in all the ways in which mirrors and what stands before them fail.

Positions count in the file, so that they mean the same whatever ranges a client asks for; what counts in the bytes of
one answer is called `…_after`. A place at which an answer merely begins is not reached by it: whoever comes back for
the rest gets beyond.
"""

from __future__ import annotations

import gzip
import time
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Protocol

from support.exchange import PIECE, Exchange, Pace

_OCTETS = "application/octet-stream"
_LOGIN = b"<!DOCTYPE html><title>Log in</title>" * 20
_FLIPPED = bytes(byte ^ 0xFF for byte in range(256))
_SILENCE = 60.0

Places = int | Sequence[int]
"""A file position, or several in rising order."""


class Behaviour(Protocol):
    """How to answer one request."""

    def answer(self, exchange: Exchange) -> None: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """The bytes of a file that a request asks for.

    Attributes:
        first: position of the first one.
        end: position after the last one.
        partial: a Range asked for them.
    """

    first: int
    end: int
    partial: bool

    @classmethod
    def of(cls, exchange: Exchange, size: int) -> Span:
        asked = exchange.request.range
        if asked is None:
            return cls(first=0, end=size, partial=False)
        first, last = asked
        return cls(first=first, end=size if last is None else min(last + 1, size), partial=True)


@dataclass(frozen=True, kw_only=True)
class Serve:
    """Serves the content, honestly unless told otherwise.

    Attributes:
        ranges: answer Range with 206.
        range_shift: say and send bytes so much further on than was asked for.
        end_shift: say another end of the range than is true.
        total_shift: say another total than is true.
        at_most: answer a Range with no more than so many bytes of it, and say so.
        length: send Content-Length.
        short: Content-Length says so many bytes fewer than are sent.
        extra: send so many bytes more than Content-Length says, and close.
        headers: more of them, or others; None leaves one out. An ETag here is compared with If-Range.
        delay: seconds before the answer.
        rate: bytes per second.
        slow_after: *rate* counts only after so many bytes of this answer.
        slow_at: *rate* counts only beyond this file position.
        cut_after: close after so many body bytes of this answer.
        cut_at: close where the body reaches this file position.
        reset_at: the same by RST.
        reset: close by RST whatever is cut.
        silent_after: send no more after so many bytes, and keep the connection.
        silent_at: send no more from this file position on, and keep the connection.
        corrupt: other bytes of the same length, but for the first 64; or from one file position up to another.
        corrupt_at: another byte at this file position.
        forged: bytes that the body repeats in place of the content.
    """

    ranges: bool = True
    range_shift: int = 0
    end_shift: int = 0
    total_shift: int = 0
    at_most: int | None = None
    length: bool = True
    short: int = 0
    extra: int = 0
    headers: Mapping[str, str | None] = field(default_factory=dict)
    delay: float = 0.0
    rate: float | None = None
    slow_after: int = 0
    slow_at: int = 0
    cut_after: int | None = None
    cut_at: Places = ()
    reset_at: Places = ()
    reset: bool = False
    silent_after: int | None = None
    silent_at: Places = ()
    corrupt: bool | tuple[int, int] = False
    corrupt_at: Places = ()
    forged: bytes = b""

    def answer(self, exchange: Exchange) -> None:
        if exchange.content is None:
            Respond(status=404).answer(exchange)
            return
        exchange.wait(self.delay)
        size = len(exchange.content)
        span = self._span(exchange, size)
        if span.partial and span.first >= size:
            exchange.head(416, {"Content-Range": f"bytes */{size}", "Content-Length": "0"})
            return
        exchange.head(206 if span.partial else 200, self._headers(span, size))
        self._body(exchange, exchange.content, span)

    def _span(self, exchange: Exchange, size: int) -> Span:
        asked = Span.of(exchange, size)
        if not asked.partial or not self.ranges or self._is_another_version(exchange):
            return Span(first=0, end=size, partial=False)
        if asked.first >= size:
            return asked
        first = max(asked.first + self.range_shift, 0)
        end = min(asked.end + self.range_shift, size) if asked.end < size else size
        if self.at_most is not None:
            end = min(end, first + self.at_most)
        return Span(first=first, end=max(end, first), partial=True)

    def _is_another_version(self, exchange: Exchange) -> bool:
        """True if If-Range names another version than this one (RFC 9110 §13.1.5: weak tags never compare equal)."""
        asked, tag = exchange.request.headers.get("if-range"), self.headers.get("ETag")
        return asked is not None and tag is not None and (asked != tag or tag.startswith("W/"))

    def _headers(self, span: Span, size: int) -> dict[str, str | None]:
        headers: dict[str, str | None] = {"Content-Type": _OCTETS}
        if span.partial:
            last, total = span.end - 1 + self.end_shift, size + self.total_shift
            headers["Content-Range"] = f"bytes {span.first}-{last}/{total}"
        if self.length:
            headers["Content-Length"] = str(span.end - span.first - self.short)
        if not self.length or self.extra or self.short:
            headers["Connection"] = "close"
        return {**headers, **self.headers}

    def _body(self, exchange: Exchange, content: memoryview, span: Span) -> None:
        stop, how = self._stop(span)
        slow = min(max(span.first + self.slow_after, self.slow_at), stop)
        pace = None if self.rate is None else Pace(self.rate)
        whole = how == "" and not self.extra
        for start, end, its_pace in ((span.first, slow, None), (slow, stop, pace)):
            for position in range(start, end, PIECE):
                upto = min(position + PIECE, end)
                piece = self._piece(content[position:upto], position, span.first)
                exchange.body(piece, pace=its_pace, final=whole and upto == stop)
        if how == "silent":
            exchange.wait(_SILENCE)
        elif how == "":
            exchange.body(b"\0" * self.extra, final=True)
        if how or not self.length or self.extra or self.short:
            exchange.hang_up(reset=how == "reset")

    def _stop(self, span: Span) -> tuple[int, str]:
        """Where the body stops, and whether it does so before its end: cut, reset or silent."""
        closing = "reset" if self.reset else "cut"
        found = [(span.end, "")]
        found += [(at, closing) for at in _reached(self.cut_at, span)]
        found += [(at, "reset") for at in _reached(self.reset_at, span)]
        found += [(at, "silent") for at in _reached(self.silent_at, span)]
        for after, how in ((self.cut_after, closing), (self.silent_after, "silent")):
            if after is not None and span.first + after < span.end:
                found.append((span.first + after, how))
        return min(found, key=lambda stop: stop[0])

    def _piece(self, piece: memoryview, position: int, first: int) -> memoryview | bytearray:
        if self.forged:
            skipped = (position - first) % len(self.forged)
            times = (skipped + len(piece)) // len(self.forged) + 1
            return bytearray(self.forged * times)[skipped : skipped + len(piece)]
        wrong = list(self._wrong(position, position + len(piece)))
        if not wrong:
            return piece
        changed = bytearray(piece)
        for start, end in wrong:
            part = slice(start - position, end - position)
            changed[part] = changed[part].translate(_FLIPPED)
        return changed

    def _wrong(self, first: int, end: int) -> Iterator[tuple[int, int]]:
        """The stretches between two file positions whose bytes are wrong."""
        if self.corrupt:
            start, stop = (64, end) if self.corrupt is True else self.corrupt
            if max(start, first) < min(stop, end):
                yield max(start, first), min(stop, end)
        for at in (self.corrupt_at,) if isinstance(self.corrupt_at, int) else self.corrupt_at:
            if first <= at < end:
                yield at, at + 1


def _reached(places: Places, span: Span) -> list[int]:
    """The first of *places* strictly within *span*, if any."""
    listed = (places,) if isinstance(places, int) else places
    following = bisect_right(listed, span.first)
    return [listed[following]] if following < len(listed) and listed[following] < span.end else []


@dataclass(frozen=True, kw_only=True)
class Respond:
    """Answers with a status, headers and a small body."""

    status: int
    headers: Mapping[str, str | None] = field(default_factory=dict)
    body: bytes = b""

    def answer(self, exchange: Exchange) -> None:
        exchange.head(self.status, {"Content-Length": str(len(self.body)), **self.headers})
        exchange.body(self.body, final=True)


@dataclass(frozen=True, kw_only=True)
class Busy:
    """Asks to come again later.

    Attributes:
        status: 429 or 503.
        seconds: when, as Retry-After says it.
        as_date: say it in the form of a date (RFC 9110 §10.2.3), which has whole seconds.
    """

    status: int = 503
    seconds: int = 1
    as_date: bool = False

    def answer(self, exchange: Exchange) -> None:
        when = formatdate(time.time() + self.seconds, usegmt=True) if self.as_date else str(self.seconds)
        Respond(status=self.status, headers={"Retry-After": when}).answer(exchange)


@dataclass(frozen=True, kw_only=True)
class Gzipped:
    """Sends the bytes asked for in gzip's coding, whether a client takes it or not."""

    ranges: bool = True

    def answer(self, exchange: Exchange) -> None:
        content = exchange.content or memoryview(b"")
        span = Span.of(exchange, len(content)) if self.ranges else Span(first=0, end=len(content), partial=False)
        headers = {"Content-Type": _OCTETS, "Content-Encoding": "gzip"}
        if span.partial:
            headers["Content-Range"] = f"bytes {span.first}-{span.end - 1}/{len(content)}"
        body = gzip.compress(content[span.first : span.end], compresslevel=1, mtime=0)
        Respond(status=206 if span.partial else 200, headers=headers, body=body).answer(exchange)


@dataclass(frozen=True, kw_only=True)
class Multipart:
    """Answers a range with multipart/byteranges, though it is a single one (RFC 9110 §15.3.7.2 forbids it)."""

    def answer(self, exchange: Exchange) -> None:
        content = exchange.content or memoryview(b"")
        span = Span.of(exchange, len(content))
        if not span.partial:
            Serve().answer(exchange)
            return
        part = f"--PART\r\nContent-Type: {_OCTETS}\r\n"
        part += f"Content-Range: bytes {span.first}-{span.end - 1}/{len(content)}\r\n\r\n"
        body = part.encode() + bytes(content[span.first : span.end]) + b"\r\n--PART--\r\n"
        headers = {"Content-Type": "multipart/byteranges; boundary=PART"}
        Respond(status=206, headers=headers, body=body).answer(exchange)


def login_page(*, disguised: bool = False, fitting: bool = False) -> Behaviour:
    """What a captive portal answers in everybody's place.

    Args:
        disguised: it says that it is a file.
        fitting: it is exactly as long as the file. (`Serve(forged=…)` is as long as the range, too.)
    """
    kind = _OCTETS if disguised else "text/html; charset=utf-8"
    if fitting:
        return Serve(ranges=False, forged=_LOGIN, headers={"Content-Type": kind})
    return Respond(status=200, headers={"Content-Type": kind}, body=_LOGIN)


def redirect(url: str, status: int = 302) -> Respond:
    return Respond(status=status, headers={"Location": url})
