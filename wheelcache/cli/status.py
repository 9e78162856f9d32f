"""`wheelcache status`: what the store holds of each lockfile, and all in all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wheelcache.cli.app import global_options
from wheelcache.cli.list import survey_needs
from wheelcache.cli.lockfiles import Locked, read_locked, split_arguments, standing_lockfiles
from wheelcache.cli.options import target_options, with_flags
from wheelcache.cli.session import Session, describe_bytes, describe_wheels
from wheelcache.config import Project
from wheelcache.faults import host_of

if TYPE_CHECKING:
    from wheelcache.lock import LockedWheel


@click.command("status")
@click.argument("arguments", metavar="[SERVICE | LOCKFILE]...", nargs=-1)
@target_options
@global_options
@click.pass_obj
def command(
    session: Session, arguments: tuple[str, ...], python: str | None, platform: str | None, index_url: str | None
) -> None:
    """Show what the store holds of each lockfile, what is to go, and the store as a whole; with -v wheel by wheel.

    Example: wheelcache status ml
    """
    project = with_flags(session.project, python=python, platform=platform, index_url=index_url)
    locked = _locked(session, project, arguments, is_target_given=python is not None)
    rates = {host: record.rate for host, record in session.store.host_records().items() if record.rate}
    rows = [_row(each, session, rates, limit=project.download.limit_rate) for each in locked]
    totals = _totals(session)
    session.document.update({"store": str(session.cache_root), "lockfiles": rows, "totals": totals})
    session.say(f"store: {session.cache_root}")
    _say_totals(session, totals)
    for row in rows:
        _say_row(session, row)


def _locked(session: Session, project: Project, arguments: Sequence[str], *, is_target_given: bool) -> list[Locked]:
    services, files = split_arguments(arguments)
    locked = [read_locked(file, session, project, is_target_given=is_target_given) for file in files]
    is_nowhere = not arguments and project.file is None and not any(project.root.glob("pylock*.toml"))
    if services or not (files or is_nowhere):
        locked += standing_lockfiles(project, services, session, is_target_given=is_target_given)
    return locked


def _row(locked: Locked, session: Session, rates: Mapping[str, float], *, limit: int) -> dict[str, Any]:
    absent = [wheel for wheel in locked.wheels if not session.store.has(wheel)]
    to_fetch = [_absent_row(wheel, session.store.partial_bytes(wheel.digest)) for wheel in absent]
    partial = sum(row["state"] == "partial" for row in to_fetch)
    return {
        "path": str(_shown(locked.path)),
        "label": locked.label,
        "services": list(locked.services),
        "wheels": len(locked.wheels),
        "present": len(locked.wheels) - len(absent),
        "partial": partial,
        "missing": len(absent) - partial,
        "bytes": locked.size,
        "bytes_to_go": sum(row["bytes_to_go"] or 0 for row in to_fetch),
        "expected_seconds": _expected_seconds(absent, to_fetch, rates, limit=limit),
        "to_fetch": to_fetch,
    }


def _absent_row(wheel: LockedWheel, held: int) -> dict[str, Any]:
    return {
        "name": wheel.name,
        "version": wheel.version,
        "filename": wheel.filename,
        "digest": wheel.digest,
        "size": wheel.size,
        "state": "partial" if held else "missing",
        "bytes_present": held,
        "bytes_to_go": None if wheel.size is None else max(0, wheel.size - held),
    }


def _expected_seconds(
    wheels: Sequence[LockedWheel], rows: Sequence[Mapping[str, Any]], rates: Mapping[str, float], *, limit: int
) -> float | None:
    """Returns how long what is to go takes as fast as each wheel's best host last was; None where that is unknown."""
    seconds = 0.0
    for wheel, row in zip(wheels, rows, strict=True):
        rate = max((rates.get(host_of(url), 0.0) for url in wheel.urls), default=0.0)
        if not rate or row["bytes_to_go"] is None:
            return None
        seconds += row["bytes_to_go"] / (min(rate, limit) if limit else rate)
    return round(seconds, 3)


def _totals(session: Session) -> dict[str, Any]:
    """Returns the store as a whole; `prunable` is None where what must stay is not known."""
    from wheelcache.inventory import partials_of, quarantine_of, take_inventory  # noqa: PLC0415 - SQLite

    entries = take_inventory(session.store)
    needs = survey_needs(session)
    unneeded = [entry.size for digest, entry in entries.items() if digest not in needs.reasons]
    partials = partials_of(session.store)
    quarantined = quarantine_of(session.store)
    return {
        "wheels": len(entries),
        "bytes": sum(entry.size for entry in entries.values()),
        "partials": {"count": len(partials), "bytes": sum(partials.values())},
        "quarantine": {"count": len(quarantined), "bytes": sum(quarantined.values())},
        "prunable": None if needs.damaged else {"count": len(unneeded), "bytes": sum(unneeded)},
    }


def _say_totals(session: Session, totals: Mapping[str, Any]) -> None:
    words = [f"{describe_wheels(totals['wheels'])}, {describe_bytes(totals['bytes'])}"]
    for name, what in (("partials", "begun"), ("quarantine", "in quarantine")):
        if totals[name]["count"]:
            words.append(f"{totals[name]['count']} {what}, {describe_bytes(totals[name]['bytes'])}")
    prunable = totals["prunable"]
    if prunable is not None and prunable["count"]:
        words.append(f"{prunable['count']} needed by nobody, {describe_bytes(prunable['bytes'])}")
    session.say(f"  {'; '.join(words)}")


def _say_row(session: Session, row: Mapping[str, Any]) -> None:
    state = "complete" if not row["to_fetch"] else f"{describe_bytes(row['bytes_to_go'])} to go"
    if row["to_fetch"] and row["expected_seconds"] is not None:
        state += f", about {_describe_seconds(row['expected_seconds'])}"
    session.say(
        f"{row['label']}: {state} ({row['present']} present, {row['partial']} partial, {row['missing']} missing, "
        f"{describe_bytes(row['bytes'])} in all)  {row['path']}"
    )
    if session.verbosity > 0:
        for wheel in row["to_fetch"]:
            size = "unknown size" if wheel["size"] is None else describe_bytes(wheel["size"])
            session.say(f"  {wheel['filename']}: {describe_bytes(wheel['bytes_present'])} of {size}")


def _describe_seconds(seconds: float) -> str:
    """Returns a time as people say it: `45 s`, `12 min`, `1 h 5 min`."""
    if seconds < 90:  # noqa: PLR2004 - up to here people count seconds
        return f"{max(round(seconds), 1)} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _shown(path: Path) -> Path:
    """Returns *path* relative to the working directory where it lies below it."""
    absolute = path.absolute()
    return absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else absolute
