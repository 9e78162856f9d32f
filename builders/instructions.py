"""Reads a Dockerfile into instructions that know exactly where in its text they stand."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from builders.dockerwords import HeredocMark, NotStringsError, heredoc_marks, json_strings, take_flags
from builders.instructionrules import Arguments, refusal
from wheelcache.errors import ProjectFileError

_KEYWORDS: Final = frozenset(
    [
        "ADD",
        "ARG",
        "CMD",
        "COPY",
        "ENTRYPOINT",
        "ENV",
        "EXPOSE",
        "FROM",
        "HEALTHCHECK",
        "LABEL",
        "MAINTAINER",
        "ONBUILD",
        "RUN",
        "SHELL",
        "STOPSIGNAL",
        "USER",
        "VOLUME",
        "WORKDIR",
    ]
)
_DIRECTIVE: Final = re.compile(r"#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*")
_BOM: Final = "\ufeff"
_WITH_HEREDOCS: Final = frozenset({"ADD", "COPY", "RUN"})
_LONGEST_LINE: Final = 65535
"""Bytes, a carriage return included: what BuildKit's scanner takes."""


class DockerfileSyntaxError(ProjectFileError):
    """A Dockerfile that BuildKit would refuse as well; names file and line."""

    kind = "dockerfile"

    def __init__(self, file: str, line: int, message: str) -> None:
        super().__init__(f"{file}:{line}: {message}", hint="correct that line", path=file, line=line)


@dataclass(frozen=True, kw_only=True, slots=True)
class Directive:
    """A parser directive (`# escape=...`), with its whole line's place in the text, line end included."""

    name: str
    value: str
    start: int
    end: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Heredoc:
    """An inline file of RUN, COPY or ADD.

    Attributes:
        name: the delimiter, without quotes.
        content: the file, tabs removed where `<<-` says so.
        expands: False where the delimiter was quoted.
        raw: the lines as written, the terminator's included.
    """

    name: str
    content: str
    expands: bool
    raw: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Flag:
    """`--name=value` before an instruction's arguments; *value* is None for a bare `--name`."""

    name: str
    value: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Instruction:
    """One instruction.

    Attributes:
        index: its number, from 0.
        keyword: in upper case.
        start: offset of the keyword's first character in the text.
        keyword_end: offset after the keyword's last character.
        flags_end: offset after the last flag's last character; after the keyword where there is none.
        end: offset after its last character, heredocs included, without the line end.
        line: its first line, from 1.
        end_line: its last line.
        flags: in order.
        body: what follows the flags, as one logical line: continuations joined, comments in between left out.
        heredocs: its inline files.
        trigger: the instruction that an ONBUILD keeps for stages that build on this one; None for all others.
    """

    index: int
    keyword: str
    start: int
    keyword_end: int
    flags_end: int
    end: int
    line: int
    end_line: int
    flags: tuple[Flag, ...]
    body: str
    heredocs: tuple[Heredoc, ...]
    trigger: Instruction | None = None

    @property
    def exec_form(self) -> tuple[str, ...] | None:
        """The JSON form's strings; None for the shell form."""
        try:
            return json_strings(self.body)
        except NotStringsError:
            return None

    def arguments(self, escape: str) -> Arguments:
        """Returns what the rules are about.

        Args:
            escape: the Dockerfile's escape character.
        """
        return _arguments(self.keyword, self.flags, self.body, escape)

    def values(self, flag: str) -> tuple[str, ...]:
        """Returns the values of all flags of that name."""
        return tuple(each.value or "" for each in self.flags if each.name == flag)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Line:
    number: int
    start: int
    end: int
    text: str


def read_directives(text: str, *, file: str) -> tuple[Directive, ...]:
    """Returns the parser directives at the top of *text* (Dockerfile reference, "Parser directives").

    Raises:
        DockerfileSyntaxError: one is given twice, or `escape` is neither a backslash nor a backtick.
    """
    found: dict[str, Directive] = {}
    for line in _lines(text):
        match = _DIRECTIVE.fullmatch(line.text.strip(" \t\r"))
        if not match:
            break
        name = match[1].lower()
        if name not in {"syntax", "escape", "check"}:
            continue
        if name in found:
            raise DockerfileSyntaxError(file, line.number, f"expected one directive {name}, found a second")
        if name == "escape" and match[2] not in {"\\", "`"}:
            raise DockerfileSyntaxError(file, line.number, f"escape: expected \\ or `, found {match[2]!r}")
        found[name] = Directive(name=name, value=match[2], start=line.start, end=line.end)
    return tuple(found.values())


def read_instructions(text: str, *, escape: str, file: str) -> tuple[Instruction, ...]:
    """Returns the instructions of *text*.

    Args:
        text: a Dockerfile, line ends as they stand on disk.
        escape: the continuation character.
        file: its name, for messages.

    Raises:
        DockerfileSyntaxError: an instruction is unknown, its arguments are refused, a heredoc does not end, or a line
            is too long.
    """
    lines = tuple(_lines(text))
    for line in lines:
        size = len(text[line.start : line.end].removesuffix("\n").encode(errors="surrogateescape"))
        if size > _LONGEST_LINE:
            message = f"expected a line of {_LONGEST_LINE} bytes at most, found {size}"
            raise DockerfileSyntaxError(file, line.number, message)
    return tuple(_Reader(lines, escape, file).instructions())


def _lines(text: str) -> Iterator[_Line]:
    """Yields physical lines: their text without line end and byte order mark, their place with the line end."""
    start = number = 0
    while start < len(text):
        number += 1
        end = text.find("\n", start) + 1 or len(text)
        own = start + (number == 1 and text.startswith(_BOM))
        yield _Line(number=number, start=own, end=end, text=text[own:end].rstrip("\r\n"))
        start = end


