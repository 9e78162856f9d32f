"""Builds services one after another: shared base, wheels, image, check, tag."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path
from typing import Literal

from builders.attempt import Outcome
from builders.errors import BuildError, EngineError
from builders.imagecheck import check_image
from builders.labels import labels_of
from builders.outfit import Bases, Workshop, dress, make_shared_base, make_wheel_image
from builders.preparing import Prepared
from builders.recording import basis_of, check_step, shared_base_step, wheels_step
from builders.stepruns import step_runs
from builders.tagging import pushable, references
from builders.workspace import lay_out
from wheelcache.errors import WheelcacheError
from wheelcache.events import BuildFinished, Note
from wheelcache.runs import Basis, Layer, ServiceRun, StepRun

ServiceState = Literal["built", "unchanged", "failed", "skipped"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ServiceFailure:
    """Why a service has no new image.

    Attributes:
        fault: the class of the fault, such as `network` or `compile`.
        message: what was found, and the failed step's last lines below it.
        hint: the next step.
        log: the last attempt's whole log; None where nothing ran.
    """

    fault: str
    message: str
    hint: str
    log: Path | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ServiceResult:
    """What became of a service.

    Attributes:
        name: the service.
        state: `unchanged` means the same image id as before.
        image: its reference.
        image_id: empty when there is no new image.
        attempts: of its own build.
        seconds: all it took, its shared base included when it was made for it.
        shared_base: the reference of the image in its base's place; empty for none.
        sent: bytes of local files that were sent to the engine for it.
        failure: None unless it failed.
        began_at: seconds since 1970; when its build began.
        steps: what its build consisted of.
        layers: of the image, the lowest first; empty where they cannot be told apart.
        basis: what the image is made from; None where it never came to that.
        tags: every reference that the image has got.
        pushed: those that its registries have now, with the digest of its manifest there.
    """

    name: str
    state: ServiceState
    image: str
    image_id: str = ""
    attempts: int = 0
    seconds: float = 0.0
    shared_base: str = ""
    sent: int = 0
    failure: ServiceFailure | None = None
    began_at: float = 0.0
    steps: tuple[StepRun, ...] = ()
    layers: tuple[Layer, ...] = ()
    basis: Basis | None = None
    tags: tuple[str, ...] = ()
    pushed: Mapping[str, str] = field(default_factory=dict)

    @property
    def record(self) -> ServiceRun:
        """What is kept of it, to compare the next build with."""
        return ServiceRun(
            name=self.name,
            at=self.began_at,
            state=self.state,
            fault=self.failure.fault if self.failure is not None else "",
            image=self.image,
            image_id=self.image_id,
            attempts=self.attempts,
            seconds=self.seconds,
            steps=self.steps,
            layers=self.layers,
            basis=self.basis,
        )


def build_services(services: Sequence[Prepared], workshop: Workshop) -> list[ServiceResult]:
    """Builds *services*, one at a time; one that fails does not keep the others from being built.

    Raises:
        EngineError: the engine went away.
    """
    bases: Bases = {}
    results = []
    for prepared in services:
        if workshop.builder.stop.is_set():
            results.append(ServiceResult(name=prepared.name, state="skipped", image=prepared.reading.service.images[0]))
            continue
        result = _build(prepared, workshop, bases)
        workshop.emit(BuildFinished(name=result.name, state=result.state, seconds=result.seconds))
        results.append(result)
    return results


def _build(prepared: Prepared, workshop: Workshop, bases: Bases) -> ServiceResult:
    began, began_at = time.monotonic(), time.time()
    image = prepared.reading.service.images[0]
    try:
        if prepared.refusal is not None:
            raise prepared.refusal
        result = _build_image(prepared, workshop, bases)
        if workshop.is_pushed and result.failure is None:
            result = _push(result, workshop)
    except EngineError:
        raise
    except WheelcacheError as error:
        result = ServiceResult(name=prepared.name, state="failed", image=image, failure=_failure_of(error))
    return replace(result, seconds=time.monotonic() - began, began_at=began_at)


def _build_image(prepared: Prepared, workshop: Workshop, bases: Bases) -> ServiceResult:
    engine, service = workshop.engine, prepared.reading.service
    image, before = service.images[0], engine.image_id(service.images[0])
    if service.compose is not None and service.compose.ignored:
        ignored = ", ".join(service.compose.ignored)
        workshop.emit(Note(level="warning", message=f"{service.name}: not obeyed of its compose build: {ignored}"))
    labels = labels_of(prepared, run=workshop.builder.run)
    dressing = dress(
        prepared,
        settings=workshop.settings,
        indexes=workshop.indexes,
        offline=workshop.offline,
        labels=labels,
        cache=workshop.cache,
    )
    base = make_shared_base(prepared, workshop, bases)
    steps = [shared_base_step(base, over=engine.image_size(prepared.base))] if base is not None else []
    wheels = make_wheel_image(prepared, workshop)
    steps += [wheels_step(wheels, prepared.own_wheels)] if wheels is not None else []
    sent = sum(made.sent for made in (base, wheels) if made is not None)
    if workshop.elsewhere is not None:
        dressing = workshop.elsewhere.dress(dressing, engine)
    with tempfile.TemporaryDirectory(prefix="wheelcache-build-") as scratch:
        outcome = workshop.builder.build(
            prepared.name,
            lambda attempt: lay_out(Path(scratch), dressing, attempt=attempt),
            has_network=lambda step: not workshop.offline and has_network(step, dressing.network),
        )
    if dressing.mark and outcome.failure is None:
        outcome = replace(outcome, image_id=engine.image_id(dressing.mark) or "")
    # An image gets its tag only once it is checked, and its id covers the label that names what is locked.
    is_checked = outcome.image_id == before
    failure = _failure(outcome) or _unconsumed(dressing.overrides, outcome)
    checks = []
    if failure is None:
        checking = time.monotonic()
        failure = _unlike(prepared, outcome, workshop) if not is_checked else None
        checks.append(check_step(failure is None, is_checked=is_checked, seconds=time.monotonic() - checking))
    state: ServiceState = "failed" if failure else "unchanged" if is_checked else "built"
    tags = references(service.images, workshop.tags)
    if failure is None:
        for ref in tags:
            engine.tag(outcome.image_id, ref)
    elif outcome.image_id and not is_checked:
        engine.discard(outcome.image_id)
    if dressing.mark:
        engine.remove_image(dressing.mark)
    layers = engine.layers(outcome.image_id) if failure is None else ()
    steps += step_runs(outcome.steps, stages=prepared.reading.findings.stages, arguments=service.args, layers=layers)
    return ServiceResult(
        name=prepared.name,
        state=state,
        image=image,
        image_id=outcome.image_id if failure is None else "",
        attempts=outcome.attempts,
        shared_base=base.ref if base is not None else "",
        sent=sent + outcome.sent,
        failure=failure,
        steps=(*steps, *checks),
        layers=tuple(Layer(key=layer.key, size=layer.size) for layer in layers),
        basis=basis_of(prepared, engine=engine, labels=labels),
        tags=tags if failure is None else (),
    )


def _push(result: ServiceResult, workshop: Workshop) -> ServiceResult:
    """Pushes an image that is checked and has its tags; returns the result with what came of it.

    Raises:
        EngineError: the engine went away.
    """
    began = time.monotonic()
    pushed: dict[str, str] = {}
    failure = None
    try:
        for ref in pushable(result.tags):
            pushed[ref] = workshop.engine.push(ref, retries=workshop.settings.retries)
    except BuildError as error:
        failure = _failure_of(error)
    step = StepRun(name="push", state="failed" if failure else "done", seconds=time.monotonic() - began)
    state: ServiceState = "failed" if failure else result.state
    return replace(result, state=state, failure=failure, pushed=pushed, steps=(*result.steps, step))


def _failure_of(error: WheelcacheError) -> ServiceFailure:
    return ServiceFailure(fault=str(error.facts.get("fault", error.kind)), message=error.message, hint=error.hint)


def has_network(step: str, network: str | None) -> bool:
    """Tells whether a step ran with a network.

    Args:
        step: BuildKit's name of it.
        network: the build's own; only RUN steps have it, and those that name another one but `default` do not.
    """
    keyword, *words = re.sub(r"^\[[^]]*\]", "", step).split() or [""]
    if keyword != "RUN":
        return True
    options = takewhile(lambda word: word.startswith("--"), words)
    named = [word.partition("=")[2] for word in options if word.startswith("--network=")]
    return next((name for name in reversed(named) if name != "default"), network) != "none"


def _failure(outcome: Outcome) -> ServiceFailure | None:
    failure = outcome.failure
    if failure is None:
        return None
    said = [] if failure.fault == "interrupted" else [f"    {line}" for line in outcome.tail]
    message = "\n".join([failure.message, *said])
    return ServiceFailure(fault=failure.fault, message=message, hint=failure.hint, log=outcome.log)


def _unconsumed(overrides: Mapping[str, str], outcome: Outcome) -> ServiceFailure | None:
    """Returns the failure of a build that did not take up the shared base it was given."""
    unused = [ref for ref in overrides if ref not in outcome.contexts]
    if not unused:
        return None
    return ServiceFailure(
        fault="override",
        message=f"the build did not take its shared base in the place of {', '.join(unused)}",
        hint='build this service online (build = "online"), and report its Dockerfile\'s FROM lines',
        log=outcome.log,
    )


def _unlike(prepared: Prepared, outcome: Outcome, workshop: Workshop) -> ServiceFailure | None:
    """Returns the failure of a build whose image does not hold what is locked."""
    expected = prepared.expected
    if not expected:
        return None
    check = check_image(workshop.engine, outcome.image_id, expected)
    wrong = [f"{name}: expected {locked}, found {found}" for name, (locked, found) in sorted(check.wrong.items())]
    missing = sorted(name for name in check.missing if name in prepared.required)
    if wrong or missing:
        parts = [*wrong, *([f"missing: {', '.join(missing)}"] if missing else [])]
        return ServiceFailure(
            fault="check",
            message=f"the image is not what is locked: {'; '.join(parts)}",
            hint="a later step changed what was installed, or the lockfile is stale: wheelcache lock, then build again",
            log=outcome.log,
        )
    absent = sorted(set(check.missing) - set(missing))
    if absent:
        # Tools of a builder stage, most likely; but if none of the mounted wheels came along, a COPY may be missing.
        level: Literal["info", "warning"] = (
            "warning" if {wheel.name for wheel in prepared.own_wheels} <= set(absent) else "info"
        )
        names = ", ".join(absent)
        workshop.emit(Note(level=level, message=f"{prepared.name}: stayed behind in a builder stage: {names}"))
    return None
