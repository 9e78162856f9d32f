"""Syncs against servers on their bad days: every fault, what is kept, what is said, what is never published."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from support.server import Respond, Serve, Server, login_page, redirect
from support.syncs import MB, QUICK, Syncs
from support.wheels import make_wheel

from wheelcache.errors import IntegrityError, NetworkError, StoreFullError
from wheelcache.events import (
    TransferFinished,
    TransferPlanned,
    Waiting,
    WheelFinished,
    WheelProgress,
    WheelStarted,
)
from wheelcache.fetch import WheelResult
from wheelcache.rates import LARGEST_READ
from wheelcache.store import Store

WHEEL = make_wheel("big", size=3 * MB)
PATH = f"/files/{WHEEL.filename}"
ALONE = replace(QUICK, connections=1)


@pytest.fixture
def sync(tmp_path):
    return Syncs(tmp_path / "cache")


@pytest.fixture
def server():
    with Server() as server:
        yield server


@pytest.fixture
def other():
    with Server() as server:
        yield server


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
            heavy = {"requests", "urllib3", "tenacity", "pypi_simple", "pydantic", "filelock", "asyncio"}
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


class TestRefusals:
    @pytest.mark.parametrize("status", [401, 403, 404, 410])
    def test_lead_to_the_next_source_at_once(self, sync, server, other, url, status):
        server.script(PATH, then=Respond(status=status))
        good = other.put_wheel(WHEEL)
        [result] = sync(WHEEL.locked(url, good), settings=replace(QUICK, backoff=5.0, longest_pause=9.0))
        assert (result.state, result.source) == ("downloaded", good)
        assert len(server.asked(PATH)) == 1

    def test_by_all_are_a_network_error_that_names_each(self, sync, server, other, url):
        [result] = sync(WHEEL.locked(server.url + "/gone", f"http://user:secret@{other.host}/gone?sig=secret"))
        assert result.state == "failed"
        assert isinstance(result.failure, NetworkError)
        assert result.error == (
            f"{WHEEL.filename}: every source failed\n"
            f"  {server.url}/gone: refused: expected the file, found HTTP status 404\n"
            f"  {other.url}/gone: refused: expected the file, found HTTP status 404"
        )
        assert "secret" not in str([event.as_json() for event in sync.events])

    def test_retry_after_is_obeyed(self, sync, server, url):
        server.script(PATH, Respond(status=429, headers={"Retry-After": "1"}))
        began = time.monotonic()
        assert sync(WHEEL.locked(url))[0].state == "downloaded"
        assert time.monotonic() - began >= 1
        assert sync.seen(Waiting)[0].reason == "busy (HTTP status 429)"
        assert sync.seen(Waiting)[0].host == server.host

    def test_a_busy_host_is_left_for_another_meanwhile(self, sync, server, other, url):
        server.script(PATH, then=Respond(status=503, headers={"Retry-After": "30"}))
        began = time.monotonic()
        [result] = sync(WHEEL.locked(url, other.put_wheel(WHEEL)))
        assert result.state == "downloaded"
        assert time.monotonic() - began < 5

    def test_a_reset_connection_is_tried_again(self, sync, server, url):
        server.script(PATH, Serve(cut_after=0, reset=True), Serve(cut_after=MB, reset=True))
        assert sync(WHEEL.locked(url))[0].state == "downloaded"
        assert sync.holds(WHEEL)

    def test_a_closed_port_leads_to_the_next_source(self, sync, url):
        [result] = sync(WHEEL.locked("http://127.0.0.1:1/x.whl", url))
        assert (result.state, result.source) == ("downloaded", url)

    def test_a_redirect_is_followed(self, sync, server, other):
        server.script("/moved", then=redirect(other.put_wheel(WHEEL)))
        [result] = sync(WHEEL.locked(server.url + "/moved"))
        assert result.state == "downloaded"

    @pytest.mark.parametrize("bad", ["ftp://127.0.0.1/x", "nonsense", "http://[bad"])
    def test_a_url_that_is_none_is_a_failure_like_any_other(self, sync, url, bad):
        assert sync(WHEEL.locked(bad, url))[0].state == "downloaded"
        assert sync(make_wheel("none").locked(bad))[0].state == "failed"

    def test_a_wheel_without_a_source_says_so(self, sync):
        [result] = sync(WHEEL.locked())
        assert "gives no URL" in result.error
        assert "mirror" in result.failure.hint


class TestMirrors:
    @pytest.mark.parametrize("json_api", [False, True], ids=["html", "json"])
    def test_are_asked_for_the_file_of_the_same_name(self, sync, server, other, json_api):
        root = other.put_index([WHEEL], json_api=json_api)
        [result] = sync(WHEEL.locked(server.url + "/gone"), mirrors=[root])
        assert result.state == "downloaded"
        assert result.source.startswith(other.url)

    def test_are_not_asked_while_the_lockfiles_url_serves(self, sync, other, url):
        sync(WHEEL.locked(url), mirrors=[other.put_index([WHEEL])])
        assert not other.requests

    def test_continue_what_the_lockfiles_url_began(self, sync, server, other, url):
        server.script(PATH, Serve(cut_after=2 * MB), then=Respond(status=410))
        [result] = sync(WHEEL.locked(url), mirrors=[other.put_index([WHEEL])])
        assert result.state == "downloaded"
        assert result.bytes_fetched == WHEEL.size

    def test_that_list_other_bytes_under_the_name_are_no_source(self, sync, server, other):
        root = other.put_index([WHEEL], claimed={WHEEL.filename: "0" * 64})
        [result] = sync(WHEEL.locked(server.url + "/gone"), mirrors=[root])
        assert result.state == "failed"
        assert "found no such file of that digest" in result.error
        assert not other.asked(f"/simple-files/{WHEEL.filename}")

    def test_that_list_no_digest_may_have_it(self, sync, server, other):
        root = other.put_index([WHEEL], digests=False)
        assert sync(WHEEL.locked(server.url + "/gone"), mirrors=[root])[0].state == "downloaded"

    def test_that_do_not_know_the_project_are_passed_over(self, sync, server, other):
        empty = server.url + "/simple/"
        [result] = sync(WHEEL.locked(server.url + "/gone"), mirrors=[empty, other.put_index([WHEEL])])
        assert result.state == "downloaded"

    def test_are_asked_again_when_a_signed_url_expires_on_the_way(self, sync, server, other):
        root = other.put_index([WHEEL])
        renewed = other.put_wheel(WHEEL, under="/renewed")
        page = f'<a href="{renewed}#{WHEEL.digest.replace(":", "=")}">{WHEEL.filename}</a>'.encode()
        html = {"Content-Type": "text/html"}
        first = Serve(headers=html)
        other.script("/simple/big/", first, then=Respond(status=200, headers=html, body=page))
        other.script(f"/simple-files/{WHEEL.filename}", Serve(cut_after=MB), then=Respond(status=403))
        [result] = sync(WHEEL.locked(server.url + "/gone"), mirrors=[root])
        assert (result.state, result.source, result.bytes_fetched) == ("downloaded", renewed, WHEEL.size)

    def test_that_refuse_a_url_at_once_are_not_asked_for_ever(self, sync, server, other):
        root = other.put_index([WHEEL])
        other.script(f"/simple-files/{WHEEL.filename}", Serve(cut_after=MB), then=Respond(status=403))
        [result] = sync(WHEEL.locked(server.url + "/gone"), mirrors=[root])
        assert result.state == "failed"
        assert len(other.asked("/simple/big/")) == 2

    def test_that_fail_once_are_asked_again(self, sync, server, other):
        root = other.put_index([WHEEL])
        other.script("/simple/big/", Respond(status=502), then=Serve(headers={"Content-Type": "text/html"}))
        assert sync(WHEEL.locked(server.url + "/gone"), mirrors=[root])[0].state == "downloaded"


class TestTheDisk:
    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
    def test_too_small_is_said_before_a_byte_is_fetched(self, server, url, tmp_path):
        with small_disk(tmp_path, "2m") as root, pytest.raises(StoreFullError) as caught:
            Syncs(root)(WHEEL.locked(url), settings=replace(QUICK, reserve=0))
        assert caught.value.facts["needed"] == WHEEL.size
        assert 0 < caught.value.facts["free"] < 2.1 * MB
        assert not server.asked()

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
    def test_filling_up_keeps_the_partial_and_tries_nothing_more(self, server, tmp_path):
        made = [make_wheel(f"w{number}", size=3 * MB - number) for number in range(3)]
        for wheel in made:
            server.put_wheel(wheel)
        locked = [wheel.locked(f"{server.url}/files/{wheel.filename}", size=None) for wheel in made]
        with small_disk(tmp_path, "2m") as root:
            sync = Syncs(root)
            sync.store.free_bytes = lambda: 10**12  # another process takes the room after we looked
            results = sync(*locked, settings=replace(QUICK, connections=1))
            assert [result.state for result in results] == ["failed", "missing", "missing"]
            assert isinstance(results[0].failure, StoreFullError)
            assert "not tried, the disk is full" in results[1].error
            assert sync.store.partial_bytes(made[0].digest) > MB


def small_disk(folder: Path, size: str):
    return _SmallDisk(folder / "disk", size)


class _SmallDisk:
    def __init__(self, folder: Path, size: str) -> None:
        self.folder, self.size = folder, size

    def __enter__(self) -> Path:
        self.folder.mkdir()
        if subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={self.size}", "tmpfs", self.folder], check=False
        ).returncode:
            pytest.skip("this machine lets nobody mount a tmpfs")
        return self.folder

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", self.folder], check=True)


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


class TestSeveralProcesses:
    program = textwrap.dedent("""
        import json, sys, threading
        from pathlib import Path
        from wheelcache.events import ignore
        from wheelcache.fetch import FetchSettings, sync_wheels
        from wheelcache.lock import LockedWheel
        from wheelcache.store import Store
        from wheelcache.transport import Transport
        wheels = [LockedWheel(**{**each, "urls": tuple(each["urls"])}) for each in json.loads(sys.argv[2])]
        print("ready", flush=True)
        results = sync_wheels(wheels, store=Store.open(Path(sys.argv[1])), transport=Transport, mirrors=[],
                              settings=FetchSettings(), emit=ignore, stop=threading.Event())
        print(json.dumps([[result.state, result.bytes_fetched] for result in results]))
    """)

    def start(self, root: Path, *wheels) -> subprocess.Popen[str]:
        fields = ("name", "version", "filename", "digest", "size", "urls")
        text = json.dumps([{field: getattr(wheel, field) for field in fields} for wheel in wheels])
        return subprocess.Popen(
            [sys.executable, "-c", self.program, str(root), text], stdout=subprocess.PIPE, text=True
        )

    def test_fetch_each_wheel_once_between_them(self, tmp_path, server):
        made = [make_wheel(f"w{number}", size=300_000) for number in range(5)]
        locked = [wheel.locked(server.put_wheel(wheel)) for wheel in made]
        for wheel in made:
            server.script(f"/files/{wheel.filename}", then=Serve(rate=1_000_000))
        processes = [self.start(tmp_path / "cache", *locked) for _ in range(3)]
        results = [json.loads(process.communicate()[0].splitlines()[-1]) for process in processes]
        assert len(server.asked()) == 5
        assert sum(fetched for result in results for _, fetched in result) == 5 * 300_000
        assert {state for result in results for state, _ in result} == {"cached", "downloaded"}

    def test_lose_at_most_a_read_per_connection_to_kill_9(self, tmp_path, server):
        made = make_wheel("huge", size=20 * MB)
        url = server.put_wheel(made)
        server.script(f"/files/{made.filename}", then=Serve(rate=1_500_000))
        store = Store.open(tmp_path / "cache")
        kept = [0]
        while len(kept) < 5:
            with self.start(tmp_path / "cache", made.locked(url)) as process:
                try:
                    wait_for(lambda: store.partial_bytes(made.digest) > kept[-1] + MB)
                finally:
                    process.kill()
            kept.append(store.partial_bytes(made.digest))
        server.script(f"/files/{made.filename}")
        before = len(server.asked())
        [[state, read]] = json.loads(self.start(store.root, made.locked(url)).communicate()[0].splitlines()[-1])
        shared = len(server.asked()) - before  # each part that was shared may have cost a block
        assert state == "resumed"
        assert made.size - kept[-1] <= read <= made.size - kept[-1] + shared * LARGEST_READ
        assert kept == sorted(kept)
        assert store.blob(made.digest).read_bytes() == made.data


def wait_for(condition) -> None:
    ends = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.005)


def test_a_defect_of_ours_is_not_swallowed(sync, url):
    def broken(event) -> None:
        if isinstance(event, WheelProgress):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        sync(WHEEL.locked(url), emit=broken)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells a process's own peak")
def test_memory_does_not_grow_with_the_wheel(tmp_path, server):
    program = TestSeveralProcesses.program + textwrap.dedent("""
        print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
    """)
    peaks = []
    for size in (MB, 60 * MB):
        made = make_wheel(f"w{size}", size=size)
        wheel = made.locked(server.put_wheel(made))
        fields = ("name", "version", "filename", "digest", "size", "urls")
        text = json.dumps([{field: getattr(wheel, field) for field in fields}])
        done = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / "cache"), text], check=True, capture_output=True, text=True
        )
        peaks.append(int(done.stdout.splitlines()[-1]))
    assert peaks[1] - peaks[0] < 8_000  # kB
    assert peaks[1] < 120_000
