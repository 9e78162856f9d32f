"""What watches over all transfers of a sync."""

from __future__ import annotations

import threading
from contextlib import ExitStack

import pytest
from support.program import wait_until

from wheelcache.digest import digest_of_bytes
from wheelcache.pace import FetchSettings, Watch
from wheelcache.partial import Partial

MIB = 1 << 20


@pytest.fixture
def flushed(tmp_path):
    """Makes partials that are brought to the disk, as their bytes want it: time stands still."""
    with ExitStack() as stack:
        watch = Watch(stop=threading.Event(), settings=FetchSettings(), observe=lambda *_: None, clock=lambda: 1000.0)
        stack.enter_context(watch)

        def make(name: str) -> Partial:
            partial = Partial(tmp_path, digest_of_bytes(name.encode()), boot="b", size=64 * MIB)
            stack.callback(partial.close)
            stack.enter_context(watch.flushing(partial))
            return partial

        yield make


def test_much_that_came_is_brought_to_the_disk_at_once_and_a_little_is_not(flushed):
    much, little = flushed("much"), flushed("little")
    little.write(0, bytes(MIB))
    much.write(0, bytes(17 * MIB))
    wait_until(lambda: much.unsynced == 0, seconds=60)
    assert little.unsynced == MIB


def test_what_comes_for_several_wheels_counts_together(flushed):
    partials = [flushed(name) for name in "abcd"]
    for partial in partials:
        partial.write(0, bytes(5 * MIB))
    wait_until(lambda: not any(partial.unsynced for partial in partials))
