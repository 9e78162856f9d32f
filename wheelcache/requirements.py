"""Reads requirement files (pip's "Requirements File Format") and the requirements on command lines."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, Literal
from urllib.parse import unquote, urlsplit

from packaging.requirements import InvalidRequirement, Requirement

from wheelcache.options import Grammar, OptionsError
from wheelcache.redaction import without_userinfo

_ARCHIVE: Final = re.compile(r"\.(whl|tar\.gz|tgz|zip|tar\.bz2|tar\.xz)$", re.IGNORECASE)
_VCS: Final = re.compile(r"(git|hg|svn|bzr)\+", re.IGNORECASE)
_GRAMMAR: Final = Grammar(
    valued=(
        "--requirement -r",
        "--constraint -c",
        "--editable -e",
        "--index-url -i --pypi-url",
        "--extra-index-url",
        "--find-links -f",
        "--trusted-host",
        "--no-binary",
        "--only-binary",
        "--use-feature",
        "--hash",
        "--config-settings --config-setting -C",
        "--global-option",
    ),
    flags=("--no-index", "--prefer-binary", "--require-hashes", "--pre"),
)

Kind = Literal["named", "local", "archive", "vcs", "url", "invalid"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """One thing that an install command or a requirement file asks for.

    Attributes:
        kind: a PEP 508 requirement by name, a project's folder, an archive on disk, version control, a URL, or neither.
        text: the requirement in PEP 508's form; the path of a folder or archive; else as written.
        extras: of a local project or archive.
        editable: True with `-e`.
    """

    kind: Kind
    text: str
    extras: tuple[str, ...] = ()
    editable: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One logical line.

    Attributes:
        number: of its first physical line, from 1.
        text: without comments and continuations.
        wish: what it asks for; None for a line of options.
        hashes: its `--hash` values, such as `sha256:…`.
        files: what it includes or takes constraints from, relative to this file.
    """

    number: int
    text: str
    wish: Wish | None = None
    hashes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class RequirementsFile:
    """What a requirement or constraint file says.

    Attributes:
        requirements: PEP 508 requirements by name.
        includes: `-r` files, relative to this file.
        constraints: `-c` files, relative to this file.
        index_url: empty where it names none.
        extra_index_urls: in order.
        find_links: in order.
        no_index: True with `--no-index`.
        pre: True with `--pre`.
        hashes: True when a line has `--hash`, or `--require-hashes` stands in it.
        local_projects: folders and archives, relative to the working directory.
        unlockable: sentences, for what no wheel of an index can serve.
        unknown_options: lines whose options are not pip's.
        lines: all that were understood, in order.
    """

    requirements: tuple[str, ...] = ()
    includes: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    index_url: str = ""
    extra_index_urls: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    no_index: bool = False
    pre: bool = False
    hashes: bool = False
    local_projects: tuple[Wish, ...] = ()
    unlockable: tuple[str, ...] = ()
    unknown_options: tuple[str, ...] = ()
    lines: tuple[Line, ...] = ()


@dataclass(kw_only=True, slots=True)
class _Collected:
    wishes: list[Wish] = field(default_factory=list)
    values: dict[str, list[str]] = field(default_factory=dict)
    flags: set[str] = field(default_factory=set)
    unknown: list[str] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)


def classify(word: str, *, editable: bool = False) -> Wish:
    """Tells what a requirement on a command line or in a file is, by the rules of pip.

    Args:
        word: one argument, or one line without its options.
        editable: True when it follows `-e`.
    """
    if _VCS.match(word):
        return Wish(kind="vcs", text=word, editable=editable)
    if re.match(r"https?://|ftp://", word, re.IGNORECASE):
        return Wish(kind="url", text=word, editable=editable)
    if not editable and not (_ARCHIVE.search(word) and re.fullmatch(r"[^\s@;<>=]+", word)):
        try:
            return _named(Requirement(word))
        except InvalidRequirement:
            pass
    path, extras = word, ""
    if match := re.fullmatch(r"(.+?)\[([\w\s.,-]*)\]", word):
        path, extras = match[1], match[2]
    if path.lower().startswith("file:"):
        path = unquote(urlsplit(path).path)
    names = tuple(name.strip() for name in extras.split(",") if name.strip())
    if _ARCHIVE.search(path):
        return Wish(kind="archive", text=path, extras=names)
    if editable or "/" in path or path.startswith("."):
        return Wish(kind="local", text=path, extras=names, editable=editable)
    return Wish(kind="invalid", text=word)


