"""What must be true of a store after any end of a sync: killed, cut off from power, out of room."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from wheelcache.digest import Digest, parse_digest
from wheelcache.errors import WheelcacheError
from wheelcache.journal import read_journal
from wheelcache.partial import usable_bytes
from wheelcache.place import boot_id
from wheelcache.roots import Roots
from wheelcache.store import Store


@dataclass(frozen=True, kw_only=True, slots=True)
class Violation:
    """A promise that was not kept: of which kind, and in words."""

    kind: str
    words: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """The bytes of one partial.

    Attributes:
        noted: written, as its journal says.
        usable: that the next sync will not fetch again, as far as the journal can tell.
        right: of these, those that are the wheel's indeed.
    """

    noted: int
    usable: int
    right: int


def violations(root: Path, *, published: Collection[Digest] = ()) -> list[Violation]:
    """Returns which promises the store at *root* breaks; it is opened, and otherwise only read.

    Args:
        root: the cache folder.
        published: what some sync said to be in the store, and nobody removed.
    """
    try:
        store = Store.open(root)
        store.known()
        store.host_records()
    except WheelcacheError as error:
        return [Violation(kind="does not open", words=f"{error.message}")]
    found = list(_wrong_blobs(root))
    found += [
        Violation(kind="published blob lost", words=digest) for digest in published if not store.blob(digest).is_file()
    ]
    damaged = Roots(root).survey().damaged
    found += [Violation(kind="damaged root", words=f"{file.name}: {words}") for file, words in damaged.items()]
    return found


def _wrong_blobs(root: Path) -> Iterator[Violation]:
    for blob in _named(root):
        with blob.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != blob.name or blob.parent.name != blob.name[:2]:
                yield Violation(kind="wrong blob", words=f"{blob.name}, {blob.stat().st_size} bytes")


def blobs(root: Path) -> set[Digest]:
    """Returns what the store at *root* holds, by the files' names."""
    return {parse_digest(f"sha256:{blob.name}") for blob in _named(root)}


def _named(root: Path) -> list[Path]:
    """Returns what has the place of a blob; a name with a dot in front is one of what a prune was removing."""
    return sorted((root / "v1" / "blobs" / "sha256").glob("*/[!.]*"))


def wrong_marks(root: Path, truth: Mapping[Digest, Path]) -> list[Violation]:
    """Returns where a journal vouches for bytes, as brought to the disk, that are not the wheel's.

    Args:
        root: the cache folder.
        truth: of each wheel, a file with its right bytes.
    """
    found = []
    for digest, file in truth.items():
        part = _part(root, digest)
        head, marks = read_journal(part.with_suffix(".json"))
        if head is None or not part.exists():
            continue
        with part.open("rb") as kept, file.open("rb") as right:
            for index, mark in enumerate(marks):
                kept.seek(index * head.piece)
                right.seek(index * head.piece)
                data, expected = kept.read(mark.synced), right.read(mark.synced)
                if data != expected or zlib.crc32(expected) != mark.synced_crc:
                    words = f"{part.name}: piece {index}: {mark.synced} bytes that are not the wheel's"
                    found.append(Violation(kind="wrong bytes marked as synced", words=words))
    return found


def kept_bytes(root: Path, truth: Mapping[Digest, Path], *, boot: str | None = None) -> dict[Digest, Kept]:
    """Returns what the partials of the store at *root* are worth; *boot* None: the machine was not started anew."""
    found = {}
    boot = boot_id() if boot is None else boot
    for digest, file in truth.items():
        part = _part(root, digest)
        if not part.exists():
            continue
        head, marks = read_journal(part.with_suffix(".json"))
        right = 0
        if head is not None:
            with part.open("rb") as kept, file.open("rb") as expected:
                for index, each in enumerate(marks):
                    mark = each.usable(is_same_boot=head.boot == boot)
                    kept.seek(index * head.piece)
                    expected.seek(index * head.piece)
                    right += mark.written if kept.read(mark.written) == expected.read(mark.written) else 0
        usable = usable_bytes(part.parent, digest, boot=boot)
        found[digest] = Kept(noted=sum(mark.written for mark in marks), usable=usable, right=right)
    return found


def _part(root: Path, digest: Digest) -> Path:
    return root / "v1" / "partial" / f"{digest.removeprefix('sha256:')}.part"
