"""`wheelcache report` as people run it: what runs took, beside the runs before them."""

from __future__ import annotations

import json

import pytest
from support.program import BETA, GAMMA, Program
from support.runs import layers, run_of, service, step

from wheelcache.runlog import RunLog
from wheelcache.runs import Fetch
from wheelcache.store import Store

NONE = "no run is recorded for this project yet: run wheelcache build or wheelcache sync, then this again\n"
PIP = "RUN pip install --no-cache-dir -r requirements.txt | tee /tmp/`date +%F`.log"
KEYS = {"kind", "service", "component", "before", "now", "difference"}


@pytest.fixture
def told(run: Program) -> Program:
    """A project of two services that were built twice, and one of them once more, in vain."""
    log = RunLog(Store.open(run.cache).root, run.cwd)
    web = service("web", 4.0, made=layers(base=144_000_000, web=5_000))
    for pip, base, fetched in ((15.2, 70.1, 701_000_000), (8.1, 0.0, 0)):
        ml = service(
            "ml",
            pip + base,
            step("shared base", base, 6_720_000_000, state="done" if base else "cached"),
            step("COPY requirements.txt .", 0.1, 75, place=2),
            step(PIP, pip, int(10_000_000 * pip), place=3),
            made=layers(base=144_000_000, **{f"ml{fetched}": int(10_000_000 * pip)}),
        )
        fetch = Fetch(seconds=base / 10, fetched=fetched, wheels=9, sources={"mirror.test": fetched} if fetched else {})
        log.add(run_of(ml, web, seconds=pip + base + 5, fetch=fetch), [ml, web])
    failed = service("web", 2.0, step("RUN make", 1.5, state="failed"), state="failed", fault="compile")
    log.add(run_of(failed, seconds=2.5), [failed])
    return run


def printed(program: Program, *arguments: str, columns: int = 110) -> str:
    """Returns what a report prints to the letter, times included."""
    with program.start("report", *arguments, env={"COLUMNS": str(columns)}) as process:
        out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, b"")
    return out.decode()


def test_nothing_is_recorded_yet(run):
    run("report").shows(f"exit 0\n-- stdout\n{NONE}")
    run("report", "ml", "--format", "markdown").shows(f"exit 0\n-- stdout\n{NONE}")
    run("report", "--last", "3", "--run", "1").shows("""\
exit 2
-- stderr
error: --run and --last: expected one of both
hint: --run shows a run, --last lists several
""")
    assert run("report", "--run", "7", "--json").document == {
        "command": "report", "project": "[HOME]/project", "run": None, "components": [], "ok": True
    }  # fmt: skip
    assert run("report", "--last", "3", "--json").document["runs"] == []


def test_a_run_is_shown_beside_the_one_before(told):
    assert (
        printed(told, "--run", "2")
        == """\
run 2: build, 2023-11-14 22:13 UTC, 13.1 s

component                                                    before              now                difference
wheels fetched                                        7.0 s, 701 MB       0.0 s, 0 B  -7.0 s (-100 %), -701 MB
  from mirror.test                                           701 MB              0 B                   -701 MB
ml                                                    built, 85.3 s     built, 8.1 s           -77.2 s (-91 %)
  shared base                                       70.1 s, 6.72 GB  cached, 6.72 GB          -70.1 s (-100 %)
  COPY requirements.txt .                               0.1 s, 75 B      0.1 s, 75 B
  RUN pip install --no-cache-dir -r requirements.…   15.2 s, 152 MB     8.1 s, 81 MB    -7.1 s (-47 %), -71 MB
  image                                                      296 MB           225 MB                    -71 MB
  shared with others                                         144 MB           144 MB
web                                                    built, 4.0 s     built, 4.0 s
  image                                                      144 MB           144 MB
  shared with others                                         144 MB           144 MB
total                                                        90.3 s           13.1 s           -77.2 s (-85 %)
all images together                                          296 MB           225 MB                    -71 MB
"""
    )


def test_without_a_number_the_newest_run_is_shown(told):
    assert (
        printed(told)
        == """\
run 3: build, 2023-11-14 22:13 UTC, 2.5 s

component         before                     now      difference
web         built, 4.0 s  failed: compile, 2.0 s  -2.0 s (-50 %)
  RUN make             -           failed, 1.5 s             new
total                                      2.5 s
"""
    )


def test_of_a_service_its_newest_run_is_shown_and_nothing_else(told):
    out = printed(told, "ml")
    assert out.startswith("run 2: build, ")
    assert "\nml " in out
    assert "\nweb" not in out
    assert "\ntotal" not in out


def test_a_first_run_says_that_there_is_nothing_to_compare_with(told):
    out = printed(told, "--run", "1")
    assert out.startswith("run 1: build, 2023-11-14 22:13 UTC, 90.3 s; nothing earlier to compare it with\n")
    assert "difference" in out


@pytest.mark.parametrize("columns", [30, 60, 80, 100])
def test_no_line_is_wider_than_the_terminal(told, columns):
    lines = printed(told, "--run", "2", columns=columns).splitlines()[2:]
    assert max(map(len, lines)) <= max(columns, 40)
    text = "\n".join(lines)
    for figure in ("15.2 s, 152 MB", "8.1 s, 81 MB", "-7.1 s (-47 %), -71 MB"):
        assert figure in text


