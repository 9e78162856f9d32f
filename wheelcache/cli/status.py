"""`wheelcache status`: what the store holds of each lockfile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from wheelcache.cli.app import global_options
from wheelcache.cli.lockfiles import Locked, read_locked, split_arguments, standing_lockfiles
from wheelcache.cli.options import target_options, with_flags
from wheelcache.cli.session import Session, describe_bytes


@click.command("status")
@click.argument("arguments", metavar="[SERVICE | LOCKFILE]...", nargs=-1)
@target_options
@global_options
@click.pass_obj
def command(
    session: Session, arguments: tuple[str, ...], python: str | None, platform: str | None, index_url: str | None
) -> None:
    """Show what the store holds of each lockfile: present, partial, missing, bytes to go.

    Example: wheelcache status ml
    """
    project = with_flags(session.project, python=python, platform=platform, index_url=index_url)
    services, files = split_arguments(arguments)
    locked = [read_locked(file, session, project, is_target_given=python is not None) for file in files]
    if services or not files:
        locked += standing_lockfiles(project, services, session, is_target_given=python is not None)
    rows = [_row(each, session) for each in locked]
    session.document["store"] = str(session.cache_root)
    session.document["lockfiles"] = rows
    session.say(f"store: {session.cache_root}")
    for row in rows:
        state = (
            "complete" if not row["missing"] and not row["partial"] else f"{describe_bytes(row['bytes_to_go'])} to go"
        )
        session.say(
            f"{row['label']}: {state} ({row['present']} present, {row['partial']} partial, {row['missing']} missing, "
            f"{describe_bytes(row['bytes'])} in all)  {row['path']}"
        )


def _row(locked: Locked, session: Session) -> dict[str, Any]:
    present = [wheel for wheel in locked.wheels if session.store.has(wheel)]
    absent = [wheel for wheel in locked.wheels if wheel not in present]
    held = {wheel.digest: session.store.partial_bytes(wheel.digest) for wheel in absent}
    partial = [wheel for wheel in absent if held[wheel.digest]]
    return {
        "path": str(_shown(locked.path)),
        "label": locked.label,
        "services": list(locked.services),
        "wheels": len(locked.wheels),
        "present": len(present),
        "partial": len(partial),
        "missing": len(absent) - len(partial),
        "bytes": locked.size,
        "bytes_to_go": sum(max(0, (wheel.size or 0) - held[wheel.digest]) for wheel in absent),
    }


def _shown(path: Path) -> Path:
    """Returns *path* relative to the working directory where it lies below it."""
    absolute = path.absolute()
    return absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else absolute
