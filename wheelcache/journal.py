"""The journal of a partial: what is known good of each piece, a line of fixed length for each.

    {"boot": "…", "size": 888140864, "piece": 2097152, "check": 1204879362}
    {"written": 2097152, "crc": 3210233709, "synced": 2097152, "synced_crc": 3210233709}
    {"written": 524288, "crc": 1183246, "synced": 0, "synced_crc": 0}

A line is rewritten in place, so that noting a block costs one small write and needs no room; none crosses a disk's
sector, and each is read by itself, so that a torn one costs its piece and no other. The checks are CRC-32, as in a ZIP
archive: they only find what rotted. What a wheel's bytes are, its digest alone decides. The head has a check of what
stands before it; the line of a piece needs none, since its bytes are compared with what it says.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeGuard

from wheelcache.ordinary import open_regular

LINE_BYTES: Final = 128

_LARGEST_BYTES: Final = 64 << 20
"""No journal is longer: a terabyte in pieces of 2 MiB."""

_BEYOND: Final = 1 << 53
"""No file has so many bytes; and no number in JSON is surely exact from here on (RFC 8259, section 6)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """The first line.

    Attributes:
        boot: the start of the machine during which the marks were made; empty where the system does not tell.
        size: of the whole file, in bytes; None where unknown.
        piece: bytes of a piece, but for the last.
    """

    boot: str
    size: int | None
    piece: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """What is known of one piece; sizes in bytes from its start, without gaps, each with the CRC-32 of those bytes.

    Attributes:
        written: handed to the operating system: they outlive the program.
        synced: brought to the disk: they outlive the machine's power.
    """

    written: int = 0
    crc: int = 0
    synced: int = 0
    synced_crc: int = 0

    def usable(self, *, is_same_boot: bool) -> Mark:
        """Returns the mark that counts now: all that was written after a mere crash, else what reached the disk."""
        if is_same_boot:
            return self
        return Mark(written=self.synced, crc=self.synced_crc, synced=self.synced, synced_crc=self.synced_crc)


def line_of(value: Head | Mark) -> bytes:
    """Returns a line of the journal, `LINE_BYTES` long."""
    if isinstance(value, Head):
        said = {"boot": value.boot, "size": value.size, "piece": value.piece}
        text = json.dumps(said | {"check": zlib.crc32(json.dumps(said).encode())})
    else:  # written for every block: a format is ten times as quick as a JSON library
        text = (
            f'{{"written": {value.written}, "crc": {value.crc}, '
            f'"synced": {value.synced}, "synced_crc": {value.synced_crc}}}'
        )
    return text.encode().ljust(LINE_BYTES - 1) + b"\n"


def read_journal(file: Path) -> tuple[Head | None, list[Mark]]:
    """Reads a journal; one that is missing or has no readable head vouches for nothing.

    Returns:
        The head, and a mark per piece in order; what cannot be read is a mark without bytes. Of a head that is not as
        it was written, the size of a piece alone is taken, which the bytes confirm or refute.
    """
    try:
        opened = open_regular(file)
    except OSError:  # none, or a link in its place
        return None, []
    with opened:
        return parse_journal(opened.read(_LARGEST_BYTES))


def parse_journal(data: bytes) -> tuple[Head | None, list[Mark]]:
    """Reads the bytes of a journal, as `read_journal` does."""
    lines = [data[start : start + LINE_BYTES] for start in range(0, len(data), LINE_BYTES)]
    head = _head(lines[0]) if lines else None
    return (head, [_mark(line, head.piece) for line in lines[1:]]) if head else (None, [])


def _head(line: bytes) -> Head | None:
    value = _object(line)
    boot, size, piece = value.get("boot"), value.get("size"), value.get("piece")
    if isinstance(boot, str) and (size is None or _is_count(size)) and _is_count(piece) and piece:
        head = Head(boot=boot, size=size, piece=piece)
        return head if line == line_of(head) else Head(boot="", size=None, piece=piece)
    return None


def _mark(line: bytes, piece: int) -> Mark:
    value = _object(line)
    numbers = [value.get(name) for name in ("written", "crc", "synced", "synced_crc")]
    written, crc, synced, synced_crc = (number if _is_count(number) else -1 for number in numbers)
    is_sound = 0 <= synced <= written <= piece and min(crc, synced_crc) >= 0 and max(crc, synced_crc) < 1 << 32
    return Mark(written=written, crc=crc, synced=synced, synced_crc=synced_crc) if is_sound else Mark()


def _object(line: bytes) -> Mapping[str, object]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _BEYOND
