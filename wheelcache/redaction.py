"""Takes out of texts what people, logs and terminals are not to see: credentials, control characters."""

from __future__ import annotations

import re
from typing import Final

# Up to the last @: people forget to quote one in a password. What an image reference pins with @ is no host.
_USERINFO: Final = re.compile(r"(?<=://)[^/\s]*@(?!sha256:)")


def without_userinfo(text: str) -> str:
    """Returns *text* without the user part of every URL in it (RFC 3986, section 3.2.1)."""
    return _USERINFO.sub("", text)


def printable_lines(text: str) -> str:
    """Returns lines as a terminal may have them: names of files, and of what servers sent, are in them."""
    return "\n".join(printable(line) for line in text.split("\n"))


def printable(text: str) -> str:
    """Returns *text* with an escape in place of every character that would not be seen, or would move what is."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
