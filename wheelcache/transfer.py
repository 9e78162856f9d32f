"""What a transfer does next, as functions of what it saw: no socket, no file, no clock.

One wheel comes over one connection at a time today. Pieces and several connections per wheel belong here too: a piece
is an `offset` and an `end`, and every judgement below already speaks of the one it is asked about.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Final
from urllib.parse import SplitResult, urlsplit, urlunsplit

from wheelcache.redaction import without_userinfo

FIRST_READ: Final = 16 << 10
LARGEST_READ: Final = 256 << 10
"""Bytes per read: what a kill -9 can lose per connection."""

REFILL_BYTES: Final = 64 << 10
"""So many new bytes are progress; fewer and a server that sends one byte per connection would be asked for ever."""

RETRY_AFTER_LIMIT: Final = 60.0
"""Seconds: the longest that a server's Retry-After is obeyed."""

_WHEEL_MAGIC: Final = b"PK\x03\x04"
_PAGE_TYPES: Final = ("text/html", "application/xhtml+xml", "application/json", "text/xml", "application/xml")
_BUSY: Final = frozenset({408, 425, 429, 500, 502, 503, 504, 507, 509, 520, 521, 522, 523, 524})


class Fault(StrEnum):
    """The class of a source's failure (DESIGN.md section 7); the value is the word for people."""

    CONNECT = "no connection"
    TLS = "TLS certificate refused"
    REDIRECT = "redirect refused"
    BUSY = "busy"
    REFUSED = "refused"
    RANGE = "ranges not served"
    FOREIGN = "not the wheel"
    CUT = "cut short"
    SILENT = "silent"
    SLOW = "too slow"
    DIGEST = "wrong bytes"


FATAL: Final = frozenset({Fault.TLS, Fault.REDIRECT, Fault.REFUSED, Fault.DIGEST})
"""After one of these a source is not asked for this wheel again."""


HOST_FAULTS: Final = frozenset({Fault.CONNECT, Fault.TLS, Fault.BUSY, Fault.SILENT, Fault.SLOW})
"""These say something of the host, the others only of one file."""


class SourceFault(Exception):  # noqa: N818 - a finding about a source; an error only once all of them failed
    """A source failed; others may do.

    Args:
        fault: its class.
        message: what was expected and what was found, without the URL.
        hint: the next step, where there is one.
        retry_after: seconds the server asked us to wait; None where it did not.
    """

    def __init__(self, fault: Fault, message: str, *, hint: str = "", retry_after: float | None = None) -> None:
        super().__init__(message)
        self.fault = fault
        self.message = message
        self.hint = hint
        self.retry_after = retry_after


@dataclass(frozen=True, kw_only=True, slots=True)
class Body:
    """An answer whose body may be used.

    Attributes:
        start: the position in the file of the body's first byte.
        end: the position after its last byte; None where the answer does not say.
        total: the whole file's size; None where the answer does not say.
    """

    start: int
    end: int | None
    total: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Whole:
    """There is nothing left to fetch: what is on disk is to be verified."""


def public_url(url: str) -> str:
    """Returns *url* as it may be printed and stored: without user, password, query (signed URLs) and fragment."""
    parts = _split(without_userinfo(url))
    return urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))


def judge_answer(
    status: int, headers: Mapping[str, str], *, offset: int, size: int | None, now: float, from_zero: bool = False
) -> Body | Whole:
    """Says what may be done with an answer, before a byte of its body is used.

    Args:
        status: HTTP's, redirects already followed.
        headers: names in lower case.
        offset: bytes on disk; more than 0 means that a range was asked for, unless *from_zero*.
        size: the whole file's size, from the lockfile; None where nobody said.
        now: seconds since 1970, for a Retry-After that names a date.
        from_zero: the whole file was asked for although bytes are on disk, its source having no ranges.

    Raises:
        SourceFault: the answer is of no use.
    """
    if status == 416:  # noqa: PLR2004
        return _judge_unsatisfied(headers, offset=offset, size=size)
    if status not in (200, 206):
        raise refusal(status, headers, now=now)
    _refuse_pages(headers)
    if status == 206:  # noqa: PLR2004
        return _judge_part(headers, offset=0 if from_zero else offset, size=size)
    if offset and not from_zero:
        raise SourceFault(Fault.RANGE, f"expected the bytes from {offset} on (206), found the whole file (200)")
    length = _length(headers)
    if size is not None and length is not None and length != size:
        raise SourceFault(Fault.FOREIGN, f"expected {size} bytes, found a file of {length}")
    return Body(start=0, end=length, total=length)


