"""The lock of a digest: the system's, on a file beside its partial, which ends with its owner however that ends.

It only spares others the work of fetching the same: what is right where it is granted to everybody, `writers` decides.
Not filelock: some of its releases empty the file of whoever has the lock, and in that file stands who that is.
"""

from __future__ import annotations

import errno
import os
import time
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from typing import Final

from wheelcache.ordinary import open_own

_LOOK_SECONDS: Final = 0.05
"""How often a lock is tried that another process has."""

_NO_LOCKS: Final = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP})
"""What file systems say that have none."""


def lock_digest(file: Path, *, timeout: float) -> AbstractContextManager[object] | None:
    """Takes the lock on *file*, which is made where there is none.

    Args:
        file: the digest's lock file.
        timeout: seconds to wait for another owner; negative to wait for ever.

    Returns:
        A context that is entered already and gives the lock back on exit; None where another owner kept it.

    Raises:
        OSError: the file cannot be made or opened, or is none.
    """
    ends = time.monotonic() + timeout
    while True:
        with ExitStack() as opened:
            descriptor = open_own(file)
            opened.callback(os.close, descriptor)
            if _try_lock(descriptor) and _is_in_place(descriptor, file):
                return opened.pop_all()
        if timeout >= 0 and ends <= time.monotonic():
            return None
        time.sleep(_LOOK_SECONDS)


def _try_lock(descriptor: int) -> bool:
    """Takes the system's lock on an open file (flock(2)); False while another has it."""
    with suppress(ImportError):  # Windows, where nothing is fetched
        import fcntl  # noqa: PLC0415 - absent from it

        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
    return True


def _is_in_place(descriptor: int, file: Path) -> bool:
    """False where the last owner removed the file meanwhile, with what it was the lock of."""
    try:
        return os.path.samestat(os.fstat(descriptor), file.lstat())
    except FileNotFoundError:
        return False
