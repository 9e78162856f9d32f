"""Which builder builds what: the engine's own, or one apart that was named."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from builders.connecting import find_endpoint
from builders.errors import EngineError
from builders.failures import plain
from wheelcache.programs import ProgramMissingError, Runner

_STARTING: Final = 300.0
"""Seconds that a builder may take to start: its own image may have to be pulled."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """Which builder builds what.

    Attributes:
        environ: in which buildx takes the engine's own builder, which shared bases and wheels are made with.
        elsewhere: the name of the builder of services' images; None where that is the engine's own too.
    """

    environ: Mapping[str, str]
    elsewhere: str | None = None


def choose_builder(name: str | None, *, run: Runner, environ: Mapping[str, str]) -> Choice:
    """Returns what it means to build with the builder *name*, which is running; None leaves it to the environment.

    Raises:
        EngineError: there is none, or it does not start.
    """
    if name is None:
        return Choice(environ=environ)
    try:
        asked = run(["docker", "buildx", "inspect", "--bootstrap", name], env=environ, timeout=_STARTING)
    except ProgramMissingError as error:
        raise EngineError("expected a docker client on PATH, found none", hint="install the docker client") from error
    found = re.search(r"^Driver:\s*(\S+)", asked.stdout.decode(errors="replace"), re.MULTILINE)
    if not asked.is_done or found is None:
        raise EngineError(
            f"--builder: expected a builder that runs, found {name!r}: {plain(asked.reason())}",
            hint="docker buildx ls shows them; docker buildx create makes one",
        )
    if found[1] == "docker":  # the connection tells whether it is the engine that is connected to
        return Choice(environ={**environ, "BUILDX_BUILDER": name})
    own = find_endpoint(run=run, environ=environ).context
    return Choice(environ={**environ, "BUILDX_BUILDER": own}, elsewhere=name)