def judge_beginning(data: bytes) -> None:
    """Looks at a file's first bytes, so that a login page never reaches the disk.

    Raises:
        SourceFault: no wheel begins like this (a wheel is a ZIP archive, PEP 427).
    """
    if not data.startswith(_WHEEL_MAGIC[: len(data)]) or not data:
        raise SourceFault(
            Fault.FOREIGN,
            f"expected a wheel (ZIP), found {data[:24]!r}",
            hint="a proxy or a login page answers in the index's place: open the URL in a browser",
        )


def judge_end(position: int, *, end: int | None, size: int | None) -> None:
    """Tells a finished body from one that was cut.

    Args:
        position: the file position that the transfer has reached.
        end: where the body was to end, as its answer said; a server may send less of a range than was asked for.
        size: the whole file's size, where known.

    Raises:
        SourceFault: bytes are missing; what came stays good.
    """
    wanted = size if size is not None else end
    if wanted is not None and position < wanted:
        raise SourceFault(Fault.CUT, f"expected {wanted} bytes, the body ended after {position}")


def refusal(status: int, headers: Mapping[str, str], *, now: float) -> SourceFault:
    """Returns what a status other than 200 and 206 means.

    Args:
        status: HTTP's.
        headers: names in lower case.
        now: seconds since 1970, for a Retry-After that names a date.
    """
    if status in _BUSY:
        wait = retry_after(headers.get("retry-after"), now=now)
        return SourceFault(Fault.BUSY, f"expected the file, found HTTP status {status}", retry_after=wait)
    hints = {
        401: "give credentials in ~/.netrc or in the index's URL",
        403: "check credentials and the proxy's rules; a signed URL may have expired: lock again",
        404: "the index may have dropped the file: lock again, or name a mirror",
        407: "the proxy wants credentials: set them in HTTPS_PROXY",
        410: "the index has dropped the file: lock again, or name a mirror",
    }
    return SourceFault(Fault.REFUSED, f"expected the file, found HTTP status {status}", hint=hints.get(status, ""))


def retry_after(value: str | None, *, now: float) -> float | None:
    """Returns the seconds to wait that a Retry-After asks for (RFC 9110, section 10.2.3: seconds or a date), capped."""
    if value is None:
        return None
    if re.fullmatch(r"\d{1,9}", value.strip()):
        return min(float(value), RETRY_AFTER_LIMIT)
    try:
        wanted = parsedate_to_datetime(value).timestamp() - now
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(wanted, 0.0), RETRY_AFTER_LIMIT)


