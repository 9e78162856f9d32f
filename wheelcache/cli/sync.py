"""`wheelcache sync`: every locked wheel, once, into the store."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import click

from wheelcache.cli.app import global_options
from wheelcache.cli.lockfiles import Locked, from_services, read_locked, split_arguments, standing_lockfiles
from wheelcache.cli.options import Flags, compose_options, download_options, target_options, with_flags
from wheelcache.cli.recording import Draft, fetch_of, recorded
from wheelcache.cli.session import Session, describe_bytes, describe_wheels, open_transport
from wheelcache.config import Project
from wheelcache.errors import ExitCode, IntegrityError, NetworkError, StoreError, StoreFullError, WheelcacheError
from wheelcache.lock import LockedWheel

if TYPE_CHECKING:
    from wheelcache.digest import Digest
    from wheelcache.outcome import WheelResult


@click.command("sync")
@click.argument("arguments", metavar="[SERVICE | LOCKFILE]...", nargs=-1)
@click.option(
    "-r", "--requirements", multiple=True, metavar="FILE", type=click.Path(path_type=Path), help="Lock and sync FILE."
)
@compose_options
@target_options
@click.option("--frozen", is_flag=True, help="Use the lockfiles as they stand, stale or not.")
@download_options
@click.option("--dry-run", is_flag=True, help="Lock, then say what would be fetched.")
@global_options
@click.pass_obj
def command(
    session: Session,
    arguments: tuple[str, ...],
    requirements: tuple[Path, ...],
    frozen: bool,
    dry_run: bool,
    **flags: Unpack[Flags],
) -> None:
    """Lock what is unlocked or stale, then make the store complete: for every service, or just those named.

    Example: wheelcache sync ml --mirror https://mirror.example/simple
    """
    project = with_flags(session.project, **flags)
    locked = _locked(
        session, project, arguments, requirements, frozen=frozen, is_target_given=flags["python"] is not None
    )
    session.checkpoint()
    if dry_run:
        show_plan(session, locked)
        return
    with recorded(session, project) as draft:
        sync_locked(session, project, locked, draft)


def _locked(
    session: Session,
    project: Project,
    arguments: Sequence[str],
    requirements: Sequence[Path],
    *,
    frozen: bool,
    is_target_given: bool,
) -> list[Locked]:
    services, paths = split_arguments(arguments)
    locked = [read_locked(path, session, project, is_target_given=is_target_given) for path in paths]
    if requirements:
        from wheelcache.cli.lock import lock_requirements  # noqa: PLC0415

        locked.append(lock_requirements(session, project, requirements, frozen=frozen))
    if services or not (paths or requirements):
        if frozen:
            locked += standing_lockfiles(project, services, session, is_target_given=is_target_given)
        else:
            from wheelcache.cli.lock import lock_project  # noqa: PLC0415 - the builders, only for services

            locked += from_services(lock_project(session, project, services))
    return locked


def sync_locked(session: Session, project: Project, locked: Sequence[Locked], draft: Draft) -> None:
    """Makes the store hold every wheel of *locked*, reports it, and notes it in *draft*.

    Raises:
        WheelcacheError: not all could be had; of several reasons the gravest.
    """
    began = time.monotonic()
    _keep(session, project, locked)
    wheels = [wheel for each in locked for wheel in each.wheels]
    try:
        results = fetch_wheels(session, project, wheels)
    except StoreFullError as full:  # there is no room for the store itself
        results = _without_store(session, _distinct(locked), full)
    seconds = time.monotonic() - began
    draft.fetch = fetch_of(results, seconds)
    _report(session, results, locked, seconds)
    session.checkpoint()
    failures = [result.failure for result in results if result.failure is not None]
    if failures:
        raise gravest(failures)
    if project.cache.max_size:
        from wheelcache.cli.prune import prune_after_sync  # noqa: PLC0415 - only where a size is given

        prune_after_sync(session, project.cache.max_size)


def fetch_wheels(session: Session, project: Project, wheels: Sequence[LockedWheel]) -> list[WheelResult]:
    """Makes the store hold wheels, as the project's `[download]` wants it; what became of each is in its result."""
    from wheelcache.fetch import FetchSettings, sync_wheels  # noqa: PLC0415
    from wheelcache.index import with_credentials  # noqa: PLC0415

    download = project.download
    return sync_wheels(
        with_credentials(wheels, _own_indexes(project)),
        store=session.store,
        transport=lambda: open_transport(project),
        mirrors=[mirror.url for mirror in project.mirrors],
        settings=FetchSettings(
            connections=download.connections,
            per_host=download.per_host,
            timeout=download.timeout,
            deadline=download.deadline,
            min_rate=download.min_rate,
            limit_rate=download.limit_rate,
        ),
        emit=session.emit,
        offline=session.offline,
        stop=session.stop,
        indexes=_own_indexes(project),
    )


