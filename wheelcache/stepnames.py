"""Build steps' names as people know them: without the words that we put in."""

from __future__ import annotations

import re
from typing import Final

_OPTIONS: Final = re.compile(r" --(?:mount|network)=\S+")


def plain_step(name: str) -> str:
    """Returns the name of a build step without its mounts and its network, which are mostly ours, on one line."""
    return " ".join(_OPTIONS.sub("", name).split())