def next_read(size: int, seconds: float) -> int:
    """Returns the size of the next read, so that one takes a moment and not a minute, whatever the rate.

    Args:
        size: of the last read.
        seconds: it took.
    """
    if seconds < 0.1:  # noqa: PLR2004 - double what came fast, halve what made people wait
        return min(size * 2, LARGEST_READ)
    return max(size // 2, 1 << 10) if seconds > 0.5 else size  # noqa: PLR2004


def is_progress(gained: int) -> bool:
    """True when *gained* new bytes are reason enough to refill the retry budget."""
    return gained >= REFILL_BYTES


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """How far a transfer was at a time, both since any one start; seconds and bytes."""

    time: float
    received: int


def is_stalled(samples: Sequence[Sample], *, min_rate: float, window: float) -> bool:
    """True when a whole *window* (seconds) passed with fewer bytes than *min_rate* (bytes per second) allows.

    Args:
        samples: oldest first.
        min_rate: 0 for none.
        window: how long slowness is borne.
    """
    if not samples or not min_rate:
        return False
    last = samples[-1]
    base = next((sample for sample in reversed(samples) if sample.time <= last.time - window), None)
    return base is not None and last.received - base.received < min_rate * window


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """One place that a wheel may be had from, and how it did so far.

    Attributes:
        url: of the file; of a mirror's root as long as *is_lookup*.
        is_lookup: the mirror has yet to be asked for the file's URL.
        mirror: the root of the mirror that gave the URL; empty for the lockfile's own.
        faults: failures in a row.
        rests_until: not to be asked before (seconds on the caller's clock).
        is_dead: not to be asked again for this wheel.
        from_zero: it serves no ranges: the whole file is asked for, what is on disk already is skipped.
        last: its last failure.
    """

    url: str
    is_lookup: bool = False
    mirror: str = ""
    faults: int = 0
    rests_until: float = 0.0
    is_dead: bool = False
    from_zero: bool = False
    last: SourceFault | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class HostState:
    """How a host did so far, over all wheels: failures in a row, and until when it asked to be left alone."""

    faults: int = 0
    rests_until: float = 0.0


def choose_source(sources: Sequence[Source], *, now: float, hosts: Mapping[str, HostState]) -> Source | None:
    """Returns the best source that may be asked now, or else the one that may be soonest; None when all are dead.

    Untried before failed, hosts that work before hosts that fail, then the order given.

    Args:
        sources: in order of preference.
        now: seconds on the clock that `rests_until` is of.
        hosts: what is known of each host, by `host_of`.
    """
    alive = [source for source in sources if not source.is_dead]
    if not alive:
        return None
    unknown = HostState()

    def rank(source: Source) -> tuple[float, int, int]:
        host = hosts.get(host_of(source.url), unknown)
        return rest_of(source, now=now, hosts=hosts), source.faults, host.faults

    return min(alive, key=rank)


def rest_of(source: Source, *, now: float, hosts: Mapping[str, HostState]) -> float:
    """Returns the seconds for which *source*, or its host, is still to be left alone."""
    host = hosts.get(host_of(source.url))
    return max(source.rests_until - now, host.rests_until - now if host else 0.0, 0.0)


def after_fault(source: Source, fault: SourceFault, *, now: float, progressed: bool) -> Source:
    """Returns *source* as it stands after *fault*.

    Args:
        source: as it was asked.
        fault: what came of it.
        now: seconds on the clock that `rests_until` is of.
        progressed: new bytes came before it. A source that was merely cut then is as good as before; a slow one is not.
    """
    rest = now + fault.retry_after if fault.retry_after else 0.0
    faults = 0 if progressed and fault.fault is Fault.CUT else source.faults + 1
    failed = replace(source, faults=faults, rests_until=rest, last=fault)
    if fault.fault in FATAL:
        return replace(failed, is_dead=True)
    if source.from_zero and fault.fault in (Fault.RANGE, Fault.CUT):
        return replace(failed, is_dead=True)  # restarting from zero is tried once: each try may cost a whole file
    return replace(failed, from_zero=source.from_zero or fault.fault is Fault.RANGE)


def host_of(url: str) -> str:
    """Returns the host and port of *url*, empty for a file."""
    return _split(url).netloc.rpartition("@")[2].lower()


def _split(url: str) -> SplitResult:
    """Splits a URL; one that is none is all path, and whoever opens it will say so."""
    try:
        return urlsplit(url)
    except ValueError:
        return SplitResult("", "", url.rpartition("@")[2], "", "")


def _refuse_pages(headers: Mapping[str, str]) -> None:
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in _PAGE_TYPES:
        raise SourceFault(
            Fault.FOREIGN,
            f"expected a wheel, found {kind}",
            hint="a proxy or a login page answers in the index's place: open the URL in a browser",
        )
    if kind.startswith("multipart/"):
        raise SourceFault(Fault.RANGE, f"expected one range, found {kind}")
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise SourceFault(Fault.FOREIGN, f"expected the file's own bytes, found them {encoding}-encoded")


def _judge_part(headers: Mapping[str, str], *, offset: int, size: int | None) -> Body:
    found = headers.get("content-range", "")
    match = re.fullmatch(r"bytes\s+(\d+)-(\d+)/(\d+|\*)", found.strip(), re.IGNORECASE)
    if not match:
        raise SourceFault(Fault.RANGE, f"expected Content-Range: bytes {offset}-…, found {found[:80]!r}")
    start, end = int(match[1]), int(match[2]) + 1
    total = None if match[3] == "*" else int(match[3])
    if size is not None and total is not None and total != size:
        raise SourceFault(Fault.FOREIGN, f"expected a file of {size} bytes, found one of {total}")
    length = _length(headers)
    fits = end <= (total if total is not None else end) and (length is None or length == end - start)
    if start != offset or end <= start or not fits:
        raise SourceFault(Fault.RANGE, f"expected the bytes from {offset} on, found Content-Range: {found[:80]}")
    return Body(start=start, end=end, total=total)


def _judge_unsatisfied(headers: Mapping[str, str], *, offset: int, size: int | None) -> Whole:
    match = re.fullmatch(r"bytes\s+\*/(\d+)", headers.get("content-range", "").strip(), re.IGNORECASE)
    total = int(match[1]) if match else None
    if offset and offset == (size if size is not None else total):
        return Whole()
    found = f"a file of {total}" if match else "no such bytes"
    raise SourceFault(Fault.RANGE, f"expected the bytes from {offset} on, found {found} (416)")


def _length(headers: Mapping[str, str]) -> int | None:
    text = headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() else None
