"""`wheelcache wheelhouse`: a folder with exactly the locked wheels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from wheelcache.cli.app import global_options
from wheelcache.cli.lockfiles import Locked, read_locked, split_arguments, standing_lockfiles
from wheelcache.cli.options import target_options, with_flags
from wheelcache.cli.session import Session, describe_bytes, describe_wheels
from wheelcache.errors import UsageError


@click.command("wheelhouse")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.argument("arguments", metavar="[SERVICE | LOCKFILE]...", nargs=-1)
@target_options
@global_options
@click.pass_obj
def command(
    session: Session,
    folder: Path,
    arguments: tuple[str, ...],
    python: str | None,
    platform: str | None,
    index_url: str | None,
) -> None:
    """Give DIR exactly the locked wheels, and a requirements file with hashes for each lockfile.

    Then, without any index: pip install --no-index --find-links DIR -r DIR/requirements.SERVICE.txt

    Example: wheelcache wheelhouse wheels ml
    """
    from wheelcache.wheelhouse import write_wheelhouse  # noqa: PLC0415

    project = with_flags(session.project, python=python, platform=platform, index_url=index_url)
    services, files = split_arguments(arguments)
    locked = [read_locked(file, session, project, is_target_given=python is not None) for file in files]
    if services or not files:
        locked += standing_lockfiles(project, services, session, is_target_given=python is not None)
    _refuse_equal_names(locked)
    needed = [wheel.digest for each in locked for wheel in each.wheels]
    session.resources.enter_context(session.roots.lease(needed, command=session.command))  # until they are handed out
    written = write_wheelhouse(folder, {_name(each.path): each.wheels for each in locked}, session.store)
    size = sum({wheel.digest: wheel.size or 0 for each in locked for wheel in each.wheels}.values())
    count = len({wheel.digest for each in locked for wheel in each.wheels})
    session.document.update(
        {"folder": str(folder), "wheels": count, "bytes": size, "requirements": dict(written.requirements)}
    )
    session.say(f"{folder}: {describe_wheels(count)}, {describe_bytes(size)}")


def _refuse_equal_names(locked: Sequence[Locked]) -> None:
    paths = {each.path.absolute() for each in locked}
    for path in paths:
        others = [other for other in paths if other != path and _name(other) == _name(path)]
        if others:
            raise UsageError(
                f"{path} and {others[0]} would both be requirements.{_name(path)}.txt",
                hint="make a wheelhouse for each, or rename one of the lockfiles",
            )


def _name(path: Path) -> str:
    """Returns what stands between `pylock.` and `.toml`, else the file's own stem."""
    return path.stem.removeprefix("pylock.")
