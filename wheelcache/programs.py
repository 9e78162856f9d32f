"""The one place that runs programs: bounded, watched while they run, and never left behind."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Protocol

from wheelcache.errors import ExitCode, WheelcacheError

_CHUNK: Final = 65536
_POLL: Final = 0.1
"""Seconds between two looks at the clock and at the stop event."""

_ORPHANED_PIPE: Final = 2.0
"""Seconds that a program's own children may hold its pipes open after it has ended."""

_GRACE: Final = ((signal.SIGINT, 10.0), (signal.SIGTERM, 5.0))
"""How a program is asked to stop, and the seconds it is given each time; then it is killed."""

Watcher = Callable[[bytes], None]
"""Takes what a program has just written, in order; called in the caller's own thread."""


class ProgramMissingError(WheelcacheError):
    """A program is not on PATH; callers turn it into what it means to them."""

    kind = "program-missing"
    exit_code = ExitCode.USAGE


class ProgramTimeoutError(WheelcacheError):
    """A program ran longer than it may, and was stopped."""

    kind = "program-timeout"
    exit_code = ExitCode.USAGE


class ProgramStoppedError(WheelcacheError):
    """The caller asked for a program to be stopped while it ran."""

    kind = "program-stopped"
    exit_code = ExitCode.INTERRUPTED


@dataclass(frozen=True, kw_only=True, slots=True)
class Completed:
    """A program that ended by itself.

    Attributes:
        argv: what was run.
        returncode: its exit status; negative for the signal that ended it.
        stdout: what it wrote there; empty where a watcher took it.
        stderr: likewise.
    """

    argv: tuple[str, ...]
    returncode: int
    stdout: bytes
    stderr: bytes

    @property
    def is_done(self) -> bool:
        """True when it exited with 0."""
        return self.returncode == 0

    def reason(self) -> str:
        """Returns what it said of itself: the text of stderr, else its exit status."""
        text = self.stderr.decode(errors="replace").strip()
        return text or f"{self.argv[0]} ended with status {self.returncode} and said nothing"


class Runner(Protocol):
    """How modules that need a program are handed `run_program`."""

    def __call__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        input: bytes | None = None,  # noqa: A002 - subprocess's own word
        timeout: float | None = None,
        on_stdout: Watcher | None = None,
        on_stderr: Watcher | None = None,
        stop: threading.Event | None = None,
    ) -> Completed:
        """Runs *argv*; see `run_program`."""


def run_program(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    input: bytes | None = None,  # noqa: A002 - subprocess's own word
    timeout: float | None = None,
    on_stdout: Watcher | None = None,
    on_stderr: Watcher | None = None,
    stop: threading.Event | None = None,
) -> Completed:
    """Runs *argv* without a shell, in a process group of its own, and waits for its end.

    A terminal's Ctrl-C reaches this process alone; whatever leaves this function early (KeyboardInterrupt, an exception
    from a watcher, *timeout*, *stop*) stops the program and its children first: SIGINT, SIGTERM, SIGKILL.

    Args:
        argv: the program, looked up on PATH, and its arguments.
        env: the whole environment; None for this process's own.
        cwd: the working directory; None for this process's own.
        input: bytes for its stdin; None closes it.
        timeout: seconds it may run; None for no bound.
        on_stdout: takes what it writes to stdout, which is then not collected.
        on_stderr: likewise.
        stop: set by another thread to have it stopped.

    Raises:
        ProgramMissingError: there is no such program, or it cannot be executed.
        ProgramTimeoutError: it ran longer than *timeout*.
        ProgramStoppedError: *stop* was set.
    """
    process = _start(argv, env=env, cwd=cwd, has_input=input is not None)
    collected: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
    takers = {"stdout": on_stdout or collected["stdout"].append, "stderr": on_stderr or collected["stderr"].append}
    try:
        chunks = _read_pipes(process, input)
        deadline = None if timeout is None else time.monotonic() + timeout
        _watch(process, chunks, takers, program=argv[0], deadline=deadline, stop=stop)
    except BaseException:
        _end(process)
        raise
    finally:
        _close(process)
    return Completed(
        argv=tuple(argv),
        returncode=process.returncode,
        stdout=b"".join(collected["stdout"]),
        stderr=b"".join(collected["stderr"]),
    )


