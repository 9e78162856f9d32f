"""What is asked of indexes and mirrors, against real Simple APIs on loopback."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import closing

import pytest
from pypi_simple import PYPI_SIMPLE_ENDPOINT, PyPISimple
from support.server import Respond, Serve, login_page
from support.wheels import make_wheel

from wheelcache.digest import digest_of_bytes, hex_of
from wheelcache.errors import LockError, NetworkError
from wheelcache.faults import Fault, SourceFault
from wheelcache.index import (
    Offer,
    default_index,
    mirror_urls,
    rewritten_urls,
    wheel_sizes,
    wheels_of_requirements,
)
from wheelcache.pins import Pin
from wheelcache.target import declared_target
from wheelcache.transport import Transport

TARGET = declared_target("3.11", "manylinux_2_28_x86_64")


@pytest.fixture
def transport():
    transport = Transport(timeout=5.0)
    yield transport
    transport.close()


class TestTheDefaultIndex:
    def test_is_that_of_uv_and_pip(self):
        assert default_index({}) == PYPI_SIMPLE_ENDPOINT

    @pytest.mark.parametrize(
        ("environ", "index"),
        [
            ({"UV_DEFAULT_INDEX": "https://a.test/simple"}, "https://a.test/simple"),
            ({"UV_DEFAULT_INDEX": "main=https://a.test/simple"}, "https://a.test/simple"),
            ({"UV_DEFAULT_INDEX": "https://a.test/simple?token=x"}, "https://a.test/simple?token=x"),
            ({"UV_INDEX_URL": "https://a.test/simple"}, "https://a.test/simple"),
            ({"PIP_INDEX_URL": "https://a.test/simple"}, "https://a.test/simple"),
            ({"PIP_INDEX_URL": "https://b.test/", "UV_INDEX_URL": "https://a.test/"}, "https://a.test/"),
            ({"UV_DEFAULT_INDEX": " ", "PIP_INDEX_URL": "https://a.test/"}, "https://a.test/"),
        ],
    )
    def test_is_what_their_environment_says(self, environ, index):
        assert default_index(environ) == index


class TestSizes:
    def test_are_asked_only_where_unknown(self, server, transport):
        known, unknown = make_wheel("known", size=5000), make_wheel("unknown", size=6000)
        wheels = [known.locked("http://127.0.0.1:1/x"), unknown.locked(server.put_wheel(unknown), size=None)]
        assert wheel_sizes(wheels, transport=transport) == {known.digest: 5000, unknown.digest: 6000}
        assert [request.method for request in server.requests] == ["HEAD"]

    def test_come_from_the_next_url_when_one_fails(self, server, transport):
        wheel = make_wheel(size=5000)
        locked = wheel.locked(server.url + "/gone", server.put_wheel(wheel), size=None)
        assert wheel_sizes([locked], transport=transport) == {wheel.digest: 5000}

    def test_of_local_files_are_their_own(self, tmp_path, transport):
        wheel = make_wheel(size=5000)
        (tmp_path / "a.whl").write_bytes(wheel.data)
        locked = wheel.locked((tmp_path / "a.whl").as_uri(), size=None)
        assert wheel_sizes([locked], transport=transport) == {wheel.digest: 5000}

    def test_that_nobody_tells_are_left_out(self, server, transport):
        wheel = make_wheel()
        assert wheel_sizes([wheel.locked(server.url + "/gone", size=None)], transport=transport) == {}
        assert wheel_sizes([wheel.locked("http://127.0.0.1:1/x", size=None)], transport=transport, attempts=1) == {}

    def test_are_not_waited_for_once_given_up(self, transport):
        wheel = make_wheel()
        give_up = threading.Event()
        threading.Timer(0.2, give_up.set).start()
        began = time.monotonic()
        with Silence() as silence:
            sizes = wheel_sizes([wheel.locked(silence.url, size=None)], transport=transport, give_up=give_up.is_set)
        assert sizes == {}
        assert time.monotonic() - began < 2


class Silence:
    """A port that accepts and never answers."""

    def __enter__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/x"
        return self

    def __exit__(self, *_):
        self._listener.close()


def offer_of(wheel, root: str, transport: Transport, **options) -> Offer:
    return mirror_urls("demo", wheel.filename, wheel.digest, root, transport=transport, **options)


@pytest.mark.parametrize("json_api", [False, True], ids=["html", "json"])
class TestMirrors:
    def test_give_the_file_of_that_name_and_digest(self, server, transport, json_api):
        wheel, older = make_wheel("demo", "2.0"), make_wheel("demo", "1.0")
        root = server.put_index([older, wheel], json_api=json_api)
        offer = offer_of(wheel, root, transport, known=["https://files.test/packages/demo.whl"])
        assert offer == Offer(urls=(f"{server.url}/simple-files/{wheel.filename}",))

    def test_may_list_no_digest(self, server, transport, json_api):
        wheel = make_wheel()
        root = server.put_index([wheel], json_api=json_api, digests=False)
        assert offer_of(wheel, root, transport) == Offer(urls=(f"{server.url}/simple-files/{wheel.filename}",))

    @pytest.mark.parametrize("claimed", ["ab", "unknown", "zz" * 32])
    def test_may_list_what_is_no_digest(self, server, transport, json_api, claimed):
        wheel = make_wheel()
        root = server.put_index([wheel], json_api=json_api, claimed={wheel.filename: claimed})
        assert offer_of(wheel, root, transport) == Offer(urls=(f"{server.url}/simple-files/{wheel.filename}",))

    def test_may_list_the_digest_in_upper_case(self, server, transport, json_api):
        wheel = make_wheel()
        claimed = {wheel.filename: hex_of(wheel.digest).upper()}
        root = server.put_index([wheel], json_api=json_api, claimed=claimed)
        assert offer_of(wheel, root, transport) == Offer(urls=(f"{server.url}/simple-files/{wheel.filename}",))

    def test_of_other_bytes_say_which_and_are_no_source(self, server, transport, json_api):
        wheel = make_wheel()
        root = server.put_index([wheel], json_api=json_api, claimed={wheel.filename: "AB" * 32})
        offer = offer_of(wheel, root, transport, known=[f"https://files.test/packages/{wheel.filename}"])
        assert offer == Offer(other_digests=(f"sha256:{'ab' * 32}",))

    def test_without_the_project_give_nothing(self, server, transport, json_api):
        root = server.put_index([make_wheel("other")], json_api=json_api)
        assert offer_of(make_wheel(), root, transport) == Offer()

    def test_without_the_file_give_nothing(self, server, transport, json_api):
        root = server.put_index([make_wheel("demo", "2.0")], json_api=json_api)
        assert offer_of(make_wheel("demo", "1.0"), root, transport) == Offer()

    def test_get_their_own_credentials_back(self, server, transport, json_api):
        wheel = make_wheel()
        root = server.put_index([wheel], json_api=json_api).replace("//", "//user:secret@")
        [url] = offer_of(wheel, root, transport).urls
        assert url.startswith("http://user:secret@127.0.0.1:")
        assert server.asked()[0].headers["authorization"].startswith("Basic ")


def test_a_mirror_may_list_one_name_twice(server, transport):
    wheel = make_wheel()
    links = [f"/a/{wheel.filename}#sha256={'cd' * 32}", f"/b/{wheel.filename}#sha256={hex_of(wheel.digest)}"]
    page = "".join(f'<a href="{link}">{wheel.filename}</a>' for link in [*links, *links])
    server.put("/simple/demo/", page.encode(), content_type="text/html")
    offer = offer_of(wheel, server.url + "/simple/", transport)
    assert offer == Offer(urls=(f"{server.url}/b/{wheel.filename}",), other_digests=(f"sha256:{'cd' * 32}",))


class TestRewrittenUrls:
    @pytest.mark.parametrize(
        ("mirror", "url", "expected"),
        [
            ("https://m.test/simple/", "https://f.test/p/a.whl", ["https://m.test/p/a.whl"]),
            ("https://m.test/simple", "https://f.test/p/a.whl", ["https://m.test/p/a.whl"]),
            ("https://m.test", "https://f.test/p/a.whl", ["https://m.test/p/a.whl"]),
            (
                "https://m.test/pypi/simple/",
                "https://f.test/p/a.whl",
                ["https://m.test/p/a.whl", "https://m.test/pypi/p/a.whl"],
            ),
            (
                "https://m.test/pypi/",
                "https://f.test/p/a.whl",
                ["https://m.test/p/a.whl", "https://m.test/pypi/p/a.whl"],
            ),
            (
                "https://m.test/mysimple/",
                "https://f.test/p/a.whl",
                ["https://m.test/p/a.whl", "https://m.test/mysimple/p/a.whl"],
            ),
            ("http://m.test:8080/simple/", "https://f.test/p/a.whl", ["http://m.test:8080/p/a.whl"]),
            (
                "https://m.test/simple/",
                "https://f.test/p/a%2Bcu.whl?sig=x&t=1#sha256=ab",
                ["https://m.test/p/a%2Bcu.whl"],
            ),
            ("https://m.test/simple/?token=x#y", "https://f.test/p/a.whl", ["https://m.test/p/a.whl"]),
        ],
    )
    def test_are_at_the_origin_and_under_the_root(self, mirror, url, expected):
        assert rewritten_urls(mirror, url) == tuple(expected)

    def test_carry_the_credentials_of_the_mirror_and_of_nobody_else(self):
        assert rewritten_urls("https://me:mine@m.test/pypi/simple/", "https://you:yours@f.test/p/a.whl") == (
            "https://me:mine@m.test/p/a.whl",
            "https://me:mine@m.test/pypi/p/a.whl",
        )

    @pytest.mark.parametrize(
        ("mirror", "url"),
        [
            ("https://m.test/simple/", "file:///srv/a.whl"),
            ("https://m.test/simple/", "ftp://f.test/a.whl"),
            ("https://m.test/simple/", "p/a.whl"),
            ("https://m.test/simple/", "https://f.test"),
            ("https://m.test/simple/", "https://f.test/"),
            ("https://m.test/simple/", "https://[f.test/a.whl"),
            ("https://[m.test/simple/", "https://f.test/a.whl"),
            ("file:///srv/simple/", "https://f.test/a.whl"),
            ("m.test/simple/", "https://f.test/a.whl"),
            ("", "https://f.test/a.whl"),
        ],
    )
    def test_are_none_for_what_is_no_file_on_a_web_server(self, mirror, url):
        assert rewritten_urls(mirror, url) == ()


class TestAMirrorOfTheFilesAlone:
    wheel = make_wheel("demo", "1.0")
    known = (f"https://files.test/packages/aa/{wheel.filename}?signature=x", f"file:///srv/{wheel.filename}")

    def guess_of(self, server) -> Offer:
        urls = [f"{server.url}{path}/packages/aa/{self.wheel.filename}" for path in ("", "/pypi")]
        return Offer(urls=tuple(urls), is_guess=True)

    @pytest.mark.parametrize("status", [403, 404, 410])
    def test_is_offered_by_the_path_of_the_lockfile(self, server, transport, status):
        server.script("/pypi/simple/demo/", then=Respond(status=status))
        offer = offer_of(self.wheel, server.url + "/pypi/simple/", transport, known=self.known)
        assert offer == self.guess_of(server)

    def test_may_list_other_files_of_the_project(self, server, transport):
        root = server.put_index([make_wheel("demo", "2.0")], root="/pypi/simple")
        assert offer_of(self.wheel, root, transport, known=self.known) == self.guess_of(server)

    def test_serves_the_wheel_from_where_it_is_guessed(self, server, transport):
        server.put_wheel(self.wheel, under="/packages/aa")
        offer = offer_of(self.wheel, server.url + "/simple/", transport, known=self.known)
        locked = self.wheel.locked(*offer.urls, size=None)
        assert wheel_sizes([locked], transport=transport) == {self.wheel.digest: self.wheel.size}

    def test_is_not_guessed_at_where_the_wheel_itself_comes_from(self, server, transport):
        known = [f"{server.url}/packages/aa/{self.wheel.filename}"]
        assert offer_of(self.wheel, server.url + "/simple/", transport, known=known) == Offer()

    def test_is_not_guessed_at_when_an_index_is_asked_where_its_own_file_is(self, server, transport):
        listing = server.put_index([make_wheel("demo", "2.0")], root="/listing")
        for root in (listing, server.url + "/nothing/"):
            assert offer_of(self.wheel, root, transport, known=self.known, guess=False) == Offer()

    @pytest.mark.parametrize("options", [{}, {"known": known, "guess": False}], ids=["nothing known", "no guess"])
    def test_is_a_fault_where_it_refuses_and_nothing_can_be_guessed(self, server, transport, options):
        server.script("/simple/demo/", then=Respond(status=403))
        with pytest.raises(SourceFault) as caught:
            offer_of(self.wheel, server.url + "/simple/", transport, **options)
        assert caught.value.fault is Fault.REFUSED


class TestAMirrorInTrouble:
    @pytest.mark.parametrize(
        ("behaviour", "fault"),
        [
            (Respond(status=401), Fault.REFUSED),
            (Respond(status=407), Fault.REFUSED),
            (Respond(status=429), Fault.BUSY),
            (Respond(status=503, headers={"Retry-After": "4"}), Fault.BUSY),
            (login_page(), Fault.FOREIGN),
            (Respond(status=200, headers={"Content-Type": "image/png"}, body=b"x"), Fault.FOREIGN),
            (
                Respond(status=200, headers={"Content-Type": "application/vnd.pypi.simple.v1+json"}, body=b"{"),
                Fault.FOREIGN,
            ),
            (
                Respond(
                    status=200,
                    headers={"Content-Type": "application/vnd.pypi.simple.v1+json"},
                    body=b'{"meta": {"api-version": "2.0"}, "name": "demo", "files": []}',
                ),
                Fault.REFUSED,
            ),
        ],
        ids=[
            "no credentials",
            "proxy",
            "greedy",
            "busy",
            "login page",
            "no page",
            "broken json",
            "of the future",
        ],
    )
    def test_is_a_fault_of_its_class_and_no_reason_to_guess(self, server, transport, behaviour, fault):
        server.script("/simple/demo/", then=behaviour)
        with pytest.raises(SourceFault) as caught:
            offer_of(make_wheel(), server.url + "/simple/", transport, known=["https://files.test/packages/demo.whl"])
        assert caught.value.fault is fault

    def test_is_a_fault_when_it_keeps_silent(self, server):
        server.put("/simple/demo/", b"a page that comes too late")
        server.script("/simple/demo/", then=Serve(delay=60))
        with closing(Transport(timeout=0.3)) as transport, pytest.raises(SourceFault) as caught:
            offer_of(make_wheel(), server.url + "/simple/", transport, known=["https://files.test/packages/demo.whl"])
        assert caught.value.fault is Fault.SILENT

    def test_is_a_fault_when_nobody_answers(self, transport):
        with pytest.raises(SourceFault) as caught:
            offer_of(make_wheel(), "http://127.0.0.1:1/simple/", transport, known=["https://files.test/demo.whl"])
        assert caught.value.fault is Fault.CONNECT

    def test_keeps_the_time_it_asked_for(self, server, transport):
        server.script("/simple/demo/", then=Respond(status=503, headers={"Retry-After": "4"}))
        with pytest.raises(SourceFault) as caught:
            offer_of(make_wheel(), server.url + "/simple", transport)
        assert caught.value.retry_after == 4.0


class TestRequirements:
    generic = make_wheel("demo", "1.0")
    cp311 = make_wheel("demo", "1.0", tag="cp311-cp311-manylinux_2_17_x86_64")
    newer = make_wheel("demo", "1.0", tag="cp311-cp311-manylinux_2_28_x86_64")
    mac = make_wheel("demo", "1.0", tag="cp311-cp311-macosx_11_0_arm64")
    later = make_wheel("demo", "1.1")

    def pin(self, *wheels, version="1.0") -> Pin:
        return Pin(name="demo", version=version, digests=frozenset(wheel.digest for wheel in wheels))

    @pytest.mark.parametrize("json_api", [False, True], ids=["html", "json"])
    def test_get_the_best_wheel_of_the_target_among_the_hashes(self, server, transport, json_api):
        root = server.put_index([self.generic, self.cp311, self.newer, self.mac, self.later], json_api=json_api)
        pin = self.pin(self.generic, self.cp311, self.mac)
        [wheel] = wheels_of_requirements([pin], [root], TARGET, transport=transport)
        assert wheel.filename == self.cp311.filename
        assert wheel.digest == self.cp311.digest
        assert wheel.size == (self.cp311.size if json_api else None)
        assert wheel.urls == (f"{server.url}/simple-files/{self.cp311.filename}",)

    def test_prefer_the_higher_build_of_one_version(self, server, transport):
        builds = [make_wheel("demo", "1.0", tag=f"{build}-py3-none-any") for build in ("2", "10", "9")]
        root = server.put_index(builds)
        [wheel] = wheels_of_requirements([self.pin(*builds)], [root], TARGET, transport=transport)
        assert wheel.filename == "demo-1.0-10-py3-none-any.whl"

    def test_may_come_from_any_index_and_keep_every_url(self, server, other, transport):
        first = server.put_index([self.later])
        second, third = other.put_index([self.generic]), other.put_index([self.generic], root="/more")
        pins = [self.pin(self.generic)]
        [wheel] = wheels_of_requirements(pins, [first, second, third], TARGET, transport=transport)
        assert wheel.urls == (
            f"{other.url}/simple-files/{self.generic.filename}",
            f"{other.url}/more-files/{self.generic.filename}",
        )

    def test_are_versions_and_not_texts(self, server, transport):
        root = server.put_index([self.generic])
        [wheel] = wheels_of_requirements([self.pin(self.generic, version="1")], [root], TARGET, transport=transport)
        assert wheel.filename == self.generic.filename

    def test_without_a_fitting_file_are_an_error_that_says_what_was_asked(self, server, transport):
        root = server.put_index([self.mac, self.later])
        with pytest.raises(LockError) as caught:
            wheels_of_requirements([self.pin(self.mac)], [root], TARGET, transport=transport)
        assert caught.value.message == (
            "demo==1.0: expected a wheel for CPython 3.11.0 on manylinux_2_28_x86_64 with one of the 1 hashes given, "
            f"found none at {root}"
        )

    def test_never_get_a_file_with_another_hash(self, server, transport):
        root = server.put_index([self.generic])
        pin = Pin(name="demo", version="1.0", digests=frozenset({digest_of_bytes(b"another")}))
        with pytest.raises(LockError):
            wheels_of_requirements([pin], [root], TARGET, transport=transport)

    def test_are_asked_again_after_a_fault_that_may_pass(self, server, transport):
        root = server.put_index([self.generic])
        server.script("/simple/demo/", Respond(status=502), then=Serve(headers={"Content-Type": "text/html"}))
        assert wheels_of_requirements([self.pin(self.generic)], [root], TARGET, transport=transport)

    def test_that_no_index_could_be_asked_for_are_a_network_error(self, transport):
        with pytest.raises(NetworkError, match=r"demo==1\.0: http://127\.0\.0\.1:1/simple: no connection"):
            wheels_of_requirements(
                [self.pin(self.generic)], ["http://u:p@127.0.0.1:1/simple"], TARGET, transport=transport, attempts=1
            )


@pytest.mark.index
def test_the_default_index_tells_sizes_by_head_and_files_by_name(transport):
    index = default_index({})
    with PyPISimple(index) as client:
        file = next(
            file
            for file in client.get_project_page("packaging").packages
            if file.filename == "packaging-24.0-py3-none-any.whl"
        )
    digest = f"sha256:{file.digests['sha256']}"
    pin = Pin(name="packaging", version="24.0", digests=frozenset({digest}))
    [wheel] = wheels_of_requirements([pin], [index], TARGET, transport=transport)
    assert wheel.filename == "packaging-24.0-py3-none-any.whl"
    assert wheel_sizes([wheel], transport=transport)[wheel.digest] > 50_000
