"""Keeps each service's lockfile true to what its files ask for and to the interpreter in its image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from builders.reading import Reading
from builders.targets import Ground, TargetFinder
from wheelcache.digest import Digest, digest_of_json
from wheelcache.errors import LockError, ResolveError, StaleLockError
from wheelcache.events import Note
from wheelcache.lock import LockedWheel, Lockfile, LockRecord, select_wheels
from wheelcache.locking import (
    Locker,
    document_of,
    merge_documents,
    merge_neighbours,
    sizes_in,
    standing_lockfile,
)
from wheelcache.resolve import Demand
from wheelcache.target import Target

LockState = Literal["locked", "unchanged", "stale"]


@dataclass(frozen=True, kw_only=True, slots=True)
class LockedService:
    """A service with its lockfile.

    Attributes:
        reading: what its files ask for.
        path: its lockfile.
        state: `locked` just now, `unchanged`, or `stale` where nothing was to be changed.
        reason: why it was locked, or is stale; empty for one that is unchanged.
        lockfile: None where it is missing and nothing was to be changed.
        target: what its wheels fit; None where that is not known.
        wheels: what the target needs.
        build_only: normalised names of what projects are built with, and its image does not hold.
        kept: what its images hold already and serves, by normalised name (PEP 503): the version.
    """

    reading: Reading
    path: Path
    state: LockState
    reason: str
    lockfile: Lockfile | None
    target: Target | None
    wheels: tuple[LockedWheel, ...]
    build_only: frozenset[str] = frozenset()
    kept: Mapping[str, str] = field(default_factory=dict)

    @property
    def services(self) -> tuple[str, ...]:
        """The service and its aliases."""
        return self.reading.service.names


@dataclass(frozen=True, kw_only=True, slots=True)
class LockWishes:
    """What the user wants of a lock.

    Attributes:
        check: change nothing, say what is stale.
        frozen: take the lockfiles as they stand.
        upgrade: forget all versions locked so far.
        upgrades: forget these projects' versions.
        offline: resolve nothing.
    """

    check: bool = False
    frozen: bool = False
    upgrade: bool = False
    upgrades: tuple[str, ...] = ()
    offline: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class _Entry:
    """A service on its way to a lockfile."""

    reading: Reading
    path: Path
    inputs: Digest
    standing: Lockfile | None
    ground: Ground | None
    stale: str

    @property
    def target(self) -> Target | None:
        return self.ground.target if self.ground is not None else None


def lock_services(
    readings: Sequence[Reading],
    *,
    root: Path,
    locker: Locker,
    targets: TargetFinder,
    wishes: LockWishes,
    others: Sequence[str] = (),
) -> tuple[LockedService, ...]:
    """Locks what is unlocked or stale.

    Services of one target are resolved together first, then each by itself with those versions preferred: so they agree
    where they can, and one service's conflict is not another's failure.

    Args:
        readings: the services.
        root: the folder in which lockfiles stand.
        locker: resolves and writes.
        targets: finds out what wheels must fit.
        wishes: what the user asked for.
        others: file names of the lockfiles of services that are not to be locked now, but agreed with.

    Raises:
        ResolveError: a service's requirements have no solution.
        StaleLockError: something is stale and nothing may be resolved.
        LockError: a lockfile is damaged, or does not fit its target.
    """
    entries = [_entry(reading, root, locker, targets, wishes) for reading in readings]
    stale = [entry for entry in entries if entry.stale and not wishes.frozen]
    if wishes.check or not stale:
        return tuple(_standing(entry) for entry in entries)
    if wishes.offline:
        names = ", ".join(f"{entry.path.name} ({entry.stale})" for entry in stale)
        raise StaleLockError(f"{names}: nothing is resolved offline", hint="run wheelcache lock once with the network")
    stale = [replace(entry, ground=entry.ground or targets.ask(entry.reading)) for entry in stale]
    fresh = [entry.standing for entry in entries if not entry.stale and entry.standing is not None]
    fresh += [lockfile for name in others if (lockfile := standing_lockfile(root / name)) is not None]
    locked = {entry.path: entry for entry in _locked(stale, fresh, locker, wishes)}
    return tuple(
        _standing(locked[entry.path], state="locked") if entry.path in locked else _standing(entry) for entry in entries
    )


def _entry(reading: Reading, root: Path, locker: Locker, targets: TargetFinder, wishes: LockWishes) -> _Entry:
    path = root / reading.service.lockfile
    standing = standing_lockfile(path)
    inputs = locker.inputs(reading.demands, reading.files, targets.origin(reading))
    if wishes.frozen and standing is None:
        raise LockError(f"{path}: expected a lockfile, found none", hint="run wheelcache lock, or leave out --frozen")
    if standing is not None and standing.record is None:
        # Another tool's lockfile is the user's word: it is used as it is, and never written to.
        return _Entry(
            reading=reading, path=path, inputs=inputs, standing=standing, ground=targets.ask(reading), stale=""
        )
    recorded = standing.record if standing is not None else None
    ground = targets.known(reading) if not wishes.frozen else None
    if recorded is None:
        stale = "missing"
    elif recorded.inputs != inputs:
        stale = "its requirements, constraints, indexes or options changed"
    elif recorded.services != reading.service.names:
        stale = "other services are built like it now"
    elif ground is not None and ground.target != recorded.target:
        stale = f"its image's interpreter changed: {recorded.target.describe()} is now {ground.target.describe()}"
    elif ground is not None and (changed := _base_changed(reading, ground, standing)):
        stale = changed
    else:
        stale = "an upgrade was asked for" if wishes.upgrade or wishes.upgrades else ""
        if ground is None and not recorded.base:
            ground = Ground(target=recorded.target)
    return _Entry(reading=reading, path=path, inputs=inputs, standing=standing, ground=ground, stale=stale)


def _base_changed(reading: Reading, ground: Ground, standing: Lockfile | None) -> str:
    """Returns what the image holds otherwise than the lockfile says, of all that is needed; empty where nothing."""
    recorded = standing.record if standing is not None else None
    if standing is None or recorded is None:
        return ""
    packages = {str(package.name) for package in standing.pylock.packages}
    held, needed = ground.held(reading), {*recorded.base, *packages} - set(recorded.build_only)
    for name in sorted(needed):
        then, now = recorded.base.get(name, ""), held.get(name, "")
        if then != now:
            return f"its base image changed: {name} {now or 'is gone'}, {then or 'none'} when it was locked"
    if recorded.base_constraints != ground.constraint_files(reading):
        return "the constraint files of its base image changed"
    return ""


def _standing(entry: _Entry, *, state: LockState | None = None) -> LockedService:
    """Returns what stands on disk for *entry*."""
    record = entry.standing.record if entry.standing is not None else None
    target = record.target if record is not None else entry.target
    wheels = select_wheels(entry.standing, target) if entry.standing is not None and target is not None else ()
    packages = entry.standing.pylock.packages if entry.standing is not None else ()
    fetched = {package.name for package in packages}
    return LockedService(
        reading=entry.reading,
        path=entry.path,
        state=state or ("stale" if entry.stale else "unchanged"),
        reason=entry.stale,
        lockfile=entry.standing,
        target=target,
        wheels=wheels,
        build_only=frozenset(record.build_only) if record is not None else frozenset(),
        kept={name: version for name, version in record.base.items() if name not in fetched} if record else {},
    )


def _locked(stale: Sequence[_Entry], fresh: Sequence[Lockfile], locker: Locker, wishes: LockWishes) -> Iterable[_Entry]:
    """Resolves and writes the lockfiles of *stale*, and returns it with what stands now."""
    kept = [] if wishes.upgrade else [entry.standing for entry in stale if entry.standing is not None]
    known_sizes = sizes_in(*fresh, *(entry.standing for entry in stale))
    done: list[_Entry] = []
    for group in _groups(stale):
        documents = [
            document
            for lockfile in (*kept, *fresh)
            if lockfile.record is not None
            and (lockfile.record.target == group[0].target or any(entry.standing is lockfile for entry in group))
            and (document := document_of(lockfile)) is not None
        ]
        joint = _joint(group, merge_documents(documents) if documents else None, locker, wishes)
        for entry in group:
            done.append(_lock_one(entry, joint, documents, known_sizes=known_sizes, locker=locker, wishes=wishes))
            known_sizes |= sizes_in(done[-1].standing)
    return done


def _groups(entries: Sequence[_Entry]) -> list[list[_Entry]]:
    """Returns the services that can be resolved together: one target, one demand each, of one manner."""
    groups: dict[object, list[_Entry]] = {}
    for entry in entries:
        merged = merge_neighbours(_lasting(entry))
        target = digest_of_json(entry.target.as_toml()) if entry.target is not None else ""
        is_one = len(merged) == 1 and not merged[0].project
        key: object = (target, merged[0].manner, merged[0].installed) if is_one else entry.path
        groups.setdefault(key, []).append(entry)
    return list(groups.values())


def _joint(
    group: Sequence[_Entry], preferences: Mapping[str, Any] | None, locker: Locker, wishes: LockWishes
) -> dict[str, Any] | None:
    """Returns versions that satisfy all services of *group*; None for one service alone, or where there are none."""
    target = group[0].target
    if len(group) == 1 or target is None:
        return None
    names = ", ".join(entry.reading.service.name for entry in group)
    locker.emit(Note(level="info", message=f"resolving {names} together for {target.describe()}"))
    demands = [demand for entry in group for demand in _lasting(entry)]
    try:
        return locker.resolve(demands, target, preferences=preferences, upgrade=wishes.upgrades).document
    except ResolveError as error:
        locker.emit(Note(level="debug", message=f"no versions satisfy all of {names}: {error.message}"))
        return None


def _lock_one(
    entry: _Entry,
    joint: Mapping[str, Any] | None,
    documents: Sequence[Mapping[str, Any]],
    *,
    known_sizes: Mapping[Digest, int],
    locker: Locker,
    wishes: LockWishes,
) -> _Entry:
    service, target = entry.reading.service, entry.target
    if target is None:
        raise LockError(f"{service.name}: the target is not known", hint="declare [target] in the project file")
    own = document_of(entry.standing) if not wishes.upgrade else None
    preferred = [document for document in (joint, own, *documents) if document is not None]
    locker.emit(Note(level="info", message=f"locking {service.name} for {target.describe()}: {entry.stale}"))
    for reason in entry.reading.unlockable:
        message = f"{service.name}: left out of the lockfile, so it needs an online build: {reason}"
        locker.emit(Note(level="warning", message=message))
    try:
        resolution = locker.resolve(
            _demands(entry) or (Demand(lines=()),),
            target,
            preferences=merge_documents(preferred) if preferred else None,
            upgrade=wishes.upgrades if joint is None else (),
        )
    except ResolveError as error:
        raise ResolveError(f"{service.name} ({service.where}): {error.message}", hint=error.hint) from error
    held = entry.ground.held(entry.reading) if entry.ground is not None else {}
    needed = {*resolution.kept, *(package["name"] for package in resolution.document["packages"])}
    record = LockRecord(
        services=service.names,
        target=target,
        inputs=entry.inputs,
        base={name: version for name, version in held.items() if name in needed - resolution.build_only},
        build_only=tuple(sorted(resolution.build_only)),
        base_constraints=entry.ground.constraint_files(entry.reading) if entry.ground is not None else {},
    )
    lockfile = locker.finish(entry.path, resolution.document, record=record, known_sizes=known_sizes)
    if resolution.kept:
        shown = ", ".join(f"{name} {version}" for name, version in sorted(resolution.kept.items()))
        locker.emit(Note(level="info", message=f"{service.name}: its base image brings {shown}"))
    return replace(entry, standing=lockfile)


def _lasting(entry: _Entry) -> list[Demand]:
    """Returns the same without what projects are built with: services need not agree on that."""
    return [demand for demand in _demands(entry) if not demand.for_build]


def _demands(entry: _Entry) -> tuple[Demand, ...]:
    """Returns what is to be resolved, on the ground where it is installed."""
    return entry.ground.demands(entry.reading) if entry.ground is not None else entry.reading.demands
