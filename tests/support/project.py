"""A user's project in a folder of its own, with the real command line run on it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sysconfig
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

_INSTALLS = re.compile(r"\bRUN\b.*\b(pip3? install|pip3? wheel|pip sync|uv sync)\b")
_OWN_IMAGES = re.compile(r"\bwheelcache/(?:wheels|base|ground):[0-9a-f]{32}\b")


@dataclass(frozen=True, kw_only=True)
class Ran:
    """How a command line ended: its code, the JSON document on stdout, and stderr."""

    code: int
    document: dict[str, Any]
    stderr: str

    @property
    def services(self) -> dict[str, dict[str, Any]]:
        return {row["name"]: row for row in self.document["services"]}

    @property
    def states(self) -> dict[str, str]:
        return {name: row["state"] for name, row in self.services.items()}

    @property
    def wheels(self) -> dict[str, dict[str, Any]]:
        return {row["name"]: row for row in self.document["wheels"]}


class UserProject:
    """A project file, services and a cache folder.

    Args:
        root: the project's folder.
        cache: its cache folder.
        index: URL of the Simple API that it uses.
        key: makes its images' names its own.
    """

    def __init__(self, root: Path, *, cache: Path, index: str, key: str) -> None:
        self.root = root
        self.cache = cache
        self.key = key
        self._index = index
        self._services: dict[str, dict[str, Any]] = {}
        root.mkdir(parents=True)

    def add(self, name: str, files: Mapping[str, str | bytes], *, context: str = "", **options: object) -> None:
        """Adds a service with the files of its context folder; *options* are keys of `[[services]]`."""
        context = context or name
        self.write({f"{context}/{path}": content for path, content in files.items()})
        self._services[name] = {"name": name, "context": context, "image": self.image(name), **options}
        settings = {"indexes": [{"name": "local", "url": self._index}], "services": list(self._services.values())}
        self.write({"wheelcache.toml": tomli_w.dumps(settings)})

    def write(self, files: Mapping[str, str | bytes]) -> None:
        for path, content in files.items():
            file = self.root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content.encode() if isinstance(content, str) else content)

    def image(self, service: str) -> str:
        return f"wheelcache-test/{self.key}-{service}:1"

    def command(self, *arguments: str) -> list[str]:
        program = Path(sysconfig.get_path("scripts"), "wheelcache")
        return [str(program), *arguments, "--json", "--cache-dir", str(self.cache)]

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        environ = {name: value for name, value in os.environ.items() if not name.startswith("WHEELCACHE_")}
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.root,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wheelcache(self, *arguments: str) -> Ran:
        """Runs a command line to its end."""
        with self.start(*arguments) as process:
            return ended(process)

    def locked(self, service: str) -> set[tuple[str, str]]:
        """Name and version of every project in a service's lockfile."""
        document = tomllib.loads((self.root / f"pylock.{service}.toml").read_text())
        return {(package["name"], package["version"]) for package in document["packages"]}

    def logs(self, service: str) -> str:
        """All logs of a service's builds, the oldest first."""
        return "".join(file.read_text() for file in sorted((self.cache / "v1" / "logs" / service).glob("*.log")))

    def install_steps(self, service: str) -> list[str]:
        """The names of the steps that ran pip or uv, as BuildKit wrote them into the logs, without its own numbers."""
        lines = [re.sub(r"^#\d+ ", "", line) for line in self.logs(service).splitlines() if _INSTALLS.search(line)]
        return list(dict.fromkeys(lines))

    def images(self) -> Iterator[str]:
        """Every reference that building this project may have left in the engine."""
        yield from (self.image(name) for name in self._services)
        yield from sorted(set(_OWN_IMAGES.findall(self._all_logs())))

    def _all_logs(self) -> str:
        files: Iterable[Path] = (self.cache / "v1" / "logs").glob("*/*.log")
        return "\n".join(file.read_text(errors="replace") for file in files)


def ended(process: subprocess.Popen[str], *, timeout: float = 180) -> Ran:
    """Waits for a command line's end, which is at most *timeout* seconds away."""
    try:
        stdout, stderr = process.communicate(timeout=timeout)
    finally:
        if process.poll() is None:
            process.kill()
    document = json.loads(stdout) if stdout else {}
    return Ran(code=process.returncode, document=document, stderr=stderr)


def assert_built_sealed(project: UserProject, service: str) -> Ran:
    """Builds everything twice: sealed, then unchanged; returns the second run."""
    first = project.wheelcache("build")
    assert first.code == 0, first.stderr
    assert first.services[service]["state"] == "built"
    steps = project.install_steps(service)
    assert steps
    assert [step for step in steps if "--network=none" not in step] == []
    second = project.wheelcache("build")
    assert set(second.states.values()) == {"unchanged"}
    assert [row["bytes_sent"] for row in second.services.values() if row["bytes_sent"] > 10_000] == []
    assert [row["image_id"] for row in second.services.values()] == [row["image_id"] for row in first.services.values()]
    return second
