"""Finds calls of pip and uv in what is not read here: other programs' arguments, and scripts that a RUN wrote."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from posixpath import join, normpath
from typing import Final, Literal

from builders.foreign import foreign_install
from builders.pipcommand import recognise_call
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
        if command.name in _TELLING:
            told = "\n".join((said, *command.inputs, _said(command.feeding))).replace("\\n", "\n")
            match = _IN_COMMAND.search(told)
            written = [*command.writes, *(command.words[1:] if command.name == "tee" else ())]
            self._written.update({_path(command, word.text): match for word in written if match})
        elif command.name not in _QUOTING and (match := _IN_COMMAND.search(said)):
            yield _call(match, said)
        elif command.name in SHELLS and (match := _IN_COMMAND.search(fed := _said(command.feeding))):
            yield _call(match, f"{fed} | {said}")
        program = command.words[0].text
        for runs in command.arguments if command.name in SHELLS | {".", "source"} else (program,) * ("/" in program):
            if _path(command, runs) in self._written:
                yield _call(self._written[_path(command, runs)], runs)


def _said(words: Iterable[Word]) -> str:
    return " ".join(word.text if word.sure else f"{word.text}…" for word in words)


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
