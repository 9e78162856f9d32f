"""`wheelcache lock`: what each service installs, resolved into its lockfile."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wheelcache.cli.app import global_options
from wheelcache.cli.lockfiles import Locked, read_locked
from wheelcache.cli.options import compose_options, target_options, with_flags
from wheelcache.cli.session import Session, describe_bytes, describe_wheels, make_locker
from wheelcache.config import Project
from wheelcache.errors import StaleLockError, UsageError

if TYPE_CHECKING:
    from builders.locking import LockedService


@click.command("lock")
@click.argument("services", metavar="[SERVICE]...", nargs=-1)
@compose_options
@target_options
@click.option("--upgrade", is_flag=True, help="Forget all versions locked so far.")
@click.option("--upgrade-project", "upgrades", multiple=True, metavar="NAME", help="Forget this project's version.")
@click.option("--check", is_flag=True, help="Change nothing; exit 3 when a lockfile is stale.")
@global_options
@click.pass_obj
def command(
    session: Session,
    services: tuple[str, ...],
    files: tuple[Path, ...],
    python: str | None,
    platform: str | None,
    index_url: str | None,
    upgrade: bool,
    upgrades: tuple[str, ...],
    check: bool,
) -> None:
    """Resolve what each service installs, for the target its image is, into pylock.<service>.toml.

    Example: wheelcache lock ml --upgrade-project torch
    """
    if check and (upgrade or upgrades):
        raise UsageError("--check: changes nothing, so it cannot upgrade", hint="leave out one of the two")
    project = with_flags(session.project, files=files, python=python, platform=platform, index_url=index_url)
    locked = lock_project(session, project, services, check=check, upgrade=upgrade, upgrades=upgrades, is_eager=True)
    session.document["lockfiles"] = [
        {
            "services": list(each.services),
            "path": str(each.path),
            "state": each.state,
            "reason": each.reason,
            "wheels": len(each.wheels),
            "size": sum(wheel.size or 0 for wheel in each.wheels),
        }
        for each in locked
    ]
    for each in locked:
        wheels, size = describe_wheels(len(each.wheels)), describe_bytes(sum(wheel.size or 0 for wheel in each.wheels))
        why = f" ({each.reason})" if each.reason else ""
        session.say(f"{', '.join(each.services)}: {each.state}{why}: {each.path.name}, {wheels}, {size}")
    stale = [each for each in locked if each.state == "stale"]
    if stale:
        raise StaleLockError(
            f"stale: {', '.join(f'{each.path.name} ({each.reason})' for each in stale)}", hint="run wheelcache lock"
        )


def lock_project(
    session: Session,
    project: Project,
    services: Sequence[str],
    *,
    check: bool = False,
    upgrade: bool = False,
    upgrades: Sequence[str] = (),
    is_eager: bool = False,
) -> tuple[LockedService, ...]:
    """Locks what is unlocked or stale of *project*'s services, and returns all that were asked for.

    With *is_eager* images are asked for their interpreter even where a lockfile records the answer.
    """
    from builders.services import choose_services  # noqa: PLC0415 - the builders, only for services
    from wheelcache.cli.services import open_yard  # noqa: PLC0415

    with open_yard(session, project, is_eager=is_eager) as yard:
        chosen = choose_services(yard.services, services)
        return yard.lock(chosen, check=check, upgrade=upgrade, upgrades=upgrades)


def lock_requirements(session: Session, project: Project, files: Sequence[Path], *, frozen: bool) -> Locked:
    """Locks requirement files into the working directory's `pylock.toml`, unless it still answers to them."""
    from wheelcache.locking import lock_files  # noqa: PLC0415

    path = Path("pylock.toml").absolute()
    if not frozen:
        lock_files(
            [file.absolute() for file in files],
            path,
            target=project.target,
            locker=make_locker(session, project),
            offline=session.offline,
        )
    return read_locked(path, session, project, is_target_given=False)
