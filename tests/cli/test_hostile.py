"""What somebody else put into a store's folders: it is refused with its reason, and nothing outside is touched."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from support.program import BETA, GAMMA, Program

from wheelcache.errors import StoreError
from wheelcache.store import Store
from wheelcache.views import make_view

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="nothing is fetched there")

FOLDERS = ("", "blobs", "blobs/sha256", "partial", "views", "projects", "pins", "leases", "quarantine")
KINDS = ("a symbolic link", "a named pipe", "a folder")
ESCAPE = "\x1b]0;owned\x07\x1b[2J"


@pytest.fixture
def synced(project) -> Program:
    """The project of two services, synced."""
    assert project("sync").code == 0
    return project


@pytest.fixture
def victim(tmp_path) -> Path:
    file = tmp_path / "outside" / "victim"
    file.parent.mkdir()
    file.write_text("precious")
    file.chmod(0o640)
    os.utime(file, (1, 1))
    return file


def state(victim: Path) -> tuple[object, ...]:
    found = victim.stat()
    listed = sorted(path.name for path in victim.parent.iterdir())
    return victim.read_text(), found.st_mode, found.st_mtime, found.st_uid, listed


def blob(program: Program, made) -> Path:
    name = made.digest.removeprefix("sha256:")
    return program.cache / "v1" / "blobs" / "sha256" / name[:2] / name


def plant(kind: str, place: Path, victim: Path) -> Path:
    """Puts something in the place of a file."""
    place.unlink(missing_ok=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    match kind:
        case "a symbolic link":
            place.symlink_to(victim)
        case "a named pipe":
            os.mkfifo(place)
        case "a folder":
            place.mkdir()
        case "hard links":
            os.link(victim, place)
    return place


def refused(ran, *words: str) -> None:
    assert ran.code == 6, ran
    for each in words:
        assert each in ran.err, ran
    assert "hint: " in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("name", FOLDERS)
def test_a_link_in_the_place_of_a_folder(synced, tmp_path, name):
    folder = synced.cache / "v1" / name
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    before = sorted((path, path.lstat().st_mtime_ns) for path in (tmp_path / "elsewhere").rglob("*"))
    told = f"error: [HOME]/cache/v1/{name}".rstrip("/") + ": expected a folder, found a symbolic link"
    for command in (["sync"], ["prune"], ["list"], ["wheelhouse", "wheels"]):
        refused(synced(*command), told)
    assert sorted((path, path.lstat().st_mtime_ns) for path in (tmp_path / "elsewhere").rglob("*")) == before


def test_a_link_in_the_place_of_the_folder_that_a_blob_goes_into(synced, tmp_path):
    folder = blob(synced, BETA).parent
    elsewhere = folder.rename(tmp_path / "elsewhere")
    (elsewhere / blob(synced, BETA).name).unlink()
    folder.symlink_to(elsewhere)
    refused(synced("sync", "two"), "expected a folder, found a symbolic link")
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("kind", [*KINDS, "hard links"])
def test_anything_but_a_file_in_the_place_of_what_is_begun(project, victim, kind):
    before = state(victim)
    for end in ("part", "json", "lock"):
        planted = [
            plant(kind, project.cache / "v1" / "partial" / f"{made.digest.removeprefix('sha256:')}.{end}", victim)
            for made in (BETA, GAMMA)
        ]
        refused(project("sync", "two"), f".{end}: expected a file", kind)
        for place in planted:
            place.rmdir() if place.is_dir() else place.unlink()
    assert state(victim) == before


@pytest.mark.parametrize("name", ["catalog.sqlite", "catalog.sqlite-journal", "prune.lock"])
def test_anything_but_a_file_in_the_place_of_the_stores_own(synced, victim, name):
    before = state(victim)
    (synced.cwd / "pylock.two.toml").unlink()
    for kind in KINDS:
        plant(kind, synced.cache / "v1" / name, victim)
        for command in (["sync", "one"], ["prune", "--all"]):
            refused(synced(*command), f"v1/{name}: expected a file, found {kind}")
    assert state(victim) == before


def test_a_catalog_or_lock_that_is_another_file_too(synced, victim):
    before = state(victim)
    plant("hard links", synced.cache / "v1" / "catalog.sqlite", victim)
    assert synced("sync").code == 0  # it is made anew, under its own name alone
    assert state(victim) == before
    plant("hard links", synced.cache / "v1" / "prune.lock", victim)
    refused(synced("sync"), "prune.lock: expected a file of one name, found one of 2 (hard links)")
    assert state(victim) == before


@pytest.mark.parametrize("name", [f"projects/{'0' * 32}.json", "leases/1-abcdef.json"])
def test_anything_but_a_file_in_the_place_of_somebodys_needs_stops_a_prune(synced, victim, name):
    before = state(victim)
    for kind in KINDS:
        plant(kind, synced.cache / "v1" / name, victim)
        refused(synced("prune", "--all"), f"{name}: cannot be read: expected a file, found {kind}")
        assert synced("list").code == 0
    assert synced("sync", "--frozen").code == 0
    assert state(victim) == before


def test_a_pin_that_is_a_link(synced, victim):
    before = state(victim)
    plant("a symbolic link", synced.cache / "v1" / "pins" / BETA.digest.removeprefix("sha256:"), victim)
    refused(synced("pin", BETA.digest), "expected a file, found a symbolic link")
    assert synced("unpin", BETA.digest).code == 0
    assert state(victim) == before


@pytest.mark.parametrize("kind", KINDS)
def test_a_blob_that_is_none_is_no_blob(synced, victim, kind):
    before = state(victim)
    plant(kind, blob(synced, BETA), victim)
    for command in (["status", "two"], ["wheelhouse", "wheels", "two"], ["prune", "--all"]):
        ran = synced(*command)
        assert ran.code in {0, 6}, ran
        assert "Traceback" not in ran.err
    assert not list(synced.cwd.glob("wheels/beta*"))
    ran = synced("sync", "two")
    if kind == "a folder":
        refused(ran, blob(synced, BETA).name)
    else:
        assert ran.code == 0, ran
        assert blob(synced, BETA).read_bytes() == BETA.data
        assert not blob(synced, BETA).is_symlink()
    assert state(victim) == before


def test_a_project_of_a_gigabyte_stops_a_prune_at_once(synced):
    (file,) = (synced.cache / "v1" / "projects").iterdir()
    huge = file.with_name(f"{'0' * 32}.json")
    with huge.open("wb") as opened:
        opened.truncate(1 << 30)
    refused(synced("prune"), "expected at most 16,777,216 bytes, found 1,073,741,824")
    assert synced("sync", "--frozen").code == 0


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/srv/\0shop", "expected an absolute path, found '/srv/\\x00shop'"),
        ("../shop", "expected an absolute path, found '../shop'"),
        ("/srv/\ud800", "expected"),
    ],
)
def test_a_path_that_is_none_stops_a_prune(synced, path, told):
    file = synced.cache / "v1" / "projects" / f"{'0' * 32}.json"
    file.write_text(json.dumps({"path": path, "seen_at": 0, "lockfiles": {}}))
    refused(synced("prune"), f"{file.name}: ", told if told != "expected" else "")


def test_words_of_others_move_no_cursor(synced):
    lockfile = synced.home / f"{ESCAPE}pylock.toml"
    lockfile.write_text("")
    value = {"path": str(lockfile), "seen_at": 0, "lockfiles": {str(lockfile): [BETA.digest]}}
    (synced.cache / "v1" / "projects" / f"{'0' * 32}.json").write_text(json.dumps(value))
    for command in (["list", "-v"], ["unpin", BETA.digest], ["prune", "--max-size", "1kB", "-v"]):
        ran = synced(*command)
        assert ran.code == 0, ran
        assert "pylock.toml" in f"{ran.out}{ran.err}"
        assert "\x1b" not in f"{ran.out}{ran.err}"
    lockfile.unlink()
    ran = synced("prune", "--dry-run", "-v")
    assert "pylock.toml" in ran.out
    assert "\x1b" not in ran.out
    (synced.cache / "v1" / "projects" / f"{ESCAPE}.json").write_text("{")
    for command in ("list", "status", "prune"):
        assert "\x1b" not in synced(command).err


def test_a_lease_with_the_number_of_somebody_elses_process_keeps_nothing(synced):
    file = synced.cache / "v1" / "leases" / "1-abcdef.json"
    file.write_text(json.dumps({"pid": 1, "command": "sync", "digests": [BETA.digest]}))
    (synced.cwd / "pylock.two.toml").unlink()
    assert synced("prune", "--all").code == 0
    assert not file.exists()
    assert not synced.holds(BETA.digest)


def test_a_view_that_is_a_link_is_not_built_from(synced, tmp_path):
    (synced.cache / "v1" / "views" / "key").symlink_to(tmp_path)
    with pytest.raises(StoreError, match="views/key: expected a folder, found a symbolic link"):
        make_view(Store.open(synced.cache), "key", [], {})
