"""Decides whether heavy wheels in a base image would be found by a service's own commands and reach its image."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from builders.dockerfile import Stages, Step
from builders.installs import Install
from builders.prefix import brings_its_own_python, brings_python
from builders.reaching import is_copied_twice, reaches_final

_WHY_OWN: Final = {
    "target": "--target and --root look at nothing that is installed already",
    "wheel": "it makes or fetches wheels instead of installing them",
    "venv": "a virtual environment does not see the base image's packages",
    "venv-system-site-packages": ("programs of wheels in the base image would run outside of the virtual environment"),
}

_TOOLS: Final = frozenset({"build", "pip", "pip-tools", "setuptools", "virtualenv", "wheel"})
"""Small projects that need small ones: an install of nothing else brings nothing that is shared."""

_PROGRAM: Final = re.compile(r"""([^\s"'`=,(:;|&<>!#@]*)/bin/(\w[\w.-]*)""")
_SYSTEM_PREFIXES: Final = frozenset({"", "/usr", "/usr/local"})
_OF_ANY_ENVIRONMENT: Final = re.compile(r"(python|pip)[\d.]*")
_FORCED: Final = ("PIP_FORCE_REINSTALL", "PIP_IGNORE_INSTALLED")


@dataclass(frozen=True, kw_only=True, slots=True)
class Sharing:
    """Whether a service can be built on a shared base.

    Attributes:
        verdict: `shared`: each of its bases may be replaced; `own`: none may be.
        bases: FROM references to override, exactly as BuildKit looks them up; empty with `own`.
        reason: one sentence.
        programs: what instructions, or what containers start, name by a path below a folder that this service's own
            installs may fill, such as `/root/.local/bin/uvicorn`: of a wheel in the base it would stand elsewhere.
        leaves_tools: True where a builder stage installs tools that are not in the final image.
    """

    verdict: Literal["shared", "own"]
    bases: tuple[str, ...]
    reason: str
    programs: tuple[str, ...] = ()
    leaves_tools: bool = False

    @property
    def takes_light(self) -> bool:
        """True where small wheels may come from the base as well."""
        return self.verdict == "shared" and not self.programs and not self.leaves_tools


def sharing(stages: Stages, installs: Sequence[Install], *, started: Sequence[str] = ()) -> Sharing:
    """Returns whether heavy wheels preinstalled in the base image serve these installs.

    Every stage that matters is overridden or none is: an override of the builder stage's base alone would make pip
    skip torch there, and the final image would lack it. What stays behind in a builder stage would come into the final
    image with its base, so all that is installed has to reach it. Whether the base image has ONBUILD triggers is for
    the caller to ask; they would fire while the shared base is built.

    Args:
        stages: of the Dockerfile.
        installs: its installs.
        started: texts that say what its containers start, beside the Dockerfile.
    """
    base = stages.external_base(stages.final)
    lasting = [each for each in installs if each.subcommand != "export"]  # it writes down what another one installs
    left = [each for each in lasting if not reaches_final(stages, each)]
    reason = next(_reasons_own(stages, lasting, left, base), "")
    if reason:
        return Sharing(verdict="own", bases=(), reason=reason)
    others = {stages.external_base(stage) for stage in stages.needed()}
    note = "" if others == {base} else f"; {', '.join(sorted(others - {base}))} stays as it is"
    return Sharing(
        verdict="shared",
        bases=(base,),
        reason=f"every install ends up on {base}{note}",
        programs=_own_programs(stages, started) if {each.destination for each in lasting} - {"system"} else (),
        leaves_tools=bool(left),
    )


def _reasons_own(stages: Stages, installs: Sequence[Install], left: Sequence[Install], base: str) -> Iterator[str]:
    """Yields why a service has an own copy; *left* is what does not reach the final stage."""
    name = base.removesuffix(":latest")
    if not installs:
        yield "nothing is installed by pip or uv"
    if base == "scratch":
        yield "the final stage starts from scratch"
    if any(stage.name and stage.name == name for stage in stages.stages):
        yield f"a stage is called {name} too, and BuildKit would replace the stage"
    for install in installs:
        reason = _reason_own(stages, install, base) or _reason_among(stages, install, installs)
        if reason:
            yield f"line {install.line}: {reason}"
    if is_copied_twice(stages, base):
        yield "the system's packages are copied into another stage, and heavy wheels would come along again"
    for install in left:
        if not _is_tools(install):
            yield f"line {install.line}: not all that it installs is copied into the final stage as it is"


def _reason_own(stages: Stages, install: Install, base: str) -> str:
    """Returns why *install* would not be served, or empty."""
    where = stages.external_base(install.stage)
    reasons = {
        f"it installs into a stage on {where}, the final stage is on {base}": where != base,
        "it reinstalls what is there already": install.force or _is_forced(stages, install),
        _WHY_OWN.get(install.destination, ""): install.destination in _WHY_OWN,
        "uv does not see the base image's packages with --prefix": (
            (install.tool, install.destination) == ("uv", "prefix")
        ),
        "the Python it installs into is not the base image's own": (
            brings_python(stages, install) or brings_its_own_python(stages, install)
        ),
        f"{install.python or install.interpreter} may be another Python than the base image's first one": (
            _may_be_another_python(install, base)
        ),
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def _reason_among(stages: Stages, install: Install, installs: Sequence[Install]) -> str:
    """Returns why *install* would take away what others need of the base, or empty."""
    if install.subcommand != "sync":
        return ""
    chain = stages.chain(install.stage)
    others = [other for other in installs if other.stage not in chain or other.instruction > install.instruction]
    return f"it would take away what line {others[0].line} installs" if others else ""


def _may_be_another_python(install: Install, base: str) -> bool:
    program = install.python or install.interpreter.partition(" ")[0]
    folder, _, name = program.rpartition("/")
    version = re.search(r"3\.\d+", name)
    if folder not in {"", "/usr/local/bin"} or name.startswith("pypy"):
        return True
    if version is None:
        return bool(install.python) and re.fullmatch(r"python3?|3", name) is None
    return version[0] not in base


def _is_tools(install: Install) -> bool:
    if install.requirement_files or install.local_projects or not install.requirements:
        return False
    try:
        names = {canonicalize_name(Requirement(each).name) for each in install.requirements}
    except InvalidRequirement:
        return False
    return names <= _TOOLS


def _is_forced(stages: Stages, install: Install) -> bool:
    step = next(each for each in stages.stages[install.stage].steps if each.instruction.index == install.instruction)
    return any(step.setting.lookup(name) or name in step.instruction.body for name in _FORCED)


def _own_programs(stages: Stages, started: Sequence[str]) -> tuple[str, ...]:
    """Returns the programs that are named elsewhere than where the system's Python puts those of packages."""
    texts = [text for index in stages.needed() for step in stages.stages[index].steps for text in _texts(step)]
    found = [
        f"{folder}/bin/{name}"
        for text in (*texts, *started)
        for folder, name in _PROGRAM.findall(text)
        if not (folder in _SYSTEM_PREFIXES or folder.startswith("//") or _OF_ANY_ENVIRONMENT.fullmatch(name))
    ]
    return tuple(dict.fromkeys(found))


def _texts(step: Step) -> tuple[str, ...]:
    return (step.instruction.body, *(heredoc.content for heredoc in step.instruction.heredocs))
