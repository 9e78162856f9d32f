"""What a running shell remembers: its variables and its working directory, as far as they are known."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from posixpath import basename, dirname, isabs, join, normpath

from builders.shellwords import ASSIGNMENT, SEPARATOR, Word


@dataclass(kw_only=True, slots=True)
class ShellState:
    """The state of one (sub)shell.

    Attributes:
        variables: by name; None as a value where only the running script knows it.
        cwd: None where it is not known.
        exported: the variables that commands see.
        complete: True when a variable absent from *variables* is known to be unset.
        outputs: what commands print, as far as that is known.
    """

    variables: dict[str, str | None]
    cwd: str | None
    exported: set[str]
    complete: bool
    outputs: Mapping[str, str] = field(default_factory=dict)

    def copy(self) -> ShellState:
        """Returns the state of a subshell that starts now."""
        return replace(self, variables=dict(self.variables), exported=set(self.exported))

    def adopt(self, other: ShellState) -> None:
        """Becomes *other*, for what a command has changed in a place where it runs for certain."""
        self.variables, self.exported, self.cwd = dict(other.variables), set(other.exported), other.cwd

    def blur(self, other: ShellState) -> None:
        """Forgets whatever differs from *other*, since nobody knows which of the two the shell is in."""
        names = self.variables.keys() | other.variables.keys()
        missing = object()
        for name in names:
            if self.variables.get(name, missing) != other.variables.get(name, missing):
                self.variables[name] = None
        self.exported |= other.exported
        self.cwd = self.cwd if self.cwd == other.cwd else None

    def lookup(self, name: str) -> str | None:
        """Returns the value of a variable, or of a `$(…)`; None where it is not known."""
        if name in self.variables:
            return self.variables[name]
        if name.startswith("$("):
            return self.outputs.get(name[2:-1].strip())
        return "" if self.complete and re.fullmatch(r"[A-Za-z_]\w*", name) else None

    def environment(self) -> dict[str, str | None]:
        """Returns what a command started now sees."""
        return {name: value for name, value in self.variables.items() if name in self.exported}

    def assigned(self, match: re.Match[str], *, sure: bool) -> str | None:
        """Returns the value that an assignment gives, `+=` included."""
        if not sure:
            return None
        if match[2]:
            before = self.lookup(match[1])
            return None if before is None else before + match[3]
        return match[3]

    def take_arguments(self, words: Sequence[Word]) -> dict[str, str | None]:
        """Sets `$1` to `$9`, `$@` and `$*`; returns what they were."""
        texts = [word.text if word.sure and not word.has_glob else None for word in words]
        known = [text for text in texts if text is not None]
        is_known = len(known) == len(texts)
        taken = {str(number): text for number, text in enumerate([*texts, *[""] * 9][:9], 1)}
        taken["@"] = SEPARATOR.join(known) if is_known else None
        taken["*"] = " ".join(known) if is_known else None
        before = {name: self.variables.get(name) for name in taken}
        self.variables.update(taken)
        return before

    def run_builtin(self, words: tuple[Word, ...]) -> bool:
        """Applies `cd`, `export`, `unset`, `read`, `shift`, `set --` or `.`; False for every other command."""
        name, arguments = words[0].text, words[1:]
        match name:
            case "cd" | "pushd":
                target = next((word for word in arguments if not word.text.startswith("-")), None)
                self.cwd = self._moved(target)
            case "popd":
                self.cwd = None
            case "export" | "declare" | "readonly" | "local" | "typeset":
                self._export(arguments)
            case "unset":
                self.variables.update(dict.fromkeys((word.text for word in arguments), ""))
            case "read" | "mapfile" | "getopts":
                self.variables.update(dict.fromkeys((word.text for word in arguments), None))
            case "shift":
                self._shift(arguments)
            case "set" if arguments and arguments[0].text == "--":
                self.take_arguments(arguments[1:])
            case "." | "source":
                return self._source(arguments)
            case _:
                return False
        return True

    def _shift(self, arguments: tuple[Word, ...]) -> None:
        given, number = self.lookup("@"), arguments[0].text if arguments else "1"
        if given is not None and number.isdecimal():
            self.take_arguments([Word(text=text) for text in given.split(SEPARATOR)[int(number) :]])
        else:
            self.variables.update(dict.fromkeys((*"123456789@*",)))

    def _export(self, arguments: tuple[Word, ...]) -> None:
        for word in arguments:
            match = ASSIGNMENT.fullmatch(word.text)
            if match:
                self.variables[match[1]] = self.assigned(match, sure=word.sure)
            self.exported.add(match[1] if match else word.text)

    def _source(self, arguments: tuple[Word, ...]) -> bool:
        """Knows one file's effect: a virtual environment's `bin/activate` (PEP 405)."""
        script = arguments[0].text if arguments else ""
        if basename(script) != "activate" or "/" not in script:
            return False
        folder = self._moved(replace(arguments[0], text=dirname(script)))
        path = self.lookup("PATH") or ""
        self.variables["VIRTUAL_ENV"] = dirname(folder) if folder else None
        self.variables["PATH"] = f"{folder}:{path}" if folder else None
        self.exported.update({"VIRTUAL_ENV", "PATH"})
        return True

    def _moved(self, target: Word | None) -> str | None:
        if target is None or not target.sure or target.text in {"-", "~"}:
            return None
        if isabs(target.text):
            return normpath(target.text)
        return None if self.cwd is None else normpath(join(self.cwd, target.text))
