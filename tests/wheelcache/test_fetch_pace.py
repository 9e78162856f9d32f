"""Syncs that are slow, limited or stopped."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest
from support.server import Respond, Serve
from support.syncs import MB, QUICK, Syncs
from support.wheels import make_wheel

from wheelcache.errors import NetworkError
from wheelcache.rates import LARGEST_READ

WHEEL = make_wheel("big", size=3 * MB)
PATH = f"/files/{WHEEL.filename}"
ALONE = replace(QUICK, connections=1)


@pytest.fixture
def sync(tmp_path):
    return Syncs(tmp_path / "cache")


@pytest.fixture
def url(server):
    return server.put_wheel(WHEEL)


class TestSlowness:
    def test_silence_is_noticed_and_another_source_continues(self, sync, server, other, url):
        server.script(PATH, then=Serve(silent_after=MB))
        began = time.monotonic()
        [result] = sync(WHEEL.locked(url, other.put_wheel(WHEEL)), settings=replace(QUICK, timeout=0.4))
        assert result.state == "downloaded"
        assert time.monotonic() - began < 5
        assert "silent" in sync.notes()

    def test_a_trickle_is_noticed_although_bytes_keep_coming(self, sync, server, other, url):
        server.script(PATH, then=Serve(rate=2000, slow_after=MB))
        settings = replace(QUICK, timeout=30.0, min_rate=50_000, rate_window=0.6)
        began = time.monotonic()
        [result] = sync(WHEEL.locked(url, other.put_wheel(WHEEL)), settings=settings)
        assert result.state == "downloaded"
        assert time.monotonic() - began < 5
        assert "too slow: expected 50,000 bytes/s" in sync.notes()
        assert other.asked(PATH)[0].headers["range"]

    def test_a_slow_only_source_is_borne_as_long_as_it_gives(self, sync, server):
        small = make_wheel("small", size=400_000)
        url = server.put_wheel(small)
        server.script(f"/files/{small.filename}", then=Serve(rate=300_000))
        settings = replace(QUICK, min_rate=10_000_000, rate_window=0.3, retries=1)
        [result] = sync(small.locked(url), settings=settings)
        assert result.state == "downloaded"
        assert len(server.asked()) > 2

    def test_the_rate_limit_holds_for_all_connections_together(self, sync, server):
        made = [make_wheel(f"w{number}", size=300_000) for number in range(4)]
        urls = [server.put_wheel(wheel) for wheel in made]
        began = time.monotonic()
        results = sync(
            *(wheel.locked(url) for wheel, url in zip(made, urls, strict=True)),
            settings=replace(QUICK, limit_rate=1_000_000, min_rate=20_000_000, rate_window=0.8),
        )
        seconds = time.monotonic() - began
        assert {result.state for result in results} == {"downloaded"}
        assert 1.1 < seconds < 3
        assert len(server.asked()) == 4  # our own limit never counts as a slow source

    def test_the_deadline_ends_the_sync_and_keeps_what_came(self, sync, server, url):
        server.script(PATH, then=Serve(rate=500_000, slow_after=MB))
        began = time.monotonic()
        [result] = sync(WHEEL.locked(url), settings=replace(ALONE, deadline=0.8))
        assert time.monotonic() - began < 3
        assert result.state == "missing"
        assert "deadline of 0.8 s" in result.error
        assert isinstance(result.failure, NetworkError)
        assert sync.store.partial_bytes(WHEEL.digest) > MB - LARGEST_READ


class TestStopping:
    @pytest.mark.parametrize("phase", ["body", "headers", "pause", "queue"])
    def test_ends_within_a_second_and_keeps_what_came(self, sync, server, url, phase):
        behaviour = {
            "body": Serve(silent_after=MB),
            "headers": Serve(delay=60),
            "pause": Respond(status=503, headers={"Retry-After": "50"}),
            "queue": Serve(rate=100_000, slow_after=MB),
        }[phase]
        server.script(PATH, then=behaviour)
        stop = threading.Event()
        threading.Timer(0.5, stop.set).start()
        began = time.monotonic()
        extra = [make_wheel(f"w{number}") for number in range(3)]
        settings = replace(QUICK, timeout=60.0, connections=1)
        results = sync(WHEEL.locked(url), *(wheel.locked(url) for wheel in extra), settings=settings, stop=stop)
        assert time.monotonic() - began < 2
        assert [result.state for result in results] == ["missing"] * 4
        assert all("interrupted" in result.error and result.failure is None for result in results)
        if phase in ("body", "queue"):
            assert sync.store.partial_bytes(WHEEL.digest) > MB - LARGEST_READ

    def test_before_the_start_fetches_nothing(self, sync, server, url):
        stop = threading.Event()
        stop.set()
        [result] = sync(WHEEL.locked(url, size=None), stop=stop)
        assert result.state == "missing"
        assert sum(request.sent for request in server.requests) < WHEEL.size

    def test_is_followed_by_a_run_that_continues(self, sync, server, url):
        server.script(PATH, Serve(silent_after=MB))
        stop = threading.Event()
        threading.Timer(0.3, stop.set).start()
        sync(WHEEL.locked(url), stop=stop, settings=ALONE)
        [result] = sync(WHEEL.locked(url), settings=ALONE)
        assert result.state == "resumed"
        assert 2 * MB <= result.bytes_fetched < 2 * MB + LARGEST_READ
