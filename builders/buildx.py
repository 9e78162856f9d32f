"""How buildx is called: started as quickly as can be, and ended together with us."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from wheelcache.programs import ProgramMissingError, Runner

THROUGH_DOCKER: Final = ("docker", "buildx")
_LEASH: Final = ("setpriv", "--pdeathsig", "TERM", "--")
_PLUGIN: Final = "docker-buildx"
_FOLDERS: Final = tuple(
    Path(f"/usr/{place}/docker/cli-plugins") for place in ("local/lib", "local/libexec", "lib", "libexec")
)
"""Where the docker client looks after the user's own folder, in this order."""

_UNASKED: Final = {"BUILDX_GIT_INFO": "false", "BUILDX_METADATA_PROVENANCE": "disabled"}
"""What buildx is not to find out, since nobody looks at it: a large repository's state takes git seconds."""

_MEANT: Final = {"BUILDX_NO_DEFAULT_LOAD": "false"}
"""What holds whatever the user wants of buildx otherwise: what an engine's own builder builds comes into the engine."""


def buildx_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """Returns the environment that buildx is to run in; what *environ* says itself mostly holds."""
    return {**_UNASKED, **environ, **_MEANT}


def find_buildx(*, run: Runner, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Returns the words that call buildx, before `build`.

    The plugin is called by its path where the docker client would take it from: to find it, that client takes a fifth
    of a build in which nothing has changed. It is put on a leash: the kernel ends it when this process is killed
    outright, since it would see that nobody reads only once a step writes. Linux and util-linux 2.33 are needed for
    that; elsewhere a killed build goes on to the end of its step.

    Args:
        run: runs programs; tries the leash.
        environ: the environment that buildx is to run in.
    """
    plugin = _find_plugin(environ)
    return (*_leash(run, environ), *(THROUGH_DOCKER if plugin is None else (str(plugin),)))


def _leash(run: Runner, environ: Mapping[str, str]) -> tuple[str, ...]:
    try:
        is_known = run([*_LEASH, "true"], env=environ).is_done
    except ProgramMissingError:
        return ()
    return _LEASH if is_known else ()


def _find_plugin(environ: Mapping[str, str]) -> Path | None:
    """Returns the plugin as docker(1) finds it; None where that is not as plain as usual."""
    client = shutil.which("docker", path=environ.get("PATH"))
    home = environ.get("HOME")
    own = environ.get("DOCKER_CONFIG") or (f"{home}/.docker" if home else "")
    if os.name != "posix" or client is None or not own or not _is_executable(Path(client)):
        return None
    try:
        settings = json.loads(Path(own, "config.json").read_bytes())
    except FileNotFoundError:
        settings = {}
    except (OSError, ValueError):
        return None
    if not isinstance(settings, dict) or settings.get("cliPluginsExtraDirs"):
        return None
    places = (folder / _PLUGIN for folder in (Path(own, "cli-plugins"), *_FOLDERS))
    found = next((place for place in places if os.path.lexists(place)), None)
    return found if found is not None and _is_executable(found) else None


def _is_executable(file: Path) -> bool:
    """True for a program of the machine's own kind: what is a script may do something of its own."""
    try:
        with file.open("rb") as opened:
            return opened.read(4) == b"\x7fELF" and os.access(file, os.X_OK)
    except OSError:
        return False
