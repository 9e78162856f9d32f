"""Makes real Debian packages and a local archive of them, so that apt-get works in a build that reaches no network."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Mapping


def make_deb(name: str, version: str, files: Mapping[str, bytes]) -> bytes:
    """Returns a package in the format of deb(5)."""
    members = {
        "debian-binary": b"2.0\n",
        "control.tar.gz": _tar({"control": _control(name, version).encode()}),
        "data.tar.gz": _tar(files),
    }
    parts = [b"!<arch>\n"]
    for member, data in members.items():
        parts.append(f"{member:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode())
        parts.append(data + b"\n" * (len(data) % 2))
    return b"".join(parts)


def make_archive(name: str, version: str, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Returns the files of a flat archive (`deb [trusted=yes] file:/… ./`) with one package."""
    deb = make_deb(name, version, files)
    digest = hashlib.sha256(deb).hexdigest()
    index = f"{_control(name, version)}Filename: ./{name}.deb\nSize: {len(deb)}\nSHA256: {digest}\n"
    return {f"{name}.deb": deb, "Packages": index.encode()}


def _control(name: str, version: str) -> str:
    return (
        f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: Tests <tests@example.org>\n"
        f"Description: a package for tests\n"
    )


def _tar(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path, data in files.items():
            entry = tarfile.TarInfo(f"./{path}")
            entry.size, entry.mode = len(data), 0o755
            archive.addfile(entry, io.BytesIO(data))
    return gzip.compress(buffer.getvalue(), mtime=0)
