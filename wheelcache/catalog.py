"""The catalog: what each blob is called, its pieces' checksums, when it was used; how fast each host was (SQLite).

Blobs are the truth. A catalog that is missing, damaged or of an unknown version is made anew and fills itself again:
from the blobs, and as hosts are measured anew. One of an older version that we know is brought up to date.
"""

from __future__ import annotations

import re
import sqlite3
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Final, TypeVar

from wheelcache.digest import Digest
from wheelcache.errors import StoreError, StoreFullError

VERSION: Final = 2
_TABLES: Final = {
    "blobs": """
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
""",
    "pieces": """
CREATE TABLE IF NOT EXISTS pieces (
    digest TEXT PRIMARY KEY,
    piece_bytes INTEGER NOT NULL,
    crcs BLOB NOT NULL
)
""",
    "sources": """
CREATE TABLE IF NOT EXISTS sources (
    host TEXT PRIMARY KEY,
    rate REAL NOT NULL,
    per_connection REAL NOT NULL,
    lies INTEGER NOT NULL,
    faults INTEGER NOT NULL,
    seen_at REAL NOT NULL
) WITHOUT ROWID
""",
}
_KEPT: Final = {1: ("blobs",)}
"""The tables that are taken over as they are, by the version of the file."""

_PUT: Final = "REPLACE INTO blobs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_ADD: Final = "INSERT OR IGNORE INTO blobs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_PUT_PIECES: Final = "REPLACE INTO pieces VALUES (?, ?, ?)"
_PIECES: Final = "SELECT piece_bytes, crcs, size FROM pieces JOIN blobs USING (digest) WHERE digest = ?"
_PUT_HOST: Final = "REPLACE INTO sources VALUES (?, ?, ?, ?, ?, ?)"
_HOSTS: Final = "SELECT host, rate, per_connection, lies, faults, seen_at FROM sources"

_HOST: Final = re.compile(r"[\w.:%\[\]-]{1,300}")
_HIGHEST_RATE: Final = 1e13
_HIGHEST_COUNT: Final = 1_000_000
_LATEST: Final = 1e11
"""Bytes per second, lies or faults, seconds since 1970: beyond these a row is no record of ours."""

