"""The files in which a store notes who needs what: each read as a value, or refused with the reason."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from wheelcache.digest import Digest, digest_of_bytes, parse_digest
from wheelcache.ordinary import open_regular
from wheelcache.place import Place

ELSEWHERE_SECONDS: Final = 30 * 86_400.0
"""What was synced on another machine, or in a container, is needed for so long: nobody can see here whether it is."""

_DAY: Final = 86_400.0
_LARGEST: Final = 16 << 20
"""Bytes; the needs of a hundred lockfiles of a thousand wheels are less."""

_LATEST: Final = 1e11
"""Seconds since 1970 beyond which nothing was ever seen."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProjectRoot:
    """What one project's lockfiles need; a lockfile that belongs to no project file is a project of its own.

    Attributes:
        file: where this is noted.
        path: the project's folder, or that one lockfile; absolute.
        lockfiles: what each needed when it was last synced, for all targets that it was synced for as it is.
        contents: the digest of each lockfile's own bytes then; none where it could not be read.
        seen_at: seconds since 1970, to the day: when that was.
        place: where its paths lead there; None for here, in files that say nothing of it.
    """

    file: Path
    path: Path
    lockfiles: Mapping[Path, tuple[Digest, ...]] = field(default_factory=dict)
    contents: Mapping[Path, Digest] = field(default_factory=dict)
    seen_at: float = 0.0
    place: Place | None = None

    @property
    def kept_until(self) -> float:
        """Seconds since 1970: so long it is needed where it cannot be seen."""
        return self.seen_at + _DAY + ELSEWHERE_SECONDS

    def is_of(self, place: Place) -> bool:
        """True when its paths lead there at *place*."""
        return self.place is None or self.place.key == place.key

    def standing(self) -> dict[Path, tuple[Digest, ...]]:
        """Returns the lockfiles that can be seen from here."""
        return {path: digests for path, digests in self.lockfiles.items() if not _is_gone(path)}

    def needing(self, place: Place, now: float) -> dict[Path, tuple[Digest, ...]]:
        """Returns the lockfiles that still need their wheels; none: this is no root any more."""
        is_kept = not self.is_of(place) and now < self.kept_until
        return dict(self.lockfiles) if is_kept else self.standing()

    def synced(self, lockfiles: Mapping[Path, Iterable[Digest]], *, now: float) -> ProjectRoot:
        """Returns what is to be noted once *lockfiles* were synced.

        A lockfile may serve several targets, each with wheels of its own: so as long as it has the same bytes, what it
        needed for others stays; once it has other bytes, that was an older one's.

        Args:
            lockfiles: what each of those needs that were synced.
            now: seconds since 1970.
        """
        needs = self.standing()
        contents = {path: digest for path, digest in self.contents.items() if path in needs}
        for path, digests in lockfiles.items():
            content = _content(path)
            before = needs.get(path, ()) if content is not None and contents.get(path) == content else ()
            needs[path] = tuple(dict.fromkeys((*before, *digests)))
            contents.pop(path, None)
            if content is not None:
                contents[path] = content
        return replace(self, lockfiles=needs, contents=contents, seen_at=now // _DAY * _DAY)

    def replaces(self, other: ProjectRoot) -> bool:
        """True when *other* says nothing that this does not: the same lockfiles, seen from another place."""
        is_same = other.place is None or (bool(other.contents) and other.contents == self.contents)
        return is_same and self.file != other.file and self.path == other.path

    def describe(self, lockfile: Path, place: Place) -> str:
        """Returns how people know one of its lockfiles: `project /srv/shop: pylock.ml.toml`."""
        shown = lockfile.relative_to(self.path) if lockfile.is_relative_to(self.path) else lockfile
        words = f"lockfile {lockfile}" if lockfile == self.path else f"project {self.path}: {shown}"
        return words if self.is_of(place) else f"{words} ({self._origin()}, kept until {_day(self.kept_until)})"

    def describe_end(self, place: Place) -> str:
        """Returns why it is no root any more."""
        if self.is_of(place):
            return "the project or its lockfiles are gone"
        return f"{self._origin()}, and not since {_day(self.seen_at)}"

    def _origin(self) -> str:
        return f"synced on {self.place.name if self.place is not None and self.place.name else 'another machine'}"

    def document(self) -> bytes:
        """Returns the bytes of its file."""
        value = {
            "path": str(self.path),
            "seen_at": self.seen_at,
            "lockfiles": {str(path): list(digests) for path, digests in sorted(self.lockfiles.items())},
            "contents": {str(path): digest for path, digest in sorted(self.contents.items())},
        }
        if self.place is not None:
            value["place"] = {"key": self.place.key, "name": self.place.name}
        return json.dumps(value, indent=1).encode()


@dataclass(frozen=True, kw_only=True, slots=True)
class Lease:
    """What a running command needs.

    Attributes:
        file: where this is noted.
        pid: the process.
        command: its name.
        digests: what it needs.
    """

    file: Path
    pid: int
    command: str
    digests: tuple[Digest, ...]


def read_project(file: Path) -> ProjectRoot:
    """Reads a project.

    Raises:
        OSError: the file cannot be read, or is none.
        ValueError: it is not one of ours.
    """
    document = _document(file)
    match document:
        case {"path": str(path), "lockfiles": dict(lockfiles), "seen_at": int(seen_at) | float(seen_at)} if (
            math.isfinite(seen_at) and 0 <= seen_at <= _LATEST
        ):
            contents = document.get("contents", {})
            if not isinstance(contents, dict):
                contents = {}
            return ProjectRoot(
                file=file,
                path=_path(path),
                lockfiles={_path(each): _digests(digests) for each, digests in lockfiles.items()},
                contents={_path(each): parse_digest(str(digest)) for each, digest in contents.items()},
                seen_at=float(seen_at),
                place=_place(document.get("place")),
            )
    msg = "expected path, lockfiles and seen_at, found something else"
    raise ValueError(msg)


def read_lease(file: Path) -> Lease:
    """Reads a lease; raises as `read_project` does."""
    match _document(file):
        case {"pid": int(pid), "command": str(command), "digests": list(digests)}:
            return Lease(file=file, pid=pid, command=command, digests=_digests(digests))
    msg = "expected pid, command and digests, found something else"
    raise ValueError(msg)


def describe_damage(error: OSError | ValueError) -> str:
    """Returns in words why one of these files could not be read."""
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror}"
    if isinstance(error, (json.JSONDecodeError, UnicodeDecodeError)):
        return f"expected JSON: {error}"
    return str(error)


