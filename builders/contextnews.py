"""Which files of a build context changed since a moment, by their times; what of it matters BuildKit decides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePath
from typing import Final

_MOST: Final = 5_000
"""Files that are looked at: BuildKit looks at all of them anyway, this is for an answer at once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ContextNews:
    """What is new in a context.

    Attributes:
        files: relative to the context; a folder, with a slash at its end, where something came or went and nothing in
            it is newer by itself.
        is_whole: False where there are too many files to look at all of them, or some cannot be looked at.
    """

    files: tuple[str, ...]
    is_whole: bool


def context_news(context: Path, dockerfile: Path | None, *, since: float, most: int = _MOST) -> ContextNews:
    """Returns what changed in *context* after *since*, in seconds since 1970.

    What its ignore rules leave out is left out here too. A file that came with an older time of its own counts as new:
    the system notes by itself when it did.

    Args:
        context: the folder.
        dockerfile: where rules for this Dockerfile alone may stand beside it.
        since: what is of this moment counts as old.
        most: files that are looked at.
    """
    names = ["."]
    try:
        names += islice(_names(context, dockerfile), most)
        new = [PurePath(name) for name in names if _changed_at(context / name) > since]
    except OSError:
        return ContextNews(files=(), is_whole=False)
    told_by_others = {parent for path in new for parent in path.parents}
    files = [f"{path}/" if (context / path).is_dir() else str(path) for path in new if path not in told_by_others]
    return ContextNews(files=tuple(sorted(files)), is_whole=len(names) <= most)


def _changed_at(path: Path) -> float:
    found = path.lstat()
    return max(found.st_mtime, found.st_ctime)


def _names(context: Path, dockerfile: Path | None) -> Iterator[str]:
    from docker.utils.build import PatternMatcher  # noqa: PLC0415 - 150 ms, and only plans of builds need it

    names: Iterator[str] = PatternMatcher(_rules(context, dockerfile)).walk(str(context))
    return names


def _rules(context: Path, dockerfile: Path | None) -> list[str]:
    """Returns the ignore rules as BuildKit finds them: those of the Dockerfile alone come before the context's."""
    files = [context / ".dockerignore"]
    if dockerfile is not None:
        files.insert(0, dockerfile.with_name(f"{dockerfile.name}.dockerignore"))
    for file in files:
        try:
            text = file.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError):
            continue
        return [rule for line in text.splitlines() if (rule := line.strip()) and not rule.startswith("#")]
    return []
