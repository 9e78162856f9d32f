"""Ends a process, or fills its disk, at the n-th thing that it asks of a folder's file system.

A scenario is a function of a folder and of `Said`. It runs in a process of its own in which the calls of Python that
change files are counted: those of `os`, of opened files, and of SQLite's connections. At the chosen one the process is
killed (SIGKILL) before it, or in the middle of a write; or there is no room from then on. `Nursery.each_fault` tries
all of them.
"""

from __future__ import annotations

import base64
import errno
import io
import itertools
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn, Self

FaultKind = Literal["killed", "torn", "full", "full for a moment"]
"""Killed before a call, or in the middle of a write; no room from a call on, or for that call alone."""

_BY_PATH = ("mkdir", "unlink", "remove", "rmdir", "chmod", "replace", "rename", "link", "truncate")
_BY_DESCRIPTOR = ("pwrite", "write", "ftruncate", "fchmod", "fsync", "fdatasync")
_GROWING = frozenset({"open", "mkdir", "write", "pwrite", "fsync", "fdatasync", "link", "sqlite"})
"""What needs room; disks that promise room late say only at a flush that there is none."""

_LONGEST = 30
_SERVE = "from support.faultpoints import serve; serve()"
_TESTS = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """A scenario that has ended.

    Attributes:
        at: the number of the call at which the fault was to come.
        reached: the name of that call; empty when the scenario ended before it.
        code: the process's exit code; negative for a signal.
        said: what the scenario had said by then.
        error: the traceback of what it raised.
    """

    at: int
    reached: str
    code: int
    said: tuple[str, ...]
    error: str


class Said:
    """Takes what a scenario says of its progress: on the disk at once, outside the folder that has the fault."""

    def __init__(self, file: Path) -> None:
        self._descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._write = os.write

    def __call__(self, line: str) -> None:
        self._write(self._descriptor, f"{line}\n".encode())


Scenario = Callable[[Path, Said], None]


class Nursery:
    """Runs scenarios, each in a fork of one process that has imported all they need; a context that ends it."""

    def __init__(self) -> None:
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in (str(_TESTS), *sys.path) if path)}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._process = subprocess.Popen([sys.executable, "-c", _SERVE], env=environ, text=True, **pipes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def each_fault(
        self, scenario: Scenario, prepare: Callable[[int], Path], kind: FaultKind, *, first: int = 1, step: int = 1
    ) -> Iterator[tuple[Ended, Path]]:
        """Runs *scenario* once for each call that it makes, the fault at that call; the last run has no fault.

        Args:
            scenario: a function at the top of a module below `support`, maybe wrapped in `functools.partial`.
            prepare: returns the folder for the run of that number; what is beside it is not counted.
            kind: of the fault.
            first: the first call to fail.
            step: how many calls to go on each time.

        Yields:
            How it ended, and the folder.
        """
        for at in itertools.count(first, step):
            root = prepare(at)
            ended = self.run(scenario, root, kind, at)
            yield ended, root
            if not ended.reached:
                return

    def run(self, scenario: Scenario, root: Path, kind: FaultKind, at: int) -> Ended:
        """Runs *scenario* on the folder *root*, with a fault at the call number *at*, counted from 1."""
        told = root.with_name(f"{root.name}.said")
        told.unlink(missing_ok=True)
        job = base64.b64encode(pickle.dumps((scenario, root, kind, at, told)))
        if self._process.stdin is None or self._process.stdout is None:
            raise TypeError
        self._process.stdin.write(f"{job.decode()}\n")
        self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        lines = told.read_text().split("\n") if told.exists() else []
        said = tuple(line[1:] for line in lines if line.startswith(">"))
        error = "\n".join(line[1:] for line in lines if line.startswith("!"))
        reached = "".join(line[1:] for line in lines if line.startswith("@"))
        return Ended(at=at, reached=reached, code=code, said=said, error=error)


def serve() -> None:
    """Runs a scenario for each line on stdin, and answers with its exit code."""
    import support.scenarios  # noqa: F401, PLC0415 - here once, instead of in each fork
    import wheelcache.catalog  # noqa: PLC0415
    import wheelcache.dispatch  # noqa: PLC0415
    import wheelcache.transport  # noqa: F401, PLC0415

    for line in sys.stdin:
        job = pickle.loads(base64.b64decode(line))
        pid = os.fork()
        if pid == 0:
            signal.alarm(_LONGEST)
            _run(*job)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)  # noqa: T201 - the answer


def _run(scenario: Scenario, root: Path, kind: FaultKind, at: int, told: Path) -> NoReturn:
    said = Said(told)
    _Points(root, kind, at, said).install()
    try:
        scenario(root, lambda line: said(f">{line}"))
    except Exception:  # noqa: BLE001 - told to whoever asked for the fault
        for line in traceback.format_exc().splitlines():
            said(f"!{line}")
        os._exit(1)
    os._exit(0)  # no thread is waited for


