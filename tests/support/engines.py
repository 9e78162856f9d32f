"""Engines of the tests' own, beside the machine's: fresh data, no network, gone afterwards."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.bridges import own_bridge
from support.program import wait_until

BASE = "python:3.11-slim"
"""The base image of the tests, which the machine's engine has."""

_CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True, kw_only=True)
class OwnEngine:
    """A running dockerd.

    Attributes:
        unix: its address.
        tcp: another one.
        disk: the disk that its data is on, or the folder.
    """

    unix: str
    tcp: str
    disk: Path

    @property
    def environ(self) -> dict[str, str]:
        """This process's environment, led to this engine."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("DOCKER_", "BUILDX_"))}
        return {**kept, "DOCKER_HOST": self.unix}

    def docker(self, *arguments: str) -> str:
        done = subprocess.run(["docker", *arguments], env=self.environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def take(self, ref: str) -> None:
        """Takes an image over from the engine that this process's environment leads to."""
        with subprocess.Popen(["docker", "save", ref], stdout=subprocess.PIPE) as save:
            load = ["docker", "load", "--quiet"]
            subprocess.run(load, stdin=save.stdout, env=self.environ, check=True, capture_output=True)

    @contextmanager
    def filled(self, *, left: int) -> Iterator[None]:
        """Leaves so many bytes of its disk free for a while."""
        ballast = self.disk / "ballast"
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(self.disk).free - left)
        try:
            yield
        finally:
            ballast.unlink()


def can_have_engines() -> bool:
    """True where this machine lets us start engines."""
    return sys.platform == "linux" and os.geteuid() == 0 and shutil.which("dockerd") is not None


@contextmanager
def own_engine(
    *, configuration: Mapping[str, object] | None = None, disk: int | None = None, memory: int | None = None
) -> Iterator[OwnEngine]:
    """Starts an engine, and removes all of it in the end; skips the test where there can be none.

    Its own network leads nowhere; the host's may be used.

    Args:
        configuration: its `daemon.json`.
        disk: bytes of an ext4 of its own, that it keeps its data on; None for a folder.
        memory: bytes that all its steps together may use before the kernel kills; None for no limit.
    """
    if not can_have_engines():
        pytest.skip("NO SECOND ENGINE, NOT TESTED: needs root and dockerd")
    with ExitStack() as undone:
        folder = Path(tempfile.mkdtemp(prefix="wc-engine-"))  # short: a socket's path is
        undone.callback(shutil.rmtree, folder, ignore_errors=True)
        data = folder / "data"
        data.mkdir()
        if disk is not None:
            undone.enter_context(_mounted(folder / "disk", data, size=disk))
        made = OwnEngine(
            unix=f"unix://{folder}/docker.sock", tcp=f"tcp://127.0.0.1:{_free_port()}", disk=data.resolve()
        )
        (folder / "daemon.json").write_text(json.dumps(configuration or {}))
        argv = ["dockerd", "--data-root", data / "docker", "--exec-root", folder / "run", "--pidfile", folder / "pid"]
        argv += ["--config-file", folder / "daemon.json", "--host", made.unix, "--host", made.tcp, "--tls=false"]
        argv += ["--iptables=false", "--ip6tables=false", "--ip-masq=false", "--ip-forward=false", "--log-level=warn"]
        argv += ["--bridge", undone.enter_context(own_bridge())]
        if memory is not None:
            group = undone.enter_context(_group(memory))
            argv += ["--cgroup-parent", f"/{group}", "--exec-opt", "native.cgroupdriver=cgroupfs"]
        with (folder / "log").open("wb") as log:
            dockerd = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        undone.callback(_stop, dockerd)
        wait_until(lambda: _answers(made) or dockerd.poll() is not None, seconds=60)
        assert dockerd.poll() is None, (folder / "log").read_text()
        yield made


@contextmanager
def _mounted(image: Path, folder: Path, *, size: int) -> Iterator[None]:
    """Makes an ext4 of *size* bytes, and mounts it."""
    image.touch()
    os.truncate(image, size)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


@contextmanager
def _group(memory: int) -> Iterator[str]:
    """Makes a control group of that much memory, by the kernel's first or second version of them; returns its name."""
    name = f"wheelcache-test-{uuid.uuid4().hex[:12]}"
    is_second = (_CGROUPS / "cgroup.controllers").exists()
    made = _CGROUPS / name if is_second else _CGROUPS / "memory" / name
    made.mkdir()
    (made / ("memory.max" if is_second else "memory.limit_in_bytes")).write_text(str(memory))
    try:
        yield name
    finally:
        for each in (*_CGROUPS.glob(name), *_CGROUPS.glob(f"*/{name}")):
            for below in sorted((path for path in each.rglob("*") if path.is_dir()), reverse=True):
                below.rmdir()
            each.rmdir()


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def _stop(dockerd: subprocess.Popen[bytes]) -> None:
    dockerd.terminate()
    try:
        dockerd.wait(60)
    except subprocess.TimeoutExpired:
        dockerd.kill()
        dockerd.wait()


def _answers(engine: OwnEngine) -> bool:
    return subprocess.run(["docker", "version"], env=engine.environ, capture_output=True, check=False).returncode == 0
