"""What the store and the wheelhouse ask of a file system: atomic writes, durable renames, copies that share blocks."""

from __future__ import annotations

import errno
import itertools
import os
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from wheelcache.errors import StoreError, StoreFullError
from wheelcache.ordinary import is_shared, open_new, open_own
from wheelcache.room import is_full

_FICLONE: Final = 0x40049409
"""Linux's ioctl that makes a file share all blocks of another (ioctl_ficlonerange(2))."""
_GONE: Final = ".gone"
_DENIED: Final = frozenset({errno.EACCES, errno.EPERM})


@contextmanager
def store_errors(file: Path) -> Iterator[None]:
    """Turns what the operating system raises about *file* into an error of the store.

    Raises:
        StoreFullError: no room is left.
        StoreError: anything else.
    """
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise StoreFullError(
                f"{file}: no room left on the disk",
                hint="free some space and run the same command again: it continues where this one stopped",
                path=str(file),
            ) from error
        where = error.filename if error.errno is None else file  # `ordinary` knows best what it refuses
        raise StoreError(f"{where}: {error.strerror}", hint=_hint(error, file)) from error


def _hint(error: OSError, file: Path) -> str:
    """Returns what helps where the operating system, or `ordinary`, refused *file*."""
    if error.errno is None:
        return "nothing outside of the store is touched: remove it; to keep the store elsewhere, use --cache-dir"
    if error.errno in _DENIED and (foreign := _foreign(file)) is not None:
        cache = next((folder.parent for folder in file.parents if folder.name == "v1"), foreign)
        owner, own = (_name(user) for user in (foreign.lstat().st_uid, os.geteuid()))
        what, way = "yours", f"chown -R {own}"
        if is_shared(cache):
            what, way = "its group's", "chmod -R g+rwX"
        return f"{foreign} belongs to {owner}; to make all of it {what}: sudo {way} {shlex.quote(str(cache))}"
    return "check the folder, its permissions and its disk; to use another: --cache-dir or WHEELCACHE_DIR"


def _foreign(file: Path) -> Path | None:
    """Returns what is in the way of whoever may not use *file*: it, or the folder nearest to it, if another's."""
    if sys.platform == "win32":
        return None
    nearest = next((path for path in (file, *file.parents) if os.path.lexists(path)), file)
    others = (path for path in (nearest, nearest.parent) if path.lstat().st_uid != os.geteuid())
    return next(others, None)


def _name(user: int) -> str:
    """Returns what a user is called."""
    import pwd  # noqa: PLC0415 - absent from Windows

    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)


def write_atomically(file: Path, data: bytes) -> None:
    """Writes *data* so that *file* is seen whole or as it was, by a reader at the same moment and after a power cut."""
    temporary = temporary_name(file)
    descriptor = open_new(temporary)
    try:
        try:
            while data:
                data = data[os.write(descriptor, data) :]
            os.fsync(descriptor)  # before the rename: a name may reach the disk long before its bytes
        finally:
            os.close(descriptor)
        temporary.replace(file)
        sync_folder(file.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def temporary_name(path: Path) -> Path:
    """Returns a name for what is being made beside *path*: what a process that is killed leaves so, a prune removes."""
    return path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns()}")


def gone_name(path: Path) -> Path:
    """Returns a name for what is being removed that was at *path*: whoever sees it may go on with that."""
    return path.with_name(f"{temporary_name(path).name}{_GONE}")


def is_gone_name(path: Path) -> bool:
    """True for what `gone_name` returns."""
    return path.name.startswith(".") and path.name.endswith(_GONE)


def sync_folder(folder: Path) -> None:
    """Makes renames within *folder* survive a power cut; where folders cannot be opened (Windows) that is given."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def exclusive(file: Path) -> Iterator[None]:
    """Keeps others out for as long as the context lasts: waits for the lock on *file*, which is made and never removed.

    Raises:
        StoreError: the lock cannot be had from this file system.
    """
    with store_errors(file):
        descriptor = open_own(file)
    try:
        with store_errors(file):
            lock_open_file(descriptor)
        yield
    finally:
        os.close(descriptor)


def lock_open_file(descriptor: int) -> None:
    """Takes the system's lock on an open file (flock(2)); it ends with the descriptor, and with the process.

    Not filelock: every `sync` comes by here, even one that finds everything present, and importing filelock takes
    longer than all that such a sync asks of the store. Nor can it lock a file that is open already, as a lease is.

    Args:
        descriptor: of a file that is open for writing, as NFS wants it. Where there is no flock (Windows, where nothing
            is fetched) everybody is let through.

    Raises:
        OSError: the file system has no locks.
    """
    with suppress(ImportError):
        import fcntl  # noqa: PLC0415 - absent from Windows

        fcntl.flock(descriptor, fcntl.LOCK_EX)


def is_locked(descriptor: int) -> bool:
    """True while somebody has the lock on an open file; where there is no flock: on doubt nothing is taken away.

    However many ask at once, none takes another one for the owner: what they ask with is a lock that they can share.

    Args:
        descriptor: of a file that is open for reading.

    Raises:
        OSError: the file system has no locks.
    """
    try:
        import fcntl  # noqa: PLC0415 - absent from Windows
    except ImportError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def move_into(folder: Path, path: Path) -> Path:
    """Moves whatever is at *path* (a link as a link) into a folder of the same disk, and dates it now.

    Returns:
        Where it is now.
    """
    target = free_name(folder, path.name)
    path.rename(target)
    date_now(target)
    return target


def date_now(path: Path) -> None:
    """Makes whatever is at *path* (a link as a link) as young as can be."""
    with suppress(OSError, NotImplementedError):  # another user's, or a link where links have no dates of their own
        os.utime(path, follow_symlinks=False)


def free_name(folder: Path, name: str) -> Path:
    """Returns a path in *folder* that nothing has: *name*, or with a number after it."""
    names = (name if number == 1 else f"{name}.{number}" for number in itertools.count(1))
    return next(folder / each for each in names if not os.path.lexists(folder / each))


def copy_sharing_blocks(source: Path, destination: Path) -> None:
    """Copies a file, as a reflink where the file system can: no bytes are written, yet the copies are independent."""
    if not reflink(source, destination):
        shutil.copyfile(source, destination)  # CPython uses the kernel's own copy where there is one


def reflink(source: Path, destination: Path) -> bool:
    """Makes *destination*, which must not exist, share all blocks of *source*; False where that cannot be."""
    if sys.platform != "linux":
        return False
    import fcntl  # noqa: PLC0415 - absent from Windows

    with source.open("rb") as original, destination.open("xb") as copy:
        try:
            fcntl.ioctl(copy.fileno(), _FICLONE, original.fileno())
        except OSError:  # one file system cannot, another is not the same: whatever the reason, it is copied instead
            cloned = False
        else:
            cloned = True
    if not cloned:
        destination.unlink()
    return cloned
