"""Which references an image gets beside its service's own: the project's tags, in each of its repositories."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import Final

from builders.enginevalues import split_reference
from builders.git import head_of
from builders.services import Service
from wheelcache.config import TAG_WORD
from wheelcache.errors import ProjectFileError, UsageError
from wheelcache.programs import Runner

_SHORT: Final = 12
"""Hex digits of a commit that nobody has seen twice in a repository."""

_DIRTY: Final = "-dirty"


def read_tags(templates: Sequence[str], *, root: Path, today: Callable[[], date], run: Runner) -> tuple[str, ...]:
    """Returns what `[build] tags` means in this run.

    Args:
        templates: as the project file has them, valid.
        root: the project's folder; its repository's commit is `{git-sha}`.
        today: the day in UTC.
        run: runs programs; asks git.

    Raises:
        ProjectFileError: a commit is wanted where there is none.
    """
    words = {word for template in templates for word in TAG_WORD.findall(template)}
    values = {"date": today().isoformat()}
    if words & {"git-sha", "git-short"}:
        head = head_of(root, run)
        if not head:
            raise ProjectFileError(
                f"build.tags: {', '.join(templates)}: expected a git repository with a commit at {root}, found none",
                hint="build from a clone (git must be installed, and trust its owner), or name tags without a commit",
            )
        dirty = _DIRTY if head.endswith(_DIRTY) else ""
        values |= {"git-sha": head, "git-short": head[:_SHORT] + dirty}
    return tuple(dict.fromkeys(TAG_WORD.sub(lambda word: values[word[1]], template) for template in templates))


def references(images: Sequence[str], tags: Sequence[str]) -> tuple[str, ...]:
    """Returns *images* and, in each of their repositories, *tags*."""
    repositories = dict.fromkeys(split_reference(image)[0] for image in images)
    further = [f"{repository}:{tag}" for tag in tags for repository in repositories]
    return tuple(dict.fromkeys((*images, *further)))


def pushable(refs: Sequence[str]) -> tuple[str, ...]:
    """Returns those of *refs* that name a registry, or a repository of somebody's at Docker's own."""
    return tuple(ref for ref in refs if "/" in ref)


def check_pushable(services: Iterable[Service]) -> None:
    """Checks that every service has a reference to push.

    Raises:
        UsageError: one has none.
    """
    for service in services:
        if not pushable(service.images):
            raise UsageError(
                f"--push: {service.name}: expected an image with a registry, such as registry.example/{service.name}, "
                f"found {', '.join(service.images)}",
                hint="name it: `image` of the service in the compose or project file",
            )
