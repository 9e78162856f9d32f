"""Asks a mirror, or an index, where it has a wheel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wheelcache.faults import Fault, SourceFault, public_url
from wheelcache.index import mirror_urls
from wheelcache.lock import LockedWheel
from wheelcache.sources import Source

if TYPE_CHECKING:
    from wheelcache.transport import Transport


@dataclass(frozen=True, kw_only=True, slots=True)
class LookUp:
    """A mirror that is to be asked where it has the wheel."""

    source: Source


def is_local(url: str) -> bool:
    """True for a file of this machine."""
    return url.startswith("file:")


def look_up(
    wheel: LockedWheel, mirror: str, *, transport: Transport, may_guess: bool, note: Callable[[str], None]
) -> list[Source]:
    """Asks a mirror, or an index, where it has a wheel.

    Args:
        wheel: which.
        mirror: the root of its Simple API.
        transport: how.
        may_guess: where it has no page for the project, its URLs may be guessed from the lockfile's.
        note: told, in a sentence, what is odd about its answer.

    Returns:
        The sources it names; its guesses where it has no page for the project.

    Raises:
        SourceFault: it cannot be asked, or does not offer the wheel.
    """
    known = [url for url in wheel.urls if not is_local(url)]
    offer = mirror_urls(
        wheel.name, wheel.filename, wheel.digest, mirror, known=known, transport=transport, guess=may_guess
    )
    if offer.other_digests and not offer.urls:
        note(f"{public_url(mirror)} lists other bytes under this name and is passed over")
    if not offer.urls:
        raise SourceFault(Fault.REFUSED, f"expected {wheel.filename}, found no such file of that digest")
    urls = dict.fromkeys(offer.urls)
    return [Source(url=url, mirror=mirror, is_guess=offer.is_guess) for url in urls]
