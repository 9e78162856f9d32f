"""Looks for damage in the catalog itself, without touching it: opening it for use would make a damaged one anew."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from wheelcache.catalog import VERSION
from wheelcache.findings import Finding
from wheelcache.ordinary import open_regular

_BUSY_SECONDS: Final = 30.0
_NAMED: Final = 3
"""As many problems as a finding names."""

_ROWS: Final = "SELECT digest, name, version, filename, size, mtime_ns, inode, verified_at, last_used FROM blobs"
_PIECES: Final = "SELECT digest, piece_bytes, length(crcs), size FROM pieces JOIN blobs USING (digest)"


def check_catalog(file: Path) -> list[Finding]:
    """Returns what is wrong with the catalog: its pages, its version, rows that no run of ours can have written.

    One that is missing, or busy all the time, has nothing wrong.
    """
    try:
        open_regular(file).close()
        problems = list(_problems(file))
    except FileNotFoundError:
        return []
    except (OSError, sqlite3.Error, UnicodeDecodeError) as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
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
    uri = f"{file.absolute().as_uri()}?mode=rw"  # what a killed process began is rolled back, as by any other use
    with closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS)) as connection:
        connection.execute("BEGIN")  # all that is read is of one moment, whoever writes meanwhile
        found = [str(row[0]) for row in connection.execute(f"PRAGMA integrity_check({_NAMED})")]
        yield from (" ".join(each.split()) for each in found if each != "ok")
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        has_tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if has_tables and not 0 < version <= VERSION:
            yield f"version {version}, and the newest is {VERSION}"
        if version != VERSION:  # it is brought up to date when it is next used
            return
        for row in connection.execute(_ROWS).fetchall():
            yield from _row_problem(row)
        for digest, *numbers in connection.execute(_PIECES).fetchall():
            match numbers:
                case (int(piece), int(length), int(size)) if piece > 0 and length == 4 * -(-size // piece):
                    continue
            yield f"{digest}: checksums that are not one for each piece"


def _row_problem(row: tuple[object, ...]) -> Iterator[str]:
    match row:
        case (
            str(digest),
            str(name),
            str(version),
            str(filename),
            int(size),
            int(),
            int(),
            int() | float(),
            int() | float(),
        ) if re.fullmatch(r"sha256:[0-9a-f]{64}", digest) and size >= 0:
            if not _is_named(name, version, filename):
                yield f"{digest}: {filename!r} called {name!r} {version!r}"
        case _:
            yield f"{str(row[0])[:80]!r}: an entry of other values than ours"


def _is_named(name: str, version: str, filename: str) -> bool:
    """True when the three names of a wheel say the same."""
    try:
        project, parsed, _, _ = parse_wheel_filename(filename)
        return project == name and parsed == Version(version)
    except (InvalidWheelFilename, InvalidVersion):
        return False
