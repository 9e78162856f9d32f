"""Rows in an SQLite file, each with a check word, so that a flipped bit costs the row it is in and no other.

SQLite finds pages that are out of joint, and believes what stands in their rows. So each row carries a digest of its
table's name and its values: one that does not fit is no row at all, to whoever reads. A file that is damaged, or of
another version, is made anew with all rows that fit. Where the disk is full its rows are kept in memory: nobody is to
be kept from looking at a store, or from making room in it, because a note cannot be written down.
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Final, TypeVar

from wheelcache.errors import StoreError, StoreFullError
from wheelcache.files import exclusive, free_name, move_into, store_errors, temporary_name
from wheelcache.ordinary import expect_own, kind_of, open_new
from wheelcache.room import is_full

Value = str | int | float | bytes | None
Row = tuple[Value, ...]

_CHECK_BYTES: Final = 8
_BUSY_SECONDS: Final = 30.0
ERRORS: Final = (sqlite3.Error, UnicodeDecodeError)
"""What is raised over a file; the latter where a name in it is no text, which Python wants to say."""

_ATTEMPTS: Final = 5
"""How often a file is used that somebody else damages, or makes anew, meanwhile."""

_BESIDE: Final = ("-journal", "-wal", "-shm")
"""What SQLite puts beside a file; of one that is no more it would be taken for the next one's."""

_REFUSED: Final = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM})
"""What SQLite says where the operating system says no."""

