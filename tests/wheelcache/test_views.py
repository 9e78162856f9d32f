"""Views on a real disk: what they hold, what they cost, and that they are whole."""

from __future__ import annotations

import stat
import threading
from pathlib import Path, PurePosixPath

import pytest
from support.scenarios import put
from support.wheels import make_wheel

from wheelcache.errors import StoreError
from wheelcache.store import Store
from wheelcache.views import make_view

WHEEL = make_wheel(size=300_000)
LOCKED = WHEEL.locked()
ENTRIES = ((PurePosixPath("wheelcache/svc") / WHEEL.filename, LOCKED),)
TEXTS = {PurePosixPath("wheelcache/constraints.txt"): "demo==1.0\n"}


@pytest.fixture
def store(tmp_path):
    return Store.open(tmp_path / "cache")


def test_views_hold_wheels_and_texts_that_any_user_can_read(store):
    put(store, WHEEL)
    view = make_view(store, "key-1", ENTRIES, TEXTS)
    assert view == store.root / "v1" / "views" / "key-1"
    wheel = view / "wheelcache" / "svc" / WHEEL.filename
    assert wheel.read_bytes() == WHEEL.data
    assert (view / "wheelcache" / "constraints.txt").read_text() == "demo==1.0\n"
    modes = {str(path.relative_to(view)): stat.S_IMODE(path.stat().st_mode) for path in view.rglob("*")}
    assert modes == {
        "wheelcache": 0o755,
        "wheelcache/svc": 0o755,
        f"wheelcache/svc/{WHEEL.filename}": 0o444,
        "wheelcache/constraints.txt": 0o644,
    }
    assert stat.S_IMODE(view.stat().st_mode) == 0o755


def test_views_take_no_room_where_links_are_possible(store):
    put(store, WHEEL)
    blob = store.blob(LOCKED.digest)
    view = make_view(store, "key-1", ENTRIES, {})
    placed = view / ENTRIES[0][0]
    shared = blob.stat().st_ino == placed.stat().st_ino
    assert shared or placed.stat().st_blocks == blob.stat().st_blocks  # a reflink says so nowhere in its stat


def test_views_of_one_key_are_made_once(store):
    put(store, WHEEL)
    first = make_view(store, "key-1", ENTRIES, TEXTS)
    before = first.stat().st_ino
    assert make_view(store, "key-1", ENTRIES, TEXTS) == first
    assert first.stat().st_ino == before


def test_views_appear_whole_or_not_at_all(store):
    with pytest.raises(StoreError, match="not in the store"):
        make_view(store, "key-1", ENTRIES, TEXTS)
    assert not list((store.root / "v1" / "views").iterdir())


def test_views_made_by_two_at_once_are_one(store):
    put(store, WHEEL)
    made: list[Path] = []
    start = threading.Barrier(4)

    def make() -> None:
        start.wait()
        made.append(make_view(store, "key-1", ENTRIES, TEXTS))

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [store.root / "v1" / "views" / "key-1"] * 4
    assert [path.name for path in (store.root / "v1" / "views").iterdir()] == ["key-1"]
