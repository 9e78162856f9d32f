"""What is kept of a project's runs, and what becomes of it."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from support.runs import layers, run_of, service, step

from wheelcache.catalog import RunRow
from wheelcache.runlog import KEPT, History, RunLog
from wheelcache.runs import Basis, Fetch, as_json
from wheelcache.store import Store

BASIS = Basis(
    dockerfile="d", files={"r.txt": "1"}, wheels={"torch": ("2.8.0", "t")}, bases={"a": "b"}, shared=("torch",)
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return Store.open(tmp_path / "cache").root


@pytest.fixture
def log(root: Path, tmp_path: Path) -> RunLog:
    return RunLog(root, tmp_path / "project")


def test_a_run_is_read_as_it_was_recorded(log: RunLog) -> None:
    ml = replace(service("ml", 3.5, step("RUN é", 1.5, 7, place=2, stage="b"), made=layers(a=5)), basis=BASIS)
    run = run_of(ml, fetch=Fetch(seconds=1.0, fetched=9, wheels=2, sources={"h:1": 9}), failure="build")
    assert log.add(run, [ml]) == 1
    history = log.history()
    assert history.run(1) == replace(run, number=1)
    assert history.service(1, "ml") == replace(ml, number=1)


def test_nothing_is_recorded_yet(log: RunLog) -> None:
    history = log.history()
    assert (history.numbers, history.services, list(history.runs()), history.run(1)) == ([], [], [], None)


def test_projects_are_kept_apart(root: Path, tmp_path: Path) -> None:
    one, other = (RunLog(root, tmp_path / name) for name in ("one", "other"))
    assert [one.add(run_of(), []), one.add(run_of(), []), other.add(run_of(), [])] == [1, 2, 1]
    assert (one.history().numbers, other.history().numbers) == ([2, 1], [1])


def test_runs_that_end_together_get_numbers_of_their_own(root: Path, tmp_path: Path) -> None:
    def record(_: int) -> int:
        return RunLog(root, tmp_path).add(run_of(), [service("ml")])

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(record, range(12))) == list(range(1, 13))


def test_the_newest_records_of_each_service_are_kept(log: RunLog) -> None:
    rare, often = service("rare"), service("often")
    log.add(run_of(rare), [rare])
    for _ in range(KEPT + 2):
        log.add(run_of(often), [often])
    history = log.history()
    assert history.numbers == [*range(KEPT + 3, 3, -1), 1]
    assert [build.number for build in history.builds("rare")] == [1]
    assert len(list(history.builds("often"))) == KEPT
    assert log.add(run_of(), []) == KEPT + 4


def test_a_build_is_measured_by_the_last_that_made_an_image(log: RunLog) -> None:
    for ml in (
        service("ml", 1.0),
        service("ml", 2.0, state="unchanged"),
        service("ml", 3.0, state="failed", fault="network"),
        service("ml", 4.0, state="skipped"),
        service("ml", 5.0),
    ):
        log.add(run_of(ml), [ml])
    history = log.history()
    found = history.run(5)
    assert found is not None
    (pair,) = history.pairs(found)
    assert pair.before is not None
    assert (pair.now.number, pair.before.number) == (5, 2)
    previous = history.previous(found)
    assert previous is not None
    assert previous.number == 2


def test_a_run_is_measured_by_one_of_the_same_command_and_services(log: RunLog) -> None:
    ml, web = service("ml"), service("web")
    log.add(run_of(ml, web), [ml, web])
    log.add(run_of(ml), [ml])
    log.add(run_of(command="sync"), [])
    log.add(run_of(ml, web, failure="interrupted"), [ml, web])
    log.add(run_of(web, ml), [web, ml])
    history = log.history()
    runs = {run.number: history.previous(run) for run in history.runs()}
    assert {number: run and run.number for number, run in runs.items()} == {5: 1, 4: 1, 3: None, 2: None, 1: None}


def test_layers_are_shared_with_the_others_newest_images_of_the_time(log: RunLog) -> None:
    first, second = service("web", made=layers(a=1)), service("web", made=layers(b=1))
    ml = service("ml", made=layers(b=1))
    for each in (first, ml, second, service("web", state="failed"), ml):
        log.add(run_of(each), [each])
    history = log.history()
    run = history.run(5)
    assert run is not None
    (pair,) = history.pairs(run)
    assert [other.number for other in pair.others_now] == [3]
    assert [other.number for other in pair.others_before] == [1]


def test_only_the_runs_and_services_asked_for(log: RunLog) -> None:
    ml, web = service("ml"), service("web")
    log.add(run_of(ml, web), [ml, web])
    log.add(run_of(web), [web])
    history = log.history()
    assert [run.number for run in history.runs(["ml"])] == [1]
    run = history.run(1)
    assert run is not None
    assert [pair.now.name for pair in history.pairs(run, ["web"])] == ["web"]


def test_a_service_is_failing_as_long_as_its_newest_build_that_came_to_an_end_failed(log: RunLog) -> None:
    mended, broken, stopped = (service(name, state="failed") for name in ("mended", "broken", "stopped"))
    log.add(run_of(mended, broken), [mended, broken])
    after = [
        service("mended"),
        service("broken", state="skipped"),
        replace(stopped, fault="interrupted"),
    ]
    log.add(run_of(*after), after)
    assert log.history().failing(["mended", "broken", "stopped", "new"]) == {"broken"}


@pytest.mark.parametrize(
    "record",
    [
        "",
        "[]",
        "{}",
        as_json(run_of()).replace("1700000000.0", "1e300"),
        as_json(run_of()).replace("1700000000.0", '"soon"'),
        as_json(run_of()).replace('"states":{}', '"states":{"ml":"melted"}'),
    ],
)
def test_what_no_run_of_ours_wrote_is_no_record(record: str) -> None:
    rows = [
        RunRow(project="/p", number=number, service="", record=text)
        for number, text in enumerate((as_json(run_of()), record), 1)
    ]
    history = History(rows)
    assert [run.number for run in history.runs()] == [1]
    assert history.run(2) is None


def test_what_a_later_version_adds_is_no_matter() -> None:
    record = as_json(run_of()).replace('"number":0', '"number":0,"colour":"blue"')
    assert History([RunRow(project="/p", number=1, service="", record=record)]).run(1) == run_of(number=1)


def test_a_damaged_row_costs_itself_alone(root: Path, log: RunLog) -> None:
    log.add(run_of(service("ml")), [service("ml")])
    log.add(run_of(), [])
    with closing(sqlite3.connect(root / "v1" / "catalog.sqlite")) as connection, connection:
        connection.execute("UPDATE runs SET record = replace(record, '10.0', '99.0') WHERE number = 2")
    assert log.history().numbers == [1]
    assert log.add(run_of(), []) == 2


def test_records_are_lost_with_the_catalog_and_begin_anew(root: Path, log: RunLog) -> None:
    log.add(run_of(), [])
    (root / "v1" / "catalog.sqlite").write_bytes(b"lost" * 1000)
    assert log.history().numbers == []
    assert log.add(run_of(), []) == 1
