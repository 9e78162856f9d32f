"""What happens while we work, as values: progress bars, logs and `--events` are all made from these."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Literal

WheelState = Literal["cached", "downloaded", "resumed", "missing", "failed"]
StepState = Literal["done", "cached", "failed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """Something that happened; fields are JSON values, sizes in bytes, times in seconds."""

    def as_json(self) -> dict[str, object]:
        """Returns the event as one JSON object, its class as `event`."""
        return {"event": type(self).__name__, **asdict(self)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Note(Event):
    """A sentence for people; never holds a credential."""

    level: Literal["debug", "info", "warning", "error"]
    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class TransferPlanned(Event):
    """A sync knows what it has to fetch: *wheels* files, *size* bytes, of which *present* are on disk already."""

    wheels: int
    size: int
    present: int


@dataclass(frozen=True, kw_only=True, slots=True)
class TransferFinished(Event):
    """A sync fetches no more, whatever came of it; *fetched* bytes came over the network."""

    fetched: int


@dataclass(frozen=True, kw_only=True, slots=True)
class WheelStarted(Event):
    """A wheel's transfer begins; *present* of its *size* bytes are on disk already."""

    filename: str
    size: int
    present: int
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class WheelProgress(Event):
    """*received* more bytes of a wheel came in (negative when bytes had to be thrown away)."""

    filename: str
    received: int


@dataclass(frozen=True, kw_only=True, slots=True)
class WheelFinished(Event):
    """A wheel is in the store, or was given up."""

    filename: str
    state: WheelState
    error: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting(Event):
    """A wheel does not move for *seconds*, and why; *host* is whom it waits for, empty where it is no server."""

    filename: str
    seconds: float
    reason: str
    host: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class TransferStatus(Event):
    """How a sync does, about once a second: *rate* in bytes per second over the last seconds, connections by host."""

    received: int
    rate: float
    connections: dict[str, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreRead(Event):
    """A verification has read *read* of *size* bytes, at *rate* bytes per second; at its end they are equal."""

    read: int
    size: int
    rate: float


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildStarted(Event):
    """An image's build begins."""

    name: str
    attempt: int
    log: str


@dataclass(frozen=True, kw_only=True, slots=True)
class StepStarted(Event):
    """A step of a build runs; *step* is BuildKit's vertex name (`[builder 3/5] RUN pip install …`)."""

    name: str
    step: str


@dataclass(frozen=True, kw_only=True, slots=True)
class StepFinished(Event):
    """A step of a build ended."""

    name: str
    step: str
    state: StepState
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildFinished(Event):
    """An image's build ended."""

    name: str
    state: Literal["built", "unchanged", "failed", "skipped"]
    seconds: float


Sink = Callable[[Event], None]
"""Takes events, from any thread, and returns at once."""


def ignore(_event: Event) -> None:
    """Takes an event and does nothing: the sink of callers who do not watch."""
