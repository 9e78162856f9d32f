"""Writes the configuration files that a build mounts for pip and uv."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

WHEELS: Final = "/wheelcache"
"""Where a RUN finds its wheels."""

PIP_CONF: Final = "/etc/pip.conf"
"""pip's global configuration file; `pip --isolated` reads it too."""

UV_TOML: Final = "/etc/uv/uv.toml"
"""uv's system-level configuration file."""


def pip_conf(
    *,
    sealed: bool,
    timeout: float,
    retries: int = 3,
    index_url: str = "",
    extra_index_urls: Sequence[str] = (),
) -> str:
    """Returns the text for /etc/pip.conf (pip's "Configuration Files").

    Args:
        sealed: True to make pip ignore every index.
        timeout: seconds without a byte.
        retries: of each connection, when online.
        index_url: for online builds; empty for pip's default. May hold credentials, so the text is a secret.
        extra_index_urls: for online builds.

    Raises:
        ValueError: a URL has a blank or a line end in it.
    """
    _refuse_breaks(index_url, *extra_index_urls)
    lines = ["[global]", f"find-links = {WHEELS}", f"constraint = {WHEELS}/constraints.txt"]
    lines += ["disable-pip-version-check = true", f"timeout = {timeout:g}"]
    if sealed:
        lines += ["no-index = true", "retries = 0"]
    else:
        lines.append(f"retries = {retries}")
        lines += [f"index-url = {index_url}"] if index_url else []
        lines += ["extra-index-url ="] + [f"    {url}" for url in extra_index_urls] if extra_index_urls else []
    return "\n".join(lines) + "\n"


def uv_toml(
    *,
    sealed: bool,
    constraints: Sequence[str] = (),
    index_url: str = "",
    extra_index_urls: Sequence[str] = (),
) -> str:
    """Returns the text for /etc/uv/uv.toml (uv's "Settings"); uv takes its timeout from UV_HTTP_TIMEOUT alone.

    Args:
        sealed: True to make uv ignore every index and the network.
        constraints: PEP 508 requirements; uv has no setting for a file of them.
        index_url: for online builds; empty for uv's default. May hold credentials, so the text is a secret.
        extra_index_urls: for online builds.
    """
    lines = [f"find-links = {_toml([WHEELS])}"]
    if constraints:
        lines.append(f"constraint-dependencies = {_toml(constraints)}")
    if sealed:
        lines += ["no-index = true", "offline = true"]
    else:
        lines += [f"index-url = {_toml(index_url)}"] if index_url else []
        lines += [f"extra-index-url = {_toml(extra_index_urls)}"] if extra_index_urls else []
    return "\n".join(lines) + "\n"


def _refuse_breaks(*urls: str) -> None:
    """Keeps a value from adding settings of its own; pip reads values raw, so `%` needs no care."""
    for url in urls:
        if any(char.isspace() for char in url):
            msg = "an index URL: expected no blanks or line ends in it"
            raise ValueError(msg)


def _toml(value: str | Sequence[str]) -> str:
    """Writes a string, or a list of them; JSON's form of both is TOML's as well (TOML 1.0, "String")."""
    return json.dumps(value if isinstance(value, str) else list(value))
