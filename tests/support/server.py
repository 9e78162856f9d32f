"""A real HTTP server on loopback whose every answer can be scripted: what mirrors do on their bad days.

A path has content (`put`, `put_file`) and, where told so (`script`), a sequence of behaviours: the n-th GET gets the
n-th one. A behaviour is any object with `answer(exchange)`; `Serve` and `Respond` are the ones that most tests need,
and `when` says on what condition. What was asked and how many body bytes were handed to the kernel stands in
`requests`. The server as a whole may be slow, far away or tired of greedy clients, and its line can be cut (`down`) and
mended (`up`).
"""

from __future__ import annotations

import hashlib
import mmap
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from typing import TYPE_CHECKING, Self

from packaging.utils import canonicalize_name, parse_wheel_filename

from support.behaviours import Behaviour, Busy, Gzipped, Multipart, Respond, Serve, login_page, redirect
from support.conditions import (
    Turns,
    asked_less_than,
    by_turns,
    covers,
    in_turn,
    ranged,
    sent_less_than,
    starts_within,
    when,
)
from support.exchange import Connection, Exchange, Pace, Request
from support.indexpages import HTML, JSON, Listed, html_page, json_page, json_root

if TYPE_CHECKING:
    from support.wheels import MadeWheel

__all__ = [
    "Behaviour",
    "Busy",
    "Exchange",
    "Gzipped",
    "Multipart",
    "Request",
    "Respond",
    "Serve",
    "Server",
    "asked_less_than",
    "by_turns",
    "covers",
    "in_turn",
    "login_page",
    "ranged",
    "redirect",
    "sent_less_than",
    "starts_within",
    "when",
]

_LETTING_GO = 10.0


