"""Reads the options of pip's and uv's command lines with the parser that pip itself uses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from optparse import SUPPRESS_HELP, OptionConflictError, OptionParser
from typing import NoReturn


class OptionsError(ValueError):
    """A command line that the described program would refuse, or that is newer than the description."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """A command line, taken apart.

    Attributes:
        values: by the option's first long name, what was given, in order.
        flags: the long names of the options without a value.
        operands: everything else.
    """

    values: Mapping[str, tuple[str, ...]]
    flags: frozenset[str]
    operands: tuple[str, ...]

    def all(self, name: str) -> tuple[str, ...]:
        """Returns every value of an option."""
        return self.values.get(name, ())

    def last(self, name: str) -> str:
        """Returns an option's last value; empty where it was not given."""
        return self.values[name][-1] if self.values.get(name) else ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Grammar:
    """The options a program knows, each as its spellings, the first of which is its name here.

    Attributes:
        valued: options that take a value.
        flags: options that take none.
        stops: True when the first operand ends the options (a subcommand follows).
    """

    valued: tuple[str, ...]
    flags: tuple[str, ...]
    stops: bool = False

    def read(self, arguments: Sequence[str]) -> Options:
        """Takes *arguments* apart.

        Raises:
            OptionsError: an option is unknown or lacks its value.
        """
        found, operands = _parser(self).parse_args(list(arguments))
        values = {name: tuple(value) for name, value in vars(found).items() if isinstance(value, list)}
        flags = frozenset(name for name, value in vars(found).items() if value is True)
        return Options(values=values, flags=flags, operands=tuple(operands))


@cache  # a grammar is read for every line of every requirements file
def _parser(grammar: Grammar) -> OptionParser:
    parser = _Parser(add_help_option=False, usage=SUPPRESS_HELP)
    if grammar.stops:
        parser.disable_interspersed_args()
    _add(parser, grammar.valued, "append")
    _add(parser, grammar.flags, "store_true")
    return parser


def _add(parser: OptionParser, options: Iterable[str], action: str) -> None:
    for spellings in options:
        names = spellings.split()
        dest = next(name for name in names if name.startswith("--")).removeprefix("--")
        try:
            parser.add_option(*names, action=action, dest=dest)
        except OptionConflictError as error:  # a defect of the grammar, not of the command line
            raise AssertionError(spellings) from error


class _Parser(OptionParser):
    """Raises where optparse would end the process."""

    def error(self, msg: str) -> NoReturn:
        raise OptionsError(msg)
