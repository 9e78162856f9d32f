"""A Dockerfile: its text, its instructions, and its stages once they are resolved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from posixpath import join, normpath
from typing import Final

from builders.instructions import (
    Directive,
    DockerfileSyntaxError,
    Instruction,
    read_directives,
    read_instructions,
)
from builders.mounts import mount_options

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
class Base:
    """What an image says that a stage starts from.

    Attributes:
        env: its variables.
        workdir: empty for `/`.
        user: empty for root.
        triggers: its ONBUILD instructions, without that word.
    """

    env: Mapping[str, str] = field(default_factory=dict)
    workdir: str = ""
    user: str = ""
    triggers: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """What is in force when an instruction runs, as far as the Dockerfile and the given base images tell.

    Attributes:
        env: ENV of the whole chain.
        args: ARG in scope.
        unset: names of ARG in scope that have no value; a base image's variable of that name is most unlikely.
        workdir: absolute.
        user: as USER says; empty where only the base image knows.
        shell: SHELL.
        platform: of what is built.
        knows_base: True when *env* holds the base image's own variables as well.
        knows_workdir: False where only the base image knows where *workdir* begins.
    """

    env: Mapping[str, str] = field(default_factory=dict)
    args: Mapping[str, str] = field(default_factory=dict)
    unset: frozenset[str] = frozenset()
    workdir: str = "/"
    user: str = ""
    shell: tuple[str, ...] = _SHELL
    platform: str = "linux/amd64"
    knows_base: bool = False
    knows_workdir: bool = False

    def lookup(self, name: str) -> str | None:
        """Returns a variable's value: ENV wins over ARG (Dockerfile reference, "Using ARG variables")."""
        return self.env.get(name, self.args.get(name))

    def path(self, text: str) -> str:
        """Returns *text* as an absolute, normal path."""
        return normpath(join(self.workdir, text))


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """An instruction of a stage and what is in force when it runs.

    Attributes:
        instruction: with its index in the file; for a trigger that of the ONBUILD, or of the FROM whose image has it.
        setting: before it runs.
        is_trigger: True for an ONBUILD instruction of the stage or image that this stage builds on.
    """

    instruction: Instruction
    setting: Setting
    is_trigger: bool = False


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
        problem: line and message of what BuildKit refuses once it builds this stage; None where it builds it.
    """

    index: int
    name: str
    base: str
    parent: int | None
    start: Instruction
    steps: tuple[Step, ...]
    end: Setting
    problem: tuple[int, str] | None = None


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


def decode_dockerfile(data: bytes) -> str:
    """Returns a Dockerfile's text; BuildKit takes any bytes, so those that are not UTF-8 are kept as surrogates."""
    return data.decode(errors="surrogateescape")


def encode_dockerfile(text: str) -> bytes:
    """Returns the bytes that `decode_dockerfile` made *text* from."""
    return text.encode(errors="surrogateescape")


def from_words(step: Step) -> Iterator[str]:
    """Yields what an instruction takes files from: `--from=` of COPY and ADD, `from=` of its mounts."""
    yield from step.instruction.values("from")
    origins = (mount_options(mount).get("from", "") for mount in step.instruction.values("mount"))
    yield from filter(None, origins)
