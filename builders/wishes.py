"""Turns the arguments and variables of one pip or uv command into what it asks for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from posixpath import isabs, join, normpath
from typing import Final

from builders.pipcommand import UNSURE, PipCommand
from builders.shellcommand import Command
from wheelcache.redaction import without_userinfo
from wheelcache.requirements import Wish, classify, reason_not_locked, reasons_built

_ELSEWHERE: Final = ("platform", "python-version", "implementation", "abi", "python-platform")
_UNREAD: Final = ("group", "requirements-from-script", "override")


@dataclass(frozen=True, kw_only=True, slots=True)
class Wishes:
    """What one command asks for; paths are absolute, inside the image.

    Attributes:
        requirements: PEP 508, by name.
        files: `-r` files.
        constraints: `-c` files, those of variables included.
        projects: folders of projects.
        archives: wheels and source archives on disk; their names may hold `*`.
        index_url: empty for the tool's default.
        extra_index_urls: in order.
        find_links: in order.
        torch_backend: uv's; empty where it is not given.
        pre: pre-releases are wanted.
        no_deps: what they require is not wanted.
        unlockable: sentences.
    """

    requirements: tuple[str, ...]
    files: tuple[str, ...]
    constraints: tuple[str, ...]
    projects: tuple[Wish, ...]
    archives: tuple[Wish, ...]
    index_url: str
    extra_index_urls: tuple[str, ...]
    find_links: tuple[str, ...]
    torch_backend: str
    pre: bool
    no_deps: bool
    unlockable: tuple[str, ...]


def read_wishes(pip: PipCommand, command: Command) -> Wishes:
    """Returns what *pip* asks for.

    Args:
        pip: the install.
        command: the same, as a command: where it runs and which variables it sees.
    """
    options, environment = pip.options, command.environment
    prefix = pip.tool.upper()
    is_sync = pip.subcommand == "sync"
    doubts: list[str] = []

    def given(values: Iterable[str]) -> tuple[str, ...]:
        return tuple(_sure(values, doubts))

    def variable(name: str) -> tuple[str, ...]:
        value = environment.get(f"{prefix}_{name}", "")
        if value is None:
            doubts.append(f"{prefix}_{name} is only known when the command runs")
        return tuple((value or "").split())

    def paths(values: Iterable[str]) -> tuple[str, ...]:
        return tuple(path for value in values if (path := _absolute(value, command.cwd, doubts)))

    words = [classify(word) for word in given(() if is_sync else options.operands)]
    words += [classify(word, editable=True) for word in given(options.all("editable"))]
    files = (*options.all("requirement"), *(options.operands if is_sync else ()))
    default = (*options.all("default-index"), *options.all("index-url"))
    default = given(default) or (*variable("DEFAULT_INDEX"), *variable("INDEX_URL"))
    extra = (
        *given((*options.all("index"), *options.all("extra-index-url"))),
        *variable("INDEX"),
        *variable("EXTRA_INDEX_URL"),
    )
    built = given((*(variable("NO_BINARY") if pip.tool == "pip" else ()), *options.all("no-binary")))
    return Wishes(
        requirements=tuple(wish.text for wish in words if wish.kind == "named"),
        files=paths(given((*files, *(variable("REQUIREMENT") if pip.tool == "pip" else ())))),
        constraints=paths(given((*options.all("constraint"), *variable("CONSTRAINT")))),
        projects=tuple(_placed(wish, command.cwd, doubts) for wish in words if wish.kind == "local"),
        archives=tuple(_placed(wish, command.cwd, doubts) for wish in words if wish.kind == "archive"),
        index_url=default[-1] if default else "",
        extra_index_urls=extra,
        find_links=given((*options.all("find-links"), *variable("FIND_LINKS"))),
        torch_backend=(given(options.all("torch-backend")) or variable("TORCH_BACKEND") or ("",))[-1],
        pre=_wants_pre(pip, environment),
        no_deps="no-deps" in options.flags or is_sync,
        unlockable=(*_refusals(pip, words), *reasons_built(built), *dict.fromkeys(doubts)),
    )


def _refusals(pip: PipCommand, words: Iterable[Wish]) -> Iterable[str]:
    yield from (reason for wish in words if (reason := reason_not_locked(wish)))
    for name in _ELSEWHERE:
        if pip.options.all(name):
            yield f"--{name} asks for another target than the image"
    for name in _UNREAD:
        if pip.options.all(name):
            yield f"--{name} is not read"
    if pip.options.all("extra") or "all-extras" in pip.options.flags:
        yield "--extra is not read"


def _wants_pre(pip: PipCommand, environment: Mapping[str, str | None]) -> bool:
    by_variable = (environment.get("PIP_PRE") or "").lower() in {"1", "true", "yes", "on"} and pip.tool == "pip"
    allowed = "allow" in {pip.options.last("prerelease"), environment.get("UV_PRERELEASE")} and pip.tool == "uv"
    return "pre" in pip.options.flags or by_variable or allowed


def _sure(values: Iterable[str], doubts: list[str]) -> Iterable[str]:
    """Yields the values that are known; notes the others as doubts."""
    for value in values:
        if UNSURE not in value:
            yield value
            continue
        shown = without_userinfo(value.replace(UNSURE, "…"))
        doubts.append(f"the argument {shown!r} is only known when the command runs")


def _absolute(path: str, cwd: str | None, doubts: list[str]) -> str:
    path = path.removeprefix("file://")
    if re.match(r"https?://", path):
        doubts.append(f"{without_userinfo(path)} is fetched while the command runs")
        return ""
    if cwd is None and not isabs(path):
        doubts.append(f"{path} is relative to a folder that is only known when the command runs")
    return normpath(join(cwd or "/", path))


def _placed(wish: Wish, cwd: str | None, doubts: list[str]) -> Wish:
    return replace(wish, text=_absolute(wish.text, cwd, doubts))
