"""Verifying a store: what is found, what is no finding, and what is put right with how many bytes."""

from __future__ import annotations

import os
import random
import shutil
import socket
import sqlite3
import threading
import time
import zlib
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest
from support.server import Server
from support.syncs import IN_PIECES, PIECE, Syncs
from support.wheels import MadeWheel, make_wheel

from wheelcache.catalog import HostRecord
from wheelcache.digest import digest_of_bytes, hex_of
from wheelcache.events import StoreRead, ignore
from wheelcache.findings import Finding
from wheelcache.journal import LINE_BYTES, line_of, read_journal
from wheelcache.mend import Mended, mend_store, put_catalog_aside
from wheelcache.roots import Roots
from wheelcache.store import Store
from wheelcache.verify import Report, verify_store
from wheelcache.views import make_view

DAY = 86_400.0
WHEELS = [make_wheel(f"wheel{number}", size=size) for number, size in enumerate((900_000, 300_000, 70_000))]
BIG, MIDDLE, SMALL = WHEELS
HOST = HostRecord(host="mirror.test", rate=5e7, per_connection=1e7, lies=0, faults=2, seen_at=1.7e9)


@pytest.fixture
def server():
    with Server() as server:
        yield server


@pytest.fixture
def sync(tmp_path) -> Syncs:
    return Syncs(tmp_path / "cache", settings=replace(IN_PIECES, connections=1))


@pytest.fixture
def store(sync) -> Store:
    """A store of three wheels, in pieces of 64 KiB."""
    for made in WHEELS:
        fill(sync.store, made)
    return sync.store


def fill(store: Store, made: MadeWheel) -> Path:
    with store.acquire(made.digest):
        partial = store.partial(made.locked(), piece=PIECE)
        partial.write(0, made.data)
        blob = store.publish(made.locked(), partial)
        partial.close()
    return blob


def begin(store: Store, made: MadeWheel, *spans: tuple[int, int]) -> Path:
    """Leaves a partial as a killed sync does; returns its file."""
    with store.acquire(made.digest):
        partial = store.partial(made.locked(), piece=PIECE)
        for start, end in spans:
            partial.write(start, made.data[start:end])
        partial.flush()
        partial.close()
    return store.root / "v1" / "partial" / f"{hex_of(made.digest)}.part"


def verify(store: Store, **options) -> Report:
    options = {"fast": False, "threads": 2, "emit": ignore, "stop": threading.Event()} | options
    return verify_store(Store.open(store.root), **options)


def found(store: Store, **options) -> list[tuple[str, str]]:
    """Kind and place of each finding."""
    report = verify(store, **options)
    assert all(finding.expected and finding.found and finding.hint for finding in report.findings)
    return [(finding.kind, str(finding.path.relative_to(store.root / "v1"))) for finding in report.findings]


def mend(store: Store, findings: list[Finding]) -> Mended:
    return mend_store(store, findings, sizes={}, stop=threading.Event())


def flip(file: Path, place: int, bit: int = 0) -> None:
    mode = file.stat().st_mode
    file.chmod(0o644)
    with file.open("r+b") as opened:
        opened.seek(place)
        byte = opened.read(1)[0]
        opened.seek(place)
        opened.write(bytes([byte ^ 1 << bit]))
    file.chmod(mode)


def place_of(made: MadeWheel) -> str:
    name = hex_of(made.digest)
    return f"blobs/sha256/{name[:2]}/{name}"


def everything(root: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(root)): (path.lstat().st_ino, path.read_bytes() if path.is_file() else b"")
        for path in root.rglob("*")
        if not path.name.startswith("catalog.sqlite")
    }


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
        blob = store.blob(BIG.digest)
        blob.chmod(0o644)
        blob.write_bytes(data)
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
        blob = store.blob(MIDDLE.digest)
        blob.chmod(0o644)
        os.truncate(blob, 10)
        copy = store.blob(SMALL.digest).with_name("copy")
        shutil.copy2(store.blob(SMALL.digest), copy)
        copy.replace(store.blob(SMALL.digest))
        assert sorted(found(store, fast=True)) == sorted(("changed", place_of(made)) for made in WHEELS)


