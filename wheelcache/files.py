"""What the store and the wheelhouse ask of a file system: atomic writes, durable renames, copies that share blocks."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from wheelcache.errors import StoreError, StoreFullError

_FICLONE: Final = 0x40049409
"""Linux's ioctl that makes a file share all blocks of another (ioctl_ficlonerange(2))."""
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


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
        if error.errno in _FULL:
            raise StoreFullError(
                f"{file}: no room left on the disk",
                hint="free some space and run the same command again: it continues where this one stopped",
                path=str(file),
            ) from error
        raise StoreError(f"{file}: {error.strerror}", hint="check the folder, its permissions and its disk") from error


def write_atomically(file: Path, data: bytes) -> None:
    """Writes *data* so that *file* is seen whole or as it was, by a reader at the same moment and after a power cut."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as opened:
            opened.write(data)
            opened.flush()
            os.fsync(opened.fileno())  # before the rename: a name may reach the disk long before its bytes
        temporary.replace(file)
        sync_folder(file.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


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
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
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
    names = (path.name if number == 1 else f"{path.name}.{number}" for number in itertools.count(1))
    target = next(folder / name for name in names if not os.path.lexists(folder / name))
    path.rename(target)
    with suppress(OSError, NotImplementedError):  # another user's, or a link where links have no dates of their own
        os.utime(target, follow_symlinks=False)
    return target


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


def boot_id() -> str:
    """Returns what tells this start of the machine from every other; empty where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return _boot_session() if sys.platform == "darwin" else ""


def _boot_session() -> str:
    """Returns macOS's `kern.bootsessionuuid` (sysctlbyname(3))."""
    import ctypes  # noqa: PLC0415 - needed nowhere else

    buffer = ctypes.create_string_buffer(64)
    length = ctypes.c_size_t(64)
    failed = ctypes.CDLL(None).sysctlbyname(b"kern.bootsessionuuid", buffer, ctypes.byref(length), None, 0)
    return "" if failed else buffer.value.decode("ascii")
