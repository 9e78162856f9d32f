"""Engines of the tests' own, beside the machine's: fresh data, no network, gone afterwards."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.bridges import own_bridge
from support.program import wait_until


@dataclass(frozen=True, kw_only=True)
class OwnEngine:
    """A running dockerd."""

    unix: str
    tcp: str

    @property
    def environ(self) -> dict[str, str]:
        """This process's environment, led to this engine."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("DOCKER_", "BUILDX_"))}
        return {**kept, "DOCKER_HOST": self.unix}

    def docker(self, *arguments: str) -> str:
        done = subprocess.run(["docker", *arguments], env=self.environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@contextmanager
def own_engine(*, configuration: Mapping[str, object]) -> Iterator[OwnEngine]:
    """Starts an engine with a `daemon.json` of its own; skips the test where there can be none."""
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("dockerd") is None:
        pytest.skip("NO SECOND ENGINE, NOT TESTED: needs root and dockerd")
    folder = Path(tempfile.mkdtemp(prefix="wc-engine-"))  # short: a socket's path is
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    made = OwnEngine(unix=f"unix://{folder}/docker.sock", tcp=f"tcp://127.0.0.1:{port}")
    (folder / "daemon.json").write_text(json.dumps(configuration))
    argv = ["dockerd", "--data-root", folder / "data", "--exec-root", folder / "run", "--pidfile", folder / "pid"]
    argv += ["--config-file", folder / "daemon.json", "--host", made.unix, "--host", made.tcp, "--tls=false"]
    argv += ["--iptables=false", "--ip6tables=false", "--ip-masq=false", "--ip-forward=false", "--log-level=warn"]
    with own_bridge() as bridge, (folder / "log").open("wb") as log:
        argv += ["--bridge", bridge]
        dockerd = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        try:
            wait_until(lambda: _answers(made) or dockerd.poll() is not None, seconds=60)
            assert dockerd.poll() is None, (folder / "log").read_text()
            yield made
        finally:
            dockerd.terminate()
            dockerd.wait(60)
            shutil.rmtree(folder, ignore_errors=True)


def _answers(engine: OwnEngine) -> bool:
    return subprocess.run(["docker", "version"], env=engine.environ, capture_output=True, check=False).returncode == 0
