"""Says when a behaviour applies: by turn, by what was asked, by what was given before.

`in_turn` and `by_turns` count requests, `when` asks a predicate; all are behaviours themselves and nest. A predicate
is any function of an Exchange; those here are the usual ones.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, cycle, repeat

from support.behaviours import Behaviour, Serve
from support.exchange import Exchange

Predicate = Callable[[Exchange], bool]


@dataclass(frozen=True)
class When:
    """Answers as *behaviour* where the predicate holds, and as *otherwise* where not."""

    predicate: Predicate
    behaviour: Behaviour
    otherwise: Behaviour

    def answer(self, exchange: Exchange) -> None:
        (self.behaviour if self.predicate(exchange) else self.otherwise).answer(exchange)


class Turns:
    """Answers each request, of whatever path, with the next of *steps*; each step answers one request only."""

    def __init__(self, steps: Iterator[Behaviour]) -> None:
        self._steps = steps
        self._guard = threading.Lock()

    def next(self) -> Behaviour:
        with self._guard:
            return next(self._steps)

    def answer(self, exchange: Exchange) -> None:
        self.next().answer(exchange)


def when(predicate: Predicate, behaviour: Behaviour, otherwise: Behaviour | None = None) -> When:
    """Answers as *behaviour* where *predicate* holds, else as *otherwise*, or honestly."""
    return When(predicate, behaviour, otherwise or Serve())


def in_turn(*steps: Behaviour, then: Behaviour | None = None) -> Turns:
    """Answers with *steps*, one after the other, then always with *then*, or honestly."""
    return Turns(chain(steps, repeat(then or Serve())))


def by_turns(*steps: Behaviour) -> Turns:
    """Answers with *steps*, over and over."""
    return Turns(cycle(steps))


def ranged(exchange: Exchange) -> bool:
    """True if a range is asked for."""
    return exchange.request.range is not None


def starts_within(first: int, end: int | None = None) -> Predicate:
    """True if the first byte asked for lies between two file positions; a request without Range starts at 0."""
    return lambda exchange: (
        first <= (exchange.range_start() or 0) and (end is None or (exchange.range_start() or 0) < end)
    )


def covers(position: int) -> Predicate:
    """True if the byte at *position* is asked for."""

    def is_asked_for(exchange: Exchange) -> bool:
        first, last = exchange.request.range or (0, None)
        return first <= position and (last is None or position <= last)

    return is_asked_for


def asked_less_than(times: int) -> Predicate:
    """True for the first *times* GETs of the path."""
    return lambda exchange: exchange.request.number < times


def sent_less_than(size: int) -> Predicate:
    """True until *size* body bytes of the path have been sent, to all clients together."""
    return lambda exchange: exchange.server.sent(exchange.request.path) < size