def _without_store(session: Session, wheels: Sequence[LockedWheel], cause: StoreFullError) -> list[WheelResult]:
    """Returns what became of wheels whose store has no room for its own folders: nothing, and what all would need."""
    from wheelcache.outcome import not_tried  # noqa: PLC0415
    from wheelcache.room import free_bytes, no_room  # noqa: PLC0415

    full = no_room(
        session.cache_root,
        needed=sum(wheel.size or 0 for wheel in wheels),
        free=free_bytes(session.cache_root),
        purpose=describe_wheels(len(wheels)),
        elsewhere="choose another disk with --cache-dir",
        is_least=any(wheel.size is None for wheel in wheels),
    )
    full.__cause__ = cause
    return [not_tried(wheel, full) for wheel in wheels]


def _keep(session: Session, project: Project, locked: Sequence[Locked]) -> None:
    """Keeps what *locked* needs from being pruned: until this command ends, and as long as the lockfiles stand."""
    try:
        _lease_and_keep(session, project, locked)
    except StoreFullError as full:  # what is there can be used all the same
        session.note("warning", f"{full.message}: nothing keeps a prune from what this command needs")


def _lease_and_keep(session: Session, project: Project, locked: Sequence[Locked]) -> None:
    needed = [wheel.digest for each in locked for wheel in each.wheels]
    session.resources.enter_context(session.roots.lease(needed, command=session.command))
    projects: dict[Path, dict[Path, list[Digest]]] = {}
    for each in locked:
        path = each.path.resolve()
        is_of_project = project.file is not None and path.parent == project.root.resolve()
        owner = project.root if is_of_project else path
        projects.setdefault(owner, {})[path] = [wheel.digest for wheel in each.wheels]
    for owner, lockfiles in projects.items():
        session.roots.keep_project(owner, lockfiles, now=time.time())


def _own_indexes(project: Project) -> list[str]:
    """Returns the indexes that the user named: a private project's name is nothing to ask the public one for."""
    from wheelcache.index import named_index  # noqa: PLC0415

    named = named_index(os.environ)
    return [index.url for index in project.indexes] or ([named] if named else [])


def gravest(failures: Sequence[WheelcacheError]) -> WheelcacheError:
    """Returns the failure that a command ends with: of integrity, store, network, lock the first."""
    order = [ExitCode.INTEGRITY, ExitCode.STORE, ExitCode.NETWORK, ExitCode.LOCK]
    worst = min(failures, key=lambda failure: order.index(failure.exit_code) if failure.exit_code in order else 9)
    if len(failures) == 1 or isinstance(worst, StoreFullError):  # which tells of all wheels at once
        return worst
    kinds: dict[ExitCode, type[WheelcacheError]] = {
        ExitCode.INTEGRITY: IntegrityError,
        ExitCode.STORE: StoreError,
        ExitCode.NETWORK: NetworkError,
    }
    several = kinds.get(worst.exit_code, type(worst))
    return several(f"{len(failures)} wheels could not be had; the gravest: {worst.message}", hint=worst.hint)


def show_plan(session: Session, locked: Sequence[Locked]) -> None:
    """Says what a sync would fetch."""
    rows = []
    for wheel in _distinct(locked):
        state = "cached" if session.store.has(wheel) else "missing"
        rows.append(_wheel_row(wheel, locked, state=state))
        if state == "missing":
            session.say(f"{wheel.filename}  {describe_bytes(wheel.size or 0)}")
    missing = [row for row in rows if row["state"] == "missing"]
    to_go = sum(int(str(row["size"] or 0)) for row in missing)
    session.document.update({"wheels": rows, "bytes_fetched": 0, "seconds": 0.0, "dry_run": True})
    session.say(f"{len(missing)} of {describe_wheels(len(rows))} missing: {describe_bytes(to_go)} to fetch")


def _distinct(locked: Sequence[Locked]) -> list[LockedWheel]:
    return list({wheel.digest: wheel for each in locked for wheel in each.wheels}.values())


def _wheel_row(wheel: LockedWheel, locked: Sequence[Locked], *, state: str) -> dict[str, object]:
    return {
        "lockfiles": [str(each.path) for each in locked if any(other.digest == wheel.digest for other in each.wheels)],
        "name": wheel.name,
        "version": wheel.version,
        "filename": wheel.filename,
        "digest": wheel.digest,
        "size": wheel.size,
        "state": state,
        "bytes_fetched": 0,
        "source": None,
        "error": None,
    }


def _report(session: Session, results: Sequence[WheelResult], locked: Sequence[Locked], seconds: float) -> None:
    rows = []
    for result in results:
        row = _wheel_row(result.wheel, locked, state=result.state)
        rows.append(
            {
                **row,
                "bytes_fetched": result.bytes_fetched,
                "source": result.source or None,
                "error": result.error or None,
            }
        )
    fetched = sum(result.bytes_fetched for result in results)
    session.document.update({"wheels": rows, "bytes_fetched": fetched, "seconds": round(seconds, 3)})
    counts = {state: sum(result.state == state for result in results) for state in sorted({r.state for r in results})}
    total = sum(result.wheel.size or 0 for result in results)
    states = ", ".join(f"{count} {state}" for state, count in counts.items())
    session.say(
        f"{describe_wheels(len(results))}, {describe_bytes(total)}: {states or 'nothing to do'}; "
        f"{describe_bytes(fetched)} fetched in {seconds:.1f} s"
    )
