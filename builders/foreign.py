"""Recognises installers other than pip and uv's pip interface, whose work cannot be locked here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from builders.pipcommand import module_run, recognise_call, subcommand_of
from builders.shellcommand import Command

_INSTALLERS: Final[Mapping[str, frozenset[str]]] = {
    "bun": frozenset({"add", "install"}),
    "conda": frozenset({"install", "create", "update", "env", "run"}),
    "easy_install": frozenset(),
    "hatch": frozenset({"run", "build", "env"}),
    "mamba": frozenset({"install", "create", "update", "env", "run"}),
    "micromamba": frozenset({"install", "create", "update", "env", "run"}),
    "npm": frozenset({"add", "ci", "i", "install"}),
    "pdm": frozenset({"add", "install", "sync", "update"}),
    "pipenv": frozenset({"install", "sync", "update"}),
    "pipx": frozenset({"install", "inject", "run"}),
    "pixi": frozenset({"add", "install", "run"}),
    "pnpm": frozenset({"add", "i", "install"}),
    "poetry": frozenset({"add", "install", "sync", "update"}),
    "rye": frozenset({"add", "install", "sync"}),
    "uvx": frozenset(),
    "yarn": frozenset({"add", "install"}),
}
"""By program: the subcommands that install; none listed means that any call does."""

_PYTHON_PACKAGES: Final = frozenset(_INSTALLERS) - {"bun", "npm", "pnpm", "yarn"}
_UV: Final = frozenset({"add", "build", "lock", "run", "sync", "tool"})


@dataclass(frozen=True, kw_only=True, slots=True)
class ForeignInstall:
    """A command of another installer.

    Attributes:
        tool: such as `poetry` or `uv sync`.
        line: the RUN's first line.
        is_python: True when what it installs are Python distributions.
    """

    tool: str
    line: int
    is_python: bool


def foreign_install(command: Command, line: int) -> ForeignInstall | None:
    """Returns the foreign installer that *command* runs; None for anything else.

    Args:
        command: a simple command.
        line: the RUN's first line.
    """
    name, arguments = command.name, command.arguments
    module = module_run(command)
    if module is not None and module[0] in _INSTALLERS:
        name, arguments = module
    verb = next((word for word in arguments if not word.startswith("-")), "")
    if name in _INSTALLERS:
        verbs = _INSTALLERS[name]
        if not verbs or verb in verbs or (name == "yarn" and not verb):
            return ForeignInstall(
                tool=f"{name} {verb}".strip() if verbs else name, line=line, is_python=name in _PYTHON_PACKAGES
            )
        return None
    if name.startswith("python") and arguments[:1] == ("setup.py",) and {"install", "develop"} & set(arguments):
        return ForeignInstall(tool="setup.py", line=line, is_python=True)
    if module is not None and module[0] == "spacy" and verb == "download":
        return ForeignInstall(tool="spacy download", line=line, is_python=True)
    call = recognise_call(command)
    subcommand = subcommand_of(call)[0] if call and call.tool == "uv" else ""
    return ForeignInstall(tool=f"uv {subcommand}", line=line, is_python=True) if subcommand in _UV else None
