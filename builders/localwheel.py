"""Reads what a wheel of the build context requires (core metadata, "Requires-Dist")."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from builders.localproject import ProjectNeeds
from wheelcache.requirements import classify, reason_not_locked
from wheelcache.wheelfile import read_requirements


def read_wheel(file: Path, *, extras: Sequence[str]) -> ProjectNeeds:
    """Returns what the wheel in *file* requires, of the *extras* too that are asked for."""
    lines = read_requirements(file)
    if lines is None:
        return ProjectNeeds(requirements=(), build=(), unlockable=("it cannot be read as a wheel",))
    wanted = [_without_extras(line, extras) for line in lines]
    wishes = [classify(line) for line in wanted]
    return ProjectNeeds(
        requirements=tuple(wish.text for wish in wishes if wish.kind == "named"),
        build=(),
        unlockable=tuple(reason for wish in wishes if (reason := reason_not_locked(wish))),
    )


def _without_extras(line: str, extras: Sequence[str]) -> str:
    """Returns a requirement whose marker asks for no extra any more (PEP 508): what it says of one is decided."""
    try:
        requirement = Requirement(line)
    except InvalidRequirement:
        return line
    asked = {canonicalize_name(extra) for extra in extras}
    marker = re.sub(
        r"extra\s*==\s*['\"]([^'\"]*)['\"]",
        lambda match: 'python_version > "0"' if canonicalize_name(match[1]) in asked else 'python_version < "0"',
        str(requirement.marker or ""),
    )
    requirement.marker = None
    return f"{requirement} ; {marker}" if marker else str(requirement)
