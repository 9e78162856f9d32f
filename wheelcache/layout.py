"""What belongs into the folders of a store, and what is there that does not.

Nothing is followed and nothing is opened: names, places and what `lstat` says are all that is looked at.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from wheelcache.digest import Digest, parse_digest
from wheelcache.findings import Findings, Kind
from wheelcache.ordinary import is_open_to_all, kind_of

DEAD_SECONDS: Final = 3600.0
"""A temporary file that nobody touched for so long is dead: writing one takes moments, copying a view minutes."""

BLOB_MODE: Final = 0o444
"""Of every blob: all may read it, and nobody writes to it by mistake."""

_TEMPORARY: Final = re.compile(r"\..+\.\d+\.(tmp|\d+|gone)")
"""What is called so that is being made (`temporary_name`) or removed (`gone_name`)."""

_FILES: Final = re.compile(r"catalog\.(sqlite(-journal|-wal|-shm)?|lock)|prune\.lock")
_FOLDERS: Final = frozenset(
    {"blobs", "partial", "views", "projects", "pins", "leases", "quarantine", "targets", "logs", "overrides"}
)
_NAMES: Final = {
    "partial": re.compile(r"[0-9a-f]{64}\.(part|json|lock)"),
    "projects": re.compile(r"[0-9a-f]{32}\.json"),
    "pins": re.compile(r"[0-9a-f]{64}"),
    "leases": re.compile(r"\d+-[0-9a-f]+\.json"),
}
"""The names of the ordinary files in folders that hold nothing else."""

_ASIDE: Final = "wheelcache verify --repair moves it into the quarantine"


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """What a store consists of.

    Attributes:
        blobs: each digest's file and its stat.
        files: the ordinary files that belong into `partial`, `projects`, `pins` and `leases`, by the folder.
        findings: what does not belong.
    """

    blobs: dict[Digest, tuple[Path, os.stat_result]] = field(default_factory=dict)
    files: dict[str, list[Path]] = field(default_factory=dict)
    findings: Findings = field(default_factory=Findings)


def read_layout(base: Path, *, now: float) -> Layout:
    """Looks through a store's folders.

    Args:
        base: the store's `v1`.
        now: seconds since 1970.
    """
    layout = Layout()
    _Walk(layout, now).base(base)
    return layout


class _Walk:
    """One look through all folders."""

    def __init__(self, layout: Layout, now: float) -> None:
        self._layout = layout
        self._now = now

    def base(self, base: Path) -> None:
        for path, found in self._list(base):
            if path.name in _FOLDERS:
                if self._is_folder(path, found):
                    self._folder(path)
            elif not _FILES.fullmatch(path.name):
                self._odd(path, found, "stray", "one of the store's own files and folders")
            elif path.name != "catalog.sqlite":  # which is looked at by itself
                self._is_file(path, found)

    def _folder(self, folder: Path) -> None:
        if folder.name == "blobs":
            self._blobs(folder)
        elif folder.name == "views":
            for path, found in self._list(folder):
                if _TEMPORARY.fullmatch(path.name) or not stat.S_ISDIR(found.st_mode):
                    self._odd(path, found, "stray", "the folder of a view")
        elif folder.name in _NAMES:
            ours = self._layout.files.setdefault(folder.name, [])
            for path, found in self._list(folder):
                if not _NAMES[folder.name].fullmatch(path.name):
                    self._odd(path, found, "stray", f"a name that belongs into {folder.name}")
                elif self._is_file(path, found):
                    ours.append(path)
        else:  # what is in there is not the store's business
            self._guarded(folder)

    def _blobs(self, folder: Path) -> None:
        for path, found in self._list(folder):
            if path.name != "sha256":
                self._odd(path, found, "wrong-name", "the folder sha256")
            elif self._is_folder(path, found):
                for sub, sub_found in self._list(path):
                    if not re.fullmatch(r"[0-9a-f]{2}", sub.name):
                        self._odd(sub, sub_found, "wrong-name", "a folder named after two hex digits")
                    elif self._is_folder(sub, sub_found):
                        self._leaves(sub)

    def _leaves(self, folder: Path) -> None:
        for path, found in self._list(folder):
            digest = _digest(path)
            if digest is None:
                self._odd(path, found, "wrong-name", f"64 lowercase hex digits that begin with {folder.name}")
            elif not stat.S_ISREG(found.st_mode):
                self._layout.findings.note(
                    "stray", path, "a blob", kind_of(found.st_mode), _ASIDE, digest=digest, seen=found
                )
            else:
                self._layout.blobs[digest] = (path, found)

    def _list(self, folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
        """Yields what a folder holds, in order, with its stat."""
        self._guarded(folder)
        try:
            paths = sorted(folder / name for name in os.listdir(folder))  # noqa: PTH208 - iterdir hides when it reads
        except FileNotFoundError:
            return
        except OSError as error:
            self._layout.findings.note(
                "unreadable", folder, "a folder that can be listed", str(error.strerror), "check its permissions"
            )
            return
        for path in paths:
            with suppress(FileNotFoundError):  # gone since
                yield path, path.lstat()

    def _guarded(self, folder: Path) -> None:
        """Says where anybody may change what a folder holds; where others may only add to it (sticky) they may."""
        mode = folder.lstat().st_mode
        if is_open_to_all(mode):
            hint = f"chmod o-w '{folder}', then run wheelcache verify: anybody may have put other files there"
            self._layout.findings.note(
                "open-folder", folder, "a folder that others cannot change", f"mode {mode & 0o7777:o}", hint
            )

    def _is_folder(self, path: Path, found: os.stat_result) -> bool:
        """True for a folder of the store; what stands in its place is for people to judge."""
        if stat.S_ISDIR(found.st_mode):
            return True
        hint = "it is not followed; put a folder in its place: to move the store elsewhere, use --cache-dir"
        self._layout.findings.note("stray", path, "a folder", kind_of(found.st_mode), hint)
        return False

    def _odd(self, path: Path, found: os.stat_result, kind: Kind, expected: str) -> None:
        """Notes something with a name that is not ours, or that of a temporary file."""
        if not _TEMPORARY.fullmatch(path.name):
            self._layout.findings.note(
                kind, path, expected, f"{kind_of(found.st_mode)} named {path.name!r}", _ASIDE, seen=found
            )
        elif self._now - found.st_mtime > DEAD_SECONDS:
            age = f"untouched for {(self._now - found.st_mtime) / 3600:.0f} hours"
            self._layout.findings.note("debris", path, "a process that still writes it", age, _ASIDE, seen=found)

    def _is_file(self, path: Path, found: os.stat_result) -> bool:
        """True for an ordinary file that has no name elsewhere: what is written to it is written nowhere else."""
        if stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
            return True
        names = f" of {found.st_nlink} names (hard links)" if stat.S_ISREG(found.st_mode) else ""
        what = f"{kind_of(found.st_mode)}{names}"
        self._layout.findings.note("stray", path, "a file of one name", what, _ASIDE, seen=found)
        return False


def _digest(path: Path) -> Digest | None:
    """Returns the digest whose blob a file is by its name and place."""
    if not re.fullmatch(r"[0-9a-f]{64}", path.name) or path.name[:2] != path.parent.name:
        return None
    return parse_digest(f"sha256:{path.name}")
