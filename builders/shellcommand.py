"""What a shell script runs: simple commands, and what is known of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from posixpath import basename

from builders.shellwords import Word


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """A simple command, after what merely wraps it (`sudo`, `env`, `exec`, `sh -c`) was taken off.

    Attributes:
        words: the program and its arguments, expanded.
        environment: the variables it sees; None as a value where only the running script knows it.
        cwd: where it runs; None where that is not known.
        condition: empty, or why it may not run at all.
        nested: empty, or in what it was found (`$(…)`, `xargs`) so that its words are not the whole truth.
        writes: targets of its output redirections.
        feeding: the words of the command whose output it reads through a pipe.
        inputs: the here-documents that it reads.
    """

    words: tuple[Word, ...]
    environment: Mapping[str, str | None]
    cwd: str | None
    condition: str = ""
    nested: str = ""
    writes: tuple[Word, ...] = ()
    feeding: tuple[Word, ...] = ()
    inputs: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The program's base name."""
        return basename(self.words[0].text) if self.words else ""

    @property
    def arguments(self) -> tuple[str, ...]:
        """The texts after the program's name."""
        return tuple(word.text for word in self.words[1:])

    @property
    def is_sure(self) -> bool:
        """True when every word is known."""
        return all(word.sure for word in self.words)


@dataclass(frozen=True, kw_only=True, slots=True)
class Files:
    """What is known of the files that a script sees, by absolute path.

    Attributes:
        exists: whether one is there; None where nobody can tell.
        text: what it says; None where nobody can tell.
    """

    exists: Callable[[str], bool | None] = lambda _: None
    text: Callable[[str], str | None] = lambda _: None


@dataclass(frozen=True, kw_only=True, slots=True)
class Script:
    """What a script runs, and the pieces of it that could not be read."""

    commands: tuple[Command, ...]
    unread: tuple[str, ...] = ()
