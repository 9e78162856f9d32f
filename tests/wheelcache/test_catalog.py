"""The catalog's rows: they come back as they were put, or not at all."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
from support.catalogs import ENTRY, PIECES, RECORD, WORDS, entry_of, forge, run_sql

from wheelcache.catalog import Catalog, HostRecord, Pieces
from wheelcache.digest import digest_of_bytes


@pytest.fixture
def file(tmp_path):
    return tmp_path / "catalog.sqlite"


@pytest.fixture
def catalog(file):
    return Catalog(file)


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
