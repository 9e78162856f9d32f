"""Keeps each service's lockfile true to what its files ask for and to the interpreter in its image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from builders.reading import Reading
from builders.targets import TargetFinder
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
    """

    reading: Reading
    path: Path
    state: LockState
    reason: str
    lockfile: Lockfile | None
    target: Target | None
    wheels: tuple[LockedWheel, ...]

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
    target: Target | None
    stale: str


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
    stale = [replace(entry, target=entry.target or targets.ask(entry.reading)) for entry in stale]
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
            reading=reading, path=path, inputs=inputs, standing=standing, target=targets.ask(reading), stale=""
        )
    recorded = standing.record if standing is not None else None
    target = targets.known(reading) if not wishes.frozen else None
    if recorded is None:
        stale = "missing"
    elif recorded.inputs != inputs:
        stale = "its requirements, constraints, indexes or options changed"
    elif recorded.services != reading.service.names:
        stale = "other services are built like it now"
    elif target is not None and target != recorded.target:
        stale = f"its image's interpreter changed: {recorded.target.describe()} is now {target.describe()}"
    else:
        stale, target = "", recorded.target
        if wishes.upgrade or wishes.upgrades:
            stale = "an upgrade was asked for"
    return _Entry(reading=reading, path=path, inputs=inputs, standing=standing, target=target, stale=stale)


def _standing(entry: _Entry, *, state: LockState | None = None) -> LockedService:
    """Returns what stands on disk for *entry*."""
    record = entry.standing.record if entry.standing is not None else None
    target = record.target if record is not None else entry.target
    wheels = select_wheels(entry.standing, target) if entry.standing is not None and target is not None else ()
    return LockedService(
        reading=entry.reading,
        path=entry.path,
        state=state or ("stale" if entry.stale else "unchanged"),
        reason=entry.stale,
        lockfile=entry.standing,
        target=target,
        wheels=wheels,
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
        merged = merge_neighbours(entry.reading.demands)
        target = digest_of_json(entry.target.as_toml()) if entry.target is not None else ""
        key: object = (target, merged[0].manner) if len(merged) == 1 else entry.path
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
    demands = [demand for entry in group for demand in entry.reading.demands]
    try:
        return locker.resolve(demands, target, preferences=preferences, upgrade=wishes.upgrades)
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
        document = locker.resolve(
            entry.reading.demands or (Demand(lines=()),),
            target,
            preferences=merge_documents(preferred) if preferred else None,
            upgrade=wishes.upgrades if joint is None else (),
        )
    except ResolveError as error:
        raise ResolveError(f"{service.name} ({service.where}): {error.message}", hint=error.hint) from error
    record = LockRecord(services=service.names, target=target, inputs=entry.inputs)
    lockfile = locker.finish(entry.path, document, record=record, known_sizes=known_sizes)
    return replace(entry, standing=lockfile)
