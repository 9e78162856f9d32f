"""What the benchmarks measure with: programs timed, network bytes, disk, bytes sent to an engine; and their table."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ownnetwork import Network

_CHUNK = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Timed:
    """A program that has run.

    Attributes:
        seconds: from start to end.
        exit_code: its own; negative for a signal.
        received: bytes that came in from the network meanwhile.
        stdout: what it wrote there.
        log: the file that has its stderr.
    """

    seconds: float
    exit_code: int
    received: int
    stdout: str
    log: Path


def timed(argv: Sequence[str], *, network: Network, log: Path, env: Mapping[str, str], cwd: Path) -> Timed:
    """Runs a program in *network* to its end and measures it; an interruption stops it before it goes up."""
    with log.open("wb") as stderr:
        received, began = network.received_bytes(), time.monotonic()
        process = subprocess.Popen(
            network.enter(*argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=dict(env),
            cwd=cwd,
            text=True,
        )
        try:
            stdout, _ = process.communicate()
        except BaseException:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()
            raise
    return Timed(
        seconds=time.monotonic() - began,
        exit_code=process.returncode,
        received=network.received_bytes() - received,
        stdout=stdout,
        log=log,
    )


def disk_bytes(folder: Path) -> int:
    """Returns the disk that a folder takes, hard links once, as `du` counts; 0 where it does not exist."""
    if not folder.exists():
        return 0
    # Not checked: a file that the engine removes meanwhile makes du complain, and count all the same.
    du = subprocess.run(["du", "-sx", "--block-size=1", folder], capture_output=True, text=True, check=False)
    return int(du.stdout.split()[0])


class SentBytes:
    """A way to an engine's socket that counts what clients send to it."""

    def __init__(self) -> None:
        self.sent = 0
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def listening(self, path: Path, engine: Path) -> Iterator[str]:
        """Yields the DOCKER_HOST that leads through here to the socket *engine*."""
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen(64)
            threading.Thread(target=self._accept, args=(listener, engine), daemon=True).start()
            try:
                yield f"unix://{path}"
            finally:
                with contextlib.suppress(OSError):
                    listener.shutdown(socket.SHUT_RDWR)
                path.unlink()

    def _accept(self, listener: socket.socket, engine: Path) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(str(engine))
                for source, sink, counted in ((client, server, True), (server, client, False)):
                    threading.Thread(target=self._pump, args=(source, sink, counted), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK):
                if counted:
                    with self._lock:
                        self.sent += len(data)
                sink.sendall(data)
        # An upgraded connection goes on in the other direction: half of it is closed, as its client did.
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


def amount(size: float | None) -> str:
    """Returns bytes as people read them; a dash for what was not measured."""
    if size is None:
        return "-"
    for unit, power in (("GB", 3), ("MB", 2), ("kB", 1)):
        if abs(size) >= 1000**power:
            return f"{size / 1000**power:.2f} {unit}"
    return f"{size:.0f} B"


def seconds(value: float | None) -> str:
    """Returns seconds as people read them; a dash for what was not measured."""
    return "-" if value is None else f"{value:.1f} s" if value >= 10 else f"{value:.2f} s"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a Markdown table, which reads as text too."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    lines = [
        [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        for row in (head, ["-" * width for width in widths], *rows)
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def require_free(folder: Path, needed: int, what: str) -> None:
    """Ends the program when the disk of *folder* has not *needed* bytes free."""
    status = os.statvfs(folder)
    free = status.f_bavail * status.f_frsize
    if free < needed:
        raise SystemExit(
            f"{folder}: {what} needs {amount(needed)} of free disk, found {amount(free)}\n"
            "  next step: free some, or name a folder on another disk with --scratch"
        )