_DAMAGED: Final = frozenset({sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
"""What SQLite says of bytes that no run of ours wrote; our statements have no faults that it could mean instead."""

_REMOVE: Final = "remove this file: it is made anew"

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """One table.

    Attributes:
        name: of the table.
        columns: their names; the first is the key.
    """

    name: str
    columns: tuple[str, ...]

    @property
    def schema(self) -> str:
        """The statement that makes it: without types, so that what is read is what was written."""
        key, *others = self.columns
        return f"CREATE TABLE {self.name} ({key} PRIMARY KEY, {', '.join(others)}, checked) WITHOUT ROWID"

    def checked(self, values: Row) -> Row:
        """Returns the row as it stands in the file."""
        said = repr((self.name, *values)).encode()
        return (*values, blake2b(said, digest_size=_CHECK_BYTES).digest())

    def sound(self, row: Row) -> Row | None:
        """Returns the values of a row as it stands in a file; None where they are not those that were written."""
        values = row[:-1]
        return values if len(values) == len(self.columns) and self.checked(values) == row else None


class Rows:
    """The rows of an open file; what is changed here is changed as a whole, or not at all."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def all(self, table: Table) -> Iterator[Row]:
        """Yields the values of all rows."""
        for row in self._connection.execute(f"SELECT * FROM {table.name}").fetchall():  # noqa: S608 - our own names
            if (values := table.sound(row)) is not None:
                yield values

    def get(self, table: Table, key: str) -> Row | None:
        """Returns the values of the row of *key*; None where there is none."""
        row = self._connection.execute(
            f"SELECT * FROM {table.name} WHERE {table.columns[0]} = ?",  # noqa: S608 - our own names
            (key,),
        ).fetchone()
        return table.sound(row) if row is not None else None

    def beginning(self, table: Table, prefix: str) -> Iterator[Row]:
        """Yields the values of the rows whose keys begin with *prefix*, which is not empty, in the keys' order."""
        after = f"{prefix[:-1]}{chr(ord(prefix[-1]) + 1)}"
        key = table.columns[0]
        for row in self._connection.execute(
            f"SELECT * FROM {table.name} WHERE {key} >= ? AND {key} < ? ORDER BY {key}",  # noqa: S608 - our own names
            (prefix, after),
        ).fetchall():
            if (values := table.sound(row)) is not None:
                yield values

    def put(self, table: Table, values: Row) -> None:
        """Adds a row, or replaces the one of its key."""
        marks = ", ".join("?" * (len(values) + 1))
        self._connection.execute(f"REPLACE INTO {table.name} VALUES ({marks})", table.checked(values))  # noqa: S608

    def remove(self, table: Table, key: str) -> None:
        """Removes the row of *key*, if there is one."""
        self._connection.execute(f"DELETE FROM {table.name} WHERE {table.columns[0]} = ?", (key,))  # noqa: S608


Older = Callable[[sqlite3.Connection, int], Iterable[tuple[Table, Row]]]
"""Reads the rows of a file of an older version, which is given; what it cannot read it leaves out, or raises."""


class RowFile:
    """The file; every call is one short transaction of its own, from any thread.

    Args:
        file: where it is; it is made when it is first used.
        tables: all that are in it.
        version: of the tables; not 0.
        older: reads files of other versions.

    Raises:
        StoreError: (every method) the file cannot be read or written.
    """

    def __init__(self, file: Path, tables: Sequence[Table], *, version: int, older: Older) -> None:
        self._file = file
        self._tables = tables
        self._version = version
        self._older = older
        self._guard = threading.Lock()
        self._spare: sqlite3.Connection | None = None
        """In memory, with all rows: since the disk was full."""

    def read(self, work: Callable[[Rows], T]) -> T:
        """Returns what *work* makes of the rows, which it leaves as they are."""
        return self._run(work, "")

    def write(self, work: Callable[[Rows], T]) -> T:
        """Returns what *work* makes of the rows; nobody else changes them meanwhile."""
        return self._run(work, "BEGIN IMMEDIATE")

    def renew(self, *, aside: Path) -> Path | None:
        """Makes the file anew with the rows that are sound, and moves the old one into the folder *aside*.

        Returns:
            Where the old one is now; None where there was none.
        """
        with self._guard, self._errors():
            return self._renew(aside)

    def _run(self, work: Callable[[Rows], T], begin: str) -> T:
        with self._guard, self._errors():
            if self._spare is None:
                try:
                    return self._in_file(work, begin)
                except (OSError, sqlite3.Error) as error:
                    if not _is_full(error):
                        raise
                self._spare = self._copy()
            elif begin:
                with suppress(OSError, *ERRORS):  # what has room again
                    self._in_file(work, begin)
            with self._spare:
                return work(Rows(self._spare))

    def _in_file(self, work: Callable[[Rows], T], begin: str) -> T:
        for _ in range(_ATTEMPTS):
            try:
                return self._once(work, begin)
            except ERRORS as error:
                is_moved = _full_code_of(error) == sqlite3.SQLITE_READONLY_DBMOVED  # another process made it anew
                if not is_moved and not _is_damaged(error, self._file):
                    raise
            if not is_moved:
                self._renew(None)
        return self._once(work, begin)

    def _copy(self) -> sqlite3.Connection:
        """Returns all sound rows in memory."""
        rows: list[tuple[Table, Row]] = []
        if _stat(self._file) is not None:  # else SQLite would make it
            with closing(_connect(self._file)) as old:
                rows = self._sound_rows(old)
        copy = sqlite3.connect(":memory:", check_same_thread=False)
        self._fill(copy, rows)
        return copy

    def _once(self, work: Callable[[Rows], T], begin: str) -> T:
        self._expect_file()
        with closing(_connect(self._file)) as connection, connection:
            connection.execute("PRAGMA synchronous = OFF")  # nothing is lost that cannot be told or measured again
            if not self._is_fit(connection):
                raise _UnfitError("not of this version")
            if begin:
                connection.execute(begin)
            return work(Rows(connection))

    def _expect_file(self) -> None:
        """Makes the file where there is none; it is never opened otherwise: to close it would take SQLite's locks."""
        for end in _BESIDE:  # SQLite would write through a link
            expect_own(self._file.with_name(f"{self._file.name}{end}"))
        found = _stat(self._file)
        if found is None:
            with suppress(FileExistsError):
                os.close(open_new(self._file))
        elif not stat.S_ISREG(found.st_mode):
            raise OSError(None, f"expected a file, found {kind_of(found.st_mode)}", str(self._file))
        elif found.st_nlink > 1:  # what is written here is not to be written elsewhere
            raise _UnfitError(f"a file of {found.st_nlink} names (hard links)")

    def _is_fit(self, connection: sqlite3.Connection) -> bool:
        """True for the version and the tables of today, to the letter."""
        is_version = version_of(connection) == self._version
        return is_version and schemas_of(connection) == {table.name: table.schema for table in self._tables}

    def _renew(self, aside: Path | None) -> Path | None:
        with exclusive(self._file.with_suffix(".lock")):
            found, kept = _stat(self._file), None
            if found is None or not stat.S_ISREG(found.st_mode):
                if aside is not None and found is not None:
                    kept = move_into(aside, self._file)
                self._replace([])
                return kept
            if aside is not None:  # before SQLite opens it: to close a copy's source would take its locks
                kept = free_name(aside, self._file.name)
                shutil.copyfile(self._file, kept)
            with closing(_connect(self._file)) as old:
                is_alone = _lock(old, self._file) and found.st_nlink == 1
                rows = self._sound_rows(old)  # all of them, where another process was faster
                if not is_alone or not self._rewrite(old, rows):
                    self._replace(rows)  # nobody writes to it: it is no database, or it is another file as well
            return kept

    def _rewrite(self, old: sqlite3.Connection, rows: Sequence[tuple[Table, Row]]) -> bool:
        """Puts other contents into the file that is locked; False where they cannot be."""
        with closing(sqlite3.connect(":memory:")) as new:
            self._fill(new, rows)
            old.rollback()  # the lock stays
            try:
                new.backup(old)
            except ERRORS as error:
                if not _is_damaged(error, self._file):
                    raise
                return False
        return True

    def _replace(self, rows: Sequence[tuple[Table, Row]]) -> None:
        """Puts another file in its place."""
        temporary = temporary_name(self._file)
        try:
            os.close(open_new(temporary))
            with closing(_connect(temporary)) as new:
                new.execute("PRAGMA journal_mode = OFF")
                self._fill(new, rows)
            for end in _BESIDE:
                self._file.with_name(f"{self._file.name}{end}").unlink(missing_ok=True)
            temporary.replace(self._file)
        finally:
            temporary.unlink(missing_ok=True)

    def _fill(self, new: sqlite3.Connection, rows: Sequence[tuple[Table, Row]]) -> None:
        """Makes all tables in an empty file."""
        with new:
            new.execute("PRAGMA synchronous = OFF")
            new.execute("BEGIN")
            for table in self._tables:
                new.execute(table.schema)
            for table, values in rows:
                Rows(new).put(table, values)
            new.execute(f"PRAGMA user_version = {self._version}")

    def _sound_rows(self, old: sqlite3.Connection) -> list[tuple[Table, Row]]:
        """Returns all rows that fit their check words, and those of an older version."""
        found: dict[tuple[str, Value], tuple[Table, Row]] = {}
        for table in self._tables:
            for order in ("ASC", "DESC"):  # a damaged page hides what comes after it
                with suppress(*ERRORS):
                    for row in old.execute(f"SELECT * FROM {table.name} ORDER BY 1 {order}"):  # noqa: S608
                        if (values := table.sound(row)) is not None:
                            found[table.name, values[0]] = (table, values)
        with suppress(*ERRORS):
            if (version := version_of(old)) != self._version:
                for table, values in self._older(old, version):
                    found.setdefault((table.name, values[0]), (table, values))
        return list(found.values())

    @contextmanager
    def _errors(self) -> Iterator[None]:
        with store_errors(self._file):
            try:
                yield
            except ERRORS as error:
                if code_of(error) == sqlite3.SQLITE_FULL:
                    raise StoreFullError(f"{self._file}: no room left on the disk", hint="free some space") from error
                if code_of(error) in _REFUSED:
                    raise PermissionError(errno.EACCES, str(error)) from error
                hint = "run the same command again" if code_of(error) == sqlite3.SQLITE_BUSY else _REMOVE
                raise StoreError(f"{self._file}: {error}", hint=hint) from error


class _UnfitError(sqlite3.DatabaseError):
    """The file is a database, and not one of ours of today."""

    sqlite_errorcode = sqlite3.SQLITE_NOTADB


def schemas_of(connection: sqlite3.Connection) -> dict[str, str]:
    """Returns the statements that made all that is in a file, by the names of what they made."""
    return dict(connection.execute("SELECT name, sql FROM sqlite_master").fetchall())


def version_of(connection: sqlite3.Connection) -> int:
    """Returns the version that a file says it has; 0 for a new one."""
    found: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return found


def code_of(error: BaseException) -> int:
    """Returns SQLite's primary result code; 0 for what it has not said."""
    return _full_code_of(error) & 0xFF


def _full_code_of(error: BaseException) -> int:
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code


def _is_full(error: Exception) -> bool:
    """True when the disk has no room left."""
    return code_of(error) == sqlite3.SQLITE_FULL or (isinstance(error, OSError) and is_full(error))


def _is_damaged(error: Exception, file: Path) -> bool:
    """True when the file's bytes are to blame; in its head stands, too, whether it may be written to."""
    is_locked_by_its_head = _full_code_of(error) == sqlite3.SQLITE_READONLY and os.access(file, os.W_OK)
    return code_of(error) in _DAMAGED or isinstance(error, UnicodeDecodeError) or is_locked_by_its_head


def decode(raw: bytes) -> str:
    """Reads a text as it is: SQLite does not check that it is UTF-8, and one bad row must not hide the others."""
    return raw.decode(errors="replace")


def _lock(connection: sqlite3.Connection, file: Path) -> bool:
    """Keeps others out until the connection is closed; False for what is no database, or says that none may write."""
    try:
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")  # not before: waiting, it would keep others from ending
    except ERRORS as error:
        if not _is_damaged(error, file):
            raise
        return False
    return True


def _connect(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(file, timeout=_BUSY_SECONDS)
    connection.text_factory = decode
    return connection


def _stat(file: Path) -> os.stat_result | None:
    with suppress(FileNotFoundError):
        return file.lstat()
    return None
