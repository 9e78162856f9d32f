"""The catalog in its file: what it keeps, what it takes over, and what it makes of a file that is not its own."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from dataclasses import replace

import pytest

from wheelcache.catalog import VERSION, Catalog, Entry, HostRecord, Pieces
from wheelcache.digest import digest_of_bytes
from wheelcache.errors import StoreError

FIRST_SCHEMA = """
CREATE TABLE IF NOT EXISTS blobs (
    digest TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    filename TEXT NOT NULL,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    inode INTEGER NOT NULL,
    verified_at REAL NOT NULL,
    last_used REAL NOT NULL
) WITHOUT ROWID
"""
"""What version 1 wrote, word for word."""

LOOSE_SOURCES = """
DROP TABLE sources;
CREATE TABLE sources (host, rate, per_connection, lies, faults, seen_at)
"""
"""A table that lets every type in, as a file from elsewhere may have it."""


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
PIECES = Pieces(piece_bytes=400, crcs=(0, 0xFFFF_FFFF, 0x0102_0304))
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


def make_first_version(file, *entries) -> None:
    columns = ("digest", "name", "version", "filename", "size", "mtime_ns", "inode", "verified_at", "last_used")
    rows = [[getattr(entry, column) for column in columns] for entry in entries]
    put = "REPLACE INTO blobs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
    run_sql(file, (FIRST_SCHEMA,), ("PRAGMA user_version = 1",), *[(put, *row) for row in rows])


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

    def test_with_names_that_are_no_text_hide_no_others(self, catalog, file):
        other = entry_of("other")
        catalog.put(ENTRY)
        catalog.put(other)
        run_sql(file, ("UPDATE blobs SET name = CAST(x'ff' AS TEXT) WHERE name = 'other'",))
        assert catalog.entries()[ENTRY.digest] == ENTRY


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
        other = Pieces(piece_bytes=1000, crcs=(7,))
        catalog.put(ENTRY, other)
        assert catalog.pieces(ENTRY.digest) == other

    def test_of_an_empty_blob_are_none_at_all(self, catalog):
        nothing = Pieces(piece_bytes=400, crcs=())
        catalog.put(replace(ENTRY, size=0), nothing)
        assert catalog.pieces(ENTRY.digest) == nothing

    def test_take_four_bytes_each_in_the_file(self, catalog, file):
        catalog.put(ENTRY, PIECES)
        assert run_sql(file, ("SELECT crcs FROM pieces",)) == [(bytes.fromhex("00000000 ffffffff 01020304"),)]

    def test_are_written_with_their_entry_or_neither_is(self, catalog, file):
        catalog.entries()
        run_sql(file, ("CREATE TRIGGER no BEFORE INSERT ON pieces BEGIN SELECT RAISE(ABORT, 'no'); END",))
        with pytest.raises(StoreError):
            catalog.put(ENTRY, PIECES)
        assert catalog.entries() == {}

    @pytest.mark.parametrize(
        ("piece_bytes", "crcs"),
        [
            (400, b"\0" * 8),
            (400, b"\0" * 11),
            (400, b"\0" * 16),
            (0, b"\0" * 12),
            (-400, b"\0" * 12),
            ("some", b"\0" * 12),
            (400, "twelve bytes"),
            (400.5, b"\0" * 12),
        ],
        ids=["few", "part of one", "many", "no size", "negative", "size of text", "text", "broken size"],
    )
    def test_that_do_not_fit_the_blob_are_not_given(self, catalog, file, piece_bytes, crcs):
        catalog.put(ENTRY, PIECES)
        run_sql(file, ("UPDATE pieces SET piece_bytes = ?, crcs = ?", piece_bytes, crcs))
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
            ("host", None),
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
        catalog.put_host_records([RECORD])
        with closing(sqlite3.connect(file)) as connection:
            connection.executescript(LOOSE_SOURCES)
        row = {"host": "h", "rate": 1.0, "per_connection": 1.0, "lies": 1, "faults": 0, "seen_at": 1.0}
        put = "INSERT INTO sources VALUES (?, ?, ?, ?, ?, ?)"
        run_sql(file, (put, *row.values()), (put, *(row | {"host": "bad", column: value}).values()))
        assert list(catalog.host_records()) == ["h"]

    def test_leave_out_hosts_that_are_no_text(self, catalog, file):
        catalog.put_host_records([RECORD, replace(RECORD, host="other.test")])
        run_sql(file, ("UPDATE sources SET host = CAST(x'fffe' AS TEXT) WHERE host = 'other.test'",))
        assert catalog.host_records() == {RECORD.host: RECORD}


class TestAFileOfTheFirstVersion:
    def test_keeps_its_entries(self, file):
        entries = [ENTRY, entry_of("other")]
        make_first_version(file, *entries)
        assert Catalog(file).entries() == {entry.digest: entry for entry in entries}
        assert version_of(file) == VERSION == 2

    def test_takes_pieces_and_host_records_at_once(self, file):
        make_first_version(file, ENTRY)
        catalog = Catalog(file)
        catalog.put_host_records([RECORD])
        catalog.put(ENTRY, PIECES)
        assert catalog.host_records() == {RECORD.host: RECORD}
        assert catalog.pieces(ENTRY.digest) == PIECES

    def test_gives_up_tables_that_a_version_in_between_left(self, file):
        make_first_version(file, ENTRY)
        run_sql(file, ("CREATE TABLE sources (something TEXT)",), ("CREATE TABLE pieces (something TEXT)",))
        catalog = Catalog(file)
        catalog.put(ENTRY, PIECES)
        catalog.put_host_records([RECORD])
        assert catalog.entries() == {ENTRY.digest: ENTRY}
        assert catalog.pieces(ENTRY.digest) == PIECES

    def test_is_brought_up_once_by_many_at_once(self, file):
        make_first_version(file, ENTRY)
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

    def test_is_made_anew_when_its_pages_are_torn(self, catalog, file):
        for number in range(200):
            catalog.put(entry_of(f"demo{number}"), PIECES)
        data = file.read_bytes()
        file.write_bytes(data[:4096] + b"\xa5" * (len(data) - 4096))
        assert catalog.entries() == {}
        catalog.put(ENTRY, PIECES)
        assert catalog.pieces(ENTRY.digest) == PIECES

    @pytest.mark.parametrize("version", [3, 99, -1])
    def test_is_made_anew_when_its_version_is_unknown(self, file, version):
        run_sql(
            file,
            ("CREATE TABLE blobs (something TEXT)",),
            ("CREATE TABLE pieces (something TEXT)",),
            ("CREATE TABLE sources (something TEXT)",),
            (f"PRAGMA user_version = {version}",),
        )
        catalog = Catalog(file)
        catalog.put(ENTRY, PIECES)
        catalog.put_host_records([RECORD])
        assert catalog.entries() == {ENTRY.digest: ENTRY}
        assert catalog.pieces(ENTRY.digest) == PIECES
        assert catalog.host_records() == {RECORD.host: RECORD}
        assert version_of(file) == VERSION

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
