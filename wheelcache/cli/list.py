"""`wheelcache list`: every wheel in the store, and who needs it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from wheelcache.cli.app import global_options
from wheelcache.cli.session import Session, describe_bytes, describe_wheels

if TYPE_CHECKING:
    from wheelcache.catalog import Entry
    from wheelcache.roots import Needs

_ORDERS: Final[dict[str, Callable[[Entry], Any]]] = {
    "size": lambda entry: (-entry.size, entry.filename, entry.digest),
    "name": lambda entry: (not entry.filename, entry.name, entry.filename, entry.digest),
    "used": lambda entry: (-entry.last_used, entry.filename, entry.digest),
}


@click.command("list")
@click.option("--sort", type=click.Choice(list(_ORDERS)), default="size", help="By what; default: the largest first.")
@global_options
@click.pass_obj
def command(session: Session, sort: str) -> None:
    """Show every wheel in the store: size, day of last use, file name, who needs it; with -v its digest too.

    Example: wheelcache list --sort used
    """
    from wheelcache.inventory import take_inventory  # noqa: PLC0415 - SQLite

    entries = sorted(take_inventory(session.store).values(), key=_ORDERS[sort])
    needs = survey_needs(session)
    total = sum(entry.size for entry in entries)
    session.document.update(
        {"store": str(session.cache_root), "wheels": [_row(entry, needs) for entry in entries], "bytes": total}
    )
    width = max((len(entry.filename or entry.digest) for entry in entries), default=0)
    for entry in entries:
        reasons = describe_reasons(needs.reasons.get(entry.digest, ()), is_whole=session.verbosity > 0)
        day = time.strftime("%Y-%m-%d", time.gmtime(entry.last_used))
        name = entry.filename or entry.digest
        session.say(f"{describe_bytes(entry.size):>7}  {day}  {name:<{width}}  {reasons or '-'}")
        if session.verbosity > 0 and entry.filename:
            session.say(f"{'':21}{entry.digest}")
    unneeded = [entry.size for entry in entries if entry.digest not in needs.reasons]
    more = f"; {len(unneeded)} needed by nobody, {describe_bytes(sum(unneeded))}" if unneeded else ""
    session.say(f"{describe_wheels(len(entries))}, {describe_bytes(total)}{more}")


def survey_needs(session: Session) -> Needs:
    """Returns who needs what, and warns of files that nobody can read: what they need would count as unneeded."""
    needs = session.roots.survey()
    for file, wrong in needs.damaged.items():
        session.note("warning", f"{file}: {wrong}; what it keeps is unknown")
    return needs


def describe_reasons(reasons: Sequence[str], *, is_whole: bool) -> str:
    """Returns who needs a wheel, in a few words or all."""
    if len(reasons) > 1 and not is_whole:
        return f"{reasons[0]}, and {len(reasons) - 1} more"
    return ", ".join(reasons)


def _row(entry: Entry, needs: Needs) -> dict[str, object]:
    reasons = needs.reasons.get(entry.digest, ())
    return {
        "name": entry.name or None,
        "version": entry.version or None,
        "filename": entry.filename or None,
        "digest": entry.digest,
        "size": entry.size,
        "last_used": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(entry.last_used)),
        "pinned": "pinned" in reasons,
        "needed_by": list(reasons),
    }
