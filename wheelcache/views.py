"""Views: folders of the store's wheels under the names that builds want, which builds mount."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Mapping, Sequence
from io import FileIO
from pathlib import Path, PurePosixPath

from wheelcache.errors import StoreError
from wheelcache.files import copy_sharing_blocks, reflink, store_errors, sync_folder, temporary_name
from wheelcache.lock import LockedWheel
from wheelcache.ordinary import is_folder, make_folder, make_folders, open_new, open_regular, settle
from wheelcache.store import Store


def make_view(
    store: Store,
    key: str,
    entries: Sequence[tuple[PurePosixPath, LockedWheel]],
    texts: Mapping[PurePosixPath, str],
) -> Path:
    """Returns the folder `views/<key>` of a store, with wheels under the names given.

    It appears whole or not at all. One that is there already is taken as it is: *key* must stand for the content.

    Args:
        store: has the wheels.
        key: names the content, and the folder: BuildKit tells local contexts apart by that name.
        entries: where each wheel goes, relative.
        texts: small files beside them.

    Raises:
        StoreError: a wheel is not in the store, or the disk failed.
    """
    view = store.root / "v1" / "views" / key
    with store_errors(view):
        if is_folder(view):
            return view
    temporary = temporary_name(view)
    try:
        with store_errors(view):
            _fill(temporary, store, entries, texts)
            _rename_unless_made(temporary, view)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    sync_folder(view.parent)
    return view


def _fill(
    view: Path,
    store: Store,
    entries: Sequence[tuple[PurePosixPath, LockedWheel]],
    texts: Mapping[PurePosixPath, str],
) -> None:
    make_folder(view)
    for path, wheel in entries:
        _place(store, wheel, view / path)
    for path, text in texts.items():
        file = view / path
        make_folders(file.parent)
        with FileIO(open_new(file), "w") as opened:
            opened.write(text.encode())
        file.chmod(0o644)
    for folder in (view, *(path for path in view.rglob("*") if path.is_dir())):
        folder.chmod(stat.S_IMODE(folder.stat().st_mode) | 0o555)  # whoever builds may be anybody


def _place(store: Store, wheel: LockedWheel, destination: Path) -> None:
    """Reflinks, else hard links, else copies a blob; the kernel may forbid links to another user's files."""
    blob = store.blob(wheel.digest)
    if store.size(wheel.digest) is None:
        raise StoreError(f"{wheel.filename}: not in the store", hint="run wheelcache sync first")
    make_folders(destination.parent)
    if not reflink(blob, destination):
        try:
            os.link(blob, destination)
        except OSError:
            copy_sharing_blocks(blob, destination)
        else:
            return
    with open_regular(destination) as placed:
        settle(placed.fileno(), destination.parent)
    destination.chmod(0o444)


def _rename_unless_made(temporary: Path, folder: Path) -> None:
    """Renames a folder; where another process was faster, its equal stays."""
    try:
        temporary.rename(folder)
    except OSError:
        if not is_folder(folder):
            raise
