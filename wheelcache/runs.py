"""What a run did, as values and as JSON: what it fetched, how each service was built, and from what."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Final, Literal

from wheelcache.events import StepState

State = Literal["built", "unchanged", "failed", "skipped"]

_DONE: Final = frozenset({"built", "unchanged"})


@dataclass(frozen=True, kw_only=True, slots=True)
class StepRun:
    """One step of a service's build.

    Attributes:
        name: as people know it; holds no credential and no value of a build argument.
        place: its number in its stage, from 1 (FROM); 0 for what is no step of the Dockerfile.
        stage: its stage; empty for the only one.
        state: `cached` where nothing ran.
        seconds: all attempts together.
        size: bytes by which it made the image larger, or that it brought to the engine; None where nobody knows.
    """

    name: str
    place: int = 0
    stage: str = ""
    state: StepState
    seconds: float
    size: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """A layer of an image.

    Attributes:
        key: stands for the layer and all those below it; equal keys are one layer on the engine's disk.
        size: bytes.
    """

    key: str
    size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Basis:
    """What an image was made from, as far as that is cheap to tell; texts are kept as digests.

    Attributes:
        dockerfile: of its text.
        files: of each requirement and constraint file, by its name in the context.
        wheels: version and digest of each locked project.
        bases: ids of the base images, by reference.
        arguments: of each build argument's value.
        shared: the projects that came with the shared base.
        mode: sealed or online.
        stage: the stage that was built; empty for the last one.
        revision: the last commit of the context; empty where git does not know it.
    """

    dockerfile: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    wheels: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    bases: Mapping[str, str] = field(default_factory=dict)
    arguments: Mapping[str, str] = field(default_factory=dict)
    shared: tuple[str, ...] = ()
    mode: str = ""
    stage: str = ""
    revision: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServiceRun:
    """How the build of one service went.

    Attributes:
        name: the service.
        number: the run's; 0 before it is recorded.
        at: seconds since 1970; when its build began.
        state: as `build` tells it.
        fault: the class of the fault; empty unless it failed.
        image: its reference.
        image_id: empty where there is no new image.
        attempts: of its own build.
        seconds: all it took.
        steps: in the order in which they came.
        layers: of the image, the lowest first; empty where nobody knows them.
        basis: what the image was made from; None where it never came to that.
    """

    name: str
    number: int = 0
    at: float
    state: State
    fault: str = ""
    image: str
    image_id: str = ""
    attempts: int = 0
    seconds: float
    steps: tuple[StepRun, ...] = ()
    layers: tuple[Layer, ...] = ()
    basis: Basis | None = None

    @property
    def is_done(self) -> bool:
        """True when there is an image: others are no measure for the next."""
        return self.state in _DONE

    @property
    def size(self) -> int | None:
        """Bytes of the image, those of its base included; None where nobody knows."""
        return sum(layer.size for layer in self.layers) if self.layers else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Fetch:
    """What a run fetched.

    Attributes:
        seconds: that it took to make the store complete.
        fetched: bytes over the network, wasted ones included.
        wheels: how many had to be there.
        sources: bytes by host, without credentials.
    """

    seconds: float
    fetched: int
    wheels: int
    sources: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One run of `sync` or `build`.

    Attributes:
        number: counts the runs of a project, from 1; 0 before it is recorded.
        at: seconds since 1970; when it began.
        command: its name.
        seconds: all it took.
        failure: the kind of the error that ended it; empty for none.
        fetch: None where it never came to that.
        states: how each service's build ended.
    """

    number: int = 0
    at: float
    command: str
    seconds: float
    failure: str = ""
    fetch: Fetch | None = None
    states: Mapping[str, State] = field(default_factory=dict)

    @property
    def is_done(self) -> bool:
        """True when it did all that it was to do: others are no measure for the next."""
        return not self.failure and all(state in _DONE for state in self.states.values())


def as_json(run: Run | ServiceRun) -> str:
    """Returns a run, or a service's part in one, as JSON."""
    return json.dumps(asdict(run), separators=(",", ":"))
