"""The scripted server itself: what it serves and records, and when its behaviours apply."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest
import requests
from support.server import (
    Busy,
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
from support.wheels import make_wheel
from support.wire import DATA, MB, PATIENCE, Wire, got, in_parallel


@pytest.fixture
def server(server):
    server.put("/a", DATA)
    return server


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
