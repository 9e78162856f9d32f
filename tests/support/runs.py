"""Records of runs, made up."""

from __future__ import annotations

from wheelcache.events import StepState
from wheelcache.runs import Fetch, Layer, Run, ServiceRun, State, StepRun


def step(
    name: str,
    seconds: float = 0.0,
    size: int | None = None,
    *,
    state: StepState = "done",
    place: int = 0,
    stage: str = "",
) -> StepRun:
    return StepRun(name=name, place=place, stage=stage, state=state, seconds=seconds, size=size)


def layers(**sizes: int) -> tuple[Layer, ...]:
    return tuple(Layer(key=key, size=size) for key, size in sizes.items())


def service(
    name: str,
    seconds: float = 1.0,
    *steps: StepRun,
    state: State = "built",
    number: int = 0,
    made: tuple[Layer, ...] = (),
    fault: str = "",
    attempts: int = 1,
) -> ServiceRun:
    return ServiceRun(
        name=name,
        number=number,
        at=1_700_000_000.0,
        state=state,
        fault=fault,
        image=f"shop/{name}:1",
        image_id="sha256:1" if made else "",
        attempts=attempts,
        seconds=seconds,
        steps=steps,
        layers=made,
    )


def run_of(
    *services: ServiceRun,
    seconds: float = 10.0,
    command: str = "build",
    number: int = 0,
    fetch: Fetch | None = None,
    failure: str = "",
) -> Run:
    return Run(
        number=number,
        at=1_700_000_000.0,
        command=command,
        seconds=seconds,
        failure=failure,
        fetch=fetch,
        states={each.name: each.state for each in services},
    )
