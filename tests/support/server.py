"""A real HTTP server on loopback whose every answer can be scripted: what mirrors do on their bad days.

A path has content (`put`) and, where told so (`script`), a sequence of behaviours: the n-th GET gets the n-th one. A
behaviour is any object with `answer(exchange)`; `Serve` and `Respond` are the ones that most tests need. What was asked
and how many body bytes were handed to the kernel stands in `requests`.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
import struct
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain, cycle, repeat
from pathlib import Path
from typing import Protocol, Self

from packaging.utils import canonicalize_name

from support.wheels import MadeWheel


@dataclass
class Request:
    """What a client asked, and how many bytes of a body it was given."""

    method: str
    path: str
    headers: dict[str, str]
    sent: int = 0


class Behaviour(Protocol):
    """How to answer one request."""

    def answer(self, exchange: Exchange) -> None: ...


class Exchange:
    """One request on its way to an answer."""

    def __init__(
        self, handler: BaseHTTPRequestHandler, server: Server, request: Request, content: bytes | None
    ) -> None:
        self._handler = handler
        self.server = server
        self.request = request
        self.content = content

    def range_start(self) -> int | None:
        """The first byte that a Range asks for; None without one."""
        match = re.fullmatch(r"bytes=(\d+)-\d*", self.request.headers.get("range", ""))
        return int(match[1]) if match else None

    def head(self, status: int, headers: Mapping[str, str]) -> None:
        self._handler.send_response(status)
        for name, value in headers.items():
            self._handler.send_header(name, value)
        self._handler.end_headers()

    def body(self, data: bytes, *, rate: float | None = None) -> None:
        """Sends bytes, at *rate* bytes per second where given; nothing to a HEAD."""
        if self.request.method == "HEAD":
            return
        step = len(data) if rate is None else max(int(rate / 50), 1)
        for start in range(0, len(data), step or 1):
            piece = data[start : start + step]
            self._handler.wfile.write(piece)
            self.request.sent += len(piece)
            if rate is not None and self.server.closing.wait(len(piece) / rate):
                return

    def hang_up(self, *, reset: bool = False) -> None:
        """Closes the connection; with *reset* by RST, as a crashed machine would."""
        self._handler.close_connection = True
        with suppress(OSError):
            if reset:
                self._handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self._handler.connection.close()
            else:
                self._handler.connection.shutdown(socket.SHUT_RDWR)


@dataclass(frozen=True, kw_only=True)
class Serve:
    """Serves the content, honestly unless told otherwise.

    Attributes:
        ranges: answer Range with 206.
        range_shift: say and send another start than was asked for.
        total_shift: say another total than is true.
        cut_after: close after so many body bytes of this answer.
        reset: close by RST.
        silent_after: send no more after so many bytes, and keep the connection.
        rate: bytes per second.
        slow_after: *rate* counts only after so many bytes of this answer.
        corrupt: other bytes of the same length.
        length: send Content-Length.
        delay: seconds before the answer.
        headers: more of them.
    """

    ranges: bool = True
    range_shift: int = 0
    total_shift: int = 0
    cut_after: int | None = None
    reset: bool = False
    silent_after: int | None = None
    rate: float | None = None
    slow_after: int = 0
    corrupt: bool = False
    length: bool = True
    delay: float = 0.0
    headers: Mapping[str, str] = field(default_factory=dict)

    def answer(self, exchange: Exchange) -> None:
        content = exchange.content
        if content is None:
            Respond(status=404).answer(exchange)
            return
        exchange.server.closing.wait(self.delay)
        if self.corrupt:
            content = content[:64] + bytes(byte ^ 0xFF for byte in content[64:])
        start = exchange.range_start() if self.ranges else None
        headers = {"Content-Type": "application/octet-stream", **self.headers}
        if start is not None and start >= len(content):
            exchange.head(416, {"Content-Range": f"bytes */{len(content)}", "Content-Length": "0"})
            return
        if start is not None:
            start += self.range_shift
            total = len(content) + self.total_shift
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{total}"
        data = content[start or 0 :]
        if self.length:
            headers["Content-Length"] = str(len(data))
        else:
            headers["Connection"] = "close"
        exchange.head(200 if start is None else 206, headers)
        self._body(exchange, data)

    def _body(self, exchange: Exchange, data: bytes) -> None:
        limits = [limit for limit in (self.cut_after, self.silent_after) if limit is not None]
        sent = data[: min(limits)] if limits else data
        exchange.body(sent[: self.slow_after])
        exchange.body(sent[self.slow_after :], rate=self.rate)
        if self.silent_after is not None and len(data) > len(sent):
            exchange.server.closing.wait(60)
        if not self.length or len(sent) < len(data):
            exchange.hang_up(reset=self.reset)


@dataclass(frozen=True, kw_only=True)
class Respond:
    """Answers with a status, headers and a small body."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def answer(self, exchange: Exchange) -> None:
        exchange.head(self.status, {"Content-Length": str(len(self.body)), **self.headers})
        exchange.body(self.body)


