"""Servers on loopback, and small disks."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.server import Server


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
