"""Which machine this is, which start of it, and which file system a process of it sees."""

from __future__ import annotations

import hashlib
import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_CONTAINERS: Final = ("/.dockerenv", "/run/.containerenv")
"""What Docker, and Podman, leave in a container."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where paths mean the same: a machine, or a container on it.

    Attributes:
        key: tells it from others; what is not secret of it (machine-id(5) wants it so).
        name: what people call it.
    """

    key: str
    name: str


def this_place() -> Place:
    """Returns the place where this process is: by the machine's id and name, and by what is mounted at `/`.

    A container may have its host's name and no id; what is written in it has a folder of its own on the host, though.
    """
    name = os.uname().nodename if sys.platform != "win32" else os.environ.get("COMPUTERNAME", "")
    identity = [_text("/etc/machine-id"), name, *_root_mount(_text("/proc/self/mountinfo"))]
    key = hashlib.sha256("\0".join(identity).encode()).hexdigest()[:32]
    return Place(key=key, name=f"container {name}" if any(map(os.path.exists, _CONTAINERS)) else name)


def boot_id() -> str:
    """Returns what tells this start of the machine from every other; empty where the system does not say."""
    found = _text("/proc/sys/kernel/random/boot_id")
    return _boot_session() if not found and sys.platform == "darwin" else found


def _root_mount(mountinfo: str) -> list[str]:
    """Returns what is mounted at `/` (proc_pid_mountinfo(5)): never a disk's name, which may change at any start."""
    for line in reversed(mountinfo.splitlines()):
        before, _, after = line.partition(" - ")
        if before.split(" ")[4:5] == ["/"]:
            _, source, options = after.split(" ", 2)
            upper = [option for option in options.split(",") if option.startswith("upperdir=")]
            return [before.split(" ")[3], *upper, *([] if source.startswith("/") else [source])]
    return []


def _text(file: str) -> str:
    with suppress(OSError):
        return Path(file).read_text(encoding="utf-8", errors="replace").strip()
    return ""


def _boot_session() -> str:
    """Returns macOS's `kern.bootsessionuuid` (sysctlbyname(3))."""
    import ctypes  # noqa: PLC0415 - needed nowhere else

    buffer = ctypes.create_string_buffer(64)
    length = ctypes.c_size_t(64)
    failed = ctypes.CDLL(None).sysctlbyname(b"kern.bootsessionuuid", buffer, ctypes.byref(length), None, 0)
    return "" if failed else buffer.value.decode("ascii")
