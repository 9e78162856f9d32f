"""The catalog's file: used by many at once, brought up from earlier versions, made anew with what is sound of it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from contextlib import suppress
from dataclasses import astuple, replace

import pytest
from support.catalogs import ENTRY, PIECES, RECORD, WORDS, entry_of, run_sql

from wheelcache.catalog import VERSION, Catalog, Entry
from wheelcache.errors import StoreError

OLD_TABLES = {
    "blobs": (
        "digest TEXT PRIMARY KEY, name TEXT NOT NULL, version TEXT NOT NULL, filename TEXT NOT NULL, "
        "size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, inode INTEGER NOT NULL, "
        "verified_at REAL NOT NULL, last_used REAL NOT NULL"
    ),
    "pieces": "digest TEXT PRIMARY KEY, piece_bytes INTEGER NOT NULL, crcs BLOB NOT NULL",
    "sources": (
        "host TEXT PRIMARY KEY, rate REAL NOT NULL, per_connection REAL NOT NULL, lies INTEGER NOT NULL, "
        "faults INTEGER NOT NULL, seen_at REAL NOT NULL"
    ),
}
"""The tables of version 2; version 1 had the first alone."""


@pytest.fixture
def file(tmp_path):
    return tmp_path / "catalog.sqlite"


@pytest.fixture
def catalog(file):
    return Catalog(file)


def version_of(file) -> int:
    return run_sql(file, ("PRAGMA user_version",))[0][0]


def make_older(file, version: int, *entries: Entry) -> None:
    """Makes a file of an earlier version; in version 2 each entry has checksums, and there is a host."""
    for table in list(OLD_TABLES)[: 1 if version == 1 else 3]:
        run_sql(file, (f"CREATE TABLE {table} ({OLD_TABLES[table]})",))
    put = "INSERT INTO blobs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
    run_sql(file, *[(put, *astuple(entry)) for entry in entries])
    if version == 2:
        run_sql(file, *[("INSERT INTO pieces VALUES (?, 400, ?)", entry.digest, WORDS) for entry in entries])
        run_sql(file, ("INSERT INTO sources VALUES (?, ?, ?, ?, ?, ?)", *astuple(RECORD)))
    run_sql(file, (f"PRAGMA user_version = {version}",))


@pytest.mark.parametrize("version", [1, 2])
class TestAFileOfAnEarlierVersion:
    def test_keeps_what_it_has(self, file, version):
        entries = [ENTRY, entry_of("other")]
        make_older(file, version, *entries)
        catalog = Catalog(file)
        assert catalog.entries() == {entry.digest: entry for entry in entries}
        assert [catalog.pieces(entry.digest) for entry in entries] == [PIECES if version == 2 else None] * 2
        assert catalog.host_records() == ({RECORD.host: RECORD} if version == 2 else {})
        assert version_of(file) == VERSION == 3

    def test_takes_all_that_one_of_today_does(self, file, version):
        make_older(file, version, ENTRY)
        catalog = Catalog(file)
        other = entry_of("other")
        catalog.put_host_records([RECORD])
        catalog.put(other, PIECES)
        assert catalog.host_records() == {RECORD.host: RECORD}
        assert catalog.entries() == {ENTRY.digest: ENTRY, other.digest: other}
        assert catalog.pieces(other.digest) == PIECES

    def test_loses_rows_that_no_run_of_ours_can_have_written(self, file, version):
        others = [entry_of(f"other{number}") for number in range(4)]
        make_older(file, version, ENTRY, *others)
        for number, change in enumerate(("size = 'x'", "name = 'another'", "last_used = -1", "digest = 'sha256:x'")):
            run_sql(file, (f"UPDATE blobs SET {change} WHERE name = 'other{number}'",))
        assert Catalog(file).entries() == {ENTRY.digest: ENTRY}

    def test_gives_up_tables_that_are_none_of_it(self, file, version):
        make_older(file, version, ENTRY)
        run_sql(file, ("DROP TABLE IF EXISTS sources",), ("CREATE TABLE sources (something TEXT)",))
        catalog = Catalog(file)
        catalog.put_host_records([RECORD])
        assert catalog.entries() == {ENTRY.digest: ENTRY}

    def test_is_brought_up_by_many_at_once(self, file, version):
        make_older(file, version, ENTRY)
        entries = [entry_of(f"demo{number}") for number in range(8)]
        together(*[lambda entry=entry: Catalog(file).put(entry, PIECES) for entry in entries])
        catalog = Catalog(file)
        assert catalog.entries() == {entry.digest: entry for entry in [ENTRY, *entries]}
        assert all(catalog.pieces(entry.digest) == PIECES for entry in entries)


class TestManyWriters:
    def test_share_one_catalog(self, catalog):
        batches = [[entry_of(f"{writer}-{number}") for number in range(25)] for writer in "ab"]

        def write(batch) -> None:
            for entry in batch:
                catalog.put(entry, PIECES)
                catalog.put_host_records([replace(RECORD, host=entry.name)])
                catalog.touch([entry.digest], now=300.0)

        together(*[lambda batch=batch: write(batch) for batch in batches])
        entries = [entry for batch in batches for entry in batch]
        assert catalog.entries() == {entry.digest: replace(entry, last_used=300.0) for entry in entries}
        assert catalog.host_records().keys() == {entry.name for entry in entries}

    def test_make_a_new_file_together(self, file):
        entries = [entry_of(f"demo{number}") for number in range(8)]
        together(*[lambda entry=entry: Catalog(file).put(entry) for entry in entries])
        assert Catalog(file).entries() == {entry.digest: entry for entry in entries}


class TestAFileThatIsNoCatalogOfOurs:
    @pytest.mark.parametrize("content", [b"", b"not a database at all, though long enough" * 100, b"SQLite format 3\0"])
    def test_is_made_anew(self, catalog, file, content):
        file.write_bytes(content)
        assert catalog.entries() == {}
        catalog.put(ENTRY, PIECES)
        catalog.put_host_records([RECORD])
        assert Catalog(file).entries() == {ENTRY.digest: ENTRY}
        assert Catalog(file).host_records() == {RECORD.host: RECORD}

    def test_is_made_anew_with_the_rows_on_the_pages_that_are_not_torn(self, catalog, file):
        entries = {entry.digest: entry for entry in (entry_of(f"demo{number}") for number in range(200))}
        catalog.add(entries.values())
        data = bytearray(file.read_bytes())
        data[6 * 4096 : 7 * 4096] = b"\xa5" * 4096
        file.write_bytes(data)
        kept = catalog.entries()
        assert 150 < len(kept) < 200
        assert kept.items() < entries.items()
        catalog.put(ENTRY, PIECES)
        assert catalog.pieces(ENTRY.digest) == PIECES

    @pytest.mark.parametrize("version", [2, 1, 7])
    def test_loses_nothing_when_its_version_alone_is_another(self, catalog, file, version):
        catalog.put(ENTRY, PIECES)
        run_sql(file, (f"PRAGMA user_version = {version}",))
        assert catalog.entries() == {ENTRY.digest: ENTRY}
        assert catalog.pieces(ENTRY.digest) == PIECES
        assert version_of(file) == VERSION

    def test_loses_nothing_when_its_columns_are_spelled_otherwise(self, catalog, file):
        catalog.put(ENTRY, PIECES)
        run_sql(file, ("ALTER TABLE blobs RENAME COLUMN size TO Size",))
        assert catalog.entries() == {ENTRY.digest: ENTRY}
        assert "Size" not in run_sql(file, ("SELECT sql FROM sqlite_master WHERE name = 'blobs'",))[0][0]

    @pytest.mark.parametrize("place", [18, 44], ids=["forbids to write", "of a later format"])
    def test_loses_nothing_when_its_head_says_what_it_is_not(self, catalog, file, place):
        catalog.put(ENTRY)
        data = bytearray(file.read_bytes())
        data[place] ^= 0x80
        file.write_bytes(data)
        other = entry_of("other")
        catalog.put(other)
        assert catalog.entries().items() >= {other.digest: other}.items()
        if place == 18:
            assert ENTRY.digest in catalog.entries()

    def test_is_written_nowhere_else_where_it_has_another_name(self, catalog, file, tmp_path):
        catalog.put(ENTRY)
        (tmp_path / "backup").hardlink_to(file)
        before = (tmp_path / "backup").read_bytes()
        catalog.put(entry_of("other"))
        assert (tmp_path / "backup").read_bytes() == before
        assert len(catalog.entries()) == 2

    def test_leaves_no_journal_to_the_new_one(self, catalog, file):
        catalog.put(ENTRY)
        file.write_bytes(b"no database")
        journal = file.with_name(f"{file.name}-journal")
        journal.write_bytes(b"something old" * 100)
        catalog.put(ENTRY)
        assert not journal.exists()
        assert catalog.entries() == {ENTRY.digest: ENTRY}

    def test_is_put_aside_when_asked_and_its_sound_rows_are_kept(self, catalog, file, tmp_path):
        other = entry_of("other")
        catalog.put(ENTRY, PIECES)
        catalog.put(other, PIECES)
        run_sql(file, ("UPDATE blobs SET size = 7 WHERE name = 'other'",))
        before = file.read_bytes()
        (tmp_path / "aside").mkdir()
        kept = catalog.renew(aside=tmp_path / "aside")
        assert kept.read_bytes() == before
        assert catalog.entries() == {ENTRY.digest: ENTRY}
        assert catalog.pieces(other.digest) == PIECES
        assert run_sql(file, ("SELECT count(*) FROM blobs",)) == [(1,)]

    def test_is_made_anew_while_others_write_and_loses_nothing_of_theirs(self, catalog, file, tmp_path):
        entries = [entry_of(f"demo{number}") for number in range(60)]

        def spoil() -> None:
            for _ in range(15):
                with suppress(sqlite3.OperationalError):  # that file is another by now
                    run_sql(file, ("PRAGMA user_version = 99",))
                Catalog(file).entries()

        def write(some) -> None:
            for entry in some:
                Catalog(file).put(entry, PIECES)

        together(spoil, lambda: write(entries[:30]), lambda: write(entries[30:]))
        assert catalog.entries() == {entry.digest: entry for entry in entries}
        assert not list(tmp_path.glob(".*"))

    def test_is_named_in_the_error_when_it_is_a_folder(self, catalog, file):
        file.mkdir()
        with pytest.raises(StoreError, match=r"catalog\.sqlite"):
            catalog.host_records()


def together(*works) -> None:
    """Does all works at once, each in a thread of its own; raises what one of them raised."""
    start = threading.Barrier(len(works))
    errors: list[Exception] = []

    def begin(work) -> None:
        start.wait()
        try:
            work()
        except Exception as error:  # noqa: BLE001 - raised again below, in the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=begin, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


class TestOnAFullDisk:
    @pytest.fixture
    def disk(self, small_disk):
        return small_disk("256k")

    @pytest.fixture
    def ballast(self, disk):
        """Takes all room of the disk; returns the file that does."""

        def fill():
            file = disk / "ballast"
            with file.open("wb") as opened:
                os.posix_fallocate(opened.fileno(), 0, shutil.disk_usage(disk).free)
            return file

        return fill

    def test_what_is_there_and_what_comes_is_kept_in_memory(self, disk, ballast):
        catalog = Catalog(disk / "catalog.sqlite")
        catalog.put(ENTRY, PIECES)
        ballast()
        other = entry_of("other")
        catalog.put(other)
        assert catalog.entries() == {ENTRY.digest: ENTRY, other.digest: other}
        assert catalog.pieces(ENTRY.digest) == PIECES
        catalog.remove([ENTRY.digest])
        assert catalog.entries() == {other.digest: other}

    def test_one_that_is_not_there_is_made_in_memory(self, disk, ballast):
        ballast()
        catalog = Catalog(disk / "catalog.sqlite")
        catalog.put(ENTRY)
        assert catalog.entries() == {ENTRY.digest: ENTRY}

    def test_what_comes_once_there_is_room_again_is_written_down(self, disk, ballast):
        catalog = Catalog(disk / "catalog.sqlite")
        catalog.put(ENTRY)
        file, others = ballast(), [entry_of("early"), entry_of("late")]
        catalog.put(others[0])
        file.unlink()
        catalog.put(others[1])
        assert Catalog(disk / "catalog.sqlite").entries().keys() == {ENTRY.digest, others[1].digest}
        assert catalog.entries().keys() == {ENTRY.digest, *(each.digest for each in others)}
