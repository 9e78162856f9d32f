"""Resolves a Dockerfile's stages: what each builds on, and what is set when each of its instructions runs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from posixpath import isabs
from typing import Final, NoReturn

from builders.dockerfile import Base, Dockerfile, Setting, Stage, Stages, Step, from_words
from builders.dockerwords import blank_words, split_words
from builders.expansion import ExpansionError, Lookup, expand, expand_leniently
from builders.instructionrules import late_refusal, pairs_of
from builders.instructions import DockerfileSyntaxError, Instruction, read_instructions

_ALNUM: Final = r"[a-z0-9]+"
_PATH: Final = rf"{_ALNUM}(?:(?:[._]|__|-+){_ALNUM})*"
_HOST: Final = (
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*|\[[0-9a-fA-F:]+\])"
)
_REFERENCE: Final = re.compile(
    rf"(?:{_HOST}(?::\d+)?/)?{_PATH}(?:/{_PATH})*(?::\w[\w.-]{{0,127}})?(?:@[A-Za-z]\w*(?:[-_+.]\w+)*:[0-9a-fA-F]{{32,}})?"
)
"""An image reference (distribution's grammar of references)."""

_PLATFORM: Final = re.compile(r"[\w-]+(\([\w.-]*\))?(/[\w-]+(/[\w-]+)?)?")
_AUTOMATIC: Final = re.compile(r"(TARGET|BUILD)(PLATFORM|OS|ARCH|VARIANT)$")


def resolve_stages(
    dockerfile: Dockerfile,
    *,
    build_args: Mapping[str, str] | None = None,
    bases: Mapping[str, Base] | None = None,
    target: str = "",
    platform: str = "linux/amd64",
) -> Stages:
    """Returns the stages of *dockerfile*, variables expanded as BuildKit does.

    Args:
        dockerfile: as parsed.
        build_args: `--build-arg` values.
        bases: what images say, by reference, where they were asked.
        target: `--target`, a stage's name or number; empty for the last stage.
        platform: `--platform`, for the automatic arguments such as TARGETARCH.

    Raises:
        DockerfileSyntaxError: an image's name or something in a stage that is built is refused, or *target* names no
            stage.
    """
    reader = _Reader(dockerfile, {**_platform_args(platform), **(build_args or {})}, bases or {})
    stages = tuple(reader.stages())
    result = Stages(stages=stages, final=len(stages) - 1)
    if target:
        final = result.find(target)
        if final is None:
            known = ", ".join(stage.name or str(stage.index) for stage in stages)
            raise DockerfileSyntaxError(dockerfile.file, 1, f"target: expected one of {known}, found {target!r}")
        result = replace(result, final=final)
    for line, message in _problems(result):
        raise DockerfileSyntaxError(dockerfile.file, line, message)
    return result


def _problems(stages: Stages) -> Iterator[tuple[int, str]]:
    """Yields line and message of what BuildKit refuses: names of images everywhere, the rest where it is built."""
    needed = stages.needed()
    for index, stage in enumerate(stages.stages):
        if stage.problem is not None and index in needed:
            yield stage.problem
        if stage.parent is None and not _REFERENCE.fullmatch(stage.base):
            yield stage.start.line, f"FROM: expected an image reference, found {stage.base!r}"
        for step in stage.steps:
            for word in from_words(step):
                problem = _refused_origin(word, stages, index)
                if problem:
                    yield step.instruction.line, f"{step.instruction.keyword}: {problem}"


def _refused_origin(word: str, stages: Stages, index: int) -> str:
    """Returns why nothing can be taken from *word* in stage *index*; empty where it can."""
    source = stages.find(word)
    if source is not None:
        return "" if source < index else f"expected an earlier stage, found {word!r}"
    return (
        "" if _REFERENCE.fullmatch(word) and not word.isdecimal() else f"expected a stage or an image, found {word!r}"
    )


class _Reader:
    """Walks a Dockerfile once, keeping what is in force."""

    def __init__(self, dockerfile: Dockerfile, given: Mapping[str, str], bases: Mapping[str, Base]) -> None:
        self.dockerfile = dockerfile
        self.given = given
        self.bases = bases
        self.globals: dict[str, str] = {}
        self.done: list[Stage] = []

    def stages(self) -> Iterator[Stage]:
        instructions = self.dockerfile.instructions
        starts = [each.index for each in instructions if each.keyword == "FROM"]
        for instruction in instructions[: starts[0]]:
            self.globals.update(self._arguments(instruction, self._global))
        for start, end in zip(starts, [*starts[1:], len(instructions)], strict=True):
            stage = self._stage(instructions[start], instructions[start + 1 : end])
            self.done.append(stage)
            yield stage

    def _global(self, name: str) -> str | None:
        if name in self.globals:
            return self.globals[name]
        return self.given.get(name) if _AUTOMATIC.match(name) else None

    def _stage(self, start: Instruction, body: Sequence[Instruction]) -> Stage:
        words = blank_words(start.body)
        base = self._base(start, words[0])
        parent = next((stage for stage in reversed(self.done) if stage.name and stage.name == base), None)
        own = Base() if base == "scratch" else self.bases.get(base)
        setting = parent.end if parent else self._setting(own, start)
        triggers = self._triggers(start, parent, own)
        steps = []
        problem = None
        for instruction, is_trigger in [
            *((each, True) for each in triggers if each),
            *((each, False) for each in body),
        ]:
            steps.append(Step(instruction=instruction, setting=setting, is_trigger=is_trigger))
            arguments = instruction.arguments(self.dockerfile.escape)
            refused = late_refusal(arguments, setting.lookup, workdir=setting.workdir)
            if refused and problem is None:
                problem = (instruction.line, f"{instruction.keyword}: {refused}")
            setting = self._after(instruction, setting)
        return Stage(
            index=len(self.done),
            name=words[2].lower() if len(words) > 1 else "",
            base=base,
            parent=parent.index if parent else None,
            start=start,
            steps=tuple(steps),
            end=setting,
            problem=problem,
        )

    def _setting(self, own: Base | None, start: Instruction) -> Setting:
        """Returns what is in force after a FROM."""
        asked = [
            expand_leniently(word, self._global, escape=self.dockerfile.escape) for word in start.values("platform")
        ]
        plain = Setting(platform=(asked or [""])[-1] or self.given["TARGETPLATFORM"])
        if own is None:
            return plain
        return replace(
            plain, env=dict(own.env), workdir=own.workdir or "/", user=own.user, knows_base=True, knows_workdir=True
        )

    def _triggers(self, start: Instruction, parent: Stage | None, own: Base | None) -> list[Instruction]:
        """Returns what the stage or image below has kept for this one (Dockerfile reference, "ONBUILD")."""
        if parent is not None:
            return [step.instruction.trigger for step in parent.steps if step.instruction.trigger is not None]
        texts = "".join(f"{text}\n" for text in own.triggers) if own is not None else ""
        found = read_instructions(texts, escape=self.dockerfile.escape, file=start.body)
        return [replace(each, index=start.index, line=start.line, end_line=start.end_line) for each in found]

    def _base(self, start: Instruction, word: str) -> str:
        platforms = start.values("platform")
        try:
            base = expand(word, self._global, escape=self.dockerfile.escape).text
            platform = expand(platforms[-1], self._global, escape=self.dockerfile.escape).text if platforms else ""
        except ExpansionError as error:
            self._refuse(start, f"FROM: {error}")
        if not base:
            self._refuse(start, f"FROM {start.body}: expected an image, found none after expansion")
        if platforms and platforms[-1] and not _PLATFORM.fullmatch(platform):
            self._refuse(start, f"FROM: --platform: expected a platform such as linux/amd64, found {platform!r}")
        return base

    def _after(self, instruction: Instruction, setting: Setting) -> Setting:
        match instruction.keyword:
            case "ENV":
                return replace(setting, env={**setting.env, **self._environment(instruction, setting)})
            case "ARG":
                given = self._arguments(instruction, setting.lookup, inherits=True)
                names = {word.partition("=")[0] for word in split_words(instruction.body, self.dockerfile.escape)}
                unset = (setting.unset | names) - given.keys()
                return replace(setting, args={**setting.args, **given}, unset=unset)
            case "WORKDIR":
                folder = self._expand(instruction.body, setting.lookup)
                is_known = setting.knows_workdir or isabs(folder)
                return replace(setting, workdir=setting.path(folder), knows_workdir=is_known)
            case "USER":
                return replace(setting, user=self._expand(instruction.body, setting.lookup))
            case "SHELL":
                return replace(setting, shell=instruction.exec_form or setting.shell)
            case _:
                return setting

    def _environment(self, instruction: Instruction, setting: Setting) -> dict[str, str]:
        pairs = (pair.partition("=") for pair in pairs_of(instruction.body, self.dockerfile.escape))
        return {
            self._expand(name, setting.lookup): self._expand(value.strip(), setting.lookup) for name, _, value in pairs
        }

    def _arguments(self, instruction: Instruction, lookup: Lookup, *, inherits: bool = False) -> dict[str, str]:
        known: dict[str, str] = {}
        for word in split_words(instruction.body, self.dockerfile.escape):
            name, equals, value = word.partition("=")
            name = self._expand(name, _nothing)
            if name in self.given:
                known[name] = self.given[name]
            elif equals:
                known[name] = self._expand(value, lambda each: known.get(each) or lookup(each))
            elif inherits and name in self.globals:
                known[name] = self.globals[name]
        return known

    def _expand(self, text: str, lookup: Lookup) -> str:
        return expand_leniently(text, lookup, escape=self.dockerfile.escape)

    def _refuse(self, instruction: Instruction, message: str) -> NoReturn:
        raise DockerfileSyntaxError(self.dockerfile.file, instruction.line, message)


def _nothing(_name: str) -> str | None:
    return None


def _platform_args(platform: str) -> dict[str, str]:
    system, _, rest = platform.partition("/")
    arch, _, variant = rest.partition("/")
    values = {"PLATFORM": platform, "OS": system, "ARCH": arch, "VARIANT": variant}
    return {f"{side}{name}": value for side in ("TARGET", "BUILD") for name, value in values.items()}
