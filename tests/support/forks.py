"""Commands that begin with everything imported, so that a busy machine starts ten times as many of them."""

from __future__ import annotations

import faulthandler
import itertools
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import IO, Final, Self

_LOOK: Final = 0.005
"""Seconds between two looks whether somebody has ended."""

_MODULES: Final = (
    *(f"wheelcache.cli.{name}" for name in ("list", "prune", "status", "sync", "verify")),
    *(f"wheelcache.{name}" for name in ("catalog", "credentials", "dispatch", "fetch", "holdings", "mend", "prune")),
    *("platformdirs", "requests", "tenacity", "tqdm", "wheelcache.transport", "wheelcache.verify"),
)


class Forks:
    """A process that forks one for each command; a context that ends it.

    Args:
        environ: of all of them.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._guard = threading.Condition()
        self._pids: dict[int, int] = {}
        self._codes: dict[int, int] = {}
        self._numbers = itertools.count()
        self._server = subprocess.Popen(
            [sys.executable, "-m", "support.forks"],
            env=dict(environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        threading.Thread(target=self._listen, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.communicate()

    def start(self, argv: Sequence[str], *, cwd: Path, out: IO[bytes], err: IO[bytes]) -> Fork:
        """Starts a command line, given without the program's name."""
        number = next(self._numbers)
        files = [f"/proc/{os.getpid()}/fd/{file.fileno()}" for file in (out, err)]
        line = json.dumps([number, list(argv), str(cwd), *files])
        with self._guard:
            self._server.stdin.write(f"{line}\n")
            self._guard.wait_for(lambda: number in self._pids)
            return Fork(self, number, self._pids[number])

    def code(self, number: int, timeout: float | None) -> int | None:
        """Waits for an exit code, negative for a signal; None where it did not come in time."""
        with self._guard:
            self._guard.wait_for(lambda: number in self._codes, timeout)
            return self._codes.get(number)

    def _listen(self) -> None:
        for line in self._server.stdout:
            what, number, value = line.split()
            with self._guard:
                (self._pids if what == "pid" else self._codes)[int(number)] = int(value)
                self._guard.notify_all()


class Fork:
    """One command; it answers as `subprocess.Popen` does."""

    def __init__(self, forks: Forks, number: int, pid: int) -> None:
        self._forks = forks
        self._number = number
        self.pid = pid

    @property
    def returncode(self) -> int | None:
        return self.poll()

    def poll(self) -> int | None:
        return self._forks.code(self._number, 0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._forks.code(self._number, timeout)
        if code is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):  # it has ended, and we are not told yet
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _serve() -> None:
    """Forks for each line on stdin; says each process's number, and how it ended, on stdout."""
    for module in _MODULES:
        import_module(module)
    running: dict[int, int] = {}
    buffer, is_open = b"", True
    while is_open or running:
        if is_open and select.select([0], [], [], _LOOK)[0]:
            read = os.read(0, 1 << 16)
            is_open = bool(read)
            *lines, buffer = (buffer + read).split(b"\n")
            for line in lines:
                number, argv, cwd, out, err = json.loads(line)
                pid = os.fork()
                if not pid:
                    _become(argv, cwd, out, err)
                running[pid] = number
                os.write(1, f"pid {number} {pid}\n".encode())
        elif not is_open:
            time.sleep(_LOOK)
        while running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            os.write(1, f"code {running.pop(pid)} {os.waitstatus_to_exitcode(status)}\n".encode())


def _become(argv: Sequence[str], cwd: str, out: str, err: str) -> None:
    """Turns a forked process into a command."""
    from wheelcache.cli.app import run  # noqa: PLC0415 - who asks for forks needs no command line

    code = 1
    try:
        os.setsid()
        os.chdir(cwd)
        for descriptor, file in ((0, os.devnull), (1, out), (2, err)):
            opened = os.open(file, os.O_RDWR)
            os.dup2(opened, descriptor)
            os.close(opened)
        faulthandler.enable()
        code = run(list(argv))
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


if __name__ == "__main__":
    _serve()
