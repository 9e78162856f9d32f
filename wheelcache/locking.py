"""Makes lockfiles: resolves what is demanded, fills in sizes, records what it was made from, writes it whole."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wheelcache import __version__
from wheelcache.config import TargetConfig
from wheelcache.digest import Digest, digest_of_json
from wheelcache.errors import LockError, StaleLockError
from wheelcache.events import Note, Sink
from wheelcache.index import wheel_sizes, with_credentials
from wheelcache.installed import part_installed
from wheelcache.lock import (
    LockedWheel,
    Lockfile,
    LockRecord,
    completed_lock,
    parse_lockfile,
    select_wheels,
)
from wheelcache.pins import read_closure, read_text
from wheelcache.redaction import without_userinfo
from wheelcache.requirements import parse_requirements
from wheelcache.resolve import Demand, Resolver
from wheelcache.room import free_bytes, is_full, no_room
from wheelcache.target import Target, declared_target

if TYPE_CHECKING:
    from wheelcache.transport import Transport

INPUTS_VERSION = 2
"""Part of every digest of inputs: raised when equal inputs are to be locked differently."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Resolution:
    """What demands come to.

    Attributes:
        document: what is to be fetched, as a PEP 751 document.
        kept: what is installed already and serves: normalised name (PEP 503) to version.
        build_only: normalised names of what projects are built with, and nothing else needs.
    """

    document: dict[str, Any]
    kept: Mapping[str, str]
    build_only: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True, slots=True)
