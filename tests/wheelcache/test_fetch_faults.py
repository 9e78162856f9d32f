"""Every fault that a fetch meets (DESIGN.md section 7), at every kind of place in a file, and what it may cost.

What a run reads is at most the wheel, a block for each connection that was cut off or shared its part, and what the
fault itself makes worthless.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.server import (
    Behaviour,
    Busy,
    Gzipped,
    Multipart,
    Respond,
    Serve,
    Server,
    covers,
    in_turn,
    login_page,
    ranged,
    redirect,
    when,
)
from support.syncs import IN_PIECES, MB, PIECE, Syncs
from support.tls import make_certificate
from support.wheels import make_wheel

from wheelcache.errors import IntegrityError, NetworkError
from wheelcache.rates import LARGEST_READ

SIZE = 12 * PIECE + 1234
WHEEL = make_wheel("big", size=SIZE)
PATH = f"/files/{WHEEL.filename}"
PLACES = {
    "the first byte": 0,
    "the second byte": 1,
    "inside a piece": 5 * PIECE + 777,
    "the end of a piece": 6 * PIECE - 1,
    "a piece's start": 6 * PIECE,
    "the last byte": SIZE - 1,
}
FAST = 4 * MB

MIDDLE = PLACES["inside a piece"]

at_places = pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
at_some_places = pytest.mark.parametrize("place", [0, MIDDLE, SIZE - 1], ids=["first", "middle", "last"])
at_later_places = pytest.mark.parametrize("place", [*PLACES.values()][1:], ids=[*PLACES][1:])


either_way = pytest.mark.parametrize("sync", [1, 4], ids=["one connection", "four connections"], indirect=True)


@pytest.fixture
def sync(tmp_path, request):
    connections = getattr(request, "param", 4)
    return Syncs(tmp_path / "cache", settings=replace(IN_PIECES, connections=connections, retries=2))


@pytest.fixture
def url(server):
    return server.put_wheel(WHEEL)


@pytest.fixture
def good(other):
    """The wheel at a server without fault, which is named second."""
    return other.put_wheel(WHEEL)


@pytest.fixture
def two(server, other, url, good):
    """A server on its bad day, one on a good day, and the wheel's URL at each."""
    return server, other, url, good


def bound(*servers: Server, worthless: int = 0) -> int:
    """The most bytes that may have been read."""
    return SIZE + worthless + LARGEST_READ * sum(len(server.asked()) for server in servers)


def survived(sync: Syncs, result, *servers: Server, worthless: int = 0) -> None:
    """Fails unless the wheel is there, whole, at a fair price."""
    assert result.error == ""
    assert sync.holds(WHEEL)
    assert result.bytes_fetched <= bound(*servers, worthless=worthless)


def refused(sync: Syncs, result, kind=NetworkError) -> None:
    """Fails if anything was published, or the failure is of another kind."""
    assert result.state == "failed"
    assert isinstance(result.failure, kind)
    assert not sync.store.blob(WHEEL.digest).exists()
    assert not sync.store.has(WHEEL.locked())


@either_way
class TestTheWholeFileInAnswerToARange:
    """Never append; use another source, else restart once from zero."""

    @at_later_places
    def test_after_an_earlier_run_is_taken_from_zero_once(self, sync, server, url, place):
        sync.keep(WHEEL, (0, place))
        server.script(PATH, then=Serve(ranges=False, rate=FAST))
        [result] = sync(WHEEL.locked(url))
        survived(sync, result, server)

    @at_later_places
    def test_after_a_cut_is_taken_from_zero_once(self, sync, server, url, place):
        server.script(PATH, then=when(ranged, Serve(ranges=False), in_turn(Serve(cut_at=place))))
        [result] = sync(WHEEL.locked(url))
        survived(sync, result, server, worthless=SIZE)

    @at_later_places
    def test_leaves_the_rest_to_a_source_with_ranges(self, sync, two, place):
        server, other, url, good = two
        sync.keep(WHEEL, (0, place))
        server.script(PATH, then=Serve(ranges=False))
        [result] = sync(WHEEL.locked(url, good))
        survived(sync, result, server, other, worthless=-place)


