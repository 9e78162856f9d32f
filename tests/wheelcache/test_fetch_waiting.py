"""Syncs that wait for each other: whom they say they wait for, who goes on when one dies, what holds without locks."""

from __future__ import annotations

import os
import re
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import pytest
from support.program import wait_until
from support.server import Serve
from support.syncs import IN_PIECES, MB, Syncs, results_of, start_sync
from support.wheels import make_wheel

from wheelcache.events import Waiting, WheelProgress
from wheelcache.place import boot_id, this_place
from wheelcache.store import Store
from wheelcache.writers import SILENT_SECONDS, this_writer

WHEEL = make_wheel("big", size=4 * MB)
PATH = f"/files/{WHEEL.filename}"
ANOTHER_MACHINE = {"boot": "another start", "place": "elsewhere", "host": "build-7", "space": ""}

NO_LOCKS = "import fcntl; fcntl.flock = lambda *_: None"
"""A file system that grants a lock to everybody."""


@pytest.fixture
def sync(tmp_path):
    return Syncs(tmp_path / "cache", settings=replace(IN_PIECES, connections=1))


@pytest.fixture
def lock_file(sync):
    return sync.partial_file(WHEEL).with_suffix(".lock")


@pytest.fixture
def url(server):
    return server.put_wheel(WHEEL)


@contextmanager
def running(sync: Syncs, *wheels):
    """Syncs in a thread; yields where the results will be."""
    results: list = []
    stop = threading.Event()
    thread = threading.Thread(target=lambda: results.extend(sync(*wheels, stop=stop)))
    thread.start()
    try:
        yield results
    except BaseException:
        stop.set()
        raise
    finally:
        thread.join()


def told(sync: Syncs) -> list[str]:
    return [event.reason for event in sync.seen(Waiting)]


def writer(**changed: object):
    """This process, but for what is changed of it."""
    return replace(this_writer("wheelcache build", boot=boot_id(), place=this_place()), **changed)


def test_who_waits_says_for_whom_and_how_far_that_is(sync, server, url):
    sync.keep(WHEEL, (0, MB))
    server.script(PATH, then=Serve(rate=3 * MB))
    with start_sync(sync.store.root, WHEEL.locked(url)) as owner:
        wait_until(lambda: server.sent(PATH) > 0)
        [result] = sync(WHEEL.locked(url))
        assert results_of(owner) == [("resumed", WHEEL.size - MB)]
    assert (result.state, result.bytes_fetched) == ("cached", 0)
    reason = told(sync)[0]
    found = re.fullmatch(r"process (\d+) \(wheelcache\) is fetching it, since \d\d:\d\d:\d\d, (\d+) % there", reason)
    assert found, reason
    assert int(found[1]) == owner.pid
    assert 20 <= int(found[2]) <= 100


def test_an_owner_that_is_killed_is_taken_over_and_only_the_rest_is_fetched(sync, server, url):
    server.script(PATH, then=Serve(rate=MB))
    with start_sync(sync.store.root, WHEEL.locked(url), connections=1) as owner:
        wait_until(lambda: sync.store.partial_bytes(WHEEL.digest) > MB)
        with running(sync, WHEEL.locked(url)) as results:
            wait_until(lambda: told(sync))
            owner.kill()
            kept = sync.store.partial_bytes(WHEEL.digest)
            server.script(PATH)
    [result] = results
    assert (result.state, result.error) == ("resumed", "")
    assert result.bytes_fetched <= WHEEL.size - kept
    assert sync.holds(WHEEL)


def test_another_owner_is_told_as_soon_as_there_is_one(sync, url, lock_file):
    with ExitStack() as held:
        held.enter_context(Store.open(sync.store.root).acquire(WHEEL.digest))
        with running(sync, WHEEL.locked(url)) as results:
            for line, expected in [
                (b"\x1b[31mgarbage", "another process is fetching it, 0 % there"),
                (writer(since=1.0).line(), rf"process {os.getpid()} \(wheelcache build\) is fetching it, since .*"),
                (writer(**ANOTHER_MACHINE).line(), r"process \d+ on build-7 \(wheelcache build\) is fetching it.*"),
            ]:
                lock_file.write_bytes(line)
                wait_until(lambda: told(sync) and re.fullmatch(expected, told(sync)[-1]))  # noqa: B023
            lock_file.write_bytes(b"")
            held.close()
    assert len(told(sync)) == 3
    assert [result.state for result in results] == ["downloaded"]


class TestWhereALockIsGrantedToEverybody:
    def test_several_processes_end_with_the_right_wheels_and_no_error(self, sync, server):
        made = [make_wheel(f"w{number}", size=40_000 + number) for number in range(12)]
        locked = [wheel.locked(server.put_wheel(wheel)) for wheel in made]
        for wheel in made:
            server.script(f"/files/{wheel.filename}", then=Serve(rate=400_000))
        processes = [start_sync(sync.store.root, *locked, before=NO_LOCKS) for _ in range(4)]
        results = [result for process in processes for result in results_of(process)]
        assert {state for state, _ in results} == {"cached", "downloaded"}
        assert all(sync.holds(wheel) for wheel in made)

    def test_who_comes_second_waits_and_fetches_nothing(self, sync, server, url):
        server.script(PATH, then=Serve(rate=3 * MB))
        with start_sync(sync.store.root, WHEEL.locked(url), before=NO_LOCKS) as first:
            wait_until(lambda: sync.store.partial_bytes(WHEEL.digest) > 0)
            with start_sync(sync.store.root, WHEEL.locked(url), before=NO_LOCKS) as second:
                assert results_of(first)[0][0] == "downloaded"
                assert results_of(second) == [("cached", 0)]
        assert sync.holds(WHEEL)

    def test_who_lost_it_on_the_way_publishes_nothing_and_goes_on_later(self, sync, url, lock_file):
        lost = threading.Event()

        def emit(event) -> None:
            sync.events.append(event)
            if isinstance(event, WheelProgress) and not lost.is_set():
                lost.set()
                lock_file.unlink()  # as another machine does, which does not see our lock
                lock_file.write_bytes(writer(**ANOTHER_MACHINE).line())
            if isinstance(event, Waiting):
                assert not sync.store.blob(WHEEL.digest).exists()
                lock_file.unlink()

        [result] = sync(WHEEL.locked(url), emit=emit)
        assert (result.state, result.bytes_fetched, result.error) == ("resumed", WHEEL.size, "")
        assert sync.holds(WHEEL)
        assert sum(event.received for event in sync.seen(WheelProgress)) == WHEEL.size

    def test_what_another_machine_may_still_write_to_does_not_become_the_blob(self, sync, url, lock_file):
        sync.keep(WHEEL, (0, 2 * MB))
        lock_file.write_bytes(writer(**ANOTHER_MACHINE).line())
        long_ago = time.time() - SILENT_SECONDS - 1
        os.utime(lock_file, (long_ago, long_ago))
        with sync.partial_file(WHEEL).open("r+b") as opened:
            [result] = sync(WHEEL.locked(url))
            opened.write(b"other bytes")
        assert (result.state, result.bytes_fetched) == ("resumed", WHEEL.size - 2 * MB)
        assert sync.holds(WHEEL)
