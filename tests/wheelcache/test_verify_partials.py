"""Verifying what is begun: partials, their journals, and what is left of them."""

from __future__ import annotations

import time
import zlib
from dataclasses import replace

import pytest
from support.stores import begin, flip, found, mend, verify
from support.syncs import PIECE
from support.wheels import make_wheel

from wheelcache.journal import LINE_BYTES, Head, Mark, line_of, read_journal
from wheelcache.roots import Roots

DAY = 86_400.0


class TestPartials:
    BEGUN = make_wheel("begun", size=600_000)

    def test_with_rotten_pieces_are_found_and_cost_those_pieces(self, sync, server):
        part = begin(sync.store, self.BEGUN, (0, 6 * PIECE))
        flip(part, 2 * PIECE + 7)
        report = verify(sync.store)
        [finding] = report.findings
        assert (finding.kind, finding.path, finding.digest) == ("rot", part, self.BEGUN.digest)
        assert finding.found == "others in piece 2"
        assert mend(sync.store, report.findings).repaired == report.findings
        assert found(sync.store) == []
        assert sync.store.partial_bytes(self.BEGUN.digest) == 5 * PIECE
        [result] = sync(self.BEGUN.locked(server.put_wheel(self.BEGUN)))
        assert result.bytes_fetched == self.BEGUN.size - 5 * PIECE

    @pytest.mark.parametrize("line", [1, 3])
    def test_with_a_damaged_line_of_the_journal_lose_that_piece(self, sync, line):
        part = begin(sync.store, self.BEGUN, (0, 6 * PIECE))
        flip(part.with_suffix(".json"), line * LINE_BYTES + 3)
        report = verify(sync.store)
        assert [finding.kind for finding in report.findings] == ["journal"]
        mend(sync.store, report.findings)
        assert found(sync.store) == []
        assert sync.store.partial_bytes(self.BEGUN.digest) == 5 * PIECE

    @pytest.mark.parametrize("spoil", ["flip", "zero", "piece", "bytes"])
    def test_with_a_damaged_head_lose_nothing(self, sync, spoil):
        part = begin(sync.store, self.BEGUN, (0, 6 * PIECE))
        journal = part.with_suffix(".json")
        head, _ = read_journal(journal)
        with journal.open("r+b") as opened:
            if spoil == "piece":
                opened.write(line_of(replace(head, piece=PIECE * 2)))
            elif spoil == "zero":
                opened.write(bytes(LINE_BYTES))
            elif spoil == "bytes":
                opened.write(b"\xff\xfe")
        if spoil == "flip":
            flip(journal, 1)
        report = verify(sync.store)
        assert {finding.kind for finding in report.findings} == {"journal"}
        mend(sync.store, report.findings)
        assert found(sync.store) == []
        assert sync.store.partial_bytes(self.BEGUN.digest) == 6 * PIECE

    @pytest.mark.parametrize("text", [b'"size": 6', b'"boot": "', b'"piece": 6', b'"check": '])
    def test_with_any_flipped_bit_in_the_head_lose_nothing(self, sync, text):
        part = begin(sync.store, self.BEGUN, (0, 6 * PIECE))
        journal = part.with_suffix(".json")
        flip(journal, journal.read_bytes().index(text) + len(text))
        report = verify(sync.store)
        assert [finding.kind for finding in report.findings] == ["journal"]
        mend(sync.store, report.findings)
        assert found(sync.store) == []
        assert sync.store.partial_bytes(self.BEGUN.digest) == 6 * PIECE

    @pytest.mark.parametrize(
        ("spoil", "left"),
        [
            (lambda data: data[: 4 * LINE_BYTES], 3),
            (lambda data: data[: 4 * LINE_BYTES + 9], 3),
            (lambda data: data[:LINE_BYTES], 0),
            (lambda data: b"", 0),
            (lambda data: bytes(len(data)), 0),
            (lambda data: data[: 3 * LINE_BYTES] + bytes(LINE_BYTES) + data[4 * LINE_BYTES :], 5),
            (lambda data: data + data[-3 * LINE_BYTES :], 6),
            (lambda data: data + data[3 * LINE_BYTES : 4 * LINE_BYTES], 6),
            (lambda data: b"nothing of ours", 0),
        ],
        ids=["cut", "torn", "head alone", "empty", "zeros", "a zero line", "longer", "a line twice", "other"],
    )
    def test_with_a_journal_of_another_length_or_content_lose_what_it_says_no_more(self, sync, spoil, left):
        part = begin(sync.store, self.BEGUN, (0, 6 * PIECE))
        journal = part.with_suffix(".json")
        journal.write_bytes(spoil(journal.read_bytes()))
        report = verify(sync.store)
        assert {finding.kind for finding in report.findings} == {"journal"} or left == 6
        mend(sync.store, report.findings)
        assert found(sync.store) == []
        assert sync.store.partial_bytes(self.BEGUN.digest) == left * PIECE

    def test_whose_journal_lacks_lines_after_a_power_cut_are_no_finding(self, sync):
        part = begin(sync.store, self.BEGUN, (0, 6 * PIECE))
        journal = part.with_suffix(".json")
        head, _ = read_journal(journal)
        lines = journal.read_bytes()[LINE_BYTES:]
        journal.write_bytes(line_of(replace(head, boot="earlier")) + lines[: 2 * LINE_BYTES] + bytes(LINE_BYTES))
        assert found(sync.store) == []

    def test_whose_size_was_unknown_at_first_have_a_line_for_each_piece(self, sync):
        with sync.store.acquire(self.BEGUN.digest):
            partial = sync.store.partial(replace(self.BEGUN.locked(), size=None), piece=PIECE)
            partial.write(3 * PIECE, self.BEGUN.data[3 * PIECE :][:PIECE])
            partial.assume(self.BEGUN.size)
            partial.close()
        assert found(sync.store) == []

    def test_whose_journal_tells_another_size_than_the_lockfile_are_found(self, sync):
        part = begin(sync.store, self.BEGUN, (0, 2 * PIECE))
        assert found(sync.store, sizes={self.BEGUN.digest: self.BEGUN.size}) == []
        sizes = {self.BEGUN.digest: self.BEGUN.size + 1}
        assert found(sync.store, sizes=sizes) == [("journal", f"partial/{part.stem}.json")]

    def test_that_were_written_before_a_power_cut_are_judged_by_what_was_on_the_disk(self, sync):
        part = begin(sync.store, self.BEGUN, (0, 2 * PIECE))
        journal = part.with_suffix(".json")
        head, marks = read_journal(journal)
        marks[1] = replace(marks[1], synced=1000, synced_crc=zlib.crc32(self.BEGUN.data[PIECE:][:1000]))
        journal.write_bytes(b"".join([line_of(replace(head, boot="earlier")), *map(line_of, marks)]))
        flip(part, PIECE + 5000)
        assert found(sync.store) == []
        flip(part, PIECE + 500)
        assert found(sync.store) == [("rot", f"partial/{part.name}")]

    def test_without_a_journal_are_found_and_put_aside(self, sync):
        part = begin(sync.store, self.BEGUN, (0, PIECE))
        part.with_suffix(".json").unlink()
        report = verify(sync.store)
        assert [finding.kind for finding in report.findings] == ["partial"]
        mend(sync.store, report.findings)
        assert not list(part.parent.iterdir())
        assert (sync.store.root / "v1" / "quarantine" / part.name).stat().st_size == PIECE

    @pytest.mark.parametrize("left", ["journal", "lock", "journal and lock", "partial and journal"])
    def test_without_bytes_are_debris_once_they_are_a_day_old(self, sync, left):
        part = begin(sync.store, self.BEGUN, (0, PIECE))
        part.unlink()
        if "partial" in left:
            part.touch()
            head = Head(boot=sync.store.boot, size=self.BEGUN.size, piece=PIECE)
            part.with_suffix(".json").write_bytes(line_of(head) + line_of(Mark()))
        if "journal" not in left:
            part.with_suffix(".json").unlink()
        if "lock" in left:
            part.with_suffix(".lock").touch()
        names = sorted(file.name for file in part.parent.iterdir())
        assert found(sync.store) == []
        report = verify(sync.store, now=lambda: time.time() + 2 * DAY)
        assert [(finding.kind, finding.digest) for finding in report.findings] == [("debris", self.BEGUN.digest)]
        with sync.store.acquire(self.BEGUN.digest):
            assert verify(sync.store, now=lambda: time.time() + 2 * DAY).findings == []
        assert mend(sync.store, report.findings).repaired == report.findings
        assert list(part.parent.iterdir()) == []
        assert sorted(file.name for file in (sync.store.root / "v1" / "quarantine").iterdir()) == names

    def test_without_bytes_that_somebody_goes_on_with_meanwhile_stay(self, sync):
        part = begin(sync.store, self.BEGUN, (0, PIECE))
        part.unlink()
        findings = verify(sync.store, now=lambda: time.time() + 2 * DAY).findings
        begin(sync.store, self.BEGUN, (0, PIECE))
        mend(sync.store, findings)
        assert sync.store.partial_bytes(self.BEGUN.digest) == PIECE

    def test_that_nobody_touched_for_a_month_are_found_unless_somebody_needs_them(self, sync, tmp_path):
        part = begin(sync.store, self.BEGUN, (0, PIECE))
        later = lambda: time.time() + 31 * DAY  # noqa: E731
        assert found(sync.store, now=lambda: time.time() + 29 * DAY) == []
        assert found(sync.store, now=later) == [("partial", f"partial/{part.name}")]
        with Roots(sync.store.root).lease([self.BEGUN.digest], command="sync"):
            assert found(sync.store, now=later) == []

    def test_that_somebody_writes_to_are_no_findings(self, sync):
        part = begin(sync.store, self.BEGUN, (0, PIECE))
        flip(part, 5)
        with sync.store.acquire(self.BEGUN.digest):
            assert found(sync.store) == []
        assert found(sync.store) == [("rot", f"partial/{part.name}")]
