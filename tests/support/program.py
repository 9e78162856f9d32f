"""The installed program, run as people run it: a process of its own, with a store and a project of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path

import pytest

from support.wheels import make_wheel
from wheelcache import __version__
from wheelcache.digest import parse_digest
from wheelcache.partial import usable_bytes
from wheelcache.place import boot_id

PROGRAM = Path(sysconfig.get_path("scripts"), "wheelcache")
TARGET = ("--python", "3.11", "--platform", "manylinux_2_28_x86_64")

_FOREIGN = re.compile(r"^(UV|PIP|WHEELCACHE|DOCKER|COMPOSE|BUILDX|BUILDKIT)_|_proxy$|^NO_COLOR$", re.IGNORECASE)
"""Settings of whoever runs the tests, which would change what the program does."""


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What a run of the program left: its exit code and what it printed, filtered of all that differs between runs.

    As text it is `exit N`, `-- stdout`, …, `-- stderr`, …; an empty stream is left out.
    """

    code: int
    out: str
    err: str

    def __str__(self) -> str:
        parts = [f"exit {self.code}\n"]
        for name, text in (("stdout", self.out), ("stderr", self.err)):
            if text:
                parts.append(f"-- {name}\n{text}" + ("" if text.endswith("\n") else "[no newline]\n"))
        return "".join(parts)

    def __repr__(self) -> str:
        return f"\n{self}"

    def shows(self, expected: str) -> None:
        """Fails unless this is what was expected, to the letter."""
        __tracebackhide__ = True
        if str(self) != expected:
            lines = [text.splitlines() for text in (expected, str(self))]
            pytest.fail("\n".join(unified_diff(*lines, "expected", "shown", lineterm="")), pytrace=True)

    @property
    def document(self) -> dict:
        """The one JSON document that stdout is."""
        return json.loads(self.out)


class Program:
    """Runs `wheelcache` in a folder of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.cwd = home / "project"
        self.cache = home / "cache"
        self.hosts: dict[str, str] = {}
        self.cwd.mkdir()
        kept = {name: value for name, value in os.environ.items() if not _FOREIGN.search(name)}
        self.environ = {
            **kept,
            "HOME": str(home),
            "WHEELCACHE_DIR": str(self.cache),
            "UV_CACHE_DIR": str(home / "uv"),
            "DOCKER_HOST": f"unix://{home}/no-engine.sock",
            "COLUMNS": "100",
        }

    def __call__(
        self, *arguments: object, env: Mapping[str, str] | None = None, cwd: Path | None = None, timeout: float = 60
    ) -> Ran:
        done = subprocess.run(
            [PROGRAM, *map(str, arguments)],
            cwd=cwd or self.cwd,
            env={**self.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
        return Ran(code=done.returncode, out=self.filtered(done.stdout), err=self.filtered(done.stderr))

    def start(self, *arguments: object, **options: object) -> subprocess.Popen[bytes]:
        """Starts the program and returns at once."""
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        environ = {**self.environ, **options.pop("env", {})}
        return subprocess.Popen([PROGRAM, *map(str, arguments)], cwd=self.cwd, env=environ, **{**pipes, **options})

    def ended(self, process: subprocess.Popen[bytes], *, timeout: float = 30) -> Ran:
        """Waits for a program that was started."""
        out, err = process.communicate(timeout=timeout)
        return Ran(code=process.returncode, out=self.filtered(out or b""), err=self.filtered(err or b""))

    def interrupted(self, *arguments: object, number: signal.Signals, when: Callable[[], bool]) -> Ran:
        """Runs the program and sends it a signal once *when* says so."""
        with self.start(*arguments) as process:
            try:
                wait_until(lambda: when() or process.poll() is not None)
                time.sleep(0.1)
                process.send_signal(number)
                return self.ended(process)
            finally:
                process.kill()

    def write(self, name: str, text: str) -> Path:
        file = self.cwd / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def declare(self, *services: str, index: str = "", more: str = "") -> None:
        """Writes a project file with a declared target; each service has a folder, an empty one unless it is there."""
        lines = [more, '[target]\npython = "3.11"\nplatform = "manylinux_2_28_x86_64"\n']
        if index:
            lines.append(f'[[indexes]]\nname = "main"\nurl = "{index}"\n')
        lines += [f'[[services]]\nname = "{name}"\ncontext = "{name}"\n' for name in services]
        self.write("wheelcache.toml", "".join(lines))

    def service(self, name: str, *requirements: str) -> None:
        """Writes a service's folder: a Dockerfile that installs a requirements file."""
        self.write(f"{name}/requirements.txt", "".join(f"{line}\n" for line in requirements))
        self.write(
            f"{name}/Dockerfile",
            "FROM python:3.11-slim\nCOPY requirements.txt .\nRUN pip install -r requirements.txt\n",
        )

    def partial_bytes(self) -> int:
        """The bytes of wheels that are not complete."""
        folder = self.cache / "v1" / "partial"
        digests = [parse_digest(f"sha256:{file.stem}") for file in folder.glob("*.part")]
        return sum(usable_bytes(folder, digest, boot=boot_id()) for digest in digests)

    def holds(self, digest: str) -> bool:
        name = digest.removeprefix("sha256:")
        return (self.cache / "v1/blobs/sha256" / name[:2] / name).is_file()

    def filtered(self, printed: bytes) -> str:
        """Returns text without paths, hosts, times and versions."""
        text = printed.decode()
        for host, name in self.hosts.items():
            text = text.replace(host, name)
        text = text.replace(str(self.home), "[HOME]").replace(f"wheelcache {__version__}", "wheelcache [VERSION]")
        text = re.sub(r"\bversion \d+\.\d+\.\d+", "version [VERSION]", text)
        text = re.sub(r"\b\d+(\.\d+)? s\b", "[TIME]", text)
        return re.sub(r'("seconds": )[\d.]+', r"\g<1>0", text)


ALPHA = make_wheel("alpha", "1.0", requires=("gamma",))
ALPHA_2 = make_wheel("alpha", "2.0", requires=("gamma",))
BETA = make_wheel("beta", "1.0", requires=("gamma<2",))
GAMMA = make_wheel("gamma", "1.0", size=300_000)
GAMMA_2 = make_wheel("gamma", "2.0", size=400_000)
BIG = make_wheel("big", "1.0", size=3_000_000)
NATIVE = make_wheel("native", "1.0", tag="cp311-cp311-manylinux_2_17_x86_64")


needs_root = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0 or shutil.which("mount") is None, reason="mounts need root on Linux"
)


def wait_until(is_so: Callable[[], bool], *, seconds: float = 20) -> None:
    ends = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < ends, "waited in vain"
        time.sleep(0.02)
