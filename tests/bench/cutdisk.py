"""A disk whose power can be cut: a block device with a volatile cache, of which a cut leaves what it happens to leave.

The device is a loop device over a file that this process serves through FUSE (the kernel's protocol, spoken directly),
so that every write and every flush of the file system above comes by here, in order. What was flushed is durable; of
what was written since, a cut keeps all, nothing, the first part, or any blocks of it, as a real disk would.
"""

from __future__ import annotations

import ctypes
import errno
import os
import random
import stat
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Self

BLOCK: Final = 4096
_MOST: Final = 1 << 20
_HEADER: Final = struct.Struct("<IIQQIIIHH")
_ANSWER: Final = struct.Struct("<IiQ")
_GETATTR, _OPEN, _READ, _WRITE, _RELEASE, _FSYNC, _FLUSH, _INIT = 3, 14, 15, 16, 18, 20, 25, 26
_FORGET, _SETATTR, _STATFS, _INTERRUPT, _DESTROY, _BATCH_FORGET = 2, 4, 17, 36, 38, 42
_SILENT: Final = frozenset({_FORGET, _BATCH_FORGET, _INTERRUPT})
_BIG_WRITES, _MAX_PAGES = 1 << 5, 1 << 22

Kept = Literal["all", "nothing", "first", "any"]
"""What a cut leaves of the writes that were not flushed."""


