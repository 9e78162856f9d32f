"""A Docker engine of the benchmark's own: fresh data, apart from the machine's engine, gone afterwards."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ownnetwork import BRIDGE, Network, own_network

BASE = "python:3.11-slim"

_START = 60.0
_STOP = 60.0
_LONGEST_SOCKET = 100
"""Bytes; the kernel allows 107 in a socket's path, and containerd appends to it."""

_DECIDING = ("DOCKER_", "BUILDX_", "BUILDKIT_", "COMPOSE_", "WHEELCACHE_")
"""Beginnings of the variables by which a user's shell would lead client and engine elsewhere."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Engine:
    """A running engine.

    Attributes:
        data: its whole data folder.
        socket: where it listens.
        log: what dockerd says.
        network: where it runs.
    """

    data: Path
    socket: Path
    log: Path
    network: Network

    @property
    def env(self) -> dict[str, str]:
        """The environment of this process, its clients led to this engine."""
        ours = {name: value for name, value in os.environ.items() if not name.startswith(_DECIDING)}
        ours |= {name: os.environ[name] for name in ("DOCKER_CONFIG",) if name in os.environ}
        return ours | {"DOCKER_HOST": f"unix://{self.socket}", "BUILDX_CONFIG": str(self.data.parent / "buildx")}

    def docker(self, *arguments: str, stdin: str | None = None) -> str:
        """Runs the docker client and returns what it prints; an error shows what it said."""
        done = subprocess.run(
            ["docker", *arguments], env=self.env, input=stdin, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"docker {' '.join(arguments)}: exit {done.returncode}\n{done.stderr}")
        return done.stdout.strip()

    def accounts(self) -> dict[str, int]:
        """Returns the engine's own account in bytes: layers of images once each, build cache beside them."""
        import docker  # noqa: PLC0415 - only where it is used

        with contextlib.closing(docker.DockerClient(base_url=f"unix://{self.socket}", timeout=300)) as client:
            df: dict[str, Any] = client.df()
        cache = sum(record["Size"] for record in df["BuildCache"] or [] if not record["Shared"])
        return {"images": df["LayersSize"], "build_cache": cache}


@contextlib.contextmanager
def own_engine(folder: Path, *, log: Path) -> Iterator[Engine]:
    """Starts an engine whose data, sockets and pid file lie in *folder*, and removes all of it in the end.

    It holds the base image, from the machine's own engine. Its containers have a bridge without a way out;
    `--network=host` leads to the network, and is counted there.

    Args:
        folder: must not exist.
        log: gets dockerd's words; is kept.
    """
    socket, runtime = folder / "docker.sock", folder / "run"
    if len(bytes(runtime / "containerd" / "containerd-debug.sock")) > _LONGEST_SOCKET:
        raise SystemExit(f"{folder}: too long for a socket's path\n  next step: name a shorter folder with --scratch")
    folder.mkdir(parents=True)
    try:
        with own_network() as network, log.open("wb") as words:
            engine = Engine(data=folder / "data", socket=socket, log=log, network=network)
            dockerd = subprocess.Popen(
                network.enter(
                    *("dockerd", "--data-root", engine.data, "--exec-root", runtime, "--pidfile", folder / "pid"),
                    *("--host", f"unix://{socket}", "--config-file", _empty_configuration(folder)),
                    *("--bridge", BRIDGE, "--iptables=false", "--ip6tables=false", "--ip-masq=false"),
                    *("--ip-forward=false", "--log-level", "warn"),
                ),
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=words,
                start_new_session=True,  # a terminal's Ctrl-C is for us: we stop it when its work is stopped
            )
            try:
                _wait_until_it_answers(engine, dockerd)
                _load_base(engine)
                yield engine
            finally:
                _stop(dockerd)
    finally:
        _remove(folder)


def prepare_base_for_pip(engine: Engine, folder: Path, *, bundle: Path | None, index: str | None) -> None:
    """Gives the base image, under its own name, what pip needs to reach the index from inside this machine.

    Dockerfiles stay as they are; only `/etc/pip.conf` and a CA bundle are added to what they start from.

    Args:
        engine: where the image is.
        folder: takes the files for the build; need not exist.
        bundle: the machine's CA bundle.
        index: the index's URL; None leaves pip its default.
    """
    folder.mkdir()
    lines = [
        "[global]",
        *(["cert = /etc/ssl/bench-ca.pem"] if bundle else []),
        *([f"index-url = {index}"] if index else []),
    ]
    (folder / "pip.conf").write_text("\n".join(lines) + "\n")
    dockerfile = [f"FROM {BASE}", "COPY pip.conf /etc/pip.conf"]
    if bundle:
        shutil.copy(bundle, folder / "bench-ca.pem")
        dockerfile.append("COPY bench-ca.pem /etc/ssl/bench-ca.pem")
    (folder / "Dockerfile").write_text("\n".join(dockerfile) + "\n")
    engine.docker("buildx", "build", "--quiet", "--provenance=false", "--tag", BASE, str(folder))


def _empty_configuration(folder: Path) -> Path:
    """Keeps the machine's own daemon.json out."""
    (folder / "daemon.json").write_text("{}\n")
    return folder / "daemon.json"


def _wait_until_it_answers(engine: Engine, dockerd: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START
    while time.monotonic() < deadline and dockerd.poll() is None:
        if engine.socket.exists():
            with contextlib.suppress(RuntimeError):
                engine.docker("version", "--format", "{{.Server.Version}}")
                return
        time.sleep(0.2)
    raise SystemExit(f"dockerd does not answer\n{engine.log.read_text(errors='replace')[-2000:]}")


def _load_base(engine: Engine) -> None:
    with subprocess.Popen(["docker", "save", BASE], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as save:
        subprocess.run(
            ["docker", "load", "--quiet"], env=engine.env, stdin=save.stdout, stdout=subprocess.DEVNULL, check=False
        )
        words = save.stderr.read().decode(errors="replace") if save.stderr else ""
    if save.returncode:
        raise SystemExit(
            f"{BASE}: expected in this machine's engine: {words}\n  next step: bash Dockerfiles/provision.sh"
        )


def _stop(dockerd: subprocess.Popen[bytes]) -> None:
    dockerd.send_signal(signal.SIGTERM)
    try:
        dockerd.wait(_STOP)
    except subprocess.TimeoutExpired:
        dockerd.kill()
        dockerd.wait()


def _remove(folder: Path) -> None:
    """Removes the folder; what a killed engine left mounted below it is unmounted first, or it would be emptied too."""
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for mount in reversed(mounts):
        if Path(mount).is_relative_to(folder):
            subprocess.run(["umount", "--lazy", mount], check=False)
    shutil.rmtree(folder)
    os.sync()
