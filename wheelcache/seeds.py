"""Makes partials of bytes that are there already: of a rotten blob, or of one that somebody may still write to."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from wheelcache.digest import Digest, hex_of
from wheelcache.files import copy_sharing_blocks, temporary_name, write_atomically
from wheelcache.journal import Head, Mark, line_of
from wheelcache.partial import Partial


def write_seed(folder: Path, digest: Digest, *, boot: str, size: int, piece: int, crcs: Sequence[int]) -> None:
    """Writes the journal of a partial whose bytes were once right: whoever opens it keeps the pieces that still are.

    Args:
        folder: `partial/` of the store; the bytes are there already, under the partial's name.
        digest: what they are to become.
        boot: this start of the machine.
        size: in bytes.
        piece: bytes of a piece.
        crcs: the CRC-32 that each piece is to have.
    """
    lengths = [min(piece, size - index * piece) for index in range(len(crcs))]
    marks = [Mark(written=length, crc=crc) for length, crc in zip(lengths, crcs, strict=True)]
    lines = [line_of(Head(boot=boot, size=size, piece=piece)), *(line_of(mark) for mark in marks)]
    write_atomically(folder / f"{hex_of(digest)}.json", b"".join(lines))


def copy_good_pieces(
    source: Path, folder: Path, digest: Digest, *, boot: str, size: int, piece: int, crcs: Sequence[int]
) -> None:
    """Makes a partial of those pieces of *source* that are as they once were; arguments as for `write_seed`.

    Raises:
        StoreError: the disk failed; what was copied stays.
    """
    partial = Partial(folder, digest, boot=boot, size=size, piece=piece)
    try:
        with source.open("rb") as file:
            for index, crc in enumerate(crcs):
                with suppress(OSError):  # a piece that the disk cannot read any more is as bad as a wrong one
                    file.seek(index * piece)
                    data = file.read(min(piece, size - index * piece))
                    if zlib.crc32(data) == crc:
                        partial.write(index * piece, data)
        partial.flush()
    finally:
        partial.close()


def copy_partial(folder: Path, digest: Digest) -> None:
    """Gives a partial and its journal other files: who still has the old ones open writes to what nobody will read.

    Raises:
        OSError: the disk failed, or has no room for both.
    """
    file = folder / f"{hex_of(digest)}.part"
    for old in (file, file.with_suffix(".json")):
        if old.exists():
            new = temporary_name(old)
            try:
                copy_sharing_blocks(old, new)
                new.replace(old)
            finally:
                new.unlink(missing_ok=True)
