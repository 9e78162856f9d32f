"""Reads an answer that comes in pieces as a file."""

from __future__ import annotations

from collections.abc import Iterator
from io import RawIOBase


class Chunks(RawIOBase):
    """A file made of the pieces that the engine sends."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = b""

    def readable(self) -> bool:
        """Says that it can be read."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Returns *size* bytes, fewer at the end only; all that is left for a negative one."""
        pieces, length = [self._rest], len(self._rest)
        while size < 0 or length < size:
            piece = next(self._chunks, b"")
            if not piece:
                break
            pieces.append(piece)
            length += len(piece)
        data = b"".join(pieces)
        cut = length if size < 0 else size
        self._rest = data[cut:]
        return data[:cut]
