"""`wheelcache status` as people run it: what is there, what is to go and for how long, and the store as a whole."""

from __future__ import annotations

import time

import pytest
from support.program import ALPHA_2, BETA, BIG, GAMMA, Program
from support.server import Serve
from support.wheels import MadeWheel

from wheelcache.catalog import Catalog, HostRecord
from wheelcache.store import Store

ROW_KEYS = {
    "path", "label", "services", "wheels", "present", "partial", "missing", "bytes", "bytes_to_go", "expected_seconds",
    "to_fetch",
}  # fmt: skip
EMPTY = {"count": 0, "bytes": 0}


def begin(program: Program, made: MadeWheel, count: int) -> None:
    """Leaves the first bytes of a wheel in the store, as an interrupted sync does."""
    store = Store.open(program.cache)
    partial = store.partial(made.locked())
    partial.write(0, made.data[:count])
    partial.flush()
    partial.close()


def measured(program: Program, host: str, rate: float) -> None:
    """Notes how fast a host was."""
    record = HostRecord(
        host=host, rate=rate, per_connection=rate, lies=0, faults=0, seen_at=time.time()
    )  # fmt: skip
    Catalog(program.cache / "v1" / "catalog.sqlite").put_host_records([record])


def test_nothing_is_there_before_a_sync(project):
    project("status").shows("""\
exit 0
-- stdout
store: [HOME]/cache
  0 wheels, 0 B
one: 301 kB to go (0 present, 0 partial, 2 missing, 301 kB in all)  pylock.one.toml
two: 301 kB to go (0 present, 0 partial, 2 missing, 301 kB in all)  pylock.two.toml
""")


def test_a_cut_sync_leaves_a_partial(project, server):
    server.script(f"/simple-files/{GAMMA.filename}", Serve(rate=100_000))
    assert project("sync", "one", "--deadline", "1").code == 4
    ran = project("status", "one", "--json")
    assert ran.code == 0
    [row] = ran.document["lockfiles"]
    assert (row["present"], row["partial"], row["missing"]) == (1, 1, 0)
    assert 0 < row["bytes_to_go"] < GAMMA.size


def test_all_is_there_after_a_sync(project):
    assert project("sync", "one").code == 0
    project("status", "one", "-v").shows("""\
exit 0
-- stdout
store: [HOME]/cache
  2 wheels, 301 kB
one: complete (2 present, 0 partial, 0 missing, 301 kB in all)  pylock.one.toml
""")
    [row] = project("status", "one", "--json").document["lockfiles"]
    assert (row["bytes_to_go"], row["expected_seconds"], row["to_fetch"]) == (0, 0.0, [])


def test_asked_for_more_it_tells_wheel_by_wheel(project):
    assert project("status").code == 0
    begin(project, GAMMA, 100_000)
    project("status", "one", "-v").shows("""\
exit 0
-- stdout
store: [HOME]/cache
  0 wheels, 0 B; 1 begun, 100 kB
one: 201 kB to go (0 present, 1 partial, 1 missing, 301 kB in all)  pylock.one.toml
  alpha-2.0-py3-none-any.whl: 0 B of 1.15 kB
  gamma-1.0-py3-none-any.whl: 100 kB of 300 kB
""")


def test_json_has_all_of_it(project, server):
    assert project("sync", "two").code == 0
    (project.cwd / "pylock.two.toml").rename(project.home / "kept.toml")
    begin(project, BIG, 100_000)
    ran = project("status", "--json")
    assert ran.code == 0
    assert ran.document.keys() == {"command", "store", "lockfiles", "totals", "ok"}
    assert ran.document["totals"] == {
        "wheels": 2,
        "bytes": BETA.size + GAMMA.size,
        "partials": {"count": 1, "bytes": 100_000},
        "quarantine": EMPTY,
        "prunable": {"count": 2, "bytes": BETA.size + GAMMA.size},
    }
    [row] = ran.document["lockfiles"]
    assert row.keys() == ROW_KEYS
    assert row["to_fetch"] == [
        {
            "name": "alpha",
            "version": "2.0",
            "filename": ALPHA_2.filename,
            "digest": ALPHA_2.digest,
            "size": ALPHA_2.size,
            "state": "missing",
            "bytes_present": 0,
            "bytes_to_go": ALPHA_2.size,
        }
    ]


