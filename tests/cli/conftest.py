"""The program, an index on loopback, and projects that are locked already."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.program import ALPHA, ALPHA_2, BETA, BIG, GAMMA, GAMMA_2, NATIVE, Program
from support.server import Server


@pytest.fixture
def run(tmp_path: Path) -> Program:
    """Runs the program."""
    return Program(tmp_path)


@pytest.fixture
def server(run: Program) -> Iterator[Server]:
    """A server on loopback."""
    with Server() as started:
        run.hosts[started.host] = "[INDEX]"
        yield started


@pytest.fixture
def index(server: Server) -> str:
    """A Simple API with a few wheels."""
    return server.put_index([ALPHA, ALPHA_2, BETA, GAMMA, GAMMA_2, BIG, NATIVE])


@pytest.fixture
def project(run: Program, index: str) -> Program:
    """A project of two locked services, `one` (alpha, gamma) and `two` (beta, gamma)."""
    run.service("one", "alpha")
    run.service("two", "beta")
    run.declare("one", "two", index=index)
    locked = run("lock")
    assert locked.code == 0, locked
    return run


@pytest.fixture
def big(run: Program, index: str) -> Program:
    """A project of one locked service that needs 3 MB."""
    run.service("big", "big")
    run.declare("big", index=index)
    locked = run("lock")
    assert locked.code == 0, locked
    return run
