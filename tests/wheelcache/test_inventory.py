"""Which blobs the store has, with a catalog and without one."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest
from support.stores import fill
from support.wheels import make_wheel

from wheelcache.catalog import Catalog
from wheelcache.digest import digest_of_bytes
from wheelcache.errors import StoreError
from wheelcache.inventory import blobs_of, take_inventory
from wheelcache.store import Store

ONE = make_wheel("one-wheel", "1.0.post1", size=9000, tag="cp311-cp311-manylinux_2_28_x86_64")
TWO = make_wheel("two", "2.0", size=7000)
NOW = 1_700_000_000.0


@pytest.fixture
def root(tmp_path):
    """A store that holds two wheels."""
    store = Store.open(tmp_path / "cache", now=lambda: NOW)
    for made in (ONE, TWO):
        fill(store, made)
    return tmp_path / "cache"


def lose(root) -> None:
    (root / "v1" / "catalog.sqlite").unlink()


def corrupt(root) -> None:
    file = root / "v1" / "catalog.sqlite"
    data = bytearray(file.read_bytes())
    data[4096:] = b"\xa5" * len(data[4096:])
    file.write_bytes(data)


def overwrite(root) -> None:
    (root / "v1" / "catalog.sqlite").write_bytes(b"no database at all, but long enough to be looked at " * 100)


def make_unknown(root) -> None:
    with closing(sqlite3.connect(root / "v1" / "catalog.sqlite")) as connection, connection:
        connection.execute("DROP TABLE blobs")
        connection.execute("CREATE TABLE blobs (what TEXT)")
        connection.execute("PRAGMA user_version = 99")


def test_blobs_are_known_as_they_were_published(root):
    found = take_inventory(Store.open(root))
    assert found.keys() == {ONE.digest, TWO.digest}
    assert (found[ONE.digest].filename, found[ONE.digest].verified_at) == (ONE.filename, NOW)


@pytest.mark.parametrize("damage", [lose, corrupt, overwrite, make_unknown])
def test_a_catalog_is_made_anew_from_the_wheels(root, damage):
    before = take_inventory(Store.open(root))
    damage(root)
    store = Store.open(root)
    again = take_inventory(store)
    for digest, entry in again.items():
        published = store.blob(digest).stat().st_mtime
        assert entry == replace(before[digest], verified_at=0.0, last_used=published)
    assert Catalog(root / "v1" / "catalog.sqlite").entries() == again
    assert all(store.has(made.locked()) for made in (ONE, TWO))


def test_a_blob_that_changes_after_the_catalog_was_made_anew_is_found_out(root):
    lose(root)
    take_inventory(Store.open(root))
    blob = Store.open(root).blob(ONE.digest)
    blob.chmod(0o644)
    blob.write_bytes(bytes(ONE.size))
    store = Store.open(root)
    assert not store.has(ONE.locked())
    assert store.has(TWO.locked())


def test_what_the_catalog_knows_is_taken_from_it(root):
    catalog = Catalog(root / "v1" / "catalog.sqlite")
    told = replace(catalog.entries()[ONE.digest], filename="told.whl", last_used=NOW + 5)
    catalog.put(told)
    assert take_inventory(Store.open(root))[ONE.digest] == told


def test_what_is_no_wheel_has_its_digest_alone_and_is_left_out_of_the_catalog(root):
    store = Store.open(root)
    digest = digest_of_bytes(b"no wheel")
    blob = store.blob(digest)
    blob.parent.mkdir()
    blob.write_bytes(b"no wheel")
    entry = take_inventory(store)[digest]
    assert (entry.name, entry.version, entry.filename, entry.size) == ("", "", "", 8)
    assert digest not in Catalog(root / "v1" / "catalog.sqlite").entries()


def test_what_is_gone_is_not_listed(root):
    store = Store.open(root)
    store.blob(TWO.digest).unlink()
    assert take_inventory(store).keys() == {ONE.digest}


def test_files_without_the_name_and_place_of_a_blob_are_none(root):
    store = Store.open(root)
    folder = root / "v1" / "blobs" / "sha256"
    (folder / "README").write_text("")
    (folder / "00").mkdir()
    (folder / "00" / store.blob(ONE.digest).name).write_bytes(ONE.data)
    (store.blob(ONE.digest).parent / "note").write_text("")
    assert [digest for digest, _ in blobs_of(store)] == sorted([ONE.digest, TWO.digest])


def test_a_store_without_its_blobs_folder_is_not_an_empty_one(root):
    store = Store.open(root)
    (root / "v1" / "blobs" / "sha256").rename(root / "elsewhere")
    with pytest.raises(StoreError, match="sha256: No such file or directory"):
        take_inventory(store)
