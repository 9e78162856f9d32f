"""Syncs over bytes that are wrong: after power cuts, of rotten files, from liars."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from support.server import Busy, Respond, Serve, Server
from support.syncs import IN_PIECES, MB, PIECE, Syncs
from support.wheels import make_wheel

from wheelcache.errors import IntegrityError
from wheelcache.events import (
    Note,
)
from wheelcache.journal import LINE_BYTES, Head, Mark, line_of, read_journal
from wheelcache.rates import LARGEST_READ

WHEEL = make_wheel("big", size=4 * MB)
PATH = f"/files/{WHEEL.filename}"
FAST = 8 * MB
ALONE = replace(IN_PIECES, connections=1)


@pytest.fixture
def sync(tmp_path):
    return Syncs(tmp_path / "cache", settings=IN_PIECES)


def flip(file: Path, *places: int) -> None:
    """Lets bytes of a file rot."""
    file.chmod(0o644)
    with file.open("r+b") as opened:
        for place in places:
            opened.seek(place)
            byte = opened.read(1)[0]
            opened.seek(place)
            opened.write(bytes([byte ^ 0xFF]))


class TestAPowerCut:
    def test_leaves_what_reached_the_disk(self, sync, server):
        url = server.put_wheel(WHEEL)
        partial = sync.store.partial(WHEEL.locked(), piece=PIECE)
        partial.write(0, WHEEL.data[: 3 * PIECE + 100])
        partial.write(20 * PIECE, WHEEL.data[20 * PIECE : 22 * PIECE])
        partial.flush()
        synced = partial.present
        partial.write(3 * PIECE + 100, WHEEL.data[3 * PIECE + 100 : 6 * PIECE])
        partial.write(40 * PIECE, WHEEL.data[40 * PIECE : 41 * PIECE])
        partial.close()
        journal = sync.partial_file(WHEEL).with_suffix(".json")
        head, _ = read_journal(journal)
        with journal.open("r+b") as opened:
            opened.write(line_of(replace(head, boot="an earlier start")))
        flip(sync.partial_file(WHEEL), 4 * PIECE, 40 * PIECE)  # what never reached the disk is anything now
        assert sync.store.partial_bytes(WHEEL.digest) == synced
        [result] = sync(WHEEL.locked(url), settings=ALONE)
        assert (result.state, result.bytes_fetched) == ("resumed", WHEEL.size - synced)
        assert sync.holds(WHEEL)

    def test_costs_nothing_more_than_a_crash_where_all_was_synced(self, sync, server):
        url = server.put_wheel(WHEEL)
        partial = sync.store.partial(WHEEL.locked(), piece=PIECE)
        partial.write(0, WHEEL.data[: 5 * PIECE + 17])
        partial.flush()
        partial.close()
        [result] = sync(WHEEL.locked(url), settings=ALONE)
        assert result.bytes_fetched == WHEEL.size - 5 * PIECE - 17


class TestRot:
    def test_of_a_piece_in_a_partial_costs_that_piece(self, sync, server):
        url = server.put_wheel(WHEEL)
        kept = sync.keep(WHEEL, (0, 10 * PIECE), (20 * PIECE, 30 * PIECE))
        flip(sync.partial_file(WHEEL), 3 * PIECE + 5, 29 * PIECE)
        [result] = sync(WHEEL.locked(url), settings=ALONE)
        assert (result.state, result.bytes_fetched) == ("resumed", WHEEL.size - kept + 2 * PIECE)
        assert sync.holds(WHEEL)

    def test_of_a_line_of_the_journal_costs_that_piece(self, sync, server):
        url = server.put_wheel(WHEEL)
        kept = sync.keep(WHEEL, (0, 10 * PIECE))
        with sync.partial_file(WHEEL).with_suffix(".json").open("r+b") as journal:
            journal.seek(LINE_BYTES * 4)
            journal.write(b"\0" * LINE_BYTES)
        [result] = sync(WHEEL.locked(url), settings=ALONE)
        assert result.bytes_fetched == WHEEL.size - kept + PIECE
        assert sync.holds(WHEEL)

    def test_of_a_blob_costs_the_damaged_pieces(self, sync, server):
        url = server.put_wheel(WHEEL)
        sync(WHEEL.locked(url))
        blob = sync.store.blob(WHEEL.digest)
        flip(blob, 7 * PIECE + 3, WHEEL.size - 1)
        rotten = blob.read_bytes()
        os.utime(blob, (1, 1))
        later = sync.again()
        [result] = later(WHEEL.locked(url))
        assert result.state == "resumed"
        assert result.bytes_fetched == PIECE + (WHEEL.size - 1) % PIECE + 1
        assert later.holds(WHEEL)
        assert (sync.store.root / "v1" / "quarantine" / blob.name).read_bytes() == rotten

    @pytest.mark.parametrize("change", ["longer", "shorter"])
    def test_of_a_blobs_length_is_mended_too(self, sync, server, change):
        url = server.put_wheel(WHEEL)
        sync(WHEEL.locked(url))
        blob = sync.store.blob(WHEEL.digest)
        blob.chmod(0o644)
        blob.write_bytes(WHEEL.data + b"more" if change == "longer" else WHEEL.data[: 30 * PIECE - 5])
        later = sync.again()
        [result] = later(WHEEL.locked(url), settings=ALONE)
        assert later.holds(WHEEL)
        assert result.bytes_fetched == (0 if change == "longer" else WHEEL.size - 29 * PIECE)
        assert later.again().store.has(WHEEL.locked())

    @pytest.mark.parametrize("piece", [1 << 62, 10**40])
    def test_of_a_journal_into_what_no_file_can_be_is_no_defect(self, sync, server, piece):
        url = server.put_wheel(WHEEL)
        sync.keep(WHEEL, (0, PIECE))
        journal = sync.partial_file(WHEEL).with_suffix(".json")
        head, _ = read_journal(journal)
        journal.write_bytes(
            line_of(Head(boot=head.boot, size=WHEEL.size, piece=piece)) + line_of(Mark(written=piece, crc=1))
        )
        [result] = sync(WHEEL.locked(url))
        assert result.error == ""
        assert sync.holds(WHEEL)


class TestLiars:
    def prepare(self, *servers: Server, rate: float = FAST) -> list[str]:
        urls = [server.put_wheel(WHEEL) for server in servers]
        for server in servers:
            server.script(PATH, then=Serve(rate=rate))
        return urls

    def named(self, sync: Syncs) -> set[str]:
        """The URLs that were said to have given wrong bytes."""
        lines = [event.message for event in sync.events if isinstance(event, Note) and "wrong bytes" in event.message]
        return {line.partition(": ")[2].partition(": wrong bytes")[0] for line in lines}

    @pytest.mark.parametrize("first", [True, False], ids=["the lockfile's own URL", "the second URL"])
    @pytest.mark.parametrize(
        "lie",
        [
            Serve(corrupt=True, rate=FAST),
            Serve(corrupt=(0, 4), rate=FAST),
            Serve(corrupt=(10 * PIECE, 30 * PIECE), rate=FAST),
            Serve(corrupt_at=5 * PIECE, rate=FAST),
            Serve(corrupt_at=WHEEL.size - 1, rate=FAST),
            Serve(corrupt_at=(PIECE, 20 * PIECE - 1, 40 * PIECE), rate=FAST),
        ],
        ids=["everywhere", "the first bytes", "a third", "one byte", "the last byte", "three bytes"],
    )
    def test_in_a_mixture_are_named_and_the_wheel_is_right(self, sync, server, other, first, lie):
        urls = self.prepare(server, other)
        server.script(PATH, then=lie)
        honest = urls[1]
        [result] = sync(WHEEL.locked(*(urls if first else reversed(urls))))
        assert result.error == ""
        assert sync.holds(WHEEL)
        assert honest not in self.named(sync)
        assert result.bytes_fetched <= 3 * WHEEL.size + 4 * LARGEST_READ  # at worst the liar is believed once

    def test_that_gave_a_part_cost_that_part_again(self, sync, server, other):
        urls = self.prepare(server, other)
        server.script(PATH, Serve(corrupt=True, cut_after=MB), then=Respond(status=404))
        [result] = sync(WHEEL.locked(*urls), settings=replace(IN_PIECES, connections=1))
        assert sync.holds(WHEEL)
        wrong = -(-MB // PIECE) * PIECE
        assert result.bytes_fetched <= WHEEL.size + wrong + 4 * PIECE

    def test_of_an_earlier_run_cost_what_they_gave(self, sync, server):
        [url] = self.prepare(server)
        partial = sync.store.partial(WHEEL.locked(), piece=PIECE)
        partial.write(0, WHEEL.data[: 3 * PIECE] + bytes(2 * PIECE) + WHEEL.data[5 * PIECE : 10 * PIECE])
        partial.close()
        [result] = sync(WHEEL.locked(url))
        assert sync.holds(WHEEL)
        assert url not in self.named(sync)
        assert result.bytes_fetched <= WHEEL.size

    def test_alone_are_an_integrity_error_and_nothing_is_kept(self, sync, server):
        [url] = self.prepare(server)
        server.script(PATH, then=Serve(corrupt_at=9 * PIECE, rate=FAST))
        [result] = sync(WHEEL.locked(url))
        assert isinstance(result.failure, IntegrityError)
        assert self.named(sync) == {url}
        assert not sync.store.blob(WHEEL.digest).exists()
        assert sync.store.partial_bytes(WHEEL.digest) == 0

    def test_of_one_mind_are_an_integrity_error_that_names_both_and_nothing_is_kept(self, sync, server, other):
        urls = self.prepare(server, other)
        for each in (server, other):
            each.script(PATH, then=Serve(corrupt=(PIECE, 9 * PIECE), rate=FAST))
        [result] = sync(WHEEL.locked(*urls))
        assert isinstance(result.failure, IntegrityError)
        assert all(url in result.error for url in urls)
        assert sync.store.partial_bytes(WHEEL.digest) == 0
        assert not sync.store.blob(WHEEL.digest).exists()

    @pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0), (2, 0, 1)])
    def test_of_two_minds_do_not_hide_the_one_who_is_right(self, sync, server, other, third, order):
        urls = self.prepare(server, other, third)
        server.script(PATH, then=Serve(corrupt=True, rate=FAST))
        other.script(PATH, then=Serve(corrupt=(PIECE // 2, WHEEL.size), rate=FAST))
        [result] = sync(WHEEL.locked(*(urls[place] for place in order)))
        assert result.error == ""
        assert sync.holds(WHEEL)
        assert urls[2] not in self.named(sync)

    def test_never_reach_the_store_while_the_honest_one_is_out(self, sync, server, other):
        urls = self.prepare(server, other)
        server.script(PATH, then=Serve(corrupt_at=PIECE, rate=FAST))
        other.script(PATH, Busy(seconds=1), Busy(seconds=1))
        [result] = sync(WHEEL.locked(*urls))
        assert sync.holds(WHEEL)
        assert result.source == urls[1]
