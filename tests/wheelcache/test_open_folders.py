"""Stores that anybody may change: never made so, and refused."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.stores import SMALL, fill
from support.syncs import Syncs

from wheelcache.errors import StoreError
from wheelcache.roots import Roots
from wheelcache.store import Store


@pytest.fixture(params=[0o000, 0o002, 0o022, 0o077], ids=oct)
def umask(request) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_none_is_made_whatever_the_umask(umask, tmp_path, server):
    root = tmp_path / "caches" / "ours"
    sync = Syncs(root)
    assert [result.state for result in sync(SMALL.locked(server.put_wheel(SMALL)))] == ["downloaded"]
    Roots(root).pin([SMALL.digest])
    fill(sync.store, SMALL)
    made = [root, *root.rglob("*")]
    assert len(made) > 12
    assert [path for path in made if path.stat().st_mode & 0o002] == []
    assert all(path.stat().st_mode & 0o070 == 0o070 & ~umask for path in made if path.is_dir())
    Store.open(root)


@pytest.mark.parametrize("mode", [0o777, 0o757, 0o2777])
@pytest.mark.parametrize("name", [".", "v1"])
def test_one_is_refused_with_its_mode_and_the_next_step(tmp_path, name, mode):
    root = tmp_path / "a cache"
    Store.open(root)
    folder = root / name
    folder.chmod(mode)
    with pytest.raises(StoreError) as raised:
        Store.open(root)
    assert raised.value.message == f"{folder}: anybody may change what is in it (mode {mode:o})"
    assert raised.value.hint.startswith(f"chmod o-w '{folder}'; or name another with --cache-dir")
    assert raised.value.exit_code == 6


@pytest.mark.parametrize("mode", [0o775, 0o2770, 0o1777, 0o700])
def test_what_a_group_shares_or_nobody_can_replace_is_welcome(tmp_path: Path, mode):
    Store.open(tmp_path)
    for folder in (tmp_path, tmp_path / "v1"):
        folder.chmod(mode)
    Store.open(tmp_path)