def reason_not_locked(wish: Wish) -> str:
    """Returns the sentence that says why no index can serve *wish*; empty where one can, or where it is local."""
    match wish.kind:
        case "vcs":
            return f"{without_userinfo(wish.text)} comes from version control: name a release, or COPY a wheel of it"
        case "url":
            return f"{without_userinfo(wish.text)} is a URL, outside every index: name a release, or COPY a wheel of it"
        case "invalid":
            return f"{wish.text!r} is no requirement (PEP 508)"
        case _:
            return ""


def reasons_built(values: Iterable[str]) -> Iterator[str]:
    """Yields the sentence that says why no wheel can serve what `--no-binary` names, where it names anything.

    Args:
        values: the option's, in order: names, `:all:` and `:none:`, each with commas between.
    """
    names: list[str] = []
    for name in ",".join(values).split(","):
        names = [] if name == ":none:" else [*names, *([name.strip()] if name.strip() else [])]
    if names:
        yield f"--no-binary {','.join(names)} builds from source: leave it out, or build the wheel before, and COPY it"


def parse_requirements(text: str) -> RequirementsFile:
    """Reads a requirement or constraint file.

    Args:
        text: the file.
    """
    collected = _Collected()
    for number, line in _logical_lines(text):
        _read_line(number, line, collected)
    wishes, values = collected.wishes, collected.values
    return RequirementsFile(
        requirements=tuple(wish.text for wish in wishes if wish.kind == "named"),
        includes=tuple(values.get("requirement", ())),
        constraints=tuple(values.get("constraint", ())),
        index_url=(values.get("index-url") or [""])[-1],
        extra_index_urls=tuple(values.get("extra-index-url", ())),
        find_links=tuple(values.get("find-links", ())),
        no_index="no-index" in collected.flags,
        pre="pre" in collected.flags,
        hashes="require-hashes" in collected.flags or "hash" in values,
        local_projects=tuple(wish for wish in wishes if wish.kind in {"local", "archive"}),
        unlockable=(
            *(reason for wish in wishes if (reason := reason_not_locked(wish))),
            *reasons_built(values.get("no-binary", ())),
        ),
        unknown_options=tuple(collected.unknown),
        lines=tuple(collected.lines),
    )


def _named(requirement: Requirement) -> Wish:
    if requirement.url is None:
        return Wish(kind="named", text=str(requirement))
    if requirement.url.lower().startswith("file:"):
        path = unquote(urlsplit(requirement.url).path)
        kind: Kind = "archive" if _ARCHIVE.search(path) else "local"
        return Wish(kind=kind, text=path, extras=tuple(sorted(requirement.extras)))
    return Wish(kind="vcs" if _VCS.match(requirement.url) else "url", text=str(requirement))


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Joins continued lines, then drops comments; a comment ends a continuation, as in pip."""
    joined, began = "", 0
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), start=1):
        began = began or number
        is_comment = re.match(r"\s*#", line) is not None
        if line.endswith("\\") and not is_comment:
            joined += line[:-1]
            continue
        whole = joined + (" " + line if is_comment and joined else line)
        yield from _uncommented(began, whole)
        joined, began = "", 0
    yield from _uncommented(began, joined)


def _uncommented(number: int, line: str) -> Iterator[tuple[int, str]]:
    bare = re.sub(r"(^|\s+)#.*$", "", line).strip()
    if bare:
        yield number, bare


def _read_line(number: int, line: str, collected: _Collected) -> None:
    before, options = _cut(line)
    try:
        read = _GRAMMAR.read(shlex.split(options))
    except (OptionsError, ValueError):
        collected.unknown.append(without_userinfo(line))
        return
    wishes = [classify(before)] if before else []
    wishes += [classify(word, editable=True) for word in read.all("editable")]
    collected.wishes.extend(wishes)
    for name, values in read.values.items():
        collected.values.setdefault(name, []).extend(values)
    collected.flags.update(read.flags)
    collected.lines.append(
        Line(
            number=number,
            text=without_userinfo(line),
            wish=wishes[0] if wishes else None,
            hashes=read.all("hash"),
            files=(*read.all("requirement"), *read.all("constraint")),
        )
    )


def _cut(line: str) -> tuple[str, str]:
    """Parts a line where its options begin."""
    match = re.search(r"(^|\s)(--?[a-zA-Z])", line)
    return (line, "") if not match else (line[: match.start()].strip(), line[match.start() :].strip())
