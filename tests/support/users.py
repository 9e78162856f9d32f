"""Other users of this machine, real ones: what they run has their ids, and none of root's powers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import tomli_w

from support.program import TARGET, Ran
from support.wheels import MadeWheel

_BECOME = """
import ast, encodings.cp437, encodings.idna, importlib, inspect, os, pkgutil, sys
from contextlib import suppress
import builders, wheelcache

def import_all():
    # What lies in root's home cannot be imported once root is left; nor can what functions import when they are called.
    for package in (builders, wheelcache):
        for _, name, _ in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not name.endswith("__main__"):
                for node in ast.walk(ast.parse(inspect.getsource(importlib.import_module(name)))):
                    named = [each.name for each in node.names] if isinstance(node, ast.Import) else []
                    named += [node.module] if isinstance(node, ast.ImportFrom) else []
                    for each in named:
                        with suppress(ImportError):
                            importlib.import_module(each)

import_all()
user, group, mask = map(int, sys.argv[1:4])
def become():
    os.setgroups([group])
    os.setgid(group)
    os.setuid(user)
    os.umask(mask)
"""

_RUN = """
from wheelcache.cli.app import run
warm, arguments = sys.argv[4], sys.argv[5:]
streams = os.dup(1), os.dup(2)
for number in (1, 2):
    os.dup2(os.open(os.devnull, os.O_WRONLY), number)
run([*arguments, "--cache-dir", warm])  # all that is imported late
for number, stream in enumerate(streams, 1):
    os.dup2(stream, number)
become()
sys.exit(run(arguments))
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class User:
    """A user by number; there need be no name for it."""

    uid: int
    gid: int
    umask: int = 0o022

    def python(self, imports: str, code: str, *arguments: object) -> str:
        """Runs code as this user, once root has imported what it needs; returns what it prints."""
        script = f"{_BECOME}\n{imports}\nbecome()\ndel sys.argv[1:4]\n{code}"
        done = subprocess.run(self._argv(script, arguments), capture_output=True, text=True, check=False, cwd="/")
        assert done.returncode == 0, done.stderr
        return done.stdout

    def program(self, *arguments: object, cwd: Path) -> Ran:
        """Runs the program as this user."""
        with tempfile.TemporaryDirectory() as warm:
            argv = self._argv(_BECOME + _RUN, [warm, *arguments])
            done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=cwd, timeout=120)
        return Ran(code=done.returncode, out=done.stdout, err=done.stderr)

    def _argv(self, script: str, arguments: Iterable[object]) -> list[str]:
        return [sys.executable, "-c", script, str(self.uid), str(self.gid), str(self.umask), *map(str, arguments)]


class House:
    """A folder that every user can look into, with lockfiles and a store; a context that removes it."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="wheelcache-users-"))
        self.folder.chmod(0o755)
        self.cache = self.folder / "home" / "cache"
        self.cache.parent.mkdir()

    def close(self) -> None:
        """Removes it."""
        shutil.rmtree(self.folder)

    def belong_to(self, user: User, *, mode: int = 0o755) -> None:
        """Gives the folder that the store is in, and all below it, to a user."""
        home = self.cache.parent
        for path in (home, *home.rglob("*")):
            os.chown(path, user.uid, user.gid, follow_symlinks=False)
        home.chmod(mode)

    def lockfile(self, name: str, url: str, *wheels: MadeWheel) -> Path:
        """Writes a lockfile of wheels that are all below one URL."""
        packages = [
            {
                "name": made.name,
                "version": made.version,
                "wheels": [
                    {
                        "name": made.filename,
                        "url": f"{url}/{made.filename}",
                        "size": made.size,
                        "hashes": {"sha256": made.digest.removeprefix("sha256:")},
                    }
                ],
            }
            for made in wheels
        ]
        file = self.folder / name
        file.write_text(tomli_w.dumps({"lock-version": "1.0", "created-by": "test", "packages": packages}))
        return file

    def sync(self, user: User, *lockfiles: Path) -> Ran:
        """Syncs as a user."""
        return self.run(user, "sync", *lockfiles, *TARGET, "--json")

    def run(self, user: User, *arguments: object) -> Ran:
        """Runs the program on the store as a user."""
        return user.program(*arguments, "--cache-dir", self.cache, cwd=self.folder)

    def owners(self) -> dict[str, tuple[int, int]]:
        """Returns the owner and group of everything in the store."""
        paths = (self.cache, *self.cache.rglob("*"))
        return {str(path.relative_to(self.cache)): (path.lstat().st_uid, path.lstat().st_gid) for path in paths}


def fetched(ran: Ran) -> int:
    """Returns the bytes that a sync fetched which ended well."""
    assert ran.code == 0, ran
    count: int = json.loads(ran.out)["bytes_fetched"]
    return count
