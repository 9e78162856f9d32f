"""Takes off what merely wraps a command: `sudo`, `env`, `timeout`, `exec` and their like."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from posixpath import basename
from typing import Final

from builders.shellwords import ASSIGNMENT, Word

_WRAPPERS: Final[Mapping[str, tuple[str, int]]] = {
    "builtin": ("", 0),
    "command": ("", 0),
    "doas": ("uC", 0),
    "eatmydata": ("", 0),
    "env": ("uCS", 0),
    "exec": ("a", 0),
    "fakeroot": ("", 0),
    "gosu": ("", 1),
    "ionice": ("cnp", 0),
    "nice": ("n", 0),
    "nohup": ("", 0),
    "runuser": ("ugG", 0),
    "setpriv": ("", 0),
    "stdbuf": ("ioe", 0),
    "su-exec": ("", 1),
    "sudo": ("CDghpRrTtUu", 0),
    "time": ("fo", 0),
    "timeout": ("ks", 1),
    "xargs": ("EIadLnPs", 0),
}
"""By name: the one-letter options that take the next word, and how many operands stand before the command."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Unwrapped:
    """A command without its wrappers.

    Attributes:
        words: the command itself.
        assigned: variables that the wrappers set for it.
        by: the wrapper that adds words nobody can know before it runs; else empty.
    """

    words: tuple[Word, ...]
    assigned: Mapping[str, str | None]
    by: str


def unwrap(words: tuple[Word, ...]) -> Unwrapped:
    """Returns the command inside *words*."""
    assigned: dict[str, str | None] = {}
    by = ""
    while words:
        name = basename(words[0].text)
        if name not in _WRAPPERS or (name == "command" and words[1:2] and words[1].text in {"-v", "-V"}):
            break
        with_value, operands = _WRAPPERS[name]
        words = _without_options(words[1:], with_value)
        while name in {"env", "sudo"} and words and (match := ASSIGNMENT.fullmatch(words[0].text)):
            assigned[match[1]] = match[3] if words[0].sure else None
            words = words[1:]
        words = words[operands:]
        if name == "xargs":
            by, words = "xargs", (*words, Word(text="", sure=False))
    return Unwrapped(words=words, assigned=assigned, by=by)


def _without_options(words: tuple[Word, ...], with_value: str) -> tuple[Word, ...]:
    while words and words[0].text.startswith("-"):
        option, words = words[0].text, words[1:]
        if option == "--":
            break
        if re.fullmatch(r"-[a-zA-Z]", option) and option[1] in with_value:
            words = words[1:]
    return words
