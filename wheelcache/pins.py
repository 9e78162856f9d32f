"""Requirement files on disk: what they include, and those that lock every line to a version and its hashes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

from wheelcache.digest import Digest, parse_digest
from wheelcache.errors import LockError, ProjectFileError
from wheelcache.requirements import Line, parse_requirements
from wheelcache.target import Target


@dataclass(frozen=True, kw_only=True, slots=True)
class Pin:
    """A requirement of exactly one version, by hash.

    Attributes:
        name: the project, normalised (PEP 503).
        version: PEP 440.
        digests: what the file's bytes may be.
    """

    name: NormalizedName
    version: str
    digests: frozenset[Digest]


def parse_pins(text: str, path: Path, target: Target) -> tuple[Pin, ...]:
    """Reads a requirements file that locks: every line one version, with hashes.

    Args:
        text: the file's text.
        path: where it stands, for messages.
        target: whose markers decide which lines count.

    Raises:
        LockError: a line is no pin, or has no sha256 hash.
    """
    file = parse_requirements(text)
    for unknown in file.unknown_options:
        raise LockError(f"{path}: expected name==version with hashes, found {unknown!r}", hint=_LOCK_IT)
    return tuple(pin for line in file.lines if (pin := _pin(line, path, target)) is not None)


_LOCK_IT = "lock it first: wheelcache sync -r FILE, or uv pip compile --generate-hashes"


def _pin(line: Line, path: Path, target: Target) -> Pin | None:
    """Returns the line's pin; None for a line of mere options, or one that is not for *target*."""
    if line.wish is None and not line.files:
        return None
    if line.wish is None or line.wish.kind != "named":
        raise _no_pin(path, line)
    requirement = Requirement(line.wish.text)
    if requirement.marker and not requirement.marker.evaluate(dict(target.environment)):
        return None
    exact = [spec for spec in requirement.specifier if spec.operator in {"==", "==="}]
    if len(exact) != 1 or exact[0].version.endswith("*"):
        raise _no_pin(path, line)
    try:
        digests = frozenset(parse_digest(found) for found in line.hashes if found.startswith("sha256:"))
    except ValueError as error:
        raise LockError(f"{path}:{line.number}: {requirement.name}: {error}", hint=_LOCK_IT) from error
    if not digests:
        raise LockError(
            f"{path}:{line.number}: {requirement.name}: expected a sha256 hash, found none",
            hint="make it with hashes: uv pip compile --generate-hashes, or pip-compile --generate-hashes",
        )
    return Pin(name=canonicalize_name(requirement.name), version=exact[0].version, digests=digests)


def _no_pin(path: Path, line: Line) -> LockError:
    return LockError(f"{path}:{line.number}: expected name==version with hashes, found {line.text!r}", hint=_LOCK_IT)


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
            (Path(os.path.normpath(file.parent / name)), f"{file}:{line.number}: ")
            for line in parse_requirements(texts[file]).lines
            for name in line.files
            if "://" not in name
        ]
    return texts


def read_text(path: Path) -> str:
    """Returns a file's text: the usual *read* of `read_closure`."""
    return path.read_text(encoding="utf-8-sig")
