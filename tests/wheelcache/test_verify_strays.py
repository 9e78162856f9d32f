"""What does not belong into a store: found with a reason, never followed or opened, and put aside."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import threading
import time
from pathlib import Path

import pytest
from support.stores import BIG, flip, found, make_deep, mend, verify

from wheelcache.digest import hex_of
from wheelcache.errors import StoreError
from wheelcache.events import ignore
from wheelcache.mend import put_catalog_aside
from wheelcache.store import Store
from wheelcache.verify import verify_store

DAY = 86_400.0


class TestWhatDoesNotBelong:
    def stray(self, path: Path, kind: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        match kind:
            case "device":
                if os.geteuid():
                    pytest.skip("only root can make a device")
                os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))  # /dev/zero: to read it takes for ever
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

    @pytest.mark.parametrize("kind", ["folder", "pipe", "link", "dangling", "loop", "socket", "device"])
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

    @pytest.mark.parametrize("kind", ["folder", "pipe", "link", "dangling", "loop", "socket", "device"])
    def test_in_the_place_of_the_catalog_is_found_and_put_aside(self, store, kind):
        file = store.root / "v1" / "catalog.sqlite"
        file.unlink()
        self.stray(file, kind)
        report = verify(store)
        assert [(finding.kind, finding.path) for finding in report.findings] == [("catalog", file)]
        with pytest.raises(StoreError, match=r"catalog\.sqlite: expected a file, found a"):
            Store.open(store.root).known()
        put_catalog_aside(store)
        assert found(store) == []
        assert len(Store.open(store.root).known()) == 3

    @pytest.mark.parametrize(
        "place",
        [
            f"partial/{'1' * 64}.part",
            f"partial/{'1' * 64}.json",
            f"projects/{'2' * 32}.json",
            f"pins/{'3' * 64}",
            "leases/12-ab.json",
            "prune.lock",
            "catalog.lock",
        ],
    )
    def test_as_a_file_with_a_name_elsewhere_is_found_and_put_aside(self, store, tmp_path, place):
        (tmp_path / "mine").write_text("mine")
        path = store.root / "v1" / place
        path.unlink(missing_ok=True)
        path.hardlink_to(tmp_path / "mine")
        report = verify(store)
        assert [(f.kind, f.path, f.found) for f in report.findings] == [
            ("stray", path, "a file of 2 names (hard links)")
        ]
        mend(store, report.findings)
        assert found(store) == []
        assert (tmp_path / "mine").read_text() == "mine"

    @pytest.mark.parametrize("folder", ["blobs", "blobs/sha256", "blobs/sha256/ab", "partial", "views", "pins", "."])
    @pytest.mark.parametrize("name", [b"two\nlines", b"\x1b[2J", b"\xff\xfe.part", b"\xe2\x80\xae.whl", b"-rf", b"'"])
    def test_by_a_name_that_is_no_text_is_found_and_put_aside(self, store, folder, name):
        path = store.root / "v1" / folder / os.fsdecode(name)
        path.parent.mkdir(exist_ok=True)
        path.write_text("something")
        report = verify(store)
        assert [finding.path for finding in report.findings] == [path]
        json.dumps(report.findings[0].as_json()).encode()
        json.dumps(report.findings[0].as_json(), ensure_ascii=False).encode()
        mend(store, report.findings)
        assert found(store) == []

    @pytest.mark.parametrize("folder", ["blobs/sha256/ab", "partial", "views", "views/key", "quarantine", "."])
    def test_as_a_very_deep_tree_costs_nothing(self, store, folder):
        top = store.root / "v1" / folder / "deep"
        top.parent.mkdir(exist_ok=True)
        (store.root / "outside").hardlink_to(store.blob(BIG.digest))  # so that views are looked through
        try:
            make_deep(top, 3000)
            report = verify(store)
            assert [f.kind for f in report.findings if f.kind != "linked"] == {
                "blobs/sha256/ab": ["wrong-name"],
                "partial": ["stray"],
                ".": ["stray"],
            }.get(folder, [])
            mend(store, report.findings)
            assert [f.kind for f in verify(store).findings] == ["linked"]
        finally:
            subprocess.run(["rm", "-rf", store.root / "v1"], check=True)  # which Python's own way cannot

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
        assert [f.kind for f in report.findings] == ["debris"] * 3
        mend(store, report.findings)
        assert not any((store.root / "v1" / name).exists() for name in names)

    def test_as_a_lock_file_of_nobody_is_found_once_it_is_old(self, store):
        with store.acquire(f"sha256:{'0' * 64}"):
            assert found(store, now=lambda: time.time() + 2 * DAY) == []
        assert found(store) == []
        report = verify(store, now=lambda: time.time() + 2 * DAY)
        assert [f.kind for f in report.findings] == ["debris"]
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
        assert found(store, now=lambda: time.time() + 3601) == [("debris", f"leases/{file.name}")]
