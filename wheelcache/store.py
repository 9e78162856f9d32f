"""The content-addressed store: whole blobs under their digest, partials beside them."""

from __future__ import annotations

import errno
import functools
import hashlib
import os
import shlex
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from wheelcache.digest import Digest, hex_of
from wheelcache.digestlock import lock_digest
from wheelcache.errors import IntegrityError, StoreError
from wheelcache.files import (
    move_into,
    reflink,
    store_errors,
    write_atomically,
)
from wheelcache.lock import LockedWheel
from wheelcache.ordinary import is_open_to_all, make_folder, make_folders, open_regular
from wheelcache.partial import PIECE_BYTES, Partial, usable_bytes
from wheelcache.place import boot_id, this_place
from wheelcache.seeds import copy_good_pieces, copy_partial, write_seed
from wheelcache.writers import Claim, Writer, last_writer, this_writer

if TYPE_CHECKING:
    from wheelcache.catalog import Catalog, Entry, HostRecord, Pieces

_CACHEDIR_TAG: Final = """Signature: 8a477f597d28d172789f06886806bc55
# This folder is a cache of wheelcache's; backup programs may leave it out (https://bford.info/cachedir/).
"""
_FOLDERS: Final = (".", "blobs", "blobs/sha256", "partial", "views", "projects", "pins", "leases", "quarantine")
"""Below `v1`, each after the one that it is in."""

_COMMAND: Final = "wheelcache"


