"""Our side: `wheelcache lock`, `sync`, `build` of the demo, and what it takes to judge its promises."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo import CHANGED, TORCH_SERVICES, add_requirement, change_app, copy_demo
from measure import SentBytes, amount, disk_bytes, seconds, timed
from ownengine import Engine, own_engine
from promises import judge

NEEDED = 24 * 1000**3
"""Bytes of free disk: 13 GB is the limit for what stays, and wheels pass through a folder and the build cache."""

_PRINT_TORCH = "import torch; print(torch.__version__)"
_ASK = """
import sys, urllib.request
# Not through a proxy that the environment may name: the container is on a bridge of this machine.
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
print(opener.open(sys.argv[1], timeout=10).read().decode())
"""
_PATIENCE = 90.0
"""Seconds until `ml` must have loaded torch and answer."""


def run_wheelcache(scratch: Path, logs: Path, *, program: str) -> dict[str, Any]:
    """Locks, syncs and builds the demo cold, then after each of the changes; returns costs and judged promises."""
    with own_engine(scratch / "wheelcache", log=logs / "wheelcache-dockerd.log") as engine:
        folder = copy_demo(engine.data.parent / "demo")
        tool = _Tool(program=program, engine=engine, folder=folder, logs=logs)
        before, images_before = disk_bytes(engine.data), engine.accounts()["images"]
        steps = {"cold": tool.run("cold", "lock", "sync", "build")}
        accounts = engine.accounts()
        result: dict[str, Any] = {
            "steps": steps,
            "engine_growth": disk_bytes(engine.data) - before,
            "images": accounts["images"] - images_before,
            "build_cache": accounts["build_cache"],
            "store": disk_bytes(tool.store) + disk_bytes(tool.home),
        }
        (logs / "wheelcache-df.txt").write_text(engine.docker("system", "df", "--verbose") + "\n")
        if steps["cold"]["exit_code"] == 0:
            images = {service["name"]: service["image"] for service in steps["cold"]["documents"]["build"]["services"]}
            result["torch"] = {name: _try(_torch_version, engine, images[name]) for name in TORCH_SERVICES}
            result["prediction"] = _try(_predict, engine, images["ml"])
            steps["again"] = tool.run("again", "build")
            change_app(folder)
            steps["app"] = tool.run("app", "build")
            add_requirement(folder)
            steps["requirement"] = tool.run("requirement", "lock", "sync", "build")
            result["prediction_after"] = _try(_predict, engine, images[CHANGED])
        result["checks"] = judge(result)
        return result


@dataclass(frozen=True, kw_only=True, slots=True)
class _Tool:
    """Runs wheelcache against an engine, everything it keeps inside the scratch folder."""

    program: str
    engine: Engine
    folder: Path
    logs: Path

    @property
    def store(self) -> Path:
        return self.engine.data.parent / "store"

    @property
    def home(self) -> Path:
        """Takes whatever is kept outside the store, uv's cache for one."""
        return self.engine.data.parent / "home"

    def run(self, name: str, *commands: str) -> dict[str, Any]:
        """Runs the commands in turn until one fails; all but the cold run also count what is sent to the engine."""
        events_file = self.logs / f"wheelcache-{name}-events.jsonl"
        events_file.unlink(missing_ok=True)
        documents: dict[str, Any] = {}
        spent: dict[str, float] = {}
        received = exit_code = 0
        failure = ""
        log = self.logs
        counter = SentBytes()
        with self._way_to_engine(None if name == "cold" else counter) as host:
            for command in commands:
                log = self.logs / f"wheelcache-{name}-{command}.log"
                argv = [self.program, "--events", str(events_file), command, "--json"]
                done = timed(argv, network=self.engine.network, log=log, env=self._env(host), cwd=self.folder)
                spent[command], exit_code = done.seconds, done.exit_code
                received += done.received
                documents[command] = _document(done.stdout)
                print(f"wheelcache {command}: {seconds(done.seconds)}, exit {exit_code}", file=sys.stderr)
                if exit_code:
                    failure = "\n".join([done.stdout[-3000:], *log.read_text(errors="replace").splitlines()[-20:]])
                    break
        events = _read_events(events_file)
        sent = None if name == "cold" else counter.sent
        total = sum(spent.values())
        print(f"{name}: {seconds(total)}, {amount(received)} fetched, {amount(sent)} sent", file=sys.stderr)
        return {
            "seconds": total,
            "commands": spent,
            "exit_code": exit_code,
            "received": received,
            "said_fetched": documents.get("sync", {}).get("bytes_fetched", 0),
            "sent": sent,
            "documents": documents,
            "build_steps": [event for event in events if event["event"] == "StepFinished"],
            "build_logs": self._keep_build_logs(name, events),
            "failure": failure,
            "log": str(log),
        }

    def _env(self, host: str) -> dict[str, str]:
        names = ("CACHE", "STATE", "DATA")
        own = {f"XDG_{name}_HOME": str(self.home / name.lower()) for name in names}
        return self.engine.env | own | {"DOCKER_HOST": host, "WHEELCACHE_DIR": str(self.store)}

    @contextlib.contextmanager
    def _way_to_engine(self, counter: SentBytes | None) -> Iterator[str]:
        if counter is None:
            yield f"unix://{self.engine.socket}"
        else:
            with counter.listening(self.engine.data.parent / "counted.sock", self.engine.socket) as host:
                yield host

    def _keep_build_logs(self, name: str, events: list[dict[str, Any]]) -> list[str]:
        """Copies the logs of the builds to where logs stay, and returns their paths."""
        kept = []
        for number, event in enumerate(event for event in events if event["event"] == "BuildStarted"):
            copy = self.logs / f"wheelcache-{name}-build{number}-{Path(event['name']).name.replace(':', '-')}.log"
            with contextlib.suppress(OSError):
                shutil.copy(event["log"], copy)
                kept.append(str(copy))
        return kept


def _document(text: str) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(text)
    except ValueError:
        return {}
    return document


def _read_events(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _try(function: Any, *arguments: Any) -> str:
    """Returns what the function found, or what kept it from finding anything: a promise broken, not the end."""
    try:
        return str(function(*arguments))
    except (OSError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"


def _torch_version(engine: Engine, image: str) -> str:
    return engine.docker("run", "--rm", "--network", "none", image, "python", "-c", _PRINT_TORCH)


def _predict(engine: Engine, image: str) -> str:
    """Starts `ml` as it is and asks it over HTTP, from where its engine's containers can be asked."""
    container = engine.docker("run", "--detach", image)
    try:
        address = engine.docker("inspect", "--format", "{{.NetworkSettings.IPAddress}}", container)
        ask = engine.network.enter(sys.executable, "-c", _ASK, f"http://{address}:8000/predict?x=0.5")
        deadline = time.monotonic() + _PATIENCE
        while True:
            asked = subprocess.run(ask, capture_output=True, text=True, check=False)
            if asked.returncode == 0:
                return asked.stdout.strip()
            if time.monotonic() > deadline:
                raise RuntimeError(f"{asked.stderr[-300:]}\n{engine.docker('logs', container)[-2000:]}")
            time.sleep(0.5)
    finally:
        engine.docker("rm", "--force", "--volumes", container)
