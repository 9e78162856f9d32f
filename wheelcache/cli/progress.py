"""Shows events on stderr: bars on a terminal, else a plain line every few seconds; and writes them as JSON lines."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Final, Protocol, TextIO

from wheelcache.cli.session import describe_bytes
from wheelcache.errors import UsageError
from wheelcache.events import (
    BuildFinished,
    BuildStarted,
    Event,
    Note,
    Sink,
    StepFinished,
    StepStarted,
    StoreRead,
    TransferFinished,
    TransferPlanned,
    TransferStatus,
    Waiting,
    WheelFinished,
    WheelProgress,
    WheelStarted,
)
from wheelcache.redaction import printable_lines
from wheelcache.stepnames import plain_step

_PLAIN_SECONDS: Final = 5.0
"""How often a run without a terminal says how far it is."""

_TOTAL_FORMAT: Final = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
"""The bar for everything: its rate is the sync's own, over the last seconds, with whom it talks to."""

_STEP_LENGTH: Final = 140
"""Characters of a step that are shown; its log has the rest."""

_NOTE_LEVELS: Final = {"debug": 1, "info": 0, "warning": -1, "error": -2}
"""The verbosity from which on a note is shown."""


def open_sink(resources: ExitStack, *, events: Path | None, verbosity: int, stream: TextIO) -> Sink:
    """Returns a sink for this run; what it holds open is closed with *resources*.

    Raises:
        UsageError: the events file cannot be written.
    """
    sinks: dict[str, Sink] = {}
    if events is not None:
        try:
            file = resources.enter_context(events.open("ab", buffering=0))
        except OSError as error:
            raise UsageError(f"--events {events}: cannot be written: {error}", hint="name a writable file") from error
        sinks[f"--events {events}"] = lambda event: _write_line(file, event)
    screen: _Screen = _Bars(stream) if stream.isatty() and verbosity >= 0 else _Lines(stream, quiet=verbosity < 0)
    resources.callback(_close, screen)
    sinks["progress"] = _Console(screen, verbosity).show
    lock = threading.Lock()

    def emit(event: Event) -> None:
        with lock:
            for name, sink in list(sinks.items()):
                try:
                    sink(event)
                except (OSError, ValueError) as error:  # a full disk, a reader that went away: no reason to stop
                    del sinks[name]
                    _tell(sinks, Note(level="warning", message=f"{name}: nothing more is written there: {error}"))

    return emit


def _tell(sinks: Mapping[str, Sink], note: Note) -> None:
    for sink in sinks.values():
        with suppress(OSError, ValueError):
            sink(note)


def _close(screen: _Screen) -> None:
    with suppress(OSError, ValueError):
        screen.close()


def _write_line(file: IO[bytes], event: Event) -> None:
    file.write(json.dumps({"time": time.time(), **event.as_json()}).encode() + b"\n")


class _Screen(Protocol):
    """A way of showing how far things are."""

    def line(self, text: str) -> None: ...

    def plan(self, size: int, present: int) -> None: ...

    def start(self, name: str, size: int, present: int) -> None: ...

    def advance(self, name: str, received: int) -> None: ...

    def status(self, rate: float, connections: str) -> None: ...

    def finish(self, name: str) -> None: ...

    def reading(self, read: int, size: int, rate: float) -> None: ...

    def step(self, build: str, step: str | None) -> None: ...

    def settle(self) -> None: ...

    def close(self) -> None: ...


class _Console:
    """Turns events into what a screen shows."""

    def __init__(self, screen: _Screen, verbosity: int) -> None:
        self._screen = screen
        self._verbosity = verbosity

    def show(self, event: Event) -> None:  # noqa: C901, PLR0912 - one case per event
        """Shows one event."""
        screen = self._screen
        match event:
            case Note(level=level, message=message):
                if self._verbosity >= _NOTE_LEVELS[level]:
                    shown = printable_lines(message)
                    screen.line(shown if level in {"info", "debug"} else f"{level}: {shown}")
            case TransferPlanned(size=size, present=present):
                screen.plan(size, present)
            case TransferFinished():
                screen.settle()
            case WheelStarted(filename=name, size=size, present=present):
                screen.start(name, size, present)
            case WheelProgress(filename=name, received=received):
                screen.advance(name, received)
            case TransferStatus(rate=rate, connections=connections):
                screen.status(rate, describe_connections(connections))
            case WheelFinished(filename=name, state=state, error=error):
                screen.finish(name)
                if error and self._verbosity >= 0:
                    screen.line(f"{name}: {state}: {_without(name, error)}")
            case Waiting(filename=name, seconds=seconds, reason=reason, host=host):
                if self._verbosity >= 0:
                    how_long = f"waiting {seconds:.0f} s{f' for {host}' if host else ''}: " if seconds else ""
                    screen.line(f"{name}: {how_long}{reason}")
            case StoreRead(read=read, size=size, rate=rate):
                screen.reading(read, size, rate)
            case BuildStarted(name=name, attempt=attempt):
                if self._verbosity >= 0:
                    screen.line(f"{name}: building" + (f", attempt {attempt}" if attempt > 1 else ""))
            case StepStarted(name=name, step=step):
                if shown := shown_step(step):
                    screen.step(name, shown)
            case StepFinished(name=name, step=step, state=state, seconds=seconds):
                screen.step(name, None)
                shown = shown_step(step)
                if self._verbosity >= 0 and shown and (seconds >= 1 or state == "failed" or self._verbosity > 0):
                    screen.line(f"{name}: {shown}: {state}, {seconds:.1f} s")
            case BuildFinished(name=name, state=state, seconds=seconds):
                screen.step(name, None)
                if self._verbosity >= 0:
                    screen.line(f"{name}: {state}, {seconds:.1f} s")
            case _:
                pass


