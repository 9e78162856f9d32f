"""Reads the `--mount` options of a RUN (Dockerfile reference, "RUN --mount")."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from posixpath import join, normpath
from typing import Final

from builders.expansion import Lookup, expand

_LONG: Final = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly", "rw": "readwrite"}
_TYPES: Final[Mapping[str, frozenset[str]]] = {
    "bind": frozenset(),
    "cache": frozenset({"sharing", "mode", "uid", "gid"}),
    "secret": frozenset({"required", "mode", "uid", "gid", "env"}),
    "ssh": frozenset({"required", "mode", "uid", "gid"}),
    "tmpfs": frozenset({"size"}),
}
"""By type: the options that it has beside those of all."""

_ALL: Final = frozenset({"type", "from", "source", "target", "id", "readonly", "readwrite"})
_SWITCHES: Final = frozenset({"readonly", "readwrite", "required"})
_BOOLEANS: Final = frozenset({"1", "t", "true", "0", "f", "false"})
_SHARING: Final = frozenset({"shared", "private", "locked"})


def mount_options(mount: str) -> dict[str, str]:
    """Returns the options of a `--mount=` value under their long names."""
    return {"type": "bind", **{name: value for name, _, value in _fields(mount)}}


def mount_problems(mount: str, lookup: Lookup, *, workdir: str) -> Iterator[str]:
    """Yields what BuildKit refuses in a `--mount=` value.

    Args:
        mount: as written.
        lookup: tells a variable's value.
        workdir: where a relative target begins.

    Raises:
        ExpansionError: a value cannot be expanded.
    """
    fields = _fields(mount)
    options = {"type": "bind", **{name: expand(value, lookup).text for name, _, value in fields}}
    kind = options["type"].lower()
    if kind not in _TYPES:
        yield f"unknown type {kind!r}"
        return
    for name, equals, _ in fields:
        if name not in _ALL | _TYPES[kind]:
            yield f"expected an option of the type {kind}, found {name!r}"
        elif not equals and name not in _SWITCHES:
            yield f"{name}: expected a value, found none"
        elif equals and name in _SWITCHES and options[name].lower() not in _BOOLEANS:
            yield f"{name}: expected true or false, found {options[name]!r}"
    if options.get("sharing", "shared").lower() not in _SHARING:
        yield f"sharing: expected shared, private or locked, found {options['sharing']!r}"
    if kind in {"bind", "cache", "tmpfs"} and not normpath(join(workdir, options.get("target", ""))).strip("/"):
        yield "expected a target below /"
    if kind == "secret" and not {"id", "source", "target"} & set(options):
        yield "expected a secret's id"


def _fields(mount: str) -> list[tuple[str, str, str]]:
    """Returns the long name, `=` and value of each option (RFC 4180 quoting)."""
    parts = [field.partition("=") for field in next(csv.reader([mount]), [])]
    return [(_LONG.get(name.strip().lower(), name.strip().lower()), equals, value) for name, equals, value in parts]
