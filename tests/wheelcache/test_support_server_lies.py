"""The scripted server's faults in one answer, looked at from a client's side: cuts, silence, wrong bytes, lies."""

from __future__ import annotations

import gzip
import re
import time

import pytest
from support.server import Gzipped, Multipart, Serve, login_page
from support.wire import DATA, KB, MB, Wire, got


@pytest.fixture
def server(server):
    server.put("/a", DATA)
    return server


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
