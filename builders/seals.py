"""Tells what in a command or its environment defeats a mounted pip or uv configuration."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from posixpath import basename, join, normpath
from typing import Final

from builders.dockerfile import Step
from builders.instructions import Instruction
from builders.mounts import mount_options
from builders.pipcommand import PipCommand, recognise_call, subcommand_of
from builders.pipconf import PIP_CONF, UV_TOML
from builders.shellcommand import Command
from wheelcache.redaction import without_userinfo

_WRITING: Final = frozenset({"chmod", "chown", "cp", "install", "ln", "mv", "rm", "sed", "tee", "touch"})


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
        words = command.arguments if command.name in _WRITING else ()
        places = [*words, *(join(words[-1], basename(word)) for word in words[:-1]), *(w.text for w in command.writes)]
        if path in {normpath(join(command.cwd or "/", place)) for place in places}:
            return path
        call = recognise_call(command) if tool == "pip" else None
        if call is not None and subcommand_of(call)[0] == "config" and "--global" in command.arguments:
            return path
    return ""


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
