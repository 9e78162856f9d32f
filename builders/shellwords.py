"""Cuts shell text into words and operators (POSIX.1-2024, XCU 2.3), keeping what expansion needs to know."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, Literal

from builders.expansion import Lookup
from builders.shellparameters import braced_end, substitute, variable_end

_OPERATORS: Final = re.compile(r"&&|\|\||;;&?|;&|\|&|[;&|()\n]")
_REDIRECT: Final = re.compile(r"(\d*|&)(<<-|<<<|<<|>>|>\||[<>]&|<>|>|<)")
SEPARATOR: Final = "\x1f"
"""Stands between the words of an array in a variable's value."""

_ARRAY: Final = re.compile(r"\w+\[[@*]\]|@")
ASSIGNMENT: Final = re.compile(r"([A-Za-z_]\w*)(\+?)=(.*)", re.DOTALL)
"""`NAME=value` before a command, and bash's `NAME+=value`."""

_ENDS_WORD: Final = frozenset(" \t\r\n;&|()<>")


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A piece of a word: literal text, the inside of `${…}`, or the text of a `$(…)`."""

    kind: Literal["text", "variable", "command", "unreadable"]
    text: str
    quoted: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Token:
    """A word, an operator, or a redirection (whose target is the word that follows).

    Attributes:
        kind: which of them.
        text: the operator; a word as written.
        parts: a word's pieces.
        content: a here-document's text.
        items: the words of an array that is assigned (`NAME=(…)`); None for all others.
    """

    kind: Literal["word", "operator", "redirect"]
    text: str
    parts: tuple[Part, ...] = ()
    content: list[str] = field(default_factory=list)
    items: tuple[Token, ...] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Word:
    """A word after expansion.

    Attributes:
        text: what the program gets, as far as known.
        sure: False where something in it is only known when the command runs.
        has_glob: True when an unquoted `*` or `?` stands in it.
        commands: the texts of the `$(…)` in it whose output is not known.
        gaps: where in the text something is left out that is not known.
    """

    text: str
    sure: bool = True
    has_glob: bool = False
    commands: tuple[str, ...] = ()
    gaps: tuple[int, ...] = ()

    def marked(self, mark: str) -> str:
        """Returns the text with *mark* wherever something is not known."""
        if self.sure:
            return self.text
        cuts = [0, *(self.gaps or [len(self.text)]), len(self.text)]
        return mark.join(self.text[start:end] for start, end in pairwise(cuts))


def tokens_of(text: str) -> tuple[Token, ...]:
    """Returns the tokens of a shell script; here-documents hang on the redirection that opens them."""
    return tuple(_Lexer(text).tokens())


def literal(text: str) -> Token:
    """Returns the word that stands for itself alone."""
    return Token(kind="word", text=text, parts=(Part(kind="text", text=text, quoted=True),))


def expand_word(token: Token, lookup: Lookup) -> tuple[Word, ...]:
    """Returns the words that one word becomes: unquoted variables are split into fields at blanks."""
    words: list[Word] = []
    text, has_glob, started = "", False, False
    commands: list[str] = []
    gaps: list[int] = []
    for part in token.parts:
        value = _value(part, lookup)
        if part.kind == "command" and value is None:
            commands.append(part.text)
        if value is None:
            gaps.append(len(text))
        is_array = part.kind == "variable" and _ARRAY.fullmatch(part.text)
        if value is not None and (is_array or (part.kind == "variable" and not part.quoted)):
            fields = value.split(SEPARATOR) if is_array and value else value.split()
            for last in fields[:-1]:
                words.append(Word(text=text + last, sure=not gaps, has_glob=has_glob, gaps=tuple(gaps)))
                text, has_glob, gaps = "", False, []
            text, started = text + (fields[-1] if fields else ""), started or bool(fields)
            continue
        started = True
        has_glob = has_glob or (part.kind == "text" and not part.quoted and bool(re.search(r"[*?]", part.text)))
        text += value or ""
    if started or gaps:
        words.append(Word(text=text, sure=not gaps, has_glob=has_glob, commands=tuple(commands), gaps=tuple(gaps)))
    return tuple(words)


def expand_assignment(token: Token, lookup: Lookup) -> Word:
    """Returns the one word that `NAME=value` becomes: nothing is split there."""
    values = [_value(part, lookup) for part in token.parts]
    commands = [
        part.text for part, value in zip(token.parts, values, strict=True) if part.kind == "command" and value is None
    ]
    text = "".join(value or "" for value in values)
    if token.items is not None:
        words = [word for item in token.items for word in expand_word(item, lookup)]
        values += [word.text if word.sure and not word.has_glob else None for word in words]
        text += SEPARATOR * text.endswith("+=") + SEPARATOR.join(word.text for word in words)
    return Word(text=text, sure=None not in values, commands=tuple(commands))


def _value(part: Part, lookup: Lookup) -> str | None:
    if part.kind == "text":
        return part.text
    if part.kind == "command":
        return lookup(f"$({part.text})")
    if part.kind != "variable":
        return None
    return substitute(part.text, lookup, lambda inner: _joined(inner, lookup))


def _joined(text: str, lookup: Lookup) -> str | None:
    """Expands the word inside `${V:-…}` as one field."""
    parts = tuple(_Lexer(text).parts(until=frozenset()))
    values = [_value(part, lookup) for part in parts]
    return None if None in values else "".join(value or "" for value in values)


class _Lexer:
    """Reads one script from left to right."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.open: list[tuple[Token, str]] = []

    def tokens(self) -> Iterator[Token]:
        while self.at < len(self.text):
            char = self.text[self.at]
            if self.text.startswith("\\\n", self.at):
                self.at += 2
            elif char in " \t\r":
                self.at += 1
            elif char == "#":
                end = self.text.find("\n", self.at)
                self.at = len(self.text) if end < 0 else end
            else:
                yield from self._token()

    def _token(self) -> Iterator[Token]:
        if match := _REDIRECT.match(self.text, self.at):
            if not self.text.startswith(("<(", ">("), self.at):
                yield from self._redirect(match)
                return
        elif match := _OPERATORS.match(self.text, self.at):
            self.at = match.end()
            yield Token(kind="operator", text=match[0])
            if match[0] == "\n":
                self._read_documents()
            return
        yield self._word()

    def _word(self) -> Token:
        start = self.at
        parts = tuple(self.parts(until=_ENDS_WORD))
        return Token(kind="word", text=self.text[start : self.at], parts=parts)

    def _redirect(self, match: re.Match[str]) -> Iterator[Token]:
        self.at = match.end()
        token = Token(kind="redirect", text=match[2])
        yield token
        while self.text[self.at : self.at + 1] in {" ", "\t"}:
            self.at += 1
        word = self._word()
        if match[2] in {"<<", "<<-"}:
            self.open.append((token, re.sub(r"\\(.)|[\"']", r"\1", word.text)))
        yield word

    def _read_documents(self) -> None:
        """Takes the bodies of the here-documents that the line just ended has opened."""
        for token, delimiter in self.open:
            lines: list[str] = []
            while self.at < len(self.text):
                end = self.text.find("\n", self.at)
                end = len(self.text) if end < 0 else end
                line = self.text[self.at : end]
                self.at = end + 1
                line = line.lstrip("\t") if token.text == "<<-" else line
                if line == delimiter:
                    break
                lines.append(line + "\n")
            token.content.append("".join(lines))
        self.open.clear()

    def parts(self, *, until: frozenset[str]) -> Iterator[Part]:
        """Yields the pieces of one word, which ends before an unquoted character of *until*."""
        quoted = False
        while self.at < len(self.text):
            char = self.text[self.at]
            if char == '"':
                quoted = not quoted
                self.at += 1
                yield Part(kind="text", text="", quoted=True)
            elif char == "\\":
                yield from self._escaped(quoted=quoted)
            elif char == "'" and not quoted:
                yield self._until("'", quoted=True)
            elif char == "`":
                yield self._until("`", kind="command", quoted=quoted)
            elif char == "$":
                yield self._dollar(quoted=quoted)
            elif not quoted and self.text.startswith(("<(", ">("), self.at):
                self.at += 1
                yield self._parenthesis(quoted=quoted)
            elif not quoted and char in until:
                return
            else:
                yield self._plain(until, quoted=quoted)

    def _escaped(self, *, quoted: bool) -> Iterator[Part]:
        following = self.text[self.at + 1 : self.at + 2]
        self.at += 2
        if following == "\n":
            return
        keeps = quoted and following not in {'"', "$", "`", "\\"}
        yield Part(kind="text", text="\\" + following if keeps else following, quoted=True)

    def _plain(self, until: frozenset[str], *, quoted: bool) -> Part:
        start = self.at
        while self.at < len(self.text):
            char = self.text[self.at]
            if char in '"\\`$' or (not quoted and (char == "'" or char in until)):
                break
            self.at += 1
        return Part(kind="text", text=self.text[start : self.at], quoted=quoted)

    def _until(self, mark: str, *, quoted: bool, kind: Literal["text", "command"] = "text") -> Part:
        end = self.text.find(mark, self.at + 1)
        end = len(self.text) if end < 0 else end
        part = Part(kind=kind, text=self.text[self.at + 1 : end], quoted=quoted)
        self.at = end + 1
        return part

    def _dollar(self, *, quoted: bool) -> Part:
        following = self.text[self.at + 1 : self.at + 2]
        if following == "{":
            end = braced_end(self.text, self.at + 1)
            if end > 0:
                part = Part(kind="variable", text=self.text[self.at + 2 : end], quoted=quoted)
                self.at = end + 1
                return part
        if following == "(":
            self.at += 1
            return self._parenthesis(quoted=quoted)
        if following == "'" and not quoted:
            self.at += 1
            return self._until("'", quoted=True)
        after = variable_end(self.text, self.at)
        if after == self.at:
            self.at += 1
            return Part(kind="text", text="$", quoted=True)
        part = Part(kind="variable", text=self.text[self.at + 1 : after], quoted=quoted)
        self.at = after
        return part

    def _parenthesis(self, *, quoted: bool) -> Part:
        """Takes `(…)` up to the parenthesis that closes it; `((…))` is arithmetic, which nobody reads here."""
        start = self.at
        inner = _Lexer(self.text)
        inner.at = start + 1
        depth = 1
        for token in inner.tokens():
            if token.kind == "operator":
                depth += (token.text == "(") - (token.text == ")")
            if depth == 0:
                break
        self.at = inner.at
        text = self.text[start + 1 : inner.at - 1]
        arithmetic = text.startswith("(") and text.endswith(")")
        return Part(kind="unreadable" if arithmetic else "command", text=text, quoted=quoted)
