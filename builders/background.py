"""Work that goes on while something else is done."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


def in_background(work: Callable[[], T], *, name: str) -> Future[T]:
    """Starts *work*; its result, or what it raises, is the future's.

    Its thread is a daemon, unlike those of a pool: work that does not end keeps nobody from leaving.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised again by whoever asks for the result
            future.set_exception(error)

    Thread(target=run, name=f"wheelcache-{name}", daemon=True).start()
    return future
