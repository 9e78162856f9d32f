"""Reads the shell text of a RUN into the simple commands it runs, and says what it is not sure of."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from posixpath import basename
from typing import Final

from builders.shellstate import ShellState
from builders.shellwords import ASSIGNMENT, Token, Word, expand_word, tokens_of
from builders.wrappers import unwrap

_SHELLS: Final = frozenset({"sh", "bash", "dash", "ash", "zsh", "ksh"})
_TESTS: Final = frozenset({"[", "[[", "test", "command", "which", "type", "grep", "!", "false", "cmp", "diff"})


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
    """

    words: tuple[Word, ...]
    environment: Mapping[str, str | None]
    cwd: str | None
    condition: str = ""
    nested: str = ""
    writes: tuple[Word, ...] = ()

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
class Script:
    """What a script runs, and the pieces of it that could not be read."""

    commands: tuple[Command, ...]
    unread: tuple[str, ...] = ()


@dataclass(kw_only=True, slots=True)
class _Frame:
    """A compound command that is open."""

    kind: str
    condition: str
    saved: ShellState | None = None
    outer_or: bool = False
    list_start: int = 0


def read_script(
    text: str,
    *,
    environment: Mapping[str, str | None],
    cwd: str | None,
    complete: bool = False,
    condition: str = "",
    nested: str = "",
) -> Script:
    """Reads shell text.

    Args:
        text: the script.
        environment: variables as they are when it starts; None as a value for one not known.
        cwd: where it starts.
        complete: True when a variable absent from *environment* is known to be unset.
        condition: why the script itself may not run.
        nested: in what it was found.
    """
    state = ShellState(variables=dict(environment), cwd=cwd, exported=set(environment), complete=complete)
    walker = _Walker(state, condition=condition, nested=nested)
    walker.walk(tokens_of(text))
    return Script(commands=tuple(walker.commands), unread=tuple(walker.unread))


def read_words(words: tuple[str, ...], *, environment: Mapping[str, str | None], cwd: str | None) -> Script:
    """Reads an exec form: one command without a shell."""
    state = ShellState(variables=dict(environment), cwd=cwd, exported=set(environment), complete=False)
    walker = _Walker(state, condition="", nested="")
    walker.run(tuple(Word(text=word) for word in words), {}, (), ())
    return Script(commands=tuple(walker.commands), unread=tuple(walker.unread))


