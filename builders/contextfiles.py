"""Finds which file of the build context a path inside the image was copied or mounted from."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import pairwise
from posixpath import basename, dirname, join, normpath, relpath
from typing import Final

from builders.dockerfile import Stages, Step, from_words
from builders.expansion import expand_leniently
from builders.mounts import mount_options
from builders.shellcommand import Command, Script

_FILE_SUFFIXES: Final = (
    ".txt",
    ".in",
    ".toml",
    ".lock",
    ".cfg",
    ".ini",
    ".py",
    ".json",
    ".yml",
    ".yaml",
    ".sh",
    ".whl",
    ".md",
    ".conf",
)
_READERS: Final = re.compile(
    r"\[|\[\[|awk|cat|chmod|chown|chgrp|cut|echo|e?grep|head|ls|md5sum|pip[\d.]*|python[\d.]*|sha\d+sum|sort|stat|tail|test"
    r"|uniq|uv|wc"
)
_CLONE_VALUED: Final = frozenset(
    ["-b", "--branch", "--depth", "-o", "--origin", "-j", "--jobs", "-c", "--config", "--reference", "-u", "--filter"]
)
"""Options of `git clone` that take the next word."""


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class ContextPath:
    """A file or folder of a build context.

    Attributes:
        path: POSIX, relative to the context; `.` for the context itself.
        context: a named context; empty for the main one.
    """

    path: str
    context: str = ""

    def __str__(self) -> str:
        return f"{self.context}:{self.path}" if self.context else self.path


@dataclass(frozen=True, kw_only=True, slots=True)
class InlineFile:
    """A file whose text stands in the Dockerfile itself (a COPY heredoc)."""

    content: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Unmapped:
    """A file that no context holds.

    Attributes:
        reason: why.
        is_absent: True when nothing in the Dockerfile brings it at all.
    """

    reason: str
    is_absent: bool = False


Found = ContextPath | InlineFile | Unmapped
Has = Callable[[ContextPath], bool]
"""Tells whether a context holds a file."""

TextOf = Callable[[ContextPath], str | None]
"""Returns what a context's file says; None where it is no text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Copied:
    """One source of a COPY, ADD or bind mount."""

    source: str
    destination: str
    into_folder: bool


