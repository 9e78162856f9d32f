"""Builds the tree of a shell script (POSIX.1-2024, XCU 2.9) from its tokens; never fails, whatever the text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from builders.shellwords import Token, literal, tokens_of

_ENDS: Final = frozenset({"then", "else", "elif", "fi", "do", "done", "esac", "}"})
_SEPARATORS: Final = frozenset({";", "&", "\n"})
_ARM_ENDS: Final = frozenset({";;", ";&", ";;&"})
_DEEPEST: Final = 50
_ASSIGNS: Final = re.compile(r"[A-Za-z_]\w*\+?=")

Redirect = tuple[Token, Token]
"""An operator such as `>` and its target."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Simple:
    """A simple command: assignments and words, not yet expanded."""

    tokens: tuple[Token, ...]
    redirects: tuple[Redirect, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class If:
    """`if`: pairs of a condition and what runs when it holds, and what runs when none does."""

    branches: tuple[tuple[Sequence, Sequence], ...]
    otherwise: Sequence


@dataclass(frozen=True, kw_only=True, slots=True)
class While:
    """`while`, or `until` where *negated*."""

    condition: Sequence
    body: Sequence
    negated: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class For:
    """`for` and `select`; *words* is None for one over the arguments, or over arithmetic."""

    name: str
    words: tuple[Token, ...] | None
    body: Sequence


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """`case`: the word, and each arm's patterns and commands."""

    word: Token
    arms: tuple[tuple[tuple[Token, ...], Sequence], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """`{ … }`, or `( … )` where it is a subshell of its own."""

    body: Sequence
    is_subshell: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Function:
    """A function's definition."""

    name: str
    body: Command


@dataclass(frozen=True, kw_only=True, slots=True)
class Compound:
    """A compound command and its redirections."""

    command: If | While | For | Case | Group | Function
    redirects: tuple[Redirect, ...]


Command = Simple | Compound


@dataclass(frozen=True, kw_only=True, slots=True)
class Pipeline:
    """Commands joined by `|`, perhaps after a `!`."""

    commands: tuple[Command, ...]
    negated: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class AndOr:
    """Pipelines joined by `&&` and `||`, each with the operator before it; the first one's is empty."""

    parts: tuple[tuple[str, Pipeline], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Sequence:
    """Lists of commands, one after another."""

    items: tuple[AndOr, ...] = ()


def parse_script(text: str) -> Sequence:
    """Returns the tree of a script."""
    return _Parser(tokens_of(text)).script()


class _Parser:
    """Goes through the tokens once; what stands where the grammar has nothing is skipped."""

    def __init__(self, tokens: tuple[Token, ...]) -> None:
        self.tokens = tokens
        self.at = 0
        self.depth = 0

    def script(self) -> Sequence:
        items: list[AndOr] = []
        while self.at < len(self.tokens):
            items += self._sequence().items
            self.at += 1  # a stray `)`, `fi` or `;;`
        return Sequence(items=tuple(items))

    def _operator(self) -> str:
        """The operator that comes next; empty where something else does."""
        token = self.tokens[self.at] if self.at < len(self.tokens) else None
        return token.text if token is not None and token.kind == "operator" else ""

    def _word(self) -> str:
        """The word that comes next, as written."""
        token = self.tokens[self.at] if self.at < len(self.tokens) else None
        return token.text if token is not None and token.kind == "word" else ""

    def _skip(self, *texts: str) -> bool:
        if (self._operator() or self._word()) in texts:
            self.at += 1
            return True
        return False

    def _skip_newlines(self) -> None:
        while self._operator() == "\n":
            self.at += 1

    def _sequence(self) -> Sequence:
        items: list[AndOr] = []
        while self.at < len(self.tokens):
            if self._operator() in _SEPARATORS:
                self.at += 1
            elif self._word() in _ENDS or self._operator() in {")", *_ARM_ENDS}:
                break
            else:
                before = self.at
                items.append(self._and_or())
                self.at += self.at == before
        return Sequence(items=tuple(items))

    def _and_or(self) -> AndOr:
        parts = [("", self._pipeline())]
        while (operator := self._operator()) in {"&&", "||"}:
            self.at += 1
            self._skip_newlines()
            parts.append((operator, self._pipeline()))
        return AndOr(parts=tuple(parts))

    def _pipeline(self) -> Pipeline:
        negated = False
        while self._word() in {"!", "time", "coproc"}:
            negated ^= self._word() == "!"
            self.at += 1
        commands = [self._command()]
        while self._skip("|", "|&"):
            self._skip_newlines()
            commands.append(self._command())
        return Pipeline(commands=tuple(commands), negated=negated)

    def _command(self) -> Command:
        compounds: dict[str, Callable[[], If | While | For | Case | Group | Function]] = {
            "if": self._if,
            "while": self._while,
            "until": self._while,
            "for": self._for,
            "select": self._for,
            "case": self._case,
            "{": self._group,
            "function": self._function,
        }
        read = self._group if self._operator() == "(" else compounds.get(self._word())
        if read is None or self.depth > _DEEPEST:
            return self._simple()
        self.depth += 1
        command = read()
        self.depth -= 1
        redirects: list[Redirect] = []
        while (redirect := self._redirect()) is not None:
            redirects.append(redirect)
        return Compound(command=command, redirects=tuple(redirects))

    def _simple(self) -> Command:
        tokens: list[Token] = []
        redirects: list[Redirect] = []
        if self._word() == "[[":
            tokens += self._double_bracket()
        while self.at < len(self.tokens):
            redirect = self._redirect()
            if redirect is not None:
                redirects.append(redirect)
            elif self.tokens[self.at].kind == "word":
                tokens.append(self.tokens[self.at])
                self.at += 1
            elif self._operator() == "(" and tokens and _ASSIGNS.fullmatch(tokens[-1].text):
                tokens[-1] = replace(tokens[-1], items=tuple(self._items()))
            elif self._operator() == "(" and len(tokens) == 1 and self._operator_at(1) == ")":
                self.at += 2
                self._skip_newlines()
                body = self._command()
                return Compound(command=Function(name=tokens[0].text, body=body), redirects=())
            else:
                break
        return Simple(tokens=tuple(tokens), redirects=tuple(redirects))

    def _items(self) -> Iterator[Token]:
        """Takes the words of an array, `( … )`."""
        self.at += 1
        while self.at < len(self.tokens) and not self._skip(")"):
            if self.tokens[self.at].kind == "word":
                yield self.tokens[self.at]
            self.at += 1

    def _double_bracket(self) -> Iterator[Token]:
        """Takes `[[ … ]]`, in which `&&`, `<` and parentheses are words."""
        while self.at < len(self.tokens) and self._operator() not in _SEPARATORS:
            token = self.tokens[self.at]
            self.at += 1
            yield token if token.kind == "word" else literal(token.text)
            if token.text == "]]":
                return

    def _operator_at(self, distance: int) -> str:
        self.at += distance
        found = self._operator()
        self.at -= distance
        return found

    def _redirect(self) -> Redirect | None:
        if self.at >= len(self.tokens) or self.tokens[self.at].kind != "redirect":
            return None
        self.at += 2
        return (self.tokens[self.at - 2], self.tokens[self.at - 1]) if self.at <= len(self.tokens) else None

    def _if(self) -> If:
        branches: list[tuple[Sequence, Sequence]] = []
        otherwise = Sequence()
        while self._skip("if", "elif"):
            condition = self._sequence()
            self._skip("then")
            branches.append((condition, self._sequence()))
        if self._skip("else"):
            otherwise = self._sequence()
        self._skip("fi")
        return If(branches=tuple(branches), otherwise=otherwise)

    def _while(self) -> While:
        negated = self._word() == "until"
        self.at += 1
        condition = self._sequence()
        return While(condition=condition, body=self._do(), negated=negated)

    def _do(self) -> Sequence:
        self._skip("do")
        body = self._sequence()
        self._skip("done")
        return body

    def _for(self) -> For:
        self.at += 1
        name = self._word()
        self.at += bool(name)
        self._skip_newlines()
        words: tuple[Token, ...] | None = None
        if self._skip("in"):
            start = self.at
            while self._word():
                self.at += 1
            words = self.tokens[start : self.at]
        while self.at < len(self.tokens) and self._word() not in {"do", "{"}:  # arithmetic, or what is not understood
            self.at += 1
        return For(name=name, words=words, body=self._group().body if self._word() == "{" else self._do())

    def _case(self) -> Case:
        self.at += 1
        word = self.tokens[self.at] if self._word() else Token(kind="word", text="")
        self.at += bool(self._word())
        self._skip_newlines()
        self._skip("in")
        arms: list[tuple[tuple[Token, ...], Sequence]] = []
        while self.at < len(self.tokens):
            self._skip_newlines()
            if self._skip("esac"):
                break
            self._skip("(")
            patterns: list[Token] = []
            while self._word() or self._operator() == "|":
                if self._word():
                    patterns.append(self.tokens[self.at])
                self.at += 1
            if not self._skip(")"):
                break
            arms.append((tuple(patterns), self._sequence()))
            self._skip(*_ARM_ENDS)
        return Case(word=word, arms=tuple(arms))

    def _group(self) -> Group:
        is_subshell = self._operator() == "("
        self.at += 1
        body = self._sequence()
        self._skip(")" if is_subshell else "}")
        return Group(body=body, is_subshell=is_subshell)

    def _function(self) -> Function:
        self.at += 1
        name = self._word()
        self.at += bool(name)
        if self._skip("("):
            self._skip(")")
        self._skip_newlines()
        return Function(name=name, body=self._command())