class Server:
    """The server; a context that starts and ends it.

    Attributes:
        url: `http://127.0.0.1:<port>`, or https where *certificate* (PEM: certificate and key) is given.
        requests: everything asked, in order.
        closing: set when it ends.
        pace: of all connections together.
        peak_connections: the most bodies that were being served at once.

    Args:
        certificate: PEM file with certificate and key.
        port: 0 takes any.
        rate: body bytes per second of all connections together.
        connection_rate: body bytes per second of each connection.
        delay: seconds before each answer, as a long way takes them.
        most_connections: more GETs than so many at once are answered with 429, to be asked again in a second.
    """

    def __init__(
        self,
        *,
        certificate: Path | None = None,
        port: int = 0,
        rate: float | None = None,
        connection_rate: float | None = None,
        delay: float = 0.0,
        most_connections: int | None = None,
    ) -> None:
        self.requests: list[Request] = []
        self.closing = threading.Event()
        self.pace = None if rate is None else Pace(rate)
        self.peak_connections = 0
        self._connection_rate = connection_rate
        self._delay = delay
        self._most = most_connections
        self._contents: dict[str, memoryview] = {}
        self._scripts: dict[str, Turns] = {}
        self._numbers: Counter[str] = Counter()
        self._serving: set[Exchange] = set()
        self._connections: dict[socket.socket, Connection] = {}
        self._accepted = 0
        self._guard = threading.Lock()
        self._changed = threading.Condition(self._guard)
        self._switching = threading.Lock()
        self._tls = None
        if certificate is not None:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(certificate)
        self._holder = _bound(port)
        self._address: tuple[str, int] = self._holder.getsockname()
        self._line: _Line | None = _Line(self, self._address, self._tls)
        self.url = f"{'http' if certificate is None else 'https'}://127.0.0.1:{self._address[1]}"
        self.host = self.url.partition("://")[2]

    def __enter__(self) -> Self:
        if self._line is not None:
            self._line.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self.down()
        self._holder.close()

    def down(self) -> None:
        """Cuts the line: all connections end by RST, new ones are refused. Returns when it is so."""
        with self._switching:
            if self._line is not None:
                self._line.stop()
                self._line = None
            with self._changed:
                for connection in self._connections.values():
                    connection.drop()
                if not self._changed.wait_for(lambda: not self._connections, timeout=_LETTING_GO):
                    raise TimeoutError("a behaviour keeps its connection, though the line was cut")

    def up(self) -> None:
        """Mends the line: same port, same contents, scripts where they stood."""
        with self._switching:
            if self._line is None:
                self._line = _Line(self, self._address, self._tls)
                self._line.start()

    def put(self, path: str, content: bytes | memoryview, *, content_type: str | None = None) -> str:
        """Gives *path* a content; returns its URL."""
        self._contents[path] = memoryview(content)
        if content_type is not None:
            self.script(path, then=Serve(headers={"Content-Type": content_type}))
        return self.url + path

    def put_file(self, path: str, file: Path) -> str:
        """Gives *path* the content of a file, which is mapped, not read, and must not shrink; returns its URL."""
        with file.open("rb") as opened:
            size = file.stat().st_size
            return self.put(path, memoryview(mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ)) if size else b"")

    def put_wheel(self, wheel: MadeWheel, *, under: str = "/files") -> str:
        return self.put(f"{under}/{wheel.filename}", wheel.data)

    def put_index(
        self,
        wheels: Iterable[MadeWheel],
        *,
        root: str = "/simple",
        json_api: bool = False,
        digests: bool = True,
        claimed: Mapping[str, str] | None = None,
    ) -> str:
        """Serves a Simple API of *wheels*, as PEP 503 HTML or PEP 691 JSON; returns its root.

        Args:
            wheels: their files are served as well.
            root: path of the root.
            json_api: the form.
            digests: list sha256 digests.
            claimed: hex digests that the index lists in the place of the true ones, by file name.
        """
        projects: dict[str, list[Listed]] = {}
        for wheel in wheels:
            self.put_wheel(wheel, under=f"{root}-files")
            true = wheel.digest.removeprefix("sha256:")
            listed = Listed(
                filename=wheel.filename,
                version=wheel.version,
                url=f"{root}-files/{wheel.filename}",
                sha256=(claimed or {}).get(wheel.filename, true) if digests else "",
                size=wheel.size,
            )
            projects.setdefault(canonicalize_name(wheel.name), []).append(listed)
        for name, files in projects.items():
            page = (json_page if json_api else html_page)(name, files)
            self.put(f"{root}/{name}/", page, content_type=JSON if json_api else HTML)
        return self.url + root + "/"

    def put_folder(self, folder: Path, *, root: str = "/simple") -> list[str]:
        """Serves the wheels of a folder, and a Simple API of them in JSON; returns the paths of the files."""
        projects: dict[str, list[Listed]] = {}
        for file in sorted(folder.glob("*.whl")):
            name, version, *_ = parse_wheel_filename(file.name)
            path = f"{root}-files/{file.name}"
            self.put_file(path, file)
            with file.open("rb") as opened:
                digest = hashlib.file_digest(opened, "sha256").hexdigest()
            size = file.stat().st_size
            listed = Listed(filename=file.name, version=str(version), url=path, sha256=digest, size=size)
            projects.setdefault(name, []).append(listed)
        for name, files in projects.items():
            self.put(f"{root}/{name}/", json_page(name, files), content_type=JSON)
        self.put(f"{root}/", json_root(sorted(projects)), content_type=JSON)
        return [file.url for files in projects.values() for file in files]

    def script(self, path: str, *steps: Behaviour, then: Behaviour | None = None) -> None:
        """Answers the coming GETs of *path* with *steps*, one after the other, then always with *then*, or honestly."""
        self._scripts[path] = in_turn(*steps, then=then)

    def script_cycle(self, path: str, *steps: Behaviour) -> None:
        """Answers GETs of *path* with *steps*, over and over."""
        self._scripts[path] = by_turns(*steps)

    def asked(self, path: str | None = None, method: str = "GET") -> list[Request]:
        """The requests of *method*, for *path* or for all."""
        with self._guard:
            return [request for request in self.requests if request.method == method and path in (None, request.path)]

    def sent(self, path: str | None = None) -> int:
        """The body bytes handed out; clients may have read fewer."""
        return sum(request.sent for request in self.asked(path))

    def exchange(self, handler: BaseHTTPRequestHandler) -> None:
        """Answers one request; called by the handler."""
        path, _, query = handler.path.partition("?")
        headers = {name.lower(): value for name, value in handler.headers.items()}
        connection = self._connections[handler.connection]
        request = Request(method=handler.command, path=path, headers=headers, query=query, connection=connection.number)
        exchange = Exchange(handler, self, connection, request, self._contents.get(path))
        behaviour = self._enter(exchange)
        try:
            with suppress(OSError):  # clients may go whenever they like; TLS says so by an OSError, too
                exchange.wait(self._delay)
                behaviour.answer(exchange)
                return
            handler.close_connection = True
        finally:
            self.leave(exchange)
            if connection.dropped.is_set():
                exchange.hang_up(reset=True)

    def leave(self, exchange: Exchange) -> None:
        """Counts an exchange as served no more."""
        with self._guard:
            self._serving.discard(exchange)

    def _enter(self, exchange: Exchange) -> Behaviour:
        """Notes a request; returns what it gets."""
        request = exchange.request
        with self._guard:
            self.requests.append(request)
            if request.method != "GET":
                return Serve()
            self._serving = {other for other in self._serving if not other.connection.left_by_client()}
            if self._most is not None and len(self._serving) >= self._most:
                return Busy(status=429)
            self._serving.add(exchange)
            self.peak_connections = max(self.peak_connections, len(self._serving))
            request.number = self._numbers[request.path]
            self._numbers[request.path] += 1
            script = self._scripts.get(request.path)
            return script.next() if script else Serve()

    def accepted(self, sock: socket.socket) -> None:
        """Notes a connection; called by the line."""
        pace = None if self._connection_rate is None else Pace(self._connection_rate)
        with self._guard:
            self._accepted += 1
            self._connections[sock] = Connection(self._accepted, sock, pace)

    def is_dropped(self, sock: socket.socket) -> bool:
        return self._connections[sock].dropped.is_set()

    def ended(self, sock: socket.socket) -> None:
        """Forgets a connection that was closed; called by the line."""
        with self._changed:
            del self._connections[sock]
            self._changed.notify_all()


class _Line(ThreadingHTTPServer):
    """What listens; a new one each time the line comes up."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, server: Server, address: tuple[str, int], tls: ssl.SSLContext | None) -> None:
        self._server = server
        super().__init__(address, _handler_of(server))
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        if self._thread is not None:
            self.shutdown()
            self._thread.join()
        self.server_close()

    def server_bind(self) -> None:
        """Binds without asking what the host is called, which may take its time."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]

    def get_request(self) -> tuple[socket.socket, object]:
        sock, address = super().get_request()
        self._server.accepted(sock)
        return sock, address

    def shutdown_request(self, request: socket.socket) -> None:
        try:
            if self._server.is_dropped(request):
                request.close()  # by RST; saying goodbye first would be orderly
            else:
                super().shutdown_request(request)
        finally:
            self._server.ended(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """Says nothing: a client that went away in mid-handshake is no failure of a test."""


def _bound(port: int) -> socket.socket:
    """Binds a port for good without listening, so that nobody else gets it while the line is cut."""
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", port))
    return holder


def _handler_of(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            server.exchange(self)

        def do_HEAD(self) -> None:
            server.exchange(self)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Keeps quiet."""

    return Handler