class TestAnotherPartThanAskedFor:
    """206 with another start, total or encoding; multipart: refuse the body, mark the source."""

    bad = pytest.mark.parametrize(
        "bad",
        [
            Serve(range_shift=1),
            Serve(range_shift=-1),
            Serve(total_shift=1),
            Serve(total_shift=-1),
            Serve(end_shift=1),
            Serve(end_shift=-1),
            Gzipped(),
            Multipart(),
            Serve(headers={"Content-Range": None}),
            Serve(headers={"Content-Range": "bytes */*"}),
            Serve(headers={"Content-Encoding": "gzip"}),
        ],
        ids=[
            "later",
            "earlier",
            "larger",
            "smaller",
            "longer",
            "shorter",
            "gzip",
            "multipart",
            "no range",
            "no place",
            "said to be gzip",
        ],
    )

    @at_later_places
    def test_is_refused_wherever_it_is(self, sync, two, place):
        server, other, url, good = two
        sync.keep(WHEEL, (0, place))
        server.script(PATH, then=Serve(range_shift=1))
        [result] = sync(WHEEL.locked(url, good))
        survived(sync, result, server, other, worthless=-place)

    @bad
    def test_is_refused_and_another_source_asked(self, sync, two, bad):
        server, other, url, good = two
        sync.keep(WHEEL, (0, MIDDLE))
        server.script(PATH, then=bad)
        [result] = sync(WHEEL.locked(url, good))
        survived(sync, result, server, other, worthless=-MIDDLE)
        assert result.source == good

    @bad
    def test_is_never_published_where_there_is_no_other(self, sync, server, url, bad):
        sync.keep(WHEEL, (0, MIDDLE))
        server.script(PATH, then=when(ranged, bad, Respond(status=404)))
        [result] = sync(WHEEL.locked(url))
        refused(sync, result)
        assert sync.store.partial_bytes(WHEEL.digest) == MIDDLE

    def test_but_shorter_is_taken_and_gone_on_with(self, sync, server, url):
        server.script(PATH, then=Serve(at_most=3 * PIECE + 5))
        sync.keep(WHEEL, (0, PIECE))
        [result] = sync(WHEEL.locked(url))
        survived(sync, result, server, worthless=-PIECE)


@either_way
class TestAnUnsatisfiedRange:
    """416: size as expected: verify; else another source, or the whole."""

    @at_later_places
    def test_before_the_end_is_followed_by_the_whole(self, sync, server, url, place):
        sync.keep(WHEEL, (0, place))
        server.script(PATH, then=when(ranged, Respond(status=416)))
        [result] = sync(WHEEL.locked(url))
        survived(sync, result, server)

    @at_later_places
    def test_before_the_end_leaves_the_rest_to_another(self, sync, two, place):
        server, other, url, good = two
        sync.keep(WHEEL, (0, place))
        server.script(PATH, then=Respond(status=416, headers={"Content-Range": "bytes */7"}))
        [result] = sync(WHEEL.locked(url, good))
        survived(sync, result, server, other, worthless=-place)

    def test_at_the_end_of_a_wheel_of_unknown_size_verifies_what_is_there(self, sync, server, url):
        partial = sync.store.partial(WHEEL.locked(size=None), piece=PIECE)
        partial.write(0, WHEEL.data)
        partial.close()
        server.script(PATH, then=when(ranged, Serve(), Respond(status=404)))
        [result] = sync(WHEEL.locked(url, size=None))
        assert (result.state, result.bytes_fetched) == ("resumed", 0)


