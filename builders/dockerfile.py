"""A Dockerfile as stages: what each builds on, and what is set when each of its instructions runs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from posixpath import join, normpath
from typing import Final, NoReturn

from builders.expansion import Expanded, Lookup, expand
from builders.instructions import (
    Directive,
    DockerfileSyntaxError,
    Instruction,
    read_directives,
    read_instructions,
)

_SHELL: Final = ("/bin/sh", "-c")


@dataclass(frozen=True, kw_only=True, slots=True)
class Dockerfile:
    """A Dockerfile's text and its instructions."""

    file: str
    text: str
    directives: tuple[Directive, ...]
    instructions: tuple[Instruction, ...]

    def directive(self, name: str) -> Directive | None:
        """Returns the parser directive of that name, if there is one."""
        return next((each for each in self.directives if each.name == name), None)

    @property
    def escape(self) -> str:
        """The escape character."""
        chosen = self.directive("escape")
        return chosen.value if chosen else "\\"


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """What is in force when an instruction runs, as far as the Dockerfile and the given base images tell.

    Attributes:
        env: ENV of the whole chain.
        args: ARG in scope.
        workdir: absolute.
        user: as USER says; empty where only the base image knows.
        shell: SHELL.
        knows_base: True when *env* holds the base image's own variables as well.
    """

    env: Mapping[str, str] = field(default_factory=dict)
    args: Mapping[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str = ""
    shell: tuple[str, ...] = _SHELL
    knows_base: bool = False

    def lookup(self, name: str) -> str | None:
        """Returns a variable's value: ENV wins over ARG (Dockerfile reference, "Using ARG variables")."""
        return self.env.get(name, self.args.get(name))

    def path(self, text: str) -> str:
        """Returns *text* as an absolute, normal path."""
        return normpath(join(self.workdir, text))


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """An instruction of a stage and what is in force when it runs."""

    instruction: Instruction
    setting: Setting


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """One stage.

    Attributes:
        index: from 0.
        name: in lower case; empty where it has none.
        base: FROM's word after expansion: a stage's name, or an image reference exactly as BuildKit looks it up.
        parent: the stage it builds on; None for an image.
        start: its FROM.
        steps: what follows.
        end: what is in force after its last instruction.
    """

    index: int
    name: str
    base: str
    parent: int | None
    start: Instruction
    steps: tuple[Step, ...]
    end: Setting


@dataclass(frozen=True, kw_only=True, slots=True)
class Stages:
    """All stages of a Dockerfile for given build arguments, and which one is built."""

    stages: tuple[Stage, ...]
    final: int

    def chain(self, stage: int) -> tuple[int, ...]:
        """Returns *stage* and the stages it builds on, itself first."""
        found = [stage]
        while (parent := self.stages[found[-1]].parent) is not None:
            found.append(parent)
        return tuple(found)

    def external_base(self, stage: int) -> str:
        """Returns the image reference at the end of *stage*'s chain."""
        return self.stages[self.chain(stage)[-1]].base

    def find(self, word: str) -> int | None:
        """Returns the stage that `--from` or `--target` names, by name or number."""
        for stage in reversed(self.stages):
            if stage.name and stage.name == word.lower():
                return stage.index
        return int(word) if word.isdecimal() and int(word) < len(self.stages) else None

    def needed(self) -> tuple[int, ...]:
        """Returns the stages that the final one is made from, itself included, in the file's order."""
        todo, seen = [self.final], set[int]()
        while todo:
            index = todo.pop()
            if index in seen:
                continue
            seen.add(index)
            todo.extend(self.sources(index))
        return tuple(sorted(seen))

    def sources(self, index: int) -> Iterator[int]:
        """Yields the stages that stage *index* takes something from."""
        stage = self.stages[index]
        if stage.parent is not None:
            yield stage.parent
        for step in stage.steps:
            for word in from_words(step):
                source = self.find(word)
                if source is not None and source < index:
                    yield source


def parse_dockerfile(text: str, *, file: str = "Dockerfile") -> Dockerfile:
    """Reads a Dockerfile.

    Args:
        text: its text, line ends untouched (`newline=""`).
        file: its name, for messages.

    Raises:
        DockerfileSyntaxError: BuildKit would refuse it as well.
    """
    directives = read_directives(text, file=file)
    escape = next((each.value for each in directives if each.name == "escape"), "\\")
    instructions = read_instructions(text, escape=escape, file=file)
    early = next((each for each in instructions if each.keyword != "ARG"), None)
    if early is None:
        raise DockerfileSyntaxError(file, 1, "expected a FROM, found none")
    if early.keyword != "FROM":
        raise DockerfileSyntaxError(file, early.line, f"expected FROM before {early.keyword}")
    return Dockerfile(file=file, text=text, directives=directives, instructions=instructions)


def resolve_stages(
    dockerfile: Dockerfile,
    *,
    build_args: Mapping[str, str] | None = None,
    base_envs: Mapping[str, Mapping[str, str]] | None = None,
    target: str = "",
    platform: str = "linux/amd64",
) -> Stages:
    """Returns the stages of *dockerfile*, variables expanded as BuildKit does.

    Args:
        dockerfile: as parsed.
        build_args: `--build-arg` values.
        base_envs: an image reference's own environment, where it was asked for.
        target: `--target`, a stage's name or number; empty for the last stage.
        platform: `--platform`, for the automatic arguments such as TARGETARCH.

    Raises:
        DockerfileSyntaxError: a FROM cannot be read, or *target* names no stage.
    """
    reader = _Reader(dockerfile, {**_platform_args(platform), **(build_args or {})}, base_envs or {})
    stages = tuple(reader.stages())
    result = Stages(stages=stages, final=len(stages) - 1)
    if not target:
        return result
    final = result.find(target)
    if final is None:
        known = ", ".join(stage.name or str(stage.index) for stage in stages)
        raise DockerfileSyntaxError(dockerfile.file, 1, f"target: expected one of {known}, found {target!r}")
    return replace(result, final=final)


def from_words(step: Step) -> Iterator[str]:
    """Yields what an instruction takes files from: `--from=` of COPY and ADD, `from=` of its mounts."""
    for value in step.instruction.values("from"):
        yield expand(value, step.setting.lookup).text
    for mount in step.instruction.values("mount"):
        word = mount_options(mount).get("from", "")
        if word:
            yield expand(word, step.setting.lookup).text


def mount_options(mount: str) -> dict[str, str]:
    """Returns the options of a `--mount=` value under their long names."""
    long = {"src": "source", "dst": "target", "destination": "target"}
    pairs = (item.partition("=") for item in mount.split(","))
    options = {long.get(name.strip().lower(), name.strip().lower()): value for name, _, value in pairs}
    options.setdefault("type", "bind")
    return options


def split_words(text: str, escape: str = "\\") -> list[str]:
    """Splits ENV's or ARG's arguments at blanks outside quotes; quotes stay."""
    return re.findall(rf"(?:{re.escape(escape)}.|\"(?:{re.escape(escape)}.|[^\"])*\"|'[^']*'|[^\s])+", text)


class _Reader:
    """Walks a Dockerfile once, keeping what is in force."""

    def __init__(
        self, dockerfile: Dockerfile, given: Mapping[str, str], base_envs: Mapping[str, Mapping[str, str]]
    ) -> None:
        self.dockerfile = dockerfile
        self.given = given
        self.base_envs = base_envs
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
        return self.given.get(name) if re.match(r"(TARGET|BUILD)(PLATFORM|OS|ARCH|VARIANT)$", name) else None

    def _stage(self, start: Instruction, body: tuple[Instruction, ...]) -> Stage:
        words = [self._expand(word, self._global).text for word in start.body.split()]
        if len(words) not in {1, 3} or (len(words) == 3 and words[1].lower() != "as"):  # noqa: PLR2004
            self._refuse(start, f"FROM: expected IMAGE or IMAGE AS NAME, found {start.body!r}")
        if not words[0]:
            self._refuse(start, f"FROM {start.body}: expected an image, found none after expansion")
        name = words[2].lower() if len(words) > 1 else ""
        parents = [stage for stage in self.done if stage.name and stage.name == words[0].lower()]
        parent = parents[-1] if parents else None
        own = self.base_envs.get(words[0])
        setting = parent.end if parent else Setting(env=dict(own or {}), knows_base=own is not None)
        if words[0] == "scratch":
            setting = Setting(knows_base=True)
        steps = []
        for instruction in body:
            steps.append(Step(instruction=instruction, setting=setting))
            setting = self._after(instruction, setting)
        return Stage(
            index=len(self.done),
            name=name,
            base=words[0],
            parent=parent.index if parent else None,
            start=start,
            steps=tuple(steps),
            end=setting,
        )

    def _after(self, instruction: Instruction, setting: Setting) -> Setting:
        match instruction.keyword:
            case "ENV":
                return replace(setting, env={**setting.env, **self._environment(instruction, setting)})
            case "ARG":
                given = self._arguments(instruction, setting.lookup, inherits=True)
                return replace(setting, args={**setting.args, **given})
            case "WORKDIR":
                return replace(setting, workdir=setting.path(self._expand(instruction.body, setting.lookup).text))
            case "USER":
                return replace(setting, user=self._expand(instruction.body, setting.lookup).text)
            case "SHELL":
                return replace(setting, shell=instruction.exec_form or self._refuse(instruction, _SHELL_HELP))
            case _:
                return setting

    def _environment(self, instruction: Instruction, setting: Setting) -> dict[str, str]:
        words = split_words(instruction.body, self.dockerfile.escape)
        if "=" not in words[0]:
            name, _, rest = instruction.body.partition(" ")
            return {name: self._expand(rest.strip(), setting.lookup).text}
        pairs = {}
        for word in words:
            name, equals, value = word.partition("=")
            if not equals or not name:
                self._refuse(instruction, f"ENV: expected NAME=VALUE, found {word!r}")
            pairs[name] = self._expand(value, setting.lookup).text
        return pairs

    def _arguments(self, instruction: Instruction, lookup: Lookup, *, inherits: bool = False) -> dict[str, str]:
        known: dict[str, str] = {}
        for word in split_words(instruction.body, self.dockerfile.escape):
            name, equals, value = word.partition("=")
            name = self._expand(name, _nothing).text
            if name in self.given:
                known[name] = self.given[name]
            elif equals:
                known[name] = self._expand(value, lambda each: known.get(each) or lookup(each)).text
            elif inherits and name in self.globals:
                known[name] = self.globals[name]
        return known

    def _expand(self, text: str, lookup: Lookup) -> Expanded:
        return expand(text, lookup, escape=self.dockerfile.escape)

    def _refuse(self, instruction: Instruction, message: str) -> NoReturn:
        raise DockerfileSyntaxError(self.dockerfile.file, instruction.line, message)


_SHELL_HELP: Final = 'SHELL: expected a JSON list such as ["/bin/bash", "-c"]'


def _nothing(_name: str) -> str | None:
    return None


def _platform_args(platform: str) -> dict[str, str]:
    system, _, rest = platform.partition("/")
    arch, _, variant = rest.partition("/")
    values = {"PLATFORM": platform, "OS": system, "ARCH": arch, "VARIANT": variant}
    return {f"{side}{name}": value for side in ("TARGET", "BUILD") for name, value in values.items()}
