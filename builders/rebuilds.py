"""Says why a service would be built anew: what changed since the build that is recorded."""

from __future__ import annotations

import os
from typing import Final

from builders.changes import changes
from builders.contextnews import context_news
from builders.engine import Engine
from builders.preparing import Prepared
from wheelcache.runs import Basis, ServiceRun

_NAMED: Final = 3
"""As many files as a sentence names."""

NOTHING: Final = "nothing changed"


def reasons(
    prepared: Prepared, now: Basis, *, done: ServiceRun | None, last: ServiceRun | None, engine: Engine
) -> tuple[str, ...]:
    """Returns why *prepared* would be built anew, a sentence each; that nothing changed is a sentence too.

    Whether a file of the context matters is BuildKit's to judge, which compares what it is given byte for byte.

    Args:
        prepared: the service.
        now: what it is made from now.
        done: its last build that made an image; None where none is recorded.
        last: its last build, whatever came of it.
        engine: may have lost its image.
    """
    failed = [f"its last build failed: {last.fault}"] if last is not None and last.state == "failed" else []
    if done is None or done.basis is None:
        return (*failed, "no build of it is recorded")
    service = prepared.reading.service
    found = engine.image_id(service.images[0])
    if found is None:
        failed.append(f"{service.images[0]} is not in the engine")
    elif found != done.image_id:
        failed.append(f"{service.images[0]} is not the image that was built here last")
    dockerfile = service.dockerfile.name if service.dockerfile is not None else "dockerfile_inline"
    told = [*failed, *changes(done.basis, now, dockerfile=dockerfile), *_context(prepared, now, since=done.at)]
    return tuple(told) or (NOTHING,)


def _context(prepared: Prepared, now: Basis, *, since: float) -> list[str]:
    """Returns a sentence about the files of its context, those left out that the basis tells of."""
    service = prepared.reading.service
    news = context_news(service.context, service.dockerfile, since=since)
    known = {*now.files, *([os.path.relpath(service.dockerfile, service.context)] if service.dockerfile else [])}
    files = [name for name in news.files if name not in known]
    sentences = []
    if files:
        more = f", and {len(files) - _NAMED} more" if len(files) > _NAMED else ""
        sentences.append(f"app files changed: {', '.join(files[:_NAMED])}{more} (BuildKit decides what of it matters)")
    if not news.is_whole:
        sentences.append("files of its context may have changed: BuildKit decides")
    return sentences
