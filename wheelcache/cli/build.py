"""`wheelcache build`: the services, one after another, without a download inside a build."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

from wheelcache.cli.app import global_options
from wheelcache.cli.lockfiles import from_services
from wheelcache.cli.options import compose_options, with_flags
from wheelcache.cli.recording import recorded, run_log
from wheelcache.cli.report import document_of, rows_of, say_short
from wheelcache.cli.services import Yard, open_yard
from wheelcache.cli.session import Session
from wheelcache.cli.sync import sync_locked
from wheelcache.config import Project
from wheelcache.errors import LockError, StoreError, UsageError
from wheelcache.programs import run_program

if TYPE_CHECKING:
    from builders.build import ServiceResult
    from builders.locking import LockedService
    from builders.preparing import Prepared
    from builders.registrycache import RegistryCache
    from builders.services import Service


@click.command("build")
@click.argument("services", metavar="[SERVICE]...", nargs=-1)
@compose_options
@click.option("--frozen", is_flag=True, help="Use the lockfiles as they stand, stale or not.")
@click.option("--online", is_flag=True, help="Let pip and uv ask their indexes for what the wheels do not cover.")
@click.option("--dry-run", is_flag=True, help="Show what each service shares and how its Dockerfile's copy differs.")
@click.option("--push", is_flag=True, help="Push each image to its registry once it is built and checked.")
@click.option("--builder", metavar="NAME", help="Build with this builder of docker buildx, and load what it built.")
@click.option("--cache-from", "sources", multiple=True, metavar="REF", help="A repository to look for layers in.")
@click.option("--cache-to", "targets", multiple=True, metavar="REF", help="A repository to leave layers in.")
@global_options
@click.pass_obj
def command(
    session: Session,
    services: tuple[str, ...],
    files: tuple[Path, ...],
    frozen: bool,
    online: bool,
    dry_run: bool,
    push: bool,
    builder: str | None,
    sources: tuple[str, ...],
    targets: tuple[str, ...],
) -> None:
    """Lock and sync what is needed, then build the services one after another.

    Example: wheelcache build ml --dry-run
    """
    from builders.choosing import choose_builder  # noqa: PLC0415 - the builders, only for services

    began = time.monotonic()
    project = with_flags(session.project, files=files)
    session.document["services"] = []
    for option, is_given in (("--push", push), ("--cache-from", sources), ("--cache-to", targets)):
        if is_given and session.offline:
            raise UsageError(f"{option}: expected a network, found --offline", hint="leave one of them out")
    choice = choose_builder(builder, run=run_program, environ=os.environ)
    with open_yard(session, project, is_eager=True, environ=choice.environ) as yard:
        handing = _read_handing(
            project, yard, services, push=push, builder=choice.elsewhere, sources=sources, targets=targets
        )
        if dry_run:
            from wheelcache.cli.plans import show_plans  # noqa: PLC0415 - only plans need it

            show_plans(session, project, yard, prepare_services(session, yard, services, frozen=frozen, online=online))
            return
        with recorded(session, project) as draft:
            wanted = prepare_services(session, yard, services, frozen=frozen, online=online)
            buildable = [each.locked for each in wanted if each.refusal is None]
            sync_locked(session, project, list(from_services(buildable)), draft)
            results = _build(session, project, yard, wanted, handing)
            draft.services = [result.record for result in results]
    _report(session, results, time.monotonic() - began)
    _compare(session, project, draft.number)
    _end(session, results)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Handing:
    """What becomes of images that are built and checked.

    Attributes:
        tags: that they get beside their own references.
        is_pushed: True where they go to their registries.
        cache: where layers are looked for, and left.
        builder: apart from the engine, that builds them; None for the engine itself.
    """

    tags: tuple[str, ...]
    is_pushed: bool
    cache: RegistryCache
    builder: str | None


def _read_handing(
    project: Project,
    yard: Yard,
    services: Sequence[str],
    *,
    push: bool,
    builder: str | None,
    sources: Sequence[str],
    targets: Sequence[str],
) -> _Handing:
    """Reads what is wanted of images before anything is done for them.

    Raises:
        UsageError: it cannot be.
        EngineError: the engine cannot.
    """
    from builders.registrycache import check_export, read_cache  # noqa: PLC0415 - the builders, only for services
    from builders.services import choose_services  # noqa: PLC0415
    from builders.tagging import check_pushable, read_tags  # noqa: PLC0415

    if push:
        check_pushable(choose_services(yard.services, services))
    tags = read_tags(project.build.tags, root=project.root, today=lambda: datetime.now(UTC).date(), run=run_program)
    cache = read_cache(sources, targets)
    if cache.targets and builder is None:
        check_export(yard.engine())
    return _Handing(tags=tags, is_pushed=push, cache=cache, builder=builder)


def prepare_services(
    session: Session, yard: Yard, services: Sequence[str], *, frozen: bool, online: bool
) -> list[Prepared]:
    """Locks what is to be built, and decides how."""
    from builders.preparing import prepare  # noqa: PLC0415 - the builders, only for services
    from builders.services import choose_services  # noqa: PLC0415

    chosen = choose_services(yard.services, services)
    locked = _lock(yard, chosen, frozen=frozen)
    names = {service.name for service in chosen}
    prepared = prepare(locked, engine=yard.engine(), is_online=online, is_offline=session.offline)
    session.checkpoint()
    return [each for each in prepared if each.name in names]


def _lock(yard: Yard, chosen: Sequence[Service], *, frozen: bool) -> tuple[LockedService, ...]:
    """Locks every service of the project, since what is shared depends on all; else at least those that are built."""
    from builders.errors import BuildError  # noqa: PLC0415

    try:
        return yard.lock(yard.services, frozen=frozen)
    except (BuildError, LockError):
        if len(chosen) == len(yard.services):
            raise
        return yard.lock(chosen, frozen=frozen)


def _failed_first(session: Session, project: Project, wanted: Sequence[Prepared]) -> list[Prepared]:
    """Returns the services as they are built, those that failed first: whoever mended something soon sees it."""
    failing: frozenset[str] = frozenset()
    with suppress(StoreError):  # no order is worth a build
        failing = run_log(session, project).history().failing([each.name for each in wanted])
    ordered = sorted(wanted, key=lambda each: each.name not in failing)
    if ordered != list(wanted):
        names = ", ".join(each.name for each in ordered if each.name in failing)
        session.note("info", f"what failed last time is built first: {names}")
    return ordered


def _build(
    session: Session, project: Project, yard: Yard, wanted: Sequence[Prepared], handing: _Handing
) -> list[ServiceResult]:
    from builders.build import build_services  # noqa: PLC0415
    from builders.elsewhere import Elsewhere  # noqa: PLC0415
    from builders.engineroom import check_room  # noqa: PLC0415
    from builders.outfit import Workshop  # noqa: PLC0415

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
        tags=handing.tags,
        is_pushed=handing.is_pushed,
        cache=handing.cache,
    )
    check_room(wanted, engine=workshop.engine, store=session.store)
    with TemporaryDirectory(prefix="wheelcache-layouts-") as folder:
        if handing.builder is not None:
            workshop = replace(workshop, elsewhere=Elsewhere(name=handing.builder, folder=Path(folder)))
        results = build_services(_failed_first(session, project, wanted), workshop)
    places = [each.name for each in wanted]
    return sorted(results, key=lambda result: places.index(result.name))


def _report(session: Session, results: Sequence[ServiceResult], seconds: float) -> None:
    """Says what became of each service."""
    session.document["services"] = [_row(result) for result in results]
    session.document["seconds"] = round(seconds, 3)
    width = max((len(result.name) for result in results), default=0)
    for result in results:
        base = f"  on {result.shared_base}" if result.shared_base else ""
        session.say(f"{result.name:<{width}}  {result.state:<9}  {result.seconds:7.1f} s  {result.image}{base}")


def _compare(session: Session, project: Project, number: int) -> None:
    """Says what took how long, beside the run before."""
    run = None
    if number:
        with suppress(StoreError):  # a missing comparison is no failure of what was built
            history = run_log(session, project).history()
            run = history.run(number)
    if run is None:
        session.document["report"] = None
        return
    rows = rows_of(history, run)
    session.document["report"] = document_of(run, rows)
    say_short(session, rows)


def _end(session: Session, results: Sequence[ServiceResult]) -> None:
    """Ends the run.

    Raises:
        BuildError: a service failed.
    """
    from builders.errors import BuildError  # noqa: PLC0415

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
        "tags": list(result.tags),
        "pushed": dict(result.pushed),
        "failure": None
        if failure is None
        else {
            "class": failure.fault,
            "message": failure.message,
            "hint": failure.hint,
            "log": str(failure.log) if failure.log is not None else None,
        },
    }
