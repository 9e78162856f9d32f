"""The catalog: what each blob is called, how its file looked when verified, when it was last used (SQLite).

Blobs are the truth. A catalog that is missing, damaged or of another version is made anew and fills itself again.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Final, TypeVar

from wheelcache.digest import Digest
from wheelcache.errors import StoreError, StoreFullError

VERSION: Final = 1
_SCHEMA: Final = """
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
_PUT: Final = "REPLACE INTO blobs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_BUSY_SECONDS: Final = 30.0

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One blob; times in seconds since 1970, the stat as it was when the bytes were last verified."""

    digest: Digest
    name: str
    version: str
    filename: str
    size: int
    mtime_ns: int
    inode: int
    verified_at: float
    last_used: float


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
            connection.row_factory = sqlite3.Row
            rows = connection.execute("SELECT * FROM blobs").fetchall()
            return {row["digest"]: Entry(**dict(row)) for row in rows}

        return self._run(read)

    def put(self, entry: Entry) -> None:
        """Adds an entry, or replaces the one of its digest."""
        self._run(lambda connection: connection.execute(_PUT, astuple(entry)))

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
            found = connection.execute("PRAGMA user_version").fetchone()[0]
            if found != VERSION:
                connection.execute("DROP TABLE IF EXISTS blobs")
                connection.execute(_SCHEMA)
                connection.execute(f"PRAGMA user_version = {VERSION}")
            connection.execute("PRAGMA synchronous = OFF")  # nothing is lost that the blobs do not tell again
            return work(connection)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if _code(error) == sqlite3.SQLITE_FULL:
                raise StoreFullError(f"{self._file}: no room left on the disk", hint="free some space") from error
            raise StoreError(f"{self._file}: {error}", hint="remove this file: it is made anew") from error


def _code(error: sqlite3.Error) -> int:
    """Returns SQLite's primary result code; 0 for what the module itself found."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF
