"""Knows the virtual environments (PEP 405) that a Dockerfile makes, and into which Python a command installs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from posixpath import basename, dirname, isabs, join, normpath
from typing import Final, Literal

from builders.contextfiles import copies_of
from builders.dockerfile import Stages, Step, from_words
from builders.pipcommand import PipCommand, module_run, recognise_call, subcommand_of
from builders.shellcommand import Command
from wheelcache.options import Grammar, OptionsError

Destination = Literal["system", "user", "prefix", "target", "venv", "venv-system-site-packages", "wheel"]

_SYSTEM: Final = frozenset({"/", "/usr", "/usr/local", "/opt/conda", "/opt/miniconda3", "/opt/miniforge3"})
_VENV: Final = Grammar(
    valued=(
        "--prompt",
        "--python -p",
        "--pip",
        "--setuptools",
        "--wheel",
        "--app-data",
        "--creator",
        "--seeder",
        "--find-links -f",
        "--index-url -i",
        "--extra-index-url",
        "--index",
        "--default-index",
        "--cache-dir",
        "--link-mode",
        "--extra-search-dir",
        "--activators",
        "--exclude-newer",
        "--index-strategy",
    ),
    flags=(
        "--system-site-packages",
        "--clear",
        "--upgrade",
        "--upgrade-deps",
        "--copies --always-copy",
        "--symlinks",
        "--without-pip",
        "--without-scm-ignore-files",
        "--seed",
        "--relocatable",
        "--allow-existing",
        "--no-cache -n",
        "--quiet -q",
        "--verbose -v",
        "--no-project",
        "--no-config",
        "--no-index",
        "--download",
        "--no-download",
        "--no-pip",
        "--no-setuptools",
        "--no-wheel",
        "--no-periodic-update",
        "--offline",
        "--system",
        "--managed-python",
        "--no-managed-python",
        "--no-python-downloads",
    ),
)


@dataclass(kw_only=True, slots=True)
class Environments:
    """The virtual environments of one stage so far.

    Attributes:
        known: by folder; True where it also sees the base interpreter's packages.
        coming: folders of those that later commands of the stage make.
    """

    known: dict[str, bool] = field(default_factory=dict)
    coming: set[str] = field(default_factory=set)

    def copy(self) -> Environments:
        """Returns the same environments, for a stage that builds on this one."""
        return Environments(known=dict(self.known))

    def expect(self, commands: Iterable[Command]) -> None:
        """Notes what environments the stage's commands are going to make."""
        self.coming = {made[0] for command in commands if (made := _made_by(command)) is not None} - self.known.keys()

    def note(self, command: Command) -> None:
        """Adds the environment that *command* makes, if it makes one."""
        made = _made_by(command)
        if made is not None:
            folder, sees_system = made
            self.known[folder] = sees_system
            self.coming.discard(folder)

    def note_copy(self, step: Step, sources: Mapping[int, Environments], stages: Stages) -> None:
        """Adds the environments that a `COPY --from` brings along."""
        other = stages.find(next(from_words(step), ""))
        if other is None or other not in sources:
            return
        for copied in copies_of(step):
            source = "/" + copied.source.lstrip("/")
            for folder, sees_system in sources[other].known.items():
                if folder == source or folder.startswith(source.rstrip("/") + "/"):
                    self.known[copied.destination + folder.removeprefix(source)] = sees_system

    def destination(self, pip: PipCommand, command: Command, *, user: str) -> tuple[Destination, str]:
        """Returns where an install goes, and the environment's folder if it goes into one.

        Args:
            pip: the install.
            command: the same, as a command.
            user: USER at that place; empty where only the base image knows.
        """
        if pip.subcommand in {"wheel", "download"}:
            return "wheel", ""
        environment = command.environment
        switches: tuple[tuple[str, Destination], ...] = (("target", "target"), ("root", "target"), ("prefix", "prefix"))
        for option, destination in switches:
            if pip.options.last(option) or (pip.tool == "pip" and environment.get(f"PIP_{option.upper()}")):
                return destination, ""
        prefix = self._uv_prefix(pip, command) if pip.tool == "uv" else self._pip_prefix(pip, command)
        if prefix is not None:
            return ("venv-system-site-packages" if self.known.get(prefix) else "venv"), prefix
        if pip.tool == "pip" and "no-user" not in pip.options.flags:
            is_asked = "user" in pip.options.flags or _is_true(environment.get("PIP_USER"))
            if is_asked or user.partition(":")[0] not in {"", "root", "0"}:
                return "user", ""
        return "system", ""

    def _pip_prefix(self, pip: PipCommand, command: Command) -> str | None:
        """Returns the environment whose pip this is; None for the image's own Python."""
        program = pip.options.last("python") or pip.program
        if "/" in program:
            return self._environment_of(normpath(join(command.cwd or "/", program)))
        return self._on_path(command.environment)

    def _on_path(self, environment: Mapping[str, str | None]) -> str | None:
        for entry in (environment.get("PATH") or "").split(":"):
            folder = dirname(normpath(entry)) if isabs(entry) else ""
            is_active = folder == environment.get("VIRTUAL_ENV") and folder not in _SYSTEM | self.coming
            if folder in self.known or (folder and is_active):
                return folder
            if folder in _SYSTEM:
                return None
        return None

    def _uv_prefix(self, pip: PipCommand, command: Command) -> str | None:
        environment = command.environment
        python = pip.options.last("python") or environment.get("UV_PYTHON") or ""
        if "/" in python:
            return self._environment_of(normpath(join(command.cwd or "/", python)))
        is_system = "system" in pip.options.flags or _is_true(environment.get("UV_SYSTEM_PYTHON"))
        if is_system and "no-system" not in pip.options.flags:
            return None
        active = environment.get("VIRTUAL_ENV")
        if active:
            folder = normpath(join(command.cwd or "/", active))
            return None if folder in _SYSTEM else folder
        folder = command.cwd or "/"
        while join(folder, ".venv") not in self.known and folder != "/":
            folder = dirname(folder)
        local = join(folder, ".venv")
        if local in self.known:
            return local
        found = self._on_path(environment)
        return found if found or python or environment.get("CONDA_PREFIX") else "/.venv"

    def _environment_of(self, program: str) -> str | None:
        """Returns the folder of the environment that *program* (or that folder itself) belongs to."""
        if program in self.known:
            return program
        folder = dirname(dirname(program)) if basename(dirname(program)) == "bin" else program
        return None if folder in _SYSTEM else folder


