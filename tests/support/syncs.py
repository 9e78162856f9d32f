"""Syncs into one store, and what was said on the way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from support.wheels import MadeWheel
from wheelcache.events import Event, Note
from wheelcache.fetch import FetchSettings, WheelResult, sync_wheels
from wheelcache.lock import LockedWheel
from wheelcache.store import Store
from wheelcache.transport import Transport

MB = 1_000_000
PIECE = 64 << 10
"""Bytes of a piece in tests, so that small wheels have many."""

QUICK = FetchSettings(timeout=5.0, backoff=0.01, longest_pause=0.05, retries=4)
"""Impatient, so that tests are quick; pieces as in real life, so that a small wheel comes over one connection."""

IN_PIECES = FetchSettings(timeout=5.0, backoff=0.01, longest_pause=0.05, retries=4, piece=PIECE)
"""The same for wheels of many pieces."""

E = TypeVar("E")


class Syncs:
    """Syncs into one store, and keeps what was said on the way.

    Attributes:
        events: all of them, in order.
        transports: how many were made.
    """

    def __init__(self, root: Path, *, settings: FetchSettings = QUICK) -> None:
        self.store = Store.open(root)
        self.settings = settings
        self.events: list[Event] = []
        self.transports = 0

    def __call__(
        self,
        *wheels: LockedWheel,
        mirrors: Sequence[str] = (),
        indexes: Sequence[str] = (),
        settings: FetchSettings | None = None,
        offline: bool = False,
        stop: threading.Event | None = None,
        emit: Callable[[Event], None] | None = None,
    ) -> list[WheelResult]:
        settings = settings or self.settings

        def make() -> Transport:
            self.transports += 1
            return Transport(timeout=settings.timeout)

        return sync_wheels(
            wheels,
            store=self.store,
            transport=make,
            mirrors=mirrors,
            settings=settings,
            emit=emit or self.events.append,
            stop=stop or threading.Event(),
            offline=offline,
            indexes=indexes,
        )

    def holds(self, made: MadeWheel) -> bool:
        """True when the blob is there, and right."""
        blob = self.store.blob(made.digest)
        return blob.exists() and blob.read_bytes() == made.data

    def partial_file(self, made: MadeWheel) -> Path:
        """Where the bytes of a wheel are that is not complete."""
        return self.store.root / "v1" / "partial" / f"{made.digest.removeprefix('sha256:')}.part"

    def notes(self) -> str:
        return "\n".join(event.message for event in self.events if isinstance(event, Note))

    def seen(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]
