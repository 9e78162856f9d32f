"""Syncs into one store, and what was said on the way."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, Self, TypeVar

from support.wheels import MadeWheel
from wheelcache.events import Event, Note
from wheelcache.fetch import FetchSettings, WheelResult, sync_wheels
from wheelcache.journal import line_of, read_journal
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

    def again(self) -> Self:
        """The next run's syncs into the same store."""
        return type(self)(self.store.root, settings=self.settings)

    def keep(self, made: MadeWheel, *spans: tuple[int, int], boot: str | None = None) -> int:
        """Leaves a partial with parts of a wheel, as a stopped run would; returns how many bytes it has.

        Args:
            made: the wheel.
            spans: the start and end of each part.
            boot: of which start of the machine; None: this one.
        """
        partial = self.store.partial(made.locked(), piece=self.settings.piece)
        for start, end in spans:
            partial.write(start, made.data[start:end])
        kept = partial.present
        partial.close()
        if boot is not None:
            journal = self.partial_file(made).with_suffix(".json")
            head, _ = read_journal(journal)
            with journal.open("r+b") as opened:
                opened.write(line_of(replace(head, boot=boot)))
        return kept

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


PROGRAM: Final = textwrap.dedent("""
    import json, sys, threading
    from pathlib import Path
    from wheelcache.events import ignore
    from wheelcache.fetch import FetchSettings, sync_wheels
    from wheelcache.lock import LockedWheel
    from wheelcache.store import Store
    from wheelcache.transport import Transport
    root, wheels, settings, before = sys.argv[1:]
    exec(before)
    wheels = [LockedWheel(**{**each, "urls": tuple(each["urls"])}) for each in json.loads(wheels)]
    results = sync_wheels(wheels, store=Store.open(Path(root)), transport=Transport, mirrors=[],
                          settings=FetchSettings(**json.loads(settings)), emit=ignore, stop=threading.Event())
    print(json.dumps([[result.state, result.bytes_fetched] for result in results]))
""")


def start_sync(
    root: Path, *wheels: LockedWheel, before: str = "", and_then: str = "", **settings: object
) -> subprocess.Popen[str]:
    """Starts a sync in a process of its own, which prints a line: each wheel's state and the bytes fetched, as JSON.

    Args:
        root: the cache folder.
        wheels: which.
        before: statements to begin with.
        and_then: a program to go on with.
        settings: of `FetchSettings`.
    """
    fields = ("name", "version", "filename", "digest", "size", "urls")
    text = json.dumps([{field: getattr(wheel, field) for field in fields} for wheel in wheels])
    command = [sys.executable, "-c", PROGRAM + and_then, str(root), text, json.dumps(settings), before]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def results_of(process: subprocess.Popen[str]) -> list[tuple[str, int]]:
    """Waits for a sync in a process of its own; returns each wheel's state and the bytes fetched."""
    return [(state, fetched) for state, fetched in json.loads(process.communicate()[0].splitlines()[0])]
