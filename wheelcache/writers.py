"""Who writes to a digest: a line in its lock file, which tells those who wait, and decides where locks do not.

The system's lock keeps others out and ends with its process. But some file systems have none, and some grant it to
everybody (NFS between machines without a lock manager). So whoever has it adds a line about itself, and only who stands
first of those who still run may write. Where that cannot be known, a line counts as long as its file is touched now and
then, which a writer does. What is no such line says nothing.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

from wheelcache.errors import StoreError
from wheelcache.ordinary import DOOR, open_own, open_regular
from wheelcache.place import Place

SILENT_SECONDS: Final = 120.0
"""So long after its last sign of life a writer of another machine is given up."""

_LARGEST_BYTES: Final = 1 << 20
_LONGEST_WORD: Final = 60


class Taken(StoreError):  # noqa: N818 - who comes later waits; nobody erred
    """Another process writes to the digest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Writer:
    """A process that writes to digests.

    Attributes:
        token: tells it from all others, even of the same process.
        pid: of the process, as those know it who share its *space*.
        started: with the pid, tells the process from earlier ones; empty where the system does not say.
        space: the namespace of its pid; empty where there are none.
        boot: of which start of the machine; empty where the system does not say.
        place: the key of where it runs.
        host: what people call that.
        command: what it does, in words.
        since: when it began with this digest, in seconds since 1970; 0 before that.
    """

    token: str
    pid: int
    started: str
    space: str
    boot: str
    place: str
    host: str
    command: str
    since: float

    def line(self) -> bytes:
        """Returns the line about it; it begins anew, whatever a killed process left before it."""
        return f"\n{json.dumps(asdict(self))}\n".encode()

    def retraction(self) -> bytes:
        """Returns the line after which it is not there any more."""
        return f"\n{json.dumps({'left': self.token})}\n".encode()

    def describe(self, me: Writer) -> str:
        """Returns what people are told of it; *me*: who tells."""
        where = "" if self.place == me.place else f" on {_plain(self.host)}"
        return f"process {self.pid}{where} ({_plain(self.command)})"

    def is_gone(self, me: Writer, *, silence: Callable[[], float]) -> bool:
        """True when it runs no more, as far as *me* can tell, who has the system's lock.

        Args:
            me: who asks.
            silence: returns the seconds since its last sign of life.
        """
        if self.token == me.token:
            return False
        is_same_boot = bool(self.boot) and self.boot == me.boot
        if is_same_boot and self.space == me.space:
            return not self.started or process_start(self.pid) != self.started
        if is_same_boot or self.place == me.place:  # one kernel, whose lock is to be trusted; or an earlier start of it
            return True
        return silence() >= SILENT_SECONDS


def this_writer(command: str, *, boot: str, place: Place) -> Writer:
    """Returns what is to be known of this process.

    Args:
        command: what it does, in words.
        boot: this start of the machine.
        place: where it runs.
    """
    space = ""
    with suppress(OSError):
        space = str(Path("/proc/self/ns/pid").stat().st_ino)
    return Writer(
        token=os.urandom(8).hex(),
        pid=os.getpid(),
        started=process_start(os.getpid()),
        space=space,
        boot=boot,
        place=place.key,
        host=place.name,
        command=command,
        since=0.0,
    )