class CannotMountError(Exception):
    """This machine mounts nothing, or has neither FUSE nor loop devices."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """What a power cut left.

    Attributes:
        image: all bytes of the device.
        kept: which of the writes in the disk's own cache.
        unflushed: as many bytes of them there were.
        request: the number of the write or flush before which it came.
        witness: what the function given as *witness* said at that moment.
    """

    image: bytearray
    kept: Kept
    unflushed: int
    request: int
    witness: object


class CutDisk:
    """The bytes of the device, and the thread that serves them; a context.

    Args:
        file: an existing empty file to mount on.
        image: the bytes to begin with.
        chance: decides what a cut keeps.
        witness: called at the moment of the cut, before anything else happens.
    """

    def __init__(self, file: Path, image: bytearray, *, chance: random.Random, witness: Callable[[], object]) -> None:
        self._file = file
        self._now = image
        self._durable = bytearray(image)
        self._since: list[tuple[int, bytes]] = []
        self._chance = chance
        self._witness = witness
        self._guard = threading.Lock()
        self._cut_at: int | None = None
        self.requests = 0
        """Writes and flushes by now."""
        self.flushes = 0
        self.cut: Cut | None = None
        """What the first cut left."""
        self.was_cut = threading.Event()
        self._connection = -1

    def __enter__(self) -> Self:
        self._connection = os.open("/dev/fuse", os.O_RDWR)
        options = f"fd={self._connection},rootmode={stat.S_IFREG:o},user_id=0,group_id=0"
        libc = ctypes.CDLL(None, use_errno=True)
        done = libc.mount(b"cutdisk", os.fsencode(self._file), b"fuse", 0, options.encode())
        if done != 0:
            os.close(self._connection)
            raise CannotMountError(f"FUSE: {os.strerror(ctypes.get_errno())}")
        threading.Thread(target=self._serve, name="cutdisk", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        _run_until_done("umount", self._file)
        os.close(self._connection)

    def cut_now(self) -> None:
        """Cuts the power, unless that was done already."""
        with self._guard:
            self._do_cut()

    def cut_at(self, request: int) -> None:
        """Cuts the power before the write or flush of that number, counted from the beginning."""
        self._cut_at = request

    def _do_cut(self) -> None:
        if self.cut is not None:
            return
        witness = self._witness()
        kept: Kept = self._chance.choice(("all", "nothing", "first", "any", "any"))
        image, chance = bytearray(self._durable), self._chance
        last = chance.randint(0, len(self._since)) if kept == "first" else len(self._since)
        share = chance.random()
        for position, data in self._since[:last] if kept != "nothing" else ():
            for start in range(0, len(data), BLOCK):
                if kept != "any" or chance.random() < share:
                    block = data[start : start + BLOCK]
                    image[position + start : position + start + len(block)] = block
        unflushed = sum(len(data) for _, data in self._since)
        self.cut = Cut(image=image, kept=kept, unflushed=unflushed, request=self.requests, witness=witness)
        self.was_cut.set()

    def _serve(self) -> None:
        buffer = bytearray(_MOST + BLOCK)
        while True:
            try:
                count = os.readv(self._connection, [buffer])
            except OSError as error:
                if error.errno in (errno.EINTR, errno.ENOENT, errno.EAGAIN):
                    continue
                return  # unmounted
            _, operation, unique, *_ = _HEADER.unpack_from(buffer)
            if operation in _SILENT:
                continue
            try:
                code, body = 0, self._answer(operation, memoryview(buffer)[_HEADER.size : count])
            except OSError as error:
                code, body = -(error.errno or errno.EIO), b""
            with suppress(OSError):
                os.write(self._connection, _ANSWER.pack(_ANSWER.size + len(body), code, unique) + body)

    def _answer(self, operation: int, body: memoryview) -> bytes:  # noqa: PLR0911 - one for each operation
        if operation == _INIT:
            major, minor, readahead, offered = struct.unpack_from("<IIII", body)
            flags = offered & (_BIG_WRITES | _MAX_PAGES)
            version = min(minor, 31)
            pages = _MOST // BLOCK
            return struct.pack("<IIIIHHIIHHII24x", major, version, readahead, flags, 12, 9, _MOST, 1, pages, 0, 0, 0)
        if operation in (_GETATTR, _SETATTR):
            size = len(self._now)
            mode = stat.S_IFREG | 0o600
            attributes = struct.pack("<6Q10I", 1, size, size // 512, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, BLOCK, 0)
            return struct.pack("<QII", 3600, 0, 0) + attributes
        if operation == _OPEN:
            return struct.pack("<QIi", 1, 0, 0)
        if operation == _READ:
            _, position, count = struct.unpack_from("<QQI", body)
            return bytes(self._now[position : position + count])
        if operation == _WRITE:
            _, position, count = struct.unpack_from("<QQI", body)
            self._write(position, bytes(body[40 : 40 + count]))
            return struct.pack("<II", count, 0)
        if operation == _FSYNC:
            self._flush()
            return b""
        if operation in (_RELEASE, _FLUSH, _DESTROY):
            return b""
        raise OSError(errno.ENOSYS, "not made")

    def _count(self) -> None:
        if self._cut_at is not None and self.requests >= self._cut_at:
            self._do_cut()
        self.requests += 1

    def _write(self, position: int, data: bytes) -> None:
        with self._guard:
            self._count()
            self._now[position : position + len(data)] = data
            self._since.append((position, data))

    def _flush(self) -> None:
        with self._guard:
            self._count()
            self.flushes += 1
            for position, data in self._since:
                self._durable[position : position + len(data)] = data
            self._since.clear()


def new_image(file: Path, size: int) -> bytearray:
    """Makes an empty ext4 of *size* bytes by way of *file*, and returns its bytes.

    Raises:
        CannotMountError: there is no mkfs.ext4.
    """
    file.touch()
    os.truncate(file, size)
    options = "lazy_itable_init=0,lazy_journal_init=0,nodiscard"
    try:
        subprocess.run(["mkfs.ext4", "-q", "-F", "-b", str(BLOCK), "-m", "0", "-E", options, file], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise CannotMountError(f"mkfs.ext4: {error}") from error
    image = bytearray(file.read_bytes())
    file.unlink()
    return image


def write_sparse(file: Path, image: bytearray) -> None:
    """Writes *image*, leaving holes where nothing but zeros is."""
    step, zeros = 1 << 18, bytes(1 << 18)
    view = memoryview(image)
    with file.open("wb") as opened:
        for start in range(0, len(image), step):
            if view[start : start + step] != zeros[: len(view) - start]:
                os.pwrite(opened.fileno(), view[start : start + step], start)
        opened.truncate(len(image))


@contextmanager
def mounted(image: Path, folder: Path, options: str = "defaults") -> Iterator[Path]:
    """Mounts an ext4 (its journal is replayed) through a loop device of its own, with `mount -o` *options*.

    Raises:
        CannotMountError: it cannot be done.
    """
    folder.mkdir(exist_ok=True)
    with ExitStack() as undo:
        made = subprocess.run(["losetup", "-f", "--show", image], capture_output=True, text=True, check=False)
        if made.returncode:
            raise CannotMountError(f"losetup: {made.stderr.strip()}")
        device = made.stdout.strip()
        undo.callback(subprocess.run, ["losetup", "-d", device], check=False)
        done = subprocess.run(["mount", "-o", options, device, folder], capture_output=True, text=True, check=False)
        if done.returncode:
            raise CannotMountError(f"mount: {done.stderr.strip()}")
        undo.callback(_run_until_done, "umount", folder)
        yield folder


def _run_until_done(program: str, path: Path) -> None:
    """Runs it again while what is there is busy: a killed process takes a moment to let go."""
    for _ in range(100):
        if subprocess.run([program, path], capture_output=True, check=False).returncode == 0:
            return
        time.sleep(0.05)
    subprocess.run([program, "-l", path], check=True)
