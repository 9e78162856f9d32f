"""A client for tests of the scripted server: one that sees what comes over the wire, and how it ends."""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import threading
from dataclasses import dataclass
from io import BytesIO
from typing import Self

from support.server import Server

KB, MB = 1000, 1_000_000
DATA = os.urandom(3 * MB)
PATIENCE = 30.0
"""Seconds after which nothing more is expected to happen."""


@dataclass
class Got:
    """An answer as it came over the wire; *ending* is `closed` or `reset`."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes
    ending: str

    @property
    def content_range(self) -> str | None:
        return self.headers["Content-Range"]


class Wire:
    """A TCP connection to a server, without any HTTP client's ideas."""

    def __init__(self, server: Server, *, tls: ssl.SSLContext | None = None) -> None:
        host, port = server.host.split(":")
        self.socket = socket.create_connection((host, int(port)), timeout=PATIENCE)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname=host)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def ask(self, path: str = "/a", bytes_: str = "", *, keep: bool = True, **headers: str) -> None:
        lines = [f"GET {path} HTTP/1.1", "Host: x", f"Connection: {'keep-alive' if keep else 'close'}"]
        lines += [f"Range: bytes={bytes_}"] if bytes_ else []
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode())

    def head(self) -> tuple[int, http.client.HTTPMessage]:
        text = b""
        while not text.endswith(b"\r\n\r\n"):
            byte = self.socket.recv(1)
            assert byte, "closed before the end of the head"
            text += byte
        status = int(text.split(maxsplit=2)[1])
        return status, http.client.parse_headers(BytesIO(text.partition(b"\r\n")[2]))

    def take(self, size: int) -> bytes:
        taken = bytearray()
        while len(taken) < size:
            piece = self.socket.recv(size - len(taken))
            assert piece, f"closed after {len(taken)} of {size} bytes"
            taken += piece
        return bytes(taken)

    def rest(self) -> tuple[bytes, str]:
        """All that comes until the connection ends, and how it ends."""
        taken = bytearray()
        try:
            while piece := self.socket.recv(1 << 20):
                taken += piece
        except ConnectionResetError:
            return bytes(taken), "reset"
        return bytes(taken), "closed"

    def is_silent(self) -> bool:
        self.socket.settimeout(0.2)
        try:
            return self.socket.recv(1) == b"never"
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(PATIENCE)


def got(server: Server, path: str = "/a", bytes_: str = "", **headers: str) -> Got:
    """Asks on a connection of its own, and reads to its end."""
    with Wire(server) as wire:
        wire.ask(path, bytes_, keep=False, **headers)
        status, answered = wire.head()
        body, ending = wire.rest()
        return Got(status=status, headers=answered, body=body, ending=ending)


def in_parallel(count: int, function) -> list:
    """Calls *function* in so many threads; returns what they returned."""
    results: list = []
    threads = [threading.Thread(target=lambda: results.append(function())) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(results) == count
    return results
