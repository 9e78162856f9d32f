"""Knows which arguments BuildKit refuses for an instruction: always, and where its stage is built."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from builders.dockerwords import NotStringsError, blank_words, heredoc_mark, json_strings, split_words, take_flags
from builders.expansion import ExpansionError, Lookup, expand
from builders.mounts import mount_options, mount_problems

_COPY_FLAGS: Final = {"chown": "value", "chmod": "value", "link": "switch", "exclude": "values"}
_FLAGS: Final[Mapping[str, Mapping[str, str]]] = {
    "ADD": {**_COPY_FLAGS, "keep-git-dir": "switch", "checksum": "value", "unpack": "switch"},
    "COPY": {**_COPY_FLAGS, "from": "value", "parents": "switch"},
    "FROM": {"platform": "value"},
    "HEALTHCHECK": dict.fromkeys(("interval", "timeout", "start-period", "start-interval", "retries"), "value"),
    "RUN": {"mount": "values", "network": "value", "security": "value", "device": "values"},
}
"""By instruction and name: whether a flag takes a value, takes one each time it is given, or is a switch."""

_IGNORE_FLAGS: Final = frozenset({"ARG", "STOPSIGNAL"})
_NEED_NOTHING: Final = frozenset({"CMD", "ENTRYPOINT", "RUN"})
_JSON: Final = frozenset({"ADD", "CMD", "COPY", "ENTRYPOINT", "RUN", "SHELL", "VOLUME"})
_FEW: Final = 2
_NETWORKS: Final = frozenset({"none", "default", "host"})
_STAGE_NAME: Final = re.compile(r"[a-z][a-z0-9-_.]*")
_UNITS: Final = r"(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h)"
_DURATION: Final = re.compile(rf"[-+]?(?:0|(?:{_UNITS})+)")
_PORT: Final = re.compile(r"(?:[^/]*:)?(\d+)(?:-(\d+))?(?:/(?:tcp|udp|sctp)?)?", re.IGNORECASE)
_LAST_PORT: Final = 65535
_VARIABLE: Final = re.compile(r"\$.")
_NO_VARIABLE: Final = "{}: expected no variable, since none is expanded there: name a stage that is FROM it"
_SIGNAL: Final = re.compile(
    r"[1-9]\d*|(SIG)?(ABRT|ALRM|BUS|CHLD|CLD|CONT|FPE|HUP|ILL|INT|IO|IOT|KILL|PIPE|POLL|PROF|PWR|QUIT|SEGV|STKFLT|STOP"
    r"|SYS|TERM|TRAP|TSTP|TTIN|TTOU|URG|USR1|USR2|VTALRM|WINCH|XCPU|XFSZ|RTMIN(\+([1-9]|1[0-5]))?|RTMAX(-([1-9]|1[0-4]))?)",
    re.IGNORECASE,
)
"""Signals of Linux (signal(7)); a number may be any."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Arguments:
    """An instruction's arguments.

    Attributes:
        keyword: in upper case.
        flags: such as `--from=x`.
        body: what follows the flags, as one logical line.
        escape: the Dockerfile's escape character.
    """

    keyword: str
    flags: Sequence[str]
    body: str
    escape: str

    @property
    def words(self) -> Sequence[str]:
        """The words of the JSON form, else those between blanks."""
        found = json_strings(self.body)
        return blank_words(self.body) if found is None else found


def refusal(arguments: Arguments) -> str:
    """Returns why BuildKit refuses an instruction wherever it stands; empty where it takes it."""
    keyword = arguments.keyword
    if not arguments.body and keyword not in _NEED_NOTHING:
        return "expected arguments, found none"
    try:
        json_strings(arguments.body if keyword in _JSON else "")
        return _refused_flag(arguments) or _RULES.get(keyword, _takes_all)(arguments)
    except NotStringsError as error:
        return str(error)


def late_refusal(arguments: Arguments, lookup: Lookup, *, workdir: str) -> str:
    """Returns why BuildKit refuses an instruction when it builds the stage; empty where it takes it.

    Args:
        arguments: what the other rules took already.
        lookup: tells a variable's value.
        workdir: the working directory.
    """
    try:
        return _refused_late(arguments, lookup, workdir)
    except ExpansionError as error:
        return str(error)


def _refused_late(arguments: Arguments, lookup: Lookup, workdir: str) -> str:
    words = [expand(word, lookup, escape=arguments.escape).text for word in _expanded(arguments)]
    match arguments.keyword:
        case "EXPOSE":
            ports = [port for word in words for port in word.split()]
            return next((f"expected a port, found {port!r}" for port in ports if not _is_port(port)), "")
        case "RUN":
            mounts = [each.removeprefix("--mount=") for each in arguments.flags if each.startswith("--mount=")]
            problems = (problem for each in mounts for problem in mount_problems(each, lookup, workdir=workdir))
            return next((f"--mount: {problem}" for problem in problems), "")
        case "STOPSIGNAL" if words and not _SIGNAL.fullmatch(words[0]):
            return f"expected a signal, found {words[0]!r}"
        case "VOLUME":
            return "" if all(word.strip() for word in words) else "expected paths, found an empty one"
        case _:
            return ""


def pairs_of(body: str, escape: str) -> list[str]:
    """Returns the `NAME=VALUE` words of ENV or LABEL; the old form `NAME some value` is one of them."""
    words = split_words(body, escape)
    if words and "=" not in words[0] and len(parts := re.split(r"[\t\v\f\r ]+", body, maxsplit=1)) > 1:
        return [f"{parts[0]}={parts[1]}"]
    return words


