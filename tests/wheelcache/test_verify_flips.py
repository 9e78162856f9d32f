"""Damage at random places: all of it is found without a repair, or hurts nothing; a repair fetches what is damaged."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support.server import Server
from support.stores import WHEELS, begin, found, mend, overwrite, verify
from support.syncs import PIECE, Syncs
from support.wheels import MadeWheel, make_wheel

from wheelcache.catalog import HostRecord
from wheelcache.catalogcheck import check_catalog
from wheelcache.journal import LINE_BYTES, parse_journal
from wheelcache.mend import put_catalog_aside
from wheelcache.store import Store

BLOCK = 4096
BEGUN = make_wheel("begun", size=500_000)
BEGUN_PIECES = 4
MISSING = BEGUN.size - BEGUN_PIECES * PIECE
HOST = HostRecord(host="mirror.test", rate=5e7, per_connection=1e7, lies=0, faults=2, seen_at=1.7e9)

Damage = Callable[[random.Random, bytes], bytes]


def flips(chance: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice([1, 1, 1, 2, 5, 30])):
        changed[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def cut(chance: random.Random, data: bytes) -> bytes:
    return data[: chance.randrange(len(data))]


def zeros(chance: random.Random, data: bytes) -> bytes:
    start = chance.randrange(0, len(data), BLOCK)
    end = min(len(data), start + BLOCK * chance.choice([1, 1, 3]))
    return data[:start] + bytes(end - start) + data[end:]


def tail(chance: random.Random, data: bytes) -> bytes:
    return data + data[-chance.randint(1, min(len(data), 2 * BLOCK)) :]


def exchange(chance: random.Random, data: bytes) -> bytes:
    """Lets two blocks change places."""
    one, two = sorted(chance.randrange(0, len(data), BLOCK) for _ in range(2))
    changed = bytearray(data)
    changed[one : one + BLOCK], changed[two : two + BLOCK] = data[two : two + BLOCK], data[one : one + BLOCK]
    return bytes(changed[: len(data)])


DAMAGES: tuple[Damage, ...] = (flips, flips, flips, flips, cut, zeros, tail, exchange)


@dataclass
class Content:
    """What a store holds that bits may flip in."""

    blobs: dict[MadeWheel, bytes] = field(default_factory=dict)
    part: bytes = b""
    journal: bytes = b""
    catalog: bytes = b""

    @classmethod
    def of(cls, store: Store, part: Path) -> Content:
        return cls(
            blobs={made: store.blob(made.digest).read_bytes() for made in WHEELS},
            part=part.read_bytes(),
            journal=part.with_suffix(".json").read_bytes(),
            catalog=(store.root / "v1" / "catalog.sqlite").read_bytes(),
        )

    def write(self, store: Store, part: Path) -> None:
        for made, data in self.blobs.items():
            overwrite(store.blob(made.digest), data)
        part.write_bytes(self.part)
        part.with_suffix(".json").write_bytes(self.journal)
        (store.root / "v1" / "catalog.sqlite").write_bytes(self.catalog)

    def damage(self, chance: random.Random) -> None:
        """Damages one thing, or lets two blobs change places."""
        what = chance.choice(["blob", "blob", "part", "journal", "catalog", "catalog", "swap"])
        if what == "blob":
            made = chance.choice(WHEELS)
            if self.blobs[made]:
                self.blobs[made] = chance.choice(DAMAGES)(chance, self.blobs[made])
        elif what == "swap":
            one, two = chance.sample(WHEELS, 2)
            self.blobs[one], self.blobs[two] = self.blobs[two], self.blobs[one]
        elif before := getattr(self, what):
            setattr(self, what, chance.choice(DAMAGES)(chance, before))


def catalogued(store: Store) -> tuple:
    """All that the catalog says, read back as everybody reads it."""
    again = Store.open(store.root)
    return again.known(), again.host_records(), [again.piece_checks(made.digest) for made in WHEELS]


def differing(data: bytes, made: MadeWheel, count: int | None = None) -> set[int]:
    """The pieces of which bytes are others than the wheel's; of the first *count*."""
    pieces = range(-(-made.size // PIECE) if count is None else count)
    return {i for i in pieces if data[i * PIECE :][:PIECE] != made.data[i * PIECE :][:PIECE]}


def damaged_lines(before: bytes, after: bytes) -> set[int]:
    """The pieces whose lines are others."""
    starts = {index: (index + 1) * LINE_BYTES for index in range(BEGUN_PIECES)}
    return {i for i, start in starts.items() if before[start:][:LINE_BYTES] != after[start:][:LINE_BYTES]}


@pytest.mark.parametrize("seed", range(120))
def test_damage_is_found_or_hurts_nothing_and_costs_what_is_damaged(sync: Syncs, store: Store, server: Server, seed):
    chance = random.Random(seed)
    urls = {made.digest: server.put_wheel(made) for made in (*WHEELS, BEGUN)}
    part = begin(store, BEGUN, (0, BEGUN_PIECES * PIECE))
    store.keep_host_records([HOST])
    said = catalogued(store)
    sizes = {made.digest: made.size for made in (*WHEELS, BEGUN)}
    sound = Content.of(store, part)
    now = Content.of(store, part)
    for _ in range(chance.choice([1, 1, 2, 3, 6])):
        now.damage(chance)
    now.write(store, part)

    # Found, without a repair.
    is_catalog_damaged = bool(check_catalog(store.root / "v1" / "catalog.sqlite"))
    if not is_catalog_damaged:
        assert catalogued(store) == said
    findings = verify(store, sizes=sizes).findings
    rotten = {made for made in WHEELS if now.blobs[made] != made.data}
    assert {finding.digest for finding in findings if finding.path.is_relative_to(store.root / "v1" / "blobs")} == {
        made.digest for made in rotten
    }
    assert any(finding.kind == "catalog" for finding in findings) == is_catalog_damaged
    begun = {finding.path.suffix for finding in findings if finding.digest == BEGUN.digest}
    if not begun:
        assert not differing(now.part, BEGUN, BEGUN_PIECES)
        assert parse_journal(now.journal)[1][:BEGUN_PIECES] == parse_journal(sound.journal)[1][:BEGUN_PIECES]
    else:
        assert (now.part, now.journal) != (sound.part, sound.journal)
    assert {finding.kind for finding in findings} <= {"rot", "catalog", "journal", "partial"}

    # Repaired, as `verify --repair` does it.
    now.write(store, part)
    if is_catalog_damaged:
        put_catalog_aside(store)
    checked = {made for made in WHEELS if Store.open(store.root).piece_checks(made.digest)}
    assert checked == set(WHEELS) or now.catalog != sound.catalog
    mended = mend(Store.open(store.root), verify(store, sizes=sizes).findings)
    assert set(mended.missing) == {made.digest for made in rotten}
    fetched = Syncs(store.root, settings=sync.settings)(*[made.locked(urls[made.digest]) for made in (*WHEELS, BEGUN)])
    assert [result.error for result in fetched if result.error] == []

    # Fetched: just what is damaged; where a blob's checksums are lost with it, that blob.
    costs = {
        made.digest: PIECE * len(differing(now.blobs[made], made)) if made in checked else made.size for made in rotten
    }
    lost = differing(now.part, BEGUN, BEGUN_PIECES) | damaged_lines(sound.journal, now.journal)
    costs[BEGUN.digest] = MISSING + PIECE * len(lost)
    for result in fetched:
        assert result.bytes_fetched <= costs.get(result.wheel.digest, 0)
    assert server.sent() <= sum(costs.values())

    # And all is well again.
    assert found(store) == []
    assert all(store.blob(made.digest).read_bytes() == made.data for made in (*WHEELS, BEGUN))
    if now.catalog == sound.catalog:
        assert catalogued(store)[1].items() >= said[1].items()


def test_any_flipped_bit_in_the_catalog_is_found_or_hurts_nothing(store: Store):
    """Every bit of a page's head and of what the rows begin with; elsewhere some."""
    store.keep_host_records([HOST])
    said = catalogued(store)
    file = store.root / "v1" / "catalog.sqlite"
    data = file.read_bytes()
    chance = random.Random(1)
    starts = range(0, 8 * len(data), 8 * BLOCK)
    bits = [start + bit for start in starts for bit in range(8 * 12)] + chance.sample(range(8 * len(data)), 600)
    for bit in bits:
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        file.write_bytes(flipped)
        if not check_catalog(file):
            assert catalogued(store) == said, bit
