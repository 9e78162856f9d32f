"""Why a build failed, told from what it said: the class of the fault, in words, and whether to try again."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from builders import faultwords
from wheelcache.redaction import without_userinfo

FaultClass = Literal[
    "network",
    "disk",
    "memory",
    "digest",
    "resolve",
    "compile",
    "missing-image",
    "auth",
    "tls",
    "syntax",
    "interrupted",
    "unknown",
]

_MESSAGE_LENGTH: Final = 400


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """A failed build, classified.

    Attributes:
        fault: what kind of fault it is.
        message: the line that says most, without credentials.
        hint: the next step.
        retry: True where the same build may succeed unchanged a little later.
    """

    fault: FaultClass
    message: str
    hint: str
    retry: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class _Said:
    """What a failed build said.

    Attributes:
        log: the failed step's own last lines.
        trailer: buildx's last words, and the failed step's error.
        has_network: False where the failed step ran without one.
    """

    log: str
    trailer: str
    has_network: bool


def classify(log: str, trailer: str, *, has_network: bool = True, interrupted: bool = False) -> Failure:
    """Tells why a build failed.

    The order of the questions matters: pip without a network ends in "No matching distribution" and a refused
    certificate in "connection broken", so the deeper cause is looked for first.

    Args:
        log: the last lines of the failed step; empty where no step failed (parse, flag and missing-image errors).
        trailer: what buildx printed beside its progress, and the failed step's `error`.
        has_network: False where the failed step ran without one (`RUN --network=none`), so that trying again is vain.
        interrupted: True where we ended the build ourselves.
    """
    if interrupted:
        return Failure(fault="interrupted", message="the build was stopped", hint="run the same command again")
    said = _Said(log=plain(log), trailer=plain(trailer), has_network=has_network)
    for ask in _QUESTIONS:
        failure = ask(said)
        if failure is not None:
            return failure
    return Failure(fault="unknown", message=_last_words(said), hint="read the failed step's log")


def plain(text: str) -> str:
    """Returns *text* without terminal colours and without the user part of URLs (RFC 3986, section 3.2.1)."""
    return without_userinfo(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text))


_Question = Callable[[_Said], Failure | None]


def _rule(fault: FaultClass, words: re.Pattern[str], hint: str, *, step_only: bool = False) -> _Question:
    """Returns the question whether *words* were said (by the step itself, if *step_only*)."""

    def ask(said: _Said) -> Failure | None:
        line = _line_with(words, said.log) or (None if step_only else _line_with(words, said.trailer))
        return None if line is None else Failure(fault=fault, message=line, hint=hint)

    return ask


def _missing_tool(said: _Said) -> Failure | None:
    """A compiler or build tool that is not there; asked only where something was being built."""
    if not faultwords.BUILDING.search(said.log):
        return None
    for pattern in faultwords.MISSING_TOOLS:
        found = pattern.search(said.log)
        if found is None:
            continue
        tool = next(group for group in found.groups() if group)
        brings = faultwords.PACKAGE_OF.get(tool.lower(), tool.lower())
        if tool.endswith((".h", ".hpp")) and brings == tool.lower():
            brings = f"the -dev package that brings {tool}"
        line = _line_at(said.log, found.end() - 1)
        return Failure(
            fault="compile",
            message=f"{tool} is missing: {line}",
            hint=f"choose a version that has a wheel for the target, or install {brings} in the stage that builds",
        )
    return None


def _missing_image(said: _Said) -> Failure | None:
    """A base image that is neither in the engine nor to be had; no step has run then."""
    line = None if said.log.strip() else _line_with(faultwords.REGISTRY, said.trailer)
    if line is None:
        return None
    if faultwords.BROKEN_WAY.search(line) and not faultwords.NO_WAY.search(line):
        hint = "the image's registry answers badly: run the same command again, or docker pull the image"
        return Failure(fault="network", message=line, hint=hint, retry=True)
    named = re.search(r"source metadata for (\S+?): |pull access denied for (\S+?),", line)
    image = next((group for group in named.groups() if group), "the image") if named else "the image"
    return Failure(
        fault="missing-image",
        message=line,
        hint=f"{image} is not in the engine and cannot be pulled: correct its name, docker login, or docker load it",
    )


def _network(said: _Said) -> Failure | None:
    line = None
    for text in (said.log, said.trailer):
        for words in (faultwords.BROKEN_WAY, faultwords.NO_WAY, *([faultwords.CUT_SHORT] if said.has_network else [])):
            line = line or _line_with(words, text)
    if line is None:
        return None
    if said.has_network:
        hint = "a connection failed; what is finished is kept: run the same command again"
        return Failure(fault="network", message=line, hint=hint, retry=True)
    return Failure(
        fault="network",
        message=_line_with(faultwords.RESOLVE, said.log) or line,
        hint="this step runs without a network and asked for something that is not locked: name it in the service's "
        "requirements and lock again, or build this service online",
    )


def _resolve(said: _Said) -> Failure | None:
    line = _line_with(faultwords.RESOLVE, said.log)
    if line is None:
        return None
    if re.search(r"to install build dependencies|Failed to resolve requirements from `build-system", said.log):
        hint = "add the project's build-system.requires to the service's requirements and lock again"
    elif re.search(r"Unable to locate package|installation candidate", line):
        hint = "run apt-get update in the same RUN, and check the package's name"
    else:
        hint = "name what is missing in the service's requirements and lock again: wheelcache lock"
    return Failure(fault="resolve", message=line, hint=hint)


def _syntax(said: _Said) -> Failure | None:
    line = None if said.log.strip() else _line_with(faultwords.SYNTAX, said.trailer)
    hint = "correct the Dockerfile, or the path of the file it copies, at the line named"
    return None if line is None else Failure(fault="syntax", message=line, hint=hint)


def _given_up(said: _Said) -> Failure | None:
    line = _line_with(re.compile(r"context canceled|got 3 SIGTERM|client connection is closing"), said.trailer)
    return None if line is None else Failure(fault="interrupted", message=line, hint="run the same command again")


_QUESTIONS: Final[tuple[_Question, ...]] = (
    _rule(
        "disk",
        faultwords.DISK,
        "make room where the engine keeps its data: docker system df, docker builder prune, wheelcache prune --images, "
        "docker image prune",
    ),
    _rule(
        "memory",
        faultwords.MEMORY,
        "give the engine more memory, or build with fewer jobs at a time (MAKEFLAGS=-j1, MAX_JOBS=1)",
    ),
    _rule("tls", faultwords.TLS, "check this machine's clock, and that the image trusts your company's CA bundle"),
    _rule(
        "digest",
        faultwords.DIGEST,
        "what was fetched or mounted is not what its hash says: run wheelcache lock, and compare the hashes you wrote",
    ),
    _missing_tool,
    _missing_image,
    _rule(
        "auth",
        faultwords.AUTH,
        "check the credentials: docker login for images, a build secret for an index of your own",
    ),
    _rule(
        "resolve",
        faultwords.GONE,
        "the server does not have it: correct the URL or the version; for apt, run apt-get update in the same RUN",
        step_only=True,
    ),
    _network,
    _resolve,
    _rule(
        "compile",
        faultwords.COMPILE,
        "choose a version that has a wheel for the target; the step's log has the compiler's own words",
        step_only=True,
    ),
    _syntax,
    _given_up,
)


def _line_with(pattern: re.Pattern[str], text: str) -> str | None:
    """Returns the last line in which *pattern* is found, as short as people read."""
    positions = [found.end() - 1 for found in pattern.finditer(text)]
    return _line_at(text, positions[-1]) if positions else None


def _line_at(text: str, position: int) -> str:
    start = text.rfind("\n", 0, position) + 1
    end = text.find("\n", position)
    return text[start : len(text) if end < 0 else end].strip()[:_MESSAGE_LENGTH]


def _last_words(said: _Said) -> str:
    log, trailer = ([line.strip() for line in text.splitlines() if line.strip()] for text in (said.log, said.trailer))
    errors = [line for line in log if re.match(r"(?i)(?:error|fatal|e:|failed)\b", line)]
    endings = [line for line in trailer if line.startswith("ERROR")]
    words = errors or endings or log or trailer or ["the build failed without a word"]
    return words[-1][:_MESSAGE_LENGTH]
