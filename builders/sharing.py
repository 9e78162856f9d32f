"""Decides whether heavy wheels in a base image would be found by a service's own commands and reach its image."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from posixpath import normpath
from typing import Final, Literal

from builders.contextfiles import copies_of
from builders.dockerfile import Stages, from_words
from builders.installs import Install
from builders.prefix import brings_its_own_python, brings_python

_WHY_OWN: Final = {
    "target": "--target looks at nothing that is installed already",
    "wheel": "it makes or fetches wheels instead of installing them",
    "venv": "a virtual environment does not see the base image's packages",
}

_SYSTEM_PACKAGES: Final = re.compile(r"^/(usr(/local)?(/lib(/python[\d.]+(/(site|dist)-packages)?)?)?)?$")
"""The folder of the packages that the image's own Python sees, and the folders around it."""

_PROGRAM: Final = re.compile(r"/bin/\w")
_SYSTEM_PROGRAM: Final = re.compile(r"""(?:^|[\s"'=,(:])(?:/usr(?:/local)?)?/bin/\w""")


@dataclass(frozen=True, kw_only=True, slots=True)
class Sharing:
    """Whether a service can be built on a shared base.

    Attributes:
        verdict: `shared`: each of its bases may be replaced; `own`: none may be.
        bases: FROM references to override, exactly as BuildKit looks them up; empty with `own`.
        reason: one sentence.
        takes_light: True where small wheels may come from the base as well: no program is named by a path below a
            folder that only this service's own installs fill, such as `/root/.local/bin/uvicorn`.
    """

    verdict: Literal["shared", "own"]
    bases: tuple[str, ...]
    reason: str
    takes_light: bool = False


def sharing(stages: Stages, installs: Sequence[Install]) -> Sharing:
    """Returns whether heavy wheels preinstalled in the base image serve these installs.

    Every stage that matters is overridden or none is: an override of the builder stage's base alone would make pip
    skip torch there, and the final image would lack it. Whether the base image has ONBUILD triggers is for the caller
    to ask; they would fire while the shared base is built.

    Args:
        stages: of the Dockerfile.
        installs: its installs.
    """
    if not installs:
        return _own("nothing is installed by pip or uv")
    base = stages.external_base(stages.final)
    if base == "scratch":
        return _own("the final stage starts from scratch")
    if any(stage.name and stage.name == base.removesuffix(":latest") for stage in stages.stages):
        return _own(f"a stage is called {base.removesuffix(':latest')} too, and BuildKit would replace the stage")
    for install in installs:
        if install.subcommand == "export":  # it installs nothing, and writes down what another command installs
            continue
        reason = _reason_own(stages, install, base)
        if reason:
            return _own(f"line {install.line}: {reason}")
    others = {stages.external_base(stage) for stage in stages.needed()}
    note = "" if others == {base} else f"; {', '.join(sorted(others - {base}))} stays as it is"
    return Sharing(
        verdict="shared",
        bases=(base,),
        reason=f"every install ends up on {base}{note}",
        takes_light=not _names_own_programs(stages),
    )


def _reason_own(stages: Stages, install: Install, base: str) -> str:
    """Returns why *install* would not be served, or empty."""
    where = stages.external_base(install.stage)
    versioned = re.search(r"(?:python|pip)(3\.\d+)", install.interpreter)
    reasons = {
        f"it installs into a stage on {where}, the final stage is on {base}": where != base,
        "it reinstalls what is there already": install.force,
        _WHY_OWN.get(install.destination, ""): install.destination in _WHY_OWN,
        "uv does not see the base image's packages with --prefix": (
            (install.tool, install.destination) == ("uv", "prefix")
        ),
        "the Python it installs into is not the base image's own": (
            brings_python(stages, install) or brings_its_own_python(stages, install)
        ),
        f"{install.interpreter} may be another Python than the base image's first one": (
            versioned is not None and versioned[1] not in base
        ),
        "the packages it installs are copied into the final stage": _is_copied(stages, install),
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def _is_copied(stages: Stages, install: Install) -> bool:
    """True when a stage outside the install's chain copies the system's packages out of it: torch would come twice.

    That goes for installs into other places too: the shared base has put the heavy wheels among the system's packages.
    """
    if install.stage in stages.chain(stages.final):
        return False
    for index in stages.needed():
        for step in stages.stages[index].steps:
            origin = stages.find(next(from_words(step), "")) if step.instruction.keyword == "COPY" else None
            if origin is None or install.stage not in stages.chain(origin):
                continue
            sources = [normpath(f"/{copied.source}") for copied in copies_of(step)]
            if any(_SYSTEM_PACKAGES.search(source) for source in sources):
                return True
            if install.destination == "system" and any("-packages" in source for source in sources):
                return True
    return False


def _names_own_programs(stages: Stages) -> bool:
    """True when an instruction names a program elsewhere than where the system's Python puts those of packages."""
    instructions = [step.instruction for index in stages.needed() for step in stages.stages[index].steps]
    texts = [text for each in instructions for text in (each.body, *(heredoc.content for heredoc in each.heredocs))]
    return any(len(_PROGRAM.findall(text)) > len(_SYSTEM_PROGRAM.findall(text)) for text in texts)


def _own(reason: str) -> Sharing:
    return Sharing(verdict="own", bases=(), reason=reason)
