"""Signals and bad disks: the documented exit code, a sentence, and nothing lost."""

from __future__ import annotations

import signal

import pytest
from support.program import BIG, GAMMA, needs_root
from support.server import Respond, Serve

BIG_PATH = f"/simple-files/{BIG.filename}"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_sync_continues_with_the_bytes_it_kept(big, server, number, code):
    server.script(BIG_PATH, Serve(rate=600_000))
    ran = big.interrupted("sync", number=number, when=lambda: big.partial_bytes() > 200_000)
    assert ran.code == code, ran
    assert ran.err.endswith(
        "error: interrupted\nhint: run the same command again: it continues where this one stopped\n"
    )
    kept = big.partial_bytes()
    assert 200_000 < kept < BIG.size

    again = big("sync", "--json")
    assert again.code == 0
    assert again.document["wheels"][0]["state"] == "resumed"
    assert again.document["bytes_fetched"] == BIG.size - kept


def test_an_interrupted_sync_as_json(big, server):
    server.script(BIG_PATH, Serve(rate=600_000))
    ran = big.interrupted("sync", "--json", number=signal.SIGTERM, when=lambda: big.partial_bytes() > 200_000)
    assert ran.code == 143
    assert ran.document["ok"] is False
    assert ran.document["error"]["kind"] == "interrupted"
    assert ran.document["error"]["exit_code"] == 143
    assert ran.document["wheels"][0]["state"] == "missing"


def test_a_killed_sync_continues_with_the_bytes_it_kept(big, server):
    server.script(BIG_PATH, Serve(rate=600_000))
    ran = big.interrupted("sync", number=signal.SIGKILL, when=lambda: big.partial_bytes() > 200_000)
    assert ran.code == -signal.SIGKILL
    again = big("sync", "--json")
    assert again.code == 0
    assert again.document["bytes_fetched"] <= BIG.size - 150_000


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_lock_leaves_the_old_lockfile(project, server, number, code):
    lockfile = project.cwd / "pylock.one.toml"
    before = lockfile.read_bytes()
    project.write("one/requirements.txt", "alpha\nnative\n")
    server.script("/simple/native/", then=Serve(delay=20))
    asked = len(server.asked("/simple/native/"))
    ran = project.interrupted("lock", number=number, when=lambda: len(server.asked("/simple/native/")) > asked)
    assert ran.code == code, ran
    assert "error: interrupted\n" in ran.err
    assert lockfile.read_bytes() == before
    assert sorted(file.name for file in project.cwd.iterdir() if file.name.startswith(".")) == []


@needs_root
def test_a_read_only_cache_folder(project, mount, tmp_path):
    assert project("sync").code == 0
    mount("--bind", str(project.cache), name="read-only")
    mount("-o", "remount,bind,ro", name="read-only")
    for arguments in (["sync"], ["status"], ["wheelhouse", "wheels"]):
        ran = project(*arguments, "--cache-dir", tmp_path / "read-only")
        assert ran.code in {0, 6}, ran
        assert "Traceback" not in ran.err
    other = mount("-t", "tmpfs", "-o", "size=1m,ro", "tmpfs", name="empty")
    ran = project("sync", "--cache-dir", other)
    assert ran.code == 6, ran
    assert "error: [HOME]/empty/v1: Read-only file system\n" in ran.err


def test_a_cache_folder_that_is_a_file(project):
    project.write("cache-file", "")
    project("sync", "--cache-dir", "cache-file").shows("""\
exit 6
-- stderr
error: [HOME]/project/cache-file: expected a folder, found a file
hint: nothing outside of the store is touched: remove it; to keep the store elsewhere, use --cache-dir
""")


@needs_root
def test_a_lockfile_that_cannot_be_written(run, index, mount):
    run.service("one", "gamma")
    run.declare("one", index=index)
    mount("--bind", str(run.cwd), name="frozen")
    mount("-o", "remount,bind,ro", name="frozen")
    ran = run("lock", cwd=run.home / "frozen")
    assert ran.code == 3, ran
    assert "pylock.one.toml: cannot be written: Read-only file system\n" in ran.err


def test_a_damaged_catalog(project):
    assert project("sync").code == 0
    (project.cache / "v1" / "catalog.sqlite").write_bytes(b"this is no database" * 100)
    for command in ("status", "sync"):
        ran = project(command)
        assert ran.code in {0, 6}, ran
        assert "Traceback" not in ran.err


def test_a_rotten_blob_is_fetched_again(project):
    assert project("sync").code == 0
    name = GAMMA.digest.removeprefix("sha256:")
    blob = project.cache / "v1/blobs/sha256" / name[:2] / name
    blob.chmod(0o644)
    blob.write_bytes(b"\0" * GAMMA.size)
    ran = project("sync", "--json")
    assert ran.code == 0
    assert {row["name"]: row["state"] for row in ran.document["wheels"]}["gamma"] == "downloaded"
    assert blob.read_bytes() == GAMMA.data


def test_a_network_fault_in_one_wheel_keeps_the_others(project, server):
    server.script(f"/simple-files/{GAMMA.filename}", then=Respond(status=404))
    assert project("sync").code == 4
    server.script(f"/simple-files/{GAMMA.filename}")
    ran = project("sync", "--json")
    assert ran.code == 0
    assert {row["name"]: row["state"] for row in ran.document["wheels"]} == {
        "alpha": "cached",
        "beta": "cached",
        "gamma": "downloaded",
    }