class _Points:
    """Counts the calls that concern one folder, and lets the fault come."""

    def __init__(self, root: Path, kind: FaultKind, at: int, said: Said) -> None:
        self._root = os.fspath(root)
        self._kind = kind
        self._at = at
        self._said = said
        self._count = 0
        self._guard = threading.Lock()
        self._ours: set[int] = set()

    def install(self) -> None:
        """Puts itself in the place of everything that changes files."""
        for name in _BY_PATH:
            setattr(os, name, self._by_path(name, getattr(os, name)))
        for name in _BY_DESCRIPTOR:
            setattr(os, name, self._by_descriptor(name, getattr(os, name)))
        os.open = self._opening(os.open)
        io.open = self._opening_file(io.open)
        sqlite3.connect = self._connecting(sqlite3.connect)

    def visit(self, name: str) -> bool:
        """Counts a call; True when it is to be torn.

        Raises:
            OSError: there is no room.
        """
        with self._guard:
            self._count += 1
            is_now = self._count == self._at
            if is_now:
                self._said(f"@{name}")
            if self._kind == "torn" and is_now and name in ("write", "pwrite"):
                return True
            if is_now and self._kind in ("killed", "torn"):
                self.die()
            if name in _GROWING and (is_now or (self._kind == "full" and self._count > self._at)):
                if name == "sqlite":
                    full = sqlite3.OperationalError("database or disk is full")
                    full.sqlite_errorcode = sqlite3.SQLITE_FULL
                    raise full
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return False

    def die(self) -> None:
        """Kills this process; does not return."""
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)

    def _is_ours(self, path: object) -> bool:
        return isinstance(path, str | bytes | os.PathLike) and os.fsdecode(path).startswith(self._root)

    def _by_path(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(path: Any, *arguments: Any, **options: Any) -> Any:
            if self._is_ours(path) or path in self._ours:
                self.visit(name)
            return call(path, *arguments, **options)

        return wrapped

    def _by_descriptor(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(descriptor: int, *arguments: Any) -> Any:
            if descriptor in self._ours and self.visit(name):
                data, *others = arguments
                call(descriptor, memoryview(data)[: len(data) // 2], *others)
                self.die()
            return call(descriptor, *arguments)

        return wrapped

    def _opening(self, call: Callable[..., int]) -> Callable[..., int]:
        def wrapped(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
            is_ours = self._is_ours(path)
            if is_ours and flags & os.O_CREAT and not os.path.lexists(path):
                self.visit("open")
            descriptor = call(path, flags, *arguments, **options)
            (self._ours.add if is_ours else self._ours.discard)(descriptor)
            return descriptor

        return wrapped

    def _opening_file(self, call: Callable[..., Any]) -> Callable[..., Any]:
        points = self

        class Raw(io.FileIO):
            def write(self, data: Any) -> int:
                view = memoryview(data)
                if points.visit("write"):
                    super().write(view[: len(view) // 2])
                    points.die()
                return super().write(view)

        def wrapped(file: Any, mode: str = "r", buffering: int = -1, *arguments: Any, **options: Any) -> Any:
            if not self._is_ours(file) or set(mode) <= set("rbt"):
                return call(file, mode, buffering, *arguments, **options)
            if "b" not in mode or "+" in mode:
                msg = f"{mode}: no scenario opens files so"
                raise NotImplementedError(msg)
            if not os.path.lexists(file) or "w" in mode:
                self.visit("open")
            raw = Raw(file, mode)
            self._ours.add(raw.fileno())
            return raw if buffering == 0 else io.BufferedWriter(raw)

        return wrapped

    def _connecting(self, call: Callable[..., sqlite3.Connection]) -> Callable[..., sqlite3.Connection]:
        points = self

        class Connection(sqlite3.Connection):
            def execute(self, statement: str, *arguments: Any) -> sqlite3.Cursor:
                if not statement.startswith(("SELECT", "PRAGMA")):
                    points.visit("sqlite")
                return super().execute(statement, *arguments)

            def executemany(self, *arguments: Any) -> sqlite3.Cursor:
                points.visit("sqlite")
                return super().executemany(*arguments)

            def __exit__(self, *arguments: object) -> bool:
                if arguments[0] is None and self.in_transaction:
                    points.visit("sqlite")
                return super().__exit__(*arguments)

        def wrapped(file: Any, **options: Any) -> sqlite3.Connection:
            return call(file, factory=Connection, **options) if self._is_ours(file) else call(file, **options)

        return wrapped
