"""Syncs onto disks that are too small, or fill up."""

from __future__ import annotations

import subprocess
from dataclasses import replace

import pytest
from support.server import Serve
from support.syncs import IN_PIECES, MB, Syncs
from support.wheels import make_wheel

from wheelcache.errors import StoreFullError

WHEEL = make_wheel("big", size=3 * MB)
PATH = f"/files/{WHEEL.filename}"
NO_RESERVE = replace(IN_PIECES, reserve=0)


def test_a_disk_that_is_too_small_is_told_before_a_byte_is_fetched(small_disk, server):
    url = server.put_wheel(WHEEL)
    with pytest.raises(StoreFullError) as caught:
        Syncs(small_disk("2m"), settings=NO_RESERVE)(WHEEL.locked(url))
    assert caught.value.facts["needed"] == WHEEL.size
    assert 0 < caught.value.facts["free"] < 2.1 * MB
    assert not server.asked()


def test_a_disk_that_fills_up_keeps_the_partial_and_nothing_more_is_tried(small_disk, server):
    made = [make_wheel(f"w{number}", size=3 * MB - number) for number in range(3)]
    locked = [wheel.locked(server.put_wheel(wheel), size=None) for wheel in made]
    sync = Syncs(small_disk("2m"), settings=replace(NO_RESERVE, connections=1))
    sync.store.free_bytes = lambda: 10**12  # another process takes the room after we looked
    results = sync(*locked)
    assert [result.state for result in results] == ["failed", "missing", "missing"]
    assert isinstance(results[0].failure, StoreFullError)
    assert "not tried, the disk is full" in results[1].error
    assert sync.store.partial_bytes(made[0].digest) > MB


@pytest.mark.parametrize("connections", [1, 4])
def test_once_there_is_room_again_the_next_run_goes_on(small_disk, server, connections):
    url = server.put_wheel(WHEEL)
    disk = small_disk("1m")
    sync = Syncs(disk, settings=replace(NO_RESERVE, connections=connections))
    server.script(PATH, then=Serve(rate=8 * MB))
    sync.store.free_bytes = lambda: 10**12
    [result] = sync(WHEEL.locked(url))
    assert isinstance(result.failure, StoreFullError)
    assert not sync.store.blob(WHEEL.digest).exists()
    kept = sync.store.partial_bytes(WHEEL.digest)
    assert kept > 300_000
    subprocess.run(["mount", "-o", "remount,size=8m", disk], check=True)
    again = Syncs(disk, settings=replace(NO_RESERVE, connections=1))
    [result] = again(WHEEL.locked(url))
    assert (result.state, result.bytes_fetched) == ("resumed", WHEEL.size - kept)
    assert again.holds(WHEEL)
