"""Servers on loopback, small disks, and stores that are verified."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.server import Server
from support.stores import WHEELS, fill
from support.syncs import IN_PIECES, Syncs

from wheelcache.store import Store


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture
def other() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture
def third() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a disk of a size such as `2m`; returns its folder."""
    folder = tmp_path / "disk"

    def mount(size: str) -> Path:
        folder.mkdir()
        options = ["-t", "tmpfs", "-o", f"size={size}"]
        if os.geteuid() or subprocess.run(["mount", *options, "tmpfs", folder], check=False).returncode:
            folder.rmdir()
            pytest.skip("this machine lets nobody mount a tmpfs")
        return folder

    yield mount
    if folder.exists():
        subprocess.run(["umount", folder], check=True)


@pytest.fixture
def sync(tmp_path: Path) -> Syncs:
    """Syncs in pieces of 64 KiB, over one connection."""
    return Syncs(tmp_path / "cache", settings=replace(IN_PIECES, connections=1))


@pytest.fixture
def store(sync: Syncs) -> Store:
    """A store of three wheels, in pieces of 64 KiB."""
    for made in WHEELS:
        fill(sync.store, made)
    return sync.store
