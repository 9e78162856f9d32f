"""A Docker engine of a test's own, on a disk as small and with as little memory as the test wants."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from support.bridges import own_bridge

_START = 60.0
_STOP = 60.0
_CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True, kw_only=True)
class OwnEngine:
    """A running engine.

    Attributes:
        disk: what its data is on.
        environ: leads clients to it.
    """

    disk: Path
    environ: Mapping[str, str]

    def docker(self, *arguments: str) -> str:
        done = subprocess.run(
            ["docker", *arguments], env={**os.environ, **self.environ}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def free(self) -> int:
        return shutil.disk_usage(self.disk).free

    @contextlib.contextmanager
    def filled(self, *, left: int) -> Iterator[None]:
        """Leaves so many bytes of its disk free for a while."""
        ballast = self.disk / "ballast"
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, self.free() - left)
        try:
            yield
        finally:
            ballast.unlink()


@contextlib.contextmanager
def own_engine(folder: Path, *, disk: int, memory: int) -> Iterator[OwnEngine]:
    """Starts an engine whose network leads nowhere, and removes all of it in the end; the host's may be used.

    Args:
        folder: must not exist, and have a short path: sockets are in it.
        disk: bytes of the ext4 that it keeps its data on.
        memory: bytes that all its steps together may use before the kernel kills.
    """
    group = f"wheelcache-test-{uuid.uuid4().hex[:12]}"
    data, image, socket = folder / "data", folder / "disk", folder / "socket"
    data.mkdir(parents=True)
    (folder / "daemon.json").write_text("{}\n")
    with contextlib.ExitStack() as undone:
        undone.callback(shutil.rmtree, folder)
        image.touch()
        os.truncate(image, disk)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", image], check=True)
        subprocess.run(["mount", "-o", "loop", image, data], check=True)
        undone.callback(subprocess.run, ["umount", data], check=True)
        undone.callback(_remove_group, group)
        _limit(group, memory)
        argv = [
            *("dockerd", "--data-root", data / "docker", "--exec-root", folder / "run", "--pidfile", folder / "pid"),
            *("--host", f"unix://{socket}", "--config-file", folder / "daemon.json", "--log-level", "warn"),
            *("--bridge", undone.enter_context(own_bridge()), "--iptables=false", "--ip6tables=false"),
            *("--ip-masq=false", "--ip-forward=false"),
            *("--cgroup-parent", f"/{group}", "--exec-opt", "native.cgroupdriver=cgroupfs"),
        ]
        with (folder / "log").open("wb") as log:
            dockerd = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        undone.callback(_stop, dockerd)
        engine = OwnEngine(
            disk=data, environ={"DOCKER_HOST": f"unix://{socket}", "BUILDX_CONFIG": str(folder / "buildx")}
        )
        _wait(engine, dockerd, folder / "log")
        yield engine


def _limit(group: str, memory: int) -> None:
    """Makes a control group of that much memory, by the kernel's first or second version of them."""
    is_second = (_CGROUPS / "cgroup.controllers").exists()
    made = _CGROUPS / group if is_second else _CGROUPS / "memory" / group
    made.mkdir()
    (made / ("memory.max" if is_second else "memory.limit_in_bytes")).write_text(str(memory))


def _remove_group(group: str) -> None:
    for made in (*_CGROUPS.glob(group), *_CGROUPS.glob(f"*/{group}")):
        for each in sorted((path for path in made.rglob("*") if path.is_dir()), reverse=True):
            each.rmdir()
        made.rmdir()


def _wait(engine: OwnEngine, dockerd: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START
    while time.monotonic() < deadline and dockerd.poll() is None:
        with contextlib.suppress(AssertionError):
            engine.docker("version", "--format", "{{.Server.Version}}")
            return
        time.sleep(0.2)
    raise AssertionError(f"dockerd does not answer: {log.read_text(errors='replace')[-2000:]}")


def _stop(dockerd: subprocess.Popen[bytes]) -> None:
    dockerd.send_signal(signal.SIGTERM)
    try:
        dockerd.wait(_STOP)
    except subprocess.TimeoutExpired:
        dockerd.kill()
        dockerd.wait()
