"""What holds for all tests."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    # A shell starts what runs in its background deaf to Ctrl-C; the tests are about programs that are not.
    signal.signal(signal.SIGINT, signal.default_int_handler)
