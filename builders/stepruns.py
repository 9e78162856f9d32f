"""What is recorded of a build's steps: names that tell no secret, and the bytes that each added to the image."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from builders.dockerfile import Stages
from builders.layers import ImageLayer
from builders.rawjson import StepResult
from wheelcache.redaction import without_userinfo
from wheelcache.runs import StepRun
from wheelcache.stepnames import plain_step

_STEP: Final = re.compile(r"\[(?:([a-z]+/[\w/]+) )?(?:([^\]\s]+) )? *(\d+)/\d+\] (.*)", re.DOTALL)
"""A step of the Dockerfile as BuildKit calls it: `[linux/arm64 builder 3/5] RUN …`, or with less before its number."""

_ONLY_STAGE: Final = "stage-0"
_CONTEXT: Final = "[internal] load build context"
_EXPORT: Final = "exporting to image"
"""BuildKit's own steps that take time worth telling."""

_SHORTEST_VALUE: Final = 4
"""Characters; a build argument's shorter value is no secret, and stands in too many other words."""

_LONGEST_NAME: Final = 300


def step_runs(
    steps: Sequence[StepResult], *, stages: Stages, arguments: Mapping[str, str], layers: Sequence[ImageLayer]
) -> tuple[StepRun, ...]:
    """Returns the steps that are worth recording, in the Dockerfile's order.

    Args:
        steps: as BuildKit told them.
        stages: of the Dockerfile that was built.
        arguments: the build arguments; BuildKit puts their values into the steps' names, and they may be secret.
        layers: of the image that came of it; empty for none.
    """
    order = {label: index for index, label in enumerate(_labels(stages))}
    context = [_own(step, "build context", size=step.sent) for step in steps if step.name == _CONTEXT]
    export = [_own(step, "export of the image") for step in steps if step.name == _EXPORT]
    is_alone = len(stages.stages) == 1
    file = [step for result in steps if (step := _of_file(result, arguments, is_alone=is_alone)) is not None]
    file.sort(key=lambda step: (order.get(step.stage, len(order)), step.stage, step.place))
    return (*context, *_with_sizes(file, stages, layers), *export)


def _own(step: StepResult, name: str, *, size: int | None = None) -> StepRun:
    return StepRun(name=name, state=step.state, seconds=step.seconds, size=size)


def _of_file(step: StepResult, arguments: Mapping[str, str], *, is_alone: bool) -> StepRun | None:
    """Returns a step of the Dockerfile; None for another one."""
    match = _STEP.fullmatch(step.name)
    if match is None:
        return None
    platform, stage, place, text = match.groups()
    if is_alone and stage == _ONLY_STAGE:  # so it is called where other images are mounted
        stage = None
    return StepRun(
        name=_known_name(text, arguments),
        place=int(place),
        stage=" ".join(filter(None, (platform, stage))),
        state=step.state,
        seconds=step.seconds,
    )


def _known_name(text: str, arguments: Mapping[str, str]) -> str:
    keyword, space, words = plain_step(text).partition(" ")
    values = {
        " ".join(shown.split()): argument
        for argument, value in arguments.items()
        for shown in (value, without_userinfo(value))
        if len(shown) >= _SHORTEST_VALUE
    }
    if values:
        longest_first = "|".join(re.escape(value) for value in sorted(values, key=len, reverse=True))
        words = re.sub(longest_first, lambda match: f"${{{values[match[0]]}}}", words)
    name = "".join(character if character.isprintable() else "?" for character in f"{keyword}{space}{words}")
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def _with_sizes(steps: Sequence[StepRun], stages: Stages, layers: Sequence[ImageLayer]) -> list[StepRun]:
    """Gives the steps of the final stage's chain the sizes of the layers that they made, where these are told apart."""
    chain = [_labels(stages)[index] for index in reversed(stages.chain(stages.final))]
    making = [step for label in chain for step in steps if step.stage == label and _keyword(step) != "FROM"]
    top = layers[len(layers) - len(making) :] if len(making) <= len(layers) else ()
    if [_keyword(step) for step in making] != [layer.keyword for layer in top]:
        return list(steps)
    sizes = {(step.stage, step.place): layer.size for step, layer in zip(making, top, strict=True)}
    return [replace(step, size=sizes.get((step.stage, step.place))) for step in steps]


def _labels(stages: Stages) -> list[str]:
    """Returns what each stage's steps are recorded under: as BuildKit calls it, nothing where there is only one."""
    return [stage.name or ("" if len(stages.stages) == 1 else f"stage-{stage.index}") for stage in stages.stages]


def _keyword(step: StepRun) -> str:
    return step.name.partition(" ")[0]
