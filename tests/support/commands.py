"""Command lines run to their ends, whatever becomes of them: killed, stopped, or hung."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Protocol

import wheelcache

_LAST_WORDS: Final = 10.0
"""Seconds that a command has to say where it hangs."""

_FOREIGN: Final = re.compile(r"^(UV|PIP|WHEELCACHE)_|_proxy$|^NO_COLOR$", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """How a command ended: its code, the JSON document on stdout, stderr, and whether it had to be ended."""

    code: int
    document: dict[str, Any]
    stderr: str
    seconds: float
    hung: bool = False


class Process(Protocol):
    """A command that runs: `subprocess.Popen`, or what answers as it does."""

    pid: int

    @property
    def returncode(self) -> int | None: ...

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def send_signal(self, number: int) -> None: ...

    def kill(self) -> None: ...


class Start(Protocol):
    """Starts a command line, given without the program's name."""

    def __call__(self, argv: Sequence[str], *, cwd: Path, out: IO[bytes], err: IO[bytes]) -> Process: ...


def environment() -> dict[str, str]:
    """Returns what commands find in their environment."""
    kept = {name: value for name, value in os.environ.items() if not _FOREIGN.search(name)}
    root = Path(wheelcache.__file__).parents[1]  # the very program that the tests see
    return {**kept, "PYTHONPATH": os.pathsep.join([str(root), str(root / "tests")])}


def without_locks(environ: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Returns an environment in which everybody gets every lock at once, as on some network file systems.

    Args:
        environ: the rest of it.
        folder: a new one, for what makes it so.
    """
    folder.mkdir()
    (folder / "sitecustomize.py").write_text("import fcntl\nfcntl.flock = lambda *_: None\n")
    return {**environ, "PYTHONPATH": os.pathsep.join([str(folder), environ["PYTHONPATH"]])}


def program(environ: Mapping[str, str]) -> Start:
    """Returns what starts the program as people do, in an environment."""

    def start(argv: Sequence[str], *, cwd: Path, out: IO[bytes], err: IO[bytes]) -> Process:
        return subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-m", "wheelcache", *argv],
            cwd=cwd,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )

    return start


def run_command(
    arguments: Sequence[object], *, cwd: Path, limit: float, start: Start, meanwhile: Callable[[Process], None]
) -> Ended:
    """Runs a command to its end; one that takes longer than *limit* seconds says where it hangs, and is ended.

    Args:
        arguments: of `wheelcache`.
        cwd: where it runs.
        limit: in seconds.
        start: how it is started.
        meanwhile: is called with the process once it runs.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        began = time.monotonic()
        process = start([str(argument) for argument in arguments], cwd=cwd, out=out, err=err)
        try:
            meanwhile(process)
            hung = not _has_ended(process, limit - (time.monotonic() - began))
            if hung:
                process.send_signal(signal.SIGABRT)  # faulthandler writes all threads' stacks
                _has_ended(process, _LAST_WORDS)
        finally:
            process.kill()
            process.wait()
        seconds = time.monotonic() - began
        out.seek(0)
        err.seek(0)
        said, code = out.read(), process.wait()
        document = json.loads(said) if code >= 0 and said else {}
        return Ended(code=code, document=document, stderr=err.read().decode(), seconds=seconds, hung=hung)


def _has_ended(process: Process, seconds: float) -> bool:
    with suppress(subprocess.TimeoutExpired):
        process.wait(max(seconds, 0))
        return True
    return False