def _document(file: Path) -> dict[str, object]:
    with open_regular(file) as opened:
        size = os.fstat(opened.fileno()).st_size
        if size > _LARGEST:
            msg = f"expected at most {_LARGEST:,} bytes, found {size:,}"
            raise ValueError(msg)
        data = opened.read(_LARGEST)
    try:
        value = json.loads(data)
    except RecursionError as error:
        raise ValueError(str(error)) from error
    return value if isinstance(value, dict) else {}


def _path(text: str) -> Path:
    """Returns an absolute path; what no path can be is refused."""
    path = Path(text)
    os.fsencode(text)  # ValueError where the system has no bytes for it
    if "\0" in text or not path.is_absolute():
        msg = f"expected an absolute path, found {text[:80]!r}"
        raise ValueError(msg)
    return path


def _place(value: object) -> Place | None:
    match value:
        case None:
            return None
        case {"key": str(key), "name": str(name)}:
            return Place(key=key, name=name)
    msg = f"expected a place's key and name, found {str(value)[:80]!r}"
    raise ValueError(msg)


def _digests(values: object) -> tuple[Digest, ...]:
    if not isinstance(values, list):
        msg = f"expected a list of digests, found {str(values)[:80]}"
        raise ValueError(msg)  # noqa: TRY004 - one exception for every way a file can be wrong
    return tuple(parse_digest(str(value)) for value in values)


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def _content(lockfile: Path) -> Digest | None:
    try:
        return digest_of_bytes(lockfile.read_bytes())
    except OSError:
        return None


def _is_gone(path: Path) -> bool:
    """True when nothing is at *path*; a folder that may not be looked into is no proof of that."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False
