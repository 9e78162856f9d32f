"""Places what a command asks for: its paths inside the image become files and projects of the build context."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from posixpath import basename, dirname, join, normpath
from typing import Final

from builders.contextfiles import ContextFiles, ContextPath, Found, InlineFile, Unmapped, copies_of
from builders.dockerfile import Step
from builders.mounts import mount_options
from builders.shellcommand import Command
from builders.wishes import Wishes
from wheelcache.requirements import RequirementsFile, Wish, parse_requirements

Find = Callable[[str], Found]
"""Tells where a path came from, as one command sees it."""

_PROJECT_FILES: Final = ("pyproject.toml", "setup.py", "setup.cfg")


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalProject:
    """A project of the build context that is built there, or a wheel of it.

    Attributes:
        folder: where its pyproject.toml stands; the wheel itself for one.
        extras: asked for.
        editable: True with `-e`.
    """

    folder: ContextPath
    extras: tuple[str, ...] = ()
    editable: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Located:
    """What a command's paths turned out to be.

    Attributes:
        requirements: of requirement files that the Dockerfile itself writes down.
        requirement_files: in the build context.
        constraint_files: in the build context.
        projects: in the build context.
        unlockable: sentences, one per path that leads elsewhere.
    """

    requirements: tuple[str, ...]
    requirement_files: tuple[ContextPath, ...]
    constraint_files: tuple[ContextPath, ...]
    projects: tuple[LocalProject, ...]
    unlockable: tuple[str, ...]


class Locator:
    """Places paths, remembering the folders that `pip wheel` and `pip download` fill.

    Args:
        files: follows paths back to the build context.
    """

    def __init__(self, files: ContextFiles) -> None:
        self._files = files
        self._wheel_folders: set[str] = set()

    def note_wheel_folder(self, folder: str) -> None:
        """Remembers that an install of this Dockerfile fills *folder*; what is installed from it is locked already."""
        self._wheel_folders.add(folder)

    def note_step(self, step: Step) -> None:
        """Follows such folders into the stages that copy or mount them."""
        for copied in copies_of(step) if step.instruction.keyword in {"COPY", "ADD"} else ():
            source = "/" + copied.source.strip("/")
            if self._is_wheels(source):
                self._wheel_folders.add(copied.destination)
        for mount in step.instruction.values("mount"):
            options = mount_options(mount)
            if options.get("from") and self._is_wheels(normpath(join("/", options.get("source", "/")))):
                self._wheel_folders.add(step.setting.path(options.get("target", "/")))

    def locate(self, wishes: Wishes, *, stage: int, step: int, earlier: Sequence[Command] = ()) -> Located:
        """Returns what *wishes* point at.

        Args:
            wishes: of one command.
            stage: its stage's index.
            step: its RUN, as an index into the stage's steps.
            earlier: what the RUN ran before it.
        """
        find = partial(self._files.find, stage=stage, step=step, earlier=earlier)
        doubts: list[str] = []
        requirements: list[str] = []
        files: list[ContextPath] = []
        for found, path in _found(wishes.files, doubts, find):
            if isinstance(found, ContextPath):
                files.append(found)
            else:
                requirements.extend(_inline(found, path, doubts))
        constraints: list[ContextPath] = []
        for found, path in _found(wishes.constraints, doubts, find):
            if isinstance(found, ContextPath):
                constraints.append(found)
            else:
                doubts.append(f"{path}: a constraint file written in the Dockerfile is not read")
        projects = [self._project(wish, doubts, find) for wish in wishes.projects]
        projects += [self._wheel(wish, doubts, find, no_deps=wishes.no_deps) for wish in wishes.archives]
        return Located(
            requirements=tuple(requirements),
            requirement_files=tuple(files),
            constraint_files=tuple(constraints),
            projects=tuple(project for project in projects if project),
            unlockable=tuple(doubts),
        )

    def _project(self, wish: Wish, doubts: list[str], find: Find) -> LocalProject | None:
        if self._is_wheels(wish.text):
            return None
        if re.search(r"[*?]", wish.text):
            doubts.append(f"{wish.text}: what this names is only known when the command runs")
            return None
        reasons: list[str] = []
        for name in _PROJECT_FILES:
            found = find(join(wish.text, name))
            if isinstance(found, ContextPath):
                folder = ContextPath(path=dirname(found.path) or ".", context=found.context)
                return LocalProject(folder=folder, extras=wish.extras, editable=wish.editable)
            reasons.append(found.reason if isinstance(found, Unmapped) else f"{wish.text} is not read")
        doubts.append(f"the project {reasons[0].replace(join(wish.text, _PROJECT_FILES[0]), wish.text, 1)}")
        return None

    def _wheel(self, wish: Wish, doubts: list[str], find: Find, *, no_deps: bool) -> LocalProject | None:
        """Returns a wheel of the build context; None for one that an earlier stage made, or that needs nothing."""
        is_wheel = wish.text.endswith(".whl")
        if self._is_wheels(dirname(wish.text)) or (is_wheel and no_deps):
            return None
        found = find(wish.text) if is_wheel else None
        if isinstance(found, ContextPath) and "*" not in found.path:
            return LocalProject(folder=found, extras=wish.extras)
        doubts.append(f"{wish.text}: what an archive on disk requires is not read")
        return None

    def _is_wheels(self, path: str) -> bool:
        return path.removesuffix("/*.whl").removesuffix("/*") in self._wheel_folders


def _found(paths: Iterable[str], doubts: list[str], find: Find) -> Iterable[tuple[ContextPath | InlineFile, str]]:
    for path in paths:
        if fnmatchcase(basename(path), "pylock*.toml"):
            doubts.append(f"{path} is a lockfile (PEP 751), not a list of requirements")
            continue
        if path.endswith((".toml", "/setup.py", "/setup.cfg")):
            doubts.append(f"{path} is a project, not a list of requirements")
            continue
        found = find(path)
        if isinstance(found, Unmapped):
            doubts.append(found.reason)
        else:
            yield found, path


def _inline(file: InlineFile, path: str, doubts: list[str]) -> tuple[str, ...]:
    """Returns the plain requirements of a file that the Dockerfile itself writes down."""
    read = parse_requirements(file.content)
    doubts.extend(read.unlockable)
    if replace(read, lines=()) != RequirementsFile(requirements=read.requirements, unlockable=read.unlockable):
        doubts.append(f"{path}: options in a requirement file written in the Dockerfile are not read")
    return read.requirements
