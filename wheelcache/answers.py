"""Judges a server's answer before a byte of its body is used, and its end before it is believed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final

from wheelcache.faults import Fault, SourceFault

RETRY_AFTER_LIMIT: Final = 60.0
"""Seconds: the longest that a server's Retry-After is obeyed."""

LARGEST_FILE: Final = 1 << 40
"""No wheel has so many bytes: whoever says so is wrong, and nothing is made ready for them."""

_WHEEL_MAGIC: Final = b"PK\x03\x04"
_PAGE_TYPES: Final = ("text/html", "application/xhtml+xml", "application/json", "text/xml", "application/xml")
_BUSY: Final = frozenset({408, 425, 429, 500, 502, 503, 504, 507, 509, 520, 521, 522, 523, 524})


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
    if length is not None and length >= LARGEST_FILE:
        raise SourceFault(Fault.SIZE, f"expected a wheel, found a file of {length:,} bytes")
    if size is not None and length is not None and length != size:
        raise SourceFault(Fault.SIZE, f"expected {size} bytes, found a file of {length}")
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


def judge_end(position: int, *, end: int | None) -> None:
    """Tells a finished body from one that was cut.

    Args:
        position: the file position that the transfer has reached.
        end: where it was to end; a server may send less of a range than was asked for. None where nobody said.

    Raises:
        SourceFault: bytes are missing; what came stays good.
    """
    if end is not None and position < end:
        raise SourceFault(Fault.CUT, f"expected the bytes up to {end}, the body ended after {position}")


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
    match = re.fullmatch(r"bytes\s+([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19}|\*)", found.strip(), re.IGNORECASE)
    if not match:
        raise SourceFault(Fault.RANGE, f"expected Content-Range: bytes {offset}-…, found {found[:80]!r}")
    start, end = int(match[1]), int(match[2]) + 1
    total = None if match[3] == "*" else int(match[3])
    if size is not None and total is not None and total != size:
        raise SourceFault(Fault.SIZE, f"expected a file of {size} bytes, found one of {total}")
    if max(end, total or 0) >= LARGEST_FILE:
        raise SourceFault(Fault.SIZE, f"expected a wheel, found a file of {max(end, total or 0):,} bytes")
    length = _length(headers)
    last = total if total is not None else size
    fits = (last is None or end <= last) and (length is None or length == end - start)
    if start != offset or end <= start or not fits:
        raise SourceFault(Fault.RANGE, f"expected the bytes from {offset} on, found Content-Range: {found[:80]}")
    return Body(start=start, end=end, total=total)


def _judge_unsatisfied(headers: Mapping[str, str], *, offset: int, size: int | None) -> Whole:
    match = re.fullmatch(r"bytes\s+\*/([0-9]{1,19})", headers.get("content-range", "").strip(), re.IGNORECASE)
    total = int(match[1]) if match else None
    if offset and offset == (size if size is not None else total):
        return Whole()
    found = f"a file of {total}" if match else "no such bytes"
    raise SourceFault(Fault.RANGE, f"expected the bytes from {offset} on, found {found} (416)")


def _length(headers: Mapping[str, str]) -> int | None:
    text = headers.get("content-length", "")
    return int(text) if re.fullmatch(r"[0-9]{1,19}", text) else None