class TestValidators:
    """No ETag, a weak one, a changing one: resume anyway, the digest decides; no If-Range is ever sent."""

    @pytest.mark.parametrize("tag", [None, 'W/"1"', '"1"'])
    def test_do_not_matter(self, sync, server, url, tag):
        server.script(
            PATH,
            Serve(cut_at=MIDDLE, headers={"ETag": tag}),
            then=Serve(headers={"ETag": '"another"', "Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}),
        )
        [result] = sync(WHEEL.locked(url))
        survived(sync, result, server)
        assert not any("if-range" in request.headers for request in server.asked())


class TestForeignBodies:
    """HTML or another length with 200 (captive portal): seen before a byte is written."""

    pages = pytest.mark.parametrize(
        "page",
        [
            login_page(),
            login_page(disguised=True),
            login_page(fitting=True),
            login_page(fitting=True, disguised=True),
            Serve(forged=b"<html>", headers={"Content-Type": "text/html"}),
            Respond(status=200, body=b""),
            Respond(status=200, body=b"{}", headers={"Content-Type": "application/json"}),
        ],
        ids=["a page", "as a file", "as long", "as long, as a file", "as long as the range", "nothing", "json"],
    )

    @pages
    def test_at_the_beginning_leave_nothing_on_the_disk(self, sync, server, url, page):
        server.script(PATH, then=page)
        [result] = sync(WHEEL.locked(url))
        refused(sync, result)
        assert not list((sync.store.root / "v1" / "partial").glob("*.part"))

    @pages
    def test_once_are_followed_by_another_try(self, sync, server, url, page):
        server.script(PATH, page)
        [result] = sync(WHEEL.locked(url))
        survived(sync, result, server)

    @pages
    def test_on_the_way_leave_what_is_there_as_it_is(self, sync, two, page):
        server, other, url, good = two
        sync.keep(WHEEL, (0, MIDDLE))
        server.script(PATH, then=page)
        [result] = sync(WHEEL.locked(url, good))
        survived(sync, result, server, other, worthless=-MIDDLE + 2 * SIZE)

    @at_later_places
    def test_on_the_way_leave_what_is_there_wherever_that_ends(self, sync, two, place):
        server, other, url, good = two
        sync.keep(WHEEL, (0, place))
        server.script(PATH, then=login_page())
        [result] = sync(WHEEL.locked(url, good))
        survived(sync, result, server, other, worthless=-place)

    @at_places
    def test_of_the_right_length_within_a_range_are_found_out_by_the_digest(self, sync, two, place):
        """A portal that answers 206 with its page, as long as the range: bytes like any other's lies."""
        server, other, url, good = two
        server.script(PATH, then=when(covers(place), Serve(corrupt=(place, SIZE))))
        [result] = sync(WHEEL.locked(url, good))
        survived(sync, result, server, other, worthless=2 * SIZE)

    @pytest.mark.parametrize("off", [-1, 1, 1000])
    def test_of_another_length_are_another_file(self, sync, server, other, good, off):
        url = server.put(PATH, make_wheel("big", size=SIZE + off, seed="x").data)
        [result] = sync(WHEEL.locked(url, good))
        survived(sync, result, server, other)
        assert "another file" in sync.notes()


@either_way
class TestLies:
    """Right length, wrong digest: name and rest the source, fetch the differing pieces elsewhere; never publish."""

    @at_places
    def test_in_one_byte_are_mended_from_another_source(self, sync, two, place):
        server, other, url, good = two
        server.script(PATH, then=Serve(corrupt_at=place, rate=FAST))
        other.script(PATH, then=Serve(rate=FAST))
        [result] = sync(WHEEL.locked(url, good))
        if place < 4:  # no wheel begins like that: it is not even written
            assert "not the wheel" in sync.notes()
        survived(sync, result, server, other, worthless=2 * SIZE)
        assert f"{good}: wrong bytes" not in sync.notes()

    @at_places
    def test_without_another_source_are_never_published(self, sync, server, url, place):
        server.script(PATH, then=Serve(corrupt_at=place))
        [result] = sync(WHEEL.locked(url))
        refused(sync, result, NetworkError if place < 4 else IntegrityError)
        if place >= 4:  # what nobody called wrong is kept
            assert sync.store.partial_bytes(WHEEL.digest) == 0


@either_way
class TestCuts:
    """Body cut short: keep the bytes, continue; report as cut, not as a digest mismatch."""

    @pytest.mark.parametrize("how", ["cut_at", "reset_at"])
    @at_places
    def test_lose_nothing(self, sync, server, url, place, how):
        cut = {"cut_after": 0} if place == 0 else {how: place}
        server.script(PATH, Serve(**cut))
        [result] = sync(WHEEL.locked(url))
        survived(sync, result, server)
        assert "wrong bytes" not in sync.notes()

    def test_again_and_again_are_borne_as_long_as_bytes_come(self, sync, server, url):
        server.script(PATH, then=Serve(cut_at=range(PIECE + 7, SIZE, PIECE + 7)))
        [result] = sync(WHEEL.locked(url), settings=replace(sync.settings, retries=1))
        survived(sync, result, server)

    def test_with_too_short_a_length_said_are_another_file(self, sync, two):
        server, other, url, good = two
        server.script(PATH, then=Serve(short=1))
        [result] = sync(WHEEL.locked(url, good))
        survived(sync, result, server, other)


class TestWhatACutLeaves:
    @at_later_places
    def test_is_every_byte_for_the_next_run(self, sync, server, url, place):
        sync.settings = replace(sync.settings, connections=1)
        server.script(PATH, Serve(cut_at=place), then=Respond(status=404))
        [result] = sync(WHEEL.locked(url))
        refused(sync, result)
        assert sync.store.partial_bytes(WHEEL.digest) == place
        assert f"{place} bytes are kept" in result.error
        server.script(PATH)
        [result] = sync(WHEEL.locked(url))
        assert (result.state, result.bytes_fetched) == ("resumed", SIZE - place)


@either_way
class TestSilence:
    """Idle timeout; minimum rate over a window."""

    @at_some_places
    def test_is_noticed_and_the_bytes_kept(self, sync, two, place):
        server, other, url, good = two
        silent = Serve(delay=60) if place == 0 else Serve(silent_at=place)
        server.script(PATH, then=silent)
        [result] = sync(WHEEL.locked(url, good), settings=replace(sync.settings, timeout=0.3))
        survived(sync, result, server, other)

    @at_some_places
    def test_of_the_only_source_is_borne_until_it_speaks_again(self, sync, server, url, place):
        silent = Serve(delay=60) if place == 0 else Serve(silent_at=place)
        server.script(PATH, silent)
        [result] = sync(WHEEL.locked(url), settings=replace(sync.settings, timeout=0.3))
        survived(sync, result, server)

    @at_some_places
    def test_of_a_trickle_is_noticed_although_bytes_keep_coming(self, sync, two, place):
        server, other, url, good = two
        server.script(PATH, then=Serve(rate=1000, slow_at=place))
        settings = replace(sync.settings, min_rate=50_000, rate_window=0.3, deadline=10.0)
        [result] = sync(WHEEL.locked(url, good), settings=settings)
        survived(sync, result, server, other)


class TestConnecting:
    """Reset, DNS, connect: next source, later retry."""

    @pytest.mark.parametrize(
        "nowhere", ["http://127.0.0.1:1/x.whl", "http://no-such-host.invalid/x.whl"], ids=["closed port", "no name"]
    )
    def test_to_nobody_leads_to_the_next_source(self, sync, other, good, nowhere):
        [result] = sync(WHEEL.locked(nowhere, good))
        survived(sync, result, other)
        assert result.source == good

    def test_to_a_server_that_resets_leads_to_another_try(self, sync, server, url):
        server.script(PATH, Serve(cut_after=0, reset=True), Serve(cut_after=0, reset=True))
        [result] = sync(WHEEL.locked(url))
        survived(sync, result, server)

    def test_to_nobody_at_all_ends(self, sync):
        [result] = sync(WHEEL.locked("http://127.0.0.1:1/x.whl"))
        refused(sync, result)
        assert "no connection" in result.error


class TestCertificates:
    """TLS certificate: fatal for that source, with a hint; never weakened."""

    def test_that_nobody_signed_are_refused_once_with_a_hint(self, sync, tmp_path):
        with Server(certificate=make_certificate(tmp_path)) as secure:
            [result] = sync(WHEEL.locked(secure.put_wheel(WHEEL)))
            refused(sync, result)
            assert not secure.asked()
        assert "TLS certificate refused" in result.error
        assert "clock" in result.failure.hint

    def test_that_nobody_signed_lead_to_the_next_source(self, sync, other, good, tmp_path):
        with Server(certificate=make_certificate(tmp_path)) as secure:
            [result] = sync(WHEEL.locked(secure.put_wheel(WHEEL), good))
        survived(sync, result, other)


class TestBusyServers:
    """429, 503: Retry-After in both forms; work on other hosts meanwhile."""

    busy = pytest.mark.parametrize(
        "busy",
        [Busy(status=429), Busy(status=503), Busy(as_date=True), Respond(status=502), Respond(status=500)],
        ids=["429", "503", "a date", "502", "500"],
    )

    @busy
    def test_are_asked_again(self, sync, server, url, busy):
        sync.keep(WHEEL, (0, MIDDLE))
        server.script(PATH, busy)
        [result] = sync(WHEEL.locked(url))
        survived(sync, result, server, worthless=-MIDDLE)

    @at_places
    def test_are_asked_again_for_what_is_missing(self, sync, server, url, place):
        sync.keep(WHEEL, (0, place))
        server.script(PATH, Respond(status=503))
        [result] = sync(WHEEL.locked(url))
        survived(sync, result, server, worthless=-place)

    @busy
    def test_are_left_for_another_meanwhile(self, sync, two, busy):
        server, other, url, good = two
        server.script(PATH, then=busy)
        [result] = sync(WHEEL.locked(url, good))
        survived(sync, result, server, other)
        assert result.source == good

    @pytest.mark.parametrize("wait", ["soon", "-1", "", "0"])
    def test_that_say_nonsense_are_asked_again_soon(self, sync, server, url, wait):
        server.script(PATH, Respond(status=503, headers={"Retry-After": wait}))
        [result] = sync(WHEEL.locked(url))
        survived(sync, result, server)


class TestRefusals:
    """401, 403, 404, 410: next source; a signed URL that expired is looked up again in the index."""

    statuses = pytest.mark.parametrize("status", [401, 403, 404, 410, 451])

    @statuses
    def test_lead_to_the_next_source(self, sync, two, status):
        server, other, url, good = two
        server.script(PATH, then=Respond(status=status))
        [result] = sync(WHEEL.locked(url, good))
        survived(sync, result, server, other)
        assert len(server.asked()) <= 2

    @at_places
    def test_on_the_way_lose_nothing(self, sync, two, place):
        server, other, url, good = two
        steps: list[Behaviour] = [Serve(cut_at=place)] if place else []
        server.script(PATH, *steps, then=Respond(status=410))
        [result] = sync(WHEEL.locked(url, good))
        survived(sync, result, server, other)

    @at_places
    def test_of_an_expired_url_lead_to_the_index(self, sync, server, other, url, place):
        steps: list[Behaviour] = [Serve(cut_at=place)] if place else []
        server.script(PATH, *steps, then=Respond(status=403))
        [result] = sync(WHEEL.locked(f"{url}?signature=old"), indexes=[other.put_index([WHEEL])])
        survived(sync, result, server, other)


class TestRedirects:
    """Credentials never follow to another host."""

    def test_are_followed_without_credentials(self, sync, server, other, good):
        server.script(PATH, then=redirect(good))
        [result] = sync(WHEEL.locked(f"http://user:secret@{server.host}{PATH}"))
        survived(sync, result, server, other)
        assert all("authorization" in request.headers for request in server.asked())
        assert not any("authorization" in request.headers for request in other.asked())

    def test_in_a_circle_are_refused(self, sync, two):
        server, other, url, good = two
        server.script(PATH, then=redirect(PATH))
        [result] = sync(WHEEL.locked(url, good))
        survived(sync, result, other)
        assert "redirect refused" in sync.notes()

    def test_from_https_to_http_are_refused(self, tmp_path, good, other, monkeypatch):
        certificate = make_certificate(tmp_path)
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        sync = Syncs(tmp_path / "cache", settings=IN_PIECES)
        with Server(certificate=certificate) as secure:
            secure.script(PATH, then=redirect(good))
            [result] = sync(WHEEL.locked(secure.url + PATH))
        refused(sync, result)
        assert "redirect refused" in result.error
        assert not other.asked()


def test_hostile_urls_name_no_file_of_ours(tmp_path, server):
    """Names come from the digest, never from a URL or a header."""
    sync = Syncs(tmp_path / "cache", settings=IN_PIECES)
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    url = server.put("/files/..%2F..%2Fevil%00.whl", WHEEL.data)
    server.script(
        "/files/..%2F..%2Fevil%00.whl",
        then=Serve(headers={"Content-Disposition": 'attachment; filename="../../../evil.whl"'}),
    )
    [result] = sync(WHEEL.locked(url))
    assert result.error == ""
    made = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert not [path for path in made if "evil" in path.name]
    assert sync.holds(WHEEL)
