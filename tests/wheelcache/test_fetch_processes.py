"""Syncs in processes of their own: killed, several at once, and how much memory they take."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support.program import wait_until
from support.server import Serve
from support.syncs import IN_PIECES, MB, PIECE, Syncs, results_of, start_sync
from support.wheels import make_wheel

from wheelcache.partial import PIECE_BYTES


@pytest.fixture
def sync(tmp_path):
    return Syncs(tmp_path / "cache", settings=replace(IN_PIECES, connections=1))


class TestSeveral:
    def test_fetch_each_wheel_once_between_them(self, sync, server):
        made = [make_wheel(f"w{number}", size=300_000) for number in range(5)]
        locked = [wheel.locked(server.put_wheel(wheel)) for wheel in made]
        for wheel in made:
            server.script(f"/files/{wheel.filename}", then=Serve(rate=1_000_000))
        processes = [start_sync(sync.store.root, *locked) for _ in range(3)]
        results = [result for process in processes for result in results_of(process)]
        assert len(server.asked()) == 5
        assert sum(fetched for _, fetched in results) == 5 * 300_000
        assert {state for state, _ in results} == {"cached", "downloaded"}


class TestKilled:
    @pytest.mark.parametrize("piece", [PIECE, PIECE_BYTES], ids=["small pieces", "pieces as in real life"])
    def test_in_mid_transfer_lose_nothing_that_was_written(self, sync, server, piece):
        made = make_wheel("huge", size=20 * MB)
        url = server.put_wheel(made)
        server.script(f"/files/{made.filename}", then=Serve(rate=3 * MB))
        kept = 0
        for _ in range(3):
            with start_sync(sync.store.root, made.locked(url), piece=piece) as process:
                try:
                    wait_until(lambda: sync.store.partial_bytes(made.digest) > kept + MB)  # noqa: B023
                    kept = sync.store.partial_bytes(made.digest)
                finally:
                    process.kill()
            assert sync.store.partial_bytes(made.digest) >= kept
        kept = sync.store.partial_bytes(made.digest)
        server.script(f"/files/{made.filename}")
        [result] = sync(made.locked(url))
        assert (result.state, result.bytes_fetched) == ("resumed", made.size - kept)
        assert sync.holds(made)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells a process's own peak")
def test_memory_does_not_grow_with_the_wheel(tmp_path, server):
    peaks = []
    for size in (MB, 60 * MB):
        made = make_wheel(f"w{size}", size=size)
        url = server.put_wheel(made)
        say_peak = 'print(next(l.split()[1] for l in open("/proc/self/status") if l.startswith("VmHWM")))'
        process = start_sync(tmp_path / "cache", made.locked(url), and_then=say_peak)
        peaks.append(int(process.communicate()[0].splitlines()[-1]))
    assert peaks[1] - peaks[0] < 8_000  # kB
    assert peaks[1] < 120_000