class Locker:
    """Resolving with all that is the same for one run.

    Attributes:
        resolver: asks uv.
        transport: opens the way to the servers that are asked for sizes.
        emit: takes what happens.
    """

    resolver: Resolver
    transport: Callable[[], Transport]
    emit: Sink

    def inputs(self, demands: Sequence[Demand], files: Mapping[str, str], target: object) -> Digest:
        """Returns the digest of everything that goes into a lockfile.

        Args:
            demands: what is resolved.
            files: the texts of all files that the demands name, by a name that does not depend on the checkout's place.
            target: the declared target, or what it is asked from, as JSON values.
        """
        return digest_of_json(
            {
                "version": INPUTS_VERSION,
                "demands": [
                    {
                        "lines": [line for line in demand.lines if not line.startswith(("-r ", "-c "))],
                        "manner": _json(demand.manner),
                        "renewed": list(demand.renewed),
                    }
                    for demand in demands
                ],
                "files": dict(files),
                "indexes": [without_userinfo(index.url) for index in self.resolver.indexes],
                "torch-backend": self.resolver.torch_backend,
                "target": target,
            }
        )

    def resolve(
        self,
        demands: Sequence[Demand],
        target: Target,
        *,
        preferences: Mapping[str, Any] | None,
        upgrade: Sequence[str] = (),
    ) -> Resolution:
        """Resolves *demands* one after the other: like pip, each takes what earlier ones installed as given.

        One lockfile has one version of a project: what one command finds in its image and another does not, is fetched
        for both.

        Returns:
            The packages of all.

        Raises:
            ResolveError: there is no solution.
            NetworkError: an index did not answer.
        """
        merged = merge_neighbours(demands)
        while True:
            resolution, torn = self._resolve_each(merged, target, preferences=preferences, upgrade=upgrade)
            if not torn:
                return resolution
            merged = [
                replace(demand, installed=tuple(each for each in demand.installed if each.name not in torn))
                for demand in merged
            ]

    def _resolve_each(
        self,
        demands: Sequence[Demand],
        target: Target,
        *,
        preferences: Mapping[str, Any] | None,
        upgrade: Sequence[str],
    ) -> tuple[Resolution, frozenset[str]]:
        """Returns what *demands* come to, and what is found in one image in another version, or not at all."""
        merged: dict[str, Any] = {}
        earlier: list[str] = []
        found: dict[str, set[str]] = {}
        lasting: set[str] = set()
        for demand in demands:
            given = demand
            if merged:
                # What is installed already counts where it came from: torch+cpu stays torch+cpu, with its own needs.
                roots = tuple(dict.fromkeys((*demand.extra_index_urls, *earlier)))
                pins = (*demand.constraints, *_pins(merged))
                given = replace(demand, constraints=pins, extra_index_urls=roots)
            resolved = (
                self.resolver.export(demand, target)
                if demand.project
                else self.resolver.resolve(given, target, preferences=preferences, upgrade=upgrade)
            )
            document, kept = part_installed(resolved, demand.installed)
            for name, version in kept.items():
                found.setdefault(name, set()).add(version)
            lasting |= set() if demand.for_build else {package["name"] for package in document["packages"]}
            merged = merge_documents([merged, document]) if merged else document
            earlier += self.resolver.roots(demand)
        fetched = {package["name"] for package in merged["packages"]}
        torn = frozenset(name for name, versions in found.items() if len(versions) > 1 or name in fetched)
        one = {name: versions.pop() for name, versions in found.items() if name not in torn}
        return Resolution(document=merged, kept=one, build_only=frozenset(fetched - lasting)), torn

    def finish(
        self, path: Path, document: Mapping[str, Any], *, record: LockRecord, known_sizes: Mapping[Digest, int]
    ) -> Lockfile:
        """Fills in sizes and our record, and writes the lockfile in one step.

        Args:
            path: where to.
            document: a resolver's PEP 751 document.
            record: what is recorded in it.
            known_sizes: bytes by digest, from earlier lockfiles.

        Raises:
            LockError: a wheel does not fit, or the file cannot be written.
        """
        import tomli_w  # noqa: PLC0415 - needed only where a lockfile is written

        draft = parse_lockfile(tomli_w.dumps(document), path)
        wheels = select_wheels(draft, record.target)
        sizes = {wheel.digest: wheel.size for wheel in wheels if wheel.size is not None}
        sizes |= {wheel.digest: known_sizes[wheel.digest] for wheel in wheels if wheel.digest in known_sizes}
        unknown = [wheel for wheel in wheels if wheel.digest not in sizes]
        sizes |= self._ask_sizes(unknown)
        text = tomli_w.dumps(
            completed_lock(document, sizes=sizes, record=record, created_by=f"wheelcache {__version__}")
        )
        _write_whole(path, text)
        return parse_lockfile(text, path)

    def _ask_sizes(self, wheels: Sequence[LockedWheel]) -> dict[Digest, int]:
        if not wheels:
            return {}
        roots = [index.url for index in self.resolver.indexes]
        return wheel_sizes(with_credentials(wheels, roots), transport=self.transport())


def lock_files(files: Sequence[Path], path: Path, *, target: TargetConfig, locker: Locker, offline: bool) -> Lockfile:
    """Locks requirement files into *path*, unless it stands and still answers to them.

    Args:
        files: absolute paths.
        path: the lockfile.
        target: as declared.
        locker: resolves.
        offline: True when nothing may be resolved.

    Raises:
        LockError: no target is declared, *path* is another tool's, or there is no solution.
        StaleLockError: *path* is stale and nothing may be resolved.
    """
    if target.python is None or target.platform is None:
        raise LockError(
            "-r: the target is not known: which Python, on which platform?",
            hint="say it: --python 3.11 --platform manylinux_2_28_x86_64, or [target] in the project file",
        )
    wanted = declared_target(target.python, target.platform)
    texts = read_closure(files, read=read_text)
    demand = Demand(
        lines=tuple(f"-r {file}" for file in files),
        mixes_indexes=any(parse_requirements(text).extra_index_urls for text in texts.values()),
    )
    inputs = locker.inputs(
        [demand], {_portable(file, path.parent): text for file, text in texts.items()}, wanted.as_toml()
    )
    standing = standing_lockfile(path)
    if standing is not None and standing.record is None:
        raise LockError(
            f"{path}: another tool made it; it is not overwritten",
            hint=f"use it as it is (wheelcache sync {path.name}), or remove it",
        )
    if standing is not None and standing.record is not None and standing.record.inputs == inputs:
        return standing
    if offline:
        raise StaleLockError(
            f"{path}: missing or stale, and nothing is resolved offline", hint="run once with the network"
        )
    locker.emit(Note(level="info", message=f"locking {path.name} for {wanted.describe()}"))
    document = locker.resolve([demand], wanted, preferences=document_of(standing)).document
    record = LockRecord(services=(), target=wanted, inputs=inputs)
    return locker.finish(path, document, record=record, known_sizes=sizes_in(standing))


