"""Reads many files at once into their digests, as fast as the disk and all processors allow.

Hashing and reading let go of Python's global lock, so threads are enough. The largest files are begun first: what comes
last is small, and nobody waits long for it.
"""

from __future__ import annotations

import errno
import hashlib
import os
import queue
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Final

from wheelcache.digest import Digest
from wheelcache.ordinary import open_regular

_BLOCK: Final = 1 << 20
"""Bytes per read: a fraction of a millisecond's hashing, so that a wish to stop is soon seen."""

_ATTEMPTS: Final = 3
"""How often a file is read that changes meanwhile."""

_LOOK_SECONDS: Final = 0.1
"""How often the caller hears how far the reading is."""

_SEQUENTIAL: Final = getattr(os, "POSIX_FADV_SEQUENTIAL", None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """A file to be read.

    Attributes:
        path: where it is.
        size: in bytes, as far as known: the largest are begun first.
        piece: bytes of the pieces whose CRC-32 are wanted; 0 where they are not.
    """

    path: Path
    size: int
    piece: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Content:
    """What a file holds.

    Attributes:
        wanted: which file.
        digest: of its bytes.
        crcs: of its pieces, where they were wanted.
        found: its stat when it was read.
    """

    wanted: Wanted
    digest: Digest
    crcs: tuple[int, ...]
    found: os.stat_result


@dataclass(frozen=True, kw_only=True, slots=True)
class Unread:
    """A file that could not be read.

    Attributes:
        wanted: which file.
        reason: why, in words.
        is_gone: there is none any more.
        is_broken: the disk does not give its bytes.
    """

    wanted: Wanted
    reason: str
    is_gone: bool = False
    is_broken: bool = False


def read_files(
    files: Iterable[Wanted], *, threads: int, stop: threading.Event, report: Callable[[int], None]
) -> Iterator[Content | Unread]:
    """Reads files, several at once.

    Args:
        files: which.
        threads: as many at once.
        stop: once set, this ends within a moment, however much is left.
        report: is told again and again, in the caller's thread, how many bytes were read in all.

    Yields:
        What each holds, in the order in which they come to their ends.
    """
    todo: queue.SimpleQueue[Wanted] = queue.SimpleQueue()
    files = sorted(files, key=lambda wanted: wanted.size, reverse=True)
    for wanted in files:
        todo.put(wanted)
    done: queue.SimpleQueue[Content | Unread | BaseException] = queue.SimpleQueue()
    halt = threading.Event()
    readers = [_Reader(todo, done, lambda: halt.is_set() or stop.is_set()) for _ in range(min(threads, len(files)))]
    for reader in readers:
        reader.start()
    left = len(files)
    try:
        while left and not stop.is_set():
            content = _next(done)
            report(sum(reader.read for reader in readers))
            if isinstance(content, BaseException):
                raise content
            if content is not None:
                left -= 1
                yield content
    finally:
        halt.set()
        for reader in readers:
            reader.join()


def _next(done: queue.SimpleQueue[Content | Unread | BaseException]) -> Content | Unread | BaseException | None:
    """Returns what comes next; None where nothing comes for a moment."""
    try:
        return done.get(timeout=_LOOK_SECONDS)
    except queue.Empty:
        return None


class _Reader(threading.Thread):
    """One thread that reads file after file into one buffer.

    Attributes:
        read: bytes so far.
    """

    def __init__(
        self,
        todo: queue.SimpleQueue[Wanted],
        done: queue.SimpleQueue[Content | Unread | BaseException],
        is_over: Callable[[], bool],
    ) -> None:
        super().__init__(name="read files", daemon=True)
        self.read = 0
        self._todo = todo
        self._done = done
        self._is_over = is_over
        self._buffer = bytearray(_BLOCK)
        self._view = memoryview(self._buffer)

    def run(self) -> None:
        with suppress(queue.Empty):
            while not self._is_over():
                wanted = self._todo.get_nowait()
                try:
                    content = self._content(wanted)
                except OSError as error:
                    is_gone, is_broken = isinstance(error, FileNotFoundError), error.errno == errno.EIO
                    reason = str(error.strerror)
                    self._done.put(Unread(wanted=wanted, reason=reason, is_gone=is_gone, is_broken=is_broken))
                except BaseException as error:  # noqa: BLE001 - a defect of ours: it is raised in the caller's thread
                    self._done.put(error)
                else:
                    if content is not None:
                        self._done.put(content)

    def _content(self, wanted: Wanted) -> Content | None:
        """Returns what a file holds; None where there was no time to read it to its end."""
        for _ in range(_ATTEMPTS):
            with open_regular(wanted.path) as file:
                before = os.fstat(file.fileno())
                _announce(file.fileno())
                digest, crcs = self._read(file, wanted.piece)
                found = os.fstat(file.fileno())
            if self._is_over():
                return None
            if (before.st_size, before.st_mtime_ns) == (found.st_size, found.st_mtime_ns):
                break
        return Content(wanted=wanted, digest=digest, crcs=crcs, found=found)

    def _read(self, file: FileIO, piece: int) -> tuple[Digest, tuple[int, ...]]:
        sha256, crcs, position = hashlib.sha256(), list[int](), 0
        room = self._view[: min(piece, _BLOCK)] if piece else self._view
        while not self._is_over():
            end = min(len(room), piece - position % piece) if piece else len(room)
            count = file.readinto(room[:end])
            if not count:
                break
            block = room[:count]
            sha256.update(block)
            if piece:
                if position % piece == 0:
                    crcs.append(0)
                crcs[-1] = zlib.crc32(block, crcs[-1])
            position += count
            self.read += count
        return Digest(f"sha256:{sha256.hexdigest()}"), tuple(crcs)


def _announce(descriptor: int) -> None:
    """Tells the kernel that all will be read in order, so that it reads further ahead."""
    if _SEQUENTIAL is not None and hasattr(os, "posix_fadvise"):
        with suppress(OSError):
            os.posix_fadvise(descriptor, 0, 0, _SEQUENTIAL)