class TestPartials:
    BEGUN = make_wheel("begun", size=600_000)

    def test_with_rotten_pieces_are_found_and_cost_those_pieces(self, sync, server):
        part = begin(sync.store, self.BEGUN, (0, 6 * PIECE))
        flip(part, 2 * PIECE + 7)
        report = verify(sync.store)
        [finding] = report.findings
        assert (finding.kind, finding.path, finding.digest) == ("rot", part, self.BEGUN.digest)
        assert finding.found == "others in piece 2"
        assert mend(sync.store, report.findings).repaired == report.findings
        assert found(sync.store) == []
        assert sync.store.partial_bytes(self.BEGUN.digest) == 5 * PIECE
        [result] = sync(self.BEGUN.locked(server.put_wheel(self.BEGUN)))
        assert result.bytes_fetched == self.BEGUN.size - 5 * PIECE

    @pytest.mark.parametrize("line", [1, 3])
    def test_with_a_damaged_line_of_the_journal_lose_that_piece(self, sync, line):
        part = begin(sync.store, self.BEGUN, (0, 6 * PIECE))
        flip(part.with_suffix(".json"), line * LINE_BYTES + 3)
        report = verify(sync.store)
        assert [finding.kind for finding in report.findings] == ["journal"]
        mend(sync.store, report.findings)
        assert found(sync.store) == []
        assert sync.store.partial_bytes(self.BEGUN.digest) == 5 * PIECE

    @pytest.mark.parametrize("spoil", ["flip", "zero", "piece", "bytes"])
    def test_with_a_damaged_head_lose_nothing(self, sync, spoil):
        part = begin(sync.store, self.BEGUN, (0, 6 * PIECE))
        journal = part.with_suffix(".json")
        head, _ = read_journal(journal)
        with journal.open("r+b") as opened:
            if spoil == "piece":
                opened.write(line_of(replace(head, piece=PIECE * 2)))
            elif spoil == "zero":
                opened.write(bytes(LINE_BYTES))
            elif spoil == "bytes":
                opened.write(b"\xff\xfe")
        if spoil == "flip":
            flip(journal, 1)
        report = verify(sync.store)
        assert {finding.kind for finding in report.findings} == {"journal"}
        mend(sync.store, report.findings)
        assert found(sync.store) == []
        assert sync.store.partial_bytes(self.BEGUN.digest) == 6 * PIECE

    def test_whose_journal_tells_another_size_than_the_lockfile_are_found(self, sync):
        part = begin(sync.store, self.BEGUN, (0, 2 * PIECE))
        assert found(sync.store, sizes={self.BEGUN.digest: self.BEGUN.size}) == []
        sizes = {self.BEGUN.digest: self.BEGUN.size + 1}
        assert found(sync.store, sizes=sizes) == [("journal", f"partial/{part.stem}.json")]

    def test_that_were_written_before_a_power_cut_are_judged_by_what_was_on_the_disk(self, sync):
        part = begin(sync.store, self.BEGUN, (0, 2 * PIECE))
        journal = part.with_suffix(".json")
        head, marks = read_journal(journal)
        marks[1] = replace(marks[1], synced=1000, synced_crc=zlib.crc32(self.BEGUN.data[PIECE:][:1000]))
        journal.write_bytes(b"".join([line_of(replace(head, boot="earlier")), *map(line_of, marks)]))
        flip(part, PIECE + 5000)
        assert found(sync.store) == []
        flip(part, PIECE + 500)
        assert found(sync.store) == [("rot", f"partial/{part.name}")]

    def test_without_a_journal_are_found_and_put_aside(self, sync):
        part = begin(sync.store, self.BEGUN, (0, PIECE))
        part.with_suffix(".json").unlink()
        report = verify(sync.store)
        assert [finding.kind for finding in report.findings] == ["partial"]
        mend(sync.store, report.findings)
        assert not list(part.parent.iterdir())
        assert (sync.store.root / "v1" / "quarantine" / part.name).stat().st_size == PIECE

    def test_without_bytes_are_found_and_put_aside(self, sync):
        part = begin(sync.store, self.BEGUN, (0, PIECE))
        part.unlink()
        report = verify(sync.store)
        assert [finding.kind for finding in report.findings] == ["journal"]
        mend(sync.store, report.findings)
        assert found(sync.store) == []

    def test_that_nobody_touched_for_a_month_are_found_unless_somebody_needs_them(self, sync, tmp_path):
        part = begin(sync.store, self.BEGUN, (0, PIECE))
        later = lambda: time.time() + 31 * DAY  # noqa: E731
        assert found(sync.store, now=lambda: time.time() + 29 * DAY) == []
        assert found(sync.store, now=later) == [("partial", f"partial/{part.name}")]
        with Roots(sync.store.root).lease([self.BEGUN.digest], command="sync"):
            assert found(sync.store, now=later) == []

    def test_that_somebody_writes_to_are_no_findings(self, sync):
        part = begin(sync.store, self.BEGUN, (0, PIECE))
        flip(part, 5)
        with sync.store.acquire(self.BEGUN.digest):
            assert found(sync.store) == []
        assert found(sync.store) == [("rot", f"partial/{part.name}")]


