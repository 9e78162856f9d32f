"""What `build --dry-run` shows: how each service would be built, what it shares, and why it is built anew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from wheelcache.cli.recording import run_log
from wheelcache.cli.services import Yard
from wheelcache.cli.session import Session, describe_bytes, describe_wheels
from wheelcache.config import Project

if TYPE_CHECKING:
    from builders.preparing import Prepared
    from wheelcache.lock import LockedWheel
    from wheelcache.runlog import History

_NAMED: Final = 4
"""As many wheels as a line names, the largest."""


def show_plans(session: Session, project: Project, yard: Yard, wanted: Sequence[Prepared]) -> None:
    """Says how each service would be built.

    Raises:
        EngineError: the engine does not answer.
        StoreError: the records cannot be read.
    """
    from builders.workspace import difference, rewritten  # noqa: PLC0415 - the builders, only for services

    history = run_log(session, project).history()
    for each in wanted:
        shared = each.shared.wheels if each.shared is not None else ()
        why = _reasons(each, history, yard) if each.refusal is None else ()
        _say(session, each, shared, why)
        diff = difference(each.reading, rewritten(each.reading, mode=each.mode, offline=session.offline))
        session.say(diff)
        session.document["services"].append(
            {
                "name": each.name,
                "mode": each.mode,
                "why_online": each.why_online or None,
                "shared_wheels": [wheel.filename for wheel in shared],
                "shared_with": list(_others(each)),
                "shared_bytes": _size(shared),
                "why_own": each.why_own or None,
                "mounted_wheels": [wheel.filename for wheel in each.own_wheels],
                "mounted_bytes": _size(each.own_wheels),
                "why_built": list(why),
                "refused": each.refusal.message if each.refusal is not None else None,
                "difference": diff,
            }
        )


def _say(session: Session, prepared: Prepared, shared: Sequence[LockedWheel], why: Sequence[str]) -> None:
    if prepared.refusal is not None:
        session.say(f"{prepared.name}: refused: {prepared.refusal.message}\n  {prepared.refusal.hint}")
        return
    session.say(f"{prepared.name}: {prepared.mode}" + (f" ({prepared.why_online})" if prepared.why_online else ""))
    if shared:
        session.say(f"  shares {_described(shared)} with {', '.join(_others(prepared))}")
    else:
        session.say(f"  shares nothing: {prepared.why_own}")
    session.say(f"  installs itself: {_described(prepared.own_wheels)}")
    session.say(f"  why: {'; '.join(why)}")


def _reasons(prepared: Prepared, history: History, yard: Yard) -> tuple[str, ...]:
    from builders.labels import labels_of  # noqa: PLC0415 - see above
    from builders.rebuilds import reasons  # noqa: PLC0415
    from builders.recording import basis_of  # noqa: PLC0415

    engine = yard.engine()
    now = basis_of(prepared, engine=engine, labels=labels_of(prepared, run=yard.builder().run))
    builds = [build for build in history.builds(prepared.name) if build.state != "skipped"]
    done = next((build for build in builds if build.is_done), None)
    return reasons(prepared, now, done=done, last=builds[0] if builds else None, engine=engine)


def _described(wheels: Sequence[LockedWheel]) -> str:
    """Returns `3 wheels, 1.2 GB: torch 2.8.0 888 MB, …`."""
    if not wheels:
        return describe_wheels(0)
    largest = sorted(wheels, key=lambda wheel: (-(wheel.size or 0), wheel.name))[:_NAMED]
    names = [f"{wheel.name} {wheel.version} {describe_bytes(wheel.size or 0)}" for wheel in largest]
    more = [f"{len(wheels) - _NAMED} more"] if len(wheels) > _NAMED else []
    return f"{describe_wheels(len(wheels))}, {describe_bytes(_size(wheels))}: {', '.join([*names, *more])}"


def _others(prepared: Prepared) -> tuple[str, ...]:
    names = prepared.shared.services if prepared.shared is not None else ()
    return tuple(name for name in names if name != prepared.name)


def _size(wheels: Sequence[LockedWheel]) -> int:
    return sum(wheel.size or 0 for wheel in wheels)
