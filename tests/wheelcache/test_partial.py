"""Partials on a real disk: pieces in any order, what survives crashes and power cuts, what rots, what is refused."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import threading
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from support.users import User, Users
from support.wheels import make_wheel

from wheelcache.digest import digest_of_bytes
from wheelcache.errors import StoreError
from wheelcache.journal import LINE_BYTES, Head, Mark, line_of, read_journal
from wheelcache.partial import Partial, usable_bytes
from wheelcache.seeds import write_seed
from wheelcache.spans import Span

PIECE = 10_000
WHEEL = make_wheel(size=95_000)
DATA, DIGEST = WHEEL.data, WHEEL.digest
BOOT = "this start"


@pytest.fixture
def make(tmp_path):
    """Opens partials in one folder; all are closed in the end."""
    made: list[Partial] = []

    def make(*, boot: str = BOOT, size: int | None = WHEEL.size, piece: int = PIECE) -> Partial:
        made.append(Partial(tmp_path, DIGEST, boot=boot, size=size, piece=piece))
        return made[-1]

    yield make
    for partial in made:
        partial.close()


@pytest.fixture
def file(tmp_path) -> Path:
    return tmp_path / f"{DIGEST.removeprefix('sha256:')}.part"


@pytest.fixture
def journal(file) -> Path:
    return file.with_suffix(".json")


def put(partial: Partial, *spans: tuple[int, int]) -> None:
    for start, end in spans:
        partial.write(start, DATA[start:end])


class TestWriting:
    def test_in_any_order_makes_the_whole(self, make):
        partial = make()
        for index in (3, 0, 9, 1, 2, 8, 4, 7, 5, 6):
            put(partial, (index * PIECE, min((index + 1) * PIECE, WHEEL.size)))
        assert partial.is_complete
        assert partial.digest() == DIGEST
        assert partial.missing() == []

    def test_says_what_is_missing(self, make):
        partial = make()
        put(partial, (0, 2_500), (20_000, 41_000))
        assert partial.missing() == [Span(start=2_500, end=20_000), Span(start=41_000, end=WHEEL.size)]
        assert partial.counts()[:5] == [2_500, 0, PIECE, PIECE, 1_000]
        assert partial.present == 23_500
        assert not partial.is_complete

    def test_takes_only_what_is_new(self, make):
        partial = make()
        assert partial.write(0, DATA[:15_000]) == 15_000
        assert partial.write(0, b"?" * 12_000 + DATA[12_000:22_000]) == 7_000
        assert partial.write(5_000, b"?" * 3_000) == 0
        put(partial, (22_000, WHEEL.size))
        assert partial.digest() == DIGEST

    def test_leaves_no_gap_in_a_piece(self, make):
        partial = make()
        assert partial.write(100, DATA[100:PIECE]) == 0
        assert partial.write(PIECE + 1, DATA[PIECE + 1 : 3 * PIECE]) == PIECE  # the piece after it has its beginning
        assert partial.missing() == [Span(start=0, end=2 * PIECE), Span(start=3 * PIECE, end=WHEEL.size)]

    def test_of_nothing_is_nothing(self, make):
        partial = make()
        assert partial.write(0, b"") == 0
        assert partial.write(PIECE, b"") == 0
        assert partial.present == 0

    def test_by_several_threads_to_pieces_of_their_own_is_right(self, make):
        partial = make(piece=1_000)

        def bring(first: int) -> None:
            for start in range(first * 1_000, WHEEL.size, 4_000):
                for position in range(start, min(start + 1_000, WHEEL.size), 300):
                    end = min(position + 300, start + 1_000, WHEEL.size)
                    partial.write(position, DATA[position:end])

        threads = [threading.Thread(target=bring, args=(first,)) for first in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            partial.flush()
            thread.join()
        assert partial.is_complete
        assert partial.digest() == DIGEST
        assert partial.checks() == tuple(zlib.crc32(DATA[at : at + 1_000]) for at in range(0, WHEEL.size, 1_000))

    def test_beyond_what_is_known_of_the_size_is_possible(self, make):
        partial = make(size=None)
        put(partial, (0, 12_000), (30_000, 40_000))
        assert partial.missing() == [Span(start=12_000, end=30_000), Span(start=40_000, end=None)]
        assert not partial.is_complete
        partial.assume(WHEEL.size)
        put(partial, (12_000, 30_000), (40_000, WHEEL.size))
        assert partial.is_complete
        assert partial.digest() == DIGEST


class TestTheDigest:
    def test_is_of_the_bytes_up_to_the_first_gap(self, make):
        partial = make()
        empty = partial.digest()
        put(partial, (20_000, 30_000))
        assert partial.digest() == empty
        put(partial, (0, 20_000))
        assert partial.digest() == digest_of_bytes(DATA[:30_000])

    def test_follows_a_piece_that_is_replaced(self, make):
        partial = make()
        partial.write(0, DATA[:PIECE] + b"?" * PIECE + DATA[2 * PIECE :])
        assert partial.digest() != DIGEST
        partial.replace_piece(1, DATA[PIECE : 2 * PIECE])
        assert partial.is_complete
        assert partial.digest() == DIGEST
        assert partial.read_piece(1) == DATA[PIECE : 2 * PIECE]

    def test_follows_a_last_piece_that_is_replaced(self, make):
        partial = make()
        partial.write(0, DATA[: 9 * PIECE] + b"?" * 5_000)
        partial.replace_piece(9, DATA[9 * PIECE :])
        assert partial.digest() == DIGEST

    def test_is_that_of_nothing_after_a_restart(self, make):
        partial = make()
        partial.write(0, b"wrong" * 3_000)
        partial.digest()
        partial.restart(size=WHEEL.size)
        assert partial.present == 0
        put(partial, (0, WHEEL.size))
        assert partial.digest() == DIGEST


class TestTheNextRun:
    def test_goes_on_in_mid_pieces(self, make):
        put(make(), (0, 12_345), (40_000, 45_678))
        partial = make()
        assert partial.present == 12_345 + 5_678
        assert partial.missing() == [
            Span(start=12_345, end=40_000),
            Span(start=45_678, end=WHEEL.size),
        ]
        put(partial, (12_345, 40_000), (45_678, WHEEL.size))
        assert partial.digest() == DIGEST

    def test_keeps_the_size_of_the_pieces(self, make):
        put(make(), (0, 12_345))
        partial = make(piece=777)
        assert partial.piece == PIECE
        assert partial.present == 12_345

    def test_takes_pieces_of_its_own_where_nothing_was_left(self, make):
        make().close()
        assert make(piece=777).piece == 777

    def test_keeps_bytes_of_unknown_size_and_learns_it(self, make):
        put(make(size=None), (0, 12_345))
        assert make(size=WHEEL.size).present == 12_345

    def test_drops_bytes_of_another_size(self, make):
        put(make(size=WHEEL.size + 1), (0, 12_345))
        assert make().present == 0

    def test_drops_pieces_beyond_the_size(self, make):
        partial = make(size=None)
        partial.write(0, DATA + b"more")
        partial.close()
        assert make().present == 9 * PIECE

    def test_says_before_it_opens_anything_what_it_will_keep(self, make, tmp_path):
        put(make(), (0, 12_345), (40_000, 45_678))
        assert usable_bytes(tmp_path, DIGEST, boot=BOOT) == 12_345 + 5_678
        assert usable_bytes(tmp_path, DIGEST, boot="another") == 0
        assert usable_bytes(tmp_path, digest_of_bytes(b"other"), boot=BOOT) == 0

    def test_finds_nothing_where_nothing_was_written(self, make, file, journal):
        make().close()
        assert not file.exists()
        assert not journal.exists()

    def test_loses_no_written_byte_to_a_kill(self, make):
        """Nothing is closed or flushed: what another process finds is what the kernel has."""
        first = make()
        put(first, (0, 12_345))
        assert make().present == 12_345

    def test_does_not_believe_bytes_that_no_mark_vouches_for(self, make, file):
        put(make(), (0, 12_345))
        with file.open("ab") as opened:
            opened.write(b"?" * 5_000)  # written, and killed before it was noted
        partial = make()
        assert partial.present == 12_345
        put(partial, (12_345, WHEEL.size))
        assert partial.digest() == DIGEST


class TestAPowerCut:
    def test_leaves_what_was_flushed(self, make):
        partial = make()
        put(partial, (0, 12_000), (40_000, 41_000))
        partial.flush()
        put(partial, (12_000, 15_000), (60_000, 70_000))
        partial.close()
        again = make(boot="the next start")
        assert again.counts()[:7] == [PIECE, 2_000, 0, 0, 1_000, 0, 0]

    def test_leaves_nothing_that_was_never_flushed(self, make):
        put(make(), (0, 12_000))
        assert make(boot="the next start").present == 0

    def test_is_assumed_where_the_system_does_not_tell_its_starts(self, make):
        partial = make(boot="")
        put(partial, (0, 1_000))
        partial.flush()
        put(partial, (1_000, 3_000))
        partial.close()
        assert make(boot="").present == 1_000

    def test_twice_leaves_what_was_flushed_before_the_first(self, make):
        partial = make()
        put(partial, (0, 12_000))
        partial.flush()
        partial.close()
        make(boot="the next start").close()
        assert make(boot="the one after").present == 12_000

    def test_while_a_piece_is_replaced_never_vouches_for_the_wrong_bytes(self, make):
        partial = make()
        put(partial, (0, WHEEL.size))
        partial.flush()
        partial.replace_piece(1, b"?" * PIECE)
        partial.close()
        again = make(boot="the next start")
        assert again.counts()[:3] == [PIECE, 0, PIECE]

    def test_that_lost_the_bytes_but_not_the_mark_is_found_out(self, make, file):
        partial = make()
        put(partial, (0, WHEEL.size))
        partial.flush()
        partial.close()
        os.truncate(file, 5 * PIECE + 17)
        assert make(boot="the next start").counts() == [PIECE] * 5 + [0] * 5


class TestTheJournal:
    def test_says_what_is_there(self, make, journal):
        partial = make()
        put(partial, (0, 12_000))
        partial.flush()
        put(partial, (12_000, 13_000))
        head, marks = read_journal(journal)
        assert head == Head(boot=BOOT, size=WHEEL.size, piece=PIECE)
        assert len(marks) == 10
        whole = zlib.crc32(DATA[:PIECE])
        assert marks[0] == Mark(written=PIECE, crc=whole, synced=PIECE, synced_crc=whole)
        assert marks[1] == Mark(
            written=3_000,
            crc=zlib.crc32(DATA[PIECE : PIECE + 3_000]),
            synced=2_000,
            synced_crc=zlib.crc32(DATA[PIECE : PIECE + 2_000]),
        )

    @pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"boot": "x"}', b'{"boot": "x", "synced": 600}'])
    def test_that_is_none_of_ours_vouches_for_nothing(self, make, journal, tmp_path, text):
        put(make(), (0, 12_000))
        journal.write_bytes(text)
        assert usable_bytes(tmp_path, DIGEST, boot=BOOT) == 0
        partial = make()
        assert partial.present == 0
        put(partial, (0, WHEEL.size))
        assert partial.digest() == DIGEST

    def test_without_the_file_vouches_for_nothing(self, make, file):
        put(make(), (0, 12_000))
        file.unlink()
        assert make().present == 0

    def test_that_lost_a_line_loses_that_piece(self, make, journal):
        put(make(), (0, 3 * PIECE))
        with journal.open("r+b") as opened:
            opened.seek(2 * LINE_BYTES)
            opened.write(b"\0" * LINE_BYTES)
        assert make().counts()[:4] == [PIECE, 0, PIECE, 0]

    def test_that_lost_its_end_loses_those_pieces(self, make, journal):
        put(make(), (0, 5 * PIECE))
        os.truncate(journal, 3 * LINE_BYTES + 17)
        partial = make()
        assert partial.present == 2 * PIECE
        put(partial, (2 * PIECE, WHEEL.size))
        assert partial.digest() == DIGEST

    def test_with_more_lines_than_the_file_has_pieces_does_no_harm(self, make, journal):
        put(make(), (0, 5 * PIECE))
        with journal.open("ab") as opened:
            opened.write(line_of(Mark(written=PIECE, crc=1)) * 5)
        partial = make()
        assert partial.present == 5 * PIECE
        put(partial, (5 * PIECE, WHEEL.size))
        assert partial.is_complete
        assert partial.digest() == DIGEST

    @pytest.mark.parametrize("piece", [1 << 40, 1 << 62, 10**40])
    def test_that_says_what_no_disk_can_hold_vouches_for_nothing(self, make, journal, tmp_path, piece):
        put(make(), (0, 5 * PIECE))
        head = {"boot": BOOT, "size": WHEEL.size, "piece": piece}
        line = json.dumps(head).encode().ljust(LINE_BYTES - 1) + b"\n"
        journal.write_bytes(line + line_of(Mark(written=piece, crc=1)))
        assert usable_bytes(tmp_path, DIGEST, boot=BOOT) == 0
        partial = make()
        put(partial, (0, WHEEL.size))
        assert partial.digest() == DIGEST


class TestRot:
    @pytest.mark.parametrize("place", [0, PIECE - 1, PIECE, 5 * PIECE + 1, WHEEL.size - 1])
    def test_costs_the_piece_it_is_in(self, make, file, place):
        put(make(), (0, WHEEL.size))
        with file.open("r+b") as opened:
            opened.seek(place)
            opened.write(bytes([DATA[place] ^ 1]))
        partial = make()
        start = place // PIECE * PIECE
        assert partial.missing() == [Span(start=start, end=min(start + PIECE, WHEEL.size))]


class TestASeed:
    def seed(self, tmp_path, file, data: bytes) -> None:
        """Leaves the bytes of a blob that was right once."""
        file.write_bytes(data)
        crcs = [zlib.crc32(DATA[at : at + PIECE]) for at in range(0, WHEEL.size, PIECE)]
        write_seed(tmp_path, DIGEST, boot=BOOT, size=WHEEL.size, piece=PIECE, crcs=crcs)

    def test_keeps_the_pieces_that_are_still_right(self, make, tmp_path, file):
        self.seed(tmp_path, file, DATA[: 2 * PIECE] + b"?" + DATA[2 * PIECE + 1 :])
        assert make().missing() == [Span(start=2 * PIECE, end=3 * PIECE)]

    @pytest.mark.parametrize("data", [DATA + b"tail", DATA + bytes(10**6)], ids=["a tail", "a long tail"])
    def test_of_a_blob_that_grew_is_published_at_its_size(self, make, tmp_path, file, data):
        self.seed(tmp_path, file, data)
        partial = make()
        assert partial.is_complete
        (tmp_path / "blobs").mkdir()
        found = partial.publish(tmp_path / "blobs" / "aa" / "blob")
        assert (tmp_path / "blobs" / "aa" / "blob").read_bytes() == DATA
        assert found.st_size == WHEEL.size

    def test_of_a_blob_that_shrank_is_continued(self, make, tmp_path, file):
        self.seed(tmp_path, file, DATA[: 4 * PIECE + 5])
        assert make().missing() == [Span(start=4 * PIECE, end=WHEEL.size)]

    def test_of_an_empty_blob_begins_anew(self, make, tmp_path, file):
        self.seed(tmp_path, file, b"")
        partial = make()
        assert partial.present == 0
        put(partial, (0, WHEEL.size))
        assert partial.digest() == DIGEST


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can become somebody else")
def test_one_that_was_about_to_become_a_blob_is_gone_on_with(make, tmp_path, file):
    put(make(), (0, 3 * PIECE))
    file.chmod(0o444)  # as a process leaves it that is killed before the rename
    owner = User(uid=65_534, gid=65_534)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in (file, file.with_suffix(".json")):
            shutil.copy(part, folder)
        for path in (folder, *folder.iterdir()):
            os.chown(path, owner.uid, owner.gid)
        code = (
            "from pathlib import Path; from wheelcache.partial import Partial\n"
            "print(Partial(Path(argv[0]), argv[1], boot=argv[2], size=None).present)"
        )
        with Users() as users:
            ran = users.python(owner, code, folder, DIGEST, BOOT, cwd=folder)
        assert (ran.out, ran.err) == (f"{3 * PIECE}\n", "")


class TestRefusing:
    @pytest.mark.parametrize("suffix", [".part", ".json"])
    def test_a_link_leaves_what_it_points_to_alone(self, make, file, tmp_path, suffix):
        victim = tmp_path / "victim"
        victim.write_text("precious")
        file.with_suffix(suffix).symlink_to(victim)
        with pytest.raises(StoreError):
            make()
        assert victim.read_text() == "precious"

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no named pipes")
    def test_what_is_no_ordinary_file_does_not_hang(self, make, file):
        os.mkfifo(file)
        with pytest.raises(StoreError, match="expected a file, found a named pipe"):
            make()

    def test_writing_to_a_closed_one_is_an_error_and_reaches_no_other_file(self, make, tmp_path):
        partial = make()
        put(partial, (0, 100))
        partial.close()
        bystander = (tmp_path / "bystander").open("w+b")  # gets the descriptor that is free now
        with bystander, pytest.raises(StoreError):
            partial.write(100, DATA[100:200])
        assert (tmp_path / "bystander").read_bytes() == b""

    def test_closing_twice_is_closing_once(self, make):
        partial = make()
        put(partial, (0, 100))
        partial.close()
        partial.close()
        partial.flush()
        assert make().present == 100


def test_a_head_of_another_start_is_replaced(make, journal):
    put(make(), (0, 12_000))
    head, marks = read_journal(journal)
    with journal.open("r+b") as opened:
        opened.write(line_of(replace(head, boot="an earlier start")))
    make().close()
    assert marks[0].written == PIECE
    assert not journal.exists()  # nothing of it was synced, so nothing is left