def _without(name: str, error: str) -> str:
    """Returns an error's first line without the name before it; the run's own error says the rest."""
    return error.partition("\n")[0].removeprefix(f"{name}: ")


def describe_connections(connections: Mapping[str, int]) -> str:
    """Returns whom we talk to as people read it: `4 connections to 2 hosts`; empty when to nobody."""
    count = sum(connections.values())
    if not count:
        return ""
    whom = f"{len(connections)} hosts" if len(connections) > 1 else next(iter(connections)) or "this machine's disk"
    return f"{count} connection{'s' if count > 1 else ''} to {whom}"


def shown_step(step: str) -> str:
    """Returns a build step as people know it: without the words we put in; empty for BuildKit's own housekeeping."""
    if step.startswith(("[internal]", "[context ")):
        return ""
    plain = plain_step(step)
    return plain if len(plain) <= _STEP_LENGTH else f"{plain[: _STEP_LENGTH - 1]}…"


class _Lines:
    """For logs and pipes: sentences, and every few seconds how far the transfer is."""

    def __init__(self, stream: TextIO, *, quiet: bool) -> None:
        self._stream = stream
        self._quiet = quiet
        self._size = self._done = 0
        self._last = time.monotonic()

    def line(self, text: str) -> None:
        self._stream.write(f"{text}\n")
        self._stream.flush()

    def plan(self, size: int, present: int) -> None:
        self._size, self._done = size, present
        self._last = time.monotonic()

    def start(self, name: str, size: int, present: int) -> None:
        pass

    def advance(self, name: str, received: int) -> None:  # noqa: ARG002
        self._done += received

    def status(self, rate: float, connections: str) -> None:
        now = time.monotonic()
        if self._quiet or now - self._last < _PLAIN_SECONDS:
            return
        self._last = now
        share = f" ({100 * self._done / self._size:.0f} %)" if self._size else ""
        left = [f"{max(0, self._size - self._done) / rate:.0f} s left"] if rate >= 1 and self._size else []
        parts = [f"{describe_bytes(rate)}/s", *left, *([connections] if connections else [])]
        self.line(f"{describe_bytes(self._done)} of {describe_bytes(self._size)}{share}, {', '.join(parts)}")

    def finish(self, name: str) -> None:
        pass

    def reading(self, read: int, size: int, rate: float) -> None:
        self._size, self._done = size, read
        self.status(rate, "")

    def step(self, build: str, step: str | None) -> None:
        if step is not None and not self._quiet:
            self.line(f"{build}: {step}")

    def settle(self) -> None:
        pass

    def close(self) -> None:
        pass


class _Bars:
    """For a terminal: one bar for everything, one per file under way, one for the build step that runs."""

    def __init__(self, stream: TextIO) -> None:
        from tqdm import tqdm  # noqa: PLC0415 - only a terminal needs it

        self._tqdm: type[tqdm[object]] = tqdm
        self._stream = stream
        self._total: tqdm[object] | None = None
        self._files: dict[str, tqdm[object]] = {}
        self._step: tqdm[object] | None = None
        self._ascii = bool(os.environ.get("NO_COLOR")) or "utf" not in (stream.encoding or "").lower()

    def line(self, text: str) -> None:
        self._tqdm.write(text, file=self._stream)

    def plan(self, size: int, present: int) -> None:
        self._total = self._bar("all wheels", size, present, leave=True, bar_format=_TOTAL_FORMAT)

    def start(self, name: str, size: int, present: int) -> None:
        if name not in self._files:
            self._files[name] = self._bar(name.split("-", maxsplit=1)[0][:24], size, present, leave=False)

    def advance(self, name: str, received: int) -> None:
        if self._total is not None:
            self._total.update(received)
        if name in self._files:
            self._files[name].update(received)

    def status(self, rate: float, connections: str) -> None:
        if self._total is not None:
            parts = [f"{describe_bytes(rate)}/s", *([connections] if connections else [])]
            self._total.set_postfix_str(", ".join(parts))

    def finish(self, name: str) -> None:
        if bar := self._files.pop(name, None):
            bar.close()

    def reading(self, read: int, size: int, rate: float) -> None:
        if self._total is None:
            self._total = self._bar("the store", size, 0, leave=True, bar_format=_TOTAL_FORMAT)
        self._total.update(read - self._total.n)
        self.status(rate, "")
        if read >= size:
            self.settle()

    def step(self, build: str, step: str | None) -> None:
        if self._step is not None:
            self._step.close()
            self._step = None
        if step is not None:
            self._step = self._tqdm(  # type: ignore[assignment]
                desc=f"{build}: {step}",
                bar_format="{desc} [{elapsed}]",
                file=self._stream,
                leave=False,
                dynamic_ncols=True,
            )

    def settle(self) -> None:
        bars = [*self._files.values(), self._total]
        self._files, self._total = {}, None
        for bar in bars:
            if bar is not None:
                bar.close()

    def close(self) -> None:
        self.settle()
        if self._step is not None:
            self._step.close()

    def _bar(self, label: str, size: int, present: int, *, leave: bool, bar_format: str | None = None) -> tqdm[object]:  # type: ignore[name-defined]  # noqa: F821
        return self._tqdm(
            desc=label,
            total=size or None,
            initial=present,
            unit="B",
            unit_scale=True,
            leave=leave,
            bar_format=bar_format,
            file=self._stream,
            ascii=self._ascii,
            dynamic_ncols=True,
            smoothing=0.1,
        )
