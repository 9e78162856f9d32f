"""The transport against real servers: what goes out, what comes back, what every failure is called."""

from __future__ import annotations

import base64
import socket
import threading
import time
from contextlib import suppress

import pytest
from support.server import Respond, Serve, Server, redirect
from support.tls import make_certificate

from wheelcache.faults import Fault, SourceFault
from wheelcache.transport import Transport

DATA = bytes(range(256)) * 4000


@pytest.fixture
def server():
    with Server() as server:
        yield server


@pytest.fixture
def make():
    """Makes transports that are closed in the end."""
    made: list[Transport] = []

    def make(**arguments) -> Transport:
        made.append(Transport(**arguments))
        return made[-1]

    yield make
    for transport in made:
        transport.close()


@pytest.fixture
def transport(make):
    return make(timeout=5.0)


def whole(transport, url, offset=0) -> bytes:
    with transport.open(url, offset=offset) as answer:
        return b"".join(iter(lambda: answer.read(100_000), b""))


def fault_of(transport, url) -> SourceFault:
    with pytest.raises(SourceFault) as caught:
        whole(transport, url)
    return caught.value


class TestOpening:
    def test_gives_the_files_bytes(self, server, transport):
        assert whole(transport, server.put("/a", DATA)) == DATA

    def test_gives_the_bytes_from_an_offset(self, server, transport):
        url = server.put("/a", DATA)
        with transport.open(url, offset=1000) as answer:
            assert answer.status == 206
            assert answer.headers["content-range"] == f"bytes 1000-{len(DATA) - 1}/{len(DATA)}"
        assert whole(transport, url, 1000) == DATA[1000:]

    def test_asks_for_the_bytes_as_they_are(self, server, transport):
        whole(transport, server.put("/a", DATA))
        sent = server.asked("/a")[0].headers
        assert sent["accept-encoding"] == "identity"
        assert "range" not in sent
        assert "if-range" not in sent

    def test_does_not_decode_what_a_server_encodes_all_the_same(self, server, transport):
        url = server.put("/a", DATA)
        server.script("/a", then=Serve(headers={"Content-Encoding": "gzip"}))
        assert whole(transport, url) == DATA

    def test_uses_a_connection_again(self, server, transport):
        url = server.put("/a", b"x")
        for _ in range(3):
            whole(transport, url)
        assert len(transport.session.adapters["http://"].poolmanager.pools) == 1

    def test_leaves_statuses_to_the_caller(self, server, transport):
        server.script("/a", Respond(status=503, headers={"Retry-After": "3"}))
        with transport.open(server.url + "/a") as answer:
            assert (answer.status, answer.headers["retry-after"]) == (503, "3")


class TestLocalFiles:
    def test_are_read_like_any_other(self, tmp_path, transport):
        file = tmp_path / "a b.whl"
        file.write_bytes(DATA)
        assert whole(transport, file.as_uri()) == DATA
        with transport.open(file.as_uri(), offset=10) as answer:
            assert answer.status == 206
            assert answer.headers["content-range"] == f"bytes 10-{len(DATA) - 1}/{len(DATA)}"
            assert answer.read(5) == DATA[10:15]
        assert transport.head_size(file.as_uri()) == len(DATA)

    def test_have_no_bytes_beyond_their_end(self, tmp_path, transport):
        file = tmp_path / "a.whl"
        file.write_bytes(DATA)
        with transport.open(file.as_uri(), offset=len(DATA)) as answer:
            assert (answer.status, answer.headers["content-range"]) == (416, f"bytes */{len(DATA)}")

    def test_that_are_missing_are_refused(self, tmp_path, transport):
        fault = fault_of(transport, (tmp_path / "none.whl").as_uri())
        assert fault.fault is Fault.REFUSED
        assert "none.whl" in fault.message


class TestRedirects:
    def test_are_followed_with_the_range(self, server, transport):
        target = server.put("/b", DATA)
        server.script("/a", redirect(target))
        with transport.open(server.url + "/a", offset=7) as answer:
            assert (answer.status, answer.url) == (206, target)

    def test_never_carry_credentials_to_another_host(self, server, transport):
        with Server() as other:
            target = other.put("/b", DATA)
            server.script("/a", redirect(target))
            whole(transport, f"http://user:secret@{server.host}/a")
            assert base64.b64encode(b"user:secret").decode() in server.asked("/a")[0].headers["authorization"]
            assert "authorization" not in other.asked("/b")[0].headers

    def test_without_end_are_refused(self, server, transport):
        server.script("/a", then=redirect("/a"))
        assert fault_of(transport, server.url + "/a").fault is Fault.REDIRECT

    def test_from_https_to_http_are_refused(self, server, tmp_path, transport):
        certificate = make_certificate(tmp_path)
        plain = server.put("/b", DATA)
        with Server(certificate=certificate) as secure:
            secure.script("/a", redirect(plain))
            fault = fault_of(trusting(transport, certificate), secure.url + "/a")
        assert fault.fault is Fault.REDIRECT
        assert "expected https, found a redirect to http://" in fault.message
        assert not server.asked("/b")


