"""Requirements files in pip's format: what they ask for, what they include, which hashes they allow."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from wheelcache.digest import Digest, parse_digest
from wheelcache.errors import LockError, ProjectFileError
from wheelcache.target import Target

_COMMENT: Final = re.compile(r"(^|\s+)#.*$")
_HASH: Final = re.compile(r"--hash[= ](\S+)")
_WITH_VALUE: Final = {
    "-r": "include",
    "--requirement": "include",
    "-c": "constraint",
    "--constraint": "constraint",
    "-i": "index",
    "--index-url": "index",
    "--extra-index-url": "extra-index",
    "-f": "find-links",
    "--find-links": "find-links",
    "-e": "editable",
    "--editable": "editable",
}
_FLAGS: Final = frozenset({"--pre", "--require-hashes", "--prefer-binary"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One logical line.

    Attributes:
        number: of its first physical line, from 1.
        kind: `requirement`, one of the values of the options above, `flag` or `unknown`.
        text: the requirement, or the option's value.
        digests: the hashes that a requirement allows.
    """

    number: int
    kind: str
    text: str
    digests: frozenset[Digest] = frozenset()


@dataclass(frozen=True, kw_only=True, slots=True)
class Pin:
    """A requirement of exactly one version, by hash.

    Attributes:
        name: the project, normalised.
        version: PEP 440.
        digests: the files that are allowed.
    """

    name: str
    version: str
    digests: frozenset[Digest]


def parse_requirements(text: str) -> tuple[Line, ...]:
    """Reads the text of a requirements file (pip's "Requirements File Format")."""
    return tuple(_line(number, logical) for number, logical in _logical_lines(text))


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yields lines joined at a trailing backslash, without comments and blank ones."""
    pending, began = "", 0
    for number, raw in enumerate(text.splitlines(), start=1):
        began = began or number
        if raw.endswith("\\") and not raw.lstrip().startswith("#"):
            pending += raw[:-1] + " "
            continue
        logical = _COMMENT.sub("", pending + raw).strip()
        if logical:
            yield began, logical
        pending, began = "", 0
    if last := _COMMENT.sub("", pending).strip():
        yield began, last


def _line(number: int, logical: str) -> Line:
    if not logical.startswith("-"):
        digests = frozenset(_digests(logical))
        return Line(number=number, kind="requirement", text=_HASH.sub("", logical).strip(), digests=digests)
    option, _, value = re.sub(r"^(-[a-z])\s*(?=[^-\s=])|^(--[a-z-]+)[=\s]\s*", r"\1\2 ", logical).partition(" ")
    if option in _FLAGS:
        return Line(number=number, kind="flag", text=option)
    if option in _WITH_VALUE and value.strip():
        words = shlex.split(value.strip(), posix=True)
        return Line(number=number, kind=_WITH_VALUE[option], text=words[0])
    return Line(number=number, kind="unknown", text=logical)


def _digests(logical: str) -> Iterator[Digest]:
    for found in _HASH.findall(logical):
        if found.startswith("sha256:"):
            yield parse_digest(found)


def parse_pins(text: str, path: Path, target: Target) -> tuple[Pin, ...]:
    """Reads a requirements file that locks: every line one version, with hashes.

    Args:
        text: the file's text.
        path: where it stands, for messages.
        target: whose markers decide which lines count.

    Raises:
        LockError: a line is no pin, or has no sha256 hash.
    """
    pins = []
    for line in parse_requirements(text):
        if line.kind != "requirement":
            if line.kind in {"include", "editable", "unknown"}:
                raise _no_pin(path, line, f"found {line.text!r}")
            continue
        try:
            requirement = Requirement(line.text)
        except InvalidRequirement as error:
            raise _no_pin(path, line, f"found {line.text!r}: {error}") from error
        if requirement.marker and not requirement.marker.evaluate(dict(target.environment)):
            continue
        exact = [spec for spec in requirement.specifier if spec.operator in {"==", "==="}]
        if len(exact) != 1 or exact[0].version.endswith("*"):
            raise _no_pin(path, line, f"found {line.text!r}")
        if not line.digests:
            raise LockError(
                f"{path}:{line.number}: {requirement.name}: expected a sha256 hash, found none",
                hint="make it with hashes: uv pip compile --generate-hashes, or pip-compile --generate-hashes",
            )
        name = canonicalize_name(requirement.name)
        pins.append(Pin(name=name, version=exact[0].version, digests=line.digests))
    return tuple(pins)


def _no_pin(path: Path, line: Line, found: str) -> LockError:
    return LockError(
        f"{path}:{line.number}: expected name==version with hashes, {found}",
        hint="lock it first: wheelcache sync -r FILE, or uv pip compile --generate-hashes",
    )


def read_closure(files: Sequence[Path], *, read: Callable[[Path], str]) -> Mapping[Path, str]:
    """Returns the texts of *files* and of everything they include or take constraints from.

    Args:
        files: absolute paths.
        read: returns a file's text, or raises OSError or UnicodeDecodeError.

    Raises:
        ProjectFileError: a file is missing or is no text.
    """
    texts: dict[Path, str] = {}
    waiting: list[tuple[Path, str]] = [(file, "") for file in reversed(files)]
    while waiting:
        file, asker = waiting.pop()
        if file in texts:
            continue
        try:
            texts[file] = read(file)
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
            raise ProjectFileError(
                f"{asker}{file}: expected a requirements file: {reason}", hint="correct the name, or create the file"
            ) from error
        waiting += [
            (_joined(file.parent, line.text), f"{file}:{line.number}: ")
            for line in parse_requirements(texts[file])
            if line.kind in {"include", "constraint"} and "://" not in line.text
        ]
    return texts


def _joined(folder: Path, name: str) -> Path:
    """Returns *name* seen from *folder*, without `..`: one file has one path."""
    return Path(os.path.normpath(folder / name))


def read_text(path: Path) -> str:
    """Returns a file's text: the usual *read* of `read_closure`."""
    return path.read_text(encoding="utf-8-sig")
