"""What became of a wheel that was to be in the store."""

from __future__ import annotations

from dataclasses import dataclass

from wheelcache.errors import StoreFullError, WheelcacheError
from wheelcache.events import WheelState
from wheelcache.lock import LockedWheel


@dataclass(frozen=True, kw_only=True, slots=True)
class WheelResult:
    """What became of one wheel.

    Attributes:
        wheel: as locked, with the URLs of all lockfiles that name its digest; with its size once that is known.
        state: `missing` means that it was not tried to the end.
        bytes_fetched: over the network, wasted ones included.
        source: where it came from, without credentials; empty when nothing had to come.
        error: why it is not there; empty when it is.
        failure: the same as an error with its exit code; None when it is there, or the sync was interrupted.
    """

    wheel: LockedWheel
    state: WheelState
    bytes_fetched: int = 0
    source: str = ""
    error: str = ""
    failure: WheelcacheError | None = None


def not_tried(wheel: LockedWheel, full: StoreFullError, *, bytes_fetched: int = 0) -> WheelResult:
    """Returns what became of a wheel that the disk has no room for."""
    error = f"{wheel.filename}: not tried, the disk is full"
    return WheelResult(wheel=wheel, state="missing", bytes_fetched=bytes_fetched, error=error, failure=full)