class ContextFiles:
    """Follows COPY, ADD and bind mounts backwards.

    Args:
        stages: of the Dockerfile.
        script_of: what the RUN runs that is step number so-and-so of a stage.
        named_contexts: names given by `--build-context` or compose's `additional_contexts`.
        has: tells whether a context holds a file; None where nobody can tell, then names decide.
    """

    def __init__(
        self,
        stages: Stages,
        script_of: Callable[[int, int], Script],
        *,
        named_contexts: frozenset[str] = frozenset(),
        has: Has | None = None,
    ) -> None:
        self.stages = stages
        self.script_of = script_of
        self.named_contexts = named_contexts
        self.has = has or _looks_like_one

    def find(self, path: str, *, stage: int, step: int, earlier: Iterable[Command] = ()) -> Found:
        """Returns where *path* came from, as step number *step* of *stage* sees it.

        Args:
            path: absolute, inside the image.
            stage: the stage's index.
            step: index into its steps; that step's own mounts count, later steps do not.
            earlier: what that step itself ran before it looks.
        """
        steps = self.stages.stages[stage].steps
        if step < len(steps):
            changed = _changed(path, earlier, steps[step].instruction.line)
            mounted = self._mounted(path, steps[step], stage) if changed is None else changed
            if mounted is not None:
                return mounted
        found = self._copied(path, stage, step)
        is_absent = isinstance(found, Unmapped) and found.is_absent
        if is_absent and step < len(steps) and not steps[step].setting.knows_workdir:
            return self._near(path, stage, step) or found
        return found

    def _copied(self, path: str, stage: int, step: int) -> Found:
        """Follows *path* through the steps before number *step*."""
        for number in reversed(range(min(step, len(self.stages.stages[stage].steps)))):
            found = self._through(path, stage, number)
            if found is not None:
                return found
        parent = self.stages.stages[stage].parent
        if parent is not None:
            return self._copied(path, parent, len(self.stages.stages[parent].steps))
        return Unmapped(reason=f"{path} is not copied from the build context", is_absent=True)

    def _near(self, path: str, stage: int, step: int) -> ContextPath | InlineFile | None:
        """Looks for a relative path in the folders that files are copied to.

        Only the base image knows the working directory here; it is one of those, or the build fails anyway.
        """
        setting = self.stages.stages[stage].steps[step].setting
        for each in reversed(self.stages.stages[stage].steps[:step]):
            for copied in copies_of(each) if each.instruction.keyword in {"COPY", "ADD"} else ():
                found = self._copied(join(copied.destination, relpath(path, setting.workdir)), stage, step)
                if not isinstance(found, Unmapped):
                    return found
        return None

    def _through(self, path: str, stage: int, number: int) -> Found | None:
        step = self.stages.stages[stage].steps[number]
        instruction = step.instruction
        if instruction.keyword == "RUN":
            return _changed(path, self.script_of(stage, number).commands, instruction.line)
        if instruction.keyword not in {"COPY", "ADD"}:
            return None
        for heredoc, target in _inline_files(step):
            if target == path:
                return InlineFile(content=heredoc)
        for copied in copies_of(step):
            for source in _sources_of(path, copied):
                found = self._resolve(source, step, stage, next(from_words(step), ""))
                if found is not None:
                    return found
        return None

    def _mounted(self, path: str, step: Step, stage: int) -> Found | None:
        mounts = [
            mount_options(expand_leniently(each, step.setting.lookup)) for each in step.instruction.values("mount")
        ]
        targets = [(step.setting.path(options["target"]), options) for options in mounts if options.get("target")]
        for target, options in sorted(targets, key=lambda each: len(each[0]), reverse=True):
            if path != target and not path.startswith(target.rstrip("/") + "/"):
                continue
            if options["type"] != "bind":
                return Unmapped(reason=f"{path} stands on a {options['type']} mount")
            source = normpath(join(options.get("source", ".").lstrip("/") or ".", relpath(path, target)))
            found = self._resolve(source, step, stage, options.get("from", ""))
            return found or Unmapped(reason=f"{path}: the build context has no {source}")
        return None

    def _resolve(self, source: str, step: Step, stage: int, origin: str) -> Found | None:
        """Returns the file *source* of *origin* (empty: the main context); None where it has none."""
        if not origin or origin in self.named_contexts:
            found = ContextPath(path=source, context=origin)
            return found if self.has(found) else None
        other = self.stages.find(origin)
        if other is None or other >= stage:
            line = step.instruction.line
            return Unmapped(reason=f"{source} comes from the image {origin} (line {line})")
        return self._copied("/" + source.lstrip("/"), other, len(self.stages.stages[other].steps))


def _changed(path: str, commands: Iterable[Command], line: int) -> Unmapped | None:
    """Returns what *commands* of the RUN in *line* did to *path*; None where they leave it as it is."""
    for command in commands:
        clone = _cloned(command)
        if clone and (path == clone or path.startswith(f"{clone}/")):
            return Unmapped(reason=f"{path} comes from the git repository that line {line} clones")
        if _writes(command, path):
            return Unmapped(reason=f"{path} is made or changed by the RUN in line {line}")
    return None


