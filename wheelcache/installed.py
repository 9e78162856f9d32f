"""Distributions that an image holds already, as a resolver is told of them."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import InvalidVersion, Version


@dataclass(frozen=True, kw_only=True, slots=True)
class Installed:
    """One distribution that is there already.

    Attributes:
        name: the project, normalised (PEP 503).
        version: as its metadata writes it; PEP 440, maybe with a local label.
        requires: its Requires-Dist, by name alone.
        extras: its Provides-Extra.
    """

    name: NormalizedName
    version: str
    requires: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()


def read_installed(found: Mapping[str, Mapping[str, Any]]) -> tuple[Installed, ...]:
    """Returns what an image's interpreter said it holds, without what no resolver understands.

    Args:
        found: by name: `version`, `requires`, `extras`.
    """
    return tuple(
        Installed(
            name=canonicalize_name(name),
            version=str(told["version"]),
            requires=tuple(_by_name(told["requires"])),
            extras=tuple(canonicalize_name(extra) for extra in told["extras"]),
        )
        for name, told in sorted(found.items())
        if _is_version(str(told["version"]))
    )


def write_stand_ins(installed: Iterable[Installed], folder: Path) -> None:
    """Writes a wheel of mere metadata for each distribution, for a resolver's `--find-links`.

    With them it can choose what no index has: `2.8.0a0+5228986c39.nv25.06`, or a project that was built on the spot.
    """
    for each in installed:
        stem = f"{each.name.replace('-', '_')}-{each.version.replace('-', '_')}"
        metadata = [
            "Metadata-Version: 2.1",
            f"Name: {each.name}",
            f"Version: {each.version}",
            *(f"Requires-Dist: {line}" for line in each.requires),
            *(f"Provides-Extra: {extra}" for extra in each.extras),
            "",
        ]
        with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{stem}.dist-info/METADATA", "\n".join(metadata))
            wheel.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{stem}.dist-info/RECORD", "")


def preferring(installed: Sequence[Installed], preferences: Mapping[str, Any] | None) -> dict[str, Any]:
    """Returns *preferences* (a PEP 751 document) with the versions of *installed* in place of theirs."""
    names = {each.name for each in installed}
    others = [package for package in (preferences or {}).get("packages", ()) if package["name"] not in names]
    own = [{"name": each.name, "version": each.version} for each in installed]
    return {"lock-version": "1.0", "created-by": "wheelcache", **(preferences or {}), "packages": [*own, *others]}


def part_installed(
    document: Mapping[str, Any], installed: Iterable[Installed]
) -> tuple[dict[str, Any], dict[NormalizedName, str]]:
    """Returns *document* without what is there already, and the versions of that by name."""
    held = {each.name: each.version for each in installed}
    fetched: list[Any] = []
    kept: dict[NormalizedName, str] = {}
    for package in document["packages"]:
        name = canonicalize_name(package["name"])
        # The resolver writes versions in another way: `nv25.6` for `nv25.06`.
        if name in held and "version" in package and Version(package["version"]) == Version(held[name]):
            kept[name] = held[name]
        else:
            fetched.append(package)
    return {**document, "packages": fetched}, kept


def _by_name(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue  # metadata that pip would not read either
        requirement.url = None  # what came from elsewhere is there by now
        yield str(requirement)


def _is_version(text: str) -> bool:
    try:
        Version(text)
    except InvalidVersion:
        return False
    return True
