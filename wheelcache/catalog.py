"""The catalog: each blob's name, its pieces' checksums, when it was used; hosts' speed; records of runs (SQLite).

Blobs are the truth. A catalog that is missing, damaged or of another version is made anew, with what is sound of it,
and fills itself again: from the blobs, and as hosts are measured anew.
"""

from __future__ import annotations

import os
import re
import sqlite3
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import Final

from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from wheelcache.digest import Digest, digest_of_bytes
from wheelcache.rowfile import Row, RowFile, Rows, Table, Value

VERSION: Final = 3

_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_INODE: Final = re.compile(r"[0-9]{1,40}")
_HOST: Final = re.compile(r"[\w.:%\[\]-]{1,300}")
_HIGHEST_RATE: Final = 1e13
_HIGHEST_COUNT: Final = 1_000_000
_HIGHEST_RUN: Final = 999_999_999
_LATEST: Final = 1e11
"""Bytes per second, lies or faults, seconds since 1970: beyond these a row is no record of ours."""


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
        size: of the blob, in bytes.
        piece_bytes: the size of each piece in bytes; the last one may be shorter.
        crcs: one per piece, in order.
    """

    size: int
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


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRow:
    """One service's part in a run of a project.

    Attributes:
        project: its folder.
        number: the run's, from 1.
        service: empty for what is the whole run's.
        record: JSON.
    """

    project: str
    number: int
    service: str
    record: str


_BLOBS: Final = Table(name="blobs", columns=tuple(field.name for field in fields(Entry)))
_PIECES: Final = Table(name="pieces", columns=("digest", *(field.name for field in fields(Pieces))))
_SOURCES: Final = Table(name="sources", columns=tuple(field.name for field in fields(HostRecord)))
_RUNS: Final = Table(name="runs", columns=("key", *(field.name for field in fields(RunRow))))


class Catalog:
    """The catalog in one file; every call is one short transaction of its own, from any thread.

    Raises:
        StoreError: (every method) the file cannot be read or written.
    """

    def __init__(self, file: Path) -> None:
        self._rows = RowFile(file, tuple(READERS), version=VERSION, older=_older)

    def entries(self) -> dict[Digest, Entry]:
        """Returns all entries."""
        found = self._rows.read(lambda rows: [_entry(row) for row in rows.all(_BLOBS)])
        return {entry.digest: entry for entry in found if entry is not None}

    def put(self, entry: Entry, pieces: Pieces | None = None) -> None:
        """Adds an entry, or replaces the one of its digest.

        Args:
            entry: the blob.
            pieces: its checksums; None keeps those that are there, which are of the same bytes.
        """

        def write(rows: Rows) -> None:
            rows.put(_BLOBS, _entry_row(entry))
            if pieces is not None:
                rows.put(_PIECES, _pieces_row(entry.digest, pieces))

        self._rows.write(write)

    def add(self, entries: Iterable[Entry]) -> None:
        """Adds entries for digests that have none."""
        news = list(entries)

        def write(rows: Rows) -> None:
            for entry in news:
                if rows.get(_BLOBS, entry.digest) is None:
                    rows.put(_BLOBS, _entry_row(entry))

        self._rows.write(write)

    def remove(self, digests: Iterable[Digest]) -> None:
        """Removes entries and their checksums; digests that have none are no matter."""
        gone = list(digests)

        def write(rows: Rows) -> None:
            for digest in gone:
                rows.remove(_BLOBS, digest)
                rows.remove(_PIECES, digest)

        self._rows.write(write)

    def pieces(self, digest: Digest) -> Pieces | None:
        """Returns the checksums of a blob; None where none are known."""
        row = self._rows.read(lambda rows: rows.get(_PIECES, digest))
        return _pieces(row) if row is not None else None

    def host_records(self) -> dict[str, HostRecord]:
        """Returns how each host did; rows that no run of ours can have written are left out."""
        found = self._rows.read(lambda rows: [_host_record(row) for row in rows.all(_SOURCES)])
        return {record.host: record for record in found if record is not None}

    def put_host_records(self, records: Iterable[HostRecord]) -> None:
        """Adds records, or replaces those of their hosts; those that would not be read again are left out."""
        news = [row for record in records if _host_record(row := astuple(record))]

        def write(rows: Rows) -> None:
            for row in news:
                rows.put(_SOURCES, row)

        self._rows.write(write)

    def touch(self, digests: Iterable[Digest], *, now: float) -> None:
        """Notes that blobs were used."""
        used = list(digests)

        def write(rows: Rows) -> None:
            for digest in used:
                row = rows.get(_BLOBS, digest)
                if row is not None and (entry := _entry(row)) is not None:
                    rows.put(_BLOBS, _entry_row(replace(entry, last_used=now)))

        self._rows.write(write)

    def run_rows(self, project: str) -> list[RunRow]:
        """Returns what is recorded of a project's runs."""
        found = self._rows.read(lambda rows: [_run_row(row) for row in rows.beginning(_RUNS, _runs_prefix(project))])
        return [row for row in found if row is not None and row.project == project]

    def add_run(self, project: str, records: Mapping[str, str], *, keep: int) -> int:
        """Adds a run, and returns its number, which is one higher than that of the newest.

        Args:
            project: the project's folder.
            records: what is recorded, by service; that of the empty name is the whole run's.
            keep: so many of each service's records stay, the newest; a run's own stays as long as one of these does.
        """

        def write(rows: Rows) -> int:
            found = map(_run_row, rows.beginning(_RUNS, _runs_prefix(project)))
            known = {(row.service, row.number) for row in found if row is not None}
            number = 1 + max((number for _, number in known), default=0)
            known |= {(service, number) for service in records}
            stale = stale_records(known, keep=keep)
            for service, record in records.items():
                rows.put(_RUNS, (_run_key(project, number, service), project, number, service, record))
            for service, old in stale:
                rows.remove(_RUNS, _run_key(project, old, service))
            return number

        return self._rows.write(write)

    def renew(self, *, aside: Path) -> Path | None:
        """Makes the file anew with what is sound of it, and moves the old one into the folder *aside*.

        Returns:
            Where the old one is now; None where there was none.
        """
        return self._rows.renew(aside=aside)


