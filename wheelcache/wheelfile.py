"""What a wheel says of itself: project, version, and the file name it was built under (PEP 427)."""

from __future__ import annotations

import re
import zipfile
import zlib
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import Final

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

_MOST_BYTES: Final = 4_000_000
"""More than any METADATA: what is larger is not read."""

_BROKEN: Final = (
    zipfile.BadZipFile, zlib.error, EOFError, KeyError, NotImplementedError, RuntimeError, ValueError, OSError
)  # fmt: skip
"""What `zipfile` raises of archives that are damaged, encrypted, or packed in a way it does not know."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WheelName:
    """What a wheel is called.

    Attributes:
        project: normalised (PEP 503).
        version: as its METADATA writes it (PEP 440).
        filename: the real file name.
    """

    project: str
    version: str
    filename: str


def read_wheel_name(file: Path) -> WheelName | None:
    """Returns what the wheel in *file* is called; None where that is no wheel, or one that cannot be read."""
    try:
        with zipfile.ZipFile(file) as archive:
            infos = {name.partition("/")[0] for name in archive.namelist() if re.match(r"[^/]+\.dist-info/", name)}
            (info,) = infos
            metadata = _headers(archive, f"{info}/METADATA")
            return _name(info.removesuffix(".dist-info"), metadata, _headers(archive, f"{info}/WHEEL"))
    except _BROKEN:
        return None


def read_requirements(file: Path) -> tuple[str, ...] | None:
    """Returns what the wheel in *file* requires (core metadata, "Requires-Dist"); None where it cannot be read."""
    try:
        with zipfile.ZipFile(file) as archive:
            (member,) = (name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
            return tuple(str(line) for line in _headers(archive, member).get_all("Requires-Dist", []))
    except _BROKEN:
        return None


def read_unpacked_size(file: Path) -> int | None:
    """Returns the bytes of what the wheel in *file* holds, unpacked; None where it cannot be read."""
    try:
        with zipfile.ZipFile(file) as archive:
            return sum(member.file_size for member in archive.infolist())
    except _BROKEN:
        return None


def _name(stem: str, metadata: Message, wheel: Message) -> WheelName | None:
    """Puts the name together; *stem* is the dist-info folder's, which begins as the file does (PEP 427)."""
    tags = [str(tag).strip() for tag in wheel.get_all("Tag", [])]
    project, version, build = (
        str(value or "").strip() for value in (metadata["Name"], metadata["Version"], wheel["Build"])
    )
    filename = "-".join(part for part in (stem, build, _compressed(tags)) if part) + ".whl"
    if not re.fullmatch(r"[\w.!+-]+", filename, re.ASCII):
        return None
    try:
        named, _, _, _ = parse_wheel_filename(filename)
    except InvalidWheelFilename:
        return None
    if not version or canonicalize_name(project) != named:
        return None
    return WheelName(project=named, version=version, filename=filename)


def _compressed(tags: list[str]) -> str:
    """Returns tags as one compressed set (PEP 425), in the order in which they stand, as most tools name files."""
    columns = zip(*(tag.split("-") for tag in tags), strict=True)
    return "-".join(".".join(dict.fromkeys(column)) for column in columns)


def _headers(archive: zipfile.ZipFile, member: str) -> Message:
    with archive.open(member) as opened:
        return BytesHeaderParser().parsebytes(opened.read(_MOST_BYTES))
