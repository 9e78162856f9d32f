"""Follows `pip config set`, whose values later commands find in pip's configuration files."""

from __future__ import annotations

from typing import Final

from builders.pipcommand import recognise_call, subcommand_of
from builders.shellcommand import Command

_HIDDEN: Final = frozenset({"find-links", "no-index", "constraint"})
"""What a file mounted at /etc/pip.conf hides when it was set there."""


def settings_made_by(command: Command) -> dict[str, str | None]:
    """Returns what `pip config set` changes, as the variables that would have the same effect.

    Args:
        command: a simple command; any but `pip config set` changes nothing.
    """
    call = recognise_call(command)
    subcommand, arguments, _ = subcommand_of(call) if call and call.tool == "pip" else ("", (), None)
    words = [word for word in arguments if not word.startswith("-")]
    if subcommand != "config" or words[:1] != ["set"] or len(words) < 3:  # noqa: PLR2004 - set NAME VALUE
        return {}
    name = words[1].rpartition(".")[2].lower().replace("_", "-")
    if "--global" in arguments and name in _HIDDEN:
        return {}
    return {f"PIP_{name.upper().replace('-', '_')}": words[2] if command.is_sure else None}
