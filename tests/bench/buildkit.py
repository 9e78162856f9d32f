"""Asks BuildKit how it reads a Dockerfile: its parser, as a Python package, and the frontend of an engine.

The package (`dockerfile` in the extra `test`) is BuildKit's parser of some release, in this process: keywords, flags,
arguments, heredocs and lines. An engine is asked for the outline of a build, which parses, checks and plans all of the
file and then runs nothing: base images are put in the place of which an empty folder stands, so that no registry is
asked.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

_SYNTAX = re.compile(r"(?im)\A((?:\ufeff)?(?:#[ \t]*(?:escape|check)[ \t]*=.*\n)*?)#[ \t]*syntax[ \t]*=.*(?:\n|\Z)")


_GONE = re.compile(rb"Cannot connect to the Docker daemon|Unavailable|connection refused|failed to list workers")


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What was said of a Dockerfile.

    Attributes:
        error: why it is refused; empty when it is not.
        said: what must be the same for a copy.
        secrets: the line on which each secret is mounted first, by id.
    """

    error: str = ""
    said: object = None
    secrets: Mapping[str, int] | None = None


def without_syntax(text: str) -> str:
    """Returns *text* without its `# syntax=` line, whose frontend nobody here can pull."""
    return _SYNTAX.sub(r"\1", text, count=1)


def find_parser() -> ModuleType | None:
    """Returns BuildKit's parser; None where its package is not installed."""
    try:
        import dockerfile  # noqa: PLC0415 - optional: there are no wheels of it for every machine
    except ImportError:
        return None
    return dockerfile


def parsed(parser: ModuleType, text: str) -> Answer:
    """Returns the instructions as BuildKit's parser sees them: keyword, form, arguments, heredocs, lines and flags."""
    try:
        found = parser.parse_string(text.encode(errors="surrogateescape").decode(errors="replace"))
    except parser.GoParseError as error:
        return Answer(error=str(error))
    return Answer(
        said=[
            (
                *(each.cmd.upper(), each.sub_cmd, each.json, each.value),
                tuple((heredoc.name, heredoc.file_descriptor, heredoc.content) for heredoc in each.heredocs),
                (each.start_line, each.end_line),
                each.flags,
            )
            for each in found
        ]
    )


class Engine:
    """A Docker engine with buildx, whose own frontend is asked.

    Args:
        scratch: an empty folder, for the files it is sent.

    Attributes:
        seconds: that each outline took.
    """

    def __init__(self, scratch: Path) -> None:
        self.seconds: list[float] = []
        self._file = scratch / "Dockerfile"
        self._empty = Path(tempfile.mkdtemp(prefix="empty-", dir=scratch))
        described = subprocess.run(["docker", "buildx", "build", "--help"], capture_output=True, text=True, check=False)
        self._option = "--call" if "--call" in described.stdout else "--print"

    @staticmethod
    def answers() -> bool:
        """True when there is one."""
        if shutil.which("docker") is None:
            return False
        asked = (["docker", "version"], ["docker", "buildx", "inspect"])
        return all(subprocess.run(argv, capture_output=True, check=False).returncode == 0 for argv in asked)

    def outline(self, text: str, images: Iterable[str], args: Mapping[str, str]) -> Answer:
        """Returns the outline of *text*.

        Args:
            text: the file, without a `# syntax=` line.
            images: what is in the place of which the empty folder stands.
            args: build arguments.
        """
        self._file.write_bytes(text.encode(errors="surrogateescape"))
        argv = ["docker", "buildx", "build", f"{self._option}=outline,format=json", "--output=type=cacheonly"]
        argv += [f"--build-context={image}={self._empty}" for image in sorted(set(images))]
        argv += [f"--build-arg={name}={value}" for name, value in args.items()]
        run = self._run([*argv, "-f", str(self._file), str(self._empty)])
        if run.returncode:
            said = run.stderr.decode(errors="replace")
            at = said.rfind("ERROR: ")
            return Answer(error=said[at + 7 :].split("\n", 1)[0] if at >= 0 else said.strip()[-300:])
        found = json.loads(run.stdout)
        secrets = found.pop("secrets", None) or []
        found.pop("sources", None)
        # The engine gives what stands in one instruction in any order.
        said = {
            key: sorted(map(json.dumps, value)) if isinstance(value, list) else value for key, value in found.items()
        }
        return Answer(said=said, secrets={each["name"]: _first_line(each) for each in secrets})

    def _run(self, argv: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
        """Runs buildx, again while the engine is away: it may be starting anew."""
        environment = {**os.environ, "BUILDX_EXPERIMENTAL": "1"}
        for wait in (1, 5, 20, 60):
            began = time.monotonic()
            run = subprocess.run(argv, capture_output=True, check=False, timeout=300, env=environment)
            self.seconds.append(time.monotonic() - began)
            if run.returncode == 0 or not _GONE.search(run.stderr):
                return run
            time.sleep(wait)
        raise SystemExit("the engine went away\n  next step: bash Dockerfiles/provision.sh engine, then again")


def _first_line(described: Mapping[str, Any]) -> int:
    ranges: Sequence[Mapping[str, Any]] = described["location"]["ranges"]
    return min(int(each["start"]["line"]) for each in ranges)


def arguments_need_each_other(text: str) -> bool:
    """True where an ARG before the first FROM needs itself, by way of others or as it is given twice."""
    needs: dict[str, set[str]] = {}
    for name, default in re.findall(r"(?im)^\s*ARG\s+(\w+)=(.*)", re.split(r"(?im)^\s*FROM\s", text)[0]):
        needs[name] = {other for other in re.findall(r"\$\{?(\w+)", default) if other in needs}
    for found in needs.values():
        while more := {other for each in found for other in needs[each]} - found:
            found.update(more)
    return any(name in found for name, found in needs.items())