class Store:
    """The content-addressed store (DESIGN.md section 6).

    A blob that exists is whole: it got its name by a rename, after its bytes were hashed and on the disk. Any number of
    processes and threads may share a store.

    Attributes:
        root: the cache folder.
        boot: this start of the machine; empty where the system does not tell it from others.
    """

    def __init__(self, root: Path, *, boot: str, now: Callable[[], float], command: str = _COMMAND) -> None:
        self.root = root
        self._command = command
        self._writer: Writer | None = None
        self._base = root / "v1"
        self.boot = boot
        self._now = now
        self._known: dict[Digest, Entry] | None = None
        self._opened_catalog: Catalog | None = None

    @classmethod
    def open(cls, root: Path, *, now: Callable[[], float] = time.time, command: str = _COMMAND) -> Store:
        """Opens the store in the cache folder *root*, making what is not there yet.

        Args:
            root: the cache folder.
            now: seconds since 1970.
            command: what others are told who wait for this process.

        Raises:
            StoreError: it cannot be written, or anybody may; or something else has the place of one of its folders.
        """
        base = root / "v1"
        with store_errors(root):
            make_folders(root)
        for folder in _FOLDERS:
            with store_errors(base / folder):
                make_folder(base / folder)
        for path in (root, base):
            if is_open_to_all(mode := path.stat().st_mode):
                raise StoreError(
                    f"{path}: anybody may change what is in it (mode {stat.S_IMODE(mode):o})",
                    hint=f"chmod o-w {shlex.quote(str(path))}; or name another with --cache-dir or WHEELCACHE_DIR",
                    path=str(path),
                )
        with store_errors(base / "partial"):
            if not os.access(base / "partial", os.W_OK):
                raise OSError(errno.EACCES, "the cache folder cannot be written")
        with store_errors(root):
            if not (root / "CACHEDIR.TAG").exists():
                write_atomically(root / "CACHEDIR.TAG", _CACHEDIR_TAG.encode())
        return cls(root, boot=boot_id(), now=now, command=command)

    def blob(self, digest: Digest) -> Path:
        """Returns where the blob of *digest* is, or would be."""
        name = hex_of(digest)
        return self._base / "blobs" / "sha256" / name[:2] / name

    def has(self, wheel: LockedWheel) -> bool:
        """True when the store holds *wheel*; one stat, unless the file changed since it was verified.

        Raises:
            StoreError: the file or the catalog cannot be read.
        """
        blob = self.blob(wheel.digest)
        with store_errors(blob):
            try:
                found = blob.lstat()  # a link is no blob, wherever it leads
            except FileNotFoundError:
                return False
        if not stat.S_ISREG(found.st_mode):  # to read a pipe would take for ever
            return False
        entry = self._entries().get(wheel.digest)
        if entry is not None and (found.st_size, found.st_mtime_ns, found.st_ino) != (
            entry.size,
            entry.mtime_ns,
            entry.inode,
        ):
            return self._still_is(wheel, blob)
        return wheel.size is None or wheel.size == found.st_size

    def size(self, digest: Digest) -> int | None:
        """Returns the size in bytes of the blob of *digest*; None where there is none."""
        try:
            return self.blob(digest).lstat().st_size
        except OSError:
            return None

    def partial_bytes(self, digest: Digest) -> int:
        """Returns the bytes of *digest* that the next transfer will not fetch again."""
        return usable_bytes(self._base / "partial", digest, boot=self.boot)

    def room_for(self, digest: Digest, size: int) -> int:
        """Returns the bytes of room that a wheel of *size* bytes still needs."""
        kept = self.partial_bytes(digest)
        if not kept:  # what is there, of which nothing counts, is thrown away before anything is written
            with suppress(OSError):
                found = (self._base / "partial" / f"{hex_of(digest)}.part").lstat()
                kept = getattr(found, "st_blocks", 0) * 512  # Windows does not say
        return max(size - kept, 0)

    def free_bytes(self) -> int:
        """Returns the bytes that the store's disk has room for."""
        return shutil.disk_usage(self._base).free

    def acquire(self, digest: Digest, *, timeout: float = -1) -> AbstractContextManager[object] | None:
        """Takes the right to write *digest*; it ends with the context, and with this process however it ends.

        Look again whether the store has the wheel once this returns: its last owner may have published it.

        Args:
            digest: whose bytes are to be written.
            timeout: seconds to wait for another owner; negative to wait for ever.

        Returns:
            A context that is entered already and gives the right back on exit; None where another owner kept it.

        Raises:
            StoreError: the lock cannot be made.
        """
        file = self._lock_file(digest)
        with store_errors(file):
            return lock_digest(file, timeout=timeout)

    def describe_writer(self, digest: Digest) -> str:
        """Returns who writes to *digest*, and since when, as people are told who wait for it."""
        me = self._me()
        writer = last_writer(self._lock_file(digest), me)
        if writer is None:
            return "another process is fetching it"
        since = time.strftime("%H:%M:%S", time.localtime(writer.since))
        return f"{writer.describe(me)} is fetching it, since {since}"

    def partial(self, wheel: LockedWheel, *, piece: int = PIECE_BYTES) -> Partial:
        """Opens the partial of *wheel*, adopting what an earlier run left; the caller holds the digest's lock.

        Args:
            wheel: which.
            piece: bytes of a piece, where there is none to adopt.

        Raises:
            Taken: another process writes to it all the same: the file system's locks are none.
            StoreError: it cannot be opened or read.
        """
        folder, file = self._base / "partial", self._lock_file(wheel.digest)
        with ExitStack() as claimed, store_errors(file):
            claim = Claim(file, self._me(), now=self._now)
            claimed.callback(claim.release)
            if claim.is_from_afar:
                copy_partial(folder, wheel.digest)
            partial = Partial(folder, wheel.digest, boot=self.boot, size=wheel.size, piece=piece, claim=claim)
            claimed.pop_all()
        return partial

    def publish(self, wheel: LockedWheel, partial: Partial) -> Path:
        """Makes *partial* the blob of *wheel*; the caller holds the digest's lock.

        Raises:
            IntegrityError: the bytes are others; nothing is published.
            Taken: another process took it over; nothing is published.
            StoreError: the disk failed.
        """
        from wheelcache.catalog import Pieces  # noqa: PLC0415 - see _catalog

        if partial.digest() != wheel.digest:
            raise IntegrityError(f"{wheel.filename}: expected {wheel.digest}, found {partial.digest()}")
        blob = self.blob(wheel.digest)
        found = partial.publish(blob)
        self._record(wheel, found, Pieces(size=found.st_size, piece_bytes=partial.piece, crcs=partial.checks()))
        self._lock_file(wheel.digest).unlink(
            missing_ok=True
        )  # who waits for it finds the blob, whichever inode it locks
        return blob

    def set_aside(self, digest: Digest, seen: os.stat_result) -> Path | None:
        """Moves a wrong blob into the quarantine; its good pieces make a partial: only the damage is fetched again.

        Args:
            digest: whose blob.
            seen: the blob's stat when its bytes were read.

        Returns:
            Where it is now; None where it is another file than was read.

        Raises:
            StoreError: the disk failed.
        """
        blob = self.blob(digest)
        with ExitStack() as held, store_errors(blob):
            lock = self.acquire(digest, timeout=0)
            if lock is not None:
                held.enter_context(lock)
            try:
                if not os.path.samestat(blob.lstat(), seen):
                    return None
            except FileNotFoundError:
                return None
            bad = move_into(self._base / "quarantine", blob)
            if lock is not None:  # who has it fetches the wheel already
                self._seed(digest, bad)
        return bad

    def known(self) -> Mapping[Digest, Entry]:
        """Returns what the catalog says now of each blob.

        Raises:
            StoreError: the catalog cannot be read.
        """
        self._known = self._catalog().entries()
        return self._known

    def add_known(self, entries: Iterable[Entry]) -> None:
        """Notes blobs that the catalog lacks; what it says of others stays.

        Raises:
            StoreError: the catalog cannot be written.
        """
        self._catalog().add(entries)
        self._known = None

    def forget(self, digests: Iterable[Digest]) -> None:
        """Takes blobs that are gone out of the catalog.

        Raises:
            StoreError: the catalog cannot be written.
        """
        self._catalog().remove(digests)
        self._known = None

    def piece_checks(self, digest: Digest) -> Pieces | None:
        """Returns the checksums of a blob's pieces; None where none are known.

        Raises:
            StoreError: the catalog cannot be read.
        """
        return self._catalog().pieces(digest)

    def note_verified(self, verified: Iterable[tuple[Digest, os.stat_result, Pieces | None]]) -> None:
        """Notes of blobs that the catalog knows that all their bytes were read, and are right.

        Args:
            verified: of each its digest, its stat when it was read, and its pieces' checksums where they are news.

        Raises:
            StoreError: the catalog cannot be written.
        """
        known, now = self.known(), self._now()
        for digest, found, pieces in verified:
            if entry := known.get(digest):
                fresh = replace(
                    entry,
                    size=found.st_size,
                    mtime_ns=found.st_mtime_ns,
                    inode=found.st_ino,
                    verified_at=now,
                )
                self._catalog().put(fresh, pieces)

    def host_records(self) -> dict[str, HostRecord]:
        """Returns how each host did in earlier runs.

        Raises:
            StoreError: the catalog cannot be read.
        """
        return self._catalog().host_records()

    def keep_host_records(self, records: Iterable[HostRecord]) -> None:
        """Notes how hosts did, for later runs.

        Raises:
            StoreError: the catalog cannot be written.
        """
        self._catalog().put_host_records(records)

    def touch(self, digests: Iterable[Digest]) -> None:
        """Notes that wheels were used; one short transaction.

        Raises:
            StoreError: the catalog cannot be written.
        """
        self._catalog().touch(digests, now=self._now())

    def _me(self) -> Writer:
        if self._writer is None:
            self._writer = this_writer(self._command, boot=self.boot, place=this_place())
        return self._writer

    def _lock_file(self, digest: Digest) -> Path:
        return self._base / "partial" / f"{hex_of(digest)}.lock"

    def _catalog(self) -> Catalog:
        if self._opened_catalog is None:
            from wheelcache.catalog import Catalog  # noqa: PLC0415 - SQLite is not needed by an empty store

            self._opened_catalog = Catalog(self._base / "catalog.sqlite")
        return self._opened_catalog

    def _entries(self) -> dict[Digest, Entry]:
        if self._known is None:
            self._known = self._catalog().entries()
        return self._known

    def _record(self, wheel: LockedWheel, found: os.stat_result, pieces: Pieces | None = None) -> None:
        from wheelcache.catalog import Entry  # noqa: PLC0415 - see _catalog

        now = self._now()
        entry = Entry(
            digest=wheel.digest,
            name=wheel.name,
            version=wheel.version,
            filename=wheel.filename,
            size=found.st_size,
            mtime_ns=found.st_mtime_ns,
            inode=found.st_ino,
            verified_at=now,
            last_used=now,
        )
        self._catalog().put(entry, pieces)
        self._entries()[wheel.digest] = entry

    def _still_is(self, wheel: LockedWheel, blob: Path) -> bool:
        """Reads a blob whose file changed since it was verified; a wrong one is put aside."""
        with store_errors(blob), open_regular(blob) as file:
            right = hashlib.file_digest(file, "sha256").hexdigest() == hex_of(wheel.digest)
            found = os.fstat(file.fileno())
        if right:
            self._record(wheel, found)
        else:
            self.set_aside(wheel.digest, found)
        return right

    def _seed(self, digest: Digest, bad: Path) -> None:
        """Makes a partial of what is still good of a wrong blob, unless there is one; the caller holds the lock."""
        pieces = self._catalog().pieces(digest)
        folder = self._base / "partial"
        file = folder / f"{hex_of(digest)}.part"
        if pieces is None or file.exists():
            return
        with suppress(OSError, StoreError):  # no room for a second copy: what does not fit is fetched again
            make = write_seed if reflink(bad, file) else functools.partial(copy_good_pieces, bad)
            make(folder, digest, boot=self.boot, size=pieces.size, piece=pieces.piece_bytes, crcs=pieces.crcs)