def _start(
    argv: Sequence[str], *, env: Mapping[str, str] | None, cwd: Path | None, has_input: bool
) -> subprocess.Popen[bytes]:
    group: dict[str, Any] = {"process_group": 0}
    if sys.platform == "win32":
        group = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    if cwd is not None and not cwd.is_dir():
        raise ProgramMissingError(f"{argv[0]}: its working directory {cwd} does not exist", hint="create the folder")
    try:
        return subprocess.Popen(
            list(argv),
            env=None if env is None else dict(env),
            cwd=cwd,
            stdin=subprocess.PIPE if has_input else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            **group,
        )
    except (FileNotFoundError, PermissionError) as error:
        raise ProgramMissingError(
            f"expected the program {argv[0]} on PATH: {error.strerror}",
            hint=f"install {argv[0]}, or add its folder to PATH",
            program=argv[0],
        ) from error


_Chunk = tuple[str, bytes]


def _read_pipes(process: subprocess.Popen[bytes], data: bytes | None) -> queue.SimpleQueue[_Chunk]:
    """Starts a thread per pipe; an empty chunk marks a pipe's end."""
    chunks: queue.SimpleQueue[_Chunk] = queue.SimpleQueue()

    def read(name: str, pipe: IO[bytes]) -> None:
        # A pipe that the caller closes under a reader (a program that was killed) has no more to say.
        with contextlib.suppress(OSError, ValueError):
            while chunk := pipe.read(_CHUNK):
                chunks.put((name, chunk))
        chunks.put((name, b""))

    def write(pipe: IO[bytes], rest: memoryview) -> None:
        # A program may end, or close its stdin, before it has read everything: its exit status tells.
        with contextlib.suppress(OSError, ValueError), pipe:
            while rest:
                rest = rest[pipe.write(rest) :]

    for name, pipe in (("stdout", process.stdout), ("stderr", process.stderr)):
        threading.Thread(target=read, args=(name, pipe), name=f"read {name}", daemon=True).start()
    if data is not None:
        threading.Thread(target=write, args=(process.stdin, memoryview(data)), name="write stdin", daemon=True).start()
    return chunks


def _watch(
    process: subprocess.Popen[bytes],
    chunks: queue.SimpleQueue[_Chunk],
    takers: Mapping[str, Watcher],
    *,
    program: str,
    deadline: float | None,
    stop: threading.Event | None,
) -> None:
    """Hands chunks on until both pipes and the program have ended."""
    is_open = set(takers)
    ended_at: float | None = None
    while is_open or process.poll() is None:
        if stop is not None and stop.is_set():
            raise ProgramStoppedError(f"{program} was stopped", hint="run the same command again")
        if deadline is not None and time.monotonic() > deadline:
            raise ProgramTimeoutError(
                f"{program} did not end in the time it was given",
                hint="run it by hand to see what it waits for",
            )
        if ended_at is None and process.poll() is not None:
            ended_at = time.monotonic()
        if ended_at is not None and time.monotonic() - ended_at > _ORPHANED_PIPE and chunks.empty():
            _signal_group(process, getattr(signal, "SIGKILL", signal.SIGTERM))
            return
        try:
            name, chunk = chunks.get(timeout=_POLL)
        except queue.Empty:
            continue
        if chunk:
            takers[name](chunk)
        else:
            is_open.discard(name)
            if not is_open:
                _wait(process, _POLL)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Stops the program and its group, and reaps it; a second interruption kills it at once."""
    try:
        for number, seconds in _GRACE:
            if process.poll() is None:
                _signal_group(process, number)
                _wait(process, seconds)
    finally:
        _signal_group(process, getattr(signal, "SIGKILL", signal.SIGTERM))
        process.wait()


def _wait(process: subprocess.Popen[bytes], seconds: float) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=seconds)


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    """Sends a signal to what is left of the program's group; its id stays taken as long as a member lives."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, number)


def _close(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
