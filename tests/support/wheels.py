"""Makes real, installable wheels of any size."""

from __future__ import annotations

import base64
import hashlib
import io
import random
import re
import sysconfig
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import distribution
from pathlib import Path

from packaging.utils import canonicalize_name

from wheelcache.digest import Digest, digest_of_bytes
from wheelcache.lock import LockedWheel


@dataclass(frozen=True, kw_only=True, slots=True)
class MadeWheel:
    """A wheel in memory."""

    name: str
    version: str
    filename: str
    data: bytes

    @property
    def digest(self) -> Digest:
        return digest_of_bytes(self.data)

    @property
    def size(self) -> int:
        return len(self.data)

    def locked(self, *urls: str, size: int | None = -1) -> LockedWheel:
        """The wheel as a lockfile names it; *size* None leaves it out."""
        return LockedWheel(
            name=canonicalize_name(self.name),
            version=self.version,
            filename=self.filename,
            digest=self.digest,
            size=self.size if size == -1 else size,
            urls=urls,
        )


def make_wheel(
    name: str = "demo",
    version: str = "1.0",
    *,
    size: int = 0,
    tag: str = "py3-none-any",
    requires: tuple[str, ...] = (),
    seed: str = "",
) -> MadeWheel:
    """Makes a wheel (PEP 427): an importable module, METADATA, WHEEL, RECORD, and padding up to *size* bytes exactly.

    The bytes depend on the arguments alone; another *seed* gives other bytes (with a *size* of the same length).
    """
    stem = f"{name.replace('-', '_')}-{version}"
    archive = partial(_archive, stem=stem, name=name, version=version, tag=tag, requires=requires, seed=seed)
    padding = 0
    data = archive(padding)
    while size and len(data) != size:
        if len(data) > size and not padding:
            msg = f"a wheel of {name} has at least {len(data)} bytes"
            raise ValueError(msg)
        padding += size - len(data)
        data = archive(padding)
    return MadeWheel(name=name, version=version, filename=f"{stem}-{tag}.whl", data=data)


def _archive(
    padding: int, *, stem: str, name: str, version: str, tag: str, requires: tuple[str, ...], seed: str
) -> bytes:
    module = name.replace("-", "_")
    info = f"{stem}.dist-info"
    noise = random.Random(f"{stem}{tag}{seed}").randbytes(max(padding, 0) + 32)
    files = {
        f"{module}/__init__.py": f'__version__ = "{version}"\n'.encode(),
        f"{module}/noise.bin": noise,
        f"{info}/METADATA": "\n".join(
            ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
            + [f"Requires-Dist: {requirement}" for requirement in requires]
            + [""]
        ).encode(),
        f"{info}/WHEEL": "\n".join(
            ["Wheel-Version: 1.0", "Generator: tests", "Root-Is-Purelib: true", f"Tag: {tag}", ""]
        ).encode(),
    }
    return _zip(files, info)


def _record_hash(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def installed_wheel(name: str) -> MadeWheel:
    """Packs an installed distribution into a wheel again; its scripts become scripts (PEP 427) once more."""
    found = distribution(name)
    stem = f"{name.replace('-', '_')}-{found.version}"
    tags = re.findall(r"^Tag: (\S+)", found.read_text("WHEEL") or "", re.MULTILINE)
    scripts = Path(sysconfig.get_path("scripts")).resolve()
    files: dict[str, bytes] = {}
    for file in found.files or ():
        path = Path(str(file.locate())).resolve()
        if file.name in {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"} or file.suffix == ".pyc":
            continue
        target = f"{stem}.data/scripts/{file.name}" if path.parent == scripts else file.as_posix()
        files[target] = path.read_bytes()
    return MadeWheel(
        name=name, version=found.version, filename=f"{stem}-{tags[0]}.whl", data=_zip(files, f"{stem}.dist-info")
    )


def _zip(files: Mapping[str, bytes], info: str) -> bytes:
    record = "".join(f"{path},sha256={_record_hash(data)},{len(data)}\n" for path, data in files.items())
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, data in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n".encode()}.items():
            entry = zipfile.ZipInfo(path, (2024, 1, 1, 0, 0, 0))
            # pip makes executable what is a regular file, said in so many bits, and executable already.
            entry.external_attr = (0o100755 if ".data/scripts/" in path else 0o644) << 16
            archive.writestr(entry, data)
    return buffer.getvalue()
