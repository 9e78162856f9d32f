"""Finds what the pip and uv commands of a Dockerfile install, and what stands in the way of doing it offline."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from posixpath import basename, dirname, join, normpath
from typing import Final, Literal

from builders.contextfiles import ContextFiles, ContextPath, Found, Has, InlineFile, TextOf, Unmapped
from builders.dockerfile import Base, Dockerfile, Stages, Step
from builders.environments import Destination, Environments
from builders.foreign import ForeignInstall, foreign_install
from builders.hiddencalls import HiddenCall, HiddenCalls, calls_beside
from builders.located import LocalProject, Locator
from builders.network import needs_network
from builders.pipcommand import PipCommand, read_pip_command, recognise_call, uninstalled_by
from builders.runs import read_run
from builders.seals import changes_against_sealing, conditions_against_sealing, written_configuration
from builders.settings import settings_made_by
from builders.shellcommand import Command, Files, Script
from builders.stages import resolve_stages
from builders.uvproject import (
    LOCK,
    Exports,
    UvProject,
    UvSync,
    built_by,
    choice_of,
    environment_of,
    folders_above,
    left_out_by,
    read_uv_sync,
)
from builders.wishes import read_wishes
from wheelcache.requirements import reasons_built


@dataclass(frozen=True, kw_only=True, slots=True)
class Install:
    """One command that installs, fetches or builds distributions.

    Attributes:
        instruction: index of its RUN among the Dockerfile's instructions.
        line: the RUN's first line.
        stage: the stage's index.
        tool: `pip` or `uv`.
        subcommand: `install`, `wheel`, `download`, `sync`, or uv's `export`.
        interpreter: how it is called, such as `python3 -m pip` or `/opt/venv/bin/pip`.
        python: uv's `--python`; empty where it is not given.
        requirements: PEP 508 requirements given inline.
        requirement_files: `-r` files in the build context (what they say is for the caller to read).
        constraint_files: `-c` files in the build context.
        local_projects: projects of the build context that it builds.
        index_url: empty for the tool's default. This and the next two may hold credentials.
        extra_index_urls: in order.
        find_links: in order, beside what is mounted.
        no_index: the command itself asks for no index.
        torch_backend: uv's `--torch-backend`; empty where it is not given.
        pre: pre-releases are wanted.
        no_deps: dependencies are not wanted.
        require_hashes: every requirement must have a hash.
        upgrade: `--upgrade`.
        force: `--force-reinstall`, `--ignore-installed` or `--reinstall`.
        destination: where it installs to.
        environment: the virtual environment's folder; empty where it is none.
        needs_network: the same RUN runs something else that clearly needs the network.
        writes_configuration: the same RUN writes the file that a configuration of the tool is mounted at.
        uv_project: the project whose uv.lock a `uv sync` or `uv export` takes; None for other commands.
        unlockable: sentences; why what it installs cannot be locked.
        unsealable: sentences; why it would not keep to a mounted configuration.
    """

    instruction: int
    line: int
    stage: int
    tool: Literal["pip", "uv"]
    subcommand: str
    interpreter: str
    python: str = ""
    requirements: tuple[str, ...] = ()
    requirement_files: tuple[ContextPath, ...] = ()
    constraint_files: tuple[ContextPath, ...] = ()
    local_projects: tuple[LocalProject, ...] = ()
    index_url: str = ""
    extra_index_urls: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    no_index: bool = False
    torch_backend: str = ""
    pre: bool = False
    no_deps: bool = False
    require_hashes: bool = False
    upgrade: bool = False
    force: bool = False
    destination: Destination = "system"
    environment: str = ""
    needs_network: bool = False
    writes_configuration: bool = False
    uv_project: UvProject | None = None
    unlockable: tuple[str, ...] = ()
    unsealable: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Findings:
    """What a Dockerfile installs in the stages that its final stage is made from.

    Attributes:
        stages: all stages, for the given arguments.
        installs: by pip and uv, in the file's order.
        foreign: by other installers.
        uninstalled: normalised names (PEP 503) that a later command takes away again.
    """

    stages: Stages
    installs: tuple[Install, ...]
    foreign: tuple[ForeignInstall, ...]
    uninstalled: frozenset[str] = frozenset()


def find_installs(
    dockerfile: Dockerfile,
    *,
    target: str = "",
    build_args: Mapping[str, str] | None = None,
    bases: Mapping[str, Base] | None = None,
    platform: str = "linux/amd64",
    named_contexts: frozenset[str] = frozenset(),
    has: Has | None = None,
    text_of: TextOf | None = None,
) -> Findings:
    """Returns what *dockerfile* installs.

    Args:
        dockerfile: as parsed.
        target: `--target`; empty for the last stage.
        build_args: `--build-arg` values.
        bases: what images say, by reference, where they were asked.
        platform: `--platform`.
        named_contexts: names of further build contexts.
        has: tells whether a context holds a file; None to go by names alone.
        text_of: returns a context's file, None for what is no text; None to read no scripts.

    Raises:
        DockerfileSyntaxError: BuildKit would refuse the Dockerfile as well.
    """
    stages = resolve_stages(dockerfile, build_args=build_args, bases=bases, target=target, platform=platform)
    return _Finder(stages, named_contexts, has, text_of or (lambda _: None)).find()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Place:
    """Where a command stands: its stage, its RUN as a step of that, and its position among what the RUN runs."""

    stage: int
    number: int
    step: Step
    script: Script
    position: int


_WINDOWS_SHELLS: Final = frozenset({"powershell", "pwsh", "cmd"})
_TRIGGER: Final = (
    "BuildKit mounts no wheels into what an ONBUILD runs: write it as a RUN of the stage that builds on it"
)


class _Finder:
    """Goes through the needed stages in order, keeping the virtual environments made so far."""

    def __init__(self, stages: Stages, named_contexts: frozenset[str], has: Has | None, text_of: TextOf) -> None:
        self.stages = stages
        self.text_of = text_of
        self.scripts: dict[tuple[int, int], Script] = {}
        self.files = ContextFiles(stages, self._script, named_contexts=named_contexts, has=has)
        self.locator = Locator(self.files)
        self.environments: dict[int, Environments] = {}
        self.settings: dict[int, dict[str, str | None]] = {}
        self.installs: list[Install] = []
        self.foreign: list[ForeignInstall] = []
        self.uninstalled: set[str] = set()
        self.exports = Exports()
        self.hidden = HiddenCalls()

    def find(self) -> Findings:
        for index in self.stages.needed():
            self._stage(index)
        return Findings(
            stages=self.stages,
            installs=tuple(self.installs),
            foreign=tuple(self.foreign),
            uninstalled=frozenset(self.uninstalled),
        )

    def _script(self, stage: int, number: int) -> Script:
        """Returns what step *number* of *stage* runs."""
        if (stage, number) not in self.scripts:
            files = Files(
                exists=lambda path: None if isinstance(self._found(path, stage, number), Unmapped) else True,
                text=lambda path: self._text(self._found(path, stage, number)),
            )
            self.scripts[stage, number] = read_run(self.stages.stages[stage].steps[number], files)
        return self.scripts[stage, number]

    def _found(self, path: str, stage: int, number: int) -> Found:
        return self.files.find(path, stage=stage, step=number)

    def _text(self, found: Found) -> str | None:
        if isinstance(found, InlineFile):
            return found.content
        return self.text_of(found) if isinstance(found, ContextPath) else None

    def _stage(self, index: int) -> None:
        stage = self.stages.stages[index]
        parent = self.environments.get(stage.parent) if stage.parent is not None else None
        environments = self.environments[index] = parent.copy() if parent else Environments()
        runs = [number for number, step in enumerate(stage.steps) if step.instruction.keyword == "RUN"]
        environments.expect(command for number in runs for command in self._script(index, number).commands)
        self.settings[index] = dict(self.settings.get(-1 if stage.parent is None else stage.parent, {}))
        for number, step in enumerate(stage.steps):
            self.locator.note_step(step)
            self.exports.note_step(step)
            if step.instruction.keyword == "COPY":
                environments.note_copy(step, self.environments, self.stages)
            elif step.instruction.keyword == "RUN":
                self._run(index, number, step)

    def _run(self, stage: int, number: int, step: Step) -> None:
        script = self._script(stage, number)
        found: list[Install] = []
        for position, plain in enumerate(script.commands):
            command = replace(plain, environment={**self.settings[stage], **plain.environment})
            self.environments[stage].note(command)
            self.settings[stage].update(settings_made_by(command))
            place = _Place(stage=stage, number=number, step=step, script=script, position=position)
            sync = read_uv_sync(command)
            if sync is not None:
                found.append(self._uv_sync(sync, command, place))
                continue
            other = foreign_install(command, step.instruction.line)
            if other is not None:
                self.foreign.append(other)
                continue
            call = recognise_call(command)
            self.uninstalled.update(uninstalled_by(call) if call else ())
            pip = read_pip_command(call) if call else None
            if pip is None:
                continue
            install = self._install(pip, command, place)
            if not _repeats(install, found):
                found.append(install)
        beside = tuple(calls_beside(script, lambda path: self._text(self._found(path, stage, number)))) if found else ()
        found[:1] = [replace(install, unsealable=(*install.unsealable, *beside)) for install in found[:1]]
        hidden = tuple(self.hidden.find(script))
        if basename(step.setting.shell[0]).removesuffix(".exe").lower() in _WINDOWS_SHELLS:
            self.foreign.extend(_in_windows(hidden, step))
        else:
            found.extend(_unread(hidden, script, step, stage))
        self.installs.extend(_kept_writable(install, script) for install in found)

    def _uv_sync(self, sync: UvSync, command: Command, place: _Place) -> Install:
        def locked(folder: str) -> ContextPath | None:
            found = self._found(join(folder, LOCK), place.stage, place.number)
            return found if isinstance(found, ContextPath) else None

        step = place.step
        pip = PipCommand(
            tool="uv",
            subcommand=sync.subcommand,
            program=sync.interpreter,
            interpreter=sync.interpreter.removesuffix(f" {sync.subcommand}"),
            options=sync.options,
            problem=sync.problem,
        )
        doubts = list(_doubts(pip, command))
        root = next((folder for folder in folders_above(sync.folder or "/") if locked(folder)), "")
        lock = locked(root) if root and sync.folder is not None else None
        if lock is None:
            where = sync.folder or "its folder"
            doubts.append(f"{sync.interpreter}: no uv.lock of the build context stands in {where}")
        environment = ""
        if sync.subcommand == "export":
            self.exports.note(command, sync.options)
        else:
            doubts.extend(reasons_built(built_by(sync.options)))
            environment = environment_of(sync, root or sync.folder or "/", command.environment)
            self.environments[place.stage].known[environment] = False
        return Install(
            instruction=step.instruction.index,
            line=step.instruction.line,
            stage=place.stage,
            tool="uv",
            subcommand=sync.subcommand,
            interpreter=sync.interpreter,
            python=sync.options.last("python"),
            force="reinstall" in sync.options.flags,
            destination="venv" if environment else "wheel",
            environment=environment,
            needs_network=needs_network(place.script),
            uv_project=None
            if lock is None
            else UvProject(
                folder=ContextPath(path=dirname(lock.path) or ".", context=lock.context),
                lock_path=join(root, LOCK),
                choice=choice_of(sync.options),
                left_out=left_out_by(sync.options),
            ),
            unlockable=tuple(dict.fromkeys(doubts)),
            unsealable=(*conditions_against_sealing(pip, command, step), *([_TRIGGER] if step.is_trigger else [])),
        )

    def _install(self, pip: PipCommand, command: Command, place: _Place) -> Install:
        wishes = read_wishes(pip, command)
        wishes = replace(wishes, files=self.exports.without(wishes.files))
        options, step, stage = pip.options, place.step, place.stage
        destination, environment = self.environments[stage].destination(pip, command, user=step.setting.user)
        earlier = place.script.commands[: place.position]
        located = self.locator.locate(wishes, stage=stage, step=place.number, earlier=earlier)
        if destination == "wheel":
            folder = options.last("wheel-dir") or options.last("dest") or "."
            self.locator.note_wheel_folder(normpath(join(command.cwd or "/", folder)))
        return Install(
            instruction=step.instruction.index,
            line=step.instruction.line,
            stage=stage,
            tool=pip.tool,
            subcommand=pip.subcommand,
            interpreter=pip.interpreter,
            python=options.last("python"),
            requirements=(*wishes.requirements, *located.requirements),
            requirement_files=located.requirement_files,
            constraint_files=located.constraint_files,
            local_projects=located.projects,
            index_url=wishes.index_url,
            extra_index_urls=wishes.extra_index_urls,
            find_links=wishes.find_links,
            no_index="no-index" in options.flags,
            torch_backend=wishes.torch_backend,
            pre=wishes.pre,
            no_deps=wishes.no_deps,
            require_hashes="require-hashes" in options.flags,
            upgrade="upgrade" in options.flags,
            force=bool(options.flags & {"force-reinstall", "ignore-installed", "reinstall"}),
            destination=destination,
            environment=environment,
            needs_network=needs_network(place.script),
            unlockable=tuple(dict.fromkeys((*_doubts(pip, command), *wishes.unlockable, *located.unlockable))),
            unsealable=(*conditions_against_sealing(pip, command, step), *([_TRIGGER] if step.is_trigger else [])),
        )


def _doubts(pip: PipCommand, command: Command) -> Iterator[str]:
    """Yields why it is not sure that this command runs, and runs as read."""
    shown = f"{pip.interpreter} {pip.subcommand}"
    if command.condition:
        yield f"{shown}: {command.condition}, so it may not run"
    if command.nested:
        yield f"{shown}: it runs inside {command.nested}"
    if pip.problem:
        yield f"{shown}: {pip.problem}"
    if not command.words[0].sure:
        rest = shown.removeprefix(command.words[0].text)
        yield f"{command.words[0].marked('…')}{rest}: which program this is, is only known when it runs"


def _repeats(install: Install, earlier: list[Install]) -> bool:
    """True for a second try of what stands in the same RUN already (`pip install … || pip install …`)."""
    bare = replace(install, unlockable=())
    return any(replace(each, unlockable=()) == bare for each in earlier)


def _kept_writable(install: Install, script: Script) -> Install:
    """Returns *install* without a mount where its RUN changes what is there."""
    lock = install.uv_project.lock_path if install.uv_project is not None else ""
    written = written_configuration(install.tool, script.commands)
    reasons = (*install.unsealable, *changes_against_sealing(lock, written, script.commands))
    return replace(install, writes_configuration=bool(written), unsealable=reasons)


def _in_windows(hidden: Sequence[HiddenCall], step: Step) -> Iterator[ForeignInstall]:
    """Yields what names pip or uv in a Windows shell: no file is mounted there."""
    shell, line = step.setting.shell[0], step.instruction.line
    if hidden:
        reason = f"{shell} is not read: leave the service out, and build it with Docker alone"
        yield ForeignInstall(tool=shell, line=line, reason=reason)


def _unread(hidden: Iterable[HiddenCall], script: Script, step: Step, stage: int) -> Iterator[Install]:
    """Yields an install for each call that is not read."""
    for call in hidden:
        yield Install(
            instruction=step.instruction.index,
            line=step.instruction.line,
            stage=stage,
            tool=call.tool,
            subcommand=call.subcommand,
            interpreter=call.tool,
            needs_network=needs_network(script),
            unlockable=(f"{call.tool} is called in a way that is not read: {call.shown}",),
        )
