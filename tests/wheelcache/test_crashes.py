"""A store after a crash, or without room, at each call that changes a file: it opens, and nothing is wrong or lost."""

from __future__ import annotations

import re
import sys
import threading
import time
from functools import partial

import pytest
from support.aftermath import blobs, kept_bytes, violations, wrong_marks
from support.faultpoints import Nursery
from support.scenarios import (
    LEFT,
    MADE,
    ONE_BY_ONE,
    PIECE,
    RIGHT,
    copy_store,
    note_needs,
    prune,
    publish,
    put,
    salvage,
    sync,
    write_files,
)
from support.server import Server
from support.syncs import Syncs

from wheelcache.digest import parse_digest
from wheelcache.events import ignore
from wheelcache.roots import Roots
from wheelcache.store import Store
from wheelcache.verify import verify_store

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="nothing is fetched there, and nothing can be killed")

KINDS = ("killed", "torn", "full", "full for a moment")


@pytest.fixture(scope="module")
def nursery():
    with Nursery() as started:
        yield started


@pytest.fixture
def truth(tmp_path):
    return write_files(tmp_path / "right")


@pytest.fixture
def fresh(tmp_path):
    """Makes a new folder for each run, which is empty."""
    return lambda at: tmp_path / f"run-{at}"


def published(ended) -> set:
    return {parse_digest(line.split()[1]) for line in ended.said if line.startswith("published")}


def verify(root, *, later: float = 0.0):
    options = {"fast": False, "threads": 1, "emit": ignore, "stop": threading.Event()}
    return verify_store(Store.open(root), now=lambda: time.time() + later, **options)


def assert_sound(root, ended, truth):
    assert violations(root, published=published(ended)) == [], ended
    assert wrong_marks(root, truth) == [], ended


def assert_ended_by(kind, ended):
    """A kill kills; a full disk is told as such, or was no matter, and nothing else comes of it."""
    if not ended.reached:
        assert (ended.code, ended.error) == (0, ""), ended
    elif kind in ("killed", "torn"):
        assert ended.code == -9, ended
    elif ended.code:
        assert ended.code == 1, ended
        last = ended.error.splitlines()[-2:]
        assert any("StoreFullError" in line or "cannot be written: No space left" in line for line in last), ended


@pytest.mark.parametrize("kind", KINDS)
def test_publishing_may_end_at_any_call(nursery, fresh, truth, kind):
    faults = 0
    for ended, root in nursery.each_fault(publish, fresh, kind):
        assert_ended_by(kind, ended)
        assert_sound(root, ended, truth)
        assert {blob.stat().st_mode & 0o777 for blob in (root / "v1/blobs").glob("*/*/*")} <= {0o444}, ended
        kept = kept_bytes(root, truth)
        said = sum(int(line.split()[1]) for line in ended.said if line.startswith("wrote"))
        if LEFT.digest not in blobs(root):
            assert (kept[LEFT.digest].right if kept else 0) >= said - (PIECE if kind == "torn" else 0), (
                ended
            )  # a torn line of a journal costs its piece

        again = []
        publish(root, again.append)
        assert violations(root, published=[LEFT.digest]) == []
        fetched = sum(int(line.split()[1]) for line in again if line.startswith("wrote"))
        assert fetched <= max(LEFT.size - said, 0) + (PIECE if kind == "torn" else 0)
        faults += bool(ended.reached)
    assert faults >= (5 if kind == "torn" else 20)


def test_publishing_killed_at_any_call_leaves_nothing_that_verify_finds_unless_it_is_old(nursery, fresh):
    found, left = 0, 0
    for ended, root in nursery.each_fault(publish, fresh, "killed"):
        if (root / "v1").exists():
            left += bool(verify(root, later=2 * 86_400.0).findings)
            assert verify(root).findings == [], ended
            found += 1
    assert found >= 20
    assert left >= 3