def _made_by(command: Command) -> tuple[str, bool] | None:
    """Returns the folder that `venv`, `virtualenv` or `uv venv` makes, and whether it sees the system's packages."""
    made = _asked_by(command) if command.words else None
    return None if made is None else (normpath(join(command.cwd or "/", made[0])), made[1])


def _asked_by(command: Command) -> tuple[str, bool] | None:
    arguments: tuple[str, ...] | None = None
    module = module_run(command)
    if module is not None and module[0] in {"venv", "virtualenv"}:
        arguments = module[1]
    elif re.fullmatch(r"(virtualenv|pyvenv)[\d.-]*", command.name):
        arguments = command.arguments
    else:
        call = recognise_call(command)
        subcommand, rest, _ = subcommand_of(call) if call and call.tool == "uv" else ("", (), None)
        if subcommand == "venv":
            arguments = rest or (".venv",)
    if arguments is None:
        return None
    try:
        read = _VENV.read(arguments)
    except OptionsError:
        plain = [word for word in arguments if not word.startswith("-")]
        return (plain[-1] if plain else ".venv"), "--system-site-packages" in arguments
    return (read.operands[-1] if read.operands else ".venv"), "system-site-packages" in read.flags


def _is_true(value: str | None) -> bool:
    return (value or "").lower() in {"1", "true", "yes", "on", "y", "t"}
