"""Which blobs the store has: the catalog's entries, and where it was lost, what the wheels say of themselves."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from wheelcache.catalog import Entry
from wheelcache.digest import Digest, parse_digest
from wheelcache.files import store_errors
from wheelcache.store import Store
from wheelcache.wheelfile import read_wheel_name


def take_inventory(store: Store) -> dict[Digest, Entry]:
    """Returns an entry for every blob, with its size as it is now.

    Blobs that the catalog does not know, since it was lost or never told, are looked into, and it is told. What is no
    readable wheel has a digest and a size, and no name.

    Raises:
        StoreError: a folder, a blob or the catalog cannot be read.
    """
    known = store.known()
    found: dict[Digest, Entry] = {}
    for digest, blob in blobs_of(store):
        with store_errors(blob), suppress(FileNotFoundError):  # pruned since
            seen = blob.stat()
            found[digest] = replace(known.get(digest) or entry_of(digest, blob, seen), size=seen.st_size)
    if news := [entry for digest, entry in found.items() if digest not in known and entry.filename]:
        store.add_known(news)
    return found


def blobs_of(store: Store) -> Iterator[tuple[Digest, Path]]:
    """Yields the files that are blobs by name and place, in order of their digests.

    Raises:
        StoreError: a folder cannot be read.
    """
    folder = store.root / "v1" / "blobs" / "sha256"
    with store_errors(folder):
        files = sorted(file for each in folder.iterdir() if each.is_dir() for file in each.iterdir())
    for file in files:
        with suppress(ValueError):  # no name of ours
            digest = parse_digest(f"sha256:{file.name}")
            if file == store.blob(digest) and file.is_file():
                yield digest, file


def entry_of(digest: Digest, blob: Path, seen: os.stat_result) -> Entry:
    """Makes a blob's entry from the wheel itself; its bytes are taken as they are."""
    named = read_wheel_name(blob)
    return Entry(
        digest=digest,
        name=named.project if named else "",
        version=named.version if named else "",
        filename=named.filename if named else "",
        size=seen.st_size,
        mtime_ns=seen.st_mtime_ns,
        inode=seen.st_ino,
        verified_at=0.0,
        last_used=seen.st_mtime,
    )


def partials_of(store: Store) -> dict[Digest, int]:
    """Returns the wheels that are begun, each with the bytes that will not be fetched again.

    Raises:
        StoreError: they cannot be read.
    """
    folder = store.root / "v1" / "partial"
    found = {}
    with store_errors(folder):
        for file in sorted(folder.glob("*.part")):
            with suppress(ValueError):
                digest = parse_digest(f"sha256:{file.stem}")
                found[digest] = store.partial_bytes(digest)
    return found


def quarantine_of(store: Store) -> dict[Path, int]:
    """Returns the files that were put aside, each with its size in bytes.

    Raises:
        StoreError: the folder cannot be read.
    """
    folder = store.root / "v1" / "quarantine"
    with store_errors(folder):
        return {file: file.lstat().st_size for file in sorted(folder.iterdir())}
