"""What can be wrong with a source, as values: the class of a fault, whom it concerns, and URLs fit for people."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final
from urllib.parse import SplitResult, urlsplit, urlunsplit

from wheelcache.redaction import without_userinfo


class Fault(StrEnum):
    """The class of a source's failure (DESIGN.md section 7); the value is the word for people."""

    CONNECT = "no connection"
    TLS = "TLS certificate refused"
    REDIRECT = "redirect refused"
    BUSY = "busy"
    REFUSED = "refused"
    RANGE = "ranges not served"
    FOREIGN = "not the wheel"
    SIZE = "another file"
    CUT = "cut short"
    SILENT = "silent"
    SLOW = "too slow"
    DIGEST = "wrong bytes"


FATAL: Final = frozenset({Fault.TLS, Fault.REDIRECT, Fault.REFUSED, Fault.DIGEST})
"""After one of these a source is not asked for this wheel again."""


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
        self.message = "".join(char if char.isprintable() else "?" for char in message)  # servers' words are in it
        self.hint = hint
        self.retry_after = retry_after

    @property
    def reason(self) -> str:
        """What people are told is waited for: the class, and the status where there was one."""
        status = re.search(r"HTTP status \d+", self.message)
        return f"{self.fault} ({status[0]})" if status else str(self.fault)


def public_url(url: str) -> str:
    """Returns *url* as it may be printed and stored: without user, password, query (signed URLs) and fragment."""
    parts = _split(without_userinfo(url))
    if not re.fullmatch(r"(\[[0-9a-fA-F:.]*\]|[^:\[\]]*)(:[0-9]*)?", parts.netloc) or (parts.path and not parts.scheme):
        return "(a URL that cannot be read)"  # what looks like a host may be half of a password
    return urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))


def host_of(url: str) -> str:
    """Returns the host and port of *url*, empty for a file."""
    return _split(without_userinfo(url)).netloc.lower()


def _split(url: str) -> SplitResult:
    """Splits a URL; one that is none is all path, and whoever opens it will say so."""
    try:
        return urlsplit(url)
    except ValueError:
        return SplitResult("", "", url.rpartition("@")[2], "", "")
