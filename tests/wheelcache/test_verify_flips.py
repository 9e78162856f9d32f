"""Damage at random places."""

from __future__ import annotations

import random

import pytest
from support.stores import WHEELS, begin, fill, flip, found, mend, verify
from support.syncs import PIECE, Syncs
from support.wheels import MadeWheel, make_wheel

from wheelcache.digest import hex_of
from wheelcache.journal import LINE_BYTES
from wheelcache.mend import put_catalog_aside
from wheelcache.store import Store


@pytest.mark.parametrize("seed", range(40))
def test_bits_flipped_anywhere_are_found_and_cost_the_pieces_they_are_in(sync, server, seed):
    """Blobs, partials and journals: each flip in what counts is found; repair and sync fetch what is damaged."""
    chance = random.Random(seed)
    store = sync.store
    begun = make_wheel("begun", size=500_000)
    for made in WHEELS:
        fill(store, made)
    part = begin(store, begun, (0, 4 * PIECE))
    urls = {made.digest: server.put_wheel(made) for made in (*WHEELS, begun)}
    damaged: dict[MadeWheel, set[int]] = {}
    for _ in range(chance.randint(1, 4)):
        made = chance.choice([*WHEELS, begun])
        if made is not begun:
            place = chance.randrange(made.size)
            flip(store.blob(made.digest), place, chance.randrange(8))
            damaged.setdefault(made, set()).symmetric_difference_update({place // PIECE})
        elif chance.random() < 0.5:
            place = chance.randrange(4 * PIECE)
            flip(part, place, chance.randrange(8))
            damaged.setdefault(begun, set()).add(place // PIECE)
        else:
            line = chance.randrange(1, 5)
            flip(part.with_suffix(".json"), line * LINE_BYTES + chance.randrange(LINE_BYTES), chance.randrange(8))
            damaged.setdefault(begun, set()).add(line - 1)
    is_wrong = {made for made in WHEELS if store.blob(made.digest).read_bytes() != made.data}
    report = verify(store, sizes={begun.digest: begun.size})
    digests = {finding.digest for finding in report.findings}
    assert {made.digest for made in is_wrong} <= digests
    assert (begun.digest in digests) == (begun in damaged)
    mended = mend(store, report.findings)
    assert set(mended.missing) == {made.digest for made in is_wrong}
    assert found(store) == []
    for made in is_wrong:
        [result] = Syncs(store.root, settings=sync.settings)(made.locked(urls[made.digest]))
        assert result.bytes_fetched <= PIECE * len(pieces_that_differ(store, made))
    [result] = Syncs(store.root, settings=sync.settings)(begun.locked(urls[begun.digest]))
    assert result.bytes_fetched <= begun.size - 4 * PIECE + PIECE * len(damaged.get(begun, ()))
    assert found(store) == []
    assert all(store.blob(made.digest).read_bytes() == made.data for made in (*WHEELS, begun))


def pieces_that_differ(store: Store, made: MadeWheel) -> list[int]:
    rotten = (store.root / "v1" / "quarantine" / hex_of(made.digest)).read_bytes()
    starts = range(0, made.size, PIECE)
    return [start for start in starts if rotten[start : start + PIECE] != made.data[start : start + PIECE]]


@pytest.mark.parametrize("seed", range(60))
def test_bits_flipped_in_the_catalog_are_found_or_hurt_nothing(store, sync, seed):
    """After a repair the catalog says again what is so, whatever bit was flipped."""
    chance = random.Random(seed)
    file = store.root / "v1" / "catalog.sqlite"
    flip(file, chance.randrange(file.stat().st_size), chance.randrange(8))
    before = file.read_bytes()
    first = verify(store)
    assert {finding.kind for finding in first.findings} <= {"catalog"}
    file.write_bytes(before)
    if any(finding.kind == "catalog" for finding in first.findings):
        put_catalog_aside(store)
    assert {finding.kind for finding in verify(store).findings} <= {"catalog"}
    assert found(store) == []
    again = Store.open(store.root)
    known = again.known()
    for made in WHEELS:
        entry, checks = known[made.digest], again.piece_checks(made.digest)
        assert (entry.name, entry.size) == (made.name, made.size)
        assert len(checks.crcs) == -(-made.size // checks.piece_bytes)
        assert again.has(made.locked())
