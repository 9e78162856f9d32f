"""Verifying a store: what is found, what is no finding, and what is put right with how many bytes."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
import time
from pathlib import PurePosixPath

import pytest
from support.stores import (
    BIG,
    MIDDLE,
    SMALL,
    WHEELS,
    begin,
    everything,
    fill,
    flip,
    found,
    mend,
    overwrite,
    place_of,
    verify,
)
from support.syncs import PIECE
from support.wheels import make_wheel

from wheelcache.digest import digest_of_bytes, hex_of
from wheelcache.events import StoreRead, ignore
from wheelcache.roots import Roots
from wheelcache.store import Store
from wheelcache.verify import Report, verify_store
from wheelcache.views import make_view

DAY = 86_400.0


class TestASoundStore:
    def test_has_no_findings_and_every_byte_was_read(self, store):
        report = verify(store)
        assert report.findings == []
        assert (report.blobs, report.read) == (3, sum(made.size for made in WHEELS))

    def test_stays_as_it_is(self, store):
        begin(store, make_wheel("begun", size=200_000), (0, 100_000))
        before = everything(store.root)
        assert found(store) == []
        assert everything(store.root) == before

    def test_is_noted_as_verified(self, tmp_path):
        times = iter(range(100, 200))
        store = Store.open(tmp_path, now=lambda: next(times))
        blob = fill(store, SMALL)
        os.utime(blob, (1, 1))
        verify_store(store, fast=False, threads=1, emit=ignore, stop=threading.Event())
        entry = store.known()[SMALL.digest]
        assert entry.verified_at > 100
        assert entry.mtime_ns == 1_000_000_000
        assert found(store, fast=True) == []

    def test_that_is_empty_has_none_either(self, tmp_path):
        assert found(Store.open(tmp_path)) == []

    def test_tells_how_far_the_reading_is(self, store):
        events: list[StoreRead] = []
        verify(store, emit=events.append)
        total = sum(made.size for made in WHEELS)
        assert (events[-1].read, events[-1].size) == (total, total)

    def test_whose_catalog_was_lost_gets_it_back(self, store):
        entries = {digest: (entry.name, entry.filename) for digest, entry in store.known().items()}
        (store.root / "v1" / "catalog.sqlite").unlink()
        assert found(store) == []
        again = Store.open(store.root)
        assert {digest: (entry.name, entry.filename) for digest, entry in again.known().items()} == entries
        assert all(again.piece_checks(made.digest) is not None for made in WHEELS)
        assert all(entry.verified_at > 0 for entry in again.known().values())

    def test_links_of_views_to_its_blobs_are_no_findings(self, store):
        make_view(store, "key", [(PurePosixPath("wheelcache") / SMALL.filename, SMALL.locked())], {})
        assert found(store) == []

    def test_holds_what_commands_projects_and_pins_need(self, store, tmp_path):
        roots = Roots(store.root)
        roots.pin([SMALL.digest])
        (tmp_path / "pylock.toml").touch()
        roots.keep_project(tmp_path, {tmp_path / "pylock.toml": [BIG.digest]}, now=time.time())
        with roots.lease([BIG.digest], command="sync"):
            assert found(store) == []


class TestRot:
    def test_of_one_bit_is_found(self, store):
        flip(store.blob(BIG.digest), 123_456)
        [finding] = verify(store).findings
        assert (finding.kind, finding.path, finding.digest) == ("rot", store.blob(BIG.digest), BIG.digest)
        assert finding.expected == BIG.digest
        assert finding.found == digest_of_bytes(store.blob(BIG.digest).read_bytes())

    @pytest.mark.parametrize("data", [b"", BIG.data[:-1], BIG.data + b"more"], ids=["empty", "shorter", "longer"])
    def test_of_the_length_is_found(self, store, data):
        overwrite(store.blob(BIG.digest), data)
        assert found(store) == [("rot", place_of(BIG))]

    def test_is_not_put_right_unless_asked(self, store):
        flip(store.blob(BIG.digest), 5)
        before = everything(store.root)
        verify(store)
        assert everything(store.root) == before

    def test_leaves_the_good_pieces_to_the_next_sync(self, store, sync, server):
        flip(store.blob(BIG.digest), 3 * PIECE + 17)
        rotten = store.blob(BIG.digest).read_bytes()
        mended = mend(store, verify(store).findings)
        assert set(mended.missing) == {BIG.digest}
        assert (store.root / "v1" / "quarantine" / hex_of(BIG.digest)).read_bytes() == rotten
        [result] = sync(BIG.locked(server.put_wheel(BIG)))
        assert result.bytes_fetched == PIECE
        assert found(store) == []

    def test_of_a_blob_that_a_view_links_to_is_found_there_as_well(self, store):
        view = make_view(store, "key", [(PurePosixPath("wheelcache") / BIG.filename, BIG.locked())], {})
        placed = view / "wheelcache" / BIG.filename
        if not placed.samefile(store.blob(BIG.digest)):
            pytest.skip("this disk shares blocks instead of files")
        flip(placed, 99)
        report = verify(store)
        assert {finding.path for finding in report.findings} == {placed, store.blob(BIG.digest)}
        mend(store, report.findings)
        assert not view.exists()

    def test_that_another_run_put_right_meanwhile_is_left_alone(self, store):
        flip(store.blob(BIG.digest), 5)
        findings = verify(store).findings
        fill(store, BIG)
        assert mend(store, findings).missing == {}
        assert store.blob(BIG.digest).read_bytes() == BIG.data

    def test_of_which_no_checksums_are_known_is_fetched_whole(self, store, sync, server):
        with sqlite3.connect(store.root / "v1" / "catalog.sqlite") as connection:
            connection.execute("DELETE FROM pieces")
        connection.close()
        flip(store.blob(BIG.digest), 5)
        mend(store, verify(store).findings)
        [result] = sync(BIG.locked(server.put_wheel(BIG)))
        assert result.bytes_fetched == BIG.size

    def test_quarantines_a_second_time_beside_the_first(self, store):
        for _ in range(2):
            flip(store.blob(BIG.digest), 5)
            mend(store, verify(store).findings)
            shutil.rmtree(store.root / "v1" / "partial")
            (store.root / "v1" / "partial").mkdir()
            fill(store, BIG)
        assert len(list((store.root / "v1" / "quarantine").iterdir())) == 2


class TestFast:
    def test_reads_nothing(self, store):
        report = verify(store, fast=True)
        assert (report.blobs, report.read, report.findings) == (3, 0, [])

    def test_finds_a_changed_time_size_and_inode(self, store):
        os.utime(store.blob(BIG.digest), (1, 1))
        overwrite(store.blob(MIDDLE.digest), MIDDLE.data[:10])
        copy = store.blob(SMALL.digest).with_name("copy")
        shutil.copy2(store.blob(SMALL.digest), copy)
        copy.replace(store.blob(SMALL.digest))
        assert sorted(found(store, fast=True)) == sorted(("changed", place_of(made)) for made in WHEELS)


class TestBlobsThatCanBeChanged:
    @pytest.mark.parametrize("fast", [False, True])
    @pytest.mark.parametrize("mode", [0o644, 0o666, 0o400, 0o4444])
    def test_by_their_mode_are_found_and_put_right(self, store, mode, fast):
        store.blob(BIG.digest).chmod(mode)
        report = verify(store, fast=fast)
        assert [(f.kind, f.digest, f.found) for f in report.findings] == [("mode", BIG.digest, f"mode {mode:o}")]
        assert report.findings[0].is_harmless
        assert mend(store, report.findings).repaired == report.findings
        assert store.blob(BIG.digest).stat().st_mode & 0o7777 == 0o444
        assert found(store) == []

    def test_by_their_mode_are_no_finding_while_they_are_published(self, store):
        store.blob(BIG.digest).chmod(0o644)
        with store.acquire(BIG.digest):
            assert found(store) == []

    @pytest.mark.parametrize("where", ["elsewhere", "v1/stranger"])
    def test_through_another_name_are_told_and_left_to_people(self, store, where):
        (store.root / where).hardlink_to(store.blob(BIG.digest))
        report = verify(store)
        told = [finding for finding in report.findings if finding.digest == BIG.digest]
        assert [(f.kind, f.found, f.is_harmless) for f in told] == [("linked", "1 (hard links)", True)]
        assert mend(store, told).repaired == []

    def test_through_the_names_in_views_and_in_the_quarantine_are_no_findings(self, store):
        blob = store.blob(BIG.digest)
        for folder in ("views/key/wheelcache", "views/.key.1.2", "quarantine/key/wheelcache"):
            (store.root / "v1" / folder).mkdir(parents=True)
            (store.root / "v1" / folder / BIG.filename).hardlink_to(blob)
        assert found(store) == []

    def test_that_are_one_file_are_one_blob_and_one_rotten(self, store):
        wrong = store.blob(MIDDLE.digest)
        wrong.unlink()
        wrong.hardlink_to(store.blob(BIG.digest))
        report = verify(store)
        assert [(f.kind, f.path) for f in report.findings] == [("rot", wrong)]
        mend(store, report.findings)
        assert found(store) == []
        assert store.blob(BIG.digest).read_bytes() == BIG.data


class TestRunningBesideOthers:
    def test_a_blob_that_vanishes_is_no_finding(self, store):
        paths = iter([BIG, MIDDLE])

        def emit(_: object) -> None:
            for made in paths:
                store.blob(made.digest).unlink()

        report = verify(store, emit=emit, threads=1)
        assert report.findings == []

    def test_syncs_and_verifications_at_once_find_nothing(self, sync, server):
        wheels = [make_wheel(f"many{number}", size=400_000) for number in range(12)]
        urls = [server.put_wheel(made) for made in wheels]
        done = threading.Event()
        reports: list[Report] = []

        def watch() -> None:
            while not done.is_set():
                reports.append(verify(sync.store))

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            results = [sync(made.locked(url))[0] for made, url in zip(wheels, urls, strict=True)]
        finally:
            done.set()
            watcher.join()
        assert all(result.state == "downloaded" for result in results)
        assert len(reports) > 1
        assert [finding for report in reports for finding in report.findings] == []

    def test_being_stopped_it_returns_at_once_with_what_it_found(self, tmp_path):
        store = Store.open(tmp_path)
        blob = store.blob(f"sha256:{'ab' * 32}")
        blob.parent.mkdir()
        blob.touch(0o444)
        os.truncate(blob, 1 << 40)  # all holes; to read them takes minutes
        stop = threading.Event()
        timer = threading.Timer(0.3, stop.set)
        timer.start()
        began = time.monotonic()
        report = verify(store, stop=stop)
        assert time.monotonic() - began < 20
        assert not report.is_complete
        assert report.findings == []
        assert 0 < report.read < 1 << 40
