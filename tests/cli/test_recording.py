"""What is recorded when a run ends, in whichever way."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.runs import service
from support.wheels import make_wheel

from wheelcache.cli.recording import Draft, fetch_of, recorded, run_log
from wheelcache.cli.session import Session
from wheelcache.config import Project
from wheelcache.errors import NetworkError, UsageError
from wheelcache.outcome import WheelResult
from wheelcache.runs import Fetch, Run

FETCH = Fetch(seconds=1.0, fetched=5, wheels=1)


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(command="build", cache_dir=tmp_path / "cache")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(root=tmp_path)


def runs(session: Session, project: Project) -> list[Run]:
    return list(run_log(session, project).history().runs())


def test_a_run_is_recorded_at_its_end(session: Session, project: Project) -> None:
    with recorded(session, project) as draft:
        draft.fetch = FETCH
        draft.services = [service("ml")]
        assert runs(session, project) == []
    (run,) = runs(session, project)
    assert (run.number, run.command, run.failure, run.fetch, run.states) == (1, "build", "", FETCH, {"ml": "built"})
    assert draft.number == 1


def test_of_a_run_that_fails_the_kind_of_its_failure_is_recorded(session: Session, project: Project) -> None:
    def fail(draft: Draft) -> None:
        draft.fetch = FETCH
        raise NetworkError("no source left")

    with pytest.raises(NetworkError), recorded(session, project) as draft:
        fail(draft)
    (run,) = runs(session, project)
    assert (run.failure, run.fetch, run.is_done) == ("network", FETCH, False)


def test_an_interrupted_run_is_recorded_as_one(session: Session, project: Project) -> None:
    with recorded(session, project):
        session.stop.set()
    assert [run.failure for run in runs(session, project)] == ["interrupted"]


def test_a_command_line_that_means_nothing_is_no_run(session: Session, project: Project) -> None:
    with pytest.raises(UsageError), recorded(session, project):
        raise UsageError("no such service")
    assert runs(session, project) == []


def test_a_run_that_cannot_be_recorded_is_no_failure(
    session: Session, project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    (session.store.root / "v1" / "catalog.sqlite").mkdir()
    with recorded(session, project) as draft:
        draft.fetch = FETCH
    assert draft.number == 0
    assert capsys.readouterr().err.startswith("warning: this run is not recorded: ")


def test_bytes_are_counted_by_the_host_they_came_from() -> None:
    one, two, three = (make_wheel(name, "1.0").locked() for name in ("one", "two", "three"))
    results = [
        WheelResult(wheel=one, state="downloaded", bytes_fetched=5, source="https://me:pw@h.test:8443/one.whl"),
        WheelResult(wheel=two, state="downloaded", bytes_fetched=7, source="https://H.test:8443/two.whl"),
        WheelResult(wheel=three, state="cached"),
    ]
    assert fetch_of(results, 2.0) == Fetch(seconds=2.0, fetched=12, wheels=3, sources={"h.test:8443": 12})
