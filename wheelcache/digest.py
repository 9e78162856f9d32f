"""The identity of bytes: `sha256:<64 lowercase hex digits>` (the form of OCI's image-spec, "Digests")."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Final, NewType

Digest = NewType("Digest", str)
"""A string already checked to be `sha256:` and 64 lowercase hex digits."""

_PATTERN: Final = re.compile(r"sha256:[0-9a-f]{64}")


def parse_digest(text: str) -> Digest:
    """Returns the digest that *text* is.

    Args:
        text: `sha256:<hex>`; the hex part may be upper case, as some indexes write it.

    Raises:
        ValueError: *text* is anything else, an unknown algorithm included.
    """
    lowered = text.lower()
    if not _PATTERN.fullmatch(lowered):
        msg = f"expected sha256:<64 hex digits>, found {text[:80]!r}"
        raise ValueError(msg)
    return Digest(lowered)


def hex_of(digest: Digest) -> str:
    """Returns the 64 hex digits of *digest*."""
    return digest.removeprefix("sha256:")


def digest_of_bytes(data: bytes) -> Digest:
    """Returns the digest of *data*."""
    return Digest("sha256:" + hashlib.sha256(data).hexdigest())


def digest_of_json(value: object) -> Digest:
    """Returns the digest of *value* in one canonical JSON form (sorted keys, no spaces, UTF-8)."""
    return digest_of_bytes(json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode())
