"""Cuts a Dockerfile before an install, to ask the Python that is there by then."""

from __future__ import annotations

import re
from typing import Final

from builders.dockerfile import Dockerfile, Stages, Step, from_words
from builders.installs import Install
from builders.pipcommand import recognise_call, subcommand_of
from builders.runs import read_run
from builders.shellcommand import Command

_PACKAGE_MANAGERS: Final = frozenset({"apk", "apt", "apt-get", "aptitude", "dnf", "microdnf", "tdnf", "yum", "zypper"})
_PYTHON_PACKAGE: Final = re.compile(r"(python|pypy)([\d.]|-|=|$)|py3-(pip|virtualenv)")
_HAS_OWN: Final = re.compile(r"(^|/)(python|pypy|pytorch|tensorflow|[a-z]*conda|[a-z]*forge)")
"""Images whose own Python stays first on PATH when the distribution's arrives beside it."""

_TELLS: Final = re.compile(
    r"pyenv|deadsnakes|miniconda|miniforge|mambaforge|anaconda|python-build-standalone|Python-3\."
)


def probe_dockerfile(dockerfile: Dockerfile, install: Install) -> str:
    """Returns the text of *dockerfile* up to the RUN of *install*; building it gives the state that install finds.

    Meant for the first install of a chain: one before it would run, with the network.

    Args:
        dockerfile: as parsed.
        install: one of its installs.
    """
    return dockerfile.text[: dockerfile.instructions[install.instruction].start]


def brings_python(stages: Stages, install: Install) -> bool:
    """True when an instruction before *install*, in its own chain, brings a Python that its base image lacks.

    Args:
        stages: of the Dockerfile.
        install: one of its installs.
    """
    return any(_step_brings(step, stages, install) for step in steps_before(stages, install)[:-1])


def brings_its_own_python(stages: Stages, install: Install) -> bool:
    """True when the very RUN of *install* brings the Python, so that no earlier state can be asked for it.

    Args:
        stages: of the Dockerfile.
        install: one of its installs.
    """
    return _step_brings(steps_before(stages, install)[-1], stages, install)


def steps_before(stages: Stages, install: Install) -> tuple[Step, ...]:
    """Returns the steps of an install's chain from the external base on, the install's own RUN last."""
    steps: list[Step] = []
    for index in reversed(stages.chain(install.stage)):
        for step in stages.stages[index].steps:
            if index == install.stage and step.instruction.index > install.instruction:
                break
            steps.append(step)
    return tuple(steps)


def _step_brings(step: Step, stages: Stages, install: Install) -> bool:
    keyword = step.instruction.keyword
    if keyword == "RUN":
        script = read_run(step)
        keeps_own = _HAS_OWN.search(stages.external_base(install.stage)) is not None
        return any(_brings(command, keeps_own=keeps_own) for command in script.commands) or any(
            _TELLS.search(text) for text in script.unread
        )
    if keyword != "COPY" or not step.instruction.values("from"):
        return False
    origin = next(from_words(step), "")
    sources = step.instruction.body.split()[:-1]
    if any(re.search(r"/(python[\d.]*|opt/python[^/]*/?|\.pyenv)$", word) for word in sources):
        return True
    return stages.find(origin) is None and "python" in origin and any(word.startswith("/usr/local") for word in sources)


def _brings(command: Command, *, keeps_own: bool) -> bool:
    arguments = command.arguments
    if command.name in _PACKAGE_MANAGERS and {"install", "add", "in"} & set(arguments):
        return not keeps_own and any(_PYTHON_PACKAGE.match(word) for word in arguments)
    if command.name in {"conda", "mamba", "micromamba"}:
        return bool({"install", "create", "env"} & set(arguments))
    call = recognise_call(command)
    if call is not None and call.tool == "uv":
        subcommand, rest, _ = subcommand_of(call)
        asks = any(re.match(r"-p|--python", word) for word in rest)
        return (subcommand, rest[:1]) == ("python", ("install",)) or (subcommand == "venv" and asks)
    if command.name == "add-apt-repository" or command.name in {"curl", "wget", "git", "bash", "sh", "make"}:
        return any(_TELLS.search(word) for word in arguments)
    return command.name == "pyenv" and "install" in arguments
