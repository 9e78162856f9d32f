"""Finds the wrong pieces of a file whose digest is wrong, and who gave them, by asking other sources for them.

No piece has a digest of its own that anybody vouches for, so sources are played off against each other: a piece of each
is fetched again from another source, and where the two differ, all that the suspect gave is replaced. Whether that was
right only the digest of the whole says. Where that leads nowhere, one source after the other is asked for all that it
does not vouch for yet. Who vouches for every byte of a wrong file is proven to lie; so one who does not is enough.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from wheelcache.digest import Digest

EARLIER = ""
"""Stands, among the sources of a piece, for a run before this one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """A piece to fetch again, and the URLs that could tell something new of it."""

    piece: int
    sources: frozenset[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Version:
    """Bytes that a piece had once, and the sources that gave them."""

    digest: Digest
    givers: frozenset[str]


@dataclass(slots=True)
class _Piece:
    """One piece: whose bytes it has now, who agrees with all of them, and what it had before."""

    givers: frozenset[str]
    digest: Digest | None = None
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
        order: all URLs, the most trusted first; what is not in it is trusted least.
    """

    def __init__(self, givers: Sequence[Collection[str]], order: Sequence[str]) -> None:
        self._pieces = [_Piece(frozenset(names)) for names in givers]
        self._order = {url: place for place, url in enumerate(order)}
        self._sampled: set[frozenset[str]] = set()
        self._suspects: set[frozenset[str]] = set()
        self._witness: str | None = None
        self._heard: set[str] = set()
        self.is_unchecked = False
        """True when pieces were replaced since the digest of the whole was last looked at."""

    def next_check(self, able: Collection[str]) -> Check | None:
        """Returns the piece to fetch again; None when nobody is left who could tell anything new.

        Args:
            able: the URLs that can still be asked.
        """
        if self._witness is None:
            asked = [
                Check(piece=index, sources=frozenset(able) - piece.vouchers)
                for index, piece in enumerate(self._pieces)
                if not piece.is_settled and not piece.vouchers.issuperset(able)
            ]
            if asked:
                return min(asked, key=lambda check: self._urgency(check.piece))
        return self._next_of_witness(able)

    def note(self, index: int, source: str, *, there: Digest, found: Digest, able: Collection[str]) -> bool:
        """Takes in what *source* says of a piece: if other than what is there, that is to be replaced by it.

        Args:
            index: of the piece.
            source: the URL that was asked.
            there: the digest of the bytes that the piece has.
            found: of those that the source gave.
            able: the URLs that can still be asked.

        Returns:
            True when it is time to look at the digest of the whole: a lie may have ended, or nothing is left to ask.
        """
        piece = self._pieces[index]
        group = piece.givers
        is_first = group not in self._sampled
        self._sampled.add(group)
        piece.is_settled = True
        if found == there:
            piece.agreeing.add(source)
            return self.is_unchecked or self.next_check(able) is None
        piece.versions.append(Version(digest=there, givers=piece.givers))
        piece.givers, piece.digest, piece.agreeing = frozenset({source}), found, set()
        self._suspects.add(group)
        self.is_unchecked = True
        is_last = not any(other.givers == group and not other.is_settled for other in self._pieces)
        return is_first or is_last or bool(self._common()) or self.next_check(able) is None

    def proven(self) -> frozenset[str]:
        """Returns who vouches for every byte of the file, which is wrong; and begins anew without trust in them."""
        self.is_unchecked = False
        common = self._common()
        if common - {EARLIER}:
            for piece in self._pieces:
                piece.is_settled = False
            self._sampled.clear()
            self._suspects.clear()
            self._heard.clear()
            self._witness = None
        return common

    def liars(self) -> frozenset[str]:
        """Returns who gave bytes that are not those of the file now, which is right."""
        wrong = [
            version.givers - piece.vouchers
            for piece in self._pieces
            for version in piece.versions
            if version.digest != piece.digest
        ]
        alone = [givers for givers in wrong if len(givers) == 1]
        return frozenset[str]().union(*(alone or wrong)) - {EARLIER}

    def _common(self) -> frozenset[str]:
        """Returns who vouches for every byte."""
        return frozenset.intersection(*(piece.vouchers for piece in self._pieces))

    def _next_of_witness(self, able: Collection[str]) -> Check | None:
        """Returns the next piece that one source alone is asked for, until it vouches for all."""
        while True:
            if self._witness is not None and self._witness in able:
                for index, piece in enumerate(self._pieces):
                    if self._witness not in piece.vouchers:
                        return Check(piece=index, sources=frozenset({self._witness}))
            left = sorted(set(able) - self._heard, key=self._distrust)
            if not left:
                return None
            self._witness = left[0]
            self._heard.add(left[0])

    def _urgency(self, index: int) -> tuple[bool, bool, int, int]:
        group = self._pieces[index].givers
        distrust = max((self._distrust(url) for url in group), default=len(self._order))
        return (bool(self._suspects) and group not in self._suspects, group in self._sampled, -distrust, index)

    def _distrust(self, url: str) -> int:
        return self._order.get(url, len(self._order))
