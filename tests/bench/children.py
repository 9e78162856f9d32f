"""Runs programs in process groups of their own, measures them, and leaves none behind."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

STARTS_WITHIN = 20.0
EXITS_WITHIN = 10.0

# A child inherits its parent's peak memory between fork and exec, so the program is started by a process that is
# smaller than any of those measured. It writes the program's process id, and what it took.
_LAUNCHER = """
import os, sys, time
report = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
began = time.monotonic()
pid = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
os.write(report, b"%d\\n" % pid)
_, status, usage = os.wait4(pid, 0)
spent = time.monotonic() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss, os.waitstatus_to_exitcode(status)
os.write(report, (" ".join(map(str, spent)) + "\\n").encode())
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """A program that has ended.

    Attributes:
        seconds: from start to end, wall clock.
        cpu: seconds of it and of the children it waited for, user and system.
        peak_rss: bytes, the largest single process of these.
        exit_code: negative for a signal.
    """

    seconds: float
    cpu: float
    peak_rss: int
    exit_code: int


class Child:
    """A program that runs; a context that kills what is left of its process group.

    Args:
        argv: the program and its arguments.
        cwd: where it runs.
        env: all of its environment.
        log: gets its stderr; a file beside it gets what the program took.
        stdout: gets its stdout; None for *log*.
    """

    def __init__(
        self, argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], log: Path, stdout: Path | None = None
    ) -> None:
        self._report = log.with_name(f"{log.name}-report-{secrets.token_hex(4)}")
        self._log = log
        self._done = threading.Event()
        with log.open("ab") as stderr, (stdout or log).open("ab") as output:
            self._launcher = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(self._report), *argv],
                cwd=cwd,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=stderr,
                start_new_session=True,
            )
        threading.Thread(target=self._reap, daemon=True).start()

    def _reap(self) -> None:
        self._launcher.wait()
        self._done.set()

    @property
    def is_running(self) -> bool:
        """True until it has ended."""
        return not self._done.is_set()

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the program itself, unless it has ended."""
        pid = self._pid()
        if self.is_running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def sleep(self, duration: float) -> bool:
        """Waits for *duration* seconds, or until the end; True while it runs."""
        return not self._done.wait(duration)

    def ended(self, limit: float) -> Ended | None:
        """Waits for the end; None when it has not come within *limit* seconds."""
        if not self._done.wait(limit):
            return None
        lines = self._lines()
        if len(lines) < 2:
            raise SystemExit(f"{self._launcher.args!r}: did not run\n{self._log.read_text(errors='replace')[-2000:]}")
        seconds, cpu, peak, code = lines[1].split()
        return Ended(
            seconds=float(seconds),
            cpu=float(cpu),
            peak_rss=int(peak) * (1 if sys.platform == "darwin" else 1024),
            exit_code=int(code),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._launcher.pid, signal.SIGKILL)
        self._done.wait(EXITS_WITHIN)

    def _pid(self) -> int:
        ends = time.monotonic() + STARTS_WITHIN
        while not (lines := self._lines()):
            if not self.sleep(0.001) or time.monotonic() > ends:
                raise SystemExit(f"{self._launcher.args!r}: did not start\n{self._log.read_text(errors='replace')}")
        return int(lines[0])

    def _lines(self) -> list[str]:
        """Whole lines of the report."""
        text = self._report.read_text() if self._report.exists() else ""
        return text[: text.rfind("\n") + 1].splitlines()


def await_until(claim: Callable[[], bool], child: Child, *, every: float = 0.005) -> bool:
    """Waits until *claim* is true; False when *child* ended before."""
    while not claim():
        if not child.sleep(every):
            return False
    return True
