"""The side to compare with: `docker compose build` of the demo, as its users run it, with the network."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from demo import COMPOSE, add_requirement, change_app, copy_demo
from measure import amount, disk_bytes, seconds, timed
from ownengine import Engine, own_engine, prepare_base_for_pip
from packaging.utils import parse_wheel_filename

NEEDED = 48 * 1000**3
"""Bytes of free disk: 39 GB were seen, and pip unpacks three times 4 GB of downloads meanwhile."""

NEEDED_FOR_REQUIREMENT = 18 * 1000**3
"""Bytes more: one service is installed and copied once again."""

_PORT = 8000
"""In a network namespace of its own."""

_IS_UP = "import socket; socket.create_connection(('127.0.0.1', {port}), 5)"

_DOWNLOADING = re.compile(r"Downloading \S+ \((?P<number>[\d.]+) (?P<unit>bytes|[kMG]B)\)")
_UNITS = {"bytes": 1, "kB": 1000, "MB": 1000**2, "GB": 1000**3}


def run_compose(scratch: Path, logs: Path, *, with_requirement: bool, wheels: Path | None) -> dict[str, Any]:
    """Builds the demo cold, again, with a changed app, and if asked with one more requirement; returns what it cost.

    Args:
        scratch: everything is below it, and gone afterwards.
        logs: where logs stay.
        with_requirement: whether one more requirement is added.
        wheels: a folder of them, which pip gets over loopback instead of an index's; None for the machine's index.
    """
    with contextlib.ExitStack() as opened:
        engine = opened.enter_context(own_engine(scratch / "compose", log=logs / "compose-dockerd.log"))
        folder = copy_demo(engine.data.parent / "demo")
        index = opened.enter_context(_serving(wheels, engine)) if wheels is not None else _index_url()
        prepare_base_for_pip(engine, engine.data.parent / "base", bundle=_ca_bundle(), index=index)
        override = _network_override(engine, folder)
        before = disk_bytes(engine.data)
        images_before = engine.accounts()["images"]

        def build(name: str) -> dict[str, Any]:
            return _build(engine, folder, override, log=logs / f"compose-{name}.log")

        steps = {"cold": build("cold")}
        accounts = engine.accounts()
        result = {
            "steps": steps,
            "engine_growth": disk_bytes(engine.data) - before,
            "images": accounts["images"] - images_before,
            "build_cache": accounts["build_cache"],
        }
        if steps["cold"]["exit_code"] == 0:
            steps["again"] = build("again")
            change_app(folder)
            steps["app"] = build("app")
            if with_requirement:
                add_requirement(folder)
                steps["requirement"] = build("requirement")
        return result


@contextlib.contextmanager
def _serving(wheels: Path, engine: Engine) -> Iterator[str]:
    """Serves a folder of wheels where the engine's builds have the host's network; returns the index's URL.

    A server's listing of a folder is a page of the simple API (PEP 503), without digests.
    """
    root = engine.data.parent / "index"
    for wheel in wheels.glob("*.whl"):
        place = root / "simple" / parse_wheel_filename(wheel.name)[0] / wheel.name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(wheel.resolve())
    argv = [sys.executable, "-m", "http.server", str(_PORT), "--bind", "127.0.0.1", "--directory", str(root)]
    with (engine.data.parent / "index.log").open("wb") as log:
        server = subprocess.Popen(engine.network.enter(*argv), stdout=log, stderr=log)
    try:
        ask = engine.network.enter(sys.executable, "-c", _IS_UP.format(port=_PORT))
        deadline = time.monotonic() + 30
        while subprocess.run(ask, capture_output=True, check=False).returncode:
            if time.monotonic() > deadline:
                raise SystemExit(f"no index on loopback: {(engine.data.parent / 'index.log').read_text()}")
            time.sleep(0.2)
        yield f"http://127.0.0.1:{_PORT}/simple/"
    finally:
        server.terminate()
        server.wait()


def _build(engine: Engine, folder: Path, override: Path, *, log: Path) -> dict[str, Any]:
    argv = ["docker", "compose", "--progress", "plain", "--file", COMPOSE, "--file", str(override), "build"]
    done = timed(argv, network=engine.network, log=log, env=engine.env, cwd=folder)
    words = done.stdout + done.log.read_text(errors="replace")
    done.log.write_text(words)
    print(f"docker compose build: {seconds(done.seconds)}, {amount(done.received)} fetched", file=sys.stderr)
    return {
        "seconds": done.seconds,
        "exit_code": done.exit_code,
        "received": done.received,
        "said_fetched": sum(float(found["number"]) * _UNITS[found["unit"]] for found in _DOWNLOADING.finditer(words)),
        "failure": "" if done.exit_code == 0 else "\n".join(words.splitlines()[-20:]),
        "log": str(log),
    }


def _network_override(engine: Engine, folder: Path) -> Path:
    """Writes a compose file that gives each service's build the host's network: our engine's own has no way out."""
    listed = subprocess.run(
        ["docker", "compose", "--file", COMPOSE, "config", "--services"],
        env=engine.env, cwd=folder, check=True, capture_output=True, text=True,
    )  # fmt: skip
    override = folder.parent / "network.yml"
    services = {name: {"build": {"network": "host"}} for name in listed.stdout.split()}
    override.write_text(json.dumps({"services": services}))
    return override


def _ca_bundle() -> Path | None:
    names = ("PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
    found = [Path(os.environ[name]) for name in names if os.environ.get(name)]
    return next((path for path in [*found, Path("/etc/ssl/certs/ca-certificates.crt")] if path.is_file()), None)


def _index_url() -> str | None:
    """Returns the machine's own choice of an index, and nothing else of its pip's configuration."""
    asked = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.index-url"], capture_output=True, text=True, check=False
    )
    return os.environ.get("PIP_INDEX_URL") or (asked.stdout.strip() if asked.returncode == 0 else "") or None
