"""Follows an image's pull or push answer by answer: told as it goes, and ended at once when somebody says stop."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    sleep_using_event,
    stop_after_attempt,
    wait_exponential_jitter,
)

from wheelcache.events import Note, Sink, Waiting
from wheelcache.programs import ProgramStoppedError

_POLL: Final = 0.1
"""Seconds between two looks at the stop event."""

_TELL: Final = 10.0
"""Seconds between two sentences on how far it is."""

Answer = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Transfer:
    """How the engine and people call what happens to an image's layers."""

    doing: str
    done: str
    under_way: str
    finished: str


PULL: Final = Transfer(doing="pulling", done="pulled", under_way="Downloading", finished="Download complete")
PUSH: Final = Transfer(doing="pushing", done="pushed", under_way="Pushing", finished="Pushed")


def follow(
    ref: str,
    ask: Callable[[], Iterable[Answer]],
    *,
    transfer: Transfer,
    silence: float,
    stop: threading.Event,
    emit: Sink,
) -> str:
    """Takes in what the engine answers to a pull or push; returns why it failed, empty when it did not.

    Args:
        ref: the image, for people.
        ask: begins the pull and returns its answers; called, and waited for, in a thread of its own.
        transfer: which of both it is.
        silence: seconds without an answer after which it is given up; the SDK itself sets no limit.
        stop: set when the user interrupts.
        emit: takes how far it is.

    Raises:
        ProgramStoppedError: *stop* was set. The engine ends it when it sees that nobody listens any more.
    """
    emit(Note(level="info", message=f"{ref}: {transfer.doing}"))
    layers: dict[str, tuple[int, int]] = {}
    told = time.monotonic()
    for answer in _answers(f"{transfer.doing} {ref}", ask, silence, stop):
        if "error" in answer:
            return str(answer["error"])
        detail = answer.get("progressDetail") or {}
        if answer.get("status") == transfer.under_way and detail.get("total"):
            layers[str(answer.get("id"))] = (int(detail.get("current") or 0), int(detail["total"]))
        elif answer.get("status") == transfer.finished and (layer := layers.get(str(answer.get("id")))):
            layers[str(answer["id"])] = (layer[1], layer[1])
        if time.monotonic() - told >= _TELL:
            told = time.monotonic()
            done, total = (sum(layer[place] for layer in layers.values()) for place in (0, 1))
            emit(Note(level="info", message=f"{ref}: {done / 1e6:.0f} of {total / 1e6:.0f} MB {transfer.done} so far"))
    return ""


def keep_trying(
    once: Callable[[], str],
    *,
    ref: str,
    passes: Callable[[BaseException], bool],
    retries: int,
    stop: threading.Event,
    emit: Sink,
) -> str:
    """Returns what *once* does, tried again *retries* times at most after an error that *passes* calls passing."""

    def say(state: RetryCallState) -> None:
        seconds = state.next_action.sleep if state.next_action else 0.0
        emit(Waiting(filename=ref, seconds=seconds, reason=str(state.outcome.exception() if state.outcome else "")))

    retrying = Retrying(
        stop=stop_after_attempt(retries + 1),
        wait=wait_exponential_jitter(initial=1, max=30),
        retry=retry_if_exception(passes),
        sleep=sleep_using_event(stop),
        before_sleep=say,
        reraise=True,
    )
    result: str = retrying(once)
    return result


def _answers(deed: str, ask: Callable[[], Iterable[Answer]], silence: float, stop: threading.Event) -> Iterator[Answer]:
    """Yields the answers; a socket that is being read hears of no stop, so another thread reads it."""
    inbox: queue.SimpleQueue[Answer | BaseException | None] = queue.SimpleQueue()

    def read() -> None:
        try:
            for answer in ask():
                inbox.put(answer)
            inbox.put(None)
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            inbox.put(error)

    threading.Thread(target=read, name=deed, daemon=True).start()
    heard = time.monotonic()
    while True:
        if stop.is_set():
            raise ProgramStoppedError(f"{deed}: stopped", hint="run the same command again")
        try:
            answer = inbox.get(timeout=_POLL)
        except queue.Empty:
            if time.monotonic() - heard < silence:
                continue
            answer = {"error": f"operation timed out: the engine said nothing for {silence:.0f} s"}
        heard = time.monotonic()
        if answer is None:
            return
        if isinstance(answer, BaseException):
            raise answer
        yield answer
