"""A wheelhouse: a flat folder of exactly the locked wheels, with the requirements files that install them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from wheelcache.digest import hex_of
from wheelcache.errors import StoreError, StoreFullError, UsageError
from wheelcache.files import copy_sharing_blocks, store_errors
from wheelcache.lock import LockedWheel
from wheelcache.room import free_bytes, is_full, no_room
from wheelcache.store import Store

_NAMED: Final = 3
"""As many of the missing wheels as an error names."""

_SPARE: Final = 1_000_000
"""Bytes that all that is beside the wheels may take."""

MARKER: Final = ".wheelcache.json"
"""Lists what we put into a wheelhouse: all else in it is somebody's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wheelhouse:
    """What became of a wheelhouse.

    Attributes:
        folder: where it is.
        wheels: the file names of its wheels, sorted.
        requirements: the file names of its requirements files, by lockfile.
        written: how many files are new or were put right.
        removed: how many files of before are gone.
    """

    folder: Path
    wheels: tuple[str, ...]
    requirements: Mapping[str, str]
    written: int
    removed: int


def write_wheelhouse(folder: Path, locks: Mapping[str, Sequence[LockedWheel]], store: Store) -> Wheelhouse:
    """Makes *folder* hold exactly the wheels of *locks*, and a `requirements.<lock>.txt` with hashes for each.

    Wheels are reflinks or copies, never links: editing one cannot reach the store.

    Args:
        folder: missing, empty, or made by us before.
        locks: wheels by the lockfile's name, which names the requirements file.
        store: holds all the wheels.

    Raises:
        UsageError: the folder holds files that we did not put there, or two lockfiles need different files of one name.
        StoreError: a wheel is not in the store, or the disk failed.
        StoreFullError: the folder's disk has not enough room; what fitted stays.
    """
    wheels = _by_filename(locks)
    missing = [name for name, wheel in sorted(wheels.items()) if not store.has(wheel)]
    if missing:
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        raise StoreError(
            f"the store lacks {len(missing)} of the locked wheels: {', '.join(missing[:_NAMED])}{more}",
            hint="run wheelcache sync with the same arguments first",
        )
    texts = {f"requirements.{name}.txt": _requirements(locked) for name, locked in locks.items()}
    with _room_for(wheels, folder, store), store_errors(folder):
        _make(folder)
        ours = _ours(folder)
        stale = sorted(ours.keys() - wheels.keys() - texts.keys())
        _mark(folder, {**dict.fromkeys((*wheels, *texts)), **ours})  # a run that is killed leaves nothing unknown
        for name in stale:
            (folder / name).unlink(missing_ok=True)
        placed = {name: _place(wheel, folder, ours.get(name), store) for name, wheel in sorted(wheels.items())}
        for name, text in texts.items():
            _write(folder, name, text)
        _mark(folder, {**placed, **dict.fromkeys(texts)})
    return Wheelhouse(
        folder=folder,
        wheels=tuple(sorted(wheels)),
        requirements={name: f"requirements.{name}.txt" for name in locks},
        written=sum(placed[name] != ours.get(name) for name in wheels),
        removed=len(stale),
    )


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageError(f"{folder}: expected a folder, found a file", hint="name another folder") from error
    except OSError as error:
        if is_full(error):
            raise
        raise UsageError(f"{folder}: {error.strerror}", hint="name another folder") from error


@contextmanager
def _room_for(wheels: Mapping[str, LockedWheel], folder: Path, store: Store) -> Iterator[None]:
    """Says of a disk that is full how many bytes it lacks."""
    try:
        yield
    except StoreFullError as full:
        sizes = {name: store.size(wheel.digest) or 0 for name, wheel in wheels.items()}
        left = [size for name, size in sizes.items() if not (folder / name).is_file()]
        raise no_room(
            folder,
            needed=sum(left),
            free=free_bytes(folder),
            purpose=f"{len(left)} wheel{'s' if len(left) != 1 else ''}",
            elsewhere="name a folder on another disk",
            reserve=_SPARE,
        ) from full


def _by_filename(locks: Mapping[str, Sequence[LockedWheel]]) -> dict[str, LockedWheel]:
    """Returns the wheels by file name; one folder, perhaps a case-insensitive one, is to hold them all."""
    wheels: dict[str, LockedWheel] = {}
    origins: dict[str, tuple[str, LockedWheel]] = {}
    for lock, locked in locks.items():
        for wheel in locked:
            other, known = origins.setdefault(wheel.filename.lower(), (lock, wheel))
            if (known.digest, known.filename) != (wheel.digest, wheel.filename):
                raise UsageError(
                    f"{wheel.filename}: {other} and {lock} lock different files of that name",
                    hint="give each lockfile a wheelhouse of its own",
                )
            wheels[wheel.filename] = wheel
    return wheels


def _requirements(wheels: Sequence[LockedWheel]) -> str:
    """Returns a requirements file in pip's hash-checking mode."""
    lines = [f"{wheel.name}=={wheel.version} --hash=sha256:{hex_of(wheel.digest)}\n" for wheel in wheels]
    return "".join(sorted(lines))


def _ours(folder: Path) -> dict[str, Any]:
    """Returns what we put into *folder* before, by file name, refusing files of others."""
    try:
        value = json.loads((folder / MARKER).read_bytes())
        ours: dict[str, Any] = dict(value["files"].items())
        if any(Path(name).name != name for name in ours):
            msg = "a name in it leads elsewhere"
            raise ValueError(msg)  # noqa: TRY301 - the same as any other damage
    except FileNotFoundError:
        return _nothing_foreign(folder, {})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{folder / MARKER}: damaged: {error}", hint="remove the folder, or name another") from error
    return _nothing_foreign(folder, ours)


def _nothing_foreign(folder: Path, ours: dict[str, Any]) -> dict[str, Any]:
    known = {MARKER, *ours, *(_temporary(name) for name in (MARKER, *ours))}
    foreign = sorted(path.name for path in folder.iterdir() if path.name not in known)
    if foreign:
        raise UsageError(
            f"{folder}: expected an empty folder or a wheelhouse of ours, found {foreign[0]}",
            hint="name another folder, or remove what is not ours",
            path=str(folder / foreign[0]),
        )
    for name in (MARKER, *ours):
        (folder / _temporary(name)).unlink(missing_ok=True)
    return ours


def _mark(folder: Path, files: Mapping[str, Any]) -> None:
    _write(folder, MARKER, json.dumps({"files": files}, indent=1, sort_keys=True))


def _write(folder: Path, name: str, text: str) -> None:
    temporary = folder / _temporary(name)
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(folder / name)


def _place(wheel: LockedWheel, folder: Path, before: object, store: Store) -> list[object]:
    """Puts a wheel where it belongs unless it is there as we left it; returns what tells that next time."""
    file = folder / wheel.filename
    if file.is_file() and not file.is_symlink() and _state(wheel, file) == before:
        return _state(wheel, file)
    temporary = folder / _temporary(wheel.filename)
    try:
        copy_sharing_blocks(store.blob(wheel.digest), temporary)
        temporary.chmod(0o644)
        temporary.replace(file)
    except BaseException:
        temporary.unlink(missing_ok=True)  # half a copy only takes room
        raise
    return _state(wheel, file)


def _state(wheel: LockedWheel, file: Path) -> list[object]:
    found = file.stat()
    return [wheel.digest, found.st_size, found.st_mtime_ns, found.st_ino]


def _temporary(name: str) -> str:
    return f".{name}.part"
