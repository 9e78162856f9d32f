"""Finds calls of pip and uv in what is not read here: other programs' arguments, and scripts that a RUN wrote."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from posixpath import basename, join, normpath
from typing import Final, Literal

from builders.foreign import foreign_install
from builders.pipcommand import PYTHON, recognise_call
from builders.shell import SHELLS
from builders.shellcommand import Command, Script
from builders.shellwords import Word

_IN_TEXT: Final = re.compile(r"\b(pip|uv)[\d.]*\b.{0,40}\b(install|sync|download|wheel)\b", re.DOTALL)
"""In a text of which nothing else is known."""

_IN_COMMAND: Final = re.compile(
    r"""(?:^|[\s;&|(\["'/`])(pip|uv)[\d.]*['",\s]+(?:-\S+\s+)*(?:pip\s+(?:-\S+\s+)*)?(install|sync|download|wheel)\b"""
)
"""In the words of one command, where `apt-get install python3-pip python3-wheel` is none."""

_TELLING: Final = frozenset({"echo", "printf", "cat", "tee"})
_QUOTING: Final = _TELLING | {"[", "[[", "awk", "egrep", "fgrep", "git", "grep", "perl", "sed", "test"}
"""What has such words in its arguments without running them."""

_LONGEST_SHOWN: Final = 60


@dataclass(frozen=True, kw_only=True, slots=True)
class HiddenCall:
    """A call that is not read.

    Attributes:
        tool: whose call.
        subcommand: `install`, `sync`, `download` or `wheel`.
        shown: where it stands, shortened.
    """

    tool: Literal["pip", "uv"]
    subcommand: str
    shown: str


class HiddenCalls:
    """Goes through the scripts of a Dockerfile in their order, and remembers which files they write such calls to."""

    def __init__(self) -> None:
        self._written: dict[str, re.Match[str]] = {}

    def find(self, script: Script) -> Iterator[HiddenCall]:
        """Yields the calls that *script* hides."""
        for text in script.unread:
            if match := _IN_TEXT.search(text):
                yield _call(match, text[match.start() :])
        for command in script.commands:
            if recognise_call(command) is None and foreign_install(command, 0) is None:
                yield from self._in_command(command)

    def _in_command(self, command: Command) -> Iterator[HiddenCall]:
        said = _said(command.words)
        pattern = _IN_TEXT if PYTHON.fullmatch(command.name) and "-c" in command.arguments else _IN_COMMAND
        if command.name in _TELLING:
            told = "\n".join((said, *command.inputs, _said(command.feeding))).replace("\\n", "\n")
            match = _IN_COMMAND.search(told)
            written = [*command.writes, *(command.words[1:] if command.name == "tee" else ())]
            self._written.update({_path(command, word.text): match for word in written if match})
        elif command.name not in _QUOTING and (match := pattern.search(said)):
            yield _call(match, said)
        elif command.name in SHELLS and (match := _IN_COMMAND.search(fed := _said(command.feeding))):
            yield _call(match, f"{fed} | {said}")
        program = command.words[0].text
        for runs in command.arguments if command.name in SHELLS | {".", "source"} else (program,) * ("/" in program):
            if _path(command, runs) in self._written:
                yield _call(self._written[_path(command, runs)], runs)


def calls_beside(script: Script, text_of: Callable[[str], str | None]) -> Iterator[str]:
    """Yields a sentence for each Python program in the RUN of an install that installs by itself.

    Such a call is neither locked nor read, but finds the configuration that is mounted for the install beside it.

    Args:
        script: of the RUN.
        text_of: returns a file's text by its path inside the image, None where nobody knows it.
    """
    for command in script.commands:
        program = _python_program(command.words)
        text = text_of(_path(command, program)) if program and command.cwd is not None else None
        if text is not None and (match := _IN_TEXT.search(text)):
            yield f"{program} calls {match[1]} in the RUN of an install: give it a RUN of its own"
        if command.name in SHELLS and _python_program(command.feeding):
            yield f"what {_said(command.feeding)} prints is run beside an install: give it a RUN of its own"


def _python_program(words: Sequence[Word]) -> str:
    """Returns the file that a Python interpreter runs; empty for other commands, `-m` and `-c`."""
    if not words or not PYTHON.fullmatch(basename(words[0].text)):
        return ""
    first = next((word for word in words[1:] if not re.fullmatch(r"-[bBdEiIOqsSuvx]+", word.text)), None)
    return first.text if first is not None and first.sure and not first.text.startswith("-") else ""


def _said(words: Iterable[Word]) -> str:
    return " ".join(word.marked("…") for word in words)


def _path(command: Command, text: str) -> str:
    return normpath(join(command.cwd or "/", text))


def _call(match: re.Match[str], shown: str) -> HiddenCall:
    shown = " ".join(shown.split())
    if len(shown) > _LONGEST_SHOWN:
        start = " ".join(match[0].split())
        before, _, after = shown.partition(start)
        shown = f"{before.split(' ')[0]} … {start}{after}" if len(before) > len(shown) - _LONGEST_SHOWN else shown
        shown = shown if len(shown) <= _LONGEST_SHOWN else f"{shown[: _LONGEST_SHOWN - 2]} …"
    return HiddenCall(tool="pip" if match[1] == "pip" else "uv", subcommand=match[2], shown=shown)
