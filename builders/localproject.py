"""Reads what a local project requires, to run and to be built, as far as its files say so without being run."""

from __future__ import annotations

import ast
import configparser
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import NormalizedName, canonicalize_name

from wheelcache.errors import ProjectFileError
from wheelcache.requirements import classify, parse_requirements, reason_not_locked

_SETUPTOOLS: Final = "setuptools>=40.8.0"
"""What pip and uv build with where a project does not say (PEP 518, "build-system table")."""

_ASKED_WHILE_BUILDING: Final[Mapping[str, Sequence[str]]] = {
    "mesonpy": ("ninja",),
    "scikit_build_core": ("cmake", "ninja"),
    "setuptools": ("wheel",),
}
"""What backends ask for by `get_requires_for_build_wheel` (PEP 517), by the backend's package."""

_ASKED_FOR_EDITABLE: Final[Mapping[str, Sequence[str]]] = {"hatchling": ("editables",)}
"""The same, by `get_requires_for_build_editable` (PEP 660)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProjectNeeds:
    """What it takes to install a local project.

    Attributes:
        requirements: PEP 508, by name; of the extras that were asked for, too.
        build: PEP 508, by name; for the environment that it is built in.
        unlockable: sentences; why some of it cannot be known.
    """

    requirements: tuple[str, ...]
    build: tuple[str, ...]
    unlockable: tuple[str, ...]


@dataclass(kw_only=True, slots=True)
class _Declared:
    """Dependencies as a project's files declare them."""

    name: str = ""
    always: list[str] = field(default_factory=list)
    extras: dict[NormalizedName, list[str]] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)


def read_project(folder: Path, *, extras: Sequence[str], is_editable: bool, tool: Literal["pip", "uv"]) -> ProjectNeeds:
    """Returns what the project in *folder* requires.

    No code of the project is run: what only its build backend knows is told as not lockable.

    Args:
        folder: where its pyproject.toml, setup.cfg or setup.py stands.
        extras: asked for.
        is_editable: True with `-e`.
        tool: what installs it; uv obeys `[tool.uv.sources]`.

    Raises:
        ProjectFileError: one of its files cannot be read.
    """
    document = _toml(folder / "pyproject.toml")
    system = document.get("build-system") or {}
    backend = str(system.get("build-backend", "setuptools")).partition(":")[0].partition(".")[0]
    build = [*system.get("requires", (_SETUPTOOLS,)), *_ASKED_WHILE_BUILDING.get(backend, ())]
    build += _ASKED_FOR_EDITABLE.get(backend, ()) if is_editable else ()
    declared = _declared(folder, document, backend)
    wanted = list(_expanded(declared, extras))
    sources = document.get("tool", {}).get("uv", {}).get("sources", {}) if tool == "uv" else {}
    elsewhere = {canonicalize_name(name) for name in sources}
    unknown = [
        *declared.unknown,
        *(reason for line in (*wanted, *build) if (reason := reason_not_locked(classify(line)))),
        *(f"[tool.uv.sources] say where {name} comes from" for name in sorted(elsewhere & set(_names(wanted)))),
    ]
    return ProjectNeeds(
        requirements=tuple(line for line in wanted if classify(line).kind == "named"),
        build=tuple(line for line in build if classify(line).kind == "named"),
        unlockable=tuple(dict.fromkeys(unknown)),
    )


def _declared(folder: Path, document: Mapping[str, Any], backend: str) -> _Declared:
    project = document.get("project")
    if project is None:
        if backend == "setuptools":
            return _of_setuptools(folder)
        return _Declared(unknown=[f"what it requires only its build backend {backend} knows"])
    declared = _Declared(name=str(project.get("name", "")), always=list(project.get("dependencies", ())))
    for name, lines in project.get("optional-dependencies", {}).items():
        declared.extras[canonicalize_name(name)] = list(lines)
    dynamic = set(project.get("dynamic", ())) & {"dependencies", "optional-dependencies"}
    tables = document.get("tool", {}).get("setuptools", {}).get("dynamic", {}) if backend == "setuptools" else {}
    if "dependencies" in dynamic:
        declared.always += _of_files(folder, tables.get("dependencies"), declared)
    for name, table in tables.get("optional-dependencies", {}).items():
        declared.extras[canonicalize_name(name)] = _of_files(folder, table, declared)
    if "optional-dependencies" in dynamic and not tables.get("optional-dependencies"):
        declared.unknown.append("its extras are only known when its build backend runs")
    return declared


