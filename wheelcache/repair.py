"""Finds the wrong pieces of a file whose digest is wrong, and who gave them, by asking other sources for them.

No piece has a digest of its own that anybody vouches for, so sources are played off against each other: a piece of each
is fetched again from another source, and where the two differ, all that the suspect gave is replaced. Whether that was
right only the digest of the whole says. Who vouches for every byte of a wrong file is proven to lie.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

EARLIER = ""
"""Stands, among the sources of a piece, for a run before this one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Version:
    """Bytes that a piece had once: their CRC-32, and the sources that gave them."""

    crc: int
    givers: frozenset[str]


@dataclass(slots=True)
class _Piece:
    """One piece: whose bytes it has now, who agrees with all of them, and what it had before."""

    givers: frozenset[str]
    crc: int
    agreeing: set[str] = field(default_factory=set)
    is_settled: bool = False
    versions: list[Version] = field(default_factory=list)

    @property
    def vouchers(self) -> frozenset[str]:
        """Who says that all its bytes are right; of several who gave a part each, nobody does."""
        return frozenset(self.agreeing) | (self.givers if len(self.givers) == 1 else frozenset())


class Audit:
    """The search in one file.

    Args:
        givers: of each piece, the URLs that its bytes came from.
        crcs: of each piece, the CRC-32.
        order: all URLs, the most trusted first; what is not in it is trusted least.
    """

    def __init__(self, givers: Sequence[Collection[str]], crcs: Sequence[int], order: Sequence[str]) -> None:
        self._pieces = [_Piece(frozenset(names), crc) for names, crc in zip(givers, crcs, strict=True)]
        self._order = {url: place for place, url in enumerate(order)}
        self._sampled: set[frozenset[str]] = set()
        self._suspects: set[frozenset[str]] = set()
        self._is_unchecked = False

    def next_piece(self, able: Collection[str]) -> int | None:
        """Returns the piece to fetch again; None when there is none left that another source could tell about.

        Args:
            able: the URLs that can still be asked.
        """
        open_pieces = [
            index for index, piece in enumerate(self._pieces) if not piece.is_settled and set(able) - piece.vouchers
        ]
        return min(open_pieces, key=self._urgency, default=None)

    def vouchers(self, index: int) -> frozenset[str]:
        """Returns who vouches for a piece: no news can be had from them."""
        return self._pieces[index].vouchers

    def note(self, index: int, source: str, crc: int) -> bool:
        """Takes in what *source* says of a piece: if other than what is there, that is to be replaced by it.

        Returns:
            True when it is time to look at the digest of the whole.
        """
        piece = self._pieces[index]
        group = piece.givers
        is_first = group not in self._sampled
        self._sampled.add(group)
        piece.is_settled = True
        if crc == piece.crc:
            piece.agreeing.add(source)
            check, self._is_unchecked = self._is_unchecked, False
            return check or self._is_through()
        piece.versions.append(Version(crc=piece.crc, givers=piece.givers))
        piece.givers, piece.crc, piece.agreeing = frozenset({source}), crc, set()
        self._suspects.add(group)
        is_last = not any(other.givers == group and not other.is_settled for other in self._pieces)
        self._is_unchecked = not (is_first or is_last)
        return is_first or is_last

    def proven(self) -> frozenset[str]:
        """Returns who vouches for every byte of the file, which is wrong; and begins anew without trust in them."""
        common = frozenset.intersection(*(piece.vouchers for piece in self._pieces))
        if common - {EARLIER}:
            for piece in self._pieces:
                piece.is_settled = False
            self._sampled.clear()
            self._suspects.clear()
            self._is_unchecked = False
        return common

    def liars(self) -> frozenset[str]:
        """Returns who gave bytes that are not those of the file now, which is right."""
        wrong = [
            version.givers
            for piece in self._pieces
            for version in piece.versions
            if version.crc != piece.crc and version.givers
        ]
        alone = [givers for givers in wrong if len(givers) == 1]
        return frozenset[str]().union(*(alone or wrong)) - {EARLIER}

    def _urgency(self, index: int) -> tuple[bool, bool, int, int]:
        group = self._pieces[index].givers
        trust = max((self._order.get(url, len(self._order)) for url in group), default=len(self._order))
        return (bool(self._suspects) and group not in self._suspects, group in self._sampled, -trust, index)

    def _is_through(self) -> bool:
        return all(piece.is_settled for piece in self._pieces)