def login_page(*, disguised: bool = False) -> Respond:
    """What a captive portal answers in everybody's place; *disguised* says that it is a file."""
    kind = "application/octet-stream" if disguised else "text/html; charset=utf-8"
    return Respond(status=200, headers={"Content-Type": kind}, body=b"<!DOCTYPE html><title>Log in</title>" * 20)


def redirect(url: str, status: int = 302) -> Respond:
    return Respond(status=status, headers={"Location": url})


class Server:
    """The server; a context that starts and ends it.

    Attributes:
        url: `http://127.0.0.1:<port>`, or https where *certificate* (PEM: certificate and key) is given.
        requests: everything asked, in order.
        closing: set when it ends; behaviours that wait wait for it.
    """

    def __init__(self, *, certificate: Path | None = None) -> None:
        self.requests: list[Request] = []
        self.closing = threading.Event()
        self._contents: dict[str, bytes] = {}
        self._scripts: dict[str, Iterator[Behaviour]] = {}
        self._guard = threading.Lock()
        self._http = _Http(("127.0.0.1", 0), _handler_of(self))
        scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True, do_handshake_on_connect=False)
            scheme = "https"
        self.url = f"{scheme}://127.0.0.1:{self._http.server_address[1]}"
        self.host = self.url.partition("://")[2]
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def put(self, path: str, content: bytes, *, content_type: str | None = None) -> str:
        """Gives *path* a content; returns its URL."""
        self._contents[path] = content
        if content_type is not None:
            self.script(path, then=Serve(headers={"Content-Type": content_type}))
        return self.url + path

    def put_wheel(self, wheel: MadeWheel, *, under: str = "/files") -> str:
        return self.put(f"{under}/{wheel.filename}", wheel.data)

    def script(self, path: str, *steps: Behaviour, then: Behaviour | None = None) -> None:
        """Answers the coming GETs of *path* with *steps*, one after the other, then always with *then*, or honestly."""
        self._scripts[path] = chain(steps, repeat(then if then is not None else Serve()))

    def script_cycle(self, path: str, *steps: Behaviour) -> None:
        """Answers GETs of *path* with *steps*, over and over."""
        self._scripts[path] = cycle(steps)

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
        projects: dict[str, list[MadeWheel]] = {}
        for wheel in wheels:
            self.put_wheel(wheel, under=f"{root}-files")
            projects.setdefault(canonicalize_name(wheel.name), []).append(wheel)
        for name, files in projects.items():
            listed = [
                (wheel, (claimed or {}).get(wheel.filename, wheel.digest.removeprefix("sha256:")) if digests else "")
                for wheel in files
            ]
            page, kind = (_json_page if json_api else _html_page)(name, listed, f"{root}-files")
            self.put(f"{root}/{name}/", page.encode(), content_type=kind)
        return self.url + root + "/"

    def asked(self, path: str | None = None, method: str = "GET") -> list[Request]:
        """The requests of *method*, for *path* or for all."""
        with self._guard:
            return [request for request in self.requests if request.method == method and path in (None, request.path)]

    def sent(self, path: str | None = None) -> int:
        """The body bytes handed out; clients may have read fewer."""
        return sum(request.sent for request in self.asked(path))

    def exchange(self, handler: BaseHTTPRequestHandler) -> None:
        """Answers one request; called by the handler."""
        path = handler.path.partition("?")[0]
        headers = {name.lower(): value for name, value in handler.headers.items()}
        request = Request(method=handler.command, path=path, headers=headers)
        with self._guard:
            self.requests.append(request)
            steps = self._scripts.get(path)
            behaviour = next(steps) if steps and request.method == "GET" else Serve()
        with suppress(ConnectionError, ssl.SSLError, OSError):  # clients may go whenever they like
            behaviour.answer(Exchange(handler, self, request, self._contents.get(path)))
            return
        handler.close_connection = True


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """Says nothing: a client that went away in mid-handshake is no failure of a test."""


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


def _html_page(name: str, files: list[tuple[MadeWheel, str]], folder: str) -> tuple[str, str]:
    links = "".join(
        f'<a href="{folder}/{wheel.filename}{f"#sha256={digest}" if digest else ""}">{wheel.filename}</a><br>\n'
        for wheel, digest in files
    )
    return f"<!DOCTYPE html><html><head><title>{name}</title></head><body>{links}</body></html>", "text/html"


def _json_page(name: str, files: list[tuple[MadeWheel, str]], folder: str) -> tuple[str, str]:
    page = {
        "meta": {"api-version": "1.1"},
        "name": name,
        "versions": sorted({wheel.version for wheel, _ in files}),
        "files": [
            {
                "filename": wheel.filename,
                "url": f"{folder}/{wheel.filename}",
                "hashes": {"sha256": digest} if digest else {},
                "size": wheel.size,
            }
            for wheel, digest in files
        ],
    }
    return json.dumps(page), "application/vnd.pypi.simple.v1+json"
