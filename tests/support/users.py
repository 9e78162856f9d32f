"""Other users of this machine, real ones: what they run has their ids, and none of root's powers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import tomli_w

from support.program import TARGET, Ran
from support.wheels import MadeWheel

_SERVE = """
import ast, encodings.cp437, encodings.idna, importlib, inspect, json, netrc, os, pkgutil, secrets, sys, traceback
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

def run(job):
    for number, stream in enumerate((os.devnull, job["out"], job["err"])):
        os.dup2(os.open(stream, os.O_RDWR), number)
    os.chdir(job["cwd"])
    os.setgroups([job["gid"]])
    os.setgid(job["gid"])
    os.setuid(job["uid"])
    os.umask(job["umask"])
    code = 1
    try:
        names = {"argv": job["argv"]}
        exec(job["code"], names)
        code = names.get("code", 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

import_all()
for line in sys.stdin:
    pid = os.fork()
    if not pid:
        run(json.loads(line))
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


_VIEW = """
from pathlib import Path, PurePosixPath
from wheelcache.lock import LockedWheel
from wheelcache.store import Store
from wheelcache.views import make_view
root, digest, name = argv
wheel = LockedWheel(name="a", version="1.0", filename=name, digest=digest, size=None, urls=())
print(make_view(Store.open(Path(root)), "key", [(PurePosixPath(name), wheel)], {}) / name)
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class User:
    """A user by number; there need be no name for it."""

    uid: int
    gid: int
    umask: int = 0o022


class Users:
    """Runs code as other users, each in a fork of one process that has imported all; a context that ends it."""

    def __init__(self) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._process = subprocess.Popen([sys.executable, "-c", _SERVE], text=True, **pipes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def program(self, user: User, *arguments: object, cwd: Path) -> Ran:
        """Runs the program as a user."""
        return self.python(user, "from wheelcache.cli.app import run; code = run(argv)", *arguments, cwd=cwd)

    def python(self, user: User, code: str, *arguments: object, cwd: Path) -> Ran:
        """Runs code as a user; it has the arguments as *argv*."""
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder, "out"), Path(folder, "err")
            out.touch()
            err.touch()
            job = {"code": code, "argv": [*map(str, arguments)], "cwd": str(cwd), "out": str(out), "err": str(err)}
            self._process.stdin.write(json.dumps({**job, **asdict(user)}) + "\n")
            self._process.stdin.flush()
            code = int(self._process.stdout.readline())
            return Ran(code=code, out=out.read_text(), err=err.read_text())


class House:
    """A folder that every user can look into, with lockfiles and a store; a context that removes it."""

    def __init__(self, users: Users) -> None:
        self._users = users
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
        return self._users.program(user, *arguments, "--cache-dir", self.cache, cwd=self.folder)

    def view(self, user: User, made: MadeWheel) -> Path:
        """Makes a view of a wheel as a user; returns where the wheel is in it."""
        ran = self._users.python(user, _VIEW, self.cache, made.digest, made.filename, cwd=self.folder)
        assert ran.code == 0, ran
        return Path(ran.out.strip())

    def owners(self) -> dict[str, tuple[int, int]]:
        """Returns the owner and group of everything in the store."""
        paths = (self.cache, *self.cache.rglob("*"))
        return {str(path.relative_to(self.cache)): (path.lstat().st_uid, path.lstat().st_gid) for path in paths}


def fetched(ran: Ran) -> int:
    """Returns the bytes that a sync fetched which ended well."""
    assert ran.code == 0, ran
    count: int = json.loads(ran.out)["bytes_fetched"]
    return count