class _Walker:
    """Goes through a script once, as if every branch ran, and notes what may not run."""

    def __init__(self, state: ShellState, *, condition: str, nested: str) -> None:
        self.state = state
        self.nested = nested
        self.frames = [_Frame(kind="script", condition=condition)]
        self.commands: list[Command] = []
        self.unread: list[str] = []
        self.after_or = False
        self.next_group = ""
        self.tokens: list[Token] = []
        self.redirects: list[tuple[Token, Token]] = []

    def walk(self, tokens: tuple[Token, ...]) -> None:
        stream = iter(tokens)
        for token in stream:
            if token.kind == "redirect":
                target = next(stream, None)
                if target is not None:
                    self.redirects.append((token, target))
            elif token.kind == "operator":
                self._operator(token.text)
            elif not self.tokens and self._keyword(token.text):
                continue
            else:
                self.tokens.append(token)
        self._flush()

    @property
    def condition(self) -> str:
        """Why the next command may not run; empty when it does."""
        inner = next((frame.condition for frame in reversed(self.frames) if frame.condition), "")
        return inner or ("it stands after ||" if self.after_or else "")

    def _operator(self, operator: str) -> None:
        frame = self.frames[-1]
        if frame.kind == "pattern":  # case patterns end with a parenthesis
            if operator == ")":
                self.tokens.clear()
                frame.kind = "case"
            return
        if operator == "(":
            if self.tokens and len(self.tokens) == 1:  # `name ()` opens a function
                self.tokens.clear()
                self._push("function-head", "")
                return
            self._push("(", "", saved=self.state.copy())
            return
        self._flush()
        match operator:
            case ")":
                self._pop_parenthesis()
            case ";;" | ";&" | ";;&":
                frame.kind = "pattern" if frame.kind == "case" else frame.kind
                self._end_list()
            case "||":
                self._note_or()
            case "&&" | "|" | "|&":
                pass
            case _:
                self._end_list()

    def _pop_parenthesis(self) -> None:
        kind = self.frames[-1].kind
        self._pop()
        if kind == "function-head":
            self.next_group = "it stands in a function"

    def _note_or(self) -> None:
        start = self.frames[-1].list_start
        if len(self.commands) > start and self.commands[start].name in _TESTS:
            for index in range(start + 1, len(self.commands)):
                command = self.commands[index]
                why = command.condition or "it depends on a test"
                self.commands[index] = replace(command, condition=why)
        self.after_or = True

    def _end_list(self) -> None:
        self.after_or = False
        self.frames[-1].list_start = len(self.commands)

    def _push(self, kind: str, condition: str, *, saved: ShellState | None = None) -> None:
        inherited = condition or ("it stands after ||" if self.after_or else "")
        self.frames.append(
            _Frame(
                kind=kind,
                condition=inherited,
                saved=saved,
                outer_or=self.after_or,
                list_start=len(self.commands),
            )
        )
        self.after_or = False

    def _pop(self) -> None:
        if len(self.frames) == 1:
            return
        frame = self.frames.pop()
        self.after_or = frame.outer_or
        if frame.saved is not None:
            self.state = frame.saved

    def _keyword(self, word: str) -> bool:
        """Takes a reserved word (XCU 2.4) at the place of a command; False when *word* is none."""
        frame = self.frames[-1]
        if frame.kind == "pattern":
            if word == "esac":
                self._pop()
            return True
        if word in {"if", "while", "until"}:
            self._push(word, "")
        elif word == "case":
            self._push("pattern", "it stands in a case")
        elif word in {"then", "else", "elif", "do"}:
            self._branch(word)
        elif word == "{":
            self._push("{", self.next_group)
            self.next_group = ""
        elif word in {"fi", "done", "}"} or (word == "esac" and frame.kind == "case"):
            self._pop()
        elif word in {"for", "select"}:
            self._push(word, "")
            return False
        else:
            return word in {"function", "time", "!", "coproc"}
        return True

    def _branch(self, word: str) -> None:
        frame = self.frames[-1]
        if frame.kind == "if" and word != "elif":
            frame.condition = frame.condition or "it stands in an if"
        elif frame.kind == "while":
            frame.condition = frame.condition or "it stands in a while loop"
        self._end_list()

    def _flush(self) -> None:
        """Runs the command collected so far."""
        tokens, redirects = self.tokens, self.redirects
        self.tokens, self.redirects = [], []
        if not tokens:
            return
        if tokens[0].text in {"for", "select"}:
            if len(tokens) > 1:
                self.state.variables[tokens[1].text] = None
            return
        words = [word for token in tokens for word in expand_word(token, self.state.lookup)]
        assigned: dict[str, str | None] = {}
        while words and tokens and (match := ASSIGNMENT.fullmatch(words[0].text)) and _assigns(tokens[0]):
            assigned[match[1]] = self.state.assigned(match, sure=words[0].sure)
            self._read_nested(words.pop(0))
            tokens = tokens[1:]
        for word in words:
            self._read_nested(word)
        self.run(tuple(words), assigned, *self._redirections(redirects))

    def _redirections(self, redirects: list[tuple[Token, Token]]) -> tuple[tuple[Word, ...], tuple[str, ...]]:
        writes: list[Word] = []
        inputs: list[str] = []
        for token, target in redirects:
            if token.text in {">", ">>", ">|"}:
                writes.extend(expand_word(target, self.state.lookup))
            inputs.extend(token.content)
        return tuple(writes), tuple(inputs)

    def _read_nested(self, word: Word) -> None:
        for text in word.commands:
            self._take(text, nested="$(…)")

    def _take(self, text: str, *, nested: str = "") -> None:
        """Reads a script inside this one; what it changes stays inside."""
        inner = _Walker(self.state.copy(), condition=self.condition, nested=nested or self.nested)
        inner.walk(tokens_of(text))
        self.commands.extend(inner.commands)
        self.unread.extend(inner.unread)

    def run(
        self,
        words: tuple[Word, ...],
        assigned: Mapping[str, str | None],
        writes: tuple[Word, ...],
        inputs: tuple[str, ...],
    ) -> None:
        """Notes one simple command, or does what a builtin does to the shell's own state."""
        if not words:
            self.state.variables.update(assigned)
            return
        bare = unwrap(words)
        words, assigned = bare.words, {**assigned, **bare.assigned}
        state = self.state.copy()
        state.variables.update(assigned)
        state.exported.update(assigned)
        if not words or self.state.run_builtin(words) or self._shell(words, state, inputs):
            return
        self.commands.append(
            Command(
                words=words,
                environment=state.environment(),
                cwd=state.cwd,
                condition=self.condition,
                nested=self.nested or bare.by,
                writes=writes,
            )
        )
        if words[0].text == "eval" or (re.fullmatch(r"python[\d.]*", basename(words[0].text)) and inputs):
            self.unread.extend([" ".join(word.text for word in words[1:]), *inputs])

    def _shell(self, words: tuple[Word, ...], state: ShellState, inputs: tuple[str, ...]) -> bool:
        """Reads what `sh -c TEXT`, `su USER -c TEXT` or `sh <<EOF` runs; True when *words* are such."""
        name = basename(words[0].text)
        if name not in _SHELLS and name != "su":
            return False
        scripts = list(inputs)
        sure = True
        for option, value in pairwise(words[1:]):
            if re.fullmatch(r"-[a-zA-Z]*c|--command", option.text):
                scripts, sure = [value.text], value.sure
                break
        if not scripts:
            return False
        before, self.state = self.state, state
        for script in scripts:
            self._take(script, nested="" if sure else "a script with unknown variables")
        self.state = before
        return True


def _assigns(token: Token) -> bool:
    return re.match(r"[A-Za-z_]\w*\+?=", token.text) is not None
