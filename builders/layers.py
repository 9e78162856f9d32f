"""An image's layers: how large each is and what made it, from what the engine tells of the image and its history."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

LAYERING: Final = frozenset({"RUN", "COPY", "ADD", "WORKDIR"})
"""The instructions that make a layer, be it an empty one."""

_KEY_DIGITS: Final = 16
_CLASSIC: Final = re.compile(r"(?:\|\d+ .*)?/bin/sh -c (#\(nop\) )?", re.DOTALL)
"""How builders before BuildKit wrote instructions down: with a shell that runs them, or does nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageLayer:
    """A layer of an image.

    Attributes:
        key: of the layer and all those below it (OCI image-spec, "Layer ChainID"), cut; engines keep layers by it.
        size: bytes.
        keyword: of the instruction that made it; empty where nobody says.
    """

    key: str
    size: int
    keyword: str


def image_layers(diff_ids: Sequence[str], history: Sequence[Mapping[str, Any]]) -> tuple[ImageLayer, ...]:
    """Returns an image's layers, the lowest first; none where the history does not say which is which.

    Args:
        diff_ids: as the engine's API lists them (`RootFS.Layers`), the lowest first.
        history: as the engine's API gives it (`GET /images/{name}/history`), the newest first. It does not say which
            entries made a layer, but a layer has bytes or one of four instructions made it.
    """
    entries = [(int(entry.get("Size") or 0), _keyword(str(entry.get("CreatedBy") or ""))) for entry in history[::-1]]
    candidates = [
        [(size, keyword) for size, keyword in entries if size or keyword in LAYERING],
        [(size, keyword) for size, keyword in entries if size],
    ]
    made = next((found for found in candidates if len(found) == len(diff_ids)), [])
    layers, chain = [], ""
    for diff_id, (size, keyword) in zip(diff_ids, made, strict=False):
        chain = f"sha256:{hashlib.sha256(f'{chain} {diff_id}'.encode()).hexdigest()}" if chain else diff_id
        layers.append(ImageLayer(key=chain.removeprefix("sha256:")[:_KEY_DIGITS], size=size, keyword=keyword))
    return tuple(layers)


def _keyword(created_by: str) -> str:
    classic = _CLASSIC.match(created_by)
    if classic is not None and classic[1] is None:
        return "RUN"
    words = created_by[classic.end() if classic is not None else 0 :].split(maxsplit=1)
    return words[0] if words else ""
