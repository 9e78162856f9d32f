"""What a store is asked for, as scenarios that a fault may end at any call: see `faultpoints`."""

from __future__ import annotations

import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Final

from support.faultpoints import Said
from support.syncs import QUICK, Syncs
from support.wheels import MadeWheel, make_wheel
from wheelcache.digest import Digest
from wheelcache.holdings import take_holdings
from wheelcache.lock import LockedWheel
from wheelcache.prune import prune as prune_store
from wheelcache.pruneplan import Limits, plan_prune
from wheelcache.roots import Roots
from wheelcache.store import Store

PIECE: Final = 8 << 10
LEFT, RIGHT = (make_wheel(name, "1.0", size=size) for name, size in (("left", 30_000), ("right", 21_000)))
MADE: Final = {made.digest: made for made in (LEFT, RIGHT)}
ORDER: Final = (0, 2, 1, 3)
"""In which LEFT's pieces come."""

ONE_BY_ONE: Final = replace(QUICK, connections=1, piece=PIECE, reserve=0, retries=1)


def write_files(folder: Path) -> dict[Digest, Path]:
    """Writes the right bytes of each wheel; returns where."""
    folder.mkdir()
    for made in MADE.values():
        (folder / made.filename).write_bytes(made.data)
    return {made.digest: folder / made.filename for made in MADE.values()}


def copy_store(template: Path, root: Path) -> Path:
    """Makes a store like another, dates of files included: what was verified there is verified here."""
    shutil.copytree(template, root)
    store = Store.open(root)
    store.note_verified((digest, store.blob(digest).stat(), None) for digest in store.known())
    return root


def put(store: Store, made: MadeWheel) -> None:
    """Publishes a wheel at once."""
    wheel = made.locked()
    lock = store.acquire(wheel.digest)
    if lock is None:
        raise TimeoutError(wheel.filename)
    with lock:
        partial = store.partial(wheel, piece=PIECE)
        partial.write(0, made.data)
        store.publish(wheel, partial)
        partial.close()


def publish(root: Path, said: Said) -> None:
    """Opens a store and brings a wheel into it, as one thread of a sync does; says each piece, and the blob."""
    store = Store.open(root)
    wheel = LEFT.locked()
    if store.has(wheel):
        return
    lock = store.acquire(wheel.digest)
    if lock is None:
        raise TimeoutError(wheel.filename)
    with lock:
        partial = store.partial(wheel, piece=PIECE)
        try:
            for index in ORDER:
                fresh = partial.write(index * PIECE, LEFT.data[index * PIECE : (index + 1) * PIECE])
                said(f"wrote {fresh}")
                if index == ORDER[1]:
                    partial.flush()
            store.publish(wheel, partial)
            said(f"published {wheel.digest}")
        finally:
            partial.close()


def note_needs(root: Path, said: Said, *, project: Path) -> None:
    """Notes in every way what is needed; says each."""
    roots = Roots(Store.open(root).root)
    with roots.lease([LEFT.digest], command="sync"):
        roots.keep_project(project, {project / "pylock.toml": [LEFT.digest]}, now=time.time())
        said("project")
        roots.pin([RIGHT.digest])
        said("pinned")
        said("unpinning")
        roots.unpin([RIGHT.digest])
        said("unpinned")
        roots.keep_project(project, {project / "pylock.toml": [LEFT.digest, RIGHT.digest]}, now=time.time())
        said("project grew")


def salvage(root: Path, said: Said) -> None:
    """Finds a wrong blob, as a sync does that sees that it changed."""
    said(f"has {Store.open(root).has(LEFT.locked())}")


def sync(root: Path, said: Said, *, wheels: tuple[LockedWheel, ...]) -> None:
    """Syncs two wheels, over one connection; says which are in the store, and of a failure all that users see of it."""
    for result in Syncs(root, settings=ONE_BY_ONE)(*wheels):
        if result.failure is None:
            said(f"published {result.wheel.digest}")
        else:
            said(f"failed {int(result.failure.exit_code)} {result.failure.message} | {result.failure.hint}")


def prune(root: Path, said: Said) -> None:
    """Removes what nobody needs: RIGHT is pinned."""
    store = Store.open(root)
    roots = Roots(root)
    now = time.time()
    holdings = take_holdings(store, roots, now=now)
    plan = plan_prune(
        holdings, needed=roots.needed().keys(), leased=roots.leased(), limits=Limits(is_all=True), now=now
    )
    pruned = prune_store(store, roots, holdings, plan, stop=threading.Event())
    said(f"removed {len(pruned.removed)}")
