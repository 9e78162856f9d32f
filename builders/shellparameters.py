"""Expands a shell's `${parameters}` (POSIX.1-2024, XCU 2.6.2), as far as their values are known."""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Final

from builders.expansion import Lookup

_BRACED: Final = re.compile(r"([A-Za-z_]\w*|[0-9@*#?$!-])(:?[-+?=]|##?|%%?|//?)?(.*)", re.DOTALL)
_NAME: Final = re.compile(r"[A-Za-z_]\w*|[0-9@*#?$!-]")


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
