"""Compares a partial's bytes with what its journal vouches for, and makes a journal anew from what is still good."""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from io import FileIO
from pathlib import Path
from typing import Final

from wheelcache.digest import Digest, hex_of
from wheelcache.files import write_atomically
from wheelcache.findings import Finding
from wheelcache.journal import LINE_BYTES, Head, Mark, line_of, parse_journal
from wheelcache.ordinary import open_regular
from wheelcache.partial import PIECE_BYTES

_BLOCK: Final = 1 << 20
_LARGEST_JOURNAL: Final = 64 << 20
"""Bytes: of a wheel of a terabyte in pieces of 2 MiB."""

_LARGEST_PIECE: Final = 1 << 40
"""Where a journal does not say it any more, so many bytes are the most that a line may speak of."""

_NAMED: Final = 5
"""As many damaged pieces as a finding names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Checked:
    """What became of looking at a partial.

    Attributes:
        findings: what is wrong.
        head: the journal's first line, as far as it can be told.
        good: a mark for each piece, of the bytes that are as the journal says.
    """

    findings: tuple[Finding, ...] = ()
    head: Head | None = None
    good: tuple[Mark, ...] = ()


def check_partial(
    folder: Path,
    digest: Digest,
    *,
    boot: str,
    size: int | None,
    oldest: float,
    is_over: Callable[[], bool],
) -> Checked:
    """Looks at the partial of *digest* and its journal; the caller holds the lock. Where there is none, none is wrong.

    Args:
        folder: `partial/` of the store.
        digest: what the bytes are to become.
        boot: this start of the machine.
        size: of the whole, in bytes, where somebody else than the journal says it.
        oldest: a partial that was last touched before this time, in seconds since 1970, is nobody's any more.
        is_over: True once there is no time left; what was found by then is returned.

    Raises:
        OSError: a file cannot be read.
    """
    part = folder / f"{hex_of(digest)}.part"
    journal = part.with_suffix(".json")
    if not part.exists():
        return Checked()
    if not journal.exists():
        return _useless(part, digest, f"its journal {journal.name}", "none: nobody knows which bytes are right")
    touched = max(part.stat().st_mtime, journal.stat().st_mtime)
    if touched < oldest:
        day = time.strftime("%Y-%m-%d", time.gmtime(touched))
        return _useless(part, digest, "a sync that goes on with it", f"untouched since {day}")
    with open_regular(journal) as file:
        data = file.read(_LARGEST_JOURNAL)
    with open_regular(part) as file:
        return _Comparison(part, file, digest, data, size=size, is_over=is_over).run(boot)


def rewrite_journal(folder: Path, digest: Digest, checked: Checked, *, boot: str) -> bool:
    """Writes a journal of what is still good; the caller holds the lock. False where nothing is.

    Raises:
        OSError: the disk failed.
    """
    if checked.head is None or not any(mark.written for mark in checked.good):
        return False
    part = folder / f"{hex_of(digest)}.part"
    with part.open("rb") as file:
        os.fsync(file.fileno())
    head = replace(checked.head, boot=boot)
    lacking = -(-(head.size or 0) // head.piece) - len(checked.good)
    lines = [line_of(head), *map(line_of, checked.good), *[line_of(Mark())] * lacking]
    write_atomically(part.with_suffix(".json"), b"".join(lines))
    return True


def _useless(part: Path, digest: Digest, expected: str, found: str) -> Checked:
    hint = "sync the lockfile that needs it; else wheelcache verify --repair moves it into the quarantine"
    finding = Finding(kind="partial", path=part, digest=digest, expected=expected, found=found, hint=hint)
    return Checked(findings=(finding,))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Weighed:
    """Which bytes of a partial are as its journal says, if its pieces have so many bytes each."""

    piece: int
    good: tuple[Mark, ...]
    bad: tuple[int, ...]

    @property
    def bytes(self) -> int:
        return sum(mark.written for mark in self.good)


class _Comparison:
    """One partial's bytes beside its journal."""

    def __init__(
        self, part: Path, file: FileIO, digest: Digest, data: bytes, *, size: int | None, is_over: Callable[[], bool]
    ) -> None:
        self._part = part
        self._file = file
        self._digest = digest
        self._lines = [data[start : start + LINE_BYTES] for start in range(0, len(data), LINE_BYTES)]
        self._head, self._marks = parse_journal(data)
        if self._head is None or line_of(self._head) != self._lines[0]:  # the others may be sound all the same
            any_head = line_of(Head(boot="", size=None, piece=_LARGEST_PIECE))
            _, self._marks = parse_journal(any_head + data[LINE_BYTES:])
        self._size = size
        self._is_over = is_over

    def run(self, boot: str) -> Checked:
        """Compares all pieces."""
        head = self._head
        is_same_boot = head is not None and bool(boot) and head.boot == boot
        weighed = self._weigh(head.piece, is_same_boot=is_same_boot) if head else None
        if weighed is None or weighed.bad:
            others = dict.fromkeys([PIECE_BYTES, max((mark.written for mark in self._marks), default=0)])
            tried = [self._weigh(piece, is_same_boot=is_same_boot) for piece in others if piece]
            weighed = max([each for each in [weighed, *tried] if each], key=lambda each: each.bytes, default=None)
        if self._is_over():
            return Checked()
        weighed = weighed or _Weighed(piece=PIECE_BYTES, good=(), bad=())
        findings = list(self._findings(weighed, is_same_boot=is_same_boot))
        size = head.size if head and self._size is None else self._size
        return Checked(
            findings=tuple(findings), head=Head(boot=boot, size=size, piece=weighed.piece), good=weighed.good
        )

    def _findings(self, weighed: _Weighed, *, is_same_boot: bool) -> Iterator[Finding]:
        hint = "the next sync fetches again what it says of these pieces; wheelcache verify --repair makes it anew"
        wrong = [
            f"line {number}: {what}" for number, what in self._damaged_lines(weighed.piece, is_same_boot=is_same_boot)
        ]
        if wrong:
            journal = self._part.with_suffix(".json")
            yield Finding(
                kind="journal",
                path=journal,
                digest=self._digest,
                expected="a head and a line for each piece",
                found=_named(wrong),
                hint=hint,
            )
        if weighed.bad:
            yield Finding(
                kind="rot",
                path=self._part,
                digest=self._digest,
                expected="the bytes that its journal vouches for",
                found=f"others in piece {_named([str(index) for index in weighed.bad])}",
                hint="the next sync fetches these pieces again; wheelcache verify --repair does",
            )

    def _damaged_lines(self, piece: int, *, is_same_boot: bool) -> Iterator[tuple[int, str]]:
        """Yields what no run of ours has written.

        Of a known size all lines are written first: only a power cut leaves zeros in their place, or none.
        """
        head = self._head
        if head is None or line_of(head) != self._lines[0]:
            yield 1, "damaged"
        elif head.piece != piece:
            yield 1, f"says that pieces have {head.piece:,} bytes, and they have {piece:,}"
        elif self._size is not None and head.size not in (None, self._size):
            yield 1, f"says that the whole has {head.size:,} bytes, and it has {self._size:,}"
        ends = [index * piece + mark.written for index, mark in enumerate(self._marks) if mark.written]
        if head is not None and head.size is not None and max(ends, default=0) > head.size:
            yield 1, f"says that the whole has {head.size:,} bytes, and a piece ends after it"
        is_full = is_same_boot and head is not None and head.size is not None
        for number, (line, mark) in enumerate(zip(self._lines[1:], self._marks, strict=False), 2):
            if line != line_of(mark) and (is_full or line != bytes(LINE_BYTES)):
                yield number, "damaged"
        if is_full and head is not None and len(self._lines) - 1 < -(-(head.size or 0) // head.piece):
            yield len(self._lines) + 1, "missing"

    def _weigh(self, piece: int, *, is_same_boot: bool) -> _Weighed:
        good: list[Mark] = []
        bad: list[int] = []
        for index, mark in enumerate(self._marks):
            if self._is_over():
                break
            synced, written = self._crcs(index * piece, (mark.synced, mark.written))
            is_synced, is_written = synced == mark.synced_crc, written == mark.crc
            if not is_synced or (is_same_boot and not is_written):
                bad.append(index)
            if is_written:
                good.append(Mark(written=mark.written, crc=mark.crc, synced=mark.written, synced_crc=mark.crc))
            else:
                good.append(mark.usable(is_same_boot=False) if is_synced else Mark())
        return _Weighed(piece=piece, good=tuple(good), bad=tuple(bad))

    def _crcs(self, start: int, counts: Sequence[int]) -> list[int | None]:
        """Returns the CRC-32 of so many bytes each from *start*, in rising order; None where there are fewer."""
        found: list[int | None] = []
        crc = done = 0
        self._file.seek(start)
        for count in counts:
            while done < count and not self._is_over():
                block = self._file.read(min(_BLOCK, count - done))
                if not block:
                    break
                crc = zlib.crc32(block, crc)
                done += len(block)
            found.append(crc if done == count else None)
        return found


def _named(items: Sequence[str]) -> str:
    more = f" and {len(items) - _NAMED} more" if len(items) > _NAMED else ""
    return f"{', '.join(items[:_NAMED])}{more}"
