"""Expands `$variables` in a Dockerfile's words as BuildKit does (Dockerfile reference, "Environment replacement")."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

Lookup = Callable[[str], str | None]
"""Tells a variable's value; None where it is not set, or not known to be."""

_BRACED: Final = re.compile(r"([A-Za-z_]\w*|[0-9@*#?$!-])(:?[-+?=]|##?|%%?|//?)?(.*)", re.DOTALL)
_NAME: Final = re.compile(r"[A-Za-z_]\w*|[0-9@*#?$!-]")


@dataclass(frozen=True, kw_only=True, slots=True)
class Expanded:
    """A word after expansion.

    Attributes:
        text: the word; an unset variable counts as empty, as in BuildKit.
        unknown: names of the variables that had no value and no default.
    """

    text: str
    unknown: tuple[str, ...]


def expand(text: str, lookup: Lookup, *, escape: str = "\\") -> Expanded:
    """Returns *text* without quotes and escapes, its variables replaced.

    Args:
        text: one word of a Dockerfile.
        lookup: tells a variable's value.
        escape: the Dockerfile's escape character.
    """
    unknown: list[str] = []
    out: list[str] = []
    quote = ""
    at = 0
    while at < len(text):
        char = text[at]
        if quote == "'" or (char == "'" and not quote):
            quote = "" if char == quote else "'"
            end = text.find("'", at + 1) if quote else at
            end = len(text) if end < 0 else end
            out.append(text[at + 1 : end] if quote else "")
            quote = ""
            at = end + 1
        elif char == escape and at + 1 < len(text):
            keeps = quote and text[at + 1] not in {'"', "$", escape}
            out.append(text[at : at + 2] if keeps else text[at + 1])
            at += 2
        elif char == '"':
            quote = "" if quote else '"'
            at += 1
        elif char == "$":
            value, at = _parameter(text, at, lookup, unknown)
            out.append(value)
        else:
            out.append(char)
            at += 1
    return Expanded(text="".join(out), unknown=tuple(unknown))


def braced_end(text: str, start: int) -> int:
    """Returns the index of the `}` that closes the `{` at *start*, or -1."""
    depth = 0
    for at in range(start, len(text)):
        if text[at] == "{" and (at == start or text[at - 1] == "$"):
            depth += 1
        elif text[at] == "}":
            depth -= 1
            if depth == 0:
                return at
    return -1


def variable_end(text: str, start: int) -> int:
    """Returns where the plain `$name` that starts at *start* ends; *start* itself when no name follows the `$`."""
    match = _NAME.match(text, start + 1)
    return match.end() if match else start


def substitute(inner: str, lookup: Lookup, nested: Callable[[str], str | None]) -> str | None:
    """Returns what `${inner}` stands for; None where that is not known.

    Args:
        inner: what stands between the braces, such as `V`, `V:-default` or `V%.txt`.
        lookup: tells a variable's value.
        nested: expands a default's or a pattern's own text.
    """
    match = _BRACED.fullmatch(inner)
    if not match or (match[3] and not match[2]):
        return None
    value, operator, operand = lookup(match[1]), match[2] or "", match[3]
    if operator[-1:] in {"-", "=", "?", "+"} and operator:
        present = bool(value) if operator[0] == ":" else value is not None
        if operator[-1] == "+":
            return nested(operand) if present else ""
        if operator[-1] == "?":
            return value if present else None
        return value if present else nested(operand)
    if value is None or not operator:
        return value
    pattern = nested(operand)
    return None if pattern is None else _trimmed(value, operator, pattern)


def _trimmed(value: str, operator: str, pattern: str) -> str:
    if operator[0] == "/":
        old, _, new = pattern.partition("/")
        return value.replace(old, new, -1 if operator == "//" else 1)
    lengths = range(len(value) + 1) if len(operator) == 1 else range(len(value), -1, -1)
    for length in lengths:
        if operator[0] == "#" and fnmatchcase(value[:length], pattern):
            return value[length:]
        if operator[0] == "%" and fnmatchcase(value[len(value) - length :], pattern):
            return value[: len(value) - length]
    return value


def _parameter(text: str, at: int, lookup: Lookup, unknown: list[str]) -> tuple[str, int]:
    if text.startswith("{", at + 1):
        end = braced_end(text, at + 1)
        if end < 0:
            return text[at:], len(text)
        value = substitute(text[at + 2 : end], lookup, lambda inner: expand(inner, lookup).text)
        name, after = text[at + 2 : end], end + 1
    else:
        after = variable_end(text, at)
        if after == at:
            return "$", at + 1
        name = text[at + 1 : after]
        value = lookup(name)
    if value is None:
        unknown.append(name)
    return value or "", after
