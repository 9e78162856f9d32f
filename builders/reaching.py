"""Tells which files of one stage reach another by COPY: what an install leaves behind, and what comes twice."""

from __future__ import annotations

import re
from collections.abc import Iterator
from posixpath import normpath
from typing import Final

from builders.contextfiles import copies_of
from builders.dockerfile import Stages, Step, from_words
from builders.installs import Install

_SYSTEM_PACKAGES: Final = re.compile(
    r"^/((usr(/local)?|opt(/(conda|mini(conda|forge)3))?)(/lib(/python[\d.*?]+(/(site|dist)-packages(/.*)?)?)?)?)?$"
)
"""The folder of the packages that the image's own Python sees, those around it, and what is in it."""

_INSIDE: Final = r"(/local)?(/lib(/python[\d.*?]+)?(/(site|dist)-packages)?)?"
"""Where in a folder of their own `--user` and `--prefix` put packages; copied, it brings all of them along.

Debian's pip puts them below `local`.
"""

_HOME: Final = rf"(.*/)?\.local{_INSIDE}|/|/root|/home(/[^/]+)?"
_PREFIX: Final = re.compile(r"""--prefix[=\s]\s*["']?([^\s"']+)""")


def is_copied_twice(stages: Stages, base: str) -> bool:
    """True when the system's packages of *base* are copied out of a stage, or of the image, that is not the final one.

    A shared base would put the heavy wheels among them, and the copy would bring them a second time.

    Args:
        stages: of the Dockerfile.
        base: the reference of the image that would be replaced.
    """
    chain = stages.chain(stages.final)
    for _, step, sources in _copies(stages):
        word = next(from_words(step), "")
        origin = stages.find(word)
        is_other = word == base if origin is None else origin not in chain and stages.external_base(origin) == base
        if is_other and any(map(_SYSTEM_PACKAGES.search, sources)):
            return True
    return False


def reaches_final(stages: Stages, install: Install) -> bool:
    """True when everything that *install* brings ends up in the final image: by its chain, or by one COPY of it all.

    Args:
        stages: of the Dockerfile.
        install: into the system, or by `--user` or `--prefix` into a folder of its own.
    """
    chain = stages.chain(stages.final)
    if install.stage in chain:
        return True
    own = _own_folder(stages, install)
    if not own:
        return False
    return any(
        index in chain
        and (origin := stages.find(next(from_words(step), ""))) is not None
        and install.stage in stages.chain(origin)
        and any(re.fullmatch(own, source) for source in sources)
        for index, step, sources in _copies(stages)
    )


def _own_folder(stages: Stages, install: Install) -> str:
    """Returns a pattern for the folder that an install fills, with those around it; empty where that is not known."""
    step = next(each for each in stages.stages[install.stage].steps if each.instruction.index == install.instruction)
    if install.destination == "user":
        folder = step.setting.lookup("PYTHONUSERBASE") or ""
        return _around(folder) if folder else _HOME
    if install.destination != "prefix":
        return ""
    asked = _PREFIX.search(step.instruction.body)
    folder = asked[1] if asked else step.setting.lookup("PIP_PREFIX") or ""
    return _around(step.setting.path(folder)) if folder else ""


def _around(folder: str) -> str:
    above = [folder[:end] or "/" for end, letter in enumerate(folder) if letter == "/"]
    return "|".join([*map(re.escape, above), re.escape(folder.rstrip("/")) + _INSIDE])


def _copies(stages: Stages) -> Iterator[tuple[int, Step, list[str]]]:
    """Yields each `COPY --from` of the needed stages with the stage it stands in and its sources."""
    for index in stages.needed():
        for step in stages.stages[index].steps:
            if step.instruction.keyword == "COPY" and step.instruction.values("from"):
                yield index, step, [normpath(f"/{copied.source}") for copied in copies_of(step)]
