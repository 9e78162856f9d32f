"""Shows compared runs as a table: for a terminal of any width, and as Markdown for a comment."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from typing import Final

from wheelcache.cli.session import describe_bytes
from wheelcache.comparison import Measure, Row

_HEAD: Final = ("component", "before", "now", "difference")
_LEADING: Final = frozenset({"fetch", "service", "total", "together"})
"""The components that others are parts of."""

_UNLIMITED: Final = 120
"""Columns where no terminal says how many there are."""

_NARROW: Final = 24
"""Columns beside the figures; with fewer, what is longer stands on a line of its own rather than being cut."""

_NARROWEST: Final = 8
"""Columns beside the figures; with fewer there is no table, and everything stands below one another."""

_NOTICED: Final = 0.1
"""Seconds: what differs by less does not differ."""

_MEASURED: Final = 0.5
"""Seconds: of less than these a hundredth says nothing."""

_SHORT: Final = 1.0
"""Seconds from which on a step counts among those that matter."""


def short_rows(rows: Sequence[Row]) -> list[Row]:
    """Returns the rows without the steps that took no time worth telling, now or before."""
    return [
        row
        for row in rows
        if row.kind not in {"step", "source"}
        or any(each and (each.state == "failed" or (each.seconds or 0) >= _SHORT) for each in (row.before, row.now))
    ]


def columns() -> int:
    """Returns how wide a line on stdout may be."""
    if not os.environ.get("COLUMNS") and not sys.stdout.isatty():
        return _UNLIMITED
    return shutil.get_terminal_size().columns


def as_text(rows: Sequence[Row], *, width: int) -> Iterator[str]:
    """Yields the lines of a table no wider than *width*, where the figures alone are not."""
    lines = [(_indented(row), *_cells(row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(_HEAD[1:], *(line[1:] for line in lines), strict=True)]
    room = width - sum(widths) - 2 * len(widths)
    if room < _NARROWEST:
        yield from _stacked(rows, width)
        return
    first = min(room, max(map(len, [_HEAD[0], *(line[0] for line in lines)])))
    for name, *figures in (_HEAD, *lines):
        if len(name) > first < _NARROW:
            yield _cut(name, width)
            name = ""  # noqa: PLW2901 - it stands there already
        aligned = "  ".join(cell.rjust(size) for cell, size in zip(figures, widths, strict=True))
        yield f"{_cut(name, first):<{first}}  {aligned}".rstrip()


def as_markdown(rows: Sequence[Row]) -> Iterator[str]:
    """Yields the lines of a table in GitHub's Markdown."""
    yield f"| {' | '.join(_HEAD)} |"
    yield "| :-- | --: | --: | --: |"
    for row in rows:
        name = _code(row.component) if row.kind in {"step", "source"} else _escaped(row.component)
        name = f"**{name}**" if row.kind in _LEADING else name
        yield f"| {' | '.join([name, *map(_escaped, _cells(row))])} |"


def _stacked(rows: Sequence[Row], width: int) -> Iterator[str]:
    """Yields a component and its figures below one another."""
    for row in rows:
        yield _cut(_indented(row), width)
        indent = " " * (len(_indented(row)) - len(row.component) + 4)
        for word, cell in zip(_HEAD[1:], _cells(row), strict=True):
            if cell:
                yield f"{indent}{word}: {cell}"


def _cells(row: Row) -> tuple[str, str, str]:
    missing = "-" if row.has_before else ""
    before = _measure(row.before) if row.before is not None else missing
    now = _measure(row.now) if row.now is not None else "-"
    return before, now, _difference(row)


def _measure(measure: Measure) -> str:
    seconds = [f"{measure.seconds:.1f} s"] if measure.seconds is not None and measure.state != "cached" else []
    size = [describe_bytes(measure.size)] if measure.size is not None else []
    return ", ".join([*([measure.state] if measure.state else []), *seconds, *size])


def _difference(row: Row) -> str:
    if not row.has_before or row.now is None:
        return "gone" if row.now is None else ""
    if row.before is None:
        return "new"
    parts = []
    if row.seconds is not None and abs(row.seconds) >= _NOTICED:
        is_measured = row.percent is not None and (row.before.seconds or 0.0) >= _MEASURED
        parts.append(f"{row.seconds:+.1f} s" + (f" ({row.percent:+.0f} %)" if is_measured else ""))
    if row.size:
        sign = "+" if row.size > 0 else "-"
        parts.append(f"{sign}{describe_bytes(abs(row.size))}")
    return ", ".join(parts)


def _indented(row: Row) -> str:
    return row.component if row.kind in _LEADING else f"  {row.component}"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: max(0, width - 1)]}…"


def _escaped(text: str) -> str:
    """Returns *text* as Markdown shows it to the letter, inside of a table's cell."""
    return "".join(f"\\{character}" if character in r"\`*_{}[]<>#|~!" else character for character in text)


def _code(text: str) -> str:
    """Returns *text* as code; in a table a bar must be escaped even there (GitHub Flavored Markdown, "Tables")."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if longest else ""
    shown = text.replace("|", "\\|")
    return f"{fence}{pad}{shown}{pad}{fence}"
