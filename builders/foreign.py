"""Recognises installers other than pip and uv's pip interface, whose work cannot be locked here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from builders.pipcommand import module_run, recognise_call, subcommand_of
from builders.shellcommand import Command

_CONDA: Final = "takes conda packages, which are no wheels: install them with pip, or build on an image that has them"
_OWN_BUILD: Final = "fetches what it builds with: build the wheel before, and COPY it"
_OWN_ENVIRONMENTS: Final = "makes environments of its own: use pip install"
_OWN_PIP: Final = "runs pip by itself: compile before, COPY what that wrote, and pip install -r it"
_OWN_LOCK: Final = "reads a lock of its own: write it out with {}, and pip install -r that"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Installer:
    """A program that installs.

    Attributes:
        verbs: the subcommands that do; none listed means that any call does.
        why: why it is not locked and the way out; empty where what it installs is no Python.
    """

    verbs: frozenset[str]
    why: str


def _installer(verbs: str, why: str) -> _Installer:
    return _Installer(verbs=frozenset(verbs.split()), why=why)


_INSTALLERS: Final[Mapping[str, _Installer]] = {
    "bun": _installer("add install", ""),
    "conda": _installer("install create update env run", _CONDA),
    "easy_install": _installer("", "fetches by itself: use pip install"),
    "flit": _installer("install", "fetches by itself: use pip install ."),
    "hatch": _installer("run build env", "makes environments of its own: use pip install ."),
    "mamba": _installer("install create update env run", _CONDA),
    "micromamba": _installer("install create update env run", _CONDA),
    "nox": _installer("", _OWN_ENVIRONMENTS),
    "npm": _installer("add ci i install", ""),
    "pdm": _installer("add install sync update", _OWN_LOCK.format("pdm export -o requirements.txt")),
    "pip-compile": _installer("", _OWN_PIP),
    "pip-sync": _installer("", _OWN_PIP),
    "pipenv": _installer("install sync update", _OWN_LOCK.format("pipenv requirements > requirements.txt")),
    "piptools": _installer("compile sync", _OWN_PIP),
    "pipx": _installer("install inject run", "makes an environment of its own: use pip install"),
    "pixi": _installer("add install run", _CONDA),
    "pnpm": _installer("add i install", ""),
    "poetry": _installer("add install sync update", _OWN_LOCK.format("poetry export -o requirements.txt")),
    "pyproject-build": _installer("", _OWN_BUILD),
    "python -m build": _installer("", _OWN_BUILD),
    "rye": _installer("add install sync", _OWN_LOCK.format("rye lock (requirements.lock)")),
    "tox": _installer("", _OWN_ENVIRONMENTS),
    "uvx": _installer("", "makes an environment of its own: use uv pip install"),
    "yarn": _installer("add install", ""),
}
_UV: Final[Mapping[str, str]] = {
    "add": "resolves while it runs: use uv lock before, and uv sync --frozen",
    "build": "builds from source: build the wheel before, and COPY it",
    "lock": "resolves while it runs: use uv lock before, and uv sync --frozen",
    "run": "may install before it runs: use uv sync --frozen, and uv run --no-sync",
    "tool": "makes an environment of its own: use uv pip install",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ForeignInstall:
    """A command of another installer.

    Attributes:
        tool: such as `poetry install` or `uv run`.
        line: the RUN's first line.
        reason: a sentence, why what it installs is not locked and what to do; empty where it installs no Python.
    """

    tool: str
    line: int
    reason: str

    @property
    def is_python(self) -> bool:
        """True when what it installs are Python distributions."""
        return bool(self.reason)


def foreign_install(command: Command, line: int) -> ForeignInstall | None:
    """Returns the foreign installer that *command* runs; None for anything else.

    Args:
        command: a simple command.
        line: the RUN's first line.
    """
    found = _recognised(command)
    if found is None:
        return None
    tool, why = found
    return ForeignInstall(tool=tool, line=line, reason=f"{tool} {why}" if why else "")


def _recognised(command: Command) -> tuple[str, str] | None:
    name, arguments = command.name, command.arguments
    module = module_run(command)
    if module is not None and module[0] in {"build", *_INSTALLERS}:
        name, arguments = ("python -m build" if module[0] == "build" else module[0]), module[1]
    if name in {"pyproject-build", "python -m build"} and {"-n", "--no-isolation"} & set(arguments):
        return None
    verb = next((word for word in arguments if not word.startswith("-")), "")
    installer = _INSTALLERS.get(name)
    if installer is not None:
        is_one = not installer.verbs or verb in installer.verbs or (name == "yarn" and not verb)
        return (f"{name} {verb}".strip() if installer.verbs else name, installer.why) if is_one else None
    if name.startswith("python") and arguments[:1] == ("setup.py",) and {"install", "develop"} & set(arguments):
        return "setup.py install", "fetches by itself: use pip install ."
    if module is not None and module[0] == "spacy" and module[1][:1] == ("download",):
        return "spacy download", "fetches a model by itself: pip install its wheel"
    call = recognise_call(command)
    subcommand = subcommand_of(call)[0] if call and call.tool == "uv" else ""
    if subcommand not in _UV or (subcommand == "run" and "--no-sync" in arguments):
        return None
    return ("uv tool install" if subcommand == "tool" else f"uv {subcommand}"), _UV[subcommand]
