"""The bytes of one wheel not yet committed: pieces written in any order, hashed on the way, adopted after a crash."""

from __future__ import annotations

import os
import threading
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Final

from wheelcache.digest import Digest, hex_of
from wheelcache.errors import StoreError
from wheelcache.files import store_errors, sync_folder
from wheelcache.journal import LINE_BYTES, Head, Mark, line_of, read_journal
from wheelcache.ordinary import make_folder, open_own, open_regular
from wheelcache.runninghash import RunningHash
from wheelcache.spans import Span, missing_spans
from wheelcache.writers import Claim, Taken

PIECE_BYTES: Final = 2 << 20
"""Bytes of a piece: what is fetched again where one byte is wrong."""


def usable_bytes(folder: Path, digest: Digest, *, boot: str) -> int:
    """Returns the bytes of *digest* that the next transfer will not fetch again."""
    file = folder / f"{hex_of(digest)}.part"
    try:
        length = file.stat().st_size
    except FileNotFoundError:
        return 0
    head, marks = read_journal(file.with_suffix(".json"))
    if head is None:
        return 0
    usable = [mark.usable(is_same_boot=bool(boot) and head.boot == boot).written for mark in marks]
    return sum(count for index, count in enumerate(usable) if index * head.piece + count <= length)


class Partial:
    """An open partial. Its owner holds the digest's lock; several threads write, each to pieces of its own.

    Args:
        folder: `partial/` of the store.
        digest: what the bytes are to become.
        boot: this start of the machine.
        size: what it is to become, in bytes; None where unknown. A partial of another size is dropped.
        piece: bytes of a piece of a new partial; one that is adopted keeps its own.
        claim: the right to write to it, which is given back with it; None where the digest's lock alone decides.

    Raises:
        StoreError: it cannot be opened, or is no ordinary file.
    """

    def __init__(
        self,
        folder: Path,
        digest: Digest,
        *,
        boot: str,
        size: int | None,
        piece: int = PIECE_BYTES,
        claim: Claim | None = None,
    ) -> None:
        self._file = folder / f"{hex_of(digest)}.part"
        self._journal_file = self._file.with_suffix(".json")
        self._boot = boot
        self._claim = claim
        self._piece = piece
        self._guard = threading.Lock()
        self._flushing = threading.Lock()
        self._hash = RunningHash(lambda count, position: _read_at(self._descriptor, count, position), self._gapless)
        self._marks: list[Mark] = []
        self._journal = -1
        self._is_named = False
        self.size = size
        """What it is to become, in bytes; None where unknown."""
        self.present = 0
        """Bytes that are on disk."""
        with store_errors(self._file):
            self._descriptor = _open_bytes(self._file)
            try:
                self._adopt()
            except BaseException:
                self._let_go()
                raise

    @property
    def piece(self) -> int:
        """Bytes of a piece, but for the last."""
        return self._piece

    @property
    def is_complete(self) -> bool:
        """True when every byte is there; whether they are right, `digest` says."""
        return self.size is not None and self.present == self.size

    @property
    def unsynced(self) -> int:
        """Bytes that are on their way to the disk: what a power cut would cost now."""
        with self._guard:
            return sum(mark.written - mark.synced for mark in self._marks)

    def missing(self) -> list[Span]:
        """Returns what is not there yet, in order; of unknown size, the last span has no end."""
        with self._guard:
            return missing_spans([mark.written for mark in self._marks], piece=self._piece, size=self.size)

    def counts(self) -> list[int]:
        """Returns the bytes that each piece has."""
        with self._guard:
            return [mark.written for mark in self._marks]

    def assume(self, size: int) -> None:
        """Takes *size* for what it is to become, as long as nobody knows better.

        Raises:
            StoreError: the disk failed.
        """
        with self._hash.guard, self._flushing, self._guard, store_errors(self._journal_file):
            self.size = size
            self._fit()
            self._note_marks()
            self._note_head()

    def write(self, position: int, data: bytes | memoryview) -> int:
        """Writes what is new of *data*: of each piece only what follows, without a gap, the bytes it has.

        Args:
            position: of the first byte, in the file.
            data: any number of bytes; no other thread writes to the same pieces meanwhile.

        Returns:
            The bytes that were new.

        Raises:
            StoreFullError: no room is left; what was written so far stays.
            StoreError: the disk failed.
        """
        view = memoryview(data)
        end = position + len(data) if self.size is None else min(position + len(data), self.size)
        new = 0
        with store_errors(self._file):
            for index in range(position // self._piece, -(-end // self._piece)):
                begin = index * self._piece
                with self._guard:
                    start = begin + self._mark(index).written
                if position <= start < end:
                    new += self._append(index, start, view[start - position : min(begin + self._piece, end) - position])
        return new

    def digest(self) -> Digest:
        """Returns the digest of all bytes up to the first that is missing."""
        with store_errors(self._file):
            return self._hash.digest()

    def read_piece(self, index: int) -> bytes:
        """Returns the bytes that a piece has."""
        with store_errors(self._file):
            return _read_at(self._descriptor, self._marks[index].written, index * self._piece)

    def replace_piece(self, index: int, data: bytes) -> None:
        """Puts other bytes in a piece's place; nobody writes to this partial meanwhile.

        Raises:
            StoreError: the disk failed.
        """
        with self._hash.guard, self._flushing, store_errors(self._file):
            with self._guard:
                self._set_mark(index, Mark())
            os.fsync(self._journal)  # before the bytes: an old mark must never vouch for new bytes
            self._hash.forget(index * self._piece)
        self.write(index * self._piece, data)

    def flush(self) -> None:
        """Brings what was written to the disk and notes it down, and gives a sign of life; from any thread."""
        if self._claim is not None:
            self._claim.touch()
        with self._flushing, store_errors(self._file):
            with self._guard:
                ahead = [(index, mark) for index, mark in enumerate(self._marks) if mark.synced != mark.written]
            if self._descriptor < 0 or not ahead:
                return
            _sync_data(self._descriptor)
            with self._guard:
                for index, then in ahead:
                    now = self._marks[index]
                    self._set_mark(
                        index, Mark(written=now.written, crc=now.crc, synced=then.written, synced_crc=then.crc)
                    )
            _sync_data(self._journal)
            if not self._is_named:
                sync_folder(self._file.parent)  # the two files' names are to survive as well
                self._is_named = True

    def restart(self, *, size: int | None) -> None:
        """Throws all bytes away; *size* is what it is to become."""
        with self._hash.guard, self._flushing, self._guard, store_errors(self._file):
            self.size = size
            self._begin()

    def checks(self) -> tuple[int, ...]:
        """Returns the CRC-32 of each piece, in order."""
        with self._guard:
            return tuple(mark.crc for mark in self._marks)

    def publish(self, blob: Path) -> os.stat_result:
        """Makes the bytes, which are verified, the blob: on disk first, then by one rename.

        Returns:
            The blob's stat, as verified.

        Raises:
            Taken: another process has taken it over; it stays what it is.
            StoreError: the disk failed.
        """
        with self._flushing, store_errors(blob):
            if self.size is not None:
                os.ftruncate(self._descriptor, self.size)  # what was adopted may have a tail that no mark vouches for
            with suppress(PermissionError):  # another user of a shared store began it
                os.fchmod(self._descriptor, 0o444)
            os.fsync(self._descriptor)
            if make_folder(blob.parent):
                sync_folder(blob.parent.parent)
            self._expect_alone()
            self._file.replace(blob)
            sync_folder(blob.parent)
            self._journal_file.unlink(missing_ok=True)
            return os.fstat(self._descriptor)

    def close(self) -> None:
        """Lets go of the file; an empty one leaves nothing behind."""
        with self._flushing, self._guard:
            if self._descriptor < 0:
                return
            self._let_go()
            if not self.present:
                self._file.unlink(missing_ok=True)
                self._journal_file.unlink(missing_ok=True)
            if self._claim is not None:
                self._claim.release()

    def _expect_alone(self) -> None:
        """Makes sure that the bytes are still in their place, and nobody else writes to them.

        Raises:
            Taken: somebody took them over.
        """
        try:
            is_there = os.path.samestat(os.fstat(self._descriptor), self._file.lstat())
        except FileNotFoundError:
            is_there = False
        if not is_there or (self._claim is not None and not self._claim.holds()):
            raise Taken(f"{self._file}: another process took it over", hint="wait until it has ended")

    def _let_go(self) -> None:
        for descriptor in (self._descriptor, self._journal):
            if descriptor >= 0:
                os.close(descriptor)
        self._descriptor = self._journal = -1

    def _append(self, index: int, start: int, data: memoryview) -> int:
        """Writes *data* after the bytes that a piece has, which end at *start*; returns its length."""
        left = data
        while left:
            count = os.pwrite(self._descriptor, left, start)
            done, left = left[:count], left[count:]
            with self._guard:
                mark = self._marks[index]
                crc = zlib.crc32(done, mark.crc)
                self._set_mark(
                    index,
                    Mark(written=mark.written + count, crc=crc, synced=mark.synced, synced_crc=mark.synced_crc),
                )
                self.present += count
            self._hash.add(start, done)
            start += count
        return len(data)

    def _gapless(self) -> int:
        """Returns the bytes that are there from the start on, without a gap."""
        gap = next(iter(self.missing()), None)
        return gap.start if gap is not None else self.size or 0

    def _mark(self, index: int) -> Mark:
        """Returns a piece's mark; the caller holds `_guard`."""
        while len(self._marks) <= index:
            self._marks.append(Mark())
        return self._marks[index]

    def _set_mark(self, index: int, mark: Mark) -> None:
        """Sets a piece's mark and notes it down; the caller holds `_guard`."""
        if mark.written < self._marks[index].written:
            self.present -= self._marks[index].written - mark.written
        self._marks[index] = mark
        os.pwrite(self._journal, line_of(mark), (index + 1) * LINE_BYTES)

    def _fit(self) -> None:
        """Lets go of what lies beyond the size, and of a piece that reaches beyond it."""
        if self.size is None:
            return
        for index, mark in enumerate(self._marks):
            if mark.written and index * self._piece + mark.written > self.size:
                self._set_mark(index, Mark())
                self._hash.forget(index * self._piece)

    def _note_marks(self) -> None:
        """Notes every piece down, of a known size those without bytes too: so a line that is missing later was lost."""
        if self.size is not None:
            count = -(-self.size // self._piece)
            self._marks = [*self._marks, *[Mark()] * count][:count]
        lines, end = b"".join(map(line_of, self._marks)), (len(self._marks) + 1) * LINE_BYTES
        while lines:
            lines = lines[os.pwrite(self._journal, lines, end - len(lines)) :]
        os.ftruncate(self._journal, end)

    def _note_head(self) -> None:
        os.pwrite(self._journal, line_of(Head(boot=self._boot, size=self.size, piece=self._piece)), 0)

    def _adopt(self) -> None:
        """Takes over what an earlier run left, as far as it is still what that run wrote."""
        head, marks = read_journal(self._journal_file)
        self._journal = open_own(self._journal_file)
        is_other = head is None or (self.size is not None and head.size not in (None, self.size))
        if head is None or is_other or not any(mark.written for mark in marks):
            self._begin()
            return
        self._piece = head.piece
        self.size = head.size if self.size is None else self.size
        is_same_boot = bool(self._boot) and head.boot == self._boot
        self._marks = [mark.usable(is_same_boot=is_same_boot) for mark in marks]
        self._read_back()
        self._note_marks()
        if head != Head(boot=self._boot, size=self.size, piece=self._piece):
            _sync_data(self._journal)  # the marks before the head that makes them count
            self._note_head()

    def _read_back(self) -> None:
        """Checks the pieces that an earlier run left, dropping those that rotted, and hashes up to the first gap."""
        length = os.fstat(self._descriptor).st_size
        for index, mark in enumerate(self._marks):
            start = index * self._piece
            is_there = start + mark.written <= length  # a damaged journal may say what memory cannot hold
            data = _read_at(self._descriptor, mark.written, start, is_short_allowed=True) if is_there else b""
            if len(data) < mark.written or zlib.crc32(data) != mark.crc or not self._fits(start + len(data)):
                self._marks[index] = Mark()
                continue
            self.present += len(data)
            self._hash.add(start, data)

    def _fits(self, end: int) -> bool:
        return self.size is None or end <= self.size

    def _begin(self) -> None:
        """Starts from nothing; where `_guard` matters the caller holds it."""
        os.ftruncate(self._descriptor, 0)
        os.ftruncate(self._journal, 0)
        self._marks = []
        self._hash.forget(0)
        self.present = 0
        self._note_head()
        self._note_marks()


def _open_bytes(file: Path) -> int:
    """Opens the bytes; nobody may write to them if a process was killed that was about to make them a blob."""
    try:
        return open_own(file)
    except PermissionError:
        with open_regular(file) as sealed:
            os.fchmod(sealed.fileno(), 0o644)
        return open_own(file)


def _read_at(descriptor: int, count: int, position: int, *, is_short_allowed: bool = False) -> bytes:
    """Reads *count* bytes.

    Raises:
        StoreError: there are fewer, and that is not allowed.
    """
    parts: list[bytes] = []
    while count:
        part = os.pread(descriptor, count, position)
        if not part:
            if is_short_allowed:
                break
            raise StoreError("a partial shrank while it was read", hint="run the same command again")
        parts.append(part)
        count -= len(part)
        position += len(part)
    return b"".join(parts) if len(parts) != 1 else parts[0]


def _sync_data(descriptor: int) -> None:
    getattr(os, "fdatasync", os.fsync)(descriptor)  # macOS and Windows have no fdatasync
