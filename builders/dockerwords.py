"""Cuts an instruction's arguments into flags, words and heredocs as BuildKit's parser does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from builders.expansion import ExpansionError, expand, raw_words

_BLANKS: Final = re.compile(r"[\t\v\f\r ]+")
_HEREDOC: Final = re.compile(r"(\d*)<<(-?)([ \t\r]*)([^<]*)")


class NotStringsError(ValueError):
    """A JSON list with something other than strings in it, which is not the shell form either."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HeredocMark:
    """A word that opens a heredoc.

    Attributes:
        name: the delimiter, without quotes.
        strips: True with `<<-`.
        expands: False where the delimiter is quoted.
        is_spaced: True where blanks stand before the delimiter; BuildKit before 0.14 sees no heredoc there.
    """

    name: str
    strips: bool
    expands: bool
    is_spaced: bool


def blank_words(text: str) -> list[str]:
    """Returns the words of *text* between blanks, quotes or not (FROM, COPY, EXPOSE)."""
    return _BLANKS.split(text) if text else []


def take_flags(text: str, escape: str) -> tuple[list[str], int]:
    """Returns the leading `--flags` of *text*, their quotes and escapes removed, and the index where they end."""
    flags: list[str] = []
    end = 0
    while True:
        start = end + len(text[end:]) - len(text[end:].lstrip())
        if not text.startswith("--", start):
            return flags, end
        flag, end = _flag(text, start, escape)
        if flag == "--":
            return flags, end
        flags.append(flag)


def _flag(text: str, at: int, escape: str) -> tuple[str, int]:
    out: list[str] = []
    quote = ""
    while at < len(text):
        char = text[at]
        if not quote and char.isspace():
            break
        at += 1
        if char == quote:
            quote = ""
        elif not quote and char in {"'", '"'}:
            quote = char
        elif char == escape:
            out.append(text[at : at + 1])
            at += 1
        else:
            out.append(char)
    return "".join(out), at


def split_words(text: str, escape: str) -> list[str]:
    """Returns the words of ENV, ARG or LABEL, parted at blanks outside of quotes; quotes stay."""
    words: list[str] = []
    word: list[str] | None = None
    quote = ""
    at = 0
    while at < len(text):
        char = text[at]
        at += 1
        if not quote and char.isspace():
            words += ["".join(word)] if word is not None else []
            word = None
            continue
        word = word if word is not None else []
        if char == quote:
            quote = ""
        elif not quote and char in {"'", '"'}:
            quote = char
        elif char == escape and quote != "'":
            if at == len(text):  # nothing left to escape
                break
            char += text[at]
            at += 1
        word.append(char)
    return [*words, *(["".join(word)] if word else [])]


def json_strings(text: str) -> tuple[str, ...] | None:
    """Returns the strings of the JSON form; None for the shell form.

    Raises:
        NotStringsError: a JSON list with anything else in it.
    """
    if not text.startswith("["):
        return None
    try:
        value, _ = json.JSONDecoder().raw_decode(text)  # what follows the list is ignored
    except (ValueError, RecursionError):
        return None
    if not all(isinstance(item, str) for item in value):
        raise NotStringsError("expected strings alone in the JSON list")
    return tuple(value)


def heredoc_marks(line: str) -> Iterator[HeredocMark]:
    """Yields the heredocs that a logical line opens."""
    for word in raw_words(line):
        mark = heredoc_mark(word)
        if mark is not None:
            yield mark


def heredoc_mark(word: str) -> HeredocMark | None:
    """Returns the heredoc that *word* opens, if it opens one."""
    match = _HEREDOC.fullmatch(word)
    if match is None or not match[4]:
        return None
    if len(raw_words(match[4])) != 1:
        return None
    try:
        name = expand(match[4], lambda variable: f"${variable}").text
    except ExpansionError:
        return None
    return HeredocMark(
        name=name, strips=bool(match[2]), expands=not re.search("['\"]", match[4]), is_spaced=bool(match[3])
    )
