"""`wheelcache pin` and `wheelcache unpin`: wheels that stay in the store, whoever needs them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from wheelcache.cli.app import global_options
from wheelcache.cli.lockfiles import is_lockfile, read_locked
from wheelcache.cli.options import target_options, with_flags
from wheelcache.cli.session import Session
from wheelcache.config import Project
from wheelcache.digest import Digest, hex_of
from wheelcache.errors import UsageError

if TYPE_CHECKING:
    from wheelcache.catalog import Entry

_HEX: Final = re.compile(r"(?:sha256:)?([0-9a-f]{8,64})", re.IGNORECASE)
_SHOWN: Final = 5
"""How many wheels a hint names."""

_FORMS: Final = "name it by its digest (or 8 hex digits of it or more), its file name, or name==version"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Chosen:
    """A wheel that an argument names."""

    digest: Digest
    shown: str
    is_here: bool


@click.command("pin")
@click.argument("arguments", metavar="[WHEEL | LOCKFILE]...", nargs=-1, required=True)
@target_options
@global_options
@click.pass_obj
def command(
    session: Session, arguments: tuple[str, ...], python: str | None, platform: str | None, index_url: str | None
) -> None:
    """Keep wheels in the store until they are unpinned, even those that no project needs.

    WHEEL is a digest (or its first 8 hex digits or more), a file name, or name==version; a LOCKFILE stands for all of
    its wheels, those included that are not in the store yet.

    Example: wheelcache pin torch==2.8.0 pylock.ml.toml
    """
    project = with_flags(session.project, python=python, platform=platform, index_url=index_url)
    chosen = _choose(session, project, arguments, is_target_given=python is not None)
    before = session.roots.pinned()
    session.roots.pin(chosen)
    _report(session, chosen.values(), before, is_pinned=True)


@click.command("unpin")
@click.argument("arguments", metavar="[WHEEL | LOCKFILE]...", nargs=-1, required=True)
@target_options
@global_options
@click.pass_obj
def unpin(
    session: Session, arguments: tuple[str, ...], python: str | None, platform: str | None, index_url: str | None
) -> None:
    """Take pins away; what still needs a wheel keeps it.

    Example: wheelcache unpin torch==2.8.0
    """
    project = with_flags(session.project, python=python, platform=platform, index_url=index_url)
    chosen = _choose(session, project, arguments, is_target_given=python is not None)
    before = session.roots.pinned()
    session.roots.unpin(chosen)
    _report(session, chosen.values(), before, is_pinned=False)


def _choose(
    session: Session, project: Project, arguments: Sequence[str], *, is_target_given: bool
) -> dict[Digest, _Chosen]:
    """Returns what all arguments name, or refuses all of them."""
    from wheelcache.inventory import take_inventory  # noqa: PLC0415 - SQLite

    entries = take_inventory(session.store)
    others = session.roots.pinned() - entries.keys()
    chosen: dict[Digest, _Chosen] = {}
    for argument in arguments:
        if is_lockfile(argument) and not argument.endswith(".whl"):
            locked = read_locked(Path(argument), session, project, is_target_given=is_target_given)
            names = {wheel.digest: wheel.filename for wheel in locked.wheels}
        else:
            names = _named(argument, entries, others)
        for digest, name in names.items():
            chosen[digest] = _Chosen(digest=digest, shown=name, is_here=digest in entries)
    return chosen


def _named(argument: str, entries: Mapping[Digest, Entry], others: Iterable[Digest]) -> dict[Digest, str]:
    """Returns the wheels that *argument* names.

    Args:
        argument: a digest or its beginning, a file name, or name==version.
        entries: what is in the store.
        others: what is pinned, and not in the store.

    Raises:
        UsageError: it names none, or several by the beginning of a digest.
    """
    shown = {digest: entry.filename or digest for digest, entry in entries.items()}
    if match := _HEX.fullmatch(argument):
        shown |= {digest: digest for digest in others}
        found = {digest: name for digest, name in shown.items() if hex_of(digest).startswith(match[1].lower())}
        if len(found) > 1:
            raise UsageError(
                f"{argument}: expected the beginning of one digest, found {len(found)} that begin so",
                hint=f"write more of it: {_some(found)}",
            )
    elif argument.endswith(".whl"):
        found = {digest: name for digest, name in shown.items() if _is_same_file(Path(argument).name, name)}
    else:
        found = {digest: name for digest, name in shown.items() if _is_version(argument, entries[digest])}
    if not found:
        raise UsageError(f"{argument}: expected a wheel in the store, found none", hint=_near(argument, entries))
    return found


def _is_same_file(asked: str, known: str) -> bool:
    """True for one file name, and for two that differ in spelling or in the order of their tags only."""
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename  # noqa: PLC0415

    try:
        return asked == known or parse_wheel_filename(asked) == parse_wheel_filename(known)
    except InvalidWheelFilename:
        return False


def _is_version(asked: str, entry: Entry) -> bool:
    """True where *asked* is `name==version` of the entry, however it is spelt (PEP 503, PEP 440)."""
    from packaging.utils import canonicalize_name, canonicalize_version  # noqa: PLC0415

    name, equals, version = asked.partition("==")
    is_version = canonicalize_version(version.strip()) == canonicalize_version(entry.version)
    return bool(equals) and canonicalize_name(name.strip()) == entry.name and is_version


def _near(argument: str, entries: Mapping[Digest, Entry]) -> str:
    """Says what in the store comes near to *argument*."""
    from packaging.utils import canonicalize_name  # noqa: PLC0415

    if not entries:
        return "the store is empty: run wheelcache sync first, or pin a lockfile"
    name = str(canonicalize_name(re.split(r"==|-\d|[<>=!~@ ]", argument.removesuffix(".whl"))[0]))
    known = {entry.name for entry in entries.values() if entry.name}
    near = {name} & known or set(get_close_matches(name, sorted(known), n=3))
    versions = sorted({f"{entry.name}=={entry.version}" for entry in entries.values() if entry.name in near})
    return f"the store has {_some(versions)}" if versions else f"{_FORMS}: see wheelcache list -v"


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    more = f", and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return ", ".join(listed[:_SHOWN]) + more


def _report(session: Session, chosen: Iterable[_Chosen], before: set[Digest], *, is_pinned: bool) -> None:
    needs = session.roots.survey().reasons
    rows = []
    for wheel in chosen:
        was_pinned = wheel.digest in before
        if is_pinned:
            said = "was pinned already" if was_pinned else "pinned"
            said += "" if wheel.is_here else ", not in the store yet"
        else:
            said = "unpinned" if was_pinned else "was not pinned"
            said += f", still needed by {', '.join(needs[wheel.digest])}" if wheel.digest in needs else ""
        session.say(f"{wheel.shown}: {said}")
        rows.append(
            {
                "digest": wheel.digest,
                "filename": wheel.shown if wheel.shown != wheel.digest else None,
                "present": wheel.is_here,
                "pinned": is_pinned,
                "changed": was_pinned != is_pinned,
            }
        )
    session.document["wheels"] = rows
