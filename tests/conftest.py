"""What holds for all tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from support.engines import BASE, can_have_engines, own_engine


def pytest_configure() -> None:
    # A shell starts what runs in its background deaf to Ctrl-C; the tests are about programs that are not.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def engine_of_this_worker(request: pytest.FixtureRequest) -> Iterator[None]:
    """Leads each of several test processes to an engine of its own: many tests look at all that their engine holds."""
    is_one_of_many = "PYTEST_XDIST_WORKER" in os.environ and can_have_engines()
    if not is_one_of_many or not any(item.get_closest_marker("engine") for item in request.session.items):
        yield
        return
    with own_engine() as made, pytest.MonkeyPatch.context() as environ:
        made.take(BASE)
        environ.setenv("DOCKER_HOST", made.unix)
        yield