@pytest.mark.parametrize("kind", KINDS)
def test_noting_what_is_needed_may_end_at_any_call(nursery, fresh, tmp_path, truth, kind):
    project = tmp_path / "project"
    project.mkdir()
    (project / "pylock.toml").touch()
    scenario = partial(note_needs, project=project)
    for ended, root in nursery.each_fault(scenario, fresh, kind):
        assert_ended_by(kind, ended)
        assert_sound(root, ended, truth)
        roots = Roots(root)
        reasons = roots.survey().reasons
        assert roots.leased() == set()
        assert ("project" in ended.said) <= (LEFT.digest in reasons), ended
        assert ("project grew" in ended.said) <= (RIGHT.digest in reasons), ended
        if "pinned" in ended.said and "unpinning" not in ended.said:
            assert RIGHT.digest in roots.pinned(), ended

        note_needs(root, lambda _line: None, project=project)
        assert set(roots.needed()) == {LEFT.digest, RIGHT.digest}


@pytest.fixture
def template(tmp_path):
    """A store with two wheels."""
    store = Store.open(tmp_path / "template")
    put(store, LEFT)
    put(store, RIGHT)
    return store


@pytest.mark.parametrize("kind", KINDS)
def test_putting_a_wrong_blob_aside_may_end_at_any_call(nursery, fresh, truth, template, kind):
    def prepare(at):
        root = copy_store(template.root, fresh(at))
        blob = Store.open(root).blob(LEFT.digest)
        blob.chmod(0o644)
        blob.write_bytes(LEFT.data[:PIECE] + b"?" + LEFT.data[PIECE + 1 :])
        return root

    seeded = 0
    for ended, root in nursery.each_fault(salvage, prepare, kind):
        assert_ended_by(kind, ended)
        assert "has True" not in ended.said, ended
        assert not Store.open(root).has(LEFT.locked())
        assert violations(root, published=[RIGHT.digest]) == [], ended
        kept = kept_bytes(root, truth)
        seeded += bool(kept)

        again = []
        publish(root, again.append)
        assert violations(root, published=MADE) == []
        fetched = sum(int(line.split()[1]) for line in again if line.startswith("wrote"))
        assert fetched <= LEFT.size - (kept[LEFT.digest].right if kept else 0), ended
    assert seeded


@pytest.fixture
def server():
    with Server() as started:
        yield started


@pytest.mark.parametrize("kind", KINDS)
def test_a_sync_may_end_at_any_call(nursery, fresh, server, truth, kind):
    """Every call is tried by the kinds together: each takes its own quarter, so that the test is quick."""
    wheels = tuple(made.locked(server.put_wheel(made)) for made in MADE.values())
    first = KINDS.index(kind) + 1
    failed = []
    for ended, root in nursery.each_fault(partial(sync, wheels=wheels), fresh, kind, first=first, step=len(KINDS)):
        assert_ended_by(kind, ended)
        assert_sound(root, ended, truth)
        told = [line for line in ended.said if line.startswith("failed")]
        assert not (told and kind == "full for a moment" and ended.reached == "sqlite"), ended  # the blob is there
        failed += told
        kept = kept_bytes(root, truth)
        expected = sum(
            made.size - (kept[digest].right if digest in kept else 0)
            for digest, made in MADE.items()
            if digest not in blobs(root)
        )

        results = Syncs(root, settings=ONE_BY_ONE)(*wheels)
        assert [result.failure for result in results] == [None, None], ended
        assert sum(result.bytes_fetched for result in results) <= expected, ended
        assert violations(root, published=MADE) == []
    if kind in ("full", "full for a moment"):
        assert failed
        for line in failed:
            assert re.match(r"failed 6 \S+: no room left on the disk: expected [\d,]+ bytes free for \d wheels?", line)
            assert "catalog" not in line


@pytest.mark.parametrize("kind", KINDS)
def test_pruning_may_end_at_any_call(nursery, fresh, truth, template, kind):
    Roots(template.root).pin([RIGHT.digest])
    for ended, root in nursery.each_fault(prune, lambda at: copy_store(template.root, fresh(at)), kind):
        assert_ended_by(kind, ended)
        assert violations(root, published=[RIGHT.digest]) == [], ended

        prune(root, lambda _line: None)
        assert blobs(root) == {RIGHT.digest}
        publish(root, lambda _line: None)
        assert violations(root, published=MADE) == []
    assert ended.said == ("removed 1",)
