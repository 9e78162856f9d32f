"""Syncs of wheels in many pieces: over several connections and sources, through outages, and what they say."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest
from support.program import wait_until
from support.server import Busy, Respond, Serve, Server, in_turn, sent_less_than, when
from support.syncs import IN_PIECES, MB, PIECE, Syncs
from support.wheels import make_wheel

from wheelcache.errors import NetworkError
from wheelcache.events import (
    Note,
    TransferStatus,
    Waiting,
    WheelProgress,
    WheelStarted,
)
from wheelcache.rates import LARGEST_READ

WHEEL = make_wheel("big", size=4 * MB)
PATH = f"/files/{WHEEL.filename}"
FAST = 8 * MB
ALONE = replace(IN_PIECES, connections=1)


@pytest.fixture
def sync(tmp_path):
    return Syncs(tmp_path / "cache", settings=IN_PIECES)


def most(size: int, *servers: Server) -> int:
    """The most bytes that *size* may cost: whoever gives a part away may be in the midst of reading a block of it."""
    return size + LARGEST_READ * sum(len(server.asked()) for server in servers)


class TestSeveralConnections:
    def test_bring_one_wheel_together(self, sync, server):
        url = server.put_wheel(WHEEL)
        server.script(PATH, then=Serve(rate=4 * MB))
        [result] = sync(WHEEL.locked(url))
        assert result.state == "downloaded"
        assert sync.holds(WHEEL)
        assert server.peak_connections >= 2

    def test_read_each_byte_once_but_for_a_block_where_a_part_is_shared(self, sync, server):
        url = server.put_wheel(WHEEL)
        server.script(PATH, then=Serve(rate=4 * MB))
        [result] = sync(WHEEL.locked(url))
        starts = [(request.range or (0, None))[0] for request in server.asked(PATH)]
        assert len(starts) == len(set(starts)) > 1
        assert WHEEL.size <= result.bytes_fetched <= most(WHEEL.size, server)
        assert sum(event.received for event in sync.seen(WheelProgress)) == WHEEL.size

    def test_that_are_one_read_each_byte_once(self, sync, server):
        url = server.put_wheel(WHEEL)
        [result] = sync(WHEEL.locked(url), settings=ALONE)
        assert result.bytes_fetched == WHEEL.size
        assert len(server.asked()) == 1

    def test_take_over_the_rest_of_a_slow_one(self, sync, server):
        url = server.put_wheel(WHEEL)
        server.script(PATH, Serve(rate=40_000), then=Serve(rate=FAST))
        began = time.monotonic()
        [result] = sync(WHEEL.locked(url))
        assert sync.holds(WHEEL)
        assert time.monotonic() - began < WHEEL.size / 40_000 / 4
        assert WHEEL.size <= result.bytes_fetched <= WHEEL.size + 2 * LARGEST_READ

    def test_take_over_a_silent_ones_without_waiting_for_its_timeout_and_lose_nothing(self, sync, server):
        url = server.put_wheel(WHEEL)
        server.script(PATH, Serve(silent_after=MB), then=Serve(rate=FAST))
        [result] = sync(WHEEL.locked(url), settings=replace(IN_PIECES, timeout=2.0))
        assert result.state == "downloaded"
        assert sync.holds(WHEEL)
        assert result.bytes_fetched <= WHEEL.size + 2 * LARGEST_READ

    def test_of_two_sources_serve_one_wheel(self, sync, server, other):
        urls = [each.put_wheel(WHEEL) for each in (server, other)]
        for each in (server, other):
            each.script(PATH, then=Serve(rate=2 * MB))
        [result] = sync(WHEEL.locked(*urls))
        assert sync.holds(WHEEL)
        assert result.bytes_fetched <= most(WHEEL.size, server, other)
        assert min(server.sent(), other.sent()) > 8 * PIECE

    def test_of_a_source_that_dies_half_way_lose_nothing(self, sync, server, other):
        urls = [each.put_wheel(WHEEL) for each in (server, other)]
        server.script(PATH, then=when(sent_less_than(MB), Serve(rate=2 * MB, cut_after=MB // 2), Respond(status=404)))
        other.script(PATH, then=Serve(rate=2 * MB))
        [result] = sync(WHEEL.locked(*urls))
        assert result.state == "downloaded"
        assert result.bytes_fetched <= most(WHEEL.size, server, other)
        assert sync.holds(WHEEL)

    def test_to_a_host_are_never_more_than_allowed(self, sync, server):
        made = [make_wheel(f"w{number}", size=MB) for number in range(4)]
        urls = [server.put_wheel(wheel) for wheel in made]
        for wheel in made:
            server.script(f"/files/{wheel.filename}", then=Serve(rate=2 * MB))
        results = sync(
            *(wheel.locked(url) for wheel, url in zip(made, urls, strict=True)),
            settings=replace(IN_PIECES, connections=8, per_host=3),
        )
        assert {result.state for result in results} == {"downloaded"}
        assert 2 <= server.peak_connections <= 3

    def test_begin_with_two_to_a_host_that_nobody_knows(self, sync, server):
        made = [make_wheel(f"w{number}", size=100_000) for number in range(8)]
        locked = [wheel.locked(server.put_wheel(wheel)) for wheel in made]
        for wheel in made:
            server.script(f"/files/{wheel.filename}", then=Serve(delay=0.02))
        sync(*locked, settings=replace(IN_PIECES, connections=8, per_host=8))
        assert server.peak_connections == 2

    def test_grow_in_number_while_that_brings_more(self, sync, server):
        made = make_wheel("long", size=12 * MB)
        url = server.put_wheel(made)
        server.script(f"/files/{made.filename}", then=Serve(rate=MB))
        sync(made.locked(url), settings=replace(IN_PIECES, connections=8, per_host=8))
        assert sync.holds(made)
        assert server.peak_connections > 2

    def test_are_few_to_a_host_that_bans_the_greedy_and_all_arrives(self, sync):
        with Server(most_connections=2) as server:
            made = [make_wheel(f"w{number}", size=2 * MB) for number in range(4)]
            locked = [wheel.locked(server.put_wheel(wheel)) for wheel in made]
            for wheel in made:
                server.script(f"/files/{wheel.filename}", then=Serve(rate=3 * MB))
            results = sync(*locked, settings=replace(IN_PIECES, connections=8, per_host=8))
            assert {result.state for result in results} == {"downloaded"}
            assert sum(result.bytes_fetched for result in results) <= 8 * MB + 8 * LARGEST_READ
            refused = [request for request in server.asked() if request.status == 429]
            assert len(refused) <= 8

    def test_leave_small_wheels_whole(self, sync, server):
        small = make_wheel("small", size=PIECE * 3)
        sync(small.locked(server.put_wheel(small)))
        assert len(server.asked()) == 1

    def test_work_for_a_wheel_whose_size_nobody_says(self, sync, server):
        url = server.put_wheel(WHEEL)
        server.script(PATH, then=Serve(length=False, rate=FAST))
        [result] = sync(WHEEL.locked(url, size=None))
        assert sync.holds(WHEEL)
        assert result.bytes_fetched <= 2 * WHEEL.size

    @pytest.mark.parametrize("seed", range(6))
    def test_write_what_they_should_however_they_meet(self, sync, server, other, seed):
        """Tiny pieces, hasty splits: each read crosses pieces that others are about to take."""
        made = make_wheel("meet", size=3 * MB + seed * 4097, seed=str(seed))
        urls = [each.put_wheel(made) for each in (server, other)]
        for each in (server, other):
            each.script(f"/files/{made.filename}", then=Serve(rate=3 * MB))
        [result] = sync(made.locked(*urls), settings=replace(IN_PIECES, connections=8, per_host=8, piece=4096))
        assert sync.holds(made)
        assert "wrong" not in sync.notes()
        assert result.bytes_fetched <= made.size + 8 * LARGEST_READ


class TestWithoutRanges:
    @pytest.mark.parametrize("kept", [1, PIECE - 1, PIECE, MB, WHEEL.size - 1])
    def test_an_earlier_runs_bytes_are_followed_by_one_restart(self, sync, server, kept):
        url = server.put_wheel(WHEEL)
        sync.keep(WHEEL, (0, kept))
        server.script(PATH, then=Serve(ranges=False, delay=0.05, rate=FAST))
        [result] = sync(WHEEL.locked(url))
        assert result.error == ""
        assert sync.holds(WHEEL)
        assert result.bytes_fetched <= most(WHEEL.size, server)

    def test_a_wheel_comes_over_the_connection_that_has_it(self, sync, server):
        url = server.put_wheel(WHEEL)
        server.script(PATH, then=Serve(ranges=False, rate=FAST))
        [result] = sync(WHEEL.locked(url))
        assert sync.holds(WHEEL)
        assert result.bytes_fetched <= most(WHEEL.size, server)

    def test_a_cut_is_followed_by_one_restart(self, sync, server):
        url = server.put_wheel(WHEEL)
        server.script(PATH, Serve(ranges=False, cut_after=3 * MB, rate=FAST), then=Serve(ranges=False, rate=FAST))
        [result] = sync(WHEEL.locked(url))
        assert result.error == ""
        assert sync.holds(WHEEL)
        assert result.bytes_fetched <= most(3 * MB + WHEEL.size, server)

    def test_sources_are_passed_over_for_one_that_has_them(self, sync, server, other):
        urls = [each.put_wheel(WHEEL) for each in (server, other)]
        server.script(PATH, then=Serve(ranges=False, rate=2 * MB))
        other.script(PATH, then=Serve(rate=2 * MB))
        sync.keep(WHEEL, (0, MB))
        [result] = sync(WHEEL.locked(*urls))
        assert sync.holds(WHEEL)
        assert result.bytes_fetched <= most(WHEEL.size - MB, server, other)

    def test_a_source_is_not_kept_waiting_for_a_host_that_went_away(self, sync, server, other):
        urls = [each.put_wheel(WHEEL) for each in (server, other)]
        server.script(PATH, then=Serve(rate=MB))
        other.script(PATH, then=Serve(ranges=False, rate=FAST))
        sync.keep(WHEEL, (0, PIECE))

        def cut() -> None:
            wait_until(lambda: sync.store.partial_bytes(WHEEL.digest) > MB)
            server.down()

        thread = threading.Thread(target=cut)
        thread.start()
        [result] = sync(WHEEL.locked(*urls), settings=replace(IN_PIECES, deadline=15.0))
        thread.join()
        assert result.error == ""
        assert sync.holds(WHEEL)
        assert result.bytes_fetched <= most(2 * WHEEL.size, server, other)


class TestSpeed:
    def test_is_kept_so_that_the_next_run_begins_with_the_faster_host(self, sync, server, other):
        slow, fast = server.put_wheel(WHEEL), other.put_wheel(WHEEL)
        server.script(PATH, then=Serve(rate=200_000))
        other.script(PATH, then=Serve(rate=4 * MB))
        sync(WHEEL.locked(slow, fast))
        next_one = make_wheel("next", size=PIECE * 3)
        locked = next_one.locked(server.put_wheel(next_one), other.put_wheel(next_one))
        [result] = sync.again()(locked)
        assert result.source.startswith(other.url)
        assert not server.asked(f"/files/{next_one.filename}")

    def test_is_reported_with_whom_it_comes_from(self, sync, server):
        url = server.put_wheel(WHEEL)
        server.script(PATH, then=Serve(rate=MB // 2))
        [result] = sync(WHEEL.locked(url))
        first, *later = sync.seen(TransferStatus)
        assert (first.rate, {*first.connections} <= {server.host}) == (0, True)
        assert later
        for status in later:
            assert {host: 1 <= count <= 4 for host, count in status.connections.items()} == {server.host: True}
            assert 0 < status.rate <= status.received <= result.bytes_fetched  # each looks back for a second at least
        received = [status.received for status in later]
        assert received == sorted(received)


class TestMirrors:
    def test_give_pieces_beside_the_lockfiles_url(self, sync, server, other):
        heavy = make_wheel("heavy", size=24 * MB)
        url = server.put_wheel(heavy)
        root = other.put_index([heavy])
        server.script(f"/files/{heavy.filename}", then=Serve(rate=6 * MB))
        other.script(f"/simple-files/{heavy.filename}", then=Serve(rate=6 * MB))
        [result] = sync(heavy.locked(url), mirrors=[root], settings=replace(IN_PIECES, piece=MB))
        assert sync.holds(heavy)
        assert result.bytes_fetched == heavy.size
        assert server.sent() > MB
        assert other.sent(f"/simple-files/{heavy.filename}") > MB

    def test_that_only_rewrite_urls_serve_what_the_index_refuses(self, sync, server, other):
        other.put_wheel(WHEEL)
        [result] = sync(WHEEL.locked(f"{server.url}{PATH}"), mirrors=[f"{other.url}/simple/"])
        assert result.state == "downloaded"
        assert result.source == f"{other.url}{PATH}"

    def test_that_list_another_digest_are_reported_and_not_used(self, sync, server, other):
        root = other.put_index([WHEEL], claimed={WHEEL.filename: "0" * 64})
        [result] = sync(WHEEL.locked(f"{server.url}/gone"), mirrors=[root])
        assert result.state == "failed"
        assert f"{other.url}/simple/ lists other bytes under this name" in sync.notes()
        assert not other.asked(f"/simple-files/{WHEEL.filename}")

    def test_are_not_asked_for_light_wheels_that_their_own_url_serves(self, sync, server, other):
        url = server.put_wheel(WHEEL)
        server.script(PATH, then=Serve(rate=FAST))
        sync(WHEEL.locked(url), mirrors=[other.put_index([WHEEL])])
        assert not other.requests


class TestExpiredUrls:
    def test_of_the_lockfile_are_looked_up_at_the_index(self, sync, server):
        root = server.put_index([WHEEL])
        server.script("/signed", then=Respond(status=403))
        [result] = sync(WHEEL.locked(f"{server.url}/signed?sig=old"), indexes=[root])
        assert (result.state, result.source) == ("downloaded", f"{server.url}/simple-files/{WHEEL.filename}")
        assert "sig=old" not in str([event.as_json() for event in sync.events])

    def test_are_looked_up_in_mid_transfer_and_nothing_is_lost(self, sync, server):
        root = server.put_index([WHEEL])
        signed = server.put("/signed", WHEEL.data)
        server.script("/signed", Serve(cut_after=MB, rate=FAST), then=Respond(status=403))
        [result] = sync(WHEEL.locked(f"{signed}?sig=old"), indexes=[root], settings=ALONE)
        assert (result.state, result.bytes_fetched) == ("downloaded", WHEEL.size)
        assert sync.holds(WHEEL)

    def test_that_no_index_knows_better_are_a_network_error(self, sync, server):
        server.script("/signed", then=Respond(status=403))
        [result] = sync(WHEEL.locked(f"{server.url}/signed"), indexes=[f"{server.url}/simple/"])
        assert isinstance(result.failure, NetworkError)
        assert len(server.asked("/simple/big/")) == 1


class TestBusyHosts:
    def test_do_not_hold_up_wheels_of_other_hosts(self, sync, server, other):
        busy = [make_wheel(f"busy{number}", size=300_000) for number in range(6)]
        free = [make_wheel(f"free{number}", size=100_000) for number in range(6)]
        locked = [wheel.locked(server.put_wheel(wheel)) for wheel in busy]
        locked += [wheel.locked(other.put_wheel(wheel)) for wheel in free]
        greedy = in_turn(*[Busy(status=429, seconds=2)] * 2)
        for wheel in busy:
            server.script(f"/files/{wheel.filename}", then=greedy)
        finished: dict[str, float] = {}

        def emit(event) -> None:
            if type(event).__name__ == "WheelFinished":
                finished[event.filename] = time.monotonic()

        results = sync(*locked, emit=emit)
        assert {result.state for result in results} == {"downloaded"}
        assert max(finished[wheel.filename] for wheel in free) < min(finished[wheel.filename] for wheel in busy)

    def test_are_asked_by_nobody_until_they_want_to_be(self, sync, server):
        made = [make_wheel(f"w{number}", size=100_000) for number in range(6)]
        locked = [wheel.locked(server.put_wheel(wheel)) for wheel in made]
        greedy = in_turn(*[Busy(status=429, seconds=1)] * 2)
        for wheel in made:
            server.script(f"/files/{wheel.filename}", then=greedy)
        results = sync(*locked)
        assert {result.state for result in results} == {"downloaded"}
        assert len(server.asked()) == 2 + 6
        [waiting, *_] = sync.seen(Waiting)
        assert waiting.reason == "busy (HTTP status 429)"
        assert waiting.host == server.host
        assert 0.5 < waiting.seconds <= 1


class TestAnOutage:
    @pytest.mark.parametrize("sources", [1, 2])
    def test_of_the_line_is_waited_for_and_costs_no_bytes(self, sync, server, other, sources):
        servers = [server, other][:sources]
        urls = [each.put_wheel(WHEEL) for each in servers]
        for each in servers:
            each.script(PATH, then=Serve(rate=2 * MB / sources))

        def cut_and_mend() -> None:
            wait_until(lambda: sync.store.partial_bytes(WHEEL.digest) > MB)
            for each in servers:
                each.down()
            time.sleep(2 / sources)
            for each in servers:
                each.up()

        thread = threading.Thread(target=cut_and_mend)
        thread.start()
        settings = replace(IN_PIECES, backoff=3.0 / sources, longest_pause=3.0 / sources, retries=2)
        [result] = sync(WHEEL.locked(*urls), settings=settings)
        thread.join()
        assert result.state == "downloaded"
        assert sync.holds(WHEEL)
        assert result.bytes_fetched <= 1.01 * WHEEL.size + 4 * LARGEST_READ
        waits = sync.seen(Waiting)
        assert {wait.host for wait in waits} <= {each.host for each in servers}
        if sources == 1:  # of two hosts, one is asked again while the other rests
            assert any(wait.host and wait.seconds > 0 for wait in waits)

    def test_that_does_not_end_is_a_failure_that_keeps_what_came(self, sync, server):
        url = server.put_wheel(WHEEL)
        server.script(PATH, Serve(cut_at=MB))

        def emit(event) -> None:
            sync.events.append(event)
            if isinstance(event, Note):
                server.down()

        [result] = sync(WHEEL.locked(url), settings=replace(ALONE, deadline=5.0), emit=emit)
        assert isinstance(result.failure, NetworkError)
        assert f"{MB} bytes are kept" in result.error
        assert "no connection" in sync.notes()
        server.up()
        [result] = sync(WHEEL.locked(url), settings=ALONE)
        assert (result.state, result.bytes_fetched) == ("resumed", WHEEL.size - MB)
        assert sync.holds(WHEEL)


class TestTheEvents:
    def test_say_how_much_an_earlier_run_left(self, sync, server):
        url = server.put_wheel(WHEEL)
        kept = sync.keep(WHEEL, (0, 5 * PIECE + 3), (9 * PIECE, 10 * PIECE))
        sync(WHEEL.locked(url))
        [started] = sync.seen(WheelStarted)
        assert (started.present, started.size) == (kept, WHEEL.size)