def process_start(pid: int) -> str:
    """Returns what tells a process from others of its pid (proc_pid_stat(5)); empty for one that runs no more."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    state, *others = text.rpartition(")")[2].split()
    return "" if state in {"Z", "X", "x"} else others[18]


class Claim:
    """The right to write to a digest, as it stands in its lock file; `release` it.

    Args:
        file: the digest's lock file.
        me: who claims.
        now: returns seconds since 1970.

    Raises:
        Taken: another process has it.
        OSError: the file cannot be read or written.
    """

    def __init__(self, file: Path, me: Writer, *, now: Callable[[], float]) -> None:
        self._file = file
        self._me = replace(me, since=now())
        self._now = now
        self._descriptor = open_own(file)
        self._gone: set[str] = set()
        self.is_from_afar = False
        """True when a process of another machine had it, which fell silent: who knows what it may yet write."""
        try:
            self._take()
        except BaseException:
            os.close(self._descriptor)
            raise

    def holds(self) -> bool:
        """True when this is still the first writer in the file, which is still in its place."""
        try:
            is_there = os.path.samestat(os.fstat(self._descriptor), self._file.lstat())
        except FileNotFoundError:
            return False
        return is_there and self._is_first()

    def touch(self) -> None:
        """Gives a sign of life."""
        with suppress(OSError):  # another user's file: it is touched by being written to
            os.utime(self._descriptor)

    def release(self) -> None:
        """Gives the right back; once is enough."""
        if self._descriptor < 0:
            return
        with suppress(OSError):
            if self._is_first():
                os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)
        self._descriptor = -1

    def _take(self) -> None:
        writers = self._writers()
        if self._first_of(writers) is None:
            self._gone = {each.token for each in writers}  # for good: our own sign of life is none of theirs
            self.is_from_afar = any(each.boot != self._me.boot and each.place != self._me.place for each in writers)
            self._append(self._me.line())
            if not self._is_first():
                self._append(self._me.retraction())
        if not self._is_first():
            raise Taken(f"{self._file}: another process writes to it", hint="wait until it has ended")

    def _is_first(self) -> bool:
        first = self._first_of(self._writers())
        return first is not None and first.token == self._me.token

    def _first_of(self, writers: Sequence[Writer]) -> Writer | None:
        rest = (each for each in writers if each.token not in self._gone)
        return next((each for each in rest if not each.is_gone(self._me, silence=self._silence)), None)

    def _silence(self) -> float:
        return self._now() - os.fstat(self._descriptor).st_mtime

    def _writers(self) -> list[Writer]:
        return parse_writers(os.pread(self._descriptor, _LARGEST_BYTES, 0))

    def _append(self, line: bytes) -> None:
        """Adds a line after all others, whoever adds one at the same moment."""
        appending = os.open(self._file, os.O_WRONLY | os.O_APPEND | DOOR)
        try:
            if os.write(appending, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(appending)


def last_writer(file: Path, me: Writer) -> Writer | None:
    """Returns who took a digest's lock last; None where nobody did, nobody knows, or it runs no more."""
    try:
        with open_regular(file) as opened:
            data = opened.read(_LARGEST_BYTES)
    except OSError:
        return None
    last = next(iter(reversed(parse_writers(data))), None)
    is_here = last is not None and last.boot == me.boot and last.space == me.space
    return None if last is None or (is_here and last.is_gone(me, silence=lambda: 0.0)) else last


def parse_writers(data: bytes) -> list[Writer]:
    """Returns the writers in a lock file's bytes, in order; what is no line of ours is passed over."""
    found: list[Writer] = []
    for line in data.splitlines():
        value: object = None
        with suppress(ValueError, RecursionError):
            value = json.loads(line)
        if isinstance(value, dict) and value.keys() == {"left"}:
            found = [writer for writer in found if writer.token != value["left"]]
        elif isinstance(value, dict) and (writer := _writer(value)) is not None:
            found.append(writer)
    return found


def _writer(value: Mapping[str, Any]) -> Writer | None:
    types = {field.name: field.type for field in fields(Writer)}
    if value.keys() != types.keys():
        return None
    words = [value[name] for name, kind in types.items() if kind == "str"]
    are_numbers = isinstance(value["pid"], int) and all(map(_is_number, (value["pid"], value["since"])))
    return Writer(**value) if are_numbers and all(isinstance(word, str) for word in words) else None


def _is_number(value: object) -> bool:
    """True for what may be a pid, or seconds since 1970 that can be shown as a time of day."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1 << 32


def _plain(word: str) -> str:
    """Returns a word of a file that others may have written, as it may be shown."""
    return "".join(character if character.isprintable() else "?" for character in word)[:_LONGEST_WORD]
