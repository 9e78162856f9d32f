"""The program, an index on loopback, and projects that are locked already."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.program import ALPHA, ALPHA_2, BETA, BIG, GAMMA, GAMMA_2, NATIVE, Program
from support.server import Server

WHEELS = (ALPHA, ALPHA_2, BETA, GAMMA, GAMMA_2, BIG, NATIVE)


@pytest.fixture
def run(tmp_path: Path) -> Program:
    """Runs the program."""
    return Program(tmp_path)


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mounts a file system of a kind on a folder, and takes it away again."""
    mounted: list[Path] = []

    def do(*arguments: str, name: str) -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        done = subprocess.run(["mount", *arguments, folder], capture_output=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"NOT TESTED, this machine mounts nothing: {done.stderr.decode().strip()}")
        if folder not in mounted:
            mounted.append(folder)
        return folder

    yield do
    for folder in mounted:
        subprocess.run(["umount", folder], check=True)


@pytest.fixture(scope="session")
def started() -> Iterator[Server]:
    """One server for all tests, so that what one of them locked is locked for all."""
    with Server() as server:
        yield server


@pytest.fixture
def server(started: Server, run: Program) -> Server:
    """A server on loopback that nobody has asked, told or given anything."""
    _forget(started)
    run.hosts[started.host] = "[INDEX]"
    return started


@pytest.fixture
def index(server: Server) -> str:
    """A Simple API with a few wheels."""
    return server.put_index(WHEELS)


@pytest.fixture(scope="session")
def locked(started: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders of locked projects."""
    _forget(started)
    index = started.put_index(WHEELS)
    folders = {}
    for name, services in (("pair", {"one": "alpha", "two": "beta"}), ("big", {"big": "big"})):
        program = Program(tmp_path_factory.mktemp(name))
        for service, requirement in services.items():
            program.service(service, requirement)
        program.declare(*services, index=index)
        ran = program("lock")
        assert ran.code == 0, ran
        folders[name] = program.cwd
    return folders


@pytest.fixture
def project(run: Program, locked: dict[str, Path], index: str) -> Program:
    """A project of two locked services, `one` (alpha, gamma) and `two` (beta, gamma)."""
    shutil.copytree(locked["pair"], run.cwd, dirs_exist_ok=True)
    return run


@pytest.fixture
def big(run: Program, locked: dict[str, Path], index: str) -> Program:
    """A project of one locked service that needs 3 MB."""
    shutil.copytree(locked["big"], run.cwd, dirs_exist_ok=True)
    return run


def _forget(server: Server) -> None:
    server._contents.clear()
    server._scripts.clear()
    server.requests.clear()
