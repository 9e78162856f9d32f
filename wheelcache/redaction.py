"""Takes credentials out of texts that people, logs and files get to see."""

from __future__ import annotations

import re
from typing import Final

# Up to the last @: people forget to quote one in a password. What an image reference pins with @ is no host.
_USERINFO: Final = re.compile(r"(?<=://)[^/\s]*@(?!sha256:)")


def without_userinfo(text: str) -> str:
    """Returns *text* without the user part of every URL in it (RFC 3986, section 3.2.1)."""
    return _USERINFO.sub("", text)
