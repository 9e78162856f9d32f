"""A name of its own for every main context: BuildKit keeps what it was sent by the context folder's name alone."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from builders.errors import BuildError
from wheelcache.lock import service_slug


def unique_context(folder: Path, real: Path, name: str, *, beside: Sequence[str] = ()) -> Path:
    """Returns a link to *real* below *folder*, whose own name no other context folder has.

    BuildKit takes a file of equal path, size and modification time in a context of an equal folder name for unchanged,
    so of `a/app` and `b/app` the second is built from the first one's files. It sees the link's name, not its target's;
    files, `.dockerignore` and what was sent before under the name are then as for a folder. The name is the same in
    every run, so that only what has changed is sent again.

    Args:
        folder: where the link may stand; only the link's own name matters.
        real: the context.
        name: a part of the name for people, such as the service's; whatever it holds, the link stays in *folder*.
        beside: the folders of the build's named contexts: BuildKit keeps those by their names and this one.

    Raises:
        BuildError: the link cannot be made.
    """
    real = Path(os.path.realpath(real))
    content = os.fsencode("\0".join([str(real), *beside]))
    link = folder / f"{service_slug(name)}-{hashlib.sha256(content).hexdigest()[:12]}"
    try:
        if link.is_symlink() and link.readlink() == real:
            return link
        folder.mkdir(parents=True, exist_ok=True)
        spare = folder / f".{link.name}.{os.getpid()}"
        spare.unlink(missing_ok=True)
        spare.symlink_to(real, target_is_directory=True)
        spare.replace(link)
    except OSError as error:
        raise BuildError(
            f"{link}: expected to make a link to the context {real}: {error.strerror}",
            hint="the folder must allow symbolic links (on Windows: turn on developer mode)",
        ) from error
    return link
