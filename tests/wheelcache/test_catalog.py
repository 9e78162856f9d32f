"""The catalog in its file: what it keeps, what it takes over, and what it makes of a file that is not its own."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing, suppress
from dataclasses import asdict, astuple, replace

import pytest

from wheelcache.catalog import READERS, VERSION, Catalog, Entry, HostRecord, Pieces
from wheelcache.digest import digest_of_bytes
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


def entry_of(name: str, *, size: int = 1000) -> Entry:
    return Entry(
        digest=digest_of_bytes(name.encode()),
        name=name,
        version="1.0",
        filename=f"{name}-1.0-py3-none-any.whl",
        size=size,
        mtime_ns=1_700_000_000_123_456_789,
        inode=2**62,
        verified_at=100.5,
        last_used=200.25,
    )


ENTRY = entry_of("demo")
PIECES = Pieces(size=1000, piece_bytes=400, crcs=(0, 0xFFFF_FFFF, 0x0102_0304))
WORDS = bytes.fromhex("00000000 ffffffff 01020304")
RECORD = HostRecord(host="mirror.test:8443", rate=5e7, per_connection=1.25e7, lies=4, faults=2, seen_at=1.7e9 + 0.5)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "catalog.sqlite"


@pytest.fixture
def catalog(file):
    return Catalog(file)


def run_sql(file, *statements) -> list[tuple]:
    """Does what another program would do to the file; returns the rows of the last statement."""
    with closing(sqlite3.connect(file)) as connection, connection:
        for statement, *values in statements:
            rows = connection.execute(statement, values).fetchall()
    return rows


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


def forge(file, table: str, *values) -> None:
    """Writes a row whose check word fits, whatever it says."""
    [made] = [each for each in READERS if each.name == table]
    row = made.checked(values)
    run_sql(file, (f"REPLACE INTO {table} VALUES ({', '.join('?' * len(row))})", *row))


class TestEntries:
    def test_are_none_in_a_new_catalog(self, catalog):
        assert catalog.entries() == {}

    def test_come_back_as_they_were_put(self, catalog, file):
        other = entry_of("other")
        catalog.put(ENTRY)
        catalog.put(other)
        assert Catalog(file).entries() == {ENTRY.digest: ENTRY, other.digest: other}

    def test_replace_the_one_of_their_digest(self, catalog):
        catalog.put(ENTRY)
        again = replace(ENTRY, mtime_ns=1, inode=2)
        catalog.put(again)
        assert catalog.entries() == {ENTRY.digest: again}

    def test_are_touched_one_by_one(self, catalog):
        other = entry_of("other")
        catalog.put(ENTRY)
        catalog.put(other)
        catalog.touch([ENTRY.digest, digest_of_bytes(b"unheard of")], now=900.0)
        assert catalog.entries() == {ENTRY.digest: replace(ENTRY, last_used=900.0), other.digest: other}

    def test_of_a_file_with_an_inode_that_no_integer_of_sqlite_holds_come_back(self, catalog):
        entry = replace(ENTRY, inode=2**64 - 1)
        catalog.put(entry)
        assert catalog.entries() == {entry.digest: entry}

    @pytest.mark.parametrize(
        "change",
        [
            "name = 'demp'",
            "version = '1.1'",
            "filename = 'demo-1.1-py3-none-any.whl'",
            "size = size + 1",
            "mtime_ns = mtime_ns - 1",
            "inode = inode + 1",
            "verified_at = verified_at + 1",
            "last_used = 1e300",
            "last_used = NULL",
            "checked = NULL",
            "name = CAST(x'ff' AS TEXT)",
            f"digest = '{digest_of_bytes(b'third')}'",
        ],
    )
    def test_that_changed_in_the_file_are_none_and_hide_no_others(self, catalog, file, change):
        other = entry_of("other")
        catalog.put(ENTRY)
        catalog.put(other)
        run_sql(file, (f"UPDATE blobs SET {change} WHERE name = 'demo'",))
        assert catalog.entries() == {other.digest: other}

    def test_that_changed_in_the_file_are_not_touched_into_sound_ones(self, catalog, file):
        catalog.put(ENTRY)
        run_sql(file, ("UPDATE blobs SET size = 7",))
        catalog.touch([ENTRY.digest], now=900.0)
        assert catalog.entries() == {}

    def test_that_changed_in_the_file_are_replaced_by_those_that_are_added(self, catalog, file):
        catalog.put(ENTRY)
        run_sql(file, ("UPDATE blobs SET size = 7",))
        catalog.add([ENTRY])
        catalog.add([replace(ENTRY, last_used=5.0)])
        assert catalog.entries() == {ENTRY.digest: ENTRY}

    @pytest.mark.parametrize(
        ("column", "value"),
        [
            ("digest", "sha256:x"),
            ("name", b"demo"),
            ("size", -1),
            ("size", "1000"),
            ("mtime_ns", 1.5),
            ("inode", "-1"),
            ("inode", "9" * 5000),
            ("verified_at", float("nan")),
            ("last_used", float("inf")),
            ("last_used", -1.0),
            ("last_used", "yesterday"),
        ],
    )
    def test_that_no_run_of_ours_can_have_written_are_none(self, catalog, file, column, value):
        catalog.put(ENTRY)
        row = {**asdict(entry_of("bad")), "inode": "7", column: value}
        forge(file, "blobs", *row.values())
        assert catalog.entries() == {ENTRY.digest: ENTRY}


class TestPieces:
    def test_come_back_as_they_were_put(self, catalog, file):
        catalog.put(ENTRY, PIECES)
        assert catalog.entries() == {ENTRY.digest: ENTRY}
        assert Catalog(file).pieces(ENTRY.digest) == PIECES

    def test_are_none_where_none_were_put(self, catalog):
        catalog.put(ENTRY)
        assert catalog.pieces(ENTRY.digest) is None
        assert catalog.pieces(digest_of_bytes(b"unheard of")) is None

    def test_stay_when_the_entry_alone_is_put_again(self, catalog):
        catalog.put(ENTRY, PIECES)
        catalog.put(replace(ENTRY, mtime_ns=1))
        assert catalog.pieces(ENTRY.digest) == PIECES

    def test_are_replaced_by_new_ones(self, catalog):
        catalog.put(ENTRY, PIECES)
        other = Pieces(size=1000, piece_bytes=1000, crcs=(7,))
        catalog.put(ENTRY, other)
        assert catalog.pieces(ENTRY.digest) == other

    def test_of_an_empty_blob_are_none_at_all(self, catalog):
        nothing = Pieces(size=0, piece_bytes=400, crcs=())
        catalog.put(replace(ENTRY, size=0), nothing)
        assert catalog.pieces(ENTRY.digest) == nothing

    def test_take_four_bytes_each_in_the_file(self, catalog, file):
        catalog.put(ENTRY, PIECES)
        assert run_sql(file, ("SELECT crcs FROM pieces",)) == [(WORDS,)]

    def test_are_written_with_their_entry_or_neither_is(self, catalog):
        with pytest.raises(OverflowError):
            catalog.put(ENTRY, replace(PIECES, piece_bytes=2**63))
        assert catalog.entries() == {}

    @pytest.mark.parametrize(
        "change", ["crcs = x'00000000ffffffff01020305'", "piece_bytes = 401", "size = 1001", "checked = x''"]
    )
    def test_that_changed_in_the_file_are_not_given(self, catalog, file, change):
        catalog.put(ENTRY, PIECES)
        run_sql(file, (f"UPDATE pieces SET {change}",))
        assert catalog.pieces(ENTRY.digest) is None

    @pytest.mark.parametrize(
        ("size", "piece_bytes", "crcs"),
        [
            (1000, 400, b"\0" * 8),
            (1000, 400, b"\0" * 11),
            (1000, 400, b"\0" * 16),
            (1000, 0, b"\0" * 12),
            (1000, -400, b"\0" * 12),
            (-1000, 400, b""),
            ("all", 400, b"\0" * 12),
            (1000, "some", b"\0" * 12),
            (1000, 400, "twelve bytes"),
            (1000, 400.5, b"\0" * 12),
        ],
    )
    def test_that_do_not_fit_their_size_are_not_given(self, catalog, file, size, piece_bytes, crcs):
        catalog.put(ENTRY, PIECES)
        forge(file, "pieces", ENTRY.digest, size, piece_bytes, crcs)
        assert catalog.pieces(ENTRY.digest) is None


class TestHostRecords:
    def test_are_none_in_a_new_catalog(self, catalog):
        assert catalog.host_records() == {}

    @pytest.mark.parametrize("host", ["mirror.test", "mirror.test:8443", "[::1]:80", "my_host-2.test", "bücher.test"])
    def test_come_back_as_they_were_put(self, catalog, file, host):
        record = replace(RECORD, host=host)
        catalog.put_host_records([record])
        assert Catalog(file).host_records() == {host: record}

    def test_may_be_of_a_host_that_never_worked(self, catalog):
        record = replace(RECORD, rate=0.0, per_connection=0.0, lies=0)
        catalog.put_host_records([record])
        assert catalog.host_records() == {record.host: record}

    def test_replace_the_one_of_their_host_and_no_other(self, catalog):
        other = replace(RECORD, host="other.test")
        catalog.put_host_records([RECORD, other])
        later = replace(RECORD, rate=1.0, faults=0)
        catalog.put_host_records(record for record in [later])
        assert catalog.host_records() == {RECORD.host: later, "other.test": other}

    @pytest.mark.parametrize(
        "unsound",
        [
            {"host": "user:secret@mirror.test"},
            {"host": ""},
            {"rate": float("nan")},
            {"per_connection": float("inf")},
            {"faults": -1},
        ],
        ids=["credentials", "no host", "nan", "infinite", "negative"],
    )
    def test_that_are_unsound_are_never_written(self, catalog, file, unsound):
        catalog.put_host_records([replace(RECORD, **unsound)])
        assert run_sql(file, ("SELECT count(*) FROM sources",)) == [(0,)]

    @pytest.mark.parametrize(
        ("column", "value"),
        [
            ("host", 7),
            ("host", b"bytes.test"),
            ("host", "user:secret@mirror.test"),
            ("host", "two words"),
            ("host", "x" * 100_000),
            ("rate", None),  # what SQLite makes of NaN
            ("rate", float("inf")),
            ("rate", -1.0),
            ("rate", 1e300),
            ("rate", "fast"),
            ("rate", b"\0"),
            ("per_connection", float("-inf")),
            ("per_connection", ""),
            ("lies", 1.5),
            ("lies", 2**62),
            ("lies", -1),
            ("faults", "many"),
            ("faults", 2**62),
            ("seen_at", 1e18),
            ("seen_at", None),
        ],
    )
    def test_leave_out_what_no_run_of_ours_can_have_written(self, catalog, file, column, value):
        row = {"host": "h", "rate": 1.0, "per_connection": 1.0, "lies": 1, "faults": 0, "seen_at": 1.0}
        catalog.put_host_records([HostRecord(**row)])
        forge(file, "sources", *(row | {"host": "bad", column: value}).values())
        assert list(catalog.host_records()) == ["h"]

    @pytest.mark.parametrize("change", ["rate = rate * 2", "lies = 0", "host = 'another.test'"])
    def test_that_changed_in_the_file_are_none(self, catalog, file, change):
        catalog.put_host_records([RECORD, replace(RECORD, host="other.test")])
        run_sql(file, (f"UPDATE sources SET {change} WHERE host = 'other.test'",))
        assert catalog.host_records() == {RECORD.host: RECORD}


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
