"""Lockfiles (PEP 751) as values: what they lock, which wheels fit a target, what they were made from."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final, cast
from urllib.parse import unquote, urlsplit

from packaging.markers import Environment
from packaging.pylock import (
    Package,
    PackageArchive,
    PackageWheel,
    Pylock,
    PylockSelectError,
    PylockUnsupportedVersionError,
    PylockValidationError,
)
from packaging.utils import InvalidWheelFilename, NormalizedName, parse_wheel_filename

from wheelcache.digest import Digest, parse_digest
from wheelcache.errors import LockError
from wheelcache.target import Target, target_from_toml

HEAVY_BYTES: Final = 20_000_000
"""From this size on a wheel is heavy."""

LARGEST_WHEEL: Final = 1 << 40
"""No wheel has so many bytes: whoever says so is wrong."""

TOOL_TABLE: Final = "wheelcache"
"""Our table below a lockfile's `[tool]`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LockedWheel:
    """One wheel file, as a lockfile names it.

    Attributes:
        name: the project, normalised (PEP 503).
        version: as the lockfile writes it (PEP 440).
        filename: the real file name (PEP 427), without separators.
        digest: what the bytes must be.
        size: bytes; None where nobody said.
        urls: where the lockfile says it can be had, best first; may be `file:`.
    """

    name: NormalizedName
    version: str
    filename: str
    digest: Digest
    size: int | None
    urls: tuple[str, ...]

    @property
    def is_heavy(self) -> bool:
        """True for a wheel of 20 MB or more."""
        return self.size is not None and self.size >= HEAVY_BYTES


@dataclass(frozen=True, kw_only=True, slots=True)
class LockRecord:
    """What `[tool.wheelcache]` in a lockfile of ours records.

    Attributes:
        services: the services that the lockfile is for; empty for one made from `-r`.
        target: what it was resolved for.
        inputs: digest of everything that went into it.
        base: what the images hold of all that is needed, by normalised name (PEP 503): versions. What of it has no
            package in the lockfile serves as it is there; the rest is replaced.
        build_only: normalised names of what projects are built with, and no image holds in the end.
        base_constraints: constraint files in the images that were obeyed, by path: digests.
    """

    services: tuple[str, ...]
    target: Target
    inputs: Digest
    base: Mapping[str, str] = field(default_factory=dict)
    build_only: tuple[str, ...] = ()
    base_constraints: Mapping[str, Digest] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Lockfile:
    """A valid lockfile and, where we made it, our record in it."""

    path: Path
    pylock: Pylock
    record: LockRecord | None


def parse_lockfile(text: str, path: Path) -> Lockfile:
    """Reads a lockfile by any tool.

    Args:
        text: TOML.
        path: where it stands, for messages and for the relative paths in it.

    Raises:
        LockError: it is no TOML, no PEP 751 lockfile, or our record in it is damaged.
    """
    try:
        document = tomllib.loads(text)
        pylock = Pylock.from_dict(document)
    except tomllib.TOMLDecodeError as error:
        raise LockError(f"{path}: expected TOML: {error}", hint=_again(path), path=str(path)) from error
    except PylockUnsupportedVersionError as error:
        raise LockError(f"{path}: {error}", hint="lock again with a lock-version 1 tool", path=str(path)) from error
    except PylockValidationError as error:
        raise LockError(f"{path}: expected a PEP 751 lockfile: {error}", hint=_again(path), path=str(path)) from error
    table = (pylock.tool or {}).get(TOOL_TABLE)
    return Lockfile(path=path, pylock=pylock, record=None if table is None else _record(table, path))


def select_wheels(lockfile: Lockfile, target: Target) -> tuple[LockedWheel, ...]:
    """Returns the wheels that *target* needs of *lockfile*, chosen by its markers and tags, in the lockfile's order.

    Raises:
        LockError: something it needs is no wheel, has no sha256 digest, no fitting wheel or a hostile name.
    """
    where = lockfile.path
    try:
        chosen = list(
            lockfile.pylock.select(environment=cast("Environment", dict(target.environment)), tags=target.tags)
        )
    except PylockSelectError as error:
        raise LockError(
            f"{where}: does not fit {target.describe()}: {error}",
            hint="lock for this target: wheelcache lock, or pass the lockfile's own --python and --platform",
            path=str(where),
        ) from error
    wheels = tuple(_locked_wheel(package, item, where) for package, item in chosen)
    _refuse_collisions(wheels, where)
    return wheels


def _locked_wheel(package: Package, item: object, where: Path) -> LockedWheel:
    if not isinstance(item, PackageWheel) and not (
        isinstance(item, PackageArchive) and (item.path or urlsplit(item.url or "").path).endswith(".whl")
    ):
        kind = type(item).__name__.removeprefix("Package").lower()
        what = {"sdist": "only a source distribution", "vcs": "a version control URL"}.get(kind, f"a {kind}")
        raise LockError(
            f"{where}: {package.name}: expected a wheel, found {what}",
            hint="choose a version that has wheels for the target, or build a wheel of it for an index of your own",
            path=str(where),
            project=package.name,
        )
    filename = _filename(item, where)
    try:
        version = parse_wheel_filename(filename)[1]
    except InvalidWheelFilename as error:
        raise LockError(f"{where}: {package.name}: {error}", hint=_again(where), path=str(where)) from error
    if item.size is not None and not 0 < item.size < LARGEST_WHEEL:
        raise LockError(
            f"{where}: {filename}: expected a size of some bytes, found {item.size:,}",
            hint=_again(where),
            path=str(where),
        )
    return LockedWheel(
        name=package.name,
        version=str(package.version or version),
        filename=filename,
        digest=_sha256(item.hashes, f"{where}: {filename}"),
        size=item.size,
        urls=tuple(_urls(item, where)),
    )


