"""`wheelcache report`: what a run took, component by component, beside the run before it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from wheelcache.cli.app import global_options
from wheelcache.cli.recording import run_log
from wheelcache.cli.session import Session, describe_bytes
from wheelcache.cli.tables import as_markdown, as_text, columns, short_rows
from wheelcache.comparison import Measure, Row, compare
from wheelcache.errors import UsageError
from wheelcache.runs import Run

if TYPE_CHECKING:
    from wheelcache.runlog import History

_NONE: Final = "no run is recorded for this project yet: run wheelcache build or wheelcache sync, then this again"
_HEAD: Final = ("run", "when", "command", "outcome", "seconds", "fetched")


def _choose_format(context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """Takes `--format json` for `--json` at once, so that errors are told in that form too."""
    session = context.ensure_object(Session)
    if value == "json":
        session.json = True
    elif value is not None and session.json:
        raise UsageError(f"--format {value} with --json: expected one of both", hint="leave one of them out")
    return value


@click.command("report")
@click.argument("services", metavar="[SERVICE]...", nargs=-1)
@click.option("--run", "number", type=click.IntRange(min=1), metavar="N", help="The run of that number.")
@click.option("--last", type=click.IntRange(min=1), metavar="N", help="List the newest N runs instead.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "markdown", "json"]),
    callback=_choose_format,
    help="Text, a Markdown table, or as --json.",
)
@global_options
@click.pass_obj
def command(
    session: Session, services: tuple[str, ...], number: int | None, last: int | None, form: str | None
) -> None:
    """Show what the newest run took, step by step, compared with the run before: of all services or those named.

    Example: wheelcache report --format markdown >> "$GITHUB_STEP_SUMMARY"
    """
    if number is not None and last is not None:
        raise UsageError("--run and --last: expected one of both", hint="--run shows a run, --last lists several")
    history = run_log(session, session.project).history()
    session.document["project"] = str(session.project.root)
    _check(history, services)
    is_markdown = form == "markdown"
    if last is not None:
        _list(session, list(history.runs(services))[:last], is_markdown=is_markdown)
        return
    run = _chosen(history, services, number)
    if run is None:
        session.document |= {"run": None, "components": []}
        session.say(_NONE)
        return
    rows = rows_of(history, run, services)
    session.document |= document_of(run, rows)
    lines = as_markdown(rows) if is_markdown else as_text(rows, width=columns())
    title = _title(run, rows)
    session.say(f"**{title}**\n" if is_markdown else f"{title}\n")
    for line in lines:
        session.say(line)


def rows_of(history: History, run: Run, services: Sequence[str] = ()) -> tuple[Row, ...]:
    """Returns a run's components, each beside what it was before; of all services, or of those named."""
    return compare(run, history.pairs(run, services), history.previous(run))


def say_short(session: Session, rows: Sequence[Row]) -> None:
    """Prints what took time, for the end of a run."""
    session.say()
    for line in as_text(short_rows(rows), width=columns()):
        session.say(line)


def document_of(run: Run, rows: Iterable[Row]) -> dict[str, Any]:
    """Returns a run and its components as JSON values."""
    return {"run": _run_document(run), "components": [_component(row) for row in rows]}


def _check(history: History, services: Sequence[str]) -> None:
    known = history.services
    for name in services:
        if known and name not in known:
            raise UsageError(
                f"{name}: no build of such a service is recorded",
                hint=f"recorded are: {', '.join(known)}; for another one run wheelcache build {name} first",
            )


def _chosen(history: History, services: Sequence[str], number: int | None) -> Run | None:
    """Returns the run to show; None where nothing at all is recorded.

    Raises:
        UsageError: there is no run of that number.
    """
    if number is None or not history.numbers:
        return next(history.runs(services), None)
    run = history.run(number)
    if run is None:
        numbers = history.numbers
        raise UsageError(
            f"--run {number}: no such run is recorded",
            hint=f"the newest is {numbers[0]}, the oldest {numbers[-1]}; wheelcache report --last 10 lists them",
        )
    return run


def _title(run: Run, rows: Sequence[Row]) -> str:
    failed = f", ended by: {run.failure}" if run.failure else ""
    compared = "" if any(row.has_before for row in rows) else "; nothing earlier to compare it with"
    return f"run {run.number}: {run.command}, {_when(run.at)}, {run.seconds:.1f} s{failed}{compared}"


def _list(session: Session, runs: Sequence[Run], *, is_markdown: bool) -> None:
    session.document["runs"] = [_run_document(run) for run in runs]
    if not runs:
        session.say(_NONE)
        return
    lines = [_HEAD, *(_cells(run) for run in runs)]
    if is_markdown:
        lines.insert(1, tuple(":--" if name in {"when", "command", "outcome"} else "--:" for name in _HEAD))
        for line in lines:
            session.say(f"| {' | '.join(line)} |")
        return
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        session.say("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _cells(run: Run) -> tuple[str, ...]:
    states = list(run.states.values())
    outcome = [f"{states.count(state)} {state}" for state in dict.fromkeys(states)]
    outcome += [run.failure] if run.failure and not states else []
    fetched = describe_bytes(run.fetch.fetched) if run.fetch is not None else "-"
    return (
        str(run.number),
        _when(run.at),
        run.command,
        ", ".join(outcome) or "done",
        f"{run.seconds:.1f} s",
        fetched,
    )


def _when(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(at))


def _run_document(run: Run) -> dict[str, Any]:
    return {
        "number": run.number,
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(run.at)),
        "command": run.command,
        "seconds": round(run.seconds, 3),
        "failure": run.failure or None,
        "bytes_fetched": run.fetch.fetched if run.fetch is not None else None,
        "services": dict(run.states),
    }


def _component(row: Row) -> dict[str, Any]:
    return {
        "kind": row.kind,
        "service": row.service or None,
        "component": row.component,
        "before": _measure(row.before),
        "now": _measure(row.now),
        "difference": None
        if row.before is None or row.now is None
        else {
            "seconds": round(row.seconds, 3) if row.seconds is not None else None,
            "bytes": row.size,
            "percent": round(row.percent, 1) if row.percent is not None else None,
        },
    }


def _measure(measure: Measure | None) -> dict[str, Any] | None:
    if measure is None:
        return None
    return {
        "state": measure.state or None,
        "seconds": round(measure.seconds, 3) if measure.seconds is not None else None,
        "bytes": measure.size,
    }
