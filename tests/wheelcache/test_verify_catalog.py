"""Damage in the catalog: found without reading a blob; what is sound is kept."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest
from support.stores import BIG, MIDDLE, WHEELS, flip, found, mend, verify
from support.syncs import PIECE

from wheelcache.catalog import HostRecord
from wheelcache.mend import put_catalog_aside
from wheelcache.store import Store

HOST = HostRecord(host="mirror.test", rate=5e7, per_connection=1e7, lies=0, faults=2, seen_at=1.7e9)


class TestTheCatalog:
    def damage(self, store: Store, statement: str) -> None:
        with sqlite3.connect(store.root / "v1" / "catalog.sqlite") as connection:
            connection.execute(statement)
        connection.close()

    @pytest.mark.parametrize("data", [b"", b"no database at all" * 100])
    def test_that_is_none_is_found_unless_empty(self, store, data):
        (store.root / "v1" / "catalog.sqlite").write_bytes(data)
        assert found(store) == ([("catalog", "catalog.sqlite")] if data else [])

    @pytest.mark.parametrize("fast", [False, True])
    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE blobs SET digest = 'sha256:x' WHERE name = 'wheel0'",
            "UPDATE blobs SET size = 'x' WHERE name = 'wheel0'",
            "UPDATE blobs SET size = size + 1 WHERE name = 'wheel0'",
            "UPDATE blobs SET mtime_ns = mtime_ns + 1 WHERE name = 'wheel0'",
            "UPDATE blobs SET inode = inode + 1 WHERE name = 'wheel0'",
            "UPDATE blobs SET name = 'wheelx' WHERE name = 'wheel0'",
            "UPDATE blobs SET version = '1.1' WHERE name = 'wheel0'",
            "UPDATE blobs SET filename = 'x' WHERE name = 'wheel0'",
            "UPDATE blobs SET last_used = last_used + 1 WHERE name = 'wheel0'",
            "UPDATE pieces SET crcs = zeroblob(length(crcs))",
            "UPDATE pieces SET crcs = substr(crcs, 2)",
            "UPDATE pieces SET piece_bytes = 0",
            "UPDATE pieces SET size = size + 1",
            "UPDATE sources SET rate = rate * 2",
            "UPDATE sources SET faults = 'many'",
            "UPDATE sources SET host = CAST(x'ff0a' AS TEXT)",
            "ALTER TABLE blobs RENAME COLUMN digest TO Digest",
            "CREATE TABLE other (x)",
            "PRAGMA user_version = 130",
            "PRAGMA user_version = 2",
        ],
    )
    def test_with_what_we_would_not_write_is_found_without_reading_and_made_anew(self, store, statement, fast):
        store.keep_host_records([HOST])
        names = {digest: entry.filename for digest, entry in store.known().items()}
        self.damage(store, statement)
        assert found(store, fast=fast) == [("catalog", "catalog.sqlite")]
        assert put_catalog_aside(store).parent.name == "quarantine"
        assert found(store) == []
        again = Store.open(store.root)
        assert {digest: entry.filename for digest, entry in again.known().items()} == names
        assert all(again.piece_checks(made.digest) for made in WHEELS)

    def test_keeps_what_is_sound_of_it_when_it_is_made_anew(self, store):
        store.keep_host_records([HOST])
        before = store.known()
        checks = {made.digest: store.piece_checks(made.digest) for made in WHEELS}
        self.damage(store, "UPDATE blobs SET last_used = 5 WHERE name = 'wheel0'")
        self.damage(store, "UPDATE pieces SET size = 5 WHERE digest = (SELECT max(digest) FROM pieces)")
        put_catalog_aside(store)
        again = Store.open(store.root)
        assert again.known() == {digest: entry for digest, entry in before.items() if digest != BIG.digest}
        assert again.host_records() == {HOST.host: HOST}
        kept = {made.digest: again.piece_checks(made.digest) for made in WHEELS}
        assert kept == {**checks, max(checks): None}

    def test_lends_no_checksums_that_rotted_to_a_repair(self, store, sync, server):
        """A blob whose checksums rotted with it comes whole, and one whose did not costs its piece."""
        self.damage(store, f"UPDATE pieces SET crcs = zeroblob(length(crcs)) WHERE digest = '{BIG.digest}'")
        put_catalog_aside(store)
        for made in (BIG, MIDDLE):
            flip(store.blob(made.digest), 5)
        mend(store, verify(store).findings)
        assert [store.partial_bytes(made.digest) for made in (BIG, MIDDLE)] == [0, MIDDLE.size - PIECE]
        results = sync(*[made.locked(server.put_wheel(made)) for made in (BIG, MIDDLE)])
        assert {result.wheel.digest: result.bytes_fetched for result in results} == {
            BIG.digest: BIG.size,
            MIDDLE.digest: PIECE,
        }

    def test_that_a_killed_process_was_writing_is_no_finding(self, store):
        file = store.root / "v1" / "catalog.sqlite"
        copy = store.root / "copy.sqlite"
        with sqlite3.connect(file) as connection:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA cache_size = 1")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("UPDATE blobs SET filename = hex(zeroblob(200000))")
            shutil.copy(file, copy)
            shutil.copy(f"{file}-journal", f"{copy}-journal")
            connection.rollback()
        connection.close()
        copy.replace(file)
        Path(f"{copy}-journal").replace(f"{file}-journal")
        assert found(store) == []
