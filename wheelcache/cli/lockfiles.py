"""Turns the arguments SERVICE and LOCKFILE, and `-r FILE`, into lockfiles with the wheels that their targets need."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wheelcache.cli.session import Session, open_transport
from wheelcache.config import Project, TargetConfig
from wheelcache.errors import LockError, UsageError
from wheelcache.lock import LockedWheel, lockfile_name, parse_lockfile, select_wheels
from wheelcache.target import Target, declared_target

if TYPE_CHECKING:
    from builders.locking import LockedService


@dataclass(frozen=True, kw_only=True, slots=True)
class Locked:
    """One lockfile and the wheels that its target needs of it."""

    path: Path
    services: tuple[str, ...]
    wheels: tuple[LockedWheel, ...]

    @property
    def label(self) -> str:
        """What people know it by: its services, else its file name."""
        return ", ".join(self.services) or self.path.name

    @property
    def size(self) -> int:
        """Bytes of all wheels whose size is known."""
        return sum(wheel.size or 0 for wheel in self.wheels)


def is_lockfile(argument: str) -> bool:
    """True when *argument* names a file rather than a service."""
    return argument.endswith((".toml", ".txt")) or os.sep in argument or Path(argument).is_file()


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], list[Path]]:
    """Returns the services and the lockfiles among *arguments*."""
    files = [Path(argument) for argument in arguments if is_lockfile(argument)]
    return [argument for argument in arguments if not is_lockfile(argument)], files


def read_locked(path: Path, session: Session, project: Project, *, is_target_given: bool) -> Locked:
    """Reads one lockfile: PEP 751 by any tool, or pip requirements with hashes.

    Args:
        path: the lockfile.
        session: this run.
        project: with the command line's flags applied.
        is_target_given: True when the command line says for which target; else what the lockfile records comes before
            what the project file declares, which is for the services that it is to lock.

    Raises:
        LockError: it is missing or invalid, lacks digests, or does not fit the target.
        NetworkError: requirements have to be looked up in an index that does not answer.
    """
    text = _text(path)
    declared = _declared(project.target)
    if path.suffix == ".toml":
        lockfile = parse_lockfile(text, path)
        recorded = lockfile.record.target if lockfile.record is not None else None
        target = declared if is_target_given else recorded or declared
        if target is None:
            raise _no_target(path)
        services = lockfile.record.services if lockfile.record is not None else ()
        return Locked(path=path, services=services, wheels=select_wheels(lockfile, target))
    if declared is None:
        raise _no_target(path)
    from wheelcache.index import default_index, wheels_of_requirements  # noqa: PLC0415 - only requirements need an index here
    from wheelcache.pins import parse_pins  # noqa: PLC0415

    pins = parse_pins(text, path, declared)
    if session.offline:
        raise LockError(f"{path}: which files it means must be asked of an index", hint="run without --offline once")
    indexes = [index.url for index in project.indexes] or [default_index(os.environ)]
    wheels = wheels_of_requirements(pins, indexes, declared, transport=open_transport(project))
    return Locked(path=path, services=(), wheels=wheels)


def standing_lockfiles(
    project: Project, services: Sequence[str], session: Session, *, is_target_given: bool
) -> list[Locked]:
    """Returns the lockfiles that stand beside the project file, without asking whether they are stale.

    Args:
        project: whose folder is looked into.
        services: only theirs; empty for all.
        session: this run.
        is_target_given: as for `read_locked`.

    Raises:
        UsageError: a service has none.
    """
    if not services:
        standing = _all_standing(project, session, is_target_given=is_target_given)
        if not standing:
            raise UsageError(
                f"{project.root}: expected lockfiles (pylock.*.toml), found none",
                hint="run wheelcache lock, or name a lockfile",
            )
        return standing
    chosen: dict[Path, Locked] = {}
    for service in services:
        own = project.root / lockfile_name(service)
        if own.is_file():
            chosen[own] = read_locked(own, session, project, is_target_given=is_target_given)
            continue
        # A service that is built as another one is has no lockfile of its own: the other's names it.
        others = _all_standing(project, session, is_target_given=is_target_given)
        fitting = [locked for locked in others if service in locked.services]
        if not fitting:
            raise UsageError(
                f"{service}: expected its lockfile {own.name} in {project.root}, found none",
                hint=f"run wheelcache lock {service}",
            )
        chosen[fitting[0].path] = fitting[0]
    return list(chosen.values())


def _all_standing(project: Project, session: Session, *, is_target_given: bool) -> list[Locked]:
    standing = []
    for path in sorted(project.root.glob("pylock*.toml")):
        if parse_lockfile(_text(path), path).record is None and _declared(project.target) is None:
            session.note("warning", f"{path.name}: left out: another tool made it, and nothing says for which target")
            continue
        standing.append(read_locked(path, session, project, is_target_given=is_target_given))
    return standing


def from_services(locked: Sequence[LockedService]) -> Iterator[Locked]:
    """Yields what the builders locked as lockfiles."""
    for service in locked:
        yield Locked(path=service.path, services=service.services, wheels=service.wheels)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise LockError(f"{path}: expected a lockfile, found none", hint="run wheelcache lock") from error
    except (OSError, UnicodeDecodeError) as error:
        raise LockError(f"{path}: cannot be read: {error}", hint="check the file and its permissions") from error


def _declared(target: TargetConfig) -> Target | None:
    if target.python is None or target.platform is None:
        return None
    return declared_target(target.python, target.platform)


def _no_target(path: Path) -> LockError:
    return LockError(
        f"{path}: does not record which interpreter it is for",
        hint="say it: --python 3.11 --platform manylinux_2_28_x86_64, or [target] in the project file",
    )
