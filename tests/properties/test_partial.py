"""A partial through crashes, power cuts, rot and lies: what counts was given, and what is published is exact."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import zlib
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from wheelcache.digest import digest_of_bytes, hex_of
from wheelcache.journal import LINE_BYTES, Head, Mark, line_of, read_journal
from wheelcache.partial import Partial, usable_bytes
from wheelcache.seeds import write_seed
from wheelcache.spans import Span, split_point, unclaimed

PIECES = st.sampled_from([64, 100, 256, 1024])
RATES = st.sampled_from([0.0, 50.0, 1000.0])


@st.composite
def files(draw) -> bytes:
    """A file whose bytes all differ from their neighbours', so that none passes for another."""
    size = draw(st.integers(1, 3000))
    block = hashlib.sha256(size.to_bytes(4)).digest()
    return b"PK\3\4"[:size] + (block * (size // 32 + 1))[: max(size - 4, 0)]


@dataclass(eq=False)
class Part:
    """A part of the file that one connection brings."""

    position: int
    end: int
    is_lying: bool

    def span(self) -> Span:
        return Span(start=self.position, end=self.end)


class PartialMachine(RuleBasedStateMachine):
    """Drives one partial as a sync's threads, crashes and disks would, beside a plain model of its bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="partial-"))
        self.lives = 0
        self.boots = 0
        self.parts: list[Part] = []
        self.partial: Partial | None = None

    @initialize(truth=files(), piece=PIECES, earlier=st.binary(max_size=600))
    def begin(self, truth, piece, earlier):
        self.truth, self.digest = truth, digest_of_bytes(truth)
        self.folder = self.root / "0"
        self.folder.mkdir()
        self.model: dict[int, bytearray] = {}
        self.given = [{byte} for byte in truth]
        self.is_unsynced_replaced: set[int] = set()
        self.synced: dict[int, int] = {}
        self.piece = piece
        if earlier:  # a lockfile that did not say the size, and a server that gave what it liked
            partial = Partial(self.folder, self.digest, boot="boot 0", size=None, piece=piece)
            partial.write(0, earlier)
            partial.close()
            self.give(0, earlier)
            for index in [index for index, held in self.model.items() if index * piece + len(held) > len(truth)]:
                del self.model[index]
        self.open()
        self.journal = self.journal_file.read_bytes()

    def teardown(self):
        try:
            if self.partial is not None:
                self.finish()
        finally:
            if self.partial is not None:
                self.partial.close()
            shutil.rmtree(self.root)

    @property
    def part_file(self) -> Path:
        return self.folder / f"{hex_of(self.digest)}.part"

    @property
    def journal_file(self) -> Path:
        return self.part_file.with_suffix(".json")

    def open(self) -> None:
        self.partial = Partial(
            self.folder, self.digest, boot=f"boot {self.boots}", size=len(self.truth), piece=self.piece
        )

    def give(self, position: int, data: bytes) -> int:
        """Takes bytes into the model as a partial is to; returns those that are new."""
        new = 0
        for place, byte in enumerate(data, position):
            held = self.model.setdefault(place // self.piece, bytearray())
            if len(held) == place % self.piece:
                held.append(byte)
                new += 1
                if place < len(self.given):
                    self.given[place].add(byte)
        return new

    def bytes_at(self, position: int, count: int, *, is_lying: bool) -> bytes:
        data = self.truth[position : position + count]
        return bytes(byte ^ 0x55 for byte in data) if is_lying else data

    # What threads do.

    @precondition(lambda self: len(self.parts) < 4)
    @rule(which=st.integers(0, 3), is_lying=st.booleans(), length=st.none() | st.integers(1, 5))
    def claim(self, which, is_lying, length):
        free = unclaimed(self.partial.missing(), [part.span() for part in self.parts], piece=self.piece)
        if free:
            span = free[which % len(free)]
            end = span.end
            if length is not None:
                end = min(end, (span.start // self.piece + length) * self.piece)
            self.parts.append(Part(span.start, end, is_lying))

    @precondition(lambda self: self.parts)
    @rule(which=st.integers(0, 3), count=st.integers(1, 700))
    def bring(self, which, count):
        part = self.parts[which % len(self.parts)]
        data = self.bytes_at(part.position, min(count, part.end - part.position), is_lying=part.is_lying)
        assert self.partial.write(part.position, data) == len(data) == self.give(part.position, data)
        part.position += len(data)
        if part.position == part.end:
            self.parts.remove(part)

    @precondition(lambda self: not self.parts)
    @rule(count=st.integers(1, 3000), is_lying=st.booleans())
    def bring_from_zero(self, count, is_lying):
        data = self.bytes_at(0, count, is_lying=is_lying)
        assert self.partial.write(0, data) == self.give(0, data)

    @precondition(lambda self: self.parts)
    @rule(which=st.integers(0, 3))
    def cut(self, which):
        self.parts.pop(which % len(self.parts))

    @precondition(lambda self: self.parts and len(self.parts) < 4)
    @rule(which=st.integers(0, 3), rate=RATES, other=RATES, is_lying=st.booleans())
    def share(self, which, rate, other, is_lying):
        part = self.parts[which % len(self.parts)]
        point = split_point(part.span(), piece=self.piece, rate=rate, other_rate=other)
        if point is None:
            return
        assert part.position <= point < part.end
        if point == part.position:
            self.parts.remove(part)
        else:
            assert point % self.piece == 0
        self.parts.append(Part(point, part.end, is_lying))
        part.end = point

    @rule()
    def flush(self):
        self.partial.flush()
        self.note_synced()

    def note_synced(self) -> None:
        if self.synced != {index: len(held) for index, held in self.model.items() if held}:
            self.synced = {index: len(held) for index, held in self.model.items() if held}
            self.is_unsynced_replaced.clear()
            self.journal = self.journal_file.read_bytes()

    @precondition(lambda self: not self.parts and self.model)
    @rule(which=st.integers(0, 50), is_lying=st.booleans())
    def replace(self, which, is_lying):
        complete = [
            index
            for index, held in self.model.items()
            if len(held) == min(self.piece, len(self.truth) - index * self.piece)
        ]
        if not complete:
            return
        index = complete[which % len(complete)]
        data = self.bytes_at(index * self.piece, self.piece, is_lying=is_lying)
        self.partial.replace_piece(index, data)
        self.model[index] = bytearray()
        self.give(index * self.piece, data)
        self.synced.pop(index, None)
        self.is_unsynced_replaced.add(index)
        journal = bytearray(self.journal_file.read_bytes())
        journal[(index + 1) * LINE_BYTES : (index + 2) * LINE_BYTES] = line_of(Mark())
        self.journal = bytes(journal)

    # What machines do.

    def next_life(self) -> None:
        """Copies what the system would find, without telling the partial, as kill -9 does not."""
        self.lives += 1
        folder = self.root / str(self.lives)
        shutil.copytree(self.folder, folder)
        self.partial.close()
        self.folder = folder
        self.parts.clear()

    def take_over(self) -> None:
        """Opens what is there and makes the model say what counts now."""
        before = usable_bytes(self.folder, self.digest, boot=f"boot {self.boots}")
        self.open()
        assert self.partial.present <= max(before, 0)
        counts = self.partial.counts()
        self.piece = self.partial.piece
        self.model = {index: bytearray(self.partial.read_piece(index)) for index in range(len(counts))}
        for index, held in self.model.items():
            assert len(held) == counts[index]
            for place, byte in enumerate(held, index * self.piece):
                assert byte in self.given[place], f"byte {place} was never given"

    @rule()
    def kill(self):
        expected = {index: bytes(held) for index, held in self.model.items() if held}
        self.next_life()
        self.take_over()
        assert {index: bytes(held) for index, held in self.model.items() if held} == expected

    @rule(keeps=st.lists(st.booleans(), max_size=8), garbage=st.binary(min_size=1, max_size=8), cut=st.booleans())
    def cut_power(self, keeps, garbage, cut):
        expected = {index: bytes(self.model[index][:count]) for index, count in self.synced.items() if count}
        is_replaced = set(self.is_unsynced_replaced)
        self.next_life()
        self.boots += 1
        data = bytearray(self.part_file.read_bytes()) if self.part_file.exists() else bytearray()
        for place in range(len(data)):
            if place % self.piece >= len(expected.get(place // self.piece, b"")):
                data[place] = garbage[place % len(garbage)]
        ends = [index * self.piece + len(held) for index, held in expected.items()]
        if cut:
            del data[max(ends, default=0) :]
        self.part_file.write_bytes(data)
        if self.journal_file.exists():
            now = self.journal_file.read_bytes()
            lines = [now[start : start + LINE_BYTES] for start in range(0, len(now), LINE_BYTES)]
            for number, keep in enumerate(
                keeps, 1
            ):  # a line that changed since the last sync is the old one, or the new
                if keep and number < len(lines):
                    lines[number] = self.journal[number * LINE_BYTES : (number + 1) * LINE_BYTES]
            self.journal_file.write_bytes(b"".join(lines))
        self.take_over()
        for index, held in self.model.items():
            if index not in is_replaced:
                assert bytes(held) == expected.get(index, b""), f"piece {index}"
        self.synced = {index: len(held) for index, held in self.model.items() if held}
        self.is_unsynced_replaced.clear()
        self.journal = self.journal_file.read_bytes()

    @rule(is_journal=st.booleans(), place=st.integers(0, 4000), bit=st.integers(0, 7))
    def rot(self, is_journal, place, bit):
        expected = {index: bytes(held) for index, held in self.model.items() if held}
        piece = self.piece
        self.next_life()
        file = self.journal_file if is_journal else self.part_file
        data = bytearray(file.read_bytes()) if file.exists() else bytearray()
        if data:
            place %= len(data)
            data[place] ^= 1 << bit
            file.write_bytes(data)
        self.take_over()
        if not is_journal or place >= LINE_BYTES:
            damaged = place // LINE_BYTES - 1 if is_journal else place // piece
            kept = {index: bytes(held) for index, held in self.model.items() if held}
            assert {index: held for index, held in kept.items() if index != damaged} == {
                index: held for index, held in expected.items() if index != damaged
            }
        self.synced = {index: min(self.synced.get(index, 0), len(held)) for index, held in self.model.items() if held}
        if self.piece != piece:
            self.synced = {}
        self.journal = self.journal_file.read_bytes()
        self.partial.flush()
        self.note_synced()

    # What always holds.

    @invariant()
    def what_is_there_and_what_is_missing_are_the_whole(self):
        if self.partial is None:
            return
        missing = self.partial.missing()
        assert self.partial.present == sum(self.partial.counts()) == sum(len(held) for held in self.model.values())
        assert self.partial.present + sum(span.length for span in missing) == len(self.truth)
        assert all(first.end < second.start for first, second in pairwise(missing))
        assert self.partial.is_complete == (not missing)
        for index, held in self.model.items():
            if index < len(self.partial.checks()):
                assert self.partial.checks()[index] == zlib.crc32(held)

    @invariant()
    def no_piece_has_two_connections(self):
        pieces = [
            set(range(part.position // self.piece, -(-part.end // self.piece)))
            for part in self.parts
            if part.end > part.position
        ]
        assert sum(map(len, pieces)) == len(set().union(*pieces))

    @invariant()
    def the_digest_is_that_of_the_bytes(self):
        if self.partial is not None and self.partial.is_complete:
            assert self.partial.digest() == digest_of_bytes(self.content())

    def content(self) -> bytes:
        return b"".join(bytes(self.model[index]) for index in sorted(self.model))

    def finish(self) -> None:
        """An honest source ends it, however it stands, and what is published is the file."""
        for span in self.partial.missing():
            data = self.truth[span.start : span.end]
            assert self.partial.write(span.start, data) == len(data) == self.give(span.start, data)
        for index in range(-(-len(self.truth) // self.piece)):
            right = self.truth[index * self.piece : (index + 1) * self.piece]
            if self.partial.read_piece(index) != right:
                assert self.partial.digest() != self.digest
                self.partial.replace_piece(index, right)
        assert self.partial.digest() == self.digest
        blob = self.root / "blobs" / "aa" / "blob"
        blob.parent.parent.mkdir(exist_ok=True)
        self.partial.publish(blob)
        assert blob.read_bytes() == self.truth


TestPartial = PartialMachine.TestCase
TestPartial.settings = settings(max_examples=120, stateful_step_count=25, deadline=None)


# Journals.


def numbers() -> st.SearchStrategy[int]:
    return st.integers(-5, 300) | st.integers()


@st.composite
def journals(draw) -> bytes:
    """Something that may be a journal, a damaged one, or none at all."""
    if draw(st.booleans()):
        return draw(st.binary(max_size=600))
    head = Head(boot=draw(st.sampled_from(["", "b", "c"])), size=draw(st.none() | numbers()), piece=draw(numbers()))
    marks = [
        Mark(written=draw(numbers()), crc=draw(numbers()), synced=draw(numbers()), synced_crc=draw(numbers()))
        for _ in range(draw(st.integers(0, 4)))
    ]
    data = bytearray(b"".join([line_of(head), *map(line_of, marks)]))
    for place, value in draw(st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), max_size=3)):
        data[place % len(data)] = value
    return bytes(data[: draw(st.integers(0, len(data)))])


@given(journals(), st.binary(max_size=700), st.sampled_from(["", "b"]))
@settings(max_examples=300, deadline=None)
def test_any_bytes_can_be_a_journal_and_never_count_for_more_than_the_file_has(journal, data, boot):
    with tempfile.TemporaryDirectory() as name:
        folder, digest = Path(name), digest_of_bytes(b"")
        (folder / f"{hex_of(digest)}.json").write_bytes(journal)
        head, marks = read_journal(folder / f"{hex_of(digest)}.json")
        assert head is not None or not marks
        for mark in marks:
            assert 0 <= mark.synced <= mark.written <= head.piece
        (folder / f"{hex_of(digest)}.part").write_bytes(data)
        assert 0 <= usable_bytes(folder, digest, boot=boot) <= len(data)


@given(journals(), st.binary(max_size=700), st.none() | st.integers(1, 700))
@settings(max_examples=300, deadline=None)
def test_any_journal_beside_any_bytes_can_be_adopted(journal, data, size):
    with tempfile.TemporaryDirectory() as name:
        folder, digest = Path(name), digest_of_bytes(b"")
        (folder / f"{hex_of(digest)}.json").write_bytes(journal)
        (folder / f"{hex_of(digest)}.part").write_bytes(data)
        partial = Partial(folder, digest, boot="b", size=size, piece=64)
        try:
            assert partial.present == sum(partial.counts()) <= len(data)
            for index, count in enumerate(partial.counts()):
                assert partial.read_piece(index) == data[index * partial.piece : index * partial.piece + count]
            if size is not None:
                assert partial.present + sum(span.length for span in partial.missing()) == size
        finally:
            partial.close()


# Sizes that turn out to be others.


@given(truth=files(), piece=PIECES, tail=st.binary(min_size=1, max_size=300))
@settings(max_examples=40, deadline=None)
def test_a_blob_that_grew_is_published_again_without_what_was_added(truth, piece, tail):
    with tempfile.TemporaryDirectory() as name:
        folder, digest = Path(name), digest_of_bytes(truth)
        (folder / f"{hex_of(digest)}.part").write_bytes(truth + tail)
        crcs = [zlib.crc32(truth[start : start + piece]) for start in range(0, len(truth), piece)]
        write_seed(folder, digest, boot="b", size=len(truth), piece=piece, crcs=crcs)
        partial = Partial(folder, digest, boot="b", size=None)
        assert partial.digest() == digest
        (folder / "blobs").mkdir()
        found = partial.publish(folder / "blobs" / "aa" / "blob")
        partial.close()
        assert (folder / "blobs" / "aa" / "blob").read_bytes() == truth
        assert found.st_size == len(truth)


@given(size=st.integers(1, 600), excess=st.integers(1, 600), piece=PIECES)
@settings(max_examples=60, deadline=None)
def test_a_size_that_is_less_than_what_came_leaves_a_partial_that_can_still_become_whole(size, excess, piece):
    with tempfile.TemporaryDirectory() as name:
        partial = Partial(Path(name), digest_of_bytes(b""), boot="b", size=None, piece=piece)
        try:
            partial.write(0, bytes(size + excess))
            partial.assume(size)
            assert partial.present + sum(span.length for span in partial.missing()) == size
        finally:
            partial.close()


@given(size=st.integers(1, 600), excess=st.integers(1, 600), piece=PIECES)
@settings(max_examples=60, deadline=None)
def test_bytes_beyond_the_end_are_not_written(size, excess, piece):
    with tempfile.TemporaryDirectory() as name:
        partial = Partial(Path(name), digest_of_bytes(b""), boot="b", size=size, piece=piece)
        try:
            partial.write(0, bytes(size + excess))
            assert partial.is_complete
        finally:
            partial.close()
