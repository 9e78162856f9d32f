"""Wheelhouses: exactly the locked wheels, installable by pip alone, and nobody else's files touched."""

from __future__ import annotations

import json
import stat
import subprocess
import sys

import pytest
from support.wheels import make_wheel

from wheelcache.errors import StoreError, UsageError
from wheelcache.store import Store
from wheelcache.wheelhouse import MARKER, write_wheelhouse

DEMO = make_wheel("demo", "1.0", requires=("other-thing>=2",))
OTHER = make_wheel("other-thing", "2.5", size=50_000)
LATER = make_wheel("demo", "1.1")


@pytest.fixture
def store(tmp_path):
    store = Store.open(tmp_path / "cache")
    for made in (DEMO, OTHER, LATER):
        keep(store, made)
    return store


def keep(store, made) -> None:
    with store.acquire(made.digest):
        partial = store.partial(made.locked())
        partial.write(0, made.data)
        store.publish(made.locked(), partial)
        partial.close()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "house"


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write(folder, store, **locks):
    return write_wheelhouse(folder, {name: [made.locked() for made in wheels] for name, wheels in locks.items()}, store)


class TestWriting:
    def test_gives_exactly_the_locked_wheels_and_a_requirements_file_per_lock(self, folder, store):
        done = write(folder, store, ml=[DEMO, OTHER], api=[OTHER])
        assert names(folder) == [
            MARKER,
            DEMO.filename,
            OTHER.filename,
            "requirements.api.txt",
            "requirements.ml.txt",
        ]
        assert (folder / "requirements.ml.txt").read_text() == (
            f"demo==1.0 --hash={DEMO.digest}\nother-thing==2.5 --hash={OTHER.digest}\n"
        )
        assert (folder / OTHER.filename).read_bytes() == OTHER.data
        assert (done.wheels, done.written, done.removed) == ((DEMO.filename, OTHER.filename), 2, 0)
        assert done.requirements == {"ml": "requirements.ml.txt", "api": "requirements.api.txt"}

    def test_satisfies_pip_without_an_index(self, folder, store):
        write(folder, store, ml=[DEMO, OTHER])
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pip", "install", "--no-index", "--find-links", folder, "--require-hashes"),
                *("--dry-run", "--ignore-installed", "--no-cache-dir", "-r", folder / "requirements.ml.txt"),
            ],
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": "/usr/bin:/bin", "PIP_CONFIG_FILE": "/dev/null"},
        )
        assert done.returncode == 0, done.stderr
        assert "Would install demo-1.0 other-thing-2.5" in done.stdout

    def test_gives_files_that_cannot_reach_the_store(self, folder, store):
        write(folder, store, ml=[OTHER])
        file = folder / OTHER.filename
        assert stat.S_IMODE(file.stat().st_mode) == 0o644
        file.write_bytes(b"edited")
        assert store.blob(OTHER.digest).read_bytes() == OTHER.data

    def test_again_writes_nothing(self, folder, store):
        write(folder, store, ml=[DEMO, OTHER])
        before = (folder / OTHER.filename).stat()
        done = write(folder, store, ml=[DEMO, OTHER])
        after = (folder / OTHER.filename).stat()
        assert (done.written, done.removed) == (0, 0)
        assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)

    def test_again_removes_what_is_no_longer_locked(self, folder, store):
        write(folder, store, ml=[DEMO, OTHER], old=[DEMO])
        done = write(folder, store, ml=[LATER])
        assert names(folder) == [MARKER, LATER.filename, "requirements.ml.txt"]
        assert (done.written, done.removed) == (1, 3)

    def test_again_puts_right_what_was_edited_or_lost(self, folder, store):
        write(folder, store, ml=[DEMO, OTHER])
        (folder / OTHER.filename).write_bytes(b"edited")
        (folder / DEMO.filename).unlink()
        assert write(folder, store, ml=[DEMO, OTHER]).written == 2
        assert (folder / OTHER.filename).read_bytes() == OTHER.data
        assert (folder / DEMO.filename).read_bytes() == DEMO.data

    def test_continues_after_a_run_that_was_killed(self, folder, store):
        write(folder, store, ml=[DEMO, OTHER])
        (folder / f".{OTHER.filename}.part").write_bytes(b"half")
        (folder / f".{MARKER}.part").write_bytes(b"half")
        write(folder, store, ml=[DEMO, OTHER])
        assert names(folder) == [MARKER, DEMO.filename, OTHER.filename, "requirements.ml.txt"]

    def test_takes_an_empty_folder(self, folder, store):
        folder.mkdir()
        write(folder, store, ml=[DEMO])
        assert DEMO.filename in names(folder)


class TestRefusing:
    def test_a_folder_with_other_files_names_the_first_and_touches_nothing(self, folder, store):
        folder.mkdir()
        (folder / "b.txt").write_text("mine")
        (folder / "a.txt").write_text("mine")
        with pytest.raises(UsageError, match=r"found a\.txt") as caught:
            write(folder, store, ml=[DEMO])
        assert caught.value.exit_code == 2
        assert names(folder) == ["a.txt", "b.txt"]

    def test_a_file_put_into_a_wheelhouse_of_ours(self, folder, store):
        write(folder, store, ml=[DEMO])
        (folder / "mine.whl").write_text("mine")
        with pytest.raises(UsageError, match=r"found mine\.whl"):
            write(folder, store, ml=[OTHER])
        assert (folder / DEMO.filename).exists()

    def test_a_file_in_the_folders_place(self, folder, store):
        folder.write_text("mine")
        with pytest.raises(UsageError, match="expected a folder, found a file"):
            write(folder, store, ml=[DEMO])

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"files": []}', '{"files": {"../../precious": null}}'])
    def test_a_marker_that_is_not_ours(self, folder, store, text):
        folder.mkdir()
        (folder / MARKER).write_text(text)
        with pytest.raises(UsageError, match="damaged"):
            write(folder, store, ml=[DEMO])

    def test_wheels_that_are_not_in_the_store(self, folder, store):
        missing = make_wheel("missing")
        with pytest.raises(StoreError, match=r"lacks 1 of the locked wheels: missing-1\.0-py3-none-any\.whl") as caught:
            write(folder, store, ml=[DEMO, missing])
        assert "sync" in caught.value.hint
        assert not folder.exists()

    def test_two_files_of_one_name(self, folder, store):
        twin = make_wheel("demo", "1.0", seed="another")
        keep(store, twin)
        with pytest.raises(UsageError, match="ml and api lock different files of that name"):
            write(folder, store, ml=[DEMO], api=[twin])


def test_the_marker_lists_what_is_there(folder, store):
    write(folder, store, ml=[DEMO])
    assert sorted(json.loads((folder / MARKER).read_text())["files"]) == [DEMO.filename, "requirements.ml.txt"]
