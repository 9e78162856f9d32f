"""Pulls against a server on loopback that speaks as much of the engine's API as a pull takes."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import docker
import pytest

from builders.connecting import Connection
from builders.engine import Engine
from builders.registries import MissingImageError
from wheelcache.events import Event, Note, Waiting
from wheelcache.programs import ProgramStoppedError

REF = "registry.example/cuda:12"
ID = "sha256:" + "a" * 64
DONE = {"status": "Status: Downloaded newer image"}

Pull = Callable[[Callable[[dict[str, object]], None]], None]


class Daemon(ThreadingHTTPServer):
    """Answers `POST /images/create` with each of *pulls* in turn, and knows one image."""

    def __init__(self, *pulls: Pull) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.pulls = list(pulls)
        self.closing = threading.Event()


class Handler(BaseHTTPRequestHandler):
    server: Daemon
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = json.dumps({"Id": ID, "Size": 1}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.server.pulls.pop(0)(self.say)
        self.wfile.write(b"0\r\n\r\n")

    def say(self, answer: dict[str, object]) -> None:
        line = json.dumps(answer).encode() + b"\r\n"
        self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def serve() -> Iterator[Callable[..., Daemon]]:
    started: list[Daemon] = []

    def start(*pulls: Pull) -> Daemon:
        started.append(Daemon(*pulls))
        threading.Thread(target=started[-1].serve_forever, daemon=True).start()
        return started[-1]

    yield start
    for daemon in started:
        daemon.closing.set()
        daemon.shutdown()
        daemon.server_close()


def connected(daemon: Daemon, events: list[Event], stop: threading.Event | None = None) -> Engine:
    client = docker.DockerClient(base_url=f"tcp://127.0.0.1:{daemon.server_port}", version="1.45", timeout=60)
    return Engine(Connection(client=client), emit=events.append, stop=stop)


def test_a_fault_that_passes_is_tried_again(serve: Callable[..., Daemon]) -> None:
    events: list[Event] = []
    daemon = serve(lambda say: say({"error": "read tcp: connection reset by peer"}), lambda say: say(DONE))
    with connected(daemon, events) as engine:
        assert engine.pull(REF).image_id == ID
    assert [event.level for event in events if isinstance(event, Note)] == ["info", "info"]
    (waiting,) = [event for event in events if isinstance(event, Waiting)]
    assert "connection reset" in waiting.reason


def test_an_image_that_is_nowhere_is_asked_for_once(serve: Callable[..., Daemon]) -> None:
    daemon = serve(lambda say: say({"error": "manifest for registry.example/cuda:12 not found"}))
    with connected(daemon, []) as engine, pytest.raises(MissingImageError, match="not found"):
        engine.pull(REF)


def test_a_slow_pull_lasts_as_long_as_it_is_heard_of_and_silence_ends_it(serve: Callable[..., Daemon]) -> None:
    def slow(say: Callable[[dict[str, object]], None]) -> None:
        for _ in range(8):
            time.sleep(0.25)
            say({"status": "Downloading", "id": "a", "progressDetail": {"current": 1, "total": 9}})
        say(DONE)

    daemon = serve(slow, lambda _: daemon.closing.wait(30) and None)
    with connected(daemon, []) as engine:
        assert engine.pull(REF, silence=1).image_id == ID
        with pytest.raises(MissingImageError, match="timed out") as caught:
            engine.pull(REF, silence=1, retries=0)
    assert caught.value.facts["retry"]


def test_a_stop_ends_a_pull_that_says_nothing(serve: Callable[..., Daemon]) -> None:
    stop = threading.Event()
    daemon = serve(lambda _: stop.set() or (daemon.closing.wait(30) and None))
    began = time.monotonic()
    with connected(daemon, [], stop) as engine, pytest.raises(ProgramStoppedError):
        engine.pull(REF)
    assert time.monotonic() - began < 5
