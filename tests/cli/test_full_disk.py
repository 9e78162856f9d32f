"""Disks without room under the program, at each stage: exit 6, the bytes that are needed, and the next run goes on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from support.program import BIG, Ran, needs_root, wait_until
from support.server import Serve

pytestmark = needs_root

BIG_PATH = f"/simple-files/{BIG.filename}"


def fill(disk: Path, *, room: int = 0) -> Path:
    """Takes all room of a disk but for some bytes; returns the file that does."""
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(disk).free - room)
    return ballast


def assert_told(ran: Ran, place: str, *, lacking: range) -> None:
    """Fails unless the error names *place* and, in its hint, so many bytes."""
    assert ran.code == 6, ran
    assert f"error: {place}: no room left on the disk: expected " in ran.err
    [found] = re.findall(r"hint: needs ([\d,]+) more bytes: free some space, or ", ran.err)
    assert int(found.replace(",", "")) in lacking, ran
    assert "catalog" not in ran.err.partition("error: ")[2]


def test_is_seen_before_anything_is_fetched(big, server, mount):
    small = mount("-t", "tmpfs", "-o", "size=2m", "tmpfs", name="small")
    ran = big("sync", "--cache-dir", small, "--json")
    assert_told(ran, "[HOME]/small", lacking=range(16_900_000, 19_000_000))
    assert [(wheel["name"], wheel["state"]) for wheel in ran.document["wheels"]] == [("big", "missing")]
    assert ran.document["error"]["kind"] == "store-full"
    assert not server.asked(BIG_PATH)


def test_in_mid_sync_keeps_what_came_and_the_next_run_goes_on(big, server, mount):
    small = mount("-t", "tmpfs", "-o", "size=21m", "tmpfs", name="small")
    server.script(BIG_PATH, then=Serve(rate=1_000_000))
    with big.start("sync", "--cache-dir", small, "--json") as process:
        wait_until(lambda: any((small / "v1/partial").glob("*.part")))
        ballast = fill(small, room=1_000_000)
        ran = big.ended(process)
    assert_told(ran, "[HOME]/small", lacking=range(17_000_000, 19_000_000))
    assert [(wheel["name"], wheel["state"]) for wheel in ran.document["wheels"]] == [("big", "failed")]
    assert ran.document["wheels"][0]["bytes_fetched"] == ran.document["bytes_fetched"] > 0
    ballast.unlink()
    server.script(BIG_PATH)
    again = big("sync", "--cache-dir", small, "--json")
    assert again.code == 0, again
    assert again.document["wheels"][0]["state"] == "resumed"
    assert again.document["bytes_fetched"] < BIG.size - 500_000


@pytest.mark.parametrize("options", ["size=64m,nr_inodes=4", "size=21m"], ids=["its folders", "what is needed"])
def test_for_the_stores_own_files_is_told_with_all_that_is_needed(big, mount, options):
    small = mount("-t", "tmpfs", "-o", options, "tmpfs", name="small")
    if "nr_inodes" not in options:
        assert big("status", "--cache-dir", small).code == 0
    ballast = fill(small)
    ran = big("sync", "--cache-dir", small, "--json")
    assert_told(ran, "[HOME]/small", lacking=range(BIG.size, BIG.size + 16_000_001))
    assert [wheel["state"] for wheel in ran.document["wheels"]] == ["missing"]
    ballast.unlink()
    subprocess.run(["mount", "-o", "remount,size=64m,nr_inodes=1000", small], check=True)
    assert big("sync", "--cache-dir", small).code == 0


def test_does_not_keep_a_sync_from_what_is_present(big, mount):
    small = mount("-t", "tmpfs", "-o", "size=21m", "tmpfs", name="small")
    assert big("sync", "--cache-dir", small).code == 0
    shutil.rmtree(small / "v1/projects")
    (small / "v1/projects").mkdir()
    (small / "v1/catalog.sqlite").unlink()
    ballast = fill(small)
    ran = big("sync", "--cache-dir", small, "--json")
    assert ran.code == 0, ran
    assert [wheel["state"] for wheel in ran.document["wheels"]] == ["cached"]
    assert "nothing keeps a prune from what this command needs" in ran.err
    ballast.unlink()
    assert big("sync", "--cache-dir", small).err == ""


def test_under_a_wheelhouse_is_told_and_the_next_run_goes_on(big, mount):
    assert big("sync").code == 0
    small = mount("-t", "tmpfs", "-o", "size=2m", "tmpfs", name="small")
    ran = big("wheelhouse", small / "wheels")
    assert_told(ran, "[HOME]/small/wheels", lacking=range(BIG.size - 2_200_000, BIG.size + 1_000_000))
    assert not list((small / "wheels").glob("*big*"))
    subprocess.run(["mount", "-o", "remount,size=8m", small], check=True)
    assert big("wheelhouse", small / "wheels").code == 0
    assert (small / "wheels" / BIG.filename).stat().st_size == BIG.size


def test_under_a_lockfile_is_told_and_the_next_run_goes_on(run, index, mount):
    small = mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", name="project")
    run.service("one", "gamma")
    run.declare("one", index=index)
    ballast = fill(small)
    ran = run("lock")
    assert_told(ran, "[HOME]/project", lacking=range(1, 100_000))
    assert not list(small.glob("*pylock*"))
    ballast.unlink()
    assert run("lock").code == 0
    assert "gamma" in (small / "pylock.one.toml").read_text()


@pytest.mark.parametrize("has_catalog", [True, False], ids=["", "and a lost catalog"])
def test_keeps_nobody_from_looking_at_the_store_or_making_room(big, mount, has_catalog):
    small = mount("-t", "tmpfs", "-o", "size=21m", "tmpfs", name="small")
    assert big("sync", "--cache-dir", small).code == 0
    if not has_catalog:
        (small / "v1/catalog.sqlite").unlink()
    fill(small)
    for command in (["list"], ["status"], ["verify"], ["verify", "--fast"], ["prune", "--all", "--dry-run"]):
        ran = big(*command, "--cache-dir", small)
        assert ran.code == 0, ran
    shutil.rmtree(small / "v1/projects")
    pruned = big("prune", "--all", "--cache-dir", small, "--json")
    assert pruned.code == 0, pruned
    assert BIG.filename in [each["name"] for each in pruned.document["removed"]]
    assert shutil.disk_usage(small).free >= BIG.size
