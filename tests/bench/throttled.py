"""Loopback servers in processes of their own, which can be slow, cut and be killed, and the wheels that they serve."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import random
import signal
import sys
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from children import Child
from offers import Offer, WheelFile
from pypi_simple import PyPISimple
from sockethook import SocketCounters

TESTS = Path(__file__).resolve().parents[1]
STARTS_WITHIN = 60.0
CHUNK = 1 << 20


class Server:
    """`python -m support.serve`; a context that ends it.

    Args:
        work: a new folder for its log and counters.
        files: the folder that it serves.
        options: of `support.serve`.
    """

    def __init__(self, work: Path, files: Path, options: Sequence[str | float]) -> None:
        work.mkdir(parents=True)
        self._work = work
        self._argv = [sys.executable, "-m", "support.serve", "--folder", str(files), *map(str, options)]
        self._counters = SocketCounters(work / "sockets")
        self._child: Child | None = None
        self._starts = 0
        self.url = ""

    @property
    def sent(self) -> int:
        """Bytes given to the kernel by now, by all its processes; what clients that left never read is among them."""
        return self._counters.sent

    def start(self) -> None:
        """Starts it, on the port that it had before."""
        self._starts += 1
        said, log = self._work / f"stdout-{self._starts}", self._work / "log"
        said.touch()
        port = urlsplit(self.url).port
        environ = self._counters.environ({**os.environ, "PYTHONPATH": str(TESTS), "PYTHONUNBUFFERED": "1"})
        argv = [*self._argv, *(["--port", str(port)] if port else [])]
        self._child = Child(argv, cwd=self._work, env=environ, log=log, stdout=said)
        ends = time.monotonic() + STARTS_WITHIN
        while not (text := said.read_text()).endswith("\n"):
            if not self._child.sleep(0.01) or time.monotonic() > ends:
                words = log.read_text(errors="replace")[-2000:]
                raise SystemExit(f"support.serve did not start: expected its URL on stdout, found {text!r}\n{words}")
        self.url = text.partition("\n")[0].strip().rstrip("/")

    def kill(self) -> None:
        """Kills it as a crash would: its connections are reset, its port is closed."""
        if self._child is not None:
            self._child.signal(signal.SIGKILL)
            self._child.__exit__()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._child is not None:
            self._child.signal(signal.SIGTERM)
            self._child.sleep(5)
            self._child.__exit__()


def offered(wheels: Sequence[WheelFile], servers: Sequence[Server]) -> Offer:
    """Returns *wheels* with their URLs on *servers*: the first is the lockfile's, the others are mirrors."""
    roots = [f"{server.url}/simple/" for server in servers]
    return Offer(
        wheels=tuple(replace(wheel, urls=tuple(_url_of(wheel, root) for root in roots)) for wheel in wheels),
        index=roots[0],
        mirrors=tuple(roots[1:]),
    )


def _url_of(wheel: WheelFile, root: str) -> str:
    with PyPISimple(root) as index:
        index.s.trust_env = False  # no proxy leads to loopback
        page = index.get_project_page(wheel.name)
    return next(file.url.partition("#")[0] for file in page.packages if file.filename == wheel.filename)


def make_wheels(folder: Path, sizes: Sequence[int]) -> tuple[WheelFile, ...]:
    """Makes real wheels of about these sizes in *folder*; they have no URLs yet."""
    folder.mkdir(parents=True)
    return tuple(_make_wheel(folder, f"bench-{number}", size) for number, size in enumerate(sizes, start=1))


def _make_wheel(folder: Path, name: str, size: int) -> WheelFile:
    """Makes a wheel piece by piece: a child inherits this process's peak memory, which so stays small."""
    version, tag = "1.0", "py3-none-any"
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    path = folder / f"{module}-{version}-{tag}.whl"
    small = {
        f"{module}/__init__.py": b"",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: bench\nRoot-Is-Purelib: true\nTag: {tag}\n".encode(),
    }
    record = [_recorded(file, hashlib.sha256(data), len(data)) for file, data in small.items()]
    with zipfile.ZipFile(path, "w") as archive:
        noise = hashlib.sha256()
        with archive.open(f"{module}/noise.bin", "w") as member:
            for chunk in _noise(name, size):
                member.write(chunk)
                noise.update(chunk)
        record += [_recorded(f"{module}/noise.bin", noise, size), f"{info}/RECORD,,\n"]
        for file, data in {**small, f"{info}/RECORD": "".join(record).encode()}.items():
            archive.writestr(file, data)
    with path.open("rb") as made:
        digest = hashlib.file_digest(made, "sha256").hexdigest()
    return WheelFile(name=name, version=version, filename=path.name, sha256=digest, size=path.stat().st_size, urls=())


def _noise(seed: str, size: int) -> Iterator[bytes]:
    source = random.Random(seed)
    for start in range(0, size, CHUNK):
        yield source.randbytes(min(CHUNK, size - start))


def _recorded(file: str, digest: hashlib._Hash, size: int) -> str:
    return f"{file},sha256={base64.urlsafe_b64encode(digest.digest()).rstrip(b'=').decode()},{size}\n"


@contextlib.contextmanager
def running(servers: Sequence[Server]) -> Iterator[None]:
    """Starts *servers* and ends them."""
    with contextlib.ExitStack() as stack:
        for server in servers:
            stack.enter_context(server)
        yield