_BUSY_SECONDS: Final = 30.0

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One blob; times in seconds since 1970, the stat as it was when the bytes were last verified.

    One that was made from the blob itself was not verified since (0), and was last used when it was published. Where
    the blob is no readable wheel, name, version and filename are empty.
    """

    digest: Digest
    name: str
    version: str
    filename: str
    size: int
    mtime_ns: int
    inode: int
    verified_at: float
    last_used: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Pieces:
    """A blob's CRC-32 piece by piece, to find where it rots; whether it is whole its digest says.

    Attributes:
        piece_bytes: the size of each piece in bytes; the last one may be shorter.
        crcs: one per piece, in order.
    """

    piece_bytes: int
    crcs: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class HostRecord:
    """How a host did over all runs.

    Attributes:
        host: and port, as `host_of` gives them; never with credentials.
        rate: bytes per second, of all its connections together.
        per_connection: bytes per second of one.
        lies: wheels of which it gave wrong bytes, since it last gave a right one.
        faults: failures in a row at the end of the last run.
        seen_at: seconds since 1970.
    """

    host: str
    rate: float
    per_connection: float
    lies: int
    faults: int
    seen_at: float


class Catalog:
    """The catalog in one file; every call is one short transaction of its own, from any thread.

    Raises:
        StoreError: (every method) the file cannot be read or written.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._guard = threading.Lock()

    def entries(self) -> dict[Digest, Entry]:
        """Returns all entries."""

        def read(connection: sqlite3.Connection) -> dict[Digest, Entry]:
            names = [each.name for each in fields(Entry)]  # not the file's own, in which bits may flip
            rows = connection.execute("SELECT * FROM blobs").fetchall()
            entries = [Entry(**dict(zip(names, row, strict=True))) for row in rows]
            return {entry.digest: entry for entry in entries}

        return self._run(read)

    def put(self, entry: Entry, pieces: Pieces | None = None) -> None:
        """Adds an entry, or replaces the one of its digest.

        Args:
            entry: the blob.
            pieces: its checksums; None keeps those that are there, which are of the same bytes.
        """

        def write(connection: sqlite3.Connection) -> None:
            connection.execute(_PUT, astuple(entry))
            if pieces is not None:
                words = struct.pack(f">{len(pieces.crcs)}I", *pieces.crcs)
                connection.execute(_PUT_PIECES, (entry.digest, pieces.piece_bytes, words))

        self._run(write)

    def add(self, entries: Iterable[Entry]) -> None:
        """Adds entries for digests that have none."""
        rows = [astuple(entry) for entry in entries]
        self._run(lambda connection: connection.executemany(_ADD, rows))

    def remove(self, digests: Iterable[Digest]) -> None:
        """Removes entries and their checksums; digests that have none are no matter."""
        rows = [(digest,) for digest in digests]

        def write(connection: sqlite3.Connection) -> None:
            for table in ("blobs", "pieces"):
                connection.executemany(f"DELETE FROM {table} WHERE digest = ?", rows)  # noqa: S608 - our own names

        self._run(write)

    def pieces(self, digest: Digest) -> Pieces | None:
        """Returns the checksums of a blob; None where none are known that fit its size."""
        return _pieces(self._run(lambda connection: connection.execute(_PIECES, (digest,)).fetchone()))

    def host_records(self) -> dict[str, HostRecord]:
        """Returns how each host did; rows that no run of ours can have written are left out."""
        rows = self._run(lambda connection: connection.execute(_HOSTS).fetchall())
        return {record.host: record for row in rows if (record := _host_record(row))}

    def put_host_records(self, records: Iterable[HostRecord]) -> None:
        """Adds records, or replaces those of their hosts; those that would not be read again are left out."""
        rows = [row for record in records if _host_record(row := astuple(record))]
        self._run(lambda connection: connection.executemany(_PUT_HOST, rows))

    def touch(self, digests: Iterable[Digest], *, now: float) -> None:
        """Notes that blobs were used."""
        rows = [(now, digest) for digest in digests]
        self._run(lambda connection: connection.executemany("UPDATE blobs SET last_used = ? WHERE digest = ?", rows))

    def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with self._guard, self._errors():
            try:
                return self._once(work)
            except sqlite3.DatabaseError as error:
                if _code(error) not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                    raise
            self._file.unlink(missing_ok=True)
            return self._once(work)

    def _once(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with closing(sqlite3.connect(self._file, timeout=_BUSY_SECONDS)) as connection, connection:
            connection.text_factory = _text
            connection.execute("PRAGMA synchronous = OFF")  # nothing is lost that cannot be told or measured again
            if _version(connection) != VERSION:
                _bring_up(connection)
            return work(connection)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if _code(error) == sqlite3.SQLITE_FULL:
                raise StoreFullError(f"{self._file}: no room left on the disk", hint="free some space") from error
            raise StoreError(f"{self._file}: {error}", hint="remove this file: it is made anew") from error


def _version(connection: sqlite3.Connection) -> int:
    found: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return found


def _bring_up(connection: sqlite3.Connection) -> None:
    """Makes the tables of today, keeping what a known version holds, in one transaction that stays open."""
    connection.execute("BEGIN IMMEDIATE")
    found = _version(connection)
    if found == VERSION:  # another process was faster
        return
    for table, schema in _TABLES.items():
        if table not in _KEPT.get(found, ()):
            connection.execute(f"DROP TABLE IF EXISTS {table}")
        connection.execute(schema)
    connection.execute(f"PRAGMA user_version = {VERSION}")


def _text(raw: bytes) -> str:
    """Reads a text as it is: SQLite does not check that it is UTF-8, and one bad row must not hide the others."""
    return raw.decode(errors="replace")


def _pieces(row: tuple[object, ...] | None) -> Pieces | None:
    match row:
        case (int(piece_bytes), bytes(words), int(size)) if piece_bytes > 0:
            if len(words) == 4 * -(-size // piece_bytes):
                return Pieces(piece_bytes=piece_bytes, crcs=struct.unpack(f">{len(words) // 4}I", words))
    return None


def _host_record(row: tuple[object, ...]) -> HostRecord | None:
    match row:
        case (
            str(host),
            int(rate) | float(rate),
            int(per_connection) | float(per_connection),
            int(lies),
            int(faults),
            int(seen_at) | float(seen_at),
        ) if (
            _HOST.fullmatch(host)
            and 0 <= rate <= _HIGHEST_RATE
            and 0 <= per_connection <= _HIGHEST_RATE
            and 0 <= lies <= _HIGHEST_COUNT
            and 0 <= faults <= _HIGHEST_COUNT
            and 0 <= seen_at <= _LATEST
        ):
            return HostRecord(
                host=host,
                rate=float(rate),
                per_connection=float(per_connection),
                lies=lies,
                faults=faults,
                seen_at=float(seen_at),
            )
    return None


def _code(error: sqlite3.Error) -> int:
    """Returns SQLite's primary result code; 0 for what the module itself found."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF
