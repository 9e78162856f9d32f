"""Expands a shell's `${parameters}` (POSIX.1-2024, XCU 2.6.2), as far as their values are known."""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Final

from builders.expansion import Lookup

_BRACED: Final = re.compile(r"([A-Za-z_]\w*|[0-9@*#?$!-])(:?[-+?=]|##?|%%?|//?)?(.*)", re.DOTALL)
_CUT: Final = re.compile(r"([A-Za-z_]\w*)(?:\[[@*]\]|:(\d+)(?::(\d+))?)")
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
        inner: what stands between the braces, such as `V`, `V:-default`, `V%.txt`, `V:0:3` or `V[@]`.
        lookup: tells a variable's value.
        nested: expands a default's or a pattern's own text.
    """
    match = _BRACED.fullmatch(inner)
    if match and (match[2] or not match[3]):
        value, operator, operand = lookup(match[1]), match[2] or "", match[3]
        return _operated(value, operator, operand, nested) if operator else value
    match = _CUT.fullmatch(inner)
    whole = lookup(match[1]) if match else None
    if match is None or whole is None:
        return None
    start = int(match[2] or 0)
    return whole[start : start + int(match[3]) if match[3] else None]


def _operated(value: str | None, operator: str, operand: str, nested: Callable[[str], str | None]) -> str | None:
    """Applies one of the operators of XCU 2.6.2, or bash's `/`."""
    if operator[-1] in {"-", "=", "?", "+"}:
        present = bool(value) if operator[0] == ":" else value is not None
        if operator[-1] == "+":
            return nested(operand) if present else ""
        return value if present or operator[-1] == "?" else nested(operand)
    pattern = nested(operand)
    return None if pattern is None or value is None else _trimmed(value, operator, pattern)


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