def standing_lockfile(path: Path) -> Lockfile | None:
    """Returns the lockfile at *path*, None where there is none.

    Raises:
        LockError: it cannot be read, or is invalid.
    """
    try:
        return parse_lockfile(path.read_text(encoding="utf-8"), path)
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise LockError(f"{path}: cannot be read: {error}", hint="check the file and its permissions") from error


def document_of(lockfile: Lockfile | None) -> dict[str, Any] | None:
    """Returns a lockfile as the document that it was read from, without our record."""
    if lockfile is None:
        return None
    document = dict(lockfile.pylock.to_dict())
    document.pop("tool", None)
    return document


def sizes_in(*lockfiles: Lockfile | None) -> dict[Digest, int]:
    """Returns the sizes that lockfiles know, in bytes by digest."""
    sizes: dict[Digest, int] = {}
    for lockfile in lockfiles:
        if lockfile is None:
            continue
        for package in lockfile.pylock.packages:
            for wheel in package.wheels or ():
                if wheel.size is not None and "sha256" in wheel.hashes:
                    sizes[Digest(f"sha256:{wheel.hashes['sha256']}")] = wheel.size
    return sizes


def merge_documents(documents: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns one document with the packages of all; of several of one name, the first document's."""
    packages: dict[str, list[Any]] = {}
    for document in documents:
        names = {package["name"] for package in document["packages"]}
        for name in names - packages.keys():
            packages[name] = [package for package in document["packages"] if package["name"] == name]
    ordered = [package for name in sorted(packages) for package in packages[name]]
    return {**documents[0], "packages": ordered}


def merge_neighbours(demands: Sequence[Demand]) -> list[Demand]:
    """Returns *demands* with those that follow each other and look in the same places made one."""
    merged: list[Demand] = []
    for demand in demands:
        last = merged[-1] if merged else None
        if (
            last is not None
            and (last.manner, last.installed) == (demand.manner, demand.installed)
            and (last.constraints, last.project) == (demand.constraints, demand.project)
        ):
            renewed = tuple(sorted({*last.renewed, *demand.renewed}))
            merged[-1] = replace(last, lines=(*last.lines, *demand.lines), renewed=renewed)
        else:
            merged.append(demand)
    return merged


def _pins(document: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the versions of *document* as constraints."""
    return tuple(f"{package['name']}=={package['version']}" for package in document["packages"] if "version" in package)


def _portable(file: Path, root: Path) -> str:
    """Returns a name for *file* that is the same in every checkout."""
    return os.path.relpath(file, root).replace(os.sep, "/")


def _json(value: object) -> object:
    return list(map(_json, value)) if isinstance(value, tuple) else value


def _write_whole(path: Path, text: str) -> None:
    """Replaces *path* in one step, so that nobody ever reads half a lockfile."""
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        except BaseException:
            with suppress(OSError):
                Path(temporary).unlink()
            raise
    except OSError as error:
        if is_full(error):
            raise no_room(
                path.parent,
                needed=len(text.encode()),
                free=free_bytes(path.parent),
                purpose=path.name,
                elsewhere="move the project to another disk",
            ) from error
        raise LockError(
            f"{path}: cannot be written: {error.strerror}", hint="check the folder's permissions"
        ) from error
