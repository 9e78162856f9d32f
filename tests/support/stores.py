"""Stores in small pieces, damage done to them, and what a verification finds there."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from support.syncs import PIECE
from support.wheels import MadeWheel, make_wheel
from wheelcache.digest import hex_of
from wheelcache.events import ignore
from wheelcache.findings import Finding
from wheelcache.mend import Mended, mend_store
from wheelcache.store import Store
from wheelcache.verify import Report, verify_store

WHEELS = [make_wheel(f"wheel{number}", size=size) for number, size in enumerate((900_000, 300_000, 70_000))]
BIG, MIDDLE, SMALL = WHEELS


def fill(store: Store, made: MadeWheel) -> Path:
    with store.acquire(made.digest):
        partial = store.partial(made.locked(), piece=PIECE)
        partial.write(0, made.data)
        blob = store.publish(made.locked(), partial)
        partial.close()
    return blob


def begin(store: Store, made: MadeWheel, *spans: tuple[int, int]) -> Path:
    """Leaves a partial as a killed sync does; returns its file."""
    with store.acquire(made.digest):
        partial = store.partial(made.locked(), piece=PIECE)
        for start, end in spans:
            partial.write(start, made.data[start:end])
        partial.flush()
        partial.close()
    return store.root / "v1" / "partial" / f"{hex_of(made.digest)}.part"


def verify(store: Store, **options) -> Report:
    options = {"fast": False, "threads": 2, "emit": ignore, "stop": threading.Event()} | options
    return verify_store(Store.open(store.root), **options)


def found(store: Store, **options) -> list[tuple[str, str]]:
    """Kind and place of each finding."""
    report = verify(store, **options)
    assert all(finding.expected and finding.found and finding.hint for finding in report.findings)
    return [(finding.kind, str(finding.path.relative_to(store.root / "v1"))) for finding in report.findings]


def mend(store: Store, findings: list[Finding]) -> Mended:
    return mend_store(store, findings, sizes={}, stop=threading.Event())


def flip(file: Path, place: int, bit: int = 0) -> None:
    mode = file.stat().st_mode
    file.chmod(0o644)
    with file.open("r+b") as opened:
        opened.seek(place)
        byte = opened.read(1)[0]
        opened.seek(place)
        opened.write(bytes([byte ^ 1 << bit]))
    file.chmod(mode)


def overwrite(blob: Path, data: bytes) -> None:
    """Gives a blob other bytes; its mode stays."""
    blob.chmod(0o644)
    blob.write_bytes(data)
    blob.chmod(0o444)


def place_of(made: MadeWheel) -> str:
    name = hex_of(made.digest)
    return f"blobs/sha256/{name[:2]}/{name}"


def everything(root: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(root)): (path.lstat().st_ino, path.read_bytes() if path.is_file() else b"")
        for path in root.rglob("*")
        if not path.name.startswith("catalog.sqlite")
    }


def make_deep(top: Path, depth: int) -> None:
    """Makes folders in folders, deeper than any path is long."""
    top.mkdir()
    here = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