def _filename(item: PackageWheel | PackageArchive, where: Path) -> str:
    """Returns the one real file name of *item*, refused when it could reach outside a folder."""
    if isinstance(item, PackageWheel):
        filename = unquote(item.filename)
    else:
        filename = unquote(PurePosixPath(item.path or urlsplit(item.url or "").path).name)
    if re.search(r"[/\\\x00-\x1f]", filename) or filename.startswith("."):
        raise LockError(f"{where}: refused the file name {filename!r}", hint="do not trust this lockfile")
    return filename


def _sha256(hashes: Mapping[str, str], where: str) -> Digest:
    found = hashes.get("sha256")
    if found is None:
        raise LockError(
            f"{where}: expected a sha256 digest, found {', '.join(sorted(hashes)) or 'none'}",
            hint="lock again with a tool that records sha256 hashes: wheelcache lock",
        )
    try:
        return parse_digest(f"sha256:{found}")
    except ValueError as error:
        raise LockError(f"{where}: {error}", hint="the lockfile is damaged: lock again") from error


def _urls(item: PackageWheel | PackageArchive, where: Path) -> Iterator[str]:
    if item.path:
        yield (where.absolute().parent / item.path).as_uri()
    if item.url:
        yield item.url


def _refuse_collisions(wheels: Sequence[LockedWheel], where: Path) -> None:
    """Refuses two files that one case-insensitive folder could not hold."""
    seen: dict[str, str] = {}
    for wheel in wheels:
        other = seen.setdefault(wheel.filename.lower(), wheel.filename)
        if other != wheel.filename:
            raise LockError(f"{where}: {wheel.filename} and {other} differ in case only", hint="lock again")


def _record(table: object, path: Path) -> LockRecord:
    try:
        if not isinstance(table, Mapping):
            msg = "expected a table"
            raise ValueError(msg)  # noqa: TRY004, TRY301 - one exception for every way a file can be wrong
        return LockRecord(
            services=tuple(str(name) for name in table.get("services", [])),
            target=target_from_toml(table.get("target")),
            inputs=parse_digest(str(table.get("inputs"))),
            base={str(name): str(version) for name, version in table.get("base", {}).items()},
            build_only=tuple(str(name) for name in table.get("build-only", [])),
            base_constraints={
                str(path): parse_digest(str(digest)) for path, digest in table.get("base-constraints", {}).items()
            },
        )
    except (AttributeError, ValueError) as error:
        raise LockError(f"{path}: tool.{TOOL_TABLE}: {error}", hint=_again(path), path=str(path)) from error


def completed_lock(
    document: Mapping[str, Any], *, sizes: Mapping[Digest, int], record: LockRecord, created_by: str
) -> dict[str, Any]:
    """Returns a resolver's lockfile with what it left out: sizes (PEP 751, `packages.wheels.size`) and our record.

    Args:
        document: a PEP 751 document.
        sizes: bytes by digest, as far as known.
        record: what `[tool.wheelcache]` is to say.
        created_by: the tool's name and version.
    """
    packages = [_with_sizes(package, sizes) for package in document["packages"]]
    tool = {
        "services": list(record.services),
        "inputs": record.inputs,
        "size": sum(sizes.values()),
        "wheels": len(sizes),
        "target": record.target.as_toml(),
        **({"base": dict(sorted(record.base.items()))} if record.base else {}),
        **({"build-only": list(record.build_only)} if record.build_only else {}),
        **({"base-constraints": dict(sorted(record.base_constraints.items()))} if record.base_constraints else {}),
    }
    return {
        **document,
        "created-by": created_by,
        "packages": packages,
        "tool": {**document.get("tool", {}), TOOL_TABLE: tool},
    }


def _with_sizes(package: Mapping[str, Any], sizes: Mapping[Digest, int]) -> dict[str, Any]:
    wheels = package.get("wheels")
    if not wheels:
        return dict(package)
    return {**package, "wheels": [_with_size(wheel, sizes) for wheel in wheels]}


def _with_size(wheel: Mapping[str, Any], sizes: Mapping[Digest, int]) -> dict[str, Any]:
    size = sizes.get(Digest(f"sha256:{wheel['hashes'].get('sha256')}"))
    return dict(wheel) if size is None else {**wheel, "size": size}


def service_slug(name: str) -> str:
    """Returns *name* as it stands in a lockfile's own name: everything but `a-z0-9_-` turned into `-`."""
    return re.sub(r"[^a-z0-9_-]", "-", name)


def lockfile_name(service: str) -> str:
    """Returns the file name of a service's lockfile (PEP 751, "File Name")."""
    return f"pylock.{service_slug(service)}.toml"


def _again(path: Path) -> str:
    return f"restore {path.name} from version control, or remove it and run wheelcache lock"
