"""The bytes of one wheel not yet committed: only ever appended to, hashed on the way, adopted after a crash."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wheelcache.digest import Digest, hex_of
from wheelcache.errors import StoreError
from wheelcache.files import store_errors, sync_folder, write_atomically

_BUFFER: Final = 1 << 20
_FLAGS: Final = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)  # each is unknown to some system


@dataclass(frozen=True, kw_only=True, slots=True)
class Journal:
    """What is known good of a partial.

    Attributes:
        boot: the start of the machine during which it was written.
        synced: bytes that reached the disk, whatever happens to the machine.
    """

    boot: str
    synced: int

    def usable(self, length: int, *, boot: str) -> int:
        """Returns how many of *length* bytes count: all after a mere crash, else those that surely reached the disk."""
        return length if boot and boot == self.boot else min(length, self.synced)


def usable_bytes(folder: Path, digest: Digest, *, boot: str) -> int:
    """Returns the bytes of *digest* that the next transfer will not fetch again."""
    file = folder / f"{hex_of(digest)}.part"
    try:
        length = file.stat().st_size
    except FileNotFoundError:
        return 0
    return _read_journal(file.with_suffix(".json")).usable(length, boot=boot)


class Partial:
    """An open partial, at its end. Its owner holds the digest's lock; one thread appends, another may flush.

    Args:
        folder: `partial/` of the store.
        digest: what the bytes are to become.
        boot: this start of the machine.
        size: what it is to become, in bytes; None where unknown. A longer partial is dropped.

    Raises:
        StoreError: it cannot be opened, or is no ordinary file.
    """

    def __init__(self, folder: Path, digest: Digest, *, boot: str, size: int | None) -> None:
        self._file = folder / f"{hex_of(digest)}.part"
        self._journal = self._file.with_suffix(".json")
        self._boot = boot
        self._guard = threading.Lock()
        self._hash = hashlib.sha256()
        self._synced = 0
        self.length = 0
        """Bytes that are on disk and hashed."""
        with store_errors(self._file):
            self._descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | _FLAGS, 0o644)
            try:
                self._adopt(size)
            except BaseException:
                os.close(self._descriptor)
                raise

    def append(self, data: bytes) -> None:
        """Writes and hashes the next bytes.

        Raises:
            StoreFullError: no room is left; what was written so far stays.
            StoreError: the disk failed.
        """
        with store_errors(self._file):
            left = memoryview(data)
            while left:
                written = os.write(self._descriptor, left)
                self._hash.update(left[:written])
                self.length += written
                left = left[written:]

    def digest(self) -> Digest:
        """Returns the digest of all bytes so far."""
        return Digest(f"sha256:{self._hash.hexdigest()}")

    def flush(self) -> None:
        """Brings what was written to the disk and notes it down; from any thread."""
        with self._guard, store_errors(self._file):
            length = self.length
            if self._descriptor < 0 or length == self._synced:
                return
            _sync_data(self._descriptor)
            self._synced = length
            self._note()

    def restart(self) -> None:
        """Throws all bytes away."""
        with self._guard, store_errors(self._file):
            os.ftruncate(self._descriptor, 0)
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            self._hash = hashlib.sha256()
            self.length = self._synced = 0
            self._note()

    def publish(self, blob: Path) -> os.stat_result:
        """Makes the bytes, which are verified, the blob: on disk first, then by one rename.

        Returns:
            The blob's stat, as verified.
        """
        with self._guard, store_errors(blob):
            os.fsync(self._descriptor)
            self._file.chmod(0o444)
            if not blob.parent.is_dir():
                blob.parent.mkdir(exist_ok=True)
                sync_folder(blob.parent.parent)
            self._file.replace(blob)
            sync_folder(blob.parent)
            self._journal.unlink(missing_ok=True)
            return os.fstat(self._descriptor)

    def close(self) -> None:
        """Lets go of the file; an empty one leaves nothing behind."""
        with self._guard:
            if self._descriptor < 0:
                return
            os.close(self._descriptor)
            self._descriptor = -1
            if not self.length:
                self._file.unlink(missing_ok=True)
                self._journal.unlink(missing_ok=True)

    def _adopt(self, size: int | None) -> None:
        found = os.fstat(self._descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise StoreError(f"{self._file}: expected an ordinary file", hint="remove it")
        journal = _read_journal(self._journal)
        length = journal.usable(found.st_size, boot=self._boot)
        if size is not None and length > size:
            length = 0
        if length < found.st_size:
            os.ftruncate(self._descriptor, length)
        self._synced = min(journal.synced, length)
        if journal != Journal(boot=self._boot, synced=self._synced):  # on a full disk not even this can be written
            self._note()
        self._read_back(length)

    def _read_back(self, length: int) -> None:
        """Hashes what an earlier run left; the file position ends after it."""
        buffer = bytearray(min(_BUFFER, length))
        view = memoryview(buffer)
        file = io.FileIO(self._descriptor, closefd=False)
        while self.length < length:
            count = file.readinto(view[: length - self.length])
            if not count:
                raise StoreError(f"{self._file}: shrank while it was read", hint="run the same command again")
            self._hash.update(view[:count])
            self.length += count

    def _note(self) -> None:
        text = json.dumps({"boot": self._boot, "synced": self._synced})
        write_atomically(self._journal, text.encode())


def _read_journal(file: Path) -> Journal:
    """Reads a journal; one that is missing or torn vouches for nothing."""
    try:
        value = json.loads(file.read_bytes())
        return Journal(boot=str(value["boot"]), synced=int(value["synced"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return Journal(boot="", synced=0)


def _sync_data(descriptor: int) -> None:
    getattr(os, "fdatasync", os.fsync)(descriptor)  # macOS and Windows have no fdatasync