def _of_files(folder: Path, table: object, declared: _Declared) -> list[str]:
    """Returns the requirements of the files that setuptools is told to read ("Dynamic Metadata")."""
    named = table.get("file") if isinstance(table, Mapping) else None
    if not named:
        declared.unknown.append("what it requires is only known when its build backend runs")
        return []
    files = [named] if isinstance(named, str) else list(named)
    return [line for file in files for line in parse_requirements(_text(folder / file) or "").requirements]


def _of_setuptools(folder: Path) -> _Declared:
    """Reads setup.cfg, and setup.py as far as it holds plain lists."""
    declared = _Declared()
    config = configparser.ConfigParser(interpolation=None)
    try:
        config.read_string(_text(folder / "setup.cfg") or "")
    except configparser.Error as error:
        raise ProjectFileError(f"{folder / 'setup.cfg'}: {error}", hint="correct the file") from error
    options = config["options"] if config.has_section("options") else {}
    declared.always += _lines(options.get("install_requires", ""), declared)
    if config.has_section("options.extras_require"):
        for name, text in config["options.extras_require"].items():
            declared.extras[canonicalize_name(name)] = list(_lines(text, declared))
    given = _arguments(_text(folder / "setup.py") or "")
    for keyword, value in given.items():
        try:
            plain = ast.literal_eval(value)
        except ValueError:
            plain = None
        if keyword == "install_requires" and isinstance(plain, list | tuple):
            declared.always = [str(line) for line in plain]
        elif keyword == "extras_require" and isinstance(plain, dict):
            declared.extras = {canonicalize_name(name): list(lines) for name, lines in plain.items()}
        elif keyword in {"install_requires", "extras_require", "setup_requires", "*"}:
            declared.unknown.append("what it requires is only known when its setup.py runs")
    return declared


def _lines(text: str, declared: _Declared) -> Iterator[str]:
    if text.strip().startswith("file:"):
        declared.unknown.append("what it requires stands in a file that setup.cfg names")
        return
    yield from (line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#"))


def _arguments(text: str) -> dict[str, ast.expr]:
    """Returns the keyword arguments of setup.py's call of `setup`; `*` for those that are not written out."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return {"*": ast.Constant(None)}
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func)[-5:] == "setup"]
    if text.strip() and len(calls) != 1:
        return {"*": ast.Constant(None)}
    return {keyword.arg or "*": keyword.value for call in calls for keyword in call.keywords}


def _expanded(declared: _Declared, extras: Iterable[str]) -> Iterator[str]:
    """Yields the dependencies and those of *extras*, which may name further extras of the project itself."""
    yield from declared.always
    waiting, seen = [canonicalize_name(extra) for extra in extras], set[NormalizedName]()
    while waiting:
        extra = waiting.pop(0)
        if extra in seen:
            continue
        seen.add(extra)
        for line in declared.extras.get(extra, ()):
            requirement = _parsed(line)
            if requirement is not None and canonicalize_name(requirement.name) == canonicalize_name(declared.name):
                waiting += [canonicalize_name(each) for each in sorted(requirement.extras)]
            else:
                yield line


def _names(lines: Iterable[str]) -> Iterator[NormalizedName]:
    yield from (canonicalize_name(found.name) for line in lines if (found := _parsed(line)) is not None)


def _parsed(line: str) -> Requirement | None:
    try:
        return Requirement(line)
    except InvalidRequirement:
        return None


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(_text(path) or "")
    except tomllib.TOMLDecodeError as error:
        raise ProjectFileError(f"{path}: expected TOML: {error}", hint="correct the file") from error


def _text(path: Path) -> str | None:
    """Returns a file's text; None where there is none."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ProjectFileError(f"{path}: cannot be read: {error}", hint="check the file and its permissions") from error
