"""What `wheelcache prune --images` does: images that no known project is built with any more."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wheelcache.cli.services import open_yard
from wheelcache.cli.session import Session, describe_bytes
from wheelcache.config import find_project_file, load_project
from wheelcache.errors import WheelcacheError
from wheelcache.lock import parse_lockfile

if TYPE_CHECKING:
    from builders.enginevalues import EngineImage
    from builders.preparing import Prepared
    from wheelcache.rootfiles import ProjectRoot


class _UnknownPlanError(Exception):
    """What a project is built with cannot be told."""


def check_engine(session: Session) -> None:
    """Makes sure that an engine answers before anything is removed.

    Raises:
        EngineError: none does.
    """
    with open_yard(session, session.project, is_eager=False) as yard:
        yard.engine()


def prune_images(session: Session, *, age: float, is_all: bool, is_dry: bool) -> None:
    """Removes images of ours that no known project is built with, and reports it.

    Args:
        session: this run.
        age: seconds since they were made.
        is_all: True to remove them also where it is not known what some project is built with.
        is_dry: True to remove nothing.

    Raises:
        EngineError: no engine answers.
    """
    from builders.imageprune import (  # noqa: PLC0415 - the builders, only for images
        REPOSITORIES,
        ImagesPruned,
        plan_image_prune,
        remove_images,
    )

    session.offline = True  # what projects are built with is looked up, and nothing is pulled for it
    used, is_certain = _used(session)
    if not is_certain and not is_all:
        session.note("warning", "no image is removed; --all removes all that are not known to be used")
        return
    with open_yard(session, session.project, is_eager=False) as yard:
        engine = yard.engine()
        images = [image for repository in REPOSITORIES for image in engine.images(repository)]
        going = plan_image_prune(images, used=used, age=age, now=time.time())
        if is_dry:
            done = ImagesPruned(removed=going)
        else:
            done = remove_images(
                engine,
                going,
                guard=session.roots.guard,
                is_building=lambda: any(lease.command == "build" for lease in session.roots.leases()),
            )
    session.document["removed"] = [*session.document["removed"], *(_row(image) for image in done.removed)]
    session.document["engine_freed_bytes"] = done.freed
    for image in done.removed:
        verb = "would remove" if is_dry else "removed"
        row = _row(image)
        session.say(f"{verb} image {image.ref}  {describe_bytes(image.size)}  made {row['last_used'][:10]}")
    for image, reason in done.kept:
        session.note("warning", f"{image.ref}: kept: {reason}")
    words = "to remove" if is_dry else f"removed, {describe_bytes(done.freed)} freed in the engine"
    session.say(f"{len(done.removed)} images {words}" if done.removed else "no images to remove")


def _used(session: Session) -> tuple[set[str], bool]:
    """Returns the references that known projects are built with, and whether those are all."""
    from builders.imageprune import used_images  # noqa: PLC0415

    used: set[str] = set()
    is_certain = True
    for root in session.roots.projects():
        try:
            used |= used_images(_prepared(session, root))
        except (_UnknownPlanError, WheelcacheError) as error:
            is_certain = False
            session.note("warning", f"{root.path}: what it is built with cannot be told: {error}")
    return used, is_certain


def _prepared(session: Session, root: ProjectRoot) -> Iterator[Prepared]:
    """Yields how a project's services would be built now.

    Raises:
        _UnknownPlanError: that cannot be told.
        WheelcacheError: nor can its files be read.
    """
    standing = root.standing()
    if root.path in standing:  # a lockfile of no project
        if any(_services_of(path) for path in standing):
            raise _UnknownPlanError("its services stand in no project file")
        return
    if not standing:
        if session.roots.needing(root):
            raise _UnknownPlanError("it was synced on another machine, or in a container")
        return
    file = find_project_file(root.path)
    if file is None or file.parent != root.path:
        raise _UnknownPlanError("its folder has no project file")
    from builders.preparing import prepare  # noqa: PLC0415

    with open_yard(session, load_project(file, start=root.path), is_eager=False) as yard:
        locked = [service for service in yard.services if (root.path / service.lockfile).is_file()]
        prepared = prepare(yard.lock(locked, frozen=True), engine=yard.engine(), is_online=False, is_offline=True)
    for each in prepared:
        if each.refusal is not None and each.refusal.kind != "refused":
            raise _UnknownPlanError(each.refusal.message)
        if each.refusal is None:
            yield each


def _services_of(path: Path) -> tuple[str, ...]:
    if path.suffix != ".toml":
        return ()
    record = parse_lockfile(path.read_text(encoding="utf-8"), path).record
    return record.services if record is not None else ()


def _row(image: EngineImage) -> dict[str, Any]:
    return {
        "kind": "image",
        "path": None,
        "name": image.ref,
        "size": image.size,
        "last_used": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(image.created_at)),
        "reason": "no known project is built with it",
    }
