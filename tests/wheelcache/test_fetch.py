"""Syncs against servers on good days and bad ones: what is kept, what is said, what is never published."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from dataclasses import replace

import pytest
from support.server import Respond, Serve, login_page
from support.syncs import MB, QUICK, Syncs
from support.wheels import make_wheel

from wheelcache.errors import IntegrityError, NetworkError
from wheelcache.events import (
    TransferFinished,
    TransferPlanned,
    WheelFinished,
    WheelProgress,
    WheelStarted,
)
from wheelcache.fetch import WheelResult

WHEEL = make_wheel("big", size=3 * MB)
PATH = f"/files/{WHEEL.filename}"
ALONE = replace(QUICK, connections=1)


@pytest.fixture
def sync(tmp_path):
    return Syncs(tmp_path / "cache")


@pytest.fixture
def url(server):
    return server.put_wheel(WHEEL)


class TestAGoodDay:
    def test_a_wheel_is_fetched_verified_and_published(self, sync, url):
        [result] = sync(WHEEL.locked(url))
        assert result == WheelResult(wheel=WHEEL.locked(url), state="downloaded", bytes_fetched=WHEEL.size, source=url)
        assert sync.holds(WHEEL)

    def test_what_is_present_needs_no_transport(self, sync, url):
        sync(WHEEL.locked(url))
        assert sync.transports == 1
        [result] = sync(WHEEL.locked(url))
        assert (result.state, result.bytes_fetched, result.source, result.error) == ("cached", 0, "", "")
        assert sync.transports == 1

    def test_what_is_present_loads_no_http_library(self, sync, url, tmp_path):
        sync(WHEEL.locked(url))
        program = textwrap.dedent("""
            import sys, threading
            from pathlib import Path
            from wheelcache.events import ignore
            from wheelcache.fetch import FetchSettings, sync_wheels
            from wheelcache.lock import LockedWheel
            from wheelcache.store import Store
            wheel = LockedWheel(name="big", version="1.0", filename="x.whl", digest=sys.argv[2], size=None, urls=())
            [result] = sync_wheels([wheel], store=Store.open(Path(sys.argv[1])), transport=None, mirrors=[],
                                   settings=FetchSettings(), emit=ignore, stop=threading.Event())
            heavy = {"requests", "urllib3", "tenacity", "pypi_simple", "pydantic", "asyncio"}
            print(result.state, sorted(heavy & set(sys.modules)))
        """)
        done = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / "cache"), WHEEL.digest],
            check=True,
            capture_output=True,
            text=True,
        )
        assert done.stdout == "cached []\n"

    def test_one_digest_in_two_lockfiles_is_fetched_once(self, sync, server, other, url):
        elsewhere = other.put_wheel(WHEEL)
        [result] = sync(WHEEL.locked(url, size=None), WHEEL.locked(elsewhere))
        assert result.wheel.urls == (url, elsewhere)
        assert result.wheel.size == WHEEL.size
        assert len(server.asked()) == 1
        assert not other.asked()

    def test_results_come_in_the_order_asked_but_the_largest_is_fetched_first(self, sync, server):
        made = [make_wheel(f"w{number}", size=size) for number, size in enumerate([5000, 900_000, 40_000])]
        one_by_one = replace(QUICK, connections=1)
        results = sync(*(wheel.locked(server.put_wheel(wheel)) for wheel in made), settings=one_by_one)
        assert [result.wheel.name for result in results] == ["w0", "w1", "w2"]
        assert [request.path for request in server.asked()] == [
            f"/files/{made[number].filename}" for number in (1, 2, 0)
        ]

    def test_several_come_at_once_but_never_more_than_allowed(self, sync, server):
        made = [make_wheel(f"w{number}", size=400_000) for number in range(6)]
        for wheel in made:
            server.put_wheel(wheel)
            server.script(f"/files/{wheel.filename}", Serve(rate=1_500_000))
        running, most = 0, 0
        guard = threading.Lock()

        def emit(event) -> None:
            nonlocal running, most
            with guard:
                running += isinstance(event, WheelStarted) - isinstance(event, WheelFinished)
                most = max(most, running)

        results = sync(
            *(wheel.locked(f"{server.url}/files/{wheel.filename}") for wheel in made),
            settings=replace(QUICK, connections=3),
            emit=emit,
        )
        assert most == 3
        assert {result.state for result in results} == {"downloaded"}

    def test_a_host_gets_no_more_connections_than_allowed(self, sync, server):
        made = [make_wheel(f"w{number}", size=200_000) for number in range(4)]
        for wheel in made:
            server.put_wheel(wheel)
            server.script(f"/files/{wheel.filename}", Serve(rate=2_000_000))
        results = sync(
            *(wheel.locked(f"{server.url}/files/{wheel.filename}") for wheel in made),
            settings=replace(QUICK, connections=4, per_host=1),
        )
        assert {result.state for result in results} == {"downloaded"}
        assert server.peak_connections == 1

    def test_unknown_sizes_are_asked_for_and_the_answers_length_counts(self, sync, server, url):
        [result] = sync(WHEEL.locked(url, size=None))
        assert result.state == "downloaded"
        assert [request.method for request in server.requests] == ["HEAD", "GET"]
        assert sync.seen(TransferPlanned) == [TransferPlanned(wheels=1, size=WHEEL.size, present=0)]

    def test_events_add_up_to_the_wheel(self, sync, url):
        sync(WHEEL.locked(url))
        assert sync.seen(TransferPlanned) == [TransferPlanned(wheels=1, size=WHEEL.size, present=0)]
        assert sync.seen(WheelStarted) == [
            WheelStarted(filename=WHEEL.filename, size=WHEEL.size, present=0, source=url)
        ]
        assert sync.seen(TransferFinished) == [TransferFinished(fetched=WHEEL.size)]
        assert sum(event.received for event in sync.seen(WheelProgress)) == WHEEL.size
        assert sync.seen(WheelFinished) == [WheelFinished(filename=WHEEL.filename, state="downloaded")]

    def test_a_local_file_is_a_source_even_offline(self, sync, tmp_path):
        file = tmp_path / WHEEL.filename
        file.write_bytes(WHEEL.data)
        [result] = sync(WHEEL.locked(file.as_uri()), offline=True)
        assert (result.state, result.source) == ("downloaded", file.as_uri())
        assert sync.holds(WHEEL)

    def test_offline_asks_nobody(self, sync, server, url):
        [result] = sync(WHEEL.locked(url, size=None), offline=True, mirrors=[server.url + "/simple/"])
        assert result.state == "missing"
        assert "--offline" in result.error
        assert isinstance(result.failure, NetworkError)
        assert not server.requests


class TestResuming:
    def test_a_cut_body_is_continued_where_it_ended(self, sync, server, url):
        server.script(PATH, Serve(cut_after=MB), Serve(cut_after=MB))
        [result] = sync(WHEEL.locked(url))
        assert result.state == "downloaded"
        assert result.bytes_fetched == WHEEL.size
        assert [request.headers.get("range") for request in server.asked(PATH)] == [
            None,
            "bytes=1000000-",
            "bytes=2000000-",
        ]

    def test_progress_refills_the_budget(self, sync, server, url):
        server.script(PATH, then=Serve(cut_after=100_000))
        [result] = sync(WHEEL.locked(url), settings=replace(QUICK, retries=1))
        assert result.state == "downloaded"
        assert len(server.asked(PATH)) == 30

    def test_a_server_that_gives_a_byte_at_a_time_is_given_up(self, sync, server, url):
        server.script(PATH, then=Serve(cut_after=10))
        [result] = sync(WHEEL.locked(url))
        assert result.state == "failed"
        assert len(server.asked(PATH)) == 1 + QUICK.retries
        assert "cut short" in result.error
        assert "50 bytes are kept" in result.error

    def test_an_earlier_runs_bytes_are_not_fetched_again(self, sync, server, url):
        server.script(PATH, Serve(cut_after=2 * MB), then=Respond(status=404))
        [first] = sync(WHEEL.locked(url))
        assert first.state == "failed"
        server.script(PATH)
        [second] = sync(WHEEL.locked(url))
        assert (second.state, second.bytes_fetched) == ("resumed", MB)
        assert sync.holds(WHEEL)

    def test_a_mirror_continues_what_another_began(self, sync, server, other, url):
        server.script(PATH, Serve(cut_after=2 * MB), then=Respond(status=503))
        elsewhere = other.put_wheel(WHEEL)
        [result] = sync(WHEEL.locked(url, elsewhere))
        assert (result.state, result.source) == ("downloaded", elsewhere)
        assert result.bytes_fetched == WHEEL.size
        assert other.asked(PATH)[0].headers["range"] == "bytes=2000000-"

    def test_a_whole_partial_is_verified_without_a_request(self, sync, server, url):
        partial = sync.store.partial(WHEEL.locked())
        partial.write(0, WHEEL.data)
        partial.close()
        [result] = sync(WHEEL.locked(url))
        assert (result.state, result.bytes_fetched, result.source) == ("resumed", 0, "")
        assert not server.asked()

    def test_a_whole_partial_of_unknown_size_is_known_by_416(self, sync, server, url):
        partial = sync.store.partial(WHEEL.locked())
        partial.write(0, WHEEL.data)
        partial.close()
        [result] = sync(WHEEL.locked(url, size=None))
        assert (result.state, result.bytes_fetched) == ("resumed", 0)

    def test_wrong_bytes_of_an_earlier_run_are_compared_and_fetched_again(self, sync, server, url):
        partial = sync.store.partial(WHEEL.locked())
        partial.write(0, b"rotten" + WHEEL.data[6:MB])
        partial.close()
        [result] = sync(WHEEL.locked(url), settings=ALONE)
        assert result.state == "resumed"
        assert sync.holds(WHEEL)
        assert sum(event.received for event in sync.seen(WheelProgress)) == WHEEL.size - MB
        assert result.bytes_fetched == WHEEL.size - MB + (2 << 20)  # the piece they are in
        assert "are compared with other sources" in sync.notes()

    def test_weak_validators_are_not_trusted(self, sync, server, url):
        server.script(PATH, Serve(cut_after=MB, headers={"ETag": 'W/"1"'}))
        sync(WHEEL.locked(url))
        assert "if-range" not in server.asked(PATH)[1].headers
        assert sync.holds(WHEEL)


class TestRanges:
    def test_a_whole_file_in_answer_to_a_range_is_never_appended(self, sync, server, url):
        server.script(PATH, Serve(cut_after=MB), then=Serve(ranges=False))
        [result] = sync(WHEEL.locked(url))
        assert result.state == "downloaded"
        assert sync.holds(WHEEL)
        assert server.asked(PATH)[1].headers["range"] == "bytes=1000000-"
        assert "range" not in server.asked(PATH)[2].headers

    def test_another_source_is_asked_before_starting_from_zero(self, sync, server, other, url):
        server.script(PATH, Serve(cut_after=MB), then=Serve(ranges=False))
        [result] = sync(WHEEL.locked(url, other.put_wheel(WHEEL)))
        assert len(server.asked(PATH)) == 2
        assert other.asked(PATH)[0].headers["range"] == "bytes=1000000-"
        assert result.bytes_fetched == WHEEL.size

    def test_starting_from_zero_is_tried_once_and_loses_nothing(self, sync, server, url):
        server.script(PATH, then=Serve(ranges=False, cut_after=2 * MB))
        [result] = sync(WHEEL.locked(url))
        assert result.state == "failed"
        assert len(server.asked(PATH)) == 3
        assert result.bytes_fetched == 4 * MB
        assert sync.store.partial_bytes(WHEEL.digest) == 2 * MB

    @pytest.mark.parametrize("bad", [Serve(range_shift=5), Serve(total_shift=7)], ids=["start", "total"])
    def test_another_range_than_asked_for_is_refused(self, sync, server, other, url, bad):
        server.script(PATH, Serve(cut_after=MB), then=bad)
        [result] = sync(WHEEL.locked(url, other.put_wheel(WHEEL)))
        assert result.state == "downloaded"
        assert result.bytes_fetched == WHEEL.size
        assert sync.holds(WHEEL)

    def test_wrong_ranges_and_cuts_end_in_a_clear_word_and_no_wrong_byte(self, sync, server, url):
        server.script(PATH, then=Serve(range_shift=5, cut_after=MB))
        [result] = sync(WHEEL.locked(url))
        assert result.state == "failed"
        assert "cut short" in result.error
        assert "expected the bytes from 1000000 on, found Content-Range: bytes 1000005-" in sync.notes()
        assert result.bytes_fetched == 2 * MB
        assert sync.store.partial_bytes(WHEEL.digest) == MB

    def test_an_unsatisfied_range_falls_back_to_the_whole_file(self, sync, server, url):
        server.script(PATH, Serve(cut_after=MB), Respond(status=416))
        [result] = sync(WHEEL.locked(url))
        assert result.state == "downloaded"
        assert sync.holds(WHEEL)


class TestForeignBytes:
    @pytest.mark.parametrize("disguised", [False, True], ids=["as a page", "as a file"])
    def test_every_second_answer_being_a_login_page_is_survived(self, sync, server, disguised):
        made = [make_wheel(f"w{number}", size=MB) for number in range(3)]
        for wheel in made:
            server.put_wheel(wheel)
            server.script_cycle(
                f"/files/{wheel.filename}", login_page(disguised=disguised), Serve(cut_after=400_000), Serve()
            )
        results = sync(*(wheel.locked(f"{server.url}/files/{wheel.filename}") for wheel in made))
        assert {result.state for result in results} == {"downloaded"}
        assert all(sync.holds(wheel) for wheel in made)

    @pytest.mark.parametrize("size", [-1, None], ids=["size known", "size unknown"])
    def test_a_login_page_never_reaches_the_disk(self, sync, server, url, size):
        server.script(PATH, then=login_page(disguised=size is None))
        [result] = sync(WHEEL.locked(url, size=size))
        assert result.state == "failed"
        assert isinstance(result.failure, NetworkError)
        assert "login page" in result.failure.hint
        assert not list((sync.store.root / "v1" / "partial").glob("*.part"))

    def test_a_file_of_another_length_is_left_at_once(self, sync, server, other):
        impostor = make_wheel("big", size=4 * MB)
        url = server.put(PATH, impostor.data)
        [result] = sync(WHEEL.locked(url, other.put_wheel(WHEEL)))
        assert result.state == "downloaded"
        assert result.bytes_fetched == WHEEL.size

    def test_more_bytes_than_the_wheel_has_are_not_read(self, sync, server):
        url = server.put(PATH, WHEEL.data + b"more" * MB)
        server.script(PATH, then=Serve(length=False))
        [result] = sync(WHEEL.locked(url), settings=ALONE)
        assert (result.state, result.bytes_fetched) == ("downloaded", WHEEL.size)
        assert sync.holds(WHEEL)

    def test_more_bytes_of_a_wheel_whose_size_nobody_says_are_another_file(self, sync, server):
        url = server.put(PATH, WHEEL.data + b"more")
        server.script(PATH, then=Serve(length=False))
        [result] = sync(WHEEL.locked(url, size=None))
        assert isinstance(result.failure, IntegrityError)
        assert not sync.store.blob(WHEEL.digest).exists()
        assert sync.store.partial_bytes(WHEEL.digest) == 0

    def test_a_body_without_a_length_is_taken_to_its_end(self, sync, server, url):
        server.script(PATH, then=Serve(length=False))
        assert sync(WHEEL.locked(url))[0].state == "downloaded"

    def test_wrong_bytes_of_the_right_length_are_fetched_elsewhere(self, sync, server, other, url):
        server.script(PATH, then=Serve(corrupt=True))
        good = other.put_wheel(WHEEL)
        [result] = sync(WHEEL.locked(url, good))
        assert (result.state, result.source) == ("downloaded", good)
        assert sync.holds(WHEEL)
        assert "wrong bytes" in sync.notes()
        assert len(server.asked(PATH)) == 1

    def test_wrong_bytes_everywhere_are_an_integrity_error_and_no_blob(self, sync, server, other, url):
        for mirror in (server, other):
            mirror.put_wheel(WHEEL)
            mirror.script(PATH, then=Serve(corrupt=True))
        [result] = sync(WHEEL.locked(url, other.url + PATH))
        assert result.state == "failed"
        assert isinstance(result.failure, IntegrityError)
        assert result.failure.exit_code == 5
        assert url in result.error
        assert other.url + PATH in result.error
        assert not sync.store.blob(WHEEL.digest).exists()
        assert sync.store.partial_bytes(WHEEL.digest) == 0

    def test_a_liar_in_a_mixture_is_found_out(self, sync, server, other, url):
        server.script(PATH, Serve(corrupt=True, cut_after=MB), Respond(status=503), then=Serve(corrupt=True))
        good = other.put_wheel(WHEEL)
        [result] = sync(WHEEL.locked(url, good))
        assert result.state == "downloaded"
        assert sync.holds(WHEEL)


def test_a_defect_of_ours_is_not_swallowed(sync, url):
    def broken(event) -> None:
        if isinstance(event, WheelProgress):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        sync(WHEEL.locked(url), emit=broken)
