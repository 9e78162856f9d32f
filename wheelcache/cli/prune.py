"""`wheelcache prune`: what nobody needs goes, the least recently used first."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from wheelcache.cli.app import global_options
from wheelcache.cli.list import describe_reasons
from wheelcache.cli.options import AmountType
from wheelcache.cli.session import Session, describe_bytes
from wheelcache.errors import UsageError, WheelcacheError

if TYPE_CHECKING:
    from wheelcache.digest import Digest
    from wheelcache.holdings import Holdings
    from wheelcache.prune import Pruned
    from wheelcache.pruneplan import Limits, Plan, Removal

_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 7 * 86_400.0}
_SHOWN: Final = 3
"""How many of the largest needed wheels are named."""


class AgeType(click.ParamType[float]):
    """Seconds, as people write a time: `30d`, `12h`."""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # noqa: ANN401
        """Returns the seconds that *value* means."""
        if isinstance(value, float):
            return value
        match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s*([smhdw])|0", str(value).strip())
        if not match:
            self.fail(f"expected a time such as 30d, 12h or 2w, found {value!r}", param, ctx)
        return float(match[1]) * _UNITS[match[2]] if match[1] else 0.0


@click.command("prune")
@click.option(
    "--max-size",
    type=AmountType(),
    metavar="SIZE",
    help="Until the store has at most this much, such as 60GB; default: the project file's cache.max-size.",
)
@click.option(
    "--older-than",
    type=AgeType(),
    metavar="AGE",
    help="What was not used for so long, such as 12h or 2w; default: 30d, and for wheels none where a size is given.",
)
@click.option("--all", "is_all", is_flag=True, help="All that nobody needs, however recently it was used.")
@click.option("--images", is_flag=True, help="Old images that no known project is built with, too.")
@click.option("--dry-run", is_flag=True, help="Say what would go; remove nothing.")
@global_options
@click.pass_obj
def command(
    session: Session, max_size: int | None, older_than: float | None, is_all: bool, images: bool, dry_run: bool
) -> None:
    """Remove from the store what no project's lockfile, no running command and no pin needs.

    Wheels go the least recently used first; and old partials, views, quarantined files and what killed runs left.

    Example: wheelcache prune --max-size 60GB --dry-run
    """
    from wheelcache.holdings import take_holdings  # noqa: PLC0415 - SQLite
    from wheelcache.prune import Pruned, prune  # noqa: PLC0415
    from wheelcache.pruneplan import Limits  # noqa: PLC0415

    size = (session.project.cache.max_size or None) if max_size is None else max_size
    limits = Limits(max_size=size, older_than=older_than, is_all=is_all)
    if images:
        from wheelcache.cli.images import check_engine, prune_images  # noqa: PLC0415 - the builders

        check_engine(session)
    needed = session.roots.needed()
    holdings = take_holdings(session.store, session.roots, now=time.time())
    if not is_all:
        _refuse_if_rootless(session, holdings)
    plan = _decide(session, holdings, needed, limits)
    if dry_run:
        done = Pruned(removed=list(plan.removals), freed=plan.freed, store_bytes=plan.store_bytes)
    else:
        done = prune(session.store, session.roots, holdings, plan, stop=session.stop)
    kept = _kept_rows(holdings, needed)
    session.document.update({"dry_run": dry_run, **_document(done), "kept_needed": kept})
    _say(session, done, is_dry=dry_run)
    if size is not None and done.store_bytes > size:
        session.note("warning", _shortfall(size, done.store_bytes, kept))
    session.checkpoint()
    if images:
        prune_images(session, age=limits.age, is_all=is_all, is_dry=dry_run)


def prune_after_sync(session: Session, max_size: int) -> None:
    """Brings the store to at most *max_size* bytes; says so only where something had to go.

    What goes wrong is warned of: the sync itself was done.
    """
    from wheelcache.holdings import take_holdings  # noqa: PLC0415 - not needed where no size is given
    from wheelcache.prune import prune  # noqa: PLC0415
    from wheelcache.pruneplan import Limits, Tally  # noqa: PLC0415

    try:
        holdings = take_holdings(session.store, session.roots, now=time.time())
        if Tally(holdings).store_bytes <= max_size:
            return
        needed = session.roots.needed()
        plan = _decide(session, holdings, needed, Limits(max_size=max_size))
        done = prune(session.store, session.roots, holdings, plan, stop=session.stop)
    except WheelcacheError as error:
        session.note("warning", f"cache.max-size: not pruned: {error.message}")
        return
    if done.removed:
        session.document["pruned"] = _document(done)
        session.note("info", f"cache.max-size: {_summary(done, is_dry=False)}")
        for removal in done.removed:
            session.note("debug", _line(removal, is_dry=False))
    if done.store_bytes > max_size:
        session.note("debug", _shortfall(max_size, done.store_bytes, _kept_rows(holdings, needed)))


def _decide(session: Session, holdings: Holdings, needed: Mapping[Digest, Sequence[str]], limits: Limits) -> Plan:
    from wheelcache.pruneplan import plan_prune  # noqa: PLC0415

    leases = session.roots.leases()
    return plan_prune(
        holdings,
        needed=needed.keys(),
        leased={digest for lease in leases for digest in lease.digests},
        limits=limits,
        now=time.time(),
        is_idle=not leases,
    )


def _refuse_if_rootless(session: Session, holdings: Holdings) -> None:
    """Refuses a store of which nobody ever said who needs what.

    Raises:
        UsageError: it is one.
    """
    roots = session.roots
    if holdings.of_kind("wheel", "partial") and not (roots.projects() or roots.pinned() or roots.leases()):
        raise UsageError(
            f"{session.cache_root}: no project, pin or running command is known, so everything would count as unneeded",
            hint="run wheelcache sync in each project that uses this store, or pin wheels; --all removes all there is",
        )


def _document(done: Pruned) -> dict[str, Any]:
    return {
        "removed": [_row(removal) for removal in done.removed],
        "freed_bytes": done.freed,
        "store_bytes": done.store_bytes,
    }


def _row(removal: Removal) -> dict[str, Any]:
    item = removal.holding
    return {
        "kind": item.kind,
        "path": str(item.path),
        "name": item.name,
        "size": item.size,
        "last_used": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(item.last_used)),
        "reason": removal.reason,
    }


def _kept_rows(holdings: Holdings, needed: Mapping[Digest, Sequence[str]]) -> list[dict[str, Any]]:
    """Returns the wheels that are needed, the largest first."""
    wheels = [(wheel, digest) for wheel in holdings.of_kind("wheel") for digest in wheel.digests if digest in needed]
    return [
        {"name": wheel.name, "digest": digest, "size": wheel.size, "needed_by": list(needed[digest])}
        for wheel, digest in sorted(wheels, key=lambda each: (-each[0].size, each[0].name))
    ]


def _say(session: Session, done: Pruned, *, is_dry: bool) -> None:
    for removal in done.removed:
        if removal.holding.kind in {"project", "lease"} and session.verbosity <= 0:
            continue
        session.say(_line(removal, is_dry=is_dry))
    for removal in done.kept:
        session.note("debug", f"kept: {removal.holding.name}: needed, used or written since it was looked at")
    session.say(_summary(done, is_dry=is_dry))


def _line(removal: Removal, *, is_dry: bool) -> str:
    item = removal.holding
    day = time.strftime("%Y-%m-%d", time.gmtime(item.last_used))
    verb = "would remove" if is_dry else "removed"
    return f"{verb} {item.kind} {item.name}  {describe_bytes(item.size)}  last used {day}: {removal.reason}"


def _summary(done: Pruned, *, is_dry: bool) -> str:
    counted = [removal for removal in done.removed if removal.holding.kind not in {"project", "lease"}]
    if not counted:
        return f"nothing to remove; the store has {describe_bytes(done.store_bytes)}"
    words = "to remove, {} to free; the store would have {}" if is_dry else "removed, {} freed; the store has {}"
    return f"{len(counted)} {words.format(describe_bytes(done.freed), describe_bytes(done.store_bytes))}"


def _shortfall(size: int, store_bytes: int, kept: Sequence[Mapping[str, Any]]) -> str:
    """Says why the store is larger than wanted."""
    largest = [
        f"{row['name']} ({describe_bytes(row['size'])}, {describe_reasons(row['needed_by'], is_whole=False)})"
        for row in kept[:_SHOWN]
    ]
    names = f"; the largest: {', '.join(largest)}" if largest else ""
    total = sum(row["size"] for row in kept)
    return (
        f"the store cannot be brought to {describe_bytes(size)}: it has {describe_bytes(store_bytes)}, of which "
        f"{describe_bytes(total)} are wheels that are needed{names}"
    )
