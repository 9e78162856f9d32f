"""The scripted server itself: every fault that other tests rely on is provoked and looked at from a client's side."""

from __future__ import annotations

import gzip
import http.client
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from io import BytesIO
from pathlib import Path
from typing import Self

import pytest
import requests
from support.server import (
    Busy,
    Gzipped,
    Multipart,
    Respond,
    Serve,
    Server,
    asked_less_than,
    by_turns,
    covers,
    in_turn,
    login_page,
    ranged,
    redirect,
    sent_less_than,
    starts_within,
    when,
)
from support.tls import make_certificate
from support.wheels import make_wheel

KB, MB = 1000, 1_000_000
DATA = os.urandom(3 * MB)
PATIENCE = 30.0


@pytest.fixture
def server():
    with Server() as server:
        server.put("/a", DATA)
        yield server


@dataclass
class Got:
    """An answer as it came over the wire; *ending* is `closed` or `reset`."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes
    ending: str

    @property
    def content_range(self) -> str | None:
        return self.headers["Content-Range"]


class Wire:
    """A TCP connection to a server, without any HTTP client's ideas."""

    def __init__(self, server: Server, *, tls: ssl.SSLContext | None = None) -> None:
        host, port = server.host.split(":")
        self.socket = socket.create_connection((host, int(port)), timeout=PATIENCE)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname=host)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def ask(self, path: str = "/a", bytes_: str = "", *, keep: bool = True, **headers: str) -> None:
        lines = [f"GET {path} HTTP/1.1", "Host: x", f"Connection: {'keep-alive' if keep else 'close'}"]
        lines += [f"Range: bytes={bytes_}"] if bytes_ else []
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode())

    def head(self) -> tuple[int, http.client.HTTPMessage]:
        text = b""
        while not text.endswith(b"\r\n\r\n"):
            byte = self.socket.recv(1)
            assert byte, "closed before the end of the head"
            text += byte
        status = int(text.split(maxsplit=2)[1])
        return status, http.client.parse_headers(BytesIO(text.partition(b"\r\n")[2]))

    def take(self, size: int) -> bytes:
        taken = bytearray()
        while len(taken) < size:
            piece = self.socket.recv(size - len(taken))
            assert piece, f"closed after {len(taken)} of {size} bytes"
            taken += piece
        return bytes(taken)

    def rest(self) -> tuple[bytes, str]:
        """All that comes until the connection ends, and how it ends."""
        taken = bytearray()
        try:
            while piece := self.socket.recv(1 << 20):
                taken += piece
        except ConnectionResetError:
            return bytes(taken), "reset"
        return bytes(taken), "closed"

    def is_silent(self) -> bool:
        self.socket.settimeout(0.2)
        try:
            return self.socket.recv(1) == b"never"
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(PATIENCE)


def got(server: Server, path: str = "/a", bytes_: str = "", **headers: str) -> Got:
    """Asks on a connection of its own, and reads to its end."""
    with Wire(server) as wire:
        wire.ask(path, bytes_, keep=False, **headers)
        status, answered = wire.head()
        body, ending = wire.rest()
        return Got(status=status, headers=answered, body=body, ending=ending)


