"""`wheelcache list` as people run it: what is there, and who needs it."""

from __future__ import annotations

import re
import signal

import pytest
from support.program import ALPHA_2, BETA, BIG, GAMMA, TARGET, Program, wait_until
from support.server import Serve

KEYS = {"name", "version", "filename", "digest", "size", "last_used", "pinned", "needed_by"}


@pytest.fixture
def synced(project) -> Program:
    """The project of two services, synced."""
    assert project("sync").code == 0
    return project


def told(ran) -> str:
    """What was said, without days."""
    return re.sub(r"\b\d{4}-\d\d-\d\d\b", "[DAY]", str(ran))


def test_an_empty_store(run):
    run("list").shows("""\
exit 0
-- stdout
0 wheels, 0 B
""")


def test_every_wheel_is_listed_with_who_needs_it(synced):
    assert (
        told(synced("list"))
        == """\
exit 0
-- stdout
 300 kB  [DAY]  gamma-1.0-py3-none-any.whl  project [HOME]/project: pylock.one.toml, and 1 more
1.15 kB  [DAY]  alpha-2.0-py3-none-any.whl  project [HOME]/project: pylock.one.toml
1.14 kB  [DAY]  beta-1.0-py3-none-any.whl   project [HOME]/project: pylock.two.toml
3 wheels, 302 kB
"""
    )


def test_asked_for_more_it_tells_digests_and_everyone(synced):
    row, digest = told(synced("list", "-v")).splitlines()[2:4]
    assert row.endswith("  project [HOME]/project: pylock.one.toml, project [HOME]/project: pylock.two.toml")
    assert digest.strip() == GAMMA.digest


def test_json_has_every_wheel(synced):
    ran = synced("list", "--json")
    assert ran.code == 0
    assert ran.document.keys() == {"command", "store", "wheels", "bytes", "ok"}
    assert ran.document["store"] == "[HOME]/cache"
    assert ran.document["bytes"] == ALPHA_2.size + BETA.size + GAMMA.size
    assert all(row.keys() == KEYS for row in ran.document["wheels"])
    beta = ran.document["wheels"][2]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", beta.pop("last_used"))
    assert beta == {
        "name": "beta",
        "version": "1.0",
        "filename": BETA.filename,
        "digest": BETA.digest,
        "size": BETA.size,
        "pinned": False,
        "needed_by": ["project [HOME]/project: pylock.two.toml"],
    }


def test_wheels_come_in_the_order_asked_for(synced):
    def names(*arguments: str) -> list[str]:
        return [row["name"] for row in synced("list", "--json", *arguments).document["wheels"]]

    assert names() == names("--sort", "size") == ["gamma", "alpha", "beta"]
    assert names("--sort", "name") == ["alpha", "beta", "gamma"]
    assert synced("sync", "two").code == 0
    assert names("--sort", "used") == ["beta", "gamma", "alpha"]


def test_an_unknown_order_is_told_which_there_are(synced):
    ran = synced("list", "--sort", "age")
    assert ran.code == 2
    assert "'size', 'name', 'used'" in ran.err


def test_the_catalog_is_made_anew_without_being_asked(synced):
    before = synced("list", "--json", "--sort", "name").document["wheels"]
    (synced.cache / "v1" / "catalog.sqlite").write_text("lost")
    again = synced("list", "--json", "--sort", "name")
    assert again.code == 0
    assert not again.err
    same = KEYS - {"last_used"}
    assert [{key: row[key] for key in same} for row in again.document["wheels"]] == [
        {key: row[key] for key in same} for row in before
    ]


def test_what_is_no_wheel_is_listed_by_its_digest(run):
    digest = "ab" * 32
    blob = run.cache / "v1" / "blobs" / "sha256" / "ab" / digest
    assert run("list").code == 0
    blob.parent.mkdir(parents=True)
    blob.write_bytes(b"no wheel")
    assert (
        told(run("list"))
        == f"""\
exit 0
-- stdout
    8 B  [DAY]  sha256:{digest}  -
1 wheel, 8 B; 1 needed by nobody, 8 B
"""
    )
    [row] = run("list", "--json").document["wheels"]
    assert (row["name"], row["version"], row["filename"], row["digest"]) == (None, None, None, f"sha256:{digest}")


def test_a_lockfile_without_a_project_file_keeps_its_wheels_until_it_is_gone(synced):
    (synced.cwd / "wheelcache.toml").unlink()
    lockfile = (synced.cwd / "pylock.two.toml").rename(synced.home / "pylock.toml")
    assert synced("sync", lockfile, *TARGET).code == 0
    needed = {row["name"]: row["needed_by"] for row in synced("list", "--json").document["wheels"]}
    assert needed == {
        "alpha": ["project [HOME]/project: pylock.one.toml"],
        "beta": ["lockfile [HOME]/pylock.toml"],
        "gamma": ["project [HOME]/project: pylock.one.toml", "lockfile [HOME]/pylock.toml"],
    }
    lockfile.unlink()
    assert told(synced("list")).splitlines()[-2:] == [
        "1.14 kB  [DAY]  beta-1.0-py3-none-any.whl   -",
        "3 wheels, 302 kB; 1 needed by nobody, 1.14 kB",
    ]


def test_a_dry_run_and_a_status_make_no_root(project):
    assert project("sync", "--dry-run").code == 0
    assert project("status").code == 0
    assert list((project.cache / "v1" / "projects").iterdir()) == []


def test_a_second_sync_of_the_same_writes_no_root(synced):
    (root,) = (synced.cache / "v1" / "projects").iterdir()
    before = root.stat()
    assert synced("sync").code == 0
    assert (root.stat().st_ino, root.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_running_sync_needs_what_it_fetches(big, server):
    assert big("sync", "--dry-run").code == 0
    server.script(f"/simple-files/{BIG.filename}", then=Serve(rate=200_000))
    with big.start("sync") as process:
        try:
            wait_until(lambda: big.partial_bytes() > 0)
            leases = [file.read_text() for file in (big.cache / "v1" / "leases").iterdir()]
            assert len(leases) == 1
            assert BIG.digest in leases[0]
            process.send_signal(signal.SIGTERM)
            assert big.ended(process).code == 143
        finally:
            process.kill()
    assert list((big.cache / "v1" / "leases").iterdir()) == []


def test_a_wheel_tells_of_the_sync_that_runs_and_of_a_killed_one_no_more(project, server):
    assert project("sync", "one").code == 0
    server.script(f"/simple-files/{BETA.filename}", then=Serve(silent_at=100))
    with project.start("sync", "two") as process:
        try:
            wait_until(lambda: server.asked(f"/simple-files/{BETA.filename}"))
            running = f"a running sync (pid {process.pid})"
            rows = {row["name"]: row["needed_by"] for row in project("list", "--json").document["wheels"]}
            assert running in rows["gamma"]
            assert running not in rows["alpha"]
        finally:
            process.kill()
        process.wait()
    assert "running" not in project("list", "-v").out


def test_a_damaged_root_is_warned_of(synced):
    (root,) = (synced.cache / "v1" / "projects").iterdir()
    root.write_text("{")
    ran = synced("list")
    assert ran.code == 0
    assert ran.err.startswith("warning: [HOME]/cache/v1/projects/")
    assert "expected JSON" in ran.err
    assert "what it keeps is unknown" in ran.err
    assert synced("sync").code == 0
    assert not synced("list").err
