"""What holds for all tests: those that share the engine run one after the other, whatever else runs beside them."""

from __future__ import annotations

import signal

import pytest

ENGINE_USERS = ("tests/cli/", "tests/builders/", "tests/docker/")
"""What is in these folders may use an engine, and some of it counts what the engine has."""


def pytest_configure() -> None:
    # A shell starts what runs in its background deaf to Ctrl-C; the tests are about programs that are not.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.nodeid.startswith(ENGINE_USERS):
            item.add_marker(pytest.mark.xdist_group("engine"))
