"""A container registry on loopback: Debian's `docker-registry`."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from support.program import wait_until

PROVISION = Path(__file__).parents[2] / "Dockerfiles" / "provision.sh"
MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
USER, PASSWORD = "me", "secret"  # and what bcrypt makes of it, with as little work as it allows:
_HASH = "$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a"


@dataclass(frozen=True, kw_only=True)
class Registry:
    """A running registry.

    Attributes:
        host: its `host:port`, as the first part of references.
    """

    host: str

    def manifest(self, repository: str, tag: str) -> tuple[str, dict[str, Any]]:
        """The digest and the content of a manifest."""
        url = f"http://{self.host}/v2/{repository}/manifests/{tag}"
        answer = requests.get(url, headers={"Accept": ", ".join(MANIFESTS)}, timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.headers["Docker-Content-Digest"], answer.json()

    def tags(self, repository: str) -> set[str]:
        answer = requests.get(f"http://{self.host}/v2/{repository}/tags/list", timeout=30)
        return set(answer.json().get("tags") or ())


@contextmanager
def own_registry(folder: Path, *, is_open: bool = True) -> Iterator[Registry]:
    """Starts a registry that keeps its data in *folder*; skips the test where there can be none.

    Args:
        folder: exists.
        is_open: False where only `USER` with `PASSWORD` gets in.
    """
    if shutil.which("docker-registry") is None:
        argv = ["bash", "-c", f". {PROVISION} && ensure_tools docker-registry"]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode and not os.environ.get("CI"):
            pytest.skip(f"NO REGISTRY, NOT TESTED: {done.stderr.strip()}")
        assert done.returncode == 0, done.stderr
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    settings: dict[str, object] = {
        "version": 0.1,
        "log": {"accesslog": {"disabled": True}, "level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    if not is_open:
        (folder / "users").write_text(f"{USER}:{_HASH}\n")
        settings["auth"] = {"htpasswd": {"realm": "test", "path": str(folder / "users")}}
    (folder / "config.yml").write_text(json.dumps(settings))
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(["docker-registry", "serve", str(folder / "config.yml")], stdout=log, stderr=log)
    try:
        wait_until(lambda: _listens(port) or process.poll() is not None, seconds=20)
        assert process.poll() is None, (folder / "log").read_text()
        yield Registry(host=f"localhost:{port}")
    finally:
        process.terminate()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
