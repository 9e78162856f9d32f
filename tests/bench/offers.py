"""Wheels to be fetched: as lockfile, as requirements, and as files that are right or wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tomli_w


@dataclass(frozen=True, kw_only=True, slots=True)
class WheelFile:
    """A wheel to be fetched.

    Attributes:
        name: of the project.
        version: of the project.
        filename: the wheel's.
        sha256: hex.
        size: bytes.
        urls: where it can be had; the first is the one that lockfiles name.
    """

    name: str
    version: str
    filename: str
    sha256: str
    size: int
    urls: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """What is to be fetched in one run.

    Attributes:
        wheels: the files.
        index: root of the Simple API that has them at their first URLs.
        mirrors: roots of Simple APIs besides the wheels' first URLs.
        lockfile: a lockfile that names these wheels; None to have one written.
    """

    wheels: tuple[WheelFile, ...]
    index: str
    mirrors: tuple[str, ...] = ()
    lockfile: Path | None = None

    @property
    def size(self) -> int:
        """Bytes of all wheels."""
        return sum(wheel.size for wheel in self.wheels)


def write_lockfile(path: Path, wheels: Sequence[WheelFile]) -> Path:
    """Writes a PEP 751 lockfile; each wheel with its first URL alone."""
    packages = [
        {
            "name": wheel.name,
            "version": wheel.version,
            "wheels": [
                {
                    "name": wheel.filename,
                    "url": wheel.urls[0],
                    "size": wheel.size,
                    "hashes": {"sha256": wheel.sha256},
                }
            ],
        }
        for wheel in wheels
    ]
    path.write_text(tomli_w.dumps({"lock-version": "1.0", "created-by": "bench", "packages": packages}))
    return path


def write_requirements(folder: Path, wheels: Sequence[WheelFile]) -> Path:
    """Writes pinned requirements, each with the one hash that is wanted."""
    lines = [f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}\n" for wheel in wheels]
    path = folder / "hashes.txt"
    path.write_text("".join(lines))
    return path


def wrong_files(offer: Offer, folder: Path) -> list[str]:
    """Returns which wheels are not whole in *folder*."""
    wrong = []
    for wheel in offer.wheels:
        file = folder / wheel.filename
        if not file.is_file() or Path(f"{file}.aria2").exists():
            wrong.append(f"{wheel.filename}: missing")
        elif sha256_of(file) != wheel.sha256:
            wrong.append(f"{wheel.filename}: wrong bytes")
    return wrong


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
