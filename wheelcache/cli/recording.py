"""Records what a run did, so that the next one has something to be compared with."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wheelcache.cli.session import Session
from wheelcache.config import Project
from wheelcache.errors import StoreError, UsageError, WheelcacheError
from wheelcache.faults import host_of
from wheelcache.runs import Fetch, Run, ServiceRun

if TYPE_CHECKING:
    from wheelcache.outcome import WheelResult
    from wheelcache.runlog import RunLog


@dataclass(kw_only=True, slots=True)
class Draft:
    """What is to be recorded of a run, filled while it goes on.

    Attributes:
        fetch: what it fetched.
        services: how their builds went.
        number: the run's, once it is recorded; 0 where it is not.
    """

    fetch: Fetch | None = None
    services: Sequence[ServiceRun] = field(default_factory=tuple)
    number: int = 0


@contextmanager
def recorded(session: Session, project: Project) -> Iterator[Draft]:
    """Records a run once it ends, unless nothing could be made of the command line."""
    at, began = time.time(), time.monotonic()
    draft = Draft()

    def record(failure: WheelcacheError | None) -> None:
        run = Run(
            at=at,
            command=session.command,
            seconds=time.monotonic() - began,
            failure="interrupted" if session.stop.is_set() else failure.kind if failure else "",
            fetch=draft.fetch,
            states={service.name: service.state for service in draft.services},
        )
        try:
            draft.number = run_log(session, project).add(run, draft.services)
        except StoreError as error:  # nothing of what the run did is worse for it
            if failure is None or failure.message != error.message:
                session.note("warning", f"this run is not recorded: {error.message}")

    try:
        yield draft
    except UsageError:
        raise
    except WheelcacheError as error:
        record(error)
        raise
    record(None)


def run_log(session: Session, project: Project) -> RunLog:
    """Returns the records of a project's runs.

    Raises:
        StoreError: the store cannot be used.
    """
    from wheelcache.runlog import RunLog  # noqa: PLC0415 - SQLite, once something is to be recorded or shown

    return RunLog(session.store.root, project.root)


def fetch_of(results: Sequence[WheelResult], seconds: float) -> Fetch:
    """Returns what is recorded of a fetch."""
    sources: dict[str, int] = {}
    for result in results:
        if result.bytes_fetched:
            host = host_of(result.source) or "this machine's disk"
            sources[host] = sources.get(host, 0) + result.bytes_fetched
    fetched = sum(result.bytes_fetched for result in results)
    return Fetch(seconds=seconds, fetched=fetched, wheels=len(results), sources=sources)