class _Reader:
    """Goes through the lines once."""

    def __init__(self, lines: tuple[_Line, ...], escape: str, file: str) -> None:
        self.lines = lines
        self.at = 0
        self.escape = escape
        self.file = file
        self.ends_open = re.compile(rf"(?<!{re.escape(escape)}){re.escape(escape)}[ \t]*$")

    def instructions(self) -> Iterator[Instruction]:
        index = 0
        while self.at < len(self.lines):
            first = self.lines[self.at]
            if not first.text.strip() or first.text.lstrip().startswith("#"):
                self.at += 1
                continue
            yield self._instruction(*self._joined(), first, index)
            index += 1

    def _joined(self) -> tuple[str, list[int]]:
        """Returns one logical line and the offset of each of its characters."""
        text = ""
        offsets: list[int] = []
        first = self.at
        while self.at < len(self.lines):
            line = self.lines[self.at]
            self.at += 1
            if self.at - 1 > first and (line.text.lstrip().startswith("#") or not line.text.strip()):
                continue
            opened = self.ends_open.search(line.text)
            kept = line.text[: opened.start()] if opened else line.text
            text += kept
            offsets.extend(range(line.start, line.start + len(kept)))
            if not opened:
                break
        return text, offsets

    def _instruction(self, joined: str, offsets: list[int], first: _Line, index: int) -> Instruction:
        match = re.match(r"\s*(\S+)\s*", joined)
        keyword = match[1].upper() if match else ""
        if not match or keyword not in _KEYWORDS:  # a last line that is nothing but a continuation is none either
            raise DockerfileSyntaxError(
                self.file, first.number, f"expected an instruction, found {match[1] if match else ''!r}"
            )
        flags, body, flags_end = self._arguments(keyword, joined, match.end(), first)
        inner = re.compile(r"\s*(\S+)\s*").match(joined, match.end()) if keyword == "ONBUILD" else None
        inner_keyword = inner[1].upper() if inner else keyword
        heredocs = self._heredocs(joined, inner_keyword, joined[inner.end() :] if inner else body, first)
        last = self.lines[self.at - 1]
        instruction = Instruction(
            index=index,
            keyword=keyword,
            start=offsets[match.start(1)],
            keyword_end=offsets[match.end(1) - 1] + 1,
            flags_end=offsets[(flags_end if flags else match.end(1)) - 1] + 1,
            end=last.start + len(last.text),
            line=first.number,
            end_line=last.number,
            flags=flags,
            body=body,
            heredocs=heredocs,
        )
        if inner is None:
            return instruction
        inner_flags, inner_body, inner_flags_end = _cut(joined, inner.end(), self.escape)
        trigger = replace(
            instruction,
            keyword=inner_keyword,
            start=offsets[inner.start(1)],
            keyword_end=offsets[inner.end(1) - 1] + 1,
            flags_end=offsets[(inner_flags_end if inner_flags else inner.end(1)) - 1] + 1,
            flags=inner_flags,
            body=inner_body,
        )
        return replace(instruction, trigger=trigger)

    def _arguments(self, keyword: str, joined: str, start: int, first: _Line) -> tuple[tuple[Flag, ...], str, int]:
        flags, body, end = _cut(joined, start, self.escape)
        problem = refusal(_arguments(keyword, flags, body, self.escape))
        if problem:
            raise DockerfileSyntaxError(self.file, first.number, f"{keyword}: {problem}")
        return flags, body, end

    def _heredocs(self, joined: str, keyword: str, body: str, first: _Line) -> tuple[Heredoc, ...]:
        if keyword not in _WITH_HEREDOCS or "<<" not in joined or json_strings(body.strip()) is not None:
            return ()
        found = (self._heredoc(mark, first) for mark in heredoc_marks(joined))
        return tuple(heredoc for heredoc in found if heredoc is not None)

    def _heredoc(self, mark: HeredocMark, first: _Line) -> Heredoc | None:
        """Takes the lines of a heredoc; None where what looks like one does not end, in some BuildKit's eyes."""
        for at in range(self.at, len(self.lines)):
            text = self.lines[at].text
            if (text.lstrip("\t") if mark.strips else text) == mark.name:
                lines = [line.text for line in self.lines[self.at : at]]
                self.at = at + 1
                return Heredoc(
                    name=mark.name,
                    content="".join(f"{line.lstrip(chr(9)) if mark.strips else line}\n" for line in lines),
                    expands=mark.expands,
                    raw="".join(f"{line}\n" for line in (*lines, text)),
                )
        if mark.is_spaced:
            return None
        raise DockerfileSyntaxError(
            self.file, first.number, f"expected the heredoc to end with a line {mark.name}, found the file's end"
        )


def _cut(joined: str, start: int, escape: str) -> tuple[tuple[Flag, ...], str, int]:
    """Returns the flags that begin at *start*, the body after them, and the index where the flags end."""
    flags, end = take_flags(joined[start:], escape)
    parts = (flag.removeprefix("--").partition("=") for flag in flags)
    found = tuple(Flag(name=name, value=value if equals else None) for name, equals, value in parts)
    return found, joined[start + end :].strip(), start + end


def _arguments(keyword: str, flags: tuple[Flag, ...], body: str, escape: str) -> Arguments:
    texts = tuple(f"--{flag.name}" + ("" if flag.value is None else f"={flag.value}") for flag in flags)
    return Arguments(keyword=keyword, flags=texts, body=body, escape=escape)
