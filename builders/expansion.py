"""Expands `$variables` in a Dockerfile's words as BuildKit does (Dockerfile reference, "Environment replacement")."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

Lookup = Callable[[str], str | None]
"""Tells a variable's value; None where it is not set, or not known to be."""

_SPECIAL: Final = frozenset("@*#?-$!0")
_SHOWN: Final = 60
_ESCAPED_IN_QUOTES: Final = frozenset('"$')


class ExpansionError(ValueError):
    """A word that BuildKit refuses."""


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

    Raises:
        ExpansionError: a quote or brace does not end, or a `${…}` has an operator that BuildKit lacks.
    """
    lexer = _Lexer(text, lookup, escape, raw=False)
    try:
        return Expanded(text=lexer.read()[0], unknown=tuple(lexer.unknown))
    except ExpansionError as error:
        raise ExpansionError(f"{text!r}: {error}") from error
    except RecursionError as error:
        raise ExpansionError(f"{text[:_SHOWN]!r}…: nested deeper than anybody writes by hand") from error


def expand_leniently(text: str, lookup: Lookup, *, escape: str = "\\") -> str:
    """Returns what `expand` makes of *text*, or *text* itself where it raises."""
    try:
        return expand(text, lookup, escape=escape).text
    except ExpansionError:
        return text


def raw_words(text: str) -> tuple[str, ...]:
    """Returns the words of an instruction, quotes and escapes kept, in which BuildKit looks for heredocs.

    A `<<` takes the blanks after it into its word. Nothing is found in a text that cannot be expanded.
    """
    try:
        return tuple(_Lexer(text, lambda _: None, "\\", raw=True).read()[1])
    except (ExpansionError, RecursionError):
        return ()


class _Lexer:
    """Reads one text from left to right.

    Args:
        text: what is read.
        lookup: tells a variable's value.
        escape: the escape character.
        raw: True to keep quotes, escapes and unset variables.
    """

    def __init__(self, text: str, lookup: Lookup, escape: str, *, raw: bool) -> None:
        self.text = text
        self.at = 0
        self.lookup = lookup
        self.escape = escape
        self.raw = raw
        self.unknown: list[str] = []

    @property
    def char(self) -> str:
        """The next character; empty at the end."""
        return self.text[self.at : self.at + 1]

    def take(self) -> str:
        found = self.char
        self.at += len(found)
        return found

    def read(self, stop: str = "", *, keeps_escapes: bool = False) -> tuple[str, list[str]]:
        """Returns everything up to *stop*, as one text and as words."""
        out: list[str] = []
        words: list[str] = []
        word: list[str] = []
        keeps_escapes = keeps_escapes or self.raw
        while self.char:
            if stop and self.char == stop:
                self.at += 1
                return "".join(out), [*words, *(["".join(word)] if word else [])]
            piece, splits = self._piece(keeps_escapes=keeps_escapes)
            out.append(piece)
            for char in piece if splits else (piece,):
                if not splits or not char.isspace():
                    word.append(char)
                elif any(word):
                    words.append("".join(word))
                    word.clear()
        if stop:
            raise ExpansionError("missing '}'" if stop == "}" else f"missing {stop!r} in ${{}}")
        return "".join(out), [*words, *(["".join(word)] if any(word) else [])]

    def _piece(self, *, keeps_escapes: bool) -> tuple[str, bool]:
        """Returns what the next character stands for, and whether blanks in that part words."""
        match self.char:
            case "'":
                return self._single_quoted(), False
            case '"':
                return self._double_quoted(keeps_escapes=keeps_escapes), False
            case "$":
                return self._dollar(), True
            case "<" if self.raw:
                found = re.match(r"<<[ \t\r]*|<", self.text[self.at :])
                piece = found[0] if found else "<"
                self.at += len(piece)
                return piece, False
            case self.escape:
                self.at += 1
                escaped = self.take()
                return (self.escape if keeps_escapes else "") + escaped, False
            case _:
                return self.take(), True

    def _single_quoted(self) -> str:
        end = self.text.find("'", self.at + 1)
        if end < 0:
            raise ExpansionError("expected a second ', found the end")
        found = self.text[self.at : end + 1]
        self.at = end + 1
        return found if self.raw else found[1:-1]

    def _double_quoted(self, *, keeps_escapes: bool) -> str:
        self.at += 1
        out = ['"'] if self.raw else []
        while self.char != '"':
            if not self.char:
                raise ExpansionError('expected a second ", found the end')
            if self.char == "$":
                out.append(self._dollar())
                continue
            char = self.take()
            if char == self.escape and self.char:
                is_escaped = self.char in _ESCAPED_IN_QUOTES or self.char == self.escape
                out.append(char if keeps_escapes or not is_escaped else "")
                char = self.take() if is_escaped else ""
            out.append(char)
        self.at += 1
        return "".join([*out, '"' if self.raw else ""])

    def _dollar(self) -> str:
        start = self.at
        self.at += 1
        if self.char != "{":
            name = self._name()
            return self._value(name, self.text[start : self.at]) if name else "$"
        self.at += 1
        if not self.char:
            raise ExpansionError("missing '}'")
        if self.char in "{}:":
            raise ExpansionError("bad substitution")
        name = self._name()
        operator = self.take()
        if operator == "}":
            return self._value(name, self.text[start : self.at])
        if operator == ":":
            operator += self.take()
        if operator == "/":
            return self._replaced(name, start)
        if operator not in {"+", "-", "?", ":+", ":-", ":?", "#", "%"}:
            raise ExpansionError(f"unsupported operator {operator!r}")
        word = self.read("}", keeps_escapes=operator in {"#", "%"})[0]
        if operator in {"#", "%"}:
            value = self.lookup(name)
            if value is None:
                return self._value(name, self.text[start : self.at])
            return _trimmed(value, operator, word)
        return self._defaulted(name, operator, word, self.text[start : self.at])

    def _defaulted(self, name: str, operator: str, word: str, written: str) -> str:
        value = self.lookup(name)
        if value is None and self.raw:
            return written
        is_set = bool(value) if operator[0] == ":" else value is not None
        if operator[-1] == "+":
            return word if is_set else ""
        if is_set:
            return value or ""
        if operator[-1] == "?":
            raise ExpansionError(f"{name}: {word or 'must be set'}")
        return word

    def _replaced(self, name: str, start: int) -> str:
        every = self.char == "/"
        self.at += every
        pattern = self.read("/", keeps_escapes=True)[0]
        replacement = self.read("}", keeps_escapes=True)[0]
        value = self.lookup(name)
        if value is None:
            return self._value(name, self.text[start : self.at])
        return re.sub(_regex(pattern, greedy=True), lambda _: replacement, value, count=0 if every else 1)

    def _name(self) -> str:
        found = re.compile(r"\d+|\w+").match(self.text, self.at)
        if found:
            self.at = found.end()
            return found[0]
        return self.take() if self.char and self.char in _SPECIAL else ""

    def _value(self, name: str, written: str) -> str:
        value = self.lookup(name)
        if value is None:
            self.unknown.append(name)
            return written if self.raw else ""
        return value


def _trimmed(value: str, operator: str, pattern: str) -> str:
    greedy = pattern[:1] == operator
    pattern = pattern[1:] if greedy else pattern
    if operator == "#":
        return re.sub(rf"\A(?:{_regex(pattern, greedy=greedy)})", "", value, count=1)
    starts = range(len(value) + 1) if greedy else range(len(value), -1, -1)
    regex = re.compile(_regex(pattern, greedy=True))
    return next((value[:start] for start in starts if regex.fullmatch(value, start)), value)


def _regex(pattern: str, *, greedy: bool) -> str:
    """Returns a shell pattern (XCU 2.14.1) as a regular expression; BuildKit has no bracket expressions."""
    out = []
    characters = iter(pattern)
    for char in characters:
        if char == "*":
            out.append(".*" if greedy else ".*?")
        elif char == "?":
            out.append(".")
        elif char == "\\":
            escaped = next(characters, "")
            if escaped not in set("*?\\}/"):
                raise ExpansionError(f"invalid escape \\{escaped}")
            out.append(re.escape(escaped))
        else:
            out.append(re.escape(char))
    return "".join(out)
