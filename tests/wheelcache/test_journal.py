"""The journal's lines: read as written, and never believed beyond what they can say."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wheelcache.journal import LINE_BYTES, Head, Mark, line_of, read_journal

HEAD = Head(boot="a start", size=1000, piece=400)
MARKS = [Mark(written=400, crc=7, synced=400, synced_crc=7), Mark(written=300, crc=8, synced=100, synced_crc=9), Mark()]


def write(folder, *lines: bytes):
    file = folder / "x.json"
    file.write_bytes(b"".join(lines))
    return file


def mark_line(**fields: object) -> bytes:
    """A mark's line with other values than ours can have."""
    value = {"written": 400, "crc": 7, "synced": 100, "synced_crc": 7} | fields
    return json.dumps(value).encode().ljust(LINE_BYTES - 1) + b"\n"


class TestALine:
    @pytest.mark.parametrize(
        "value",
        [
            HEAD,
            Mark(),
            Head(boot="f" * 36, size=10**12, piece=1 << 30),
            Head(boot="", size=None, piece=1),
            Mark(written=1 << 30, crc=0xFFFFFFFF, synced=1 << 30, synced_crc=0xFFFFFFFF),
        ],
    )
    def test_has_one_length_so_that_it_can_be_rewritten_in_place(self, value):
        line = line_of(value)
        assert len(line) == LINE_BYTES
        assert line.endswith(b"\n")
        assert 512 % LINE_BYTES == 0  # none crosses a disk's sector


class TestReading:
    def test_gives_what_was_written(self, tmp_path):
        file = write(tmp_path, line_of(HEAD), *map(line_of, MARKS))
        assert read_journal(file) == (HEAD, MARKS)

    def test_of_no_file_vouches_for_nothing(self, tmp_path):
        assert read_journal(tmp_path / "none.json") == (None, [])

    def test_gives_unknown_sizes(self, tmp_path):
        head = Head(boot="", size=None, piece=400)
        assert read_journal(write(tmp_path, line_of(head))) == (head, [])

    @pytest.mark.parametrize("cut", [0, 1, 20, 40])
    def test_of_a_torn_head_vouches_for_nothing(self, tmp_path, cut):
        assert read_journal(write(tmp_path, line_of(HEAD)[:cut])) == (None, [])

    def test_of_a_head_with_a_flipped_bit_believes_no_start_and_no_size(self, tmp_path):
        line = line_of(HEAD)
        for bit in range(8 * LINE_BYTES):
            flipped = bytearray(line)
            flipped[bit // 8] ^= 1 << bit % 8
            head, _ = read_journal(write(tmp_path, bytes(flipped)))
            assert head is None or (head.boot, head.size) == ("", None)

    @pytest.mark.parametrize("torn", [b"\0" * LINE_BYTES, b"{" * LINE_BYTES, b"\xff" * LINE_BYTES, b" " * LINE_BYTES])
    def test_of_a_torn_line_loses_that_piece_alone(self, tmp_path, torn):
        file = write(tmp_path, line_of(HEAD), line_of(MARKS[0]), torn, line_of(MARKS[0]))
        assert read_journal(file) == (HEAD, [MARKS[0], Mark(), MARKS[0]])

    def test_of_a_line_half_old_and_half_new_loses_that_piece_alone(self, tmp_path):
        half = line_of(MARKS[0])[:30] + line_of(Mark(written=123456, crc=99))[30:]
        _, marks = read_journal(write(tmp_path, line_of(HEAD), half, line_of(MARKS[1])))
        assert marks == [Mark(), MARKS[1]]

    def test_of_a_last_line_that_was_cut_loses_that_piece_alone(self, tmp_path):
        file = write(tmp_path, line_of(HEAD), line_of(MARKS[0]), line_of(MARKS[1])[:20])
        assert read_journal(file) == (HEAD, [MARKS[0], Mark()])

    @pytest.mark.parametrize(
        "line",
        [
            mark_line(written=401),
            mark_line(written=-1),
            mark_line(synced=401),
            mark_line(synced=-1),
            mark_line(written=50),
            mark_line(crc=-1),
            mark_line(crc=1 << 32),
            mark_line(synced_crc=1 << 32),
            mark_line(written=True),
            mark_line(written=1.5),
            mark_line(written="400"),
            mark_line(written=None),
            mark_line(written=10**40),
            mark_line(crc=[7]),
            b"[]".ljust(LINE_BYTES),
            b"null".ljust(LINE_BYTES),
            b"NaN".ljust(LINE_BYTES),
        ],
    )
    def test_of_a_mark_that_cannot_be_is_a_piece_without_bytes(self, tmp_path, line):
        assert read_journal(write(tmp_path, line_of(HEAD), line)) == (HEAD, [Mark()])

    @pytest.mark.parametrize(
        "fields",
        [
            {"boot": 5},
            {"boot": None},
            {"size": -1},
            {"size": "1000"},
            {"size": True},
            {"piece": 0},
            {"piece": -400},
            {"piece": None},
            {"piece": 1.5},
        ],
    )
    def test_of_a_head_that_cannot_be_vouches_for_nothing(self, tmp_path, fields):
        value = {"boot": "a start", "size": 1000, "piece": 400} | fields
        head = json.dumps(value).encode().ljust(LINE_BYTES - 1) + b"\n"
        assert read_journal(write(tmp_path, head, line_of(MARKS[0]))) == (None, [])

    @given(st.binary(max_size=4 * LINE_BYTES))
    def test_never_breaks_on_what_stands_there(self, tmp_path_factory, data):
        file = tmp_path_factory.getbasetemp() / "any.json"
        file.write_bytes(line_of(HEAD) + data)
        head, marks = read_journal(file)
        assert head == HEAD
        assert all(0 <= mark.synced <= mark.written <= HEAD.piece for mark in marks)


class TestWhatCounts:
    def test_after_a_mere_crash_is_all_that_was_written(self):
        assert MARKS[1].usable(is_same_boot=True) == MARKS[1]

    def test_after_anything_else_is_what_reached_the_disk(self):
        assert MARKS[1].usable(is_same_boot=False) == Mark(written=100, crc=9, synced=100, synced_crc=9)
