"""Opens and makes ordinary files and folders only, each as usable as the folder that it is in.

A link, a pipe, or a file that has another name elsewhere is refused: what is written in a store stays in the store.
What root makes belongs to the owner of the folder that it is made in, so that `sudo` costs nobody their own cache. What
is made in a folder that a group shares (setgid, the group may write) the group may write to.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Final

DOOR: Final = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
"""No link is followed and no pipe waited for, should one take a file's place now; each is unknown to some system."""

_SHARED: Final = stat.S_ISGID | stat.S_IWGRP
_KINDS: Final = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a block device",
    stat.S_IFCHR: "a character device",
    stat.S_IFREG: "a file",
}


def kind_of(mode: int) -> str:
    """Returns what a file of that mode is, in words."""
    return _KINDS.get(stat.S_IFMT(mode), "something unknown")


def open_regular(path: Path) -> FileIO:
    """Opens an ordinary file for reading; links are not followed, and nothing can make this wait.

    Raises:
        OSError: there is none, it is something else, or it may not be read.
    """
    _expect_file(path, path.lstat())  # to open some devices does something
    descriptor = os.open(path, os.O_RDONLY | DOOR)
    try:
        _expect_file(path, os.fstat(descriptor))
    except BaseException:
        os.close(descriptor)
        raise
    return FileIO(descriptor)


def open_own(path: Path) -> int:
    """Opens an ordinary file of the store for reading and writing; makes it where there is none.

    Returns:
        A descriptor.

    Raises:
        OSError: it is something else, has another name too, or may not be written.
    """
    expect_own(path)  # to open some devices does something
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | DOOR, 0o664)
    try:
        _expect_own(path, os.fstat(descriptor))
        settle(descriptor, path.parent)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def open_new(path: Path) -> int:
    """Makes a file and opens it for reading and writing.

    Returns:
        A descriptor.

    Raises:
        OSError: something has that name already, or nothing can be made there.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | DOOR, 0o664)
    try:
        settle(descriptor, path.parent)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def make_file(path: Path) -> None:
    """Makes an empty file of the store where there is none.

    One that is there is not even opened: to close it would end the locks that this process has on it (POSIX, fcntl).

    Raises:
        OSError: something else has that name, the file has another one too, or nothing can be made there.
    """
    try:
        _expect_own(path, path.lstat())
    except FileNotFoundError:
        with suppress(FileExistsError):  # another process was faster
            os.close(open_new(path))


def expect_own(path: Path) -> None:
    """Refuses a file of the store that is none, or that has another name; one that is not there is fine.

    Raises:
        OSError: it is one.
    """
    with suppress(FileNotFoundError):
        _expect_own(path, path.lstat())


def is_folder(path: Path) -> bool:
    """True for a folder of the store; False where there is nothing.

    Raises:
        OSError: something else has that name, a link to a folder included.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    if not stat.S_ISDIR(found.st_mode):
        raise OSError(None, f"expected a folder, found {kind_of(found.st_mode)}", str(path))
    return True


def all_below(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Yields all that is below a folder, however deep, folders before what is in them; nothing is followed.

    What may not be read, or has a longer path than the system takes, is left out.
    """
    folders = [os.fspath(folder)]
    while folders:
        with suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                yield entry
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)


def is_open_to_all(mode: int) -> bool:
    """True for the mode of a folder in which anybody may replace what others made; where it is sticky they may not."""
    return sys.platform != "win32" and bool(mode & stat.S_IWOTH) and not mode & stat.S_ISVTX


def make_folder(path: Path) -> bool:
    """Makes a folder of the store where there is none.

    Returns:
        True when it was made now.

    Raises:
        OSError: something else has that name, a link to a folder included; or nothing can be made there.
    """
    if is_folder(path):
        return False
    try:
        path.mkdir(0o775)  # nobody but its owner and group may change it, whatever the umask
    except FileExistsError:  # another process was faster
        return False
    if sys.platform != "win32":  # folders cannot be opened there
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | DOOR)
        try:
            settle(descriptor, path.parent)
        finally:
            os.close(descriptor)
    return True


def make_folders(path: Path) -> None:
    """Makes a folder and those above it, where there are none; a link to a folder will do.

    Raises:
        OSError: something else has that name, or nothing can be made there.
    """
    if path.is_dir():
        return
    if path.parent != path:
        make_folders(path.parent)
    make_folder(path)


def settle(descriptor: int, folder: Path) -> None:
    """Makes what was made in *folder*, and is open, as usable as that: root gives it away, a group's is the group's."""
    if sys.platform == "win32":
        return
    made, around = os.fstat(descriptor), folder.stat()
    is_roots = made.st_uid == os.geteuid() == 0
    if is_roots and (made.st_uid, made.st_gid) != (around.st_uid, around.st_gid):
        with suppress(OSError):  # root of a container, or on a network file system, may own less than it seems
            os.fchown(descriptor, around.st_uid, around.st_gid)
    if is_shared(folder):
        wanted = made.st_mode | (made.st_mode >> 3 & 0o070)  # what its owner may
        if stat.S_ISDIR(made.st_mode):
            wanted |= stat.S_ISGID
        if wanted != made.st_mode and made.st_uid == os.geteuid():
            os.fchmod(descriptor, stat.S_IMODE(wanted))


def is_shared(folder: Path) -> bool:
    """True for a folder that a group shares: what is made in it is that group's, which may write to it."""
    return folder.stat().st_mode & _SHARED == _SHARED


def _expect_file(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise OSError(None, f"expected a file, found {kind_of(found.st_mode)}", str(path))


def _expect_own(path: Path, found: os.stat_result) -> None:
    _expect_file(path, found)
    if found.st_nlink > 1:  # none at all has one that was removed since
        raise OSError(None, f"expected a file of one name, found one of {found.st_nlink} (hard links)", str(path))
