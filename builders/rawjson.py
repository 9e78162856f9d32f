"""What buildx says of a running build (`--progress=rawjson`), decoded and added up while it comes in."""

from __future__ import annotations

import base64
import binascii
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from wheelcache.events import Sink, StepFinished, StepStarted, StepState
from wheelcache.redaction import without_userinfo

TAIL_LINES: Final = 400
"""Lines of a step's log that are kept at hand; the log file has them all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Vertex:
    """A state of one step: BuildKit's `client.Vertex`; times are RFC 3339, empty where it has not come to that.

    Attributes:
        name: the instruction as the Dockerfile has it, without the credentials of its URLs.
        error: why it failed; empty when it did not. Steps given up because another one failed carry none.
        is_given_up: True when it was stopped because another one failed, or because the client went away.
    """

    digest: str
    name: str
    started: str = ""
    completed: str = ""
    cached: bool = False
    error: str = ""
    is_given_up: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class LogLine:
    """Bytes that a step wrote, not cut at line ends; *stream* is 1 (stdout) or 2 (stderr)."""

    vertex: str
    stream: int
    data: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Status:
    """How far one transfer of a step is: *current* of *total* bytes (0: not known)."""

    vertex: str
    id: str
    current: int
    total: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """A line of plain text beside the JSON: warnings, and how the build ended."""

    line: str


_DEFINITION: Final = "load build definition"
"""In the name of the step that takes the Dockerfile in."""

Message = Vertex | LogLine | Status | Text


class Decoder:
    """Turns buildx's stderr into messages, whatever the pieces it comes in.

    A message is one JSON object: indented over several lines in buildx 0.13, on one line later. JSON strings hold no
    line ends, so an object that begins at a line's start ends at a line that begins (or, on one line, ends) with its
    brace.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._lines: list[str] = []

    def feed(self, data: bytes) -> Iterator[Message]:
        """Takes more bytes and returns what has become whole."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            yield from self._take(line.decode(errors="replace").rstrip("\r"))

    def close(self) -> Iterator[Message]:
        """Returns what is left when the stream has ended; what never became an object is text."""
        if self._rest:
            yield from self._take(self._rest.decode(errors="replace"))
        lines, self._lines, self._rest = self._lines, [], b""
        yield from (Text(line=line) for line in lines)

    def _take(self, line: str) -> Iterator[Message]:
        if not self._lines and not line.startswith("{"):
            yield Text(line=line)
            return
        self._lines.append(line)
        is_whole = line.startswith("}") if len(self._lines) > 1 else line.rstrip().endswith("}")
        if not is_whole:
            return
        lines, self._lines = self._lines, []
        try:
            document = json.loads("\n".join(lines))
        except ValueError:
            yield from (Text(line=line) for line in lines)
        else:
            yield from _messages(document)


def _messages(document: Mapping[str, object]) -> Iterator[Message]:
    """Reads one `client.SolveStatus`; keys of later versions are passed over."""
    for entry in _entries(document, "vertexes"):
        error = _text(entry, "error")
        # So does BuildKit call a step that it stopped because another one failed, or because the client went away.
        is_given_up = error.endswith("context canceled")
        yield Vertex(
            digest=_text(entry, "digest"),
            name=without_userinfo(_text(entry, "name")),
            started=_text(entry, "started"),
            completed=_text(entry, "completed"),
            cached=entry.get("cached") is True,
            error="" if is_given_up else without_userinfo(error),
            is_given_up=is_given_up,
        )
    for entry in _entries(document, "statuses"):
        yield Status(
            vertex=_text(entry, "vertex"),
            id=_text(entry, "id"),
            current=_number(entry, "current"),
            total=_number(entry, "total"),
        )
    for entry in _entries(document, "logs"):
        try:
            data = base64.b64decode(_text(entry, "data"))
        except binascii.Error:
            continue
        yield LogLine(vertex=_text(entry, "vertex"), stream=_number(entry, "stream"), data=data)


def _entries(document: Mapping[str, object], key: str) -> Iterator[Mapping[str, object]]:
    entries = document.get(key)
    if isinstance(entries, list):
        yield from (entry for entry in entries if isinstance(entry, dict))


def _text(entry: Mapping[str, object], key: str) -> str:
    value = entry.get(key)
    return value if isinstance(value, str) else ""


def _number(entry: Mapping[str, object], key: str) -> int:
    value = entry.get(key)
    return value if isinstance(value, int) else 0


@dataclass(frozen=True, kw_only=True, slots=True)
class StepResult:
    """How one step ended.

    Attributes:
        name: BuildKit's vertex name.
        state: `cached` where nothing ran.
        seconds: how long it ran, all its runs together.
        sent: bytes of local files sent for it.
    """

    name: str
    state: StepState
    seconds: float
    sent: int = 0


def add_up(earlier: Iterable[StepResult], later: Iterable[StepResult]) -> tuple[StepResult, ...]:
    """Returns the steps of two attempts as those of one: what the first did is not undone by being cached later."""
    steps = {step.name: step for step in earlier}
    for step in later:
        before = steps.get(step.name, StepResult(name=step.name, state=step.state, seconds=0.0))
        steps[step.name] = StepResult(
            name=step.name,
            state=before.state if step.state == "cached" else step.state,
            seconds=before.seconds + step.seconds,
            sent=before.sent + step.sent,
        )
    return tuple(steps.values())


@dataclass(kw_only=True, slots=True)
class Step:
    """What is known of one step so far.

    Attributes:
        number: its place among the steps, from 1, as `--progress=plain` numbers them.
        name: BuildKit's vertex name, such as `[builder 3/5] RUN pip install …`.
        seconds: how long it ran, all its runs together (BuildKit may take a step up again).
        tail: the last lines it wrote, each without its line end.
        sent: bytes of local files sent for it.
    """

    number: int
    name: str
    started: str = ""
    completed: str = ""
    cached: bool = False
    error: str = ""
    is_given_up: bool = False
    seconds: float = 0.0
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL_LINES))
    sent: dict[str, int] = field(default_factory=dict)
    open_line: bytes = b""

    @property
    def is_running(self) -> bool:
        """True between its start and its end."""
        return bool(self.started) and not self.completed

    @property
    def state(self) -> StepState:
        """How it ended, once it has."""
        if self.error:
            return "failed"
        return "cached" if self.cached else "done"

    @property
    def log(self) -> str:
        """The last lines it wrote, as one text."""
        lines = [*self.tail, _shown(self.open_line)] if self.open_line else [*self.tail]
        return "\n".join(lines)


class BuildProgress:
    """Adds up a build's messages, tells its steps as events and writes its log as `--progress=plain` would.

    Args:
        name: the image, as events name it.
        emit: takes the events.
        write: takes the log's text, piece by piece.
    """

    def __init__(self, name: str, *, emit: Sink, write: Callable[[str], object]) -> None:
        self.steps: dict[str, Step] = {}
        self._trailer: list[str] = []
        self._decoder = Decoder()
        self._name = name
        self._emit = emit
        self._write = write

    def feed(self, data: bytes) -> None:
        """Takes more of buildx's stderr."""
        for message in self._decoder.feed(data):
            self._apply(message)

    def close(self) -> None:
        """Takes the end of buildx's stderr: half a line is a line now."""
        for message in self._decoder.close():
            self._apply(message)
        for step in self.steps.values():
            self._end_line(step)

    @property
    def trailer(self) -> str:
        """The plain text beside the JSON: buildx's own warnings and its last words."""
        return "\n".join(self._trailer).strip("\n")

    @property
    def failed(self) -> Step | None:
        """The step that failed; None when none did, which parse, flag and missing-image errors leave so."""
        return next((step for step in self.steps.values() if step.error), None)

    @property
    def results(self) -> tuple[StepResult, ...]:
        """How the steps ended that came to an end of their own, in the order in which they were first heard of."""
        return tuple(
            StepResult(name=step.name, state=step.state, seconds=step.seconds, sent=sum(step.sent.values()))
            for step in self.steps.values()
            if step.completed and not step.is_given_up
        )

    @property
    def bytes_sent(self) -> int:
        """Bytes of local contexts that were sent to the engine: files, and for each context the list of its names.

        The Dockerfile is left out: our copy of it is new, and sent, each time. BuildKit drops the last words of
        transfers that take milliseconds, so small ones may count too little.
        """
        return sum(sum(step.sent.values()) for step in self.steps.values() if _DEFINITION not in step.name)

    @property
    def contexts(self) -> frozenset[str]:
        """The named contexts that the build took up; one that was passed and is absent here overrode nothing."""
        names = (step.name for step in self.steps.values() if step.name.startswith("[context "))
        return frozenset(name.removeprefix("[context ").partition("]")[0] for name in names)

    def _apply(self, message: Message) -> None:
        match message:
            case Vertex():
                self._vertex(message)
            case LogLine():
                if step := self.steps.get(message.vertex):
                    self._log(step, message.data)
            case Status():
                if (step := self.steps.get(message.vertex)) and message.id.startswith("transferring "):
                    step.sent[message.id] = max(message.current, step.sent.get(message.id, 0))
            case Text():
                line = without_userinfo(message.line)
                self._trailer.append(line)
                self._write(f"{line}\n")

    def _vertex(self, vertex: Vertex) -> None:
        step = self.steps.get(vertex.digest)
        if step is None:
            step = self.steps[vertex.digest] = Step(number=len(self.steps) + 1, name=vertex.name)
        was_running, was_started = step.is_running, step.started
        step.started, step.completed = vertex.started, vertex.completed
        step.cached = step.cached or vertex.cached
        step.error = vertex.error or step.error
        step.is_given_up = vertex.is_given_up
        is_new_run = bool(vertex.started) and vertex.started != was_started
        if is_new_run and not was_started:
            self._write(f"#{step.number} {step.name}\n")
        if is_new_run and not was_running:
            self._emit(StepStarted(name=self._name, step=step.name))
        if step.completed and (was_running or is_new_run):
            self._finish(step)

    def _finish(self, step: Step) -> None:
        seconds = _seconds_between(step.started, step.completed)
        step.seconds += seconds
        self._end_line(step)
        words = {"failed": f"ERROR: {step.error}", "cached": "CACHED", "done": f"DONE {seconds:.1f}s"}
        self._emit(StepFinished(name=self._name, step=step.name, state=step.state, seconds=seconds))
        self._write(f"#{step.number} {words[step.state]}\n")

    def _log(self, step: Step, data: bytes) -> None:
        *lines, step.open_line = (step.open_line + data).split(b"\n")
        for line in lines:
            self._line(step, line)

    def _end_line(self, step: Step) -> None:
        if step.open_line:
            self._line(step, step.open_line)
            step.open_line = b""

    def _line(self, step: Step, data: bytes) -> None:
        text = _shown(data)
        step.tail.append(text)
        self._write(f"#{step.number} {text}\n")


def _shown(line: bytes) -> str:
    """Returns what a terminal shows of a line in the end (what follows its last carriage return), less credentials."""
    return without_userinfo(line.decode(errors="replace").rstrip("\r").rpartition("\r")[2])


def _seconds_between(started: str, completed: str) -> float:
    try:
        return max(0.0, (datetime.fromisoformat(completed) - datetime.fromisoformat(started)).total_seconds())
    except (ValueError, TypeError):
        return 0.0
