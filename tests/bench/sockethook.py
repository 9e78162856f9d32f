"""Counts, outside of a Python program, what it reads from its sockets and sends to them.

A `sitecustomize` put on PYTHONPATH wraps the lowest calls that Python has for it: `recv` and `recv_into` of plain
sockets (through which `socket.SocketIO.readinto` reads, too), `read` of TLS sockets, and `os.read`, `os.readv` and
`os.splice` on sockets; none of them calls another one, so each byte counts once. Every process, forked ones as well,
adds up in a mapped file of its own, which outlives kill -9. HTTP heads are counted, the overhead of TLS is not.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from pathlib import Path

_HOOK = '''
"""Adds up what this process reads from its sockets, and sends to them."""
import mmap, os, socket, ssl, stat, struct, threading

READ, SENT = 0, 8


def begin(*_):
    global mapped, guard
    guard = threading.Lock()
    with open(os.path.join(os.environ["SOCKET_COUNTERS"], str(os.getpid())), "a+b") as file:
        file.truncate(16)
        mapped = mmap.mmap(file.fileno(), 16)


def add(slot, count):
    if count:
        with guard:
            struct.pack_into("q", mapped, slot, struct.unpack_from("q", mapped, slot)[0] + count)


def length(result):
    return result if isinstance(result, int) else len(result)


def count_results(owner, name, slot, flags_at=None):
    plain = getattr(owner, name)

    def counting(self, *args, **kwargs):
        result = plain(self, *args, **kwargs)
        flags = kwargs.get("flags", args[flags_at] if flags_at is not None and len(args) > flags_at else 0)
        if not flags & socket.MSG_PEEK:
            add(slot, length(result))
        return result

    setattr(owner, name, counting)


def is_inet(fd):
    if not stat.S_ISSOCK(os.fstat(fd).st_mode):
        return False
    found = socket.socket(fileno=fd)
    family = found.family
    found.detach()
    return family in (socket.AF_INET, socket.AF_INET6)


def count_descriptors(name, slot):
    plain = getattr(os, name, None)

    def counting(fd, *args, **kwargs):
        result = plain(fd, *args, **kwargs)
        if is_inet(fd):
            add(slot, length(result))
        return result

    if plain is not None:
        setattr(os, name, counting)


def count_sendall():
    plain = socket.socket.sendall

    def sendall(self, data, *args):
        plain(self, data, *args)
        add(SENT, memoryview(data).nbytes)

    socket.socket.sendall = sendall


begin()
os.register_at_fork(after_in_child=begin)
count_results(socket.socket, "recv", READ, flags_at=1)
count_results(socket.socket, "recv_into", READ, flags_at=2)
count_results(ssl.SSLSocket, "read", READ)
count_descriptors("read", READ)
count_descriptors("readv", READ)
count_descriptors("splice", READ)
count_results(socket.socket, "send", SENT)
count_results(socket.socket, "sendmsg", SENT)
count_sendall()
count_descriptors("sendfile", SENT)
'''


class SocketCounters:
    """What the processes of one run have read and sent.

    Args:
        folder: a new folder for the hook and its counters.
    """

    def __init__(self, folder: Path) -> None:
        self._hook = folder / "hook"
        self._counters = folder / "counters"
        self._hook.mkdir(parents=True)
        self._counters.mkdir()
        (self._hook / "sitecustomize.py").write_text(_HOOK)

    def environ(self, base: Mapping[str, str]) -> dict[str, str]:
        """Returns *base* with what makes Python programs count."""
        paths = [str(self._hook), *filter(None, [base.get("PYTHONPATH")])]
        return {**base, "PYTHONPATH": os.pathsep.join(paths), "SOCKET_COUNTERS": str(self._counters)}

    @property
    def read(self) -> int:
        """Bytes read by now."""
        return self._sum(0)

    @property
    def sent(self) -> int:
        """Bytes given to the kernel to be sent by now."""
        return self._sum(8)

    def _sum(self, offset: int) -> int:
        values = (file.read_bytes() for file in self._counters.iterdir())
        return sum(struct.unpack_from("q", value, offset)[0] for value in values if len(value) == 16)
