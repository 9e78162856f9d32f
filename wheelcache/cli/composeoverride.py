"""`wheelcache compose-override`: a file with which plain `docker compose build` uses store and shared bases."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from wheelcache.cli.app import global_options
from wheelcache.cli.build import prepare_services
from wheelcache.cli.lockfiles import from_services
from wheelcache.cli.options import compose_options, with_flags
from wheelcache.cli.recording import recorded
from wheelcache.cli.services import Yard, open_yard
from wheelcache.cli.session import Session
from wheelcache.cli.sync import sync_locked
from wheelcache.config import Project
from wheelcache.digest import digest_of_bytes, hex_of
from wheelcache.errors import StaleLockError, StoreError, UsageError, WheelcacheError

if TYPE_CHECKING:
    from builders.override import Override
    from builders.preparing import Prepared

_NAME: Final = "compose.wheelcache.yml"
_STDOUT: Final = Path("-")
_KEY_DIGITS: Final = 12


@click.command("compose-override")
@click.argument("services", metavar="[SERVICE]...", nargs=-1)
@compose_options
@click.option(
    "--output",
    "-o",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help=f"Where to write it; - for stdout. Default: {_NAME} beside the compose file.",
)
@click.option("--frozen", is_flag=True, help="Use the lockfiles as they stand, stale or not.")
@click.option("--online", is_flag=True, help="Let pip and uv ask their indexes for what the wheels do not cover.")
@click.option("--check", is_flag=True, help="Write nothing; exit 3 when the file has to be made anew.")
@global_options
@click.pass_obj
def command(
    session: Session,
    services: tuple[str, ...],
    files: tuple[Path, ...],
    output: Path | None,
    frozen: bool,
    online: bool,
    check: bool,
) -> None:
    """Lock and sync what is needed, and write a file to lay over the compose file of a plain `docker compose build`.

    Example: wheelcache compose-override && docker compose -f docker-compose.yml -f compose.wheelcache.yml build
    """
    project = with_flags(session.project, files=files)
    if not project.compose:
        raise UsageError("expected a compose file, found none", hint="name it: --file docker-compose.yml")
    if check and output == _STDOUT:
        raise UsageError("--check: expected a file to compare with, found stdout", hint="leave out one of the two")
    beside = (project.root / project.compose[0]).parent / _NAME
    file = beside if output is None else output
    session.document |= {"file": str(file), "services": []}
    with open_yard(session, project, is_eager=True) as yard:
        if check:
            _refuse_stale_lockfiles(yard)
            wanted = _composed(prepare_services(session, yard, services, frozen=True, online=online))
            _check(file, _override(session, project, yard, wanted, of=file), yard)
            session.say(f"{file}: up to date")
            return
        # What the way there says is no part of the file.
        with recorded(session, project) as draft, redirect_stdout(sys.stderr if file == _STDOUT else sys.stdout):
            wanted = _composed(prepare_services(session, yard, services, frozen=frozen, online=online))
            sync_locked(session, project, list(from_services([each.locked for each in wanted])), draft)
            done, failures = _make_images(session, project, yard, wanted)
        override = _override(session, project, yard, done, of=beside if file == _STDOUT else file)
        _write(session, override, file, done)
    _end(failures)


def _composed(prepared: Sequence[Prepared]) -> list[Prepared]:
    """Returns the services that compose knows and that install something: what others need compose does by itself."""
    return [each for each in prepared if each.reading.service.compose is not None and each.reading.installs]


def _refuse_stale_lockfiles(yard: Yard) -> None:
    locked = yard.lock(yard.services, check=True)
    if stale := [f"{each.path.name} ({each.reason})" for each in locked if each.state == "stale"]:
        raise StaleLockError(f"stale: {', '.join(stale)}", hint="run wheelcache compose-override")


def _make_images(
    session: Session, project: Project, yard: Yard, wanted: Sequence[Prepared]
) -> tuple[list[Prepared], dict[str, WheelcacheError]]:
    """Makes the images that builds need; one service that cannot have them does not keep the others from it."""
    from builders.errors import EngineError  # noqa: PLC0415 - the builders, only for services
    from builders.outfit import Bases, Workshop, make_shared_base, make_wheel_image  # noqa: PLC0415

    workshop = Workshop(
        engine=yard.engine(),
        store=session.store,
        builder=yard.builder(),
        settings=project.build,
        indexes=project.indexes,
        offline=session.offline,
        emit=session.emit,
    )
    bases: Bases = {}
    done: list[Prepared] = []
    failures: dict[str, WheelcacheError] = {}
    for each in wanted:
        session.checkpoint()
        try:
            if each.refusal is not None:
                raise each.refusal
            make_shared_base(each, workshop, bases)
            make_wheel_image(each, workshop)
        except EngineError:
            raise
        except WheelcacheError as error:
            failures[each.name] = error
            continue
        if each.why_online:
            session.note("warning", f"{each.name} is built online: {each.why_online}")
        done.append(each)
    session.checkpoint()
    return done, failures


def _override(session: Session, project: Project, yard: Yard, wanted: Sequence[Prepared], *, of: Path) -> Override:
    """Returns the override; *of* is the file that the folder below the cache folder belongs to."""
    from builders.labels import REVISION, labels_of  # noqa: PLC0415 - the builders, only for services
    from builders.outfit import dress  # noqa: PLC0415
    from builders.override import make_override  # noqa: PLC0415

    dressings = []
    for each in wanted:
        labels = labels_of(each, run=yard.builder().run)
        labels.pop(REVISION, None)  # the file lasts longer than a revision
        dressings.append(
            dress(each, settings=project.build, indexes=project.indexes, offline=session.offline, labels=labels)
        )
    key = hex_of(digest_of_bytes(bytes(of.absolute())))[:_KEY_DIGITS]
    return make_override(dressings, home=session.store.root / "v1" / "overrides" / key)


def _check(file: Path, override: Override, yard: Yard) -> None:
    """Compares an override with what it would be now.

    Raises:
        StaleLockError: it is another one, or something that it speaks of is gone.
    """
    again = "run wheelcache compose-override"
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise StaleLockError(f"{file}: expected an override that can be read, found none", hint=again) from error
    if text != override.text:
        raise StaleLockError(f"{file}: no longer answers to the Dockerfiles, lockfiles and base images", hint=again)
    gone = [image for image in override.images if yard.engine().image_id(image) is None]
    gone += [] if override.is_laid_out else [str(override.folder)]
    if gone:
        raise StaleLockError(f"{file}: needs what is gone: {', '.join(gone)}", hint=again)


def _write(session: Session, override: Override, file: Path, wanted: Sequence[Prepared]) -> None:
    from builders.override import forget_others, lay_out_override  # noqa: PLC0415 - the builders, only for services

    if not wanted:
        return
    lay_out_override(override)
    session.document["services"] = [
        {
            "name": each.name,
            "mode": each.mode,
            "why_online": each.why_online or None,
            "shared_with": list(each.shared.services) if each.shared is not None else [],
        }
        for each in wanted
    ]
    if file == _STDOUT:
        session.document["override"] = override.text
        session.say(override.text.rstrip("\n"))
        return
    try:
        file.write_text(override.text, encoding="utf-8")
    except OSError as error:
        raise StoreError(f"{file}: cannot be written: {error.strerror}", hint="name another one with -o") from error
    forget_others(override)
    names = ", ".join(each.name for each in wanted)
    session.say(f"{file}: {names}")


def _end(failures: dict[str, WheelcacheError]) -> None:
    """Ends the run.

    Raises:
        BuildError: a service is not in the file.
    """
    from builders.errors import BuildError  # noqa: PLC0415 - the builders, only for services

    if failures:
        words = "\n".join(f"{name}: {error.message}\n  hint: {error.hint}" for name, error in failures.items())
        raise BuildError(
            f"not in the file, and built by compose alone:\n{words}",
            hint="mend the cause, and run the same command again",
        )
