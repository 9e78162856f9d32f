"""One request on its way to an answer, and the connection it came by."""

from __future__ import annotations

import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from support.server import Server

PIECE = 1 << 20
"""The most bytes that are handed to the kernel at once."""

_SLACK = 0.02
"""Seconds of rest that a pace makes up for, as a busy machine sleeps too long."""

_BREATH = struct.pack("ll", 0, 50_000)
"""After 50 ms a blocked send looks whether the line was cut meanwhile."""

_AT_ONCE = struct.pack("ii", 1, 0)


@dataclass
class Request:
    """What a client asked, and what it was given.

    Attributes:
        query: what stands behind the question mark.
        number: how many GETs of this path had been let in before this one.
        connection: number of the TCP connection, in the order in which they were accepted.
        status: of the answer; 0 before it.
        sent: body bytes handed to the kernel.
    """

    method: str
    path: str
    headers: dict[str, str]
    query: str = ""
    number: int = 0
    connection: int = 0
    status: int = 0
    sent: int = 0

    @property
    def range(self) -> tuple[int, int | None] | None:
        """First and last byte asked for, as Range says them (RFC 9110 §14.1.2); None for no range, or a foolish one."""
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("range", ""))
        if match is None:
            return None
        first, last = int(match[1]), int(match[2]) if match[2] else None
        return None if last is not None and last < first else (first, last)


class Pace:
    """Bytes per second that all who hold it share."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._due = 0.0
        self._guard = threading.Lock()

    def book(self, size: int) -> float:
        """Books the next *size* bytes; returns the seconds until they have had their time."""
        with self._guard:
            now = time.monotonic()
            self._due = (self._due if self._due > now - _SLACK else now) + size / self.rate
            return self._due - now


class Connection:
    """A TCP connection that can be dropped from another thread.

    Attributes:
        number: counts from 1.
        pace: of this connection.
        dropped: set when the line was cut; all waiting ends then.
    """

    def __init__(self, number: int, sock: socket.socket, pace: Pace | None) -> None:
        self.number = number
        self.pace = pace
        self.dropped = threading.Event()
        self._socket = sock
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _BREATH)

    def send(self, data: memoryview) -> int:
        """Sends some of the bytes; returns how many.

        Raises:
            ConnectionAbortedError: the line was cut.
        """
        while not self.dropped.is_set():
            with suppress(BlockingIOError, ssl.SSLWantWriteError):
                return self._socket.send(data)
        raise ConnectionAbortedError

    def wait(self, seconds: float) -> None:
        """Waits.

        Raises:
            ConnectionAbortedError: the line was cut.
        """
        if self.dropped.wait(max(seconds, 0)):
            raise ConnectionAbortedError

    def drop(self) -> None:
        """Has the connection closed by RST by the thread that serves it, very soon."""
        self.dropped.set()
        self._linger_not()
        # Wakes a blocked recv and sends nothing. An SSLSocket's own shutdown would turn its encryption off.
        with suppress(OSError):
            socket.socket.shutdown(self._socket, socket.SHUT_RD)

    def close(self, *, reset: bool) -> None:
        with suppress(OSError):
            if reset:
                self._linger_not()
                self._socket.close()
            else:
                self._socket.shutdown(socket.SHUT_RDWR)

    def left_by_client(self) -> bool:
        """True if the client has closed its end."""
        try:
            return socket.socket.recv(self._socket, 1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    def _linger_not(self) -> None:
        with suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)


class Exchange:
    """One request on its way to an answer.

    Attributes:
        content: the path's bytes; None for a path without.
    """

    def __init__(
        self,
        handler: BaseHTTPRequestHandler,
        server: Server,
        connection: Connection,
        request: Request,
        content: memoryview | None,
    ) -> None:
        self._handler = handler
        self.server = server
        self.connection = connection
        self.request = request
        self.content = content

    def range_start(self) -> int | None:
        """The first byte that a Range asks for; None without one."""
        return self.request.range[0] if self.request.range else None

    def head(self, status: int, headers: Mapping[str, str | None]) -> None:
        """Sends status and headers; one that is None is left out."""
        self.request.status = status
        if self.request.method == "HEAD" or headers.get("Content-Length") == "0":
            self.leave()
        self._handler.send_response(status)
        for name, value in headers.items():
            if value is not None:
                self._handler.send_header(name, value)
        self._handler.end_headers()

    def body(self, data: bytes | memoryview, *, pace: Pace | None = None, final: bool = False) -> None:
        """Sends bytes at the slowest of all paces; nothing to a HEAD.

        Args:
            data: any number of bytes.
            pace: of this answer.
            final: the answer ends with these bytes. A client that has them all is not counted as served any more, and
                may come again at once.
        """
        if self.request.method == "HEAD":
            return
        view = memoryview(data)
        held_back = 1 if final and view else 0
        self._send(view[: len(view) - held_back], pace)
        if held_back:
            self.leave()
            self._send(view[-1:], pace)

    def wait(self, seconds: float) -> None:
        """Waits, at most until the line is cut."""
        self.connection.wait(seconds)

    def leave(self) -> None:
        """Counts this exchange as served no more."""
        self.server.leave(self)

    def hang_up(self, *, reset: bool = False) -> None:
        """Closes the connection; with *reset* by RST, as a crashed machine would."""
        self.leave()
        self._handler.close_connection = True
        self.connection.close(reset=reset)

    def _send(self, view: memoryview, pace: Pace | None) -> None:
        paces = [each for each in (pace, self.connection.pace, self.server.pace) if each is not None]
        step = min([PIECE, *(max(int(each.rate / 50), 1) for each in paces)])
        for start in range(0, len(view), step):
            piece = view[start : start + step]
            self.wait(max((each.book(len(piece)) for each in paces), default=0))
            while piece:
                sent = self.connection.send(piece)
                self.request.sent += sent
                piece = piece[sent:]
