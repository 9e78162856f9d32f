"""The store on a real disk: what is published, what survives, what is refused."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from support.wheels import make_wheel

from wheelcache.errors import IntegrityError, StoreError, StoreFullError
from wheelcache.files import copy_sharing_blocks, write_atomically
from wheelcache.journal import line_of, read_journal
from wheelcache.spans import Span
from wheelcache.store import Store

WHEEL = make_wheel(size=300_000)
LOCKED = WHEEL.locked()
PIECE = 10_000


@pytest.fixture
def store(tmp_path):
    return Store.open(tmp_path / "cache")


def publish(store, made=WHEEL) -> Path:
    wheel = made.locked()
    lock = store.acquire(wheel.digest)
    assert lock is not None
    with lock:
        partial = store.partial(wheel)
        partial.write(0, made.data)
        blob = store.publish(wheel, partial)
        partial.close()
    return blob


def leave(store, data: bytes, *, boot: str | None = None, flushed: int = 0) -> Path:
    """Leaves a partial as a killed process would; *boot* changes what its journal says."""
    partial = store.partial(LOCKED)
    partial.write(0, data[:flushed])
    partial.flush()
    partial.write(flushed, data[flushed:])
    partial.close()
    folder = store.root / "v1" / "partial"
    journal = next(folder.glob("*.json"))
    head, _ = read_journal(journal)
    if boot is not None:
        with journal.open("r+b") as opened:
            opened.write(line_of(replace(head, boot=boot)))
    return next(folder.glob("*.part"))


class TestOpening:
    def test_makes_a_marked_cache_folder(self, tmp_path):
        Store.open(tmp_path / "deep" / "cache")
        tag = (tmp_path / "deep" / "cache" / "CACHEDIR.TAG").read_text()
        assert tag.startswith("Signature: 8a477f597d28d172789f06886806bc55\n")
        assert (tmp_path / "deep" / "cache" / "v1" / "blobs" / "sha256").is_dir()

    def test_again_changes_nothing(self, tmp_path):
        root = tmp_path / "cache"
        Store.open(root)
        before = sorted((path, path.stat().st_mtime_ns) for path in root.rglob("*"))
        Store.open(root)
        assert sorted((path, path.stat().st_mtime_ns) for path in root.rglob("*")) == before

    def test_through_a_link_to_the_cache_folder_is_the_users_choice(self, tmp_path):
        (tmp_path / "big-disk").mkdir()
        (tmp_path / "cache").symlink_to(tmp_path / "big-disk")
        Store.open(tmp_path / "cache")
        assert (tmp_path / "big-disk" / "v1").is_dir()

    def test_refuses_a_linked_version_folder(self, tmp_path):
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "v1").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(StoreError, match="expected a folder, found a symbolic link") as caught:
            Store.open(tmp_path)
        assert "--cache-dir" in caught.value.hint

    def test_refuses_a_file(self, tmp_path):
        (tmp_path / "cache").write_text("")
        with pytest.raises(StoreError, match="expected a folder, found a file"):
            Store.open(tmp_path / "cache")

    def test_refuses_a_read_only_disk(self, small_disk):
        root = small_disk("4m")
        subprocess.run(["mount", "-o", "remount,ro", root], check=True)
        with pytest.raises(StoreError, match="cache: Read-only file system"):
            Store.open(root / "cache")

    def test_refuses_a_store_that_became_read_only(self, small_disk):
        root = small_disk("4m")
        Store.open(root)
        subprocess.run(["mount", "-o", "remount,ro", root], check=True)
        with pytest.raises(StoreError, match="cannot be written"):
            Store.open(root)


class TestPublishing:
    def test_makes_a_blob_that_nobody_writes_to(self, store):
        blob = publish(store)
        assert blob == store.blob(LOCKED.digest)
        assert blob.read_bytes() == WHEEL.data
        assert stat.S_IMODE(blob.stat().st_mode) == 0o444
        assert blob.parent.name == blob.name[:2]

    def test_leaves_nothing_of_the_partial(self, store):
        publish(store)
        assert not list((store.root / "v1" / "partial").iterdir())

    def test_refuses_wrong_bytes(self, store):
        partial = store.partial(LOCKED)
        partial.write(0, WHEEL.data[:-1] + b"?")
        with pytest.raises(IntegrityError, match=r"expected sha256:.*, found sha256:"):
            store.publish(LOCKED, partial)
        partial.close()
        assert not store.blob(LOCKED.digest).exists()
        assert not store.has(LOCKED)

    def test_names_the_blob_in_the_catalog(self, store):
        publish(store)
        entry = store._catalog().entries()[LOCKED.digest]
        assert (entry.name, entry.version, entry.filename) == ("demo", "1.0", WHEEL.filename)
        assert (entry.size, entry.inode) == (WHEEL.size, store.blob(LOCKED.digest).stat().st_ino)


class TestHaving:
    def test_is_false_before_and_true_after(self, store):
        assert not store.has(LOCKED)
        publish(store)
        assert store.has(LOCKED)
        assert store.has(WHEEL.locked(size=None))

    def test_is_seen_by_another_process(self, store):
        publish(store)
        assert Store.open(store.root).has(LOCKED)

    def test_does_not_read_the_wheel(self, store):
        publish(store)
        huge = replace(LOCKED, digest=f"sha256:{'ab' * 32}", size=500_000_000_000)
        blob = store.blob(huge.digest)
        blob.parent.mkdir()
        blob.touch()
        os.truncate(blob, huge.size)  # all holes, but nobody reads so much in a second
        began = time.monotonic()
        assert Store.open(store.root).has(huge)
        assert time.monotonic() - began < 1

    def test_is_false_for_a_blob_of_another_size(self, store):
        blob = store.blob(LOCKED.digest)
        blob.parent.mkdir()
        blob.write_bytes(b"short")
        assert not store.has(LOCKED)

    def test_puts_a_changed_blob_aside(self, store):
        blob = publish(store)
        blob.chmod(0o644)
        blob.write_bytes(WHEEL.data[:-1] + b"?")
        assert not Store.open(store.root).has(LOCKED)
        assert not blob.exists()
        assert (store.root / "v1" / "quarantine" / blob.name).exists()

    def test_believes_a_touched_blob_once_its_bytes_are_right(self, store):
        blob = publish(store)
        os.utime(blob, (1, 1))
        again = Store.open(store.root)
        assert again.has(LOCKED)
        assert again._catalog().entries()[LOCKED.digest].mtime_ns == 1_000_000_000

    def test_needs_no_catalog(self, store):
        publish(store)
        (store.root / "v1" / "catalog.sqlite").unlink()
        again = Store.open(store.root)
        assert again.has(LOCKED)
        again.touch([LOCKED.digest])

    def test_survives_a_damaged_catalog(self, store):
        publish(store)
        (store.root / "v1" / "catalog.sqlite").write_bytes(b"not a database at all, though long enough" * 100)
        assert Store.open(store.root).has(LOCKED)

    def test_survives_a_catalog_of_another_version(self, store):
        publish(store)
        with sqlite3.connect(store.root / "v1" / "catalog.sqlite") as connection:
            connection.execute("DROP TABLE blobs")
            connection.execute("CREATE TABLE blobs (something TEXT)")
            connection.execute("PRAGMA user_version = 99")
        connection.close()
        assert Store.open(store.root).has(LOCKED)

    def test_says_which_catalog_cannot_be_opened(self, store):
        (store.root / "v1" / "catalog.sqlite").mkdir()
        publish_blob = store.blob(LOCKED.digest)
        publish_blob.parent.mkdir()
        publish_blob.write_bytes(WHEEL.data)
        with pytest.raises(StoreError, match=r"catalog\.sqlite"):
            store.has(LOCKED)

    def test_notes_the_last_use(self, tmp_path):
        times = iter([50.0, 100.0, 200.0])
        store = Store.open(tmp_path, now=lambda: next(times))
        publish(store)
        store.touch([LOCKED.digest])
        assert store._catalog().entries()[LOCKED.digest].last_used == 200.0


class TestPartials:
    def test_are_adopted_by_the_next_run(self, store):
        leave(store, WHEEL.data[:1000])
        assert store.partial_bytes(LOCKED.digest) == 1000
        partial = store.partial(LOCKED)
        assert partial.present == 1000
        partial.write(1000, WHEEL.data[1000:])
        store.publish(LOCKED, partial)
        partial.close()
        assert store.blob(LOCKED.digest).read_bytes() == WHEEL.data

    def test_after_a_power_cut_count_as_far_as_they_were_flushed(self, store):
        leave(store, WHEEL.data[:1000], boot="an earlier start", flushed=600)
        assert store.partial_bytes(LOCKED.digest) == 600
        partial = store.partial(LOCKED)
        assert partial.missing() == [Span(start=600, end=WHEEL.size)]
        partial.write(600, WHEEL.data[600:])
        assert partial.digest() == LOCKED.digest
        partial.close()

    def test_of_wheels_whose_size_nobody_says_are_kept_as_well(self, store):
        partial = store.partial(WHEEL.locked(size=None))
        partial.write(0, WHEEL.data[:1000])
        partial.close()
        assert store.partial_bytes(LOCKED.digest) == 1000

    def test_need_room_for_what_is_not_there_or_is_there_and_counts(self, store):
        assert store.room_for(LOCKED.digest, WHEEL.size) == WHEEL.size
        part = leave(store, WHEEL.data[:200_000])
        assert store.room_for(LOCKED.digest, WHEEL.size) == WHEEL.size - 200_000
        part.with_suffix(".json").unlink()  # as a power cut may leave it: its bytes are written over
        assert store.partial_bytes(LOCKED.digest) == 0
        assert store.room_for(LOCKED.digest, WHEEL.size) <= WHEEL.size - 200_000

    def test_longer_than_the_wheel_keep_no_piece_beyond_it(self, store):
        partial = store.partial(WHEEL.locked(size=None))
        partial.write(0, WHEEL.data + b"more")
        partial.close()
        partial = store.partial(LOCKED)
        assert partial.present == 0  # it is all one piece
        partial.close()

    def test_without_a_byte_leave_nothing_behind(self, store):
        store.partial(LOCKED).close()
        assert [path.suffix for path in (store.root / "v1" / "partial").iterdir()] == [".lock"]

    def test_that_are_links_are_refused(self, store, tmp_path):
        victim = tmp_path / "victim"
        victim.write_text("precious")
        (store.root / "v1" / "partial" / f"{LOCKED.digest.removeprefix('sha256:')}.part").symlink_to(victim)
        with pytest.raises(StoreError):
            store.partial(LOCKED)
        assert victim.read_text() == "precious"

    def test_on_a_full_disk_keep_what_fitted(self, small_disk):
        store = Store.open(small_disk("1m"))
        made = make_wheel(size=3_000_000)
        wheel = made.locked()
        partial = store.partial(wheel)
        partial.write(0, made.data[:500_000])
        with pytest.raises(StoreFullError, match="no room left") as caught:
            partial.write(500_000, made.data[500_000:])
        partial.close()
        kept = store.partial_bytes(wheel.digest)
        assert kept > 500_000
        assert "continues" in caught.value.hint
        again = store.partial(wheel)
        assert again.present == kept
        again.close()


class TestARottenBlob:
    def rot(self, store, *places: int) -> Path:
        """Publishes the wheel in pieces and damages some of its bytes."""
        lock = store.acquire(LOCKED.digest)
        with lock:
            partial = store.partial(LOCKED, piece=PIECE)
            partial.write(0, WHEEL.data)
            blob = store.publish(LOCKED, partial)
            partial.close()
        data = bytearray(WHEEL.data)
        for place in places:
            data[place] ^= 0xFF
        blob.chmod(0o644)
        blob.write_bytes(data)
        return blob

    def test_leaves_its_good_pieces_to_the_next_transfer(self, store):
        self.rot(store, PIECE + 1, 5 * PIECE)
        again = Store.open(store.root)
        assert not again.has(LOCKED)
        partial = again.partial(LOCKED)
        assert partial.missing() == [Span(start=PIECE, end=2 * PIECE), Span(start=5 * PIECE, end=6 * PIECE)]
        for span in partial.missing():
            partial.write(span.start, WHEEL.data[span.start : span.end])
        again.publish(LOCKED, partial)
        partial.close()
        assert again.blob(LOCKED.digest).read_bytes() == WHEEL.data

    def test_is_put_aside_as_it_was(self, store):
        blob = self.rot(store, 7)
        rotten = blob.read_bytes()
        Store.open(store.root).has(LOCKED)
        assert (store.root / "v1" / "quarantine" / blob.name).read_bytes() == rotten

    def test_is_put_aside_even_while_another_process_fetches_the_wheel(self, store):
        blob = self.rot(store, 7)
        lock = store.acquire(LOCKED.digest)
        with lock:
            assert not Store.open(store.root).has(LOCKED)
        assert not blob.exists()
        assert store.partial_bytes(LOCKED.digest) == 0

    def test_never_takes_the_place_of_a_partial(self, store):
        self.rot(store, 7)
        leave(store, WHEEL.data[:1000])
        assert not Store.open(store.root).has(LOCKED)
        assert store.partial_bytes(LOCKED.digest) == 1000

    def test_of_which_no_pieces_are_known_is_fetched_again(self, store):
        blob = self.rot(store, 7)
        with sqlite3.connect(store.root / "v1" / "catalog.sqlite") as connection:
            connection.execute("DELETE FROM pieces")
        connection.close()
        assert not Store.open(store.root).has(LOCKED)
        assert not blob.exists()
        assert store.partial_bytes(LOCKED.digest) == 0

    @pytest.mark.parametrize("change", [b"", b"tail", bytes(10**6)], ids=["shorter", "longer", "much longer"])
    def test_of_another_length_is_mended_to_the_last_byte(self, store, change):
        blob = self.rot(store)
        blob.write_bytes(WHEEL.data + change if change else WHEEL.data[:12_345])
        again = Store.open(store.root)
        assert not again.has(LOCKED)
        partial = again.partial(LOCKED)
        for span in partial.missing():
            partial.write(span.start, WHEEL.data[span.start : span.end])
        again.publish(LOCKED, partial)
        partial.close()
        assert blob.read_bytes() == WHEEL.data
        assert Store.open(store.root).has(LOCKED)


class TestOwnership:
    def test_is_one_processs_at_a_time(self, store):
        lock = store.acquire(LOCKED.digest)
        with lock:
            assert store.acquire(LOCKED.digest, timeout=0) is None
        with store.acquire(LOCKED.digest, timeout=0):
            pass

    def test_is_waited_for(self, store):
        lock = store.acquire(LOCKED.digest)
        waited = threading.Event()

        def wait() -> None:
            with store.acquire(LOCKED.digest):
                waited.set()

        thread = threading.Thread(target=wait)
        thread.start()
        assert not waited.wait(0.2)
        with lock:
            pass
        assert waited.wait(5)
        thread.join()

    def test_ends_with_a_killed_process(self, store):
        program = textwrap.dedent("""
            import sys, time
            from pathlib import Path
            from wheelcache.store import Store
            store = Store.open(Path(sys.argv[1]))
            lock = store.acquire(sys.argv[2])
            print("held", flush=True)
            time.sleep(60)
        """)
        owner = subprocess.Popen(
            [sys.executable, "-c", program, str(store.root), LOCKED.digest], stdout=subprocess.PIPE, text=True
        )
        assert owner.stdout.readline() == "held\n"
        assert store.acquire(LOCKED.digest, timeout=0) is None
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        owner.stdout.close()
        with store.acquire(LOCKED.digest, timeout=5):
            pass


class TestFiles:
    def test_are_written_whole_or_stay_as_they_were(self, tmp_path):
        file = tmp_path / "a"
        file.write_text("before")
        with pytest.raises(TypeError):
            write_atomically(file, "no bytes")
        assert file.read_text() == "before"
        write_atomically(file, b"after")
        assert file.read_text() == "after"
        assert [path.name for path in tmp_path.iterdir()] == ["a"]

    def test_copied_are_independent(self, tmp_path):
        (tmp_path / "a").write_bytes(WHEEL.data)
        copy_sharing_blocks(tmp_path / "a", tmp_path / "b")
        (tmp_path / "b").write_bytes(b"changed")
        assert (tmp_path / "a").read_bytes() == WHEEL.data