def _entry_row(entry: Entry) -> Row:
    *values, inode, verified_at, last_used = astuple(entry)
    return (*values, str(inode), verified_at, last_used)  # some file systems' numbers are too large for SQLite


def _entry(row: Row) -> Entry | None:
    match row:
        case (
            str(digest),
            str(name),
            str(version),
            str(filename),
            int(size),
            int(mtime_ns),
            str(inode),
            int(verified_at) | float(verified_at),
            int(last_used) | float(last_used),
        ) if (
            _DIGEST.fullmatch(digest)
            and size >= 0
            and _INODE.fullmatch(inode)
            and 0 <= verified_at <= _LATEST
            and 0 <= last_used <= _LATEST
        ):
            return Entry(
                digest=Digest(digest),
                name=name,
                version=version,
                filename=filename,
                size=size,
                mtime_ns=mtime_ns,
                inode=int(inode),
                verified_at=verified_at,
                last_used=last_used,
            )
    return None


def _pieces_row(digest: Digest, pieces: Pieces) -> Row:
    words = struct.pack(f">{len(pieces.crcs)}I", *pieces.crcs)
    return (digest, pieces.size, pieces.piece_bytes, words)


def _pieces(row: Row) -> Pieces | None:
    match row:
        case (str(), int(size), int(piece_bytes), bytes(words)) if size >= 0 and piece_bytes > 0:
            if len(words) == 4 * -(-size // piece_bytes):
                crcs = struct.unpack(f">{len(words) // 4}I", words)
                return Pieces(size=size, piece_bytes=piece_bytes, crcs=crcs)
    return None


def _host_record(row: Row) -> HostRecord | None:
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


def _runs_prefix(project: str) -> str:
    return f"{digest_of_bytes(os.fsencode(project))} "


def _run_key(project: str, number: int, service: str) -> str:
    return f"{_runs_prefix(project)}{number:09d} {service}"


def _run_row(row: Row) -> RunRow | None:
    match row:
        case (str(key), str(project), int(number), str(service), str(record)):
            if 0 < number <= _HIGHEST_RUN and key == _run_key(project, number, service):
                return RunRow(project=project, number=number, service=service, record=record)
    return None


def stale_records(known: Iterable[tuple[str, int]], *, keep: int) -> set[tuple[str, int]]:
    """Returns which records of runs are no longer kept.

    Args:
        known: service and run of each; the service is empty for what is the whole run's.
        keep: so many of each service's.
    """
    known = set(known)
    kept: set[tuple[str, int]] = set()
    for service in {service for service, _ in known}:
        kept |= set(sorted((each for each in known if each[0] == service), reverse=True)[:keep])
    kept |= {("", number) for _, number in kept}
    return known - kept


READERS: Final[Mapping[Table, Callable[[Row], object]]] = {
    _BLOBS: _entry,
    _PIECES: _pieces,
    _SOURCES: _host_record,
    _RUNS: _run_row,
}
"""Every table, with what makes a value of its row; None of a row that no run of ours can have written."""


def _older(connection: sqlite3.Connection, version: int) -> Iterator[tuple[Table, Row]]:
    """Reads versions 1, which had entries alone, and 2; none of them had check words."""
    if version not in (1, 2):
        return
    sizes: dict[object, Value] = {}
    columns = ", ".join(_BLOBS.columns)
    for row in connection.execute(f"SELECT {columns} FROM blobs"):  # noqa: S608 - our own names
        *values, inode, verified_at, last_used = row
        entry = _entry((*values, str(inode), verified_at, last_used))
        if entry is not None and _is_named(entry):
            sizes[entry.digest] = entry.size
            yield _BLOBS, _entry_row(entry)
    if version == 1:
        return
    for digest, piece_bytes, words in connection.execute("SELECT digest, piece_bytes, crcs FROM pieces"):
        row = (digest, sizes.get(digest), piece_bytes, words)
        if _pieces(row) is not None:
            yield _PIECES, row
    for row in connection.execute("SELECT * FROM sources"):
        if _host_record(row) is not None:
            yield _SOURCES, row


def _is_named(entry: Entry) -> bool:
    """True when the three names of a wheel say the same."""
    try:
        project, version, _, _ = parse_wheel_filename(entry.filename)
        return project == entry.name and version == Version(entry.version)
    except (InvalidWheelFilename, InvalidVersion):
        return False
