"""`wheelcache build`: the services, one after another, without a download inside a build."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wheelcache.cli.app import global_options
from wheelcache.cli.lockfiles import from_services
from wheelcache.cli.options import compose_options, with_flags
from wheelcache.cli.services import Yard, open_yard
from wheelcache.cli.session import Session, describe_wheels
from wheelcache.cli.sync import sync_locked
from wheelcache.config import Project
from wheelcache.errors import LockError

if TYPE_CHECKING:
    from builders.build import ServiceResult
    from builders.locking import LockedService
    from builders.preparing import Prepared
    from builders.services import Service


@click.command("build")
@click.argument("services", metavar="[SERVICE]...", nargs=-1)
@compose_options
@click.option("--frozen", is_flag=True, help="Use the lockfiles as they stand, stale or not.")
@click.option("--online", is_flag=True, help="Let pip and uv ask their indexes for what the wheels do not cover.")
@click.option("--dry-run", is_flag=True, help="Show what each service shares and how its Dockerfile's copy differs.")
@global_options
@click.pass_obj
def command(
    session: Session, services: tuple[str, ...], files: tuple[Path, ...], frozen: bool, online: bool, dry_run: bool
) -> None:
    """Lock and sync what is needed, then build the services one after another.

    Example: wheelcache build ml --dry-run
    """
    from builders.preparing import prepare  # noqa: PLC0415 - the builders, only for services
    from builders.services import choose_services  # noqa: PLC0415

    began = time.monotonic()
    project = with_flags(session.project, files=files)
    session.document["services"] = []
    with open_yard(session, project, is_eager=True) as yard:
        chosen = choose_services(yard.services, services)
        locked = _lock(yard, chosen, frozen=frozen)
        names = {service.name for service in chosen}
        prepared = prepare(locked, engine=yard.engine(), is_online=online, is_offline=session.offline)
        wanted = [each for each in prepared if each.name in names]
        session.checkpoint()
        if dry_run:
            _show(session, wanted)
            return
        buildable = [each.locked for each in wanted if each.refusal is None]
        sync_locked(session, project, list(from_services(buildable)))
        results = _build(session, project, yard, wanted)
    _report(session, results, time.monotonic() - began)


def _lock(yard: Yard, chosen: Sequence[Service], *, frozen: bool) -> tuple[LockedService, ...]:
    """Locks every service of the project, since what is shared depends on all; else at least those that are built."""
    from builders.errors import BuildError  # noqa: PLC0415

    try:
        return yard.lock(yard.services, frozen=frozen)
    except (BuildError, LockError):
        if len(chosen) == len(yard.services):
            raise
        return yard.lock(chosen, frozen=frozen)


def _build(session: Session, project: Project, yard: Yard, wanted: Sequence[Prepared]) -> list[ServiceResult]:
    from builders.build import Workshop, build_services  # noqa: PLC0415

    for each in wanted:
        if each.why_online:
            session.note("warning", f"{each.name} is built online: {each.why_online}")
    workshop = Workshop(
        engine=yard.engine(),
        store=session.store,
        builder=yard.builder(),
        settings=project.build,
        indexes=project.indexes,
        offline=session.offline,
        emit=session.emit,
    )
    return build_services(wanted, workshop)


def _show(session: Session, wanted: Sequence[Prepared]) -> None:
    """Says how each service would be built."""
    from builders.workspace import difference, rewritten  # noqa: PLC0415

    for each in wanted:
        copy = rewritten(each.reading, mode=each.mode, offline=session.offline)
        shared = [wheel.filename for wheel in each.shared.wheels] if each.shared is not None else []
        if each.refusal is not None:
            session.say(f"{each.name}: refused: {each.refusal.message}\n  {each.refusal.hint}")
        else:
            online = f" ({each.why_online})" if each.why_online else ""
            what = (
                f"shares {describe_wheels(len(shared))} with {_others(each)}" if shared else f"own copy: {each.why_own}"
            )
            session.say(f"{each.name}: {each.mode}{online}; {what}; mounts {describe_wheels(len(each.own_wheels))}")
        diff = difference(each.reading, copy)
        session.say(diff)
        session.document["services"].append(
            {
                "name": each.name,
                "mode": each.mode,
                "why_online": each.why_online or None,
                "shared_wheels": shared,
                "why_own": each.why_own or None,
                "mounted_wheels": [wheel.filename for wheel in each.own_wheels],
                "refused": each.refusal.message if each.refusal is not None else None,
                "difference": diff,
            }
        )


def _others(prepared: Prepared) -> str:
    names = prepared.shared.services if prepared.shared is not None else ()
    return ", ".join(name for name in names if name != prepared.name)


def _report(session: Session, results: Sequence[ServiceResult], seconds: float) -> None:
    """Ends the run.

    Raises:
        BuildError: a service failed.
    """
    from builders.errors import BuildError  # noqa: PLC0415

    session.document["services"] = [_row(result) for result in results]
    session.document["seconds"] = round(seconds, 3)
    width = max((len(result.name) for result in results), default=0)
    for result in results:
        base = f"  on {result.shared_base}" if result.shared_base else ""
        session.say(f"{result.name:<{width}}  {result.state:<9}  {result.seconds:7.1f} s  {result.image}{base}")
    session.checkpoint()
    failed = [result for result in results if result.failure is not None]
    if not failed:
        return
    messages = []
    for result in failed:
        failure = result.failure
        if failure is None:
            continue
        log = f"\n  log: {failure.log}" if failure.log is not None else ""
        messages.append(f"{result.name}: {failure.fault}: {failure.message}{log}\n  hint: {failure.hint}")
    raise BuildError(
        f"{len(failed)} of {len(results)} services failed:\n" + "\n".join(messages),
        hint="what is finished is kept: mend the cause, and run the same command again",
    )


def _row(result: ServiceResult) -> dict[str, object]:
    failure = result.failure
    return {
        "name": result.name,
        "state": result.state,
        "image": result.image,
        "image_id": result.image_id or None,
        "attempts": result.attempts,
        "seconds": round(result.seconds, 3),
        "shared_base": result.shared_base or None,
        "bytes_sent": result.sent,
        "failure": None
        if failure is None
        else {
            "class": failure.fault,
            "message": failure.message,
            "hint": failure.hint,
            "log": str(failure.log) if failure.log is not None else None,
        },
    }
