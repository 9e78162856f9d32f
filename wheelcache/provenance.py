"""Who gave which bytes of a wheel; and once they are known to be wrong, who is to be asked for which piece again."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from wheelcache.claims import Claim
from wheelcache.digest import digest_of_bytes
from wheelcache.partial import Partial
from wheelcache.repair import EARLIER, Audit, Check
from wheelcache.roster import Roster
from wheelcache.sources import Source


class Provenance:
    """Where the bytes of one wheel came from; used by one thread at a time.

    Args:
        roster: the wheel's sources.
    """

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._givers: list[set[str]] = []
        self._audit: Audit | None = None

    @property
    def is_disputed(self) -> bool:
        """True when the bytes gathered were found to be wrong, and sources are played off against each other."""
        return self._audit is not None

    @property
    def is_unchecked(self) -> bool:
        """True when pieces were replaced and nobody has looked at the digest since."""
        return self._audit is not None and self._audit.is_unchecked

    @property
    def has_earlier_bytes(self) -> bool:
        """True when bytes of an earlier run are in it."""
        return any(EARLIER in givers for givers in self._givers)

    def adopt(self, counts: Sequence[int]) -> None:
        """Notes what an earlier run left: the bytes of each piece."""
        self._givers = [{EARLIER} if count else set() for count in counts]

    def credit(self, claim: Claim, *, piece: int) -> None:
        """Notes who gave what a connection brought, up to where it is; *piece*: bytes of one."""
        pieces = range(claim.start // piece, -(-claim.position // piece))
        self._givers += [set() for _ in range(pieces.stop - len(self._givers))]
        for index in pieces:
            self._givers[index].add(claim.source.url)

    def has_bytes_of(self, url: str) -> bool:
        """True when *url* gave bytes at any time."""
        return any(url in givers for givers in self._givers)

    def forget(self) -> None:
        """Begins anew: all bytes were thrown away."""
        self._givers = []
        self._audit = None

    def dispute(self) -> bool:
        """Begins to look for the wrong pieces; False where that is under way already."""
        is_news = self._audit is None
        if is_news:
            self._audit = Audit(self._givers, [source.url for source in self._roster.sources])
        return is_news

    def proven_liars(self) -> Collection[str]:
        """Returns who vouches for every byte of the file, which is wrong; they are not trusted any more."""
        return self._audit.proven() if self._audit is not None else ()

    def outvoted(self) -> Collection[str]:
        """Returns who gave bytes that others' took the place of; the file is right now."""
        return self._audit.liars() if self._audit is not None else ()

    def givers(self) -> list[Source]:
        """Returns the sources that gave bytes and are not given up."""
        return [source for source in self._roster.sources if not source.is_dead and self.has_bytes_of(source.url)]

    def next_check(self, now: float) -> Check | None:
        """Returns the piece to fetch again, and from whom; None where nobody could tell anything new."""
        return self._audit.next_check(self._able(now)) if self._audit is not None else None

    def is_stuck(self, now: float) -> bool:
        """True when the bytes are wrong and nobody is left to ask about them."""
        return self.is_disputed and self.next_check(now) is None and not self._roster.lookups()

    def compare(self, claim: Claim, partial: Partial, now: float) -> tuple[bool, bool]:
        """Puts a piece that was fetched again beside the one that is there, and into its place if it is another.

        Returns:
            Whether it is time to look at the digest, and whether the piece was replaced.

        Raises:
            StoreError: the disk failed.
        """
        if self._audit is None or claim.piece is None:
            return True, False
        data, there = bytes(claim.data), partial.read_piece(claim.piece)
        is_due = self._audit.note(
            claim.piece,
            claim.source.url,
            there=digest_of_bytes(there),
            found=digest_of_bytes(data),
            able=self._able(now),
        )
        if data != there:
            partial.replace_piece(claim.piece, data)
        return is_due, data != there

    def _able(self, now: float) -> set[str]:
        return {source.url for source in self._roster.able(now)}
