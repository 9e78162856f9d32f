"""Syncs onto disks that are too small, or fill up: what is told, what is kept, and that the next run goes on."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import replace

import pytest
from support.aftermath import violations
from support.server import Serve
from support.syncs import IN_PIECES, MB, Syncs
from support.wheels import make_wheel

from wheelcache.errors import StoreFullError
from wheelcache.inventory import take_inventory

WHEEL = make_wheel("big", size=3 * MB)
PATH = f"/files/{WHEEL.filename}"
SMALL = [make_wheel(name, size=size) for name, size in (("left", 30_000), ("right", 21_000))]
PIECES = replace(IN_PIECES, piece=8 << 10)
ALONE = replace(PIECES, connections=1, reserve=0)
PAGE = 4096


def filling(sync: Syncs) -> Syncs:
    """Lets another process take the room after a sync has looked how much there is."""
    free_bytes, first = sync.store.free_bytes, [10**12]
    sync.store.free_bytes = lambda: first.pop() if first else free_bytes()
    return sync


def bytes_lacking(failure: StoreFullError) -> int:
    """The bytes that an error's hint says to be lacking."""
    return int(re.match(r"needs ([\d,]+) more bytes: free some space", failure.hint)[1].replace(",", ""))


def test_a_disk_that_is_too_small_is_told_before_a_byte_is_fetched(small_disk, server):
    url = server.put_wheel(WHEEL)
    sync = Syncs(small_disk("2m"))
    [result] = sync(WHEEL.locked(url))
    free = result.failure.facts["free"]
    assert 0 < free < 2.1 * MB
    assert (result.state, result.failure.exit_code) == ("missing", 6)
    assert result.failure.message == (
        f"{sync.store.root}: no room left on the disk: expected 3,000,000 bytes free for 1 wheel "
        f"(and 16,000,000 to spare), found {free:,}"
    )
    assert bytes_lacking(result.failure) == 19 * MB - free
    assert not server.asked()


def test_a_disk_that_fills_up_keeps_the_partial_and_nothing_more_is_tried(small_disk, server):
    made = [make_wheel(f"w{number}", size=3 * MB - number) for number in range(3)]
    locked = [wheel.locked(server.put_wheel(wheel), size=None) for wheel in made]
    sync = filling(Syncs(small_disk("2m")))
    results = sync(*locked, settings=replace(PIECES, connections=1))
    assert [result.state for result in results] == ["failed", "missing", "missing"]
    assert "not tried, the disk is full" in results[1].error
    kept = sync.store.partial_bytes(made[0].digest)
    assert kept > MB
    failures = {result.failure for result in results}
    assert len(failures) == 1
    left = sum(wheel.size for wheel in made) - kept
    assert bytes_lacking(failures.pop()) == left + 16 * MB - sync.store.free_bytes()


def test_of_wheels_whose_size_nobody_said_only_the_least_is_told(small_disk, server):
    locked = [make_wheel(name).locked(f"{server.url}/gone/{name}", size=None) for name in ("unknown", "unheard")]
    known = WHEEL.locked(server.put_wheel(WHEEL))
    results = filling(Syncs(small_disk("2m")))(known, *locked, settings=replace(PIECES, connections=1))
    assert results[0].failure.hint.startswith("needs at least ")
    assert "for 3 wheels" in results[0].failure.message


@pytest.mark.parametrize("connections", [1, 4])
def test_once_there_is_room_again_the_next_run_goes_on(small_disk, server, connections):
    url = server.put_wheel(WHEEL)
    disk = small_disk("1m")
    sync = filling(Syncs(disk, settings=replace(IN_PIECES, connections=connections, reserve=0)))
    server.script(PATH, then=Serve(rate=8 * MB))
    [result] = sync(WHEEL.locked(url))
    assert isinstance(result.failure, StoreFullError)
    assert not sync.store.blob(WHEEL.digest).exists()
    kept = sync.store.partial_bytes(WHEEL.digest)
    assert kept > 300_000
    subprocess.run(["mount", "-o", "remount,size=8m", disk], check=True)
    again = Syncs(disk, settings=ALONE)
    [result] = again(WHEEL.locked(url))
    assert (result.state, result.bytes_fetched) == ("resumed", WHEEL.size - kept)
    assert again.holds(WHEEL)


def test_a_disk_may_be_full_at_any_page(small_disk, server):
    """Every write of a sync meets the full disk once: of the lock, the journal, the bytes, the catalog."""
    disk = small_disk("4m")
    locked = [made.locked(server.put_wheel(made)) for made in SMALL]
    ends = []
    while not ends or ends[-1] < len(SMALL):
        pages = len(ends)
        root, ballast = disk / f"cache-{pages}", disk / "ballast"
        sync = Syncs(root, settings=replace(PIECES, connections=1))
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, sync.store.free_bytes() - pages * PAGE)
        filling(sync)
        results = sync(*locked)
        done = [result for result in results if result.state == "downloaded"]
        assert {result.wheel.digest for result in done} == {made.digest for made in SMALL if sync.holds(made)}
        left = [made for made in SMALL if not sync.holds(made)]
        kept = sum(sync.store.partial_bytes(made.digest) for made in left)
        for failure in {result.failure for result in results} - {None}:
            assert failure.exit_code == 6
            assert failure.message.startswith(f"{root}: no room left on the disk: ")
            assert failure.facts["needed"] == sum(made.size for made in left) - kept
            assert bytes_lacking(failure) == failure.facts["needed"] + 16 * MB - failure.facts["free"]
        ballast.unlink()
        assert violations(root, published=[result.wheel.digest for result in done]) == []

        again = Syncs(root, settings=ALONE)
        later = again(*locked)
        assert [result.failure for result in later] == [None] * len(SMALL)
        assert sum(result.bytes_fetched for result in later) == sum(made.size for made in left) - kept
        assert {entry.filename for entry in take_inventory(again.store).values()} == {made.filename for made in SMALL}
        ends.append(len(done))
        subprocess.run(["rm", "-r", root], check=True)
    assert ends == sorted(ends)
    assert {0, 1, 2} == set(ends)
