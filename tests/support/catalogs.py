"""Catalogs' contents, and what else than `Catalog` can do to their files."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from wheelcache.catalog import READERS, Entry, HostRecord, Pieces
from wheelcache.digest import digest_of_bytes


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


def run_sql(file: Path, *statements: tuple) -> list[tuple]:
    """Does what another program would do to the file; returns the rows of the last statement."""
    with closing(sqlite3.connect(file)) as connection, connection:
        for statement, *values in statements:
            rows = connection.execute(statement, values).fetchall()
    return rows


def forge(file: Path, table: str, *values: object) -> None:
    """Writes a row whose check word fits, whatever it says."""
    [made] = [each for each in READERS if each.name == table]
    row = made.checked(values)
    run_sql(file, (f"REPLACE INTO {table} VALUES ({', '.join('?' * len(row))})", *row))