def trusting(transport, certificate):
    """The machine's own REQUESTS_CA_BUNDLE would win over what the test means."""
    transport.session.trust_env = False
    transport.session.verify = str(certificate)
    return transport


class TestCertificates:
    def test_that_nobody_signed_are_fatal_with_a_hint_at_clock_and_bundle(self, tmp_path, transport):
        with Server(certificate=make_certificate(tmp_path)) as secure:
            fault = fault_of(transport, secure.put("/a", DATA))
        assert fault.fault is Fault.TLS
        assert "clock" in fault.hint
        assert "SSL_CERT_FILE" in fault.hint

    def test_of_a_bundle_in_ssl_cert_file_are_trusted(self, tmp_path, monkeypatch, make):
        certificate = make_certificate(tmp_path)
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        with Server(certificate=certificate) as secure:
            assert whole(make(), secure.put("/a", DATA)) == DATA

    def test_of_a_bundle_that_is_not_there_are_a_tls_fault(self, tmp_path, monkeypatch, make):
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "none.pem"))
        with Server(certificate=make_certificate(tmp_path)) as secure:
            fault = fault_of(make(), secure.put("/a", DATA))
        assert fault.fault is Fault.TLS
        assert "none.pem" in fault.message


class TestFaults:
    def test_a_closed_port_is_no_connection(self, transport):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        fault = fault_of(transport, f"http://user:secret@127.0.0.1:{port}/a?sig=secret")
        assert fault.fault is Fault.CONNECT
        assert "secret" not in fault.message

    def test_an_unknown_name_is_no_connection(self, transport):
        assert fault_of(transport, "http://no-such-host.invalid/a").fault is Fault.CONNECT

    def test_a_cut_body_is_cut(self, server, transport):
        url = server.put("/a", DATA)
        server.script("/a", Serve(cut_after=5000))
        fault = fault_of(transport, url)
        assert (fault.fault, fault.message) == (Fault.CUT, f"the body ended after 5000 of {len(DATA)} bytes")

    def test_what_came_before_a_cut_is_given(self, server, transport):
        url = server.put("/a", DATA)
        server.script("/a", Serve(cut_after=5000))
        with transport.open(url) as answer:
            assert answer.read(100_000) == DATA[:5000]

    def test_a_reset_is_a_cut(self, server, transport):
        url = server.put("/a", DATA)
        server.script("/a", Serve(cut_after=5000, reset=True))
        assert fault_of(transport, url).fault is Fault.CUT

    def test_silence_before_the_answer_is_silence(self, server, make):
        url = server.put("/a", DATA)
        server.script("/a", Serve(delay=30))
        assert fault_of(make(timeout=0.3), url).fault is Fault.SILENT

    def test_silence_within_the_body_is_silence(self, server, make):
        url = server.put("/a", DATA)
        server.script("/a", Serve(silent_after=1000))
        assert fault_of(make(timeout=0.3), url).fault is Fault.SILENT

    @pytest.mark.parametrize("url", ["ftp://127.0.0.1/a", "http://", "no url", "http://[bad/a"])
    def test_what_is_no_http_url_is_refused(self, transport, url):
        assert fault_of(transport, url).fault is Fault.REFUSED


class TestAborting:
    @pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
    def test_ends_a_read_at_once(self, secure, tmp_path, make):
        certificate = make_certificate(tmp_path) if secure else None
        with Server(certificate=certificate) as server:
            url = server.put("/a", DATA)
            server.script("/a", Serve(silent_after=1000))
            with trusting(make(timeout=30), certificate).open(url) as answer:
                threading.Timer(0.2, answer.abort).start()
                began = time.monotonic()
                with suppress(SourceFault):  # or an early end: the caller knows that it gave up
                    while answer.read(100_000):
                        pass
                assert time.monotonic() - began < 5

    def test_an_answer_that_has_ended_does_nothing(self, server, transport):
        with transport.open(server.put("/a", b"x")) as answer:
            while answer.read(10):
                pass
            answer.abort()


class TestHeadSize:
    def test_is_what_the_server_says(self, server, transport):
        assert transport.head_size(server.put("/a", DATA)) == len(DATA)
        assert [request.method for request in server.requests] == ["HEAD"]

    def test_is_unknown_for_what_is_not_there(self, server, transport):
        assert transport.head_size(server.url + "/none") is None

    def test_of_a_closed_port_is_a_fault(self, transport):
        with pytest.raises(SourceFault):
            transport.head_size("http://127.0.0.1:1/a")


def test_a_proxy_from_the_environment_is_used(server, monkeypatch, make):
    server.put("/a", DATA)
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.setenv("no_proxy", "")
    with make().open("http://far-away.invalid/a") as answer:
        assert answer.status == 404  # our server, which takes the absolute URL for a path
    assert server.asked()[0].path == "http://far-away.invalid/a"


def test_credentials_of_netrc_are_used(server, tmp_path, monkeypatch, make):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login user password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    whole(make(), server.put("/a", DATA))
    assert server.asked("/a")[0].headers["authorization"].startswith("Basic ")
