"""Reads a Dockerfile into instructions that know exactly where in its text they stand."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

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
_HEREDOC: Final = re.compile(r"\d*<<(-?)([^<]+)")
_BOM: Final = "\ufeff"


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
        end: offset after its last character, heredocs included, without the line end.
        line: its first line, from 1.
        end_line: its last line.
        flags: in order.
        body: what follows the flags, as one logical line: continuations joined, comments in between left out.
        heredocs: its inline files.
    """

    index: int
    keyword: str
    start: int
    keyword_end: int
    end: int
    line: int
    end_line: int
    flags: tuple[Flag, ...]
    body: str
    heredocs: tuple[Heredoc, ...]

    @property
    def exec_form(self) -> tuple[str, ...] | None:
        """The JSON form's strings; None for the shell form."""
        return _json_strings(self.body)

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
        DockerfileSyntaxError: an instruction is unknown, has no arguments, or a heredoc does not end.
    """
    lines = _lines(text)
    return tuple(_instructions(lines, escape=escape, file=file))


def _lines(text: str) -> Iterator[_Line]:
    """Yields physical lines: their text without line end and byte order mark, their place with the line end."""
    start = number = 0
    while start < len(text):
        number += 1
        end = text.find("\n", start) + 1 or len(text)
        own = start + (number == 1 and text.startswith(_BOM))
        yield _Line(number=number, start=own, end=end, text=text[own:end].rstrip("\r\n"))
        start = end


def _instructions(lines: Iterator[_Line], *, escape: str, file: str) -> Iterator[Instruction]:
    index = 0
    for line in lines:
        if not line.text.strip() or line.text.lstrip().startswith("#"):
            continue
        joined, offsets, last = _joined(line, lines, escape)
        if not joined.strip():
            continue
        yield _instruction(joined, offsets, (line, last), lines, index=index, escape=escape, file=file)
        index += 1


def _joined(first: _Line, lines: Iterator[_Line], escape: str) -> tuple[str, list[int], _Line]:
    """Returns one logical line, the offset of each of its characters, and the last physical line it took."""
    ends_open = re.compile(rf"(?<!{re.escape(escape)}){re.escape(escape)}[ \t]*$")
    text, last = "", first
    offsets: list[int] = []
    line: _Line | None = first
    while line is not None:
        last = line
        opened = ends_open.search(line.text)
        is_comment = line is not first and line.text.lstrip().startswith("#")
        is_empty = line is not first and not line.text.strip()
        if not is_comment and not is_empty:
            kept = line.text[: opened.start()] if opened else line.text
            text += kept
            offsets.extend(range(line.start, line.start + len(kept)))
            if not opened:
                break
        line = next(lines, None)
    return text, offsets, last


def _instruction(
    joined: str,
    offsets: list[int],
    extent: tuple[_Line, _Line],
    lines: Iterator[_Line],
    *,
    index: int,
    escape: str,
    file: str,
) -> Instruction:
    first, last = extent
    match = re.match(r"[ \t\v\f\r]*([^ \t\v\f\r]+)[ \t\v\f\r]*", joined)
    keyword = match[1].upper() if match else ""
    if not match or keyword not in _KEYWORDS:
        raise DockerfileSyntaxError(
            file, first.number, f"expected an instruction, found {joined.split(maxsplit=1)[0]!r}"
        )
    flags, body = _flags(joined[match.end() :].strip(), escape)
    if not body:
        raise DockerfileSyntaxError(file, first.number, f"{keyword}: expected arguments, found none")
    end = last.start + len(last.text)
    heredocs: list[Heredoc] = []
    inner = re.sub(r"^\s*\S+\s+", "", body) if keyword == "ONBUILD" else body
    if _takes_heredocs(keyword, body) and _json_strings(inner) is None:
        for name, *marks in _heredoc_words(inner):
            heredoc, last = _heredoc(name, lines, strips=marks[0], expands=marks[1], file=file, line=first.number)
            heredocs.append(heredoc)
            end = last.start + len(last.text)
    return Instruction(
        index=index,
        keyword=keyword,
        start=offsets[match.start(1)],
        keyword_end=offsets[match.end(1) - 1] + 1,
        end=end,
        line=first.number,
        end_line=last.number,
        flags=flags,
        body=body,
        heredocs=tuple(heredocs),
    )


def _flags(text: str, escape: str) -> tuple[tuple[Flag, ...], str]:
    """Takes the leading `--flags` off *text*; quotes and escapes in them are removed, as BuildKit does."""
    flags: list[Flag] = []
    word = re.compile(rf"--((?:{re.escape(escape)}.|\"[^\"]*\"|'[^']*'|[^\s\"'])*)(?:\s+|$)")
    while match := word.match(text):
        text = text[match.end() :]
        if not match[1]:
            break
        plain = re.sub(rf"{re.escape(escape)}(.)|[\"']", r"\1", match[1])
        name, has_value, value = plain.partition("=")
        flags.append(Flag(name=name, value=value if has_value else None))
    return tuple(flags), text


def _takes_heredocs(keyword: str, body: str) -> bool:
    inner = body.split(maxsplit=1)[0].upper() if keyword == "ONBUILD" else keyword
    return inner in {"RUN", "COPY", "ADD"} and "<<" in body


def _heredoc_words(body: str) -> Iterator[tuple[str, bool, bool]]:
    """Yields delimiter, whether tabs are stripped, and whether the content expands, for each heredoc of *body*."""
    for word in re.findall(r"(?:\\.|\"(?:\\.|[^\"])*\"|'[^']*'|[^\s\"'])+", body):
        match = _HEREDOC.fullmatch(word)
        if match:
            name = re.sub(r"\\(.)|[\"']", r"\1", match[2])
            yield name, bool(match[1]), name == match[2]


def _heredoc(
    name: str, lines: Iterator[_Line], *, strips: bool, expands: bool, file: str, line: int
) -> tuple[Heredoc, _Line]:
    content: list[str] = []
    raw: list[str] = []
    for each in lines:
        text = each.text.lstrip("\t") if strips else each.text
        raw.append(each.text + "\n")
        if text == name:
            return Heredoc(name=name, content="".join(content), expands=expands, raw="".join(raw)), each
        content.append(text + "\n")
    raise DockerfileSyntaxError(file, line, f"expected the heredoc to end with a line {name}, found the file's end")


def _json_strings(body: str) -> tuple[str, ...] | None:
    if not body.startswith("["):
        return None
    try:
        value = json.loads(body)
    except ValueError:
        return None
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        return None
    return tuple(value)