class TestWhatDoesNotBelong:
    def stray(self, path: Path, kind: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        match kind:
            case "file":
                path.write_text("something")
            case "folder":
                path.mkdir()
            case "pipe":
                os.mkfifo(path)
            case "link":
                path.symlink_to("/etc/passwd")
            case "dangling":
                path.symlink_to(path.parent / "nothing")
            case "loop":
                path.symlink_to(path)
            case "socket":
                with socket.socket(socket.AF_UNIX) as made:
                    here = os.open(path.parent, os.O_RDONLY)
                    try:
                        made.bind(f"/proc/self/fd/{here}/{path.name}")
                    finally:
                        os.close(here)
        return path

    @pytest.mark.parametrize("kind", ["folder", "pipe", "link", "dangling", "loop", "socket"])
    @pytest.mark.parametrize(
        "place",
        [
            f"blobs/sha256/ab/ab{'0' * 62}",
            f"partial/{'1' * 64}.part",
            f"partial/{'1' * 64}.json",
            f"partial/{'1' * 64}.lock",
            f"projects/{'2' * 32}.json",
            f"pins/{'3' * 64}",
            "leases/12-ab.json",
            "prune.lock",
        ],
    )
    def test_in_the_place_of_a_file_is_found_put_aside_and_never_opened(self, store, kind, place):
        (store.root / "v1" / "prune.lock").unlink(missing_ok=True)
        self.stray(store.root / "v1" / place, kind)
        report = verify(store)
        assert [(finding.kind, str(finding.path)) for finding in report.findings] == [
            ("stray", str(store.root / "v1" / place))
        ]
        assert mend(store, report.findings).repaired == report.findings
        assert found(store) == []
        assert os.path.lexists(store.root / "v1" / "quarantine" / Path(place).name)

    @pytest.mark.parametrize(
        ("place", "kind"),
        [
            ("blobs/sha256/ab/torch-2.8.0-cp311.whl", "wrong-name"),
            (f"blobs/sha256/ab/{'c' * 64}", "wrong-name"),
            (f"blobs/sha256/AB/{'A' * 64}", "wrong-name"),
            (f"blobs/sha256/{'ab' * 32}", "wrong-name"),
            ("blobs/md5", "wrong-name"),
            ("partial/notes.txt", "stray"),
            ("projects/readme.md", "stray"),
            ("pins/torch", "stray"),
            ("leases/x", "stray"),
            ("views/file", "stray"),
            ("backup.tar", "stray"),
        ],
    )
    def test_by_its_name_is_found_and_put_aside(self, store, place, kind):
        path = store.root / "v1" / place
        self.stray(path, "file")
        expected = "blobs/sha256/AB" if "/AB/" in place else place
        report = verify(store)
        assert [(f.kind, str(f.path.relative_to(store.root / "v1"))) for f in report.findings] == [(kind, expected)]
        mend(store, report.findings)
        assert found(store) == []
        assert not path.exists()

    def test_stays_where_it_is_when_it_is_another_file_by_then(self, store):
        path = self.stray(store.root / "v1" / "backup.tar", "file")
        findings = verify(store).findings
        path.rename(path.with_name("elsewhere"))
        path.write_text("somebody's")
        mend(store, findings)
        assert path.read_text() == "somebody's"

    @pytest.mark.parametrize("name", ["blobs", "blobs/sha256", "partial", "views"])
    def test_as_a_link_in_a_folders_place_is_not_followed_and_left_to_people(self, store, tmp_path, name):
        folder = store.root / "v1" / name
        folder.rename(tmp_path / "elsewhere")
        flip(next((tmp_path / "elsewhere").rglob(hex_of(BIG.digest)), store.root / "CACHEDIR.TAG"), 0)
        folder.symlink_to(tmp_path / "elsewhere")  # since it was opened
        report = verify_store(store, fast=False, threads=2, emit=ignore, stop=threading.Event())
        assert [(finding.kind, finding.path) for finding in report.findings] == [("stray", folder)]
        assert mend(store, report.findings).repaired == []
        assert folder.is_symlink()

    def test_as_a_dead_temporary_file_is_found_once_it_is_old(self, store):
        names = [f"partial/.{'a' * 64}.json.4711.tmp", "projects/.x.json.12.tmp", "views/.key.12.345"]
        for name in names:
            self.stray(store.root / "v1" / name, "file" if name.endswith("tmp") else "folder")
        assert found(store) == []
        report = verify(store, now=lambda: time.time() + 3601)
        assert [f.kind for f in report.findings] == ["temporary"] * 3
        mend(store, report.findings)
        assert not any((store.root / "v1" / name).exists() for name in names)

    def test_as_a_lock_file_of_nobody_is_found_once_it_is_old(self, store):
        with store.acquire(f"sha256:{'0' * 64}"):
            assert found(store, now=lambda: time.time() + 2 * DAY) == []
        assert found(store) == []
        report = verify(store, now=lambda: time.time() + 2 * DAY)
        assert [f.kind for f in report.findings] == ["lock"]
        mend(store, report.findings)
        assert not list((store.root / "v1" / "partial").iterdir())

    def test_as_a_folder_that_anybody_may_change_is_told_with_the_reason(self, store):
        (store.root / "v1" / "partial").chmod(0o777)
        store.blob(BIG.digest).parent.chmod(0o757)
        (store.root / "v1" / "views").chmod(0o1777)  # others may add to it, and not replace what is there
        report = verify(store)
        assert [(f.kind, f.path.name, f.found) for f in report.findings] == [
            ("open-folder", hex_of(BIG.digest)[:2], "mode 757"),
            ("open-folder", "partial", "mode 777"),
        ]
        assert "chmod o-w" in report.findings[0].hint

    def test_as_a_damaged_project_is_told_and_kept(self, store):
        file = store.root / "v1" / "projects" / f"{'2' * 32}.json"
        file.write_text("{")
        report = verify(store)
        assert [(f.kind, f.path) for f in report.findings] == [("root", file)]
        assert mend(store, report.findings).repaired == []
        assert file.exists()

    def test_as_the_lease_of_a_dead_command_is_found_once_it_is_old(self, store):
        file = store.root / "v1" / "leases" / "999-abcdef0123456789.json"
        file.write_text('{"pid": 999, "command": "sync", "digests": []}')
        assert found(store) == []
        assert found(store, now=lambda: time.time() + 3601) == [("temporary", f"leases/{file.name}")]


class TestTheCatalog:
    def damage(self, store: Store, statement: str) -> None:
        with sqlite3.connect(store.root / "v1" / "catalog.sqlite") as connection:
            connection.execute(statement)
        connection.close()

    @pytest.mark.parametrize("data", [b"", b"no database at all" * 100])
    def test_that_is_none_is_found_unless_empty(self, store, data):
        (store.root / "v1" / "catalog.sqlite").write_bytes(data)
        assert found(store) == ([("catalog", "catalog.sqlite")] if data else [])

    @pytest.mark.parametrize("fast", [False, True])
    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE blobs SET digest = 'sha256:x' WHERE name = 'wheel0'",
            "UPDATE blobs SET size = 'x' WHERE name = 'wheel0'",
            "UPDATE blobs SET size = size + 1 WHERE name = 'wheel0'",
            "UPDATE blobs SET mtime_ns = mtime_ns + 1 WHERE name = 'wheel0'",
            "UPDATE blobs SET inode = inode + 1 WHERE name = 'wheel0'",
            "UPDATE blobs SET name = 'wheelx' WHERE name = 'wheel0'",
            "UPDATE blobs SET version = '1.1' WHERE name = 'wheel0'",
            "UPDATE blobs SET filename = 'x' WHERE name = 'wheel0'",
            "UPDATE blobs SET last_used = last_used + 1 WHERE name = 'wheel0'",
            "UPDATE pieces SET crcs = zeroblob(length(crcs))",
            "UPDATE pieces SET crcs = substr(crcs, 2)",
            "UPDATE pieces SET piece_bytes = 0",
            "UPDATE pieces SET size = size + 1",
            "UPDATE sources SET rate = rate * 2",
            "UPDATE sources SET faults = 'many'",
            "UPDATE sources SET host = CAST(x'ff0a' AS TEXT)",
            "ALTER TABLE blobs RENAME COLUMN digest TO Digest",
            "CREATE TABLE other (x)",
            "PRAGMA user_version = 130",
            "PRAGMA user_version = 2",
        ],
    )
    def test_with_what_we_would_not_write_is_found_without_reading_and_made_anew(self, store, statement, fast):
        store.keep_host_records([HOST])
        names = {digest: entry.filename for digest, entry in store.known().items()}
        self.damage(store, statement)
        assert found(store, fast=fast) == [("catalog", "catalog.sqlite")]
        assert put_catalog_aside(store).parent.name == "quarantine"
        assert found(store) == []
        again = Store.open(store.root)
        assert {digest: entry.filename for digest, entry in again.known().items()} == names
        assert all(again.piece_checks(made.digest) for made in WHEELS)

    def test_keeps_what_is_sound_of_it_when_it_is_made_anew(self, store):
        store.keep_host_records([HOST])
        before = store.known()
        checks = {made.digest: store.piece_checks(made.digest) for made in WHEELS}
        self.damage(store, "UPDATE blobs SET last_used = 5 WHERE name = 'wheel0'")
        self.damage(store, "UPDATE pieces SET size = 5 WHERE digest = (SELECT max(digest) FROM pieces)")
        put_catalog_aside(store)
        again = Store.open(store.root)
        assert again.known() == {digest: entry for digest, entry in before.items() if digest != BIG.digest}
        assert again.host_records() == {HOST.host: HOST}
        kept = {made.digest: again.piece_checks(made.digest) for made in WHEELS}
        assert kept == {**checks, max(checks): None}

    def test_lends_no_checksums_that_rotted_to_a_repair(self, store, sync, server):
        """A blob whose checksums rotted with it comes whole, and one whose did not costs its piece."""
        self.damage(store, f"UPDATE pieces SET crcs = zeroblob(length(crcs)) WHERE digest = '{BIG.digest}'")
        put_catalog_aside(store)
        for made in (BIG, MIDDLE):
            flip(store.blob(made.digest), 5)
        mend(store, verify(store).findings)
        assert [store.partial_bytes(made.digest) for made in (BIG, MIDDLE)] == [0, MIDDLE.size - PIECE]
        results = sync(*[made.locked(server.put_wheel(made)) for made in (BIG, MIDDLE)])
        assert {result.wheel.digest: result.bytes_fetched for result in results} == {
            BIG.digest: BIG.size,
            MIDDLE.digest: PIECE,
        }

    def test_that_a_killed_process_was_writing_is_no_finding(self, store):
        file = store.root / "v1" / "catalog.sqlite"
        copy = store.root / "copy.sqlite"
        with sqlite3.connect(file) as connection:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA cache_size = 1")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("UPDATE blobs SET filename = hex(zeroblob(200000))")
            shutil.copy(file, copy)
            shutil.copy(f"{file}-journal", f"{copy}-journal")
            connection.rollback()
        connection.close()
        copy.replace(file)
        Path(f"{copy}-journal").replace(f"{file}-journal")
        assert found(store) == []


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
        blob.touch()
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