def _expanded(arguments: Arguments) -> Iterator[str]:
    """Yields the words in which BuildKit expands variables."""
    match arguments.keyword:
        case "ENV" | "LABEL":
            yield from (part for pair in pairs_of(arguments.body, arguments.escape) for part in pair.split("=", 1))
        case "ARG":
            yield from (part for word in split_words(arguments.body, arguments.escape) for part in word.split("=", 1))
        case "ADD" | "COPY":
            yield from (each.partition("=")[2] for each in arguments.flags if each.startswith(("--chown=", "--chmod=")))
            yield from (word for word in arguments.words if heredoc_mark(word) is None)
        case "EXPOSE" | "VOLUME":
            yield from arguments.words
        case "WORKDIR" | "USER" | "STOPSIGNAL":
            yield arguments.body


def _takes_all(_arguments: Arguments) -> str:
    return ""


def _refused_flag(arguments: Arguments) -> str:
    known = _FLAGS.get(arguments.keyword, {})
    is_none = arguments.keyword == "HEALTHCHECK" and blank_words(arguments.body)[0].upper() == "NONE"
    seen: set[str] = set()
    for flag in () if arguments.keyword in _IGNORE_FLAGS or is_none else arguments.flags:
        name, equals, value = flag.removeprefix("--").partition("=")
        kind = known.get(name)
        if kind is None:
            return f"unknown flag --{name}"
        if name in seen and kind != "values":
            return f"expected --{name} once, found it again"
        seen.add(name)
        if kind == "switch" and (value.lower() not in {"true", "false", ""} or (equals and not value)):
            return f"--{name}: expected true or false, found {value!r}"
        if kind != "switch" and not equals:
            return f"--{name}: expected a value, found none"
    return ""


def _refused_copy(arguments: Arguments) -> str:
    if len(arguments.words) < _FEW:
        return "expected a source and a destination"
    if any(flag.startswith("--from=") and _VARIABLE.search(flag) for flag in arguments.flags):
        return _NO_VARIABLE.format("--from")
    return "expected a path as destination, found a heredoc" if heredoc_mark(arguments.words[-1]) else ""


def _refused_pairs(arguments: Arguments) -> str:
    for word in pairs_of(arguments.body, arguments.escape):
        if "=" not in word:
            return f"expected NAME=VALUE, found {word!r}"
        if word.startswith("="):
            return f"expected a name before =, found {word!r}"
    return ""


def _refused_argument(arguments: Arguments) -> str:
    words = split_words(arguments.body, arguments.escape)
    return next((f"expected a name before =, found {word!r}" for word in words if word.startswith("=")), "")


def _refused_from(arguments: Arguments) -> str:
    match blank_words(arguments.body):
        case [_]:
            return ""
        case [_, word, name] if word.lower() == "as":
            if _STAGE_NAME.fullmatch(name.lower()):
                return ""
            return f"expected a stage's name to begin with a letter and go on with a-z, 0-9, -, _ or ., found {name!r}"
        case _:
            return f"expected IMAGE or IMAGE AS NAME, found {arguments.body!r}"


def _refused_check(arguments: Arguments) -> str:
    kind, *rest = arguments.body.split(maxsplit=1)
    if kind.upper() == "NONE":
        return "NONE takes no arguments" if rest else ""
    words = json_strings(rest[0]) if rest else ()
    if kind.upper() != "CMD":
        return f"expected CMD or NONE, found {kind!r}"
    if words == ():
        return "expected a command after CMD"
    for flag in arguments.flags:
        name, _, value = flag.removeprefix("--").partition("=")
        if name == "retries" and not re.fullmatch(r"\+?\d+|", value):
            return f"--retries: expected a number, found {value!r}"
        if name != "retries" and value and not _DURATION.fullmatch(value):
            return f"--{name}: expected a duration such as 5s, found {value!r}"
    return ""


def _refused_trigger(arguments: Arguments) -> str:
    inner, *rest = arguments.body.split(maxsplit=1)
    if inner.upper() in {"FROM", "MAINTAINER", "ONBUILD"}:
        return f"{inner.upper()} cannot be a trigger"
    body = rest[0][take_flags(rest[0], arguments.escape)[1] :].strip() if rest else ""
    json_strings(body if inner.upper() in _JSON else "")
    trigger = Arguments(keyword=inner.upper(), flags=(), body=body, escape=arguments.escape)
    return _refused_pairs(trigger) if inner.upper() in {"ENV", "LABEL"} else ""


def _refused_run(arguments: Arguments) -> str:
    for flag in arguments.flags:
        name, _, value = flag.removeprefix("--").partition("=")
        if name == "network" and value not in _NETWORKS:
            return f"--network: expected none, default or host, found {value!r}"
        if name == "mount" and not value:
            return "--mount: expected options, found none"
        if name == "mount" and _VARIABLE.search(mount_options(value).get("from", "")):
            return _NO_VARIABLE.format("--mount: from")
    return ""


def _refused_shell(arguments: Arguments) -> str:
    return "" if json_strings(arguments.body) else 'expected a JSON list such as ["/bin/bash", "-c"]'


def _refused_volume(arguments: Arguments) -> str:
    return "" if arguments.words else "expected paths, found none"


def _is_port(text: str) -> bool:
    match = _PORT.fullmatch(text)
    if match is None:
        return False
    first, last = int(match[1]), int(match[2] or match[1])
    return first <= last <= _LAST_PORT


_RULES: Final[Mapping[str, Callable[[Arguments], str]]] = {
    "ADD": _refused_copy,
    "ARG": _refused_argument,
    "COPY": _refused_copy,
    "ENV": _refused_pairs,
    "FROM": _refused_from,
    "HEALTHCHECK": _refused_check,
    "LABEL": _refused_pairs,
    "ONBUILD": _refused_trigger,
    "RUN": _refused_run,
    "SHELL": _refused_shell,
    "VOLUME": _refused_volume,
}
