"""Tells what in a command or its environment defeats a mounted pip or uv configuration."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from posixpath import basename, isabs, join, normpath
from typing import Final

from builders.dockerfile import Step
from builders.instructions import Instruction
from builders.mounts import mount_options
from builders.pipcommand import PipCommand, recognise_call, subcommand_of
from builders.pipconf import PIP_CONF, UV_TOML
from builders.shellcommand import Command
from wheelcache.redaction import without_userinfo

_CHANGING: Final = frozenset(
    {"chgrp", "chmod", "chown", "cp", "install", "ln", "mv", "rm", "sed", "tee", "touch", "truncate"}
)


def conditions_against_sealing(pip: PipCommand, command: Command, step: Step) -> tuple[str, ...]:
    """Returns sentences, one for each way in which this command would not keep to the mounted configuration.

    Index options do no harm: with `no-index` in a configuration file pip and uv ignore every index that an option, a
    variable or a requirement file names (pip 23.2 and 26.3, uv 0.13). Further find-links only add to ours, but
    pip's variable for them takes our place.

    Args:
        pip: the install.
        command: the same, as a command.
        step: the RUN it stands in.
    """
    found = _pip(command.environment) if pip.tool == "pip" else _uv(pip, command.environment)
    return (*found, *_mounted(pip.tool, step))


def mounts_configuration(tool: str, instruction: Instruction) -> str:
    """Returns where a RUN mounts a configuration of its own for *tool*; empty where it does not."""
    name = "pip.conf" if tool == "pip" else "uv.toml"
    targets = (mount_options(mount).get("target", "") for mount in instruction.values("mount"))
    return next((target for target in targets if basename(target) == name), "")


def written_configuration(tool: str, commands: Iterable[Command]) -> str:
    """Returns the configuration file of *tool* that *commands* write; empty where they write none.

    Nothing can be mounted over it in their RUN: they would fail.
    """
    path = PIP_CONF if tool == "pip" else UV_TOML
    for command in commands:
        call = recognise_call(command) if tool == "pip" else None
        is_set = call is not None and subcommand_of(call)[0] == "config" and "--global" in command.arguments
        if is_set or _changes(command, path):
            return path
    return ""


def changes_against_sealing(lock: str, configuration: str, commands: Iterable[Command]) -> Iterator[str]:
    """Yields a sentence for each file that *commands* change and that would be mounted for them.

    Args:
        lock: the uv.lock of the install; empty where it has none.
        configuration: what `written_configuration` found.
        commands: of the RUN.
    """
    if lock and any(_changes(command, lock) for command in commands):
        yield f"the RUN changes {lock}, which it cannot while that is mounted: give it a RUN of its own"
    if configuration:
        yield f"the RUN writes {configuration} itself"


def _changes(command: Command, path: str) -> bool:
    """True where *command* writes, moves or removes *path*, or a folder that it is in."""
    words = [word.text for word in command.words[1:] if word.sure] if command.name in _CHANGING else []
    if command.name == "sed" and not any(word.startswith(("-i", "--in-place")) for word in words):
        words = []
    if command.name in {"cp", "install", "ln"}:
        words = [*words[-1:], *(join(words[-1], basename(word)) for word in words[:-1])]
    written = [word.text for word in command.writes if word.sure]
    cwd = command.cwd
    patterns = [normpath(join(cwd or "/", place)) for place in (*words, *written) if cwd or isabs(place)]
    places = [path]
    if command.name in {"mv", "rm"} or any(re.fullmatch(r"-[a-zA-Z]*R[a-zA-Z]*|--recursive", word) for word in words):
        places += [str(folder) for folder in PurePosixPath(path).parents]
    return any(fnmatchcase(place, pattern) for place in places for pattern in patterns)


def _mounted(tool: str, step: Step) -> Iterator[str]:
    target = mounts_configuration(tool, step.instruction)
    if target:
        yield f"the RUN mounts its own {target}"


def _pip(environment: Mapping[str, str | None]) -> Iterator[str]:
    if environment.get("PIP_CONFIG_FILE", "") not in {"", "/etc/pip.conf"}:
        yield f"PIP_CONFIG_FILE={_shown(environment, 'PIP_CONFIG_FILE')} overrules /etc/pip.conf"
    if environment.get("PIP_FIND_LINKS", "") != "":
        yield f"PIP_FIND_LINKS={_shown(environment, 'PIP_FIND_LINKS')} replaces the mounted wheels"
    no_index = environment.get("PIP_NO_INDEX", "")
    if no_index is None or no_index.lower() in {"0", "false", "no", "off", "f", "n"}:
        yield f"PIP_NO_INDEX={_shown(environment, 'PIP_NO_INDEX')} lets pip ask its index"


def _uv(pip: PipCommand, environment: Mapping[str, str | None]) -> Iterator[str]:
    if "no-config" in pip.options.flags:
        yield "--no-config makes uv ignore /etc/uv/uv.toml"
    if pip.options.last("config-file"):
        yield f"--config-file {pip.options.last('config-file')} replaces /etc/uv/uv.toml"
    no_config = environment.get("UV_NO_CONFIG", "")
    if no_config is None or (no_config or "0").lower() not in {"0", "false", "no", "off", "f", "n"}:
        yield f"UV_NO_CONFIG={_shown(environment, 'UV_NO_CONFIG')} makes uv ignore /etc/uv/uv.toml"
    if environment.get("UV_CONFIG_FILE", "") not in {"", "/etc/uv/uv.toml"}:
        yield f"UV_CONFIG_FILE={_shown(environment, 'UV_CONFIG_FILE')} replaces /etc/uv/uv.toml"


def _shown(environment: Mapping[str, str | None], name: str) -> str:
    value = environment.get(name)
    return "…" if value is None else without_userinfo(value)
