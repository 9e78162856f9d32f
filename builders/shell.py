"""Reads the shell text of a RUN into the simple commands it runs, and says what it is not sure of."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import pairwise, takewhile
from posixpath import basename, join, normpath
from typing import Final, Literal

from builders import shellsyntax as tree
from builders.shellcommand import Command, Files, Script
from builders.shellstate import ShellState
from builders.shelltests import Status, decide, found_by_grep, joined
from builders.shellwords import ASSIGNMENT, Word, expand_assignment, expand_word
from builders.wrappers import unwrap

SHELLS: Final = frozenset({"sh", "bash", "dash", "ash", "zsh", "ksh"})
_TESTS: Final = frozenset({"[", "[[", "test"})
_CERTAIN: Final[Mapping[str, Status]] = {"true": "true", ":": "true", "false": "false"}
_ASKING: Final = frozenset({"command", "which", "type", "grep", "cmp", "diff", "hash"})
"""Commands that people run for their exit status."""

_ASSIGNS: Final = re.compile(r"[A-Za-z_]\w*\+?=")
_LONGEST_LOOP: Final = 100
_MOST_COMMANDS: Final = 2000  # then a loop is followed once more, and a function not at all
_DEEPEST_CALL: Final = 10


def read_script(
    text: str,
    *,
    environment: Mapping[str, str | None],
    cwd: str | None,
    complete: bool = False,
    files: Files | None = None,
    outputs: Mapping[str, str] | None = None,
) -> Script:
    """Reads shell text.

    Args:
        text: the script.
        environment: variables as they are when it starts; None as a value for one not known.
        cwd: where it starts.
        complete: True when a variable absent from *environment* is known to be unset.
        files: what is known of the files it sees; the scripts among them that it runs are read as well.
        outputs: what commands in a `$(…)` print, by command.
    """
    state = ShellState(
        variables=dict(environment),
        cwd=cwd,
        exported=set(environment),
        complete=complete,
        outputs=outputs or {},
    )
    walker = _Walker(state, files or Files())
    walker.script(text, "")
    return Script(commands=tuple(walker.commands), unread=tuple(walker.unread))


def read_words(
    words: tuple[str, ...], *, environment: Mapping[str, str | None], cwd: str | None, files: Files | None = None
) -> Script:
    """Reads an exec form: one command without a shell."""
    state = ShellState(variables=dict(environment), cwd=cwd, exported=set(environment), complete=False)
    walker = _Walker(state, files or Files())
    walker.run(tuple(Word(text=word) for word in words), {}, _Streams(), "")
    return Script(commands=tuple(walker.commands), unread=tuple(walker.unread))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Streams:
    """Where a command's output goes, and the texts that it reads."""

    writes: tuple[Word, ...] = ()
    inputs: tuple[str, ...] = ()