def in_parallel(count: int, function) -> list:
    """Calls *function* in so many threads; returns what they returned."""
    results: list = []
    threads = [threading.Thread(target=lambda: results.append(function())) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(results) == count
    return results


class TestRanges:
    @pytest.mark.parametrize(
        ("asked", "first", "end"),
        [
            ("0-0", 0, 1),
            ("5-9", 5, 10),
            ("1500000-2499999", 1_500_000, 2_500_000),
            ("2999999-2999999", 2_999_999, 3_000_000),
            ("2999000-5000000", 2_999_000, 3_000_000),
            ("2000000-", 2_000_000, 3_000_000),
            ("0-", 0, 3_000_000),
        ],
    )
    def test_are_answered_with_exactly_their_bytes(self, server, asked, first, end):
        answer = got(server, bytes_=asked)
        assert (answer.status, answer.content_range) == (206, f"bytes {first}-{end - 1}/{len(DATA)}")
        assert answer.headers["Content-Length"] == str(end - first)
        assert answer.body == DATA[first:end]

    @pytest.mark.parametrize("asked", ["9-5", "-500", "0-1,5-6", "x-y"])
    def test_that_are_no_single_plain_range_get_the_whole_file(self, server, asked):
        answer = got(server, bytes_=asked)
        assert (answer.status, answer.content_range, answer.body) == (200, None, DATA)

    @pytest.mark.parametrize("asked", ["3000000-", "3000000-3000005"])
    def test_beyond_the_end_are_unsatisfiable(self, server, asked):
        answer = got(server, bytes_=asked)
        assert (answer.status, answer.content_range, answer.body) == (416, f"bytes */{len(DATA)}", b"")

    def test_follow_each_other_on_one_connection(self, server):
        with requests.Session() as session:
            for first in (0, 10, 20):
                answer = session.get(f"{server.url}/a", headers={"Range": f"bytes={first}-{first + 9}"})
                assert answer.content == DATA[first : first + 10]
        assert [request.range for request in server.asked("/a")] == [(0, 9), (10, 19), (20, 29)]
        assert {request.connection for request in server.asked("/a")} == {1}

    def test_and_sizes_are_told_to_a_head_without_a_body(self, server):
        answer = requests.head(f"{server.url}/a", headers={"Range": "bytes=5-9"})
        assert (answer.status_code, answer.headers["Content-Length"]) == (206, "5")
        assert server.sent() == 0

    def test_count_only_for_the_version_that_if_range_names(self, server):
        server.script("/a", then=Serve(headers={"ETag": '"1"'}))
        assert got(server, bytes_="5-9", If_Range='"1"').status == 206
        assert got(server, bytes_="5-9", If_Range='"2"').status == 200
        server.script("/a", then=Serve(headers={"ETag": 'W/"1"'}))
        assert got(server, bytes_="5-9", If_Range='W/"1"').status == 200


class TestRecords:
    def test_say_what_was_asked_and_given(self, server):
        got(server, path="/a?signature=1", bytes_="5-9")
        got(server)
        first, second = server.asked("/a")
        assert (first.range, first.query, first.status, first.sent, first.number) == ((5, 9), "signature=1", 206, 5, 0)
        assert (second.range, second.query, second.status, second.sent) == (None, "", 200, len(DATA))
        assert second.number == 1
        assert first.connection != second.connection

    def test_say_that_a_range_was_open(self, server):
        got(server, bytes_="7-")
        assert server.requests[0].range == (7, None)

    def test_count_the_bodies_that_were_served_at_once(self, server):
        server.script("/a", then=Serve(silent_after=1))
        wires = [Wire(server) for _ in range(3)]
        for wire in wires:
            wire.ask()
            wire.head()
        assert server.peak_connections == 3
        for wire in wires:
            wire.socket.close()
        server.script("/a")
        for _ in range(5):
            got(server)
        assert server.peak_connections == 3

    def test_never_count_one_client_twice(self, server):
        with requests.Session() as session:
            for number in range(100):
                session.get(f"{server.url}/{'a' if number % 2 else 'missing'}", headers={"Range": "bytes=0-99"})
        assert server.peak_connections == 1


class TestPlacesInTheFile:
    @pytest.mark.parametrize(
        ("word", "ending"), [("cut_at", "closed"), ("reset_at", "reset")], ids=["closing", "resetting"]
    )
    def test_end_an_answer_that_reaches_them(self, server, word, ending):
        server.script("/a", then=Serve(**{word: 1_500_000}))
        for asked, first in (("", 0), ("1000000-", 1_000_000), ("1400000-1600000", 1_400_000)):
            answer = got(server, bytes_=asked)
            assert DATA[first:1_500_000].startswith(answer.body)
            assert answer.ending == ending
            if ending == "closed":
                assert len(answer.body) == 1_500_000 - first
            assert int(answer.headers["Content-Length"]) > len(answer.body)

    def test_leave_other_answers_alone(self, server):
        server.script("/a", then=Serve(cut_at=1_500_000))
        for first, end in ((0, 1_500_000), (1_500_000, 3_000_000), (2_000_000, 2_000_001)):
            assert got(server, bytes_=f"{first}-{end - 1}").body == DATA[first:end]

    def test_may_be_many(self, server):
        server.script("/a", then=Serve(cut_at=range(MB, 1 << 50, MB)))
        bodies = [got(server, bytes_=f"{first}-").body for first in (0, 500_000, MB, 2 * MB)]
        assert bodies == [DATA[:MB], DATA[500_000:MB], DATA[MB : 2 * MB], DATA[2 * MB :]]

    def test_may_be_cut_by_rst_too(self, server):
        server.script("/a", then=Serve(cut_at=100, reset=True))
        assert got(server).ending == "reset"

    def test_may_be_where_silence_begins(self, server):
        server.script("/a", then=Serve(silent_at=1000))
        with Wire(server) as wire:
            wire.ask(bytes_="900-2000")
            wire.head()
            assert wire.take(100) == DATA[900:1000]
            assert wire.is_silent()
        assert got(server, bytes_="1000-2000").body == DATA[1000:2001]

    def test_may_be_where_a_trickle_begins(self, server):
        server.script("/a", then=Serve(slow_at=2 * MB, rate=10))
        with Wire(server) as wire:
            wire.ask(bytes_="1000000-")
            wire.head()
            assert wire.take(MB) == DATA[MB : 2 * MB]
            began = time.monotonic()
            wire.take(5)
            assert time.monotonic() - began > 0.3

    def test_may_be_where_single_bytes_are_wrong(self, server):
        wrong = [0, 1_048_575, 1_048_576, 2_999_999]
        server.script("/a", then=Serve(corrupt_at=wrong))
        body = got(server).body
        assert [at for at in range(len(DATA)) if body[at] != DATA[at]] == wrong
        assert got(server, bytes_="1048576-1048577").body == bytes([DATA[1_048_576] ^ 0xFF, DATA[1_048_577]])
        assert got(server, bytes_="1-1000000").body == DATA[1:1_000_001]

    def test_may_be_between_which_bytes_are_wrong(self, server):
        server.script("/a", then=Serve(corrupt=(1_048_570, 1_048_580)))
        for asked, first in (("", 0), ("1048575-", 1_048_575)):
            body = got(server, bytes_=asked).body
            differing = {at for at in range(first, len(DATA)) if body[at - first] != DATA[at]}
            assert differing == set(range(max(first, 1_048_570), 1_048_580))


class TestWhatCountsInOneAnswer:
    def test_is_where_it_is_cut(self, server):
        server.script("/a", then=Serve(cut_after=10))
        assert got(server, bytes_="500-").body == DATA[500:510]
        assert got(server, bytes_="500-509").body == DATA[500:510]

    def test_is_where_it_falls_silent(self, server):
        server.script("/a", then=Serve(silent_after=10))
        with Wire(server) as wire:
            wire.ask(bytes_="500-")
            wire.head()
            assert wire.take(10) == DATA[500:510]
            assert wire.is_silent()

    def test_is_its_rate(self, server):
        server.script("/a", then=Serve(rate=100 * KB))
        began = time.monotonic()
        assert got(server, bytes_="0-29999").body == DATA[:30_000]
        assert time.monotonic() - began > 0.25

    def test_is_its_delay(self, server):
        server.script("/a", then=Serve(delay=0.2))
        began = time.monotonic()
        got(server, bytes_="0-0")
        assert time.monotonic() - began >= 0.2


class TestLies:
    def test_of_length_that_fall_short(self, server):
        server.script("/a", then=Serve(short=5))
        answer = got(server, bytes_="0-99")
        assert (answer.headers["Content-Length"], answer.body, answer.ending) == ("95", DATA[:100], "closed")

    def test_of_length_that_are_exceeded(self, server):
        server.script("/a", then=Serve(extra=7))
        with Wire(server) as wire:
            wire.ask(bytes_="0-99")
            assert wire.head()[1]["Content-Length"] == "100"
            body, ending = wire.rest()
        assert (body[:100], len(body), ending) == (DATA[:100], 107, "closed")

    def test_of_no_length_end_with_the_connection(self, server):
        server.script("/a", then=Serve(length=False))
        with Wire(server) as wire:
            wire.ask()
            assert wire.head()[1]["Content-Length"] is None
            assert wire.rest() == (DATA, "closed")

    @pytest.mark.parametrize(
        ("behaviour", "said", "first", "end"),
        [
            (Serve(range_shift=5), "bytes 105-204/3000000", 105, 205),
            (Serve(range_shift=-5), "bytes 95-194/3000000", 95, 195),
            (Serve(total_shift=7), "bytes 100-199/3000007", 100, 200),
            (Serve(end_shift=3), "bytes 100-202/3000000", 100, 200),
            (Serve(at_most=10), "bytes 100-109/3000000", 100, 110),
            (Serve(headers={"Content-Range": None}), None, 100, 200),
            (Serve(headers={"Content-Range": "bytes 0-99/*"}), "bytes 0-99/*", 100, 200),
        ],
        ids=["start", "start before", "total", "end", "less", "unsaid", "anything"],
    )
    def test_about_a_range(self, server, behaviour, said, first, end):
        server.script("/a", then=behaviour)
        answer = got(server, bytes_="100-199")
        assert (answer.status, answer.content_range, answer.body) == (206, said, DATA[first:end])
        assert answer.headers["Content-Length"] == str(end - first)

    def test_by_which_a_range_gets_the_whole_file(self, server):
        server.script("/a", then=Serve(ranges=False))
        answer = got(server, bytes_="100-199")
        assert (answer.status, answer.content_range, answer.body) == (200, None, DATA)

    def test_by_which_a_whole_file_has_a_start_of_its_own(self, server):
        server.script("/a", then=Serve(at_most=10, range_shift=5))
        assert got(server).body == DATA

    @pytest.mark.parametrize(("asked", "status"), [("", 200), ("100-199", 206)])
    def test_about_coding(self, server, asked, status):
        server.script("/a", then=Gzipped())
        answer = got(server, bytes_=asked)
        assert (answer.status, answer.headers["Content-Encoding"]) == (status, "gzip")
        assert len(answer.body) == int(answer.headers["Content-Length"])
        assert gzip.decompress(answer.body) == (DATA[100:200] if asked else DATA)

    def test_by_which_a_range_gets_the_whole_file_coded(self, server):
        server.script("/a", then=Gzipped(ranges=False))
        answer = got(server, bytes_="100-199")
        assert (answer.status, gzip.decompress(answer.body)) == (200, DATA)

    def test_by_which_one_range_is_several(self, server):
        server.script("/a", then=Multipart())
        answer = got(server, bytes_="100-199")
        assert (answer.status, answer.content_range) == (206, None)
        assert answer.headers.get_content_type() == "multipart/byteranges"
        boundary = answer.headers.get_param("boundary").encode()
        assert re.fullmatch(
            rb"--%b\r\n.*Content-Range: bytes 100-199/3000000\r\n\r\n%b\r\n--%b--\r\n"
            % (boundary, re.escape(DATA[100:200]), boundary),
            answer.body,
            re.DOTALL,
        )
        assert got(server).body == DATA

    def test_about_identity(self, server):
        server.script_cycle("/a", *[Serve(headers={"ETag": tag}) for tag in ('"1"', 'W/"1"', '"2"')])
        assert [got(server, bytes_="0-0").headers["ETag"] for _ in range(4)] == ['"1"', 'W/"1"', '"2"', '"1"']


class TestLoginPages:
    def test_say_what_they_are(self, server):
        server.script("/a", then=login_page())
        answer = got(server, bytes_="100-199")
        assert (answer.status, answer.headers.get_content_type()) == (200, "text/html")
        assert answer.body.startswith(b"<!DOCTYPE html>")

    def test_say_that_they_are_files(self, server):
        server.script("/a", then=login_page(disguised=True))
        answer = got(server)
        assert (answer.status, answer.headers.get_content_type()) == (200, "application/octet-stream")
        assert len(answer.body) < len(DATA)

    def test_are_as_long_as_the_file(self, server):
        server.script("/a", then=login_page(disguised=True, fitting=True))
        answer = got(server, bytes_="100-199")
        assert (answer.status, answer.headers.get_content_type()) == (200, "application/octet-stream")
        assert len(answer.body) == int(answer.headers["Content-Length"]) == len(DATA)
        page = b"<!DOCTYPE html><title>Log in</title>"
        assert answer.body == (page * (len(DATA) // len(page) + 1))[: len(DATA)]

    def test_are_as_long_as_the_range(self, server):
        server.script("/a", then=Serve(forged=b"<html>"))
        answer = got(server, bytes_="100-109")
        assert (answer.status, answer.content_range) == (206, "bytes 100-109/3000000")
        assert answer.body == b"<html><htm"


class TestStatuses:
    @pytest.mark.parametrize("status", [401, 403, 404, 410, 500, 502])
    def test_are_any(self, server, status):
        server.script("/a", then=Respond(status=status, body=b"no"))
        answer = got(server)
        assert (answer.status, answer.body) == (status, b"no")

    def test_of_paths_without_content_are_404(self, server):
        assert got(server, "/none").status == 404

    def test_may_be_a_wrong_416(self, server):
        server.script("/a", then=Respond(status=416, headers={"Content-Range": "bytes */77"}))
        answer = got(server, bytes_="0-9")
        assert (answer.status, answer.content_range) == (416, "bytes */77")

    @pytest.mark.parametrize("status", [429, 503])
    def test_ask_to_wait_some_seconds(self, server, status):
        server.script("/a", Busy(status=status, seconds=3))
        answer = got(server)
        assert (answer.status, answer.headers["Retry-After"]) == (status, "3")
        assert got(server).status == 200

    def test_ask_to_wait_until_a_time(self, server):
        server.script("/a", then=Busy(status=503, seconds=100, as_date=True))
        earliest = datetime.now(UTC).timestamp() + 99
        until = parsedate_to_datetime(got(server).headers["Retry-After"])
        assert until.timestamp() >= earliest

    @pytest.mark.parametrize("status", [302, 307, 308])
    def test_send_elsewhere_even_to_another_server(self, server, status):
        with Server() as other:
            server.script("/a", then=redirect(other.put("/b", DATA), status))
            answer = requests.get(f"{server.url}/a", headers={"Range": "bytes=5-9"})
            assert answer.history[0].status_code == status
            assert answer.content == DATA[5:10]
            assert other.requests[0].range == (5, 9)

    def test_send_round_in_circles(self, server):
        server.script("/a", then=redirect("/b"))
        server.script("/b", then=redirect("/a"))
        with pytest.raises(requests.TooManyRedirects):
            requests.get(f"{server.url}/a")


class TestConditions:
    def statuses(self, server, *asked: str) -> list[int]:
        return [got(server, bytes_=each).status for each in asked]

    def test_are_turns(self, server):
        server.script("/a", Respond(status=500), Respond(status=501), then=Respond(status=404))
        assert self.statuses(server, "", "", "", "") == [500, 501, 404, 404]
        server.script_cycle("/a", Respond(status=500), Serve())
        assert self.statuses(server, "", "", "", "") == [500, 200, 500, 200]

    def test_are_turns_that_several_paths_share(self, server):
        server.put("/b", b"b")
        shared = by_turns(Serve(), login_page(), Respond(status=500))
        server.script("/a", then=shared)
        server.script("/b", then=shared)
        assert [got(server, path).status for path in ("/a", "/a", "/b", "/b")] == [200, 200, 500, 200]

    def test_are_where_a_range_starts(self, server):
        server.script("/a", then=when(starts_within(MB, 2 * MB), Respond(status=500)))
        assert self.statuses(server, "", "1000000-", "1999999-", "2000000-", "0-2000000") == [200, 500, 500, 206, 206]
        server.script("/a", then=when(starts_within(MB), Respond(status=500)))
        assert self.statuses(server, "999999-", "1000000-") == [206, 500]

    def test_are_what_a_range_covers(self, server):
        server.script("/a", then=when(covers(MB), Respond(status=500)))
        assert self.statuses(server, "", "0-999999", "0-1000000", "1000000-", "1000001-") == [500, 206, 500, 500, 206]

    def test_are_that_there_is_a_range(self, server):
        server.script("/a", then=when(ranged, Respond(status=500)))
        assert self.statuses(server, "", "0-9") == [200, 500]

    def test_are_any_function(self, server):
        is_signed = lambda exchange: "signature=2" in exchange.request.query  # noqa: E731
        server.script("/a", then=when(is_signed, Serve(), otherwise=Respond(status=403)))
        assert [got(server, f"/a?signature={number}").status for number in (1, 2)] == [403, 200]

    def test_are_how_often_it_was_asked_for(self, server):
        server.script("/a", then=when(asked_less_than(2), Serve(), otherwise=Respond(status=403)))
        assert self.statuses(server, "0-9", "10-19", "20-29", "") == [206, 206, 403, 403]

    def test_are_how_much_was_sent(self, server):
        server.script("/a", then=when(sent_less_than(25), Serve(), otherwise=Respond(status=403)))
        assert self.statuses(server, "0-9", "10-19", "20-29", "30-39") == [206, 206, 206, 403]

    def test_nest(self, server):
        server.script("/a", then=when(ranged, in_turn(Respond(status=500), then=Serve(cut_after=3)), login_page()))
        assert self.statuses(server, "0-9", "", "0-9") == [500, 200, 206]
        assert got(server, bytes_="0-9").body == DATA[:3]

    def test_are_used_up_once_each_by_clients_that_ask_at_once(self, server):
        shared = in_turn(*[Respond(status=500)] * 10, then=Serve())
        server.script("/a", *[Respond(status=503)] * 10, then=shared)
        statuses = in_parallel(40, lambda: got(server, bytes_="0-9").status)
        assert sorted(statuses) == [206] * 20 + [500] * 10 + [503] * 10
        assert sorted(request.number for request in server.asked("/a")) == list(range(40))


class TestAWholeServer:
    def test_has_a_rate_that_all_connections_share(self):
        with Server(rate=MB) as server:
            server.put("/a", DATA)
            began = time.monotonic()
            bodies = in_parallel(4, lambda: got(server, bytes_="0-99999").body)
            assert time.monotonic() - began > 0.35
            assert bodies == [DATA[:100_000]] * 4

    def test_has_a_rate_of_each_connection(self):
        with Server(connection_rate=200 * KB) as server:
            server.put("/a", DATA)
            began = time.monotonic()
            in_parallel(20, lambda: got(server, bytes_="0-99999").body)
            took = time.monotonic() - began
            assert took > 0.45
            assert took < 10  # what one rate for all would take

    def test_keeps_a_connections_rate_from_one_answer_to_the_next(self):
        with Server(connection_rate=200 * KB) as server, requests.Session() as session:
            server.put("/a", DATA)
            began = time.monotonic()
            for first in range(0, 100_000, 20_000):
                session.get(f"{server.url}/a", headers={"Range": f"bytes={first}-{first + 19_999}"})
            assert time.monotonic() - began > 0.4

    def test_is_far_away(self):
        with Server(delay=0.1) as server:
            url = server.put("/a", b"x")
            began = time.monotonic()
            for _ in range(3):
                requests.get(url)
            assert time.monotonic() - began >= 0.3

    def test_bans_greedy_clients(self):
        with Server(most_connections=2) as server:
            server.put("/a", DATA)
            server.script("/a", Serve(silent_after=10), Serve(silent_after=10), then=Serve())
            with Wire(server) as first, Wire(server) as second:
                for wire in (first, second):
                    wire.ask()
                    wire.head()
                refused = got(server)
                assert (refused.status, refused.headers["Retry-After"]) == (429, "1")
                first.socket.close()
                assert got(server).status == 200
                assert got(server).status == 200
            assert server.peak_connections == 2

    def test_never_bans_a_client_that_keeps_within_its_limit(self):
        with Server(most_connections=2) as server:
            server.put("/a", DATA)
            statuses = in_parallel(2, lambda: {got(server, bytes_="0-99").status for _ in range(100)})
            assert statuses == [{206}, {206}]

    def test_speaks_tls(self, tmp_path):
        certificate = make_certificate(tmp_path)
        with Server(certificate=certificate) as server:
            url = server.put("/a", DATA)
            answer = requests.get(url, headers={"Range": "bytes=5-2000004"}, verify=str(certificate))
            assert answer.content == DATA[5:2_000_005]
            with pytest.raises(requests.exceptions.SSLError):
                requests.get(url)

    def test_takes_a_given_port(self):
        with Server() as server:
            port = int(server.url.rpartition(":")[2])
        with Server(port=port) as server:
            assert requests.get(server.put("/a", b"x")).content == b"x"


class TestALineThatIsCut:
    def test_resets_every_connection_and_refuses_new_ones(self, server):
        server.script("/throttled", then=Serve(rate=1000))
        server.script("/silent", then=Serve(silent_after=10))
        server.script("/delayed", then=Serve(delay=PATIENCE))
        for path in ("/throttled", "/silent", "/delayed", "/large"):
            server.put(path, DATA * 20 if path == "/large" else DATA)
        wires = {name: Wire(server) for name in ("throttled", "silent", "delayed", "large", "idle", "mute")}
        for name in ("throttled", "silent", "delayed", "large"):
            wires[name].ask(f"/{name}")
        for name in ("throttled", "silent", "large"):  # of the large one, the client reads nothing more
            wires[name].head()
        wires["idle"].ask(bytes_="0-9")
        wires["idle"].head()
        assert wires["idle"].take(10) == DATA[:10]

        server.down()

        endings = {}
        for name, wire in wires.items():
            with wire:
                endings[name] = wire.rest()[1]
        assert endings == dict.fromkeys(wires, "reset")
        with pytest.raises(ConnectionRefusedError):
            Wire(server)
        assert all(request.sent < len(DATA * 20) for request in server.requests)

    def test_is_mended_on_the_same_port_with_the_same_contents(self, server):
        url = f"{server.url}/a"
        server.script("/a", Serve(), Respond(status=500))
        assert requests.get(url).content == DATA
        for _ in range(3):
            server.down()
            with pytest.raises(requests.ConnectionError, match="refused"):
                requests.get(url)
            server.up()
        assert requests.get(url).status_code == 500
        assert requests.get(url).content == DATA
        assert server.asked("/a")[-1].number == 2

    def test_may_be_cut_and_mended_twice(self, server):
        server.down()
        server.down()
        server.up()
        server.up()
        assert got(server).body == DATA

    def test_may_stay_cut_to_the_end(self):
        with Server() as server:
            server.down()
        with pytest.raises(ConnectionRefusedError):
            Wire(server)

    def test_resets_tls_too(self, tmp_path):
        certificate = make_certificate(tmp_path)
        with Server(certificate=certificate) as server:
            server.put("/a", DATA * 20)
            tls = ssl.create_default_context(cafile=str(certificate))
            with Wire(server, tls=tls) as wire, Wire(server, tls=tls):
                wire.ask()
                wire.head()
                server.down()
                with pytest.raises(ConnectionResetError):  # below TLS, which takes a reset for an end
                    b"".join(iter(lambda: socket.socket.recv(wire.socket, 1 << 20), b""))
            server.up()
            assert requests.get(f"{server.url}/a", verify=str(certificate)).content == DATA * 20

    def test_is_cut_and_mended_under_clients_that_go_on(self, server):
        def fetched() -> bytes:
            taken = b""
            while len(taken) < len(DATA):
                try:
                    with Wire(server) as wire:
                        wire.ask(bytes_=f"{len(taken)}-", keep=False)
                        wire.head()
                        taken += wire.rest()[0]
                except (ConnectionError, AssertionError):
                    time.sleep(0.01)
            return taken

        server.script("/a", then=Serve(rate=5 * MB))
        bodies: list[bytes] = []
        clients = [threading.Thread(target=lambda: bodies.append(fetched())) for _ in range(4)]
        for client in clients:
            client.start()
        for _ in range(5):
            time.sleep(0.05)
            server.down()
            server.up()
        for client in clients:
            client.join(PATIENCE)
        assert bodies == [DATA] * 4
        assert len(server.requests) > 4


class TestFiles:
    def test_are_served_like_bytes(self, server, tmp_path):
        file = tmp_path / "file"
        file.write_bytes(DATA)
        server.put_file("/file", file)
        server.script("/file", Serve(), Serve(), then=Serve(corrupt_at=100, cut_at=200))
        assert got(server, "/file").body == DATA
        assert got(server, "/file", "5-9").body == DATA[5:10]
        assert got(server, "/file").body == DATA[:100] + bytes([DATA[100] ^ 0xFF]) + DATA[101:200]

    def test_may_be_empty(self, server, tmp_path):
        (tmp_path / "file").touch()
        server.put_file("/file", tmp_path / "file")
        answer = got(server, "/file")
        assert (answer.status, answer.headers["Content-Length"], answer.body) == (200, "0", b"")

    @pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells what a process holds of its own")
    def test_are_never_held_in_memory(self, server, tmp_path):
        file = tmp_path / "file"
        with file.open("wb") as opened:
            opened.truncate(200 * MB)
        before = _anonymous_bytes()
        server.put_file("/file", file)
        with requests.get(f"{server.url}/file", stream=True) as answer:
            taken = sum(len(piece) for piece in answer.iter_content(1 << 20))
        assert taken == 200 * MB
        assert _anonymous_bytes() - before < 50 * MB


class TestTheProgram:
    @pytest.fixture
    def folder(self, tmp_path):
        for wheel in (make_wheel("alpha", size=10_000), make_wheel("beta", size=20_000)):
            (tmp_path / wheel.filename).write_bytes(wheel.data)
        return tmp_path

    @pytest.fixture
    def serving(self, folder):
        started = []

        def start(*options: str) -> str:
            command = [sys.executable, "-m", "support.serve", "--folder", str(folder), *options]
            process = subprocess.Popen(command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True)
            started.append(process)
            return process.stdout.readline().strip()

        yield start
        for process in started:
            with process:
                process.send_signal(signal.SIGTERM)
                assert process.wait(PATIENCE) == 0

    def test_serves_an_index_and_its_files(self, serving):
        url = serving()
        assert [row["name"] for row in requests.get(f"{url}/simple/").json()["projects"]] == ["alpha", "beta"]
        answer = requests.get(f"{url}/simple/beta/")
        assert answer.headers["Content-Type"] == "application/vnd.pypi.simple.v1+json"
        (file,) = answer.json()["files"]
        wheel = make_wheel("beta", size=20_000)
        assert (file["size"], f"sha256:{file['hashes']['sha256']}") == (wheel.size, wheel.digest)
        assert requests.get(url + file["url"]).content == wheel.data

    def test_cuts_and_interposes_itself(self, serving):
        file = f"{serving('--cut-every', '8000', '--portal-every', '3')}/simple-files/beta-1.0-py3-none-any.whl"
        wheel = make_wheel("beta", size=20_000)
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            requests.get(file)
        assert requests.get(file, headers={"Range": "bytes=8000-15999"}).content == wheel.data[8000:16_000]
        assert requests.get(file).headers["Content-Type"].startswith("text/html")
        assert requests.get(file, headers={"Range": "bytes=16000-"}).content == wheel.data[16_000:]

    def test_knows_no_ranges(self, serving):
        file = f"{serving('--no-ranges')}/simple-files/beta-1.0-py3-none-any.whl"
        assert requests.get(file, headers={"Range": "bytes=5-9"}).status_code == 200

    def test_is_slow_far_away_and_wrong(self, serving):
        url = serving("--shift", "3", "--rate", "100000", "--connection-rate", "40000", "--delay", "0.1")
        began = time.monotonic()
        answer = requests.get(f"{url}/simple-files/beta-1.0-py3-none-any.whl", headers={"Range": "bytes=5-12004"})
        assert time.monotonic() - began > 0.35
        assert answer.headers["Content-Range"] == "bytes 8-12007/20000"


def _anonymous_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"^RssAnon:\s+(\d+) kB", status, re.MULTILINE)[1]) * 1024