def copies_of(step: Step) -> Iterator[_Copied]:
    """Yields the sources of a COPY or ADD; what is fetched from a URL is left out."""
    instruction, setting = step.instruction, step.setting
    words = instruction.exec_form or tuple(instruction.body.split())
    expanded = [expand_leniently(word, setting.lookup) for word in words]
    sources, target = expanded[:-1], expanded[-1]
    into_folder = target.endswith(("/", "/.")) or target == "." or len(sources) > 1
    destination = setting.path(target)
    parents = any(flag.name == "parents" for flag in instruction.flags)
    for source in sources:
        if re.match(r"<<|https?://|git@|ssh://|git://", source):
            continue
        bare = normpath(source.lstrip("/") or ".")
        into = into_folder or (destination == setting.workdir and not _looks_like_a_file(destination))
        if parents:
            yield _Copied(source=bare, destination=join(destination, bare), into_folder=False)
        else:
            yield _Copied(source=bare, destination=destination, into_folder=into)


def _inline_files(step: Step) -> Iterator[tuple[str, str]]:
    """Yields content and path of the files that a COPY writes down itself."""
    instruction, setting = step.instruction, step.setting
    if not instruction.heredocs:
        return
    target = expand_leniently(instruction.body.split()[-1], setting.lookup)
    for heredoc in instruction.heredocs:
        path = join(target, heredoc.name) if target.endswith("/") or target == "." else target
        content = expand_leniently(heredoc.content, setting.lookup) if heredoc.expands else heredoc.content
        yield content, setting.path(path)


def _sources_of(path: str, copied: _Copied) -> Iterator[str]:
    """Yields what *path* may be in the source's own tree, likeliest first."""
    source, destination = copied.source, copied.destination
    if path == destination:
        if not re.search(r"[*?\[]", source):
            yield source
        return
    if not path.startswith(destination.rstrip("/") + "/"):
        return
    rest = relpath(path, destination)
    if re.search(r"[*?\[]", source):
        first, _, deeper = rest.partition("/")
        candidate = join(dirname(source), first)
        if fnmatchcase(candidate, source):
            yield candidate if not deeper else join(candidate, deeper)
        return
    inside = normpath(join(source, rest))
    as_file = [source] if rest == basename(source) else []  # into a folder, which the base image may have made
    yield from (*as_file, inside) if copied.into_folder else (inside, *as_file)


def _looks_like_one(path: ContextPath) -> bool:
    """Stands in for a look at the context: a file's name has a suffix, and nothing stands below a file."""
    return not any(_looks_like_a_file(part) for part in path.path.split("/")[:-1])


def _looks_like_a_file(path: str) -> bool:
    return basename(path).lower().endswith(_FILE_SUFFIXES)


def _writes(command: Command, path: str) -> bool:
    """True when a command may make or change the file *path*."""
    folder = command.cwd or "/"
    if any(normpath(join(folder, word.text)) == path for word in command.writes):
        return True
    if any(normpath(join(folder, output)) == path for output in _outputs(command.arguments)):
        return True
    words = [normpath(join(folder, word.text)) for word in command.words[1:]]
    if command.name in {"cp", "mv", "ln", "install"} and words:
        return path in {words[-1], *(join(words[-1], basename(word)) for word in words[:-1])}
    if command.name == "sed" and not any(re.match(r"-\w*i|--in-place", word) for word in command.arguments):
        return False
    return path in words and not _READERS.fullmatch(command.name)


def _cloned(command: Command) -> str:
    """Returns the folder that `git clone` makes; empty for other commands."""
    arguments = [word for word in command.arguments if word]
    if command.name != "git" or "clone" not in arguments:
        return ""
    rest = arguments[arguments.index("clone") + 1 :]
    operands = [word for option, word in pairwise(("", *rest)) if word[0] != "-" and option not in _CLONE_VALUED]
    if not operands:
        return ""
    name = operands[1] if len(operands) > 1 else basename(operands[0].rstrip("/")).removesuffix(".git")
    return normpath(join(command.cwd or "/", name))


def _outputs(arguments: tuple[str, ...]) -> Iterator[str]:
    """Yields what options such as `-o FILE` name."""
    for option, value in pairwise((*arguments, "")):
        if re.fullmatch(r"-o|-O|--output|--output-file", option):
            yield value
        elif match := re.fullmatch(r"--output(?:-file|-document)?=(.+)", option):
            yield match[1]