@pytest.mark.parametrize("seed", range(40))
def test_bits_flipped_anywhere_are_found_and_cost_the_pieces_they_are_in(sync, server, seed):
    """Blobs, partials and journals: each flip in what counts is found; repair and sync fetch what is damaged."""
    chance = random.Random(seed)
    store = sync.store
    begun = make_wheel("begun", size=500_000)
    for made in WHEELS:
        fill(store, made)
    part = begin(store, begun, (0, 4 * PIECE))
    urls = {made.digest: server.put_wheel(made) for made in (*WHEELS, begun)}
    damaged: dict[MadeWheel, set[int]] = {}
    for _ in range(chance.randint(1, 4)):
        made = chance.choice([*WHEELS, begun])
        if made is not begun:
            place = chance.randrange(made.size)
            flip(store.blob(made.digest), place, chance.randrange(8))
            damaged.setdefault(made, set()).symmetric_difference_update({place // PIECE})
        elif chance.random() < 0.5:
            place = chance.randrange(4 * PIECE)
            flip(part, place, chance.randrange(8))
            damaged.setdefault(begun, set()).add(place // PIECE)
        else:
            line = chance.randrange(1, 5)
            flip(part.with_suffix(".json"), line * LINE_BYTES + chance.randrange(LINE_BYTES), chance.randrange(8))
            damaged.setdefault(begun, set()).add(line - 1)
    is_wrong = {made for made in WHEELS if store.blob(made.digest).read_bytes() != made.data}
    report = verify(store, sizes={begun.digest: begun.size})
    digests = {finding.digest for finding in report.findings}
    assert {made.digest for made in is_wrong} <= digests
    assert (begun.digest in digests) == (begun in damaged)
    mended = mend(store, report.findings)
    assert set(mended.missing) == {made.digest for made in is_wrong}
    assert found(store) == []
    for made in is_wrong:
        [result] = Syncs(store.root, settings=sync.settings)(made.locked(urls[made.digest]))
        assert result.bytes_fetched <= PIECE * len(pieces_that_differ(store, made))
    [result] = Syncs(store.root, settings=sync.settings)(begun.locked(urls[begun.digest]))
    assert result.bytes_fetched <= begun.size - 4 * PIECE + PIECE * len(damaged.get(begun, ()))
    assert found(store) == []
    assert all(store.blob(made.digest).read_bytes() == made.data for made in (*WHEELS, begun))


def pieces_that_differ(store: Store, made: MadeWheel) -> list[int]:
    rotten = (store.root / "v1" / "quarantine" / hex_of(made.digest)).read_bytes()
    starts = range(0, made.size, PIECE)
    return [start for start in starts if rotten[start : start + PIECE] != made.data[start : start + PIECE]]


@pytest.mark.parametrize("seed", range(60))
def test_bits_flipped_in_the_catalog_are_found_or_hurt_nothing(store, sync, seed):
    """After a repair the catalog says again what is so, whatever bit was flipped."""
    chance = random.Random(seed)
    file = store.root / "v1" / "catalog.sqlite"
    flip(file, chance.randrange(file.stat().st_size), chance.randrange(8))
    before = file.read_bytes()
    first = verify(store)
    assert {finding.kind for finding in first.findings} <= {"catalog"}
    file.write_bytes(before)
    if any(finding.kind == "catalog" for finding in first.findings):
        put_catalog_aside(store)
    assert {finding.kind for finding in verify(store).findings} <= {"catalog"}
    assert found(store) == []
    again = Store.open(store.root)
    known = again.known()
    for made in WHEELS:
        entry, checks = known[made.digest], again.piece_checks(made.digest)
        assert (entry.name, entry.size) == (made.name, made.size)
        assert len(checks.crcs) == -(-made.size // checks.piece_bytes)
        assert again.has(made.locked())
