"""Looks for damage in the catalog itself, without touching it: opening it for use would make a damaged one anew."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from wheelcache.catalog import READERS, VERSION
from wheelcache.findings import Finding
from wheelcache.ordinary import kind_of
from wheelcache.rowfile import ERRORS, code_of, decode, schemas_of, version_of

_BUSY_SECONDS: Final = 30.0
_NAMED: Final = 3
"""As many problems as a finding names."""


def check_catalog(file: Path) -> list[Finding]:
    """Returns what is wrong with the catalog: its pages, its version, rows that no run of ours can have written.

    One that is missing, or busy all the time, has nothing wrong.
    """
    try:
        problems = list(_problems(file))
    except FileNotFoundError:
        return []
    except (OSError, *ERRORS) as error:
        if code_of(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return []
        problems = [str(error)]
    if not problems:
        return []
    more = f"; and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
    return [
        Finding(
            kind="catalog",
            path=file,
            expected="a catalog as we write it",
            found="; ".join(problems[:_NAMED]) + more,
            hint="wheelcache verify --repair puts it aside, and makes it anew from the blobs",
        )
    ]


def _problems(file: Path) -> Iterator[str]:
    found = file.lstat()  # not opened but by SQLite: to close it would take the locks that SQLite holds on it
    if not stat.S_ISREG(found.st_mode):
        yield kind_of(found.st_mode)
        return
    if found.st_nlink > 1:
        yield f"a file of {found.st_nlink} names (hard links)"
    uri = f"{file.absolute().as_uri()}?mode=rw"  # what a killed process began is rolled back, as by any other use
    with closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS)) as connection:
        connection.text_factory = decode
        _begin(connection, may_write=os.access(file, os.W_OK))
        yield from _damage(connection)


def _begin(connection: sqlite3.Connection, *, may_write: bool) -> None:
    """Lets all that is read be of one moment; where one *may write*, a file whose head forbids it is damaged."""
    try:
        connection.execute("BEGIN IMMEDIATE" if may_write else "BEGIN")
    except sqlite3.Error as error:
        if code_of(error) != sqlite3.SQLITE_FULL:
            raise
        connection.execute("BEGIN")


def _damage(connection: sqlite3.Connection) -> Iterator[str]:
    said = [str(row[0]) for row in connection.execute(f"PRAGMA integrity_check({_NAMED})")]
    yield from (" ".join(each.split()) for each in said if each != "ok")
    version, schemas = version_of(connection), schemas_of(connection)
    is_ours = schemas == {table.name: table.schema for table in READERS}
    if version != VERSION and not is_ours and (not schemas or 0 < version < VERSION):
        return  # it is made anew when it is next used
    if version != VERSION:
        yield f"version {version}, and ours is {VERSION}"
    if not is_ours:
        yield "other tables than ours"
    for table, read in READERS.items():
        for row in connection.execute(f"SELECT * FROM {table.name}").fetchall():  # noqa: S608 - our own names
            values = table.sound(row)
            if values is None or read(values) is None:
                yield f"{table.name}: {str(row[0])[:80]!r}: a row that is not as it was written"
