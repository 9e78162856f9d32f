"""`wheelcache verify`: every blob read, everything beside them looked at, and what is wrong put right on request."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Unpack

import click

from wheelcache.cli.app import global_options
from wheelcache.cli.lockfiles import Locked, read_locked, split_arguments, standing_lockfiles
from wheelcache.cli.options import Flags, download_options, target_options, with_flags
from wheelcache.cli.session import Session, describe_bytes
from wheelcache.cli.sync import fetch_wheels
from wheelcache.config import Project
from wheelcache.errors import IntegrityError, UsageError, WheelcacheError
from wheelcache.findings import Finding
from wheelcache.lock import LockedWheel
from wheelcache.redaction import printable

if TYPE_CHECKING:
    from wheelcache.digest import Digest
    from wheelcache.verify import Report


_AGAIN: Final = "run the same command again once its sources can be reached"
_UNKNOWN: Final = "no known lockfile names it: run wheelcache sync with one that does; only the damage is fetched"


@click.command("verify")
@click.argument("arguments", metavar="[SERVICE | LOCKFILE]...", nargs=-1)
@click.option("--repair", is_flag=True, help="Put right what is wrong, and fetch the damaged pieces of wheels.")
@click.option("--fast", is_flag=True, help="Read no blob: compare its size and times with those of its last reading.")
@target_options
@download_options
@global_options
@click.pass_obj
def command(
    session: Session,
    arguments: tuple[str, ...],
    repair: bool,
    fast: bool,
    **flags: Unpack[Flags],
) -> None:
    """Read every blob in the store, and say what is wrong there; with --repair, put it right.

    Lockfiles tell where wheels can be had: those named; else, for --repair, those of this project and of all others
    that were synced into this store.

    Example: wheelcache verify --repair
    """
    if repair and fast:
        raise UsageError(
            "--fast reads no blob, and so has nothing to repair", hint="run wheelcache verify --repair without --fast"
        )
    project = with_flags(session.project, **flags)
    wheels: list[LockedWheel] = []
    if repair or arguments:
        wheels = _known_wheels(session, project, arguments, is_target_given=flags["python"] is not None)
    from wheelcache.verify import usable_threads, verify_store  # noqa: PLC0415

    began = time.monotonic()
    repairs = _Repairs(session, project, wheels)
    if repair:
        repairs.prepare()
    report = verify_store(
        session.store,
        fast=fast,
        threads=usable_threads(),
        emit=session.emit,
        stop=session.stop,
        sizes=repairs.sizes,
    )
    read_seconds = time.monotonic() - began
    if repair:
        repairs.run(report)
    found = sorted([*repairs.before, *report.findings], key=lambda finding: (finding.path, finding.kind))
    findings = [replace(finding, hint=repairs.hints.get(finding, finding.hint)) for finding in found]
    session.document.update(
        {
            "findings": [{**finding.as_json(), "repaired": finding in repairs.done} for finding in findings],
            "blobs": report.blobs,
            "bytes": report.read,
            "bytes_fetched": repairs.fetched,
            "seconds": round(time.monotonic() - began, 3),
        }
    )
    _show(session, report, findings, repairs, read_seconds, fast=fast)
    session.checkpoint()
    if left := [finding for finding in findings if finding not in repairs.done and not finding.is_harmless]:
        raise _failure(left, is_repaired=repair)


def _known_wheels(
    session: Session, project: Project, arguments: Sequence[str], *, is_target_given: bool
) -> list[LockedWheel]:
    """Returns what the lockfiles lock that are named; else of all that are known, those that can be read."""
    services, files = split_arguments(arguments)
    locked = [read_locked(file, session, project, is_target_given=is_target_given) for file in files]
    if services:
        locked += standing_lockfiles(project, services, session, is_target_given=is_target_given)
    if not arguments:
        locked += _all_known(session, project, is_target_given=is_target_given)
    return [wheel for each in locked for wheel in each.wheels]


def _all_known(session: Session, project: Project, *, is_target_given: bool) -> Iterable[Locked]:
    own = sorted(project.root.glob("pylock*.toml"))
    others = [path for root in session.roots.projects() for path in root.standing() if path.suffix == ".toml"]
    for path in dict.fromkeys(path.resolve() for path in (*own, *others)):
        try:
            yield read_locked(path, session, project, is_target_given=is_target_given)
        except WheelcacheError as error:
            session.note("debug", f"left out: {error.message}")


class _Repairs:
    """What a run with --repair does; without it, nothing.

    Attributes:
        before: findings that were put right before the store was looked at.
        done: findings that are put right.
        hints: of findings that could not be put right, what to do now.
        fetched: bytes that came over the network.
    """

    def __init__(self, session: Session, project: Project, wheels: Sequence[LockedWheel]) -> None:
        self._session = session
        self._project = project
        self._wheels = wheels
        self.sizes = {wheel.digest: wheel.size for wheel in wheels if wheel.size is not None}
        self.before: list[Finding] = []
        self.done: list[Finding] = []
        self.hints: dict[Finding, str] = {}
        self.fetched = 0

    def prepare(self) -> None:
        """Puts a damaged catalog aside, so that looking at the blobs fills a new one."""
        from wheelcache.catalogcheck import check_catalog  # noqa: PLC0415
        from wheelcache.mend import put_catalog_aside  # noqa: PLC0415

        store = self._session.store
        self.before = check_catalog(store.root / "v1" / "catalog.sqlite")
        if self.before:
            put_catalog_aside(store)
            self.done += self.before

    def run(self, report: Report) -> None:
        """Puts right what was found."""
        from wheelcache.mend import mend_store  # noqa: PLC0415

        mended = mend_store(self._session.store, report.findings, sizes=self.sizes, stop=self._session.stop)
        self.done += mended.repaired
        if mended.missing and not self._session.stop.is_set():
            self._fetch(mended.missing)

    def _fetch(self, missing: dict[Digest, Finding]) -> None:
        wanted = [wheel for wheel in self._wheels if wheel.digest in missing]
        known = {wheel.digest for wheel in wanted}
        if wanted:
            with self._session.roots.lease(known, command=self._session.command):
                results = fetch_wheels(self._session, self._project, wanted)
            self.fetched = sum(result.bytes_fetched for result in results)
            self.done += [missing[result.wheel.digest] for result in results if not result.error]
        for digest, finding in missing.items():
            if finding not in self.done:
                self.hints[finding] = _AGAIN if digest in known else _UNKNOWN


def _show(
    session: Session, report: Report, findings: Sequence[Finding], repairs: _Repairs, seconds: float, *, fast: bool
) -> None:
    for finding in findings:
        session.say(printable(f"{finding.kind}: {finding.path}: expected {finding.expected}, found {finding.found}"))
        is_done = finding in repairs.done
        session.say("  repaired" if is_done else printable(f"  next step: {finding.hint}"))
    blobs = f"{report.blobs} blob" if report.blobs == 1 else f"{report.blobs} blobs"
    done = f"{blobs}, {describe_bytes(report.read)} read in {seconds:.1f} s ({describe_bytes(report.read / seconds)}/s)"
    if fast:
        done = f"{blobs} looked at, none read"
    repaired = f", {len(repairs.done)} repaired; {describe_bytes(repairs.fetched)} fetched" if repairs.done else ""
    session.say(f"{done}: {_count(findings)}{repaired}")


def _count(findings: Sequence[Finding]) -> str:
    harmless = sum(finding.is_harmless for finding in findings)
    if not findings:
        return "nothing wrong"
    if harmless == len(findings):
        return f"nothing wrong; {'1 harmless finding' if harmless == 1 else f'{harmless} harmless findings'}"
    count = "1 finding" if len(findings) == 1 else f"{len(findings)} findings"
    return f"{count} ({harmless} harmless)" if harmless else count


def _failure(left: Sequence[Finding], *, is_repaired: bool) -> IntegrityError:
    first = left[0]
    what = printable(f"{first.path}: {first.kind}: expected {first.expected}, found {first.found}")
    if len(left) == 1:
        return IntegrityError(what, hint=printable(first.hint))
    hint = "do for each what is said above" if is_repaired else "run wheelcache verify --repair"
    return IntegrityError(f"{len(left)} findings{' are left' if is_repaired else ''}; the first: {what}", hint=hint)