def test_a_markdown_table_keeps_bars_and_backticks_of_a_step_to_the_letter(told):
    lines = printed(told, "--run", "2", "--format", "markdown").splitlines()
    assert lines[:6] == [
        "**run 2: build, 2023-11-14 22:13 UTC, 13.1 s**",
        "",
        "| component | before | now | difference |",
        "| :-- | --: | --: | --: |",
        "| **wheels fetched** | 7.0 s, 701 MB | 0.0 s, 0 B | -7.0 s (-100 %), -701 MB |",
        "| `from mirror.test` | 701 MB | 0 B | -701 MB |",
    ]
    assert (
        "| `` RUN pip install --no-cache-dir -r requirements.txt \\| tee /tmp/`date +%F`.log `` "
        "| 15.2 s, 152 MB | 8.1 s, 81 MB | -7.1 s (-47 %), -71 MB |"
    ) in lines


@pytest.mark.parametrize("arguments", [("--json",), ("--format", "json"), ("--format=json", "--json")])
def test_json_has_every_figure(told, arguments):
    document = told("report", "--run", "2", *arguments).document
    assert document.keys() == {"command", "project", "run", "components", "ok"}
    assert document["run"] == {
        "number": 2,
        "at": "2023-11-14T22:13:20Z",
        "command": "build",
        "seconds": 0,  # the test's own filter
        "failure": None,
        "bytes_fetched": 0,
        "services": {"ml": "built", "web": "built"},
    }
    rows = document["components"]
    assert all(row.keys() == KEYS for row in rows)
    (pip,) = [row for row in rows if row["component"] == PIP]
    assert (pip["kind"], pip["service"]) == ("step", "ml")
    assert (pip["now"]["state"], pip["now"]["bytes"]) == (None, 81_000_000)
    assert (pip["difference"]["bytes"], pip["difference"]["percent"]) == (-71_000_000, -46.7)


def test_the_newest_runs_are_listed(told):
    assert (
        printed(told, "--last", "2")
        == """\
run  when                  command  outcome   seconds  fetched
3    2023-11-14 22:13 UTC  build    1 failed  2.5 s    -
2    2023-11-14 22:13 UTC  build    2 built   13.1 s   0 B
"""
    )
    assert printed(told, "ml", "--last", "9", "--format", "markdown").splitlines()[2:] == [
        "| 2 | 2023-11-14 22:13 UTC | build | 2 built | 13.1 s | 0 B |",
        "| 1 | 2023-11-14 22:13 UTC | build | 2 built | 90.3 s | 701 MB |",
    ]
    assert [run["number"] for run in told("report", "--last", "2", "--json").document["runs"]] == [3, 2]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nobody",), "error: nobody: no build of such a service is recorded\nhint: recorded are: ml, web; "),
        (("--run", "9"), "error: --run 9: no such run is recorded\nhint: the newest is 3, the oldest 1; "),
        (("--run", "0"), "error: Invalid value for '--run'"),
        (("--format", "html"), "error: Invalid value for '--format'"),
        (("--json", "--format", "text"), "error: --format text with --json: expected one of both\n"),
    ],
)
def test_what_cannot_be_shown_is_a_matter_of_the_command_line(told, arguments, said):
    ran = told("report", *arguments)
    assert ran.code == 2
    assert ran.err.startswith(said)


def test_an_error_is_json_too_where_that_was_asked_for(told):
    ran = told("report", "nobody", "--format", "json")
    assert (ran.code, ran.document["ok"], ran.document["error"]["kind"]) == (2, False, "usage")


def test_a_sync_is_recorded_with_whom_it_fetched_from(project):
    assert project("sync", "two").code == 0
    assert project("sync", "two").code == 0
    first, second = (project("report", "--json", "--run", number).document for number in ("1", "2"))
    assert first["run"]["command"] == "sync"
    assert first["run"]["bytes_fetched"] == BETA.size + GAMMA.size
    fetched, source = first["components"]
    assert (fetched["kind"], source["component"]) == ("fetch", "from [INDEX]")
    assert source["now"]["bytes"] == BETA.size + GAMMA.size
    assert [row["difference"]["bytes"] for row in second["components"]] == [-BETA.size - GAMMA.size] * 2


def test_a_sync_that_fails_is_recorded_with_its_failure(project):
    assert project("--offline", "sync", "two").code == 4
    run = project("report", "--json").document["run"]
    assert (run["command"], run["failure"]) == ("sync", "network")
    assert project("sync", "one").code == 0
    assert "ended by" not in project("report").out
    assert "ended by: network" in project("report", "--run", "1").out


def test_what_is_no_run_is_not_recorded(project):
    assert project("sync", "--dry-run").code == 0
    assert project("sync", "nobody").code == 2
    assert project("status").code == 0
    project("report").shows(f"exit 0\n-- stdout\n{NONE}")


def test_a_report_needs_no_engine_no_docker_and_no_network(told):
    ran = told("--offline", "report", env={"PATH": "/nowhere"})
    assert (ran.code, ran.err) == (0, "")


def test_a_project_file_that_cannot_be_read_is_told_of(told):
    told.write("wheelcache.toml", "compose = 3\n")
    ran = told("report")
    assert ran.code == 2
    assert "wheelcache.toml: compose" in ran.err


def test_help_has_an_example(run):
    ran = run("report", "--help")
    assert ran.code == 0
    assert "Example: wheelcache report" in ran.out
    assert "report" in run("--help").out
    assert json.loads(run("report", "--json").out)["ok"]
