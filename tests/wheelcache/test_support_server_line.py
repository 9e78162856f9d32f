"""What concerns a scripted server as a whole: its rate, its distance, its bans, and its line that is cut and mended."""

from __future__ import annotations

import socket
import ssl
import threading
import time

import pytest
import requests
from support.server import Respond, Serve, Server
from support.tls import make_certificate
from support.wire import DATA, KB, MB, PATIENCE, Wire, got, in_parallel


@pytest.fixture
def server(server):
    server.put("/a", DATA)
    return server


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
