"""Compares a run with an earlier one: component, before, now, difference."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from wheelcache.runs import Layer, Run, ServiceRun, StepRun

Kind = Literal["fetch", "source", "service", "step", "image", "shared", "total", "together"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Measure:
    """What one component came to in one run.

    Attributes:
        state: in words; empty where there is no more to say than the figures do.
        seconds: None for what takes no time, such as an image.
        size: bytes; None where nobody knows, or there is nothing to know.
    """

    state: str = ""
    seconds: float | None = None
    size: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One component of a run.

    Attributes:
        kind: what it is.
        service: whose it is; empty for what is the whole run's.
        component: what people call it.
        before: in the run that is compared with; None where it was not there.
        now: None where it is there no more.
        has_before: False where there is nothing to compare the service, or the run, with.
    """

    kind: Kind
    service: str = ""
    component: str
    before: Measure | None
    now: Measure | None
    has_before: bool = True

    @property
    def seconds(self) -> float | None:
        """By how many seconds it takes longer now."""
        if self.before is None or self.now is None or self.before.seconds is None or self.now.seconds is None:
            return None
        return self.now.seconds - self.before.seconds

    @property
    def size(self) -> int | None:
        """By how many bytes it is larger now."""
        if self.before is None or self.now is None or self.before.size is None or self.now.size is None:
            return None
        return self.now.size - self.before.size

    @property
    def percent(self) -> float | None:
        """The difference in hundredths of what it was: of its time, of the bytes of what takes none."""
        before = self.before or Measure()
        whole, part = (before.size, self.size) if before.seconds is None else (before.seconds, self.seconds)
        return 100 * part / whole if whole and part is not None else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """A service's part in a run, and the one that it is measured by.

    Attributes:
        now: in this run.
        before: its newest earlier build that made an image; None where none is recorded.
        others_now: the other services' newest images at the time, with which layers may be shared.
        others_before: the same at the time of *before*.
    """

    now: ServiceRun
    before: ServiceRun | None = None
    others_now: tuple[ServiceRun, ...] = ()
    others_before: tuple[ServiceRun, ...] = ()


def compare(run: Run, pairs: Sequence[Pair], before: Run | None) -> tuple[Row, ...]:
    """Returns a run's components: what it fetched, each service with its steps and its image, and all together.

    Args:
        run: this run.
        pairs: its services, in the order in which they were built, or some of them.
        before: an earlier run of the same command and services; None where there is none.
    """
    rows = [*_fetch(run, before)]
    for pair in pairs:
        rows += [*_service(pair)]
    if pairs and len(pairs) == len(run.states):
        rows += _total(run, pairs, before)
    return tuple(rows)


def shared_bytes(service: ServiceRun, others: Iterable[ServiceRun]) -> int | None:
    """Returns the bytes of a service's image in layers that other images have as well; None where nobody knows."""
    if not service.layers:
        return None
    theirs = {layer.key for other in others if other.name != service.name for layer in other.layers}
    return sum(layer.size for layer in service.layers if layer.key in theirs)


def bytes_together(services: Iterable[ServiceRun]) -> int | None:
    """Returns the bytes that images take together, where layers that they share count once; None where nobody knows."""
    services = list(services)
    if not all(service.layers for service in services):
        return None
    layers: dict[str, Layer] = {layer.key: layer for service in services for layer in service.layers}
    return sum(layer.size for layer in layers.values())


def _fetch(run: Run, earlier: Run | None) -> Iterator[Row]:
    fetch, before = run.fetch, earlier.fetch if earlier is not None else None
    if fetch is None:
        return
    was = Measure(seconds=before.seconds, size=before.fetched) if before is not None else None
    now = Measure(seconds=fetch.seconds, size=fetch.fetched)
    yield Row(kind="fetch", component="wheels fetched", before=was, now=now, has_before=before is not None)
    known = before.sources if before is not None else {}
    for source in sorted(fetch.sources.keys() | known.keys()):
        was, now = (Measure(size=sources.get(source, 0)) for sources in (known, fetch.sources))
        yield Row(
            kind="source",
            component=f"from {source}",
            before=was if before is not None else None,
            now=now,
            has_before=before is not None,
        )


def _service(pair: Pair) -> Iterator[Row]:
    now, before = pair.now, pair.before

    def row(kind: Kind, component: str, was: Measure | None, measure: Measure | None) -> Row:
        has_before = before is not None
        return Row(kind=kind, service=now.name, component=component, before=was, now=measure, has_before=has_before)

    was = Measure(state=_state(before), seconds=before.seconds) if before is not None else None
    yield row("service", now.name, was, Measure(state=_state(now), seconds=now.seconds))
    for old, new in matched_steps(before.steps if before is not None else (), now.steps):
        told = new or old
        if told is not None and (new is not None or now.is_done):  # after a failure, nothing says what would have run
            yield row("step", f"{told.stage}: {told.name}" if told.stage else told.name, _measure(old), _measure(new))
    if now.size is None:
        return
    sizes = (before.size, shared_bytes(before, pair.others_before)) if before is not None else (None, None)
    yield row("image", "image", _bytes(sizes[0]), _bytes(now.size))
    shared = shared_bytes(now, pair.others_now)
    yield row("shared", "shared with others", _bytes(sizes[1]), _bytes(shared))


def matched_steps(before: Sequence[StepRun], now: Sequence[StepRun]) -> Iterator[tuple[StepRun | None, StepRun | None]]:
    """Yields steps in today's order, each with what it was; those that are gone come last.

    A step is the one of the same words, else the one in the same place with the same instruction.
    """
    waiting = list(before)
    partners: dict[int, StepRun] = {}
    for is_same in (_has_same_words, _has_same_place):
        for index, step in enumerate(now):
            found = next((old for old in waiting if is_same(old, step)), None) if index not in partners else None
            if found is not None:
                partners[index] = found
                waiting.remove(found)
    yield from ((partners.get(index), step) for index, step in enumerate(now))
    yield from ((step, None) for step in waiting)


def _has_same_words(one: StepRun, other: StepRun) -> bool:
    return (one.stage, one.name) == (other.stage, other.name)


def _has_same_place(one: StepRun, other: StepRun) -> bool:
    keywords = one.name.partition(" ")[0], other.name.partition(" ")[0]
    return one.place > 0 and (one.stage, one.place, keywords[0]) == (other.stage, other.place, keywords[1])


def _measure(step: StepRun | None) -> Measure | None:
    if step is None:
        return None
    return Measure(state="" if step.state == "done" else step.state, seconds=step.seconds, size=step.size)


def _bytes(size: int | None) -> Measure | None:
    return Measure(size=size) if size is not None else None


def _state(service: ServiceRun) -> str:
    words = [service.state, *([service.fault] if service.fault else [])]
    return ": ".join(words) + (f", {service.attempts} attempts" if service.attempts > 1 else "")


def _total(run: Run, pairs: Sequence[Pair], earlier: Run | None) -> Iterator[Row]:
    was = Measure(seconds=earlier.seconds) if earlier is not None else None
    now = Measure(seconds=run.seconds)
    yield Row(kind="total", component="total", before=was, now=now, has_before=was is not None)
    size = bytes_together(pair.now for pair in pairs)
    if size is not None and len(pairs) > 1:
        olds = [pair.before for pair in pairs if pair.before is not None]
        was = _bytes(bytes_together(olds)) if len(olds) == len(pairs) else None
        name = "all images together"
        yield Row(kind="together", component=name, before=was, now=_bytes(size), has_before=was is not None)