class TestTheExpectedTime:
    def test_is_what_is_to_go_at_the_last_known_speed(self, project, server):
        assert project("status").code == 0
        begin(project, GAMMA, 100_000)
        measured(project, server.host, 2000.0)
        ran = project("status", "one", "--json")
        [row] = ran.document["lockfiles"]
        assert row["bytes_to_go"] == ALPHA_2.size + GAMMA.size - 100_000
        assert row["expected_seconds"] == pytest.approx(row["bytes_to_go"] / 2000.0, abs=0.01)
        assert "one: 201 kB to go, about 2 min (0 present," in project("status", "one").out

    def test_is_left_out_where_no_speed_is_known(self, project):
        assert project("status").code == 0
        measured(project, "elsewhere.test", 1000.0)
        [row] = project("status", "one", "--json").document["lockfiles"]
        assert row["expected_seconds"] is None
        assert "about" not in project("status", "one").out

    def test_is_no_shorter_than_the_limit_makes_it(self, project, server):
        assert project("status").code == 0
        measured(project, server.host, 1e9)
        text = (project.cwd / "wheelcache.toml").read_text()
        project.write("wheelcache.toml", f'{text}[download]\nlimit-rate = "10kB/s"\n')
        [row] = project("status", "one", "--json").document["lockfiles"]
        assert row["expected_seconds"] == pytest.approx((ALPHA_2.size + GAMMA.size) / 10_000, abs=0.01)

    def test_is_known_after_a_first_sync_of_some_seconds(self, project, server):
        server.script(f"/simple-files/{GAMMA.filename}", Serve(rate=100_000))
        assert project("sync", "one", "--deadline", "2").code == 4
        [row] = project("status", "one", "--json").document["lockfiles"]
        assert row["expected_seconds"] > 0


class TestTheStore:
    def test_tells_what_nobody_needs(self, project):
        assert project("sync").code == 0
        (project.cwd / "pylock.one.toml").unlink()
        project("status").shows("""\
exit 0
-- stdout
store: [HOME]/cache
  3 wheels, 302 kB; 1 needed by nobody, 1.15 kB
two: complete (2 present, 0 partial, 0 missing, 301 kB in all)  pylock.two.toml
""")
        assert project("pin", "alpha==2.0").code == 0
        assert project("status", "--json").document["totals"]["prunable"] == EMPTY

    def test_tells_what_was_put_aside(self, project):
        assert project("sync").code == 0
        blob = Store.open(project.cache).blob(GAMMA.digest)
        blob.chmod(0o644)
        blob.write_bytes(bytes(GAMMA.size))
        ran = project("status", "one", "--json")
        assert ran.document["totals"]["quarantine"] == {"count": 1, "bytes": GAMMA.size}
        assert ran.document["lockfiles"][0]["missing"] == 1
        assert "; 1 in quarantine, 300 kB\n" in project("status", "one").out

    def test_does_not_say_what_nobody_needs_when_that_is_not_known(self, project):
        assert project("sync").code == 0
        (root,) = (project.cache / "v1" / "projects").iterdir()
        root.write_text("{")
        ran = project("status", "--json")
        assert ran.code == 0
        assert ran.document["totals"]["prunable"] is None
        assert "what it keeps is unknown" in ran.err
        assert "needed by nobody" not in project("status").out

    def test_is_shown_alone_where_there_is_neither_project_nor_lockfile(self, run):
        run("status").shows("""\
exit 0
-- stdout
store: [HOME]/cache
  0 wheels, 0 B
""")


def test_a_project_without_any_lockfile(run):
    run.declare("one")
    run("status").shows("""\
exit 2
-- stderr
error: [HOME]/project: expected lockfiles (pylock.*.toml), found none
hint: run wheelcache lock, or name a lockfile
""")


def test_status_of_a_service_without_a_lockfile(project):
    project("status", "three").shows("""\
exit 2
-- stderr
error: three: expected its lockfile pylock.three.toml in [HOME]/project, found none
hint: run wheelcache lock three
""")


def test_status_of_one_service_does_not_read_the_lockfiles_of_others(project):
    project.write("pylock.two.toml", "damaged")
    assert project("status", "one").code == 0
    assert project("status").code == 3


def test_status_needs_no_network(big, server):
    asked = len(server.requests)
    assert big("status").code == 0
    assert len(server.requests) == asked
    assert not big.holds(BIG.digest)
