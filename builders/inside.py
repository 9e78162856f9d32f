"""The script that runs inside images, with the Python and the standard library found there (3.8 or newer).

It is sent as text, `python -c START TEXT facts [HINT]` or `python -c START TEXT scan`, and prints one line: a mark and
a JSON document. Nothing of ours may be imported here.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import importlib.metadata

MARK = "wheelcache-says:"

# The working directory may hold an application's own json.py.
START = "import sys; sys.path[:] = [entry for entry in sys.path if entry]; exec(sys.argv[1])"


def main() -> None:
    """Answers one question on stdout."""
    what, hint = sys.argv[2], "".join(sys.argv[3:])
    if what == "facts":
        other = interpreter_of(hint) if hint else None
        if other and other != sys.executable:
            # A broken interpreter is no interpreter: this one speaks for the image.
            with contextlib.suppress(OSError):
                os.execv(other, [other, "-c", START, sys.argv[1], "facts"])  # noqa: S606
    answer: object = facts() if what == "facts" else scan()
    print("\n" + MARK + json.dumps(answer))  # noqa: T201


def interpreter_of(program: str) -> str | None:
    """Returns the Python that runs a program: itself, or what its first lines name; None for anything else."""
    path = shutil.which(program)
    if path is None:
        return None
    with open(path, "rb") as file:  # noqa: PTH123
        start = file.read(4096)
    if not start.startswith(b"#!"):
        return path if re.match(r"python|pypy", os.path.basename(path)) else None  # noqa: PTH119
    lines = start.decode(errors="replace").splitlines()
    words = lines[0][2:].split()
    if words and words[0].endswith("/env"):
        return shutil.which(words[-1])
    if words and re.search(r"/(ba|da)?sh$", words[0]) and len(lines) > 1:
        # pip writes this where the interpreter's path is too long, or has a space, for a first line.
        quoted = re.match(r"'''exec' (?:\"([^\"]+)\"|(\S+)) \"\$0\"", lines[1])
        return (quoted.group(1) or quoted.group(2)) if quoted else None
    return words[0] if words and re.search(r"/(python|pypy)[\w.]*$", words[0]) else None


def facts() -> dict[str, object]:
    """Returns what this interpreter is, what it has installed, and where it would install."""
    import importlib.metadata  # noqa: PLC0415 - absent before 3.8, which the words below then say
    import site  # noqa: PLC0415

    user_site = site.getusersitepackages()
    installed: dict[str, dict[str, object]] = {}
    for distribution in importlib.metadata.distributions():
        told = None if str(distribution.locate_file("")) == user_site else describe(distribution)
        if told:
            installed.setdefault(*told)
    paths = sysconfig.get_paths()
    return {
        "environment": environment(),
        "abi": "cp%d%d" % sys.version_info[:2] + abi_flags(),  # noqa: UP031
        "glibc": glibc(),
        "musl": musl(),
        "executable": sys.executable,
        "prefix": sys.prefix,
        "is_venv": sys.prefix != sys.base_prefix,
        "purelib": paths["purelib"],
        "platlib": paths["platlib"],
        "user_site": user_site,
        "installed": installed,
        "constraints": constraint_files(),
    }


def describe(distribution: importlib.metadata.Distribution) -> tuple[str, dict[str, object]] | None:
    """Returns a distribution's normalised name and what a resolver wants to know of it; None where it is broken."""
    try:
        metadata = distribution.metadata
        return normalized(metadata["Name"]), {
            "version": str(metadata["Version"]),
            "requires": list(distribution.requires or []),
            "extras": list(metadata.get_all("Provides-Extra") or []),
        }
    except (AttributeError, KeyError, OSError, TypeError, ValueError):
        return None  # a folder that an uninstallation left


def constraint_files() -> dict[str, dict[str, str]]:
    """Returns the texts of the constraint files that the image's own variables name, by tool and path."""
    found: dict[str, dict[str, str]] = {}
    for tool in ("pip", "uv"):
        found[tool] = {}
        for path in os.environ.get(tool.upper() + "_CONSTRAINT", "").split():
            with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123
                found[tool][path] = file.read()
    return found


def environment() -> dict[str, str]:
    """Returns the marker variables, as PEP 508 ("Environment Markers") defines them."""
    version = sys.implementation.version
    full = ".".join(map(str, version[:3]))
    if version.releaselevel != "final":
        full += version.releaselevel[0] + str(version.serial)
    return {
        "implementation_name": sys.implementation.name,
        "implementation_version": full,
        "os_name": os.name,
        "platform_machine": platform.machine(),
        "platform_python_implementation": platform.python_implementation(),
        "platform_release": platform.release(),
        "platform_system": platform.system(),
        "platform_version": platform.version(),
        "python_full_version": platform.python_version(),
        "python_version": ".".join(platform.python_version_tuple()[:2]),
        "sys_platform": sys.platform,
    }


def abi_flags() -> str:
    """Returns the ABI's flags: free-threaded (PEP 703), debug."""
    threads = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
    return threads + ("d" if hasattr(sys, "gettotalrefcount") else "")


def glibc() -> str | None:
    """Returns glibc's version, such as `2.36`; None with another C library."""
    try:
        found = re.match(r"glibc (\d+\.\d+)", os.confstr("CS_GNU_LIBC_VERSION") or "")
    except (ValueError, OSError, AttributeError):
        return None
    return found.group(1) if found else None


def musl() -> str | None:
    """Returns musl's version, such as `1.2`; None with another C library (PEP 656: its loader says it on stderr)."""
    if not os.path.isdir("/lib"):  # noqa: PTH112
        return None
    loaders = [name for name in os.listdir("/lib") if name.startswith("ld-musl-")]  # noqa: PTH208
    if not loaders or glibc():
        return None
    said = subprocess.run(["/lib/" + loaders[0]], stderr=subprocess.PIPE, check=False).stderr.decode(errors="replace")
    found = re.search(r"Version (\d+\.\d+)", said)
    return found.group(1) if found else None


def scan() -> list[list[str]]:
    """Returns `[name, version]` of every distribution in the file system, whichever interpreter may see it."""
    found: list[list[str] | None] = []
    waiting = ["/"]
    while waiting:
        folder = waiting.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError:
            continue
        is_site = folder.endswith(("/site-packages", "/dist-packages"))
        for entry in entries:
            is_folder = entry.is_dir(follow_symlinks=False)
            if entry.name.endswith(".dist-info") and is_folder:
                found.append(read_metadata(entry.path + "/METADATA"))
            elif entry.name.endswith(".egg-info"):  # how Debian installs setuptools
                found.append(read_metadata(entry.path + "/PKG-INFO" if is_folder else entry.path))
            elif is_folder and not is_site and entry.path not in ("/proc", "/sys", "/dev") and entry.name != ".cache":
                waiting.append(entry.path)
    return [pair for pair in found if pair]


def read_metadata(path: str) -> list[str] | None:
    """Returns `[name, version]` of a METADATA file; None where it has neither."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            return name_and_version(file.read(65536))
    except OSError:
        return None


def name_and_version(text: str) -> list[str] | None:
    """Returns `[name, version]` of core metadata; None where it lacks either."""
    header = text.replace("\r\n", "\n").partition("\n\n")[0]
    name = re.search(r"^Name: *(\S+)", header, re.MULTILINE)
    version = re.search(r"^Version: *(\S+)", header, re.MULTILINE)
    return [normalized(name.group(1)), version.group(1)] if name and version else None


def normalized(name: str) -> str:
    """Returns a project's name as PEP 503 ("Normalized Names") writes it."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    main()
