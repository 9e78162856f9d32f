"""The SHA-256 of a file that is written in any order: hashed on the way, as far as there is no gap."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from typing import Final

from wheelcache.digest import Digest

_BLOCK: Final = 1 << 20
_CATCH_UP: Final = 8 << 20
"""Bytes that a writer may hash for others before it goes on; more is left to whoever is in less of a hurry."""


class RunningHash:
    """The digest of a file's bytes up to the first that is missing; from any thread.

    Args:
        read: returns so many bytes of the file, from a position on.
        gapless: returns how many bytes are there from the start on, without a gap.
    """

    def __init__(self, read: Callable[[int, int], bytes], gapless: Callable[[], int]) -> None:
        self._read = read
        self._gapless = gapless
        self._hash = hashlib.sha256()
        self._hashed = 0
        self.guard = threading.Lock()
        """Held while it hashes, and by whoever changes bytes that may be hashed already."""

    def add(self, position: int, data: memoryview | bytes) -> None:
        """Hashes bytes that were just written, where they come next; others are read back when their turn comes."""
        if position > self._hashed + _CATCH_UP or not self.guard.acquire(blocking=False):
            return
        try:
            if position > self._hashed:
                self._go_on(position)
            if position == self._hashed:
                self._hash.update(data)
                self._hashed += len(data)
        finally:
            self.guard.release()

    def digest(self) -> Digest:
        """Returns the digest of all bytes up to the first that is missing."""
        with self.guard:
            self._go_on(None)
            return Digest(f"sha256:{self._hash.hexdigest()}")

    def forget(self, position: int) -> None:
        """Begins anew if bytes from *position* on were hashed: they are to be others; the caller holds `guard`."""
        if self._hashed > position:
            self._hash, self._hashed = hashlib.sha256(), 0

    def _go_on(self, end: int | None) -> None:
        """Hashes what is there, up to the first missing byte or *end*; the caller holds `guard`."""
        there = self._gapless()
        end = there if end is None else min(there, end)
        while self._hashed < end:
            block = self._read(min(_BLOCK, end - self._hashed), self._hashed)
            self._hash.update(block)
            self._hashed += len(block)
