"""Decides `test`, `[ … ]` and `[[ … ]]` (POSIX.1-2024, XCU "test") where their operands are known, and AND-OR lists."""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Final, Literal

from builders.shellwords import Word

Status = Literal["true", "false", "fatal", "assumed", "unknown"]
"""How a command ends: known to; with the whole build; most likely well, since it would end the build; or not known."""

Exists = Callable[[str], bool | None]
"""Tells whether a file is there; None where nobody can tell."""

_NUMERIC: Final[dict[str, Callable[[int, int], bool]]] = {
    "-eq": lambda one, other: one == other,
    "-ne": lambda one, other: one != other,
    "-lt": lambda one, other: one < other,
    "-le": lambda one, other: one <= other,
    "-gt": lambda one, other: one > other,
    "-ge": lambda one, other: one >= other,
}
_COMPARING: Final = frozenset({"=", "==", "!=", "=~", "<", ">", "-nt", "-ot", "-ef", *_NUMERIC})
_OF_FILES: Final = frozenset({"-e", "-f", "-r", "-s"})
_UNARY: Final = re.compile(r"-[a-zA-Z]")


def decide(words: tuple[Word, ...], exists: Exists) -> bool | None:
    """Returns what a test says; None where that is not known.

    Args:
        words: the command, its name first.
        exists: tells whether a file is there.
    """
    closing = {"[": "]", "[[": "]]"}.get(words[0].text)
    operands = words[1:-1] if closing and words[-1].text == closing else words[1:]
    test = _Test(operands, exists)
    found = test.either() if operands else False
    if test.at == len(operands):
        return found
    return False if all(word.sure for word in operands) else None  # malformed: it ends with status 2


def found_by_grep(words: tuple[Word, ...], feeding: tuple[Word, ...]) -> bool | None:
    """Returns whether `echo … | grep -q PATTERN` finds it; None where that is not known.

    Args:
        words: the grep.
        feeding: the command before the pipe.
    """
    plain = [word.text for word in words[1:] if not word.text.startswith("-")]
    options = "".join(word.text.lstrip("-") for word in words[1:] if word.text.startswith("-"))
    is_read = feeding and feeding[0].text == "echo" and all(word.sure for word in (*words, *feeding))
    if not is_read or len(plain) != 1 or not set(options) <= set("qEiF"):
        return None
    text = " ".join(word.text for word in feeding[1:])
    pattern = re.escape(plain[0]) if "F" in options else plain[0]
    try:
        return re.search(pattern, text, re.IGNORECASE if "i" in options else 0) is not None
    except re.error:
        return None


class _Test:
    """Reads an expression from left to right, with three truth values."""

    def __init__(self, words: tuple[Word, ...], exists: Exists) -> None:
        self.words = words
        self.at = 0
        self.exists = exists

    def _peek(self, distance: int = 0) -> str:
        at = self.at + distance
        return self.words[at].text if at < len(self.words) else ""

    def either(self) -> bool | None:
        found = [self._all()]
        while self._peek() in {"-o", "||"}:
            self.at += 1
            found.append(self._all())
        return True if True in found else None if None in found else False

    def _all(self) -> bool | None:
        found = [self._not()]
        while self._peek() in {"-a", "&&"}:
            self.at += 1
            found.append(self._not())
        return False if False in found else None if None in found else True

    def _not(self) -> bool | None:
        if self._peek() == "!" and self.at + 1 < len(self.words):
            self.at += 1
            inner = self._not()
            return None if inner is None else not inner
        if self._peek() == "(" and self.at + 1 < len(self.words):
            self.at += 1
            inner = self.either()
            self.at += self._peek() == ")"
            return inner
        return self._primary()

    def _primary(self) -> bool | None:
        if self._peek(1) in _COMPARING and self.at + 2 < len(self.words):
            one, operator, other = self.words[self.at : self.at + 3]
            self.at += 3
            return _compared(one, operator.text, other)
        if _UNARY.fullmatch(self._peek()) and self.at + 1 < len(self.words):
            operator, operand = self.words[self.at : self.at + 2]
            self.at += 2
            return self._of_one(operator.text, operand)
        if self.at >= len(self.words):
            return None
        word = self.words[self.at]
        self.at += 1
        return bool(word.text) if word.sure else True if word.text else None

    def _of_one(self, operator: str, operand: Word) -> bool | None:
        if operator in {"-n", "-z"}:
            if not operand.sure:
                return (operator == "-n") if operand.text else None
            return bool(operand.text) is (operator == "-n")
        if not operand.sure:
            return None
        return self.exists(operand.text) if operator in _OF_FILES else None


def _compared(one: Word, operator: str, other: Word) -> bool | None:
    if not (one.sure and other.sure):
        return None
    if operator in _NUMERIC:
        numbers = [word.text.strip() for word in (one, other)]
        if not all(re.fullmatch(r"[-+]?\d+", number) for number in numbers):
            return None
        return _NUMERIC[operator](int(numbers[0]), int(numbers[1]))
    if operator in {"=", "==", "!="}:
        equal = fnmatchcase(one.text, other.text) if other.has_glob else one.text == other.text
        return equal is (operator != "!=")
    return None


def joined(operator: str, status: Status, new: Status) -> Status:
    """Returns how a list ends, whose parts so far and whose new part end as given."""
    if operator == "&&" and new == "fatal" and status == "unknown":
        return "false"  # whoever comes here has left the build standing
    if operator == "&&":
        return new if new == "false" or status in {"true", "assumed"} else "unknown"
    if operator == "||" and new == "fatal" and status != "false":
        return "assumed"
    if operator == "||":
        return new if status == "false" or new == "true" else status
    return new