class _Walker:
    """Runs a script's tree in thought, and notes each command that runs or may run.

    Each method takes a *condition*: empty, or why what it is given may not run.
    """

    def __init__(self, state: ShellState, files: Files, *, nested: str = "") -> None:
        self.state = state
        self.files = files
        self.nested = nested
        self.commands: list[Command] = []
        self.unread: list[str] = []
        self.functions: dict[str, tree.Command] = {}
        self.calls = 0
        self.feeding: tuple[Word, ...] = ()
        self.left: Literal["", "loop", "function", "script"] = ""
        self.doubt = ""

    def script(self, text: str, condition: str) -> Status:
        return self._sequence(tree.parse_script(text), condition, is_all=True)

    def _sequence(self, sequence: tree.Sequence, condition: str, *, is_all: bool = False) -> Status:
        status: Status = "assumed"
        for item in sequence.items:
            if self.left:
                break
            # Where nothing follows, a test that fails fails the build: what stands behind it runs in every image.
            status = self._and_or(item, condition or self.doubt, is_last=is_all and item is sequence.items[-1])
        return status

    def _and_or(self, item: tree.AndOr, condition: str, *, is_last: bool) -> Status:
        is_last = is_last and all(operator != "||" for operator, _ in item.parts)
        status: Status = "true"
        for operator, pipeline in item.parts:
            if self.left or status in {"&&": {"false", "fatal"}, "||": {"true", "fatal"}}.get(operator, ()):
                continue
            why = ""
            if operator == "||" and status != "false":
                why = "it stands after ||"
            elif operator == "&&" and status == "unknown" and not is_last:
                why = "it depends on a test"
            new = self._guarded(pipeline, condition, why)
            status = joined(operator, status, new)
        return status

    def _guarded(self, node: tree.Sequence | tree.Pipeline, condition: str, why: str) -> Status:
        """Runs *node*; with a *why* it may not run, and so whatever it changes is not known afterwards."""
        run = condition or why
        if not why:
            return self._pipeline(node, run) if isinstance(node, tree.Pipeline) else self._sequence(node, run)
        before = self.state.copy()
        status = self._guarded(node, run, "")
        self.state.blur(before)
        if self.left:
            self.doubt = self.doubt or "the script may have ended before"
            self.left = ""
        return status

    def _pipeline(self, pipeline: tree.Pipeline, condition: str) -> Status:
        status: Status = "assumed"
        if len(pipeline.commands) == 1:
            status = self._command(pipeline.commands[0], condition)
        else:
            before = self.state
            for command in pipeline.commands:
                self.state = before.copy()
                status = self._command(command, condition)
                self.feeding = self.commands[-1].words if self.commands else ()
            self.state, self.feeding = before, ()
            status = "false" if status == "fatal" else status
        if pipeline.negated:
            opposite: dict[Status, Status] = {"true": "false", "false": "true", "fatal": "fatal"}
            return opposite.get(status, "unknown")
        return status

    def _command(self, command: tree.Command, condition: str) -> Status:
        if isinstance(command, tree.Simple):
            return self._simple(command, condition)
        if (streams := self._streams(command.redirects)).writes:
            self._note((Word(text=":"),), self.state, streams, condition)
        return self._compound(command.command, condition)

    def _compound(
        self, command: tree.If | tree.While | tree.For | tree.Case | tree.Group | tree.Function, condition: str
    ) -> Status:
        status: Status = "assumed"
        match command:
            case tree.If():
                self._if(command, condition)
            case tree.While():
                self._while(command, condition)
            case tree.For():
                self._for(command, condition)
            case tree.Case():
                self._case(command, condition)
            case tree.Function():
                self.functions[command.name] = command.body
            case tree.Group():
                before = self.state.copy()
                status = self._sequence(command.body, condition)
                if command.is_subshell:
                    self.state, self.left = before, ""
                    status = "false" if status == "fatal" else status
        return status

    def _if(self, command: tree.If, condition: str) -> None:
        why = ""
        for test, body in command.branches:
            status = self._guarded(test, condition, why)
            if status == "false":
                continue
            sure = status == "true"
            why = why if sure else "it stands in an if"
            self._guarded(body, condition, why)
            if sure:
                return
        self._guarded(command.otherwise, condition, why)

    def _while(self, command: tree.While, condition: str) -> None:
        status = self._sequence(command.condition, condition)
        if status == ("true" if command.negated else "false"):
            return
        why = "" if status in {"true", "false"} else "it stands in a while loop"
        self._guarded(command.body, condition, why)
        self._leave("loop")

    def _for(self, command: tree.For, condition: str) -> None:
        words = [word for token in command.words or () for word in expand_word(token, self.state.lookup)]
        for word in words:
            self._read_nested(word, condition)
        is_short = len(words) <= _LONGEST_LOOP and len(self.commands) < _MOST_COMMANDS
        is_known = is_short and all(word.sure and not word.has_glob for word in words)
        rounds = [word.text for word in words] if is_known and command.words is not None else [None]
        for value in rounds:
            self.state.variables[command.name] = value
            self._sequence(command.body, condition)
            if self.left:
                break
        self._leave("loop")

    def _leave(self, what: str) -> None:
        self.left = "" if self.left == what else self.left

    def _case(self, command: tree.Case, condition: str) -> None:
        found = expand_word(command.word, self.state.lookup)
        word = found[0] if found else Word(text="")
        is_sure = word.sure
        for patterns, body in command.arms:
            texts = [each for token in patterns for each in expand_word(token, self.state.lookup)]
            matches = any(each.sure and fnmatchcase(word.text, each.text) for each in texts)
            is_sure = is_sure and all(each.sure for each in texts)
            if is_sure and not matches:
                continue
            self._guarded(body, condition, "" if is_sure else "it stands in a case")
            if is_sure:
                break

    def _simple(self, command: tree.Simple, condition: str) -> Status:
        assigned: dict[str, str | None] = {}
        leading = list(takewhile(lambda token: _ASSIGNS.match(token.text), command.tokens))
        for token in leading:
            word = expand_assignment(token, self.state.lookup)
            if match := ASSIGNMENT.fullmatch(word.text):
                assigned[match[1]] = self.state.assigned(match, sure=word.sure)
            self._read_nested(word, condition)
        words = [word for token in command.tokens[len(leading) :] for word in expand_word(token, self.state.lookup)]
        for word in words:
            self._read_nested(word, condition)
        return self.run(tuple(words), assigned, self._streams(command.redirects), condition)

    def _streams(self, redirects: tuple[tree.Redirect, ...]) -> _Streams:
        writes: list[Word] = []
        inputs: list[str] = []
        for token, target in redirects:
            if token.text in {">", ">>", ">|"}:
                writes.extend(expand_word(target, self.state.lookup))
            inputs.extend(token.content)
        return _Streams(writes=tuple(writes), inputs=tuple(inputs))

    def _read_nested(self, word: Word, condition: str) -> None:
        for text in word.commands:
            self._take(text, condition, nested="$(…)")

    def _take(self, text: str, condition: str, *, nested: str = "") -> None:
        """Reads a script inside this one; what it changes stays inside."""
        inner = _Walker(self.state.copy(), self.files, nested=nested or self.nested)
        inner.functions, inner.calls = dict(self.functions), self.calls + 1
        inner.script(text, condition)
        self.commands.extend(inner.commands)
        self.unread.extend(inner.unread)

    def run(
        self, words: tuple[Word, ...], assigned: Mapping[str, str | None], streams: _Streams, condition: str
    ) -> Status:
        """Notes one simple command, or does what a builtin does to the shell's own state."""
        if not words:
            self.state.variables.update(assigned)
            return "assumed"
        functions = self.functions if self.calls < _DEEPEST_CALL and len(self.commands) < _MOST_COMMANDS else {}
        if words[0].sure and words[0].text in functions:
            return self._call(words, condition)
        bare = unwrap(_found_program(words))
        words, assigned = bare.words, {**assigned, **bare.assigned}
        state = self.state.copy()
        state.variables.update(assigned)
        state.exported.update(assigned)
        if not words or self.state.run_builtin(words) or self._shell(words, state, streams.inputs, condition):
            return "assumed"
        if words[0].text in {".", "source"} and words[1:] and (text := self._text(words[1])) is not None:
            return self.script(text, condition)
        self._note(words, state, streams, condition, by=bare.by)
        return self._ended(words, streams, condition)

    def _note(
        self, words: tuple[Word, ...], state: ShellState, streams: _Streams, condition: str, *, by: str = ""
    ) -> None:
        self.commands.append(
            Command(
                words=words,
                environment=state.environment(),
                cwd=state.cwd,
                condition=condition,
                nested=self.nested or by,
                writes=streams.writes,
                feeding=self.feeding,
                inputs=streams.inputs,
            )
        )

    def _call(self, words: tuple[Word, ...], condition: str) -> Status:
        """Runs a function of the script's own."""
        before = self.state.take_arguments(words[1:])
        self.calls += 1
        status = self._command(self.functions[words[0].text], condition)
        self.calls -= 1
        self._leave("function")
        self.state.variables.update(before)
        return status

    def _ended(self, words: tuple[Word, ...], streams: _Streams, condition: str) -> Status:
        """Returns how a command ends, as far as it is known."""
        name = words[0].text
        if name in _TESTS or name == "grep":
            found = decide(words, self._is_there) if name in _TESTS else found_by_grep(words, self.feeding)
            return "unknown" if found is None else "true" if found else "false"
        if name == "eval" and all(word.sure for word in words):
            return self.script(" ".join(word.text for word in words[1:]), condition)
        if name == "eval":
            self.unread.append(" ".join(word.text for word in words[1:]))
        if re.fullmatch(r"python[\d.]*", basename(name)):
            self.unread.extend(streams.inputs)
        self._jump(words, condition)
        if name == "exit" and words[1:] and words[1].sure and re.fullmatch(r"0*[1-9]\d*", words[1].text):
            return "fatal"
        return _CERTAIN.get(name, "unknown" if name in _ASKING else "assumed")

    def _jump(self, words: tuple[Word, ...], condition: str) -> None:
        """Notes what ends a loop, a function or the script."""
        match words[0].text:
            case "exit" | "return" if condition and (len(words) == 1 or words[1].text != "0"):
                pass  # the build fails there, or it goes on
            case "exit":
                self.left = "script"
            case "return":
                self.left = "function"
            case "break":
                self.left = "loop"

    def _is_there(self, path: str) -> bool | None:
        return None if self.state.cwd is None else self.files.exists(normpath(join(self.state.cwd, path)))

    def _text(self, word: Word) -> str | None:
        """Returns the text of a shell script that *word* names; None where nobody can tell."""
        if not word.sure or self.state.cwd is None or self.calls >= _DEEPEST_CALL:
            return None
        text = self.files.text(normpath(join(self.state.cwd, word.text)))
        return text if text is not None and is_shell_script(text) else None

    def _shell(self, words: tuple[Word, ...], state: ShellState, inputs: tuple[str, ...], condition: str) -> bool:
        """Reads what `sh -c TEXT`, `su USER -c TEXT`, `sh FILE`, `./FILE` or `sh <<EOF` runs; True for such *words*."""
        name = basename(words[0].text)
        file = next((word for word in words[1:] if word.text[:1] not in {"-", "+"}), None) if name in SHELLS else None
        file = words[0] if "/" in words[0].text and name not in SHELLS else file
        text = self._text(file) if file is not None else None
        if text is None and name not in SHELLS and name != "su":
            return False
        scripts = [*inputs, *([text] if text is not None else [])]
        sure = True
        for option, value in pairwise(words[1:]):
            if re.fullmatch(r"-[a-zA-Z]*c|--command", option.text):
                scripts, sure = [value.marked("${?}")], value.sure
                break
        if not scripts:
            return False
        before, self.state = self.state, state
        for script in scripts:
            self._take(script, condition, nested="" if sure else "a script with unknown variables")
        self.state = before
        return True


def _found_program(words: tuple[Word, ...]) -> tuple[Word, ...]:
    """Returns *words* with NAME for a program written as `$(which NAME)`, or for one that Python is to run."""
    at = 1 if words[1:] and re.fullmatch(r"python[\d.]*", basename(words[0].text)) else 0
    names = (re.fullmatch(r"(?:which|command -v|type -p)\s+([\w./-]+)", text.strip()) for text in words[at].commands)
    name = next((match[1] for match in names if match), "")
    return (*words[:at], Word(text=name), *words[at + 1 :]) if name and not words[at].text else words


def is_shell_script(text: str) -> bool:
    """True when *text* has the first line of a shell script, or none."""
    first = text.split("\n", 1)[0]
    if not first.startswith("#!"):
        return True
    words = [basename(word) for word in first[2:].split()]
    return bool(SHELLS & set(words[:2] if words[:1] == ["env"] else words[:1]))
