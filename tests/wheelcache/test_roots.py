"""What the store must not lose: projects, leases and pins in their files, with real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from wheelcache.digest import digest_of_bytes, hex_of
from wheelcache.errors import StoreError, StoreFullError
from wheelcache.files import is_locked
from wheelcache.place import Place
from wheelcache.roots import Roots
from wheelcache.store import Store

DAY = 86_400.0
NOW = 20_000 * DAY + 3600
A, B, C = (digest_of_bytes(name) for name in (b"a", b"b", b"c"))

HOLD = """
    import sys
    from pathlib import Path
    from wheelcache.roots import Roots
    with Roots(Path(sys.argv[1])).{hold}:
        print("held", flush=True)
        sys.stdin.read()
"""


@pytest.fixture
def roots(tmp_path):
    Store.open(tmp_path / "cache")
    return Roots(tmp_path / "cache")


@pytest.fixture
def shop(tmp_path):
    """A project's folder with two lockfiles."""
    folder = tmp_path / "shop"
    folder.mkdir()
    for name in ("one", "two"):
        (folder / f"pylock.{name}.toml").write_text("")
    return folder


@contextmanager
def holding(root: Path, hold: str):
    """Another process that holds a lease, or the guard, until it is killed or its stdin ends."""
    script = textwrap.dedent(HOLD).format(hold=hold)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", script, root], **pipes) as process:
        try:
            assert process.stdout.readline() == b"held\n"
            yield process
        finally:
            process.kill()


def project_file(roots: Roots) -> Path:
    (file,) = (roots._base / "projects").iterdir()
    return file


class TestProjects:
    def test_keep_what_their_lockfiles_need(self, roots, shop):
        roots.keep_project(shop, {shop / "pylock.one.toml": [A, B], shop / "pylock.two.toml": [B]}, now=NOW)
        assert roots.needed() == {
            A: (f"project {shop}: pylock.one.toml",),
            B: (f"project {shop}: pylock.one.toml", f"project {shop}: pylock.two.toml"),
        }

    def test_of_one_lockfile_are_named_by_it(self, roots, shop):
        lockfile = shop / "pylock.one.toml"
        roots.keep_project(lockfile, {lockfile: [A]}, now=NOW)
        assert roots.needed() == {A: (f"lockfile {lockfile}",)}

    def test_keep_what_their_other_lockfiles_need_when_one_is_synced(self, roots, shop):
        roots.keep_project(shop, {shop / "pylock.one.toml": [A], shop / "pylock.two.toml": [B]}, now=NOW)
        (shop / "pylock.one.toml").write_text("anew")
        roots.keep_project(shop, {shop / "pylock.one.toml": [C]}, now=NOW)
        assert roots.needed().keys() == {B, C}

    def test_keep_what_a_lockfile_needs_for_all_its_targets_until_it_changes(self, roots, shop):
        lockfile = shop / "pylock.one.toml"
        for needs in ([A, B], [B, C], [C]):
            roots.keep_project(shop, {lockfile: needs}, now=NOW)
        assert roots.needed().keys() == {A, B, C}
        lockfile.write_text("anew")
        roots.keep_project(shop, {lockfile: [B]}, now=NOW)
        assert roots.needed().keys() == {B}

    def test_keep_no_older_needs_of_a_lockfile_that_cannot_be_read(self, roots, shop):
        lockfile = shop / "pylock.one.toml"
        lockfile.unlink()
        lockfile.mkdir()
        for needs in ([A], [B]):
            roots.keep_project(shop, {lockfile: needs}, now=NOW)
        assert roots.needed().keys() == {B}

    def test_are_one_however_their_path_is_written(self, roots, shop, monkeypatch):
        roots.keep_project(shop, {shop / "pylock.one.toml": [A]}, now=NOW)
        monkeypatch.chdir(shop)
        Path("pylock.one.toml").write_text("anew")
        roots.keep_project(Path("../shop"), {Path("../shop/pylock.one.toml"): [B]}, now=NOW)
        assert [each.lockfiles for each in roots.projects()] == [{shop / "pylock.one.toml": (B,)}]

    def test_are_written_once_a_day_at_most_while_nothing_changes(self, roots, shop):
        news = {shop / "pylock.one.toml": [A]}
        roots.keep_project(shop, news, now=NOW)
        file = project_file(roots)
        first = file.stat()
        roots.keep_project(shop, news, now=NOW + 3600)
        assert file.stat().st_ino == first.st_ino
        assert file.stat().st_mtime_ns == first.st_mtime_ns
        roots.keep_project(shop, news, now=NOW + DAY)
        assert [each.seen_at for each in roots.projects()] == [20_001 * DAY]

    def test_need_nothing_for_a_lockfile_that_is_gone(self, roots, shop):
        roots.keep_project(shop, {shop / "pylock.one.toml": [A], shop / "pylock.two.toml": [B]}, now=NOW)
        (shop / "pylock.one.toml").unlink()
        assert roots.needed().keys() == {B}
        roots.keep_project(shop, {shop / "pylock.two.toml": [B, C]}, now=NOW)
        assert [set(each.lockfiles) for each in roots.projects()] == [{shop / "pylock.two.toml"}]

    def test_that_are_gone_are_forgotten(self, roots, shop, tmp_path):
        roots.keep_project(shop, {shop / "pylock.one.toml": [A]}, now=NOW)
        shop.rename(tmp_path / "elsewhere")
        assert roots.needed() == {}
        with roots.guard():
            (project,) = roots.projects()
            assert project.standing() == {}
            roots.forget(project)
        assert roots.projects() == []

    @pytest.mark.parametrize(
        ("damage", "told"),
        [
            ("{", "expected JSON: "),
            ("[]", "expected path, lockfiles and seen_at, found something else"),
            (
                '{"path": "/", "seen_at": 0, "lockfiles": {"/x": "sha256:"}}',
                "expected a list of digests, found sha256:",
            ),
            ('{"path": "/", "seen_at": NaN, "lockfiles": {}}', "expected path, lockfiles and seen_at, found"),
            ('{"path": "/", "seen_at": 0, "lockfiles": {}, "place": 1}', "expected a place's key and name, found '1'"),
            ('{"path": "/", "seen_at": 0, "lockfiles": {"/x": ["no"]}}', "expected sha256:<64 hex digits>, found 'no'"),
            ("[" * 200_000, ""),
        ],
    )
    def test_that_are_damaged_stop_whoever_would_remove(self, roots, shop, damage, told):
        roots.keep_project(shop, {shop / "pylock.one.toml": [A]}, now=NOW)
        roots.pin([B])
        file = project_file(roots)
        file.write_text(damage)
        with pytest.raises(StoreError, match="what it keeps is unknown, so nothing is removed") as caught:
            roots.needed()
        assert caught.value.message.startswith(f"{file}: {told}")
        survey = roots.survey()
        assert survey.reasons == {B: ("pinned",)}
        assert survey.damaged.keys() == {file}

    def test_that_are_damaged_are_made_good_by_the_next_sync(self, roots, shop):
        news = {shop / "pylock.one.toml": [A]}
        roots.keep_project(shop, news, now=NOW)
        project_file(roots).write_text("{")
        roots.keep_project(shop, news, now=NOW)
        assert roots.needed().keys() == {A}

    def test_of_two_syncs_at_once_are_both_kept(self, roots, shop):
        names = [f"pylock.s{number}.toml" for number in range(12)]
        for name in names:
            (shop / name).write_text("")
        keep = [
            threading.Thread(target=roots.keep_project, args=(shop, {shop / name: [A]}), kwargs={"now": NOW})
            for name in names
        ]
        for thread in keep:
            thread.start()
        for thread in keep:
            thread.join()
        assert {path.name for each in roots.projects() for path in each.lockfiles} == set(names)

    def test_that_cannot_be_read_are_not_taken_for_none(self, roots):
        (roots._base / "projects").rmdir()
        (roots._base / "projects").write_text("a file in the folder's place")
        with pytest.raises(StoreError, match="projects"):
            roots.needed()

    def test_folder_that_is_lost_is_not_taken_for_an_empty_one(self, roots):
        (roots._base / "projects").rmdir()
        with pytest.raises(StoreError, match="projects: No such file or directory"):
            roots.needed()


class TestProjectsElsewhere:
    """What is noted by one machine or container, seen from another."""

    @pytest.fixture
    def elsewhere(self, roots):
        """The same store as a container has it, in which other folders are to be seen."""
        return Roots(roots._base.parent, place=Place(key="c" * 32, name="container c0ffee"), now=lambda: NOW)

    @pytest.fixture
    def here(self, roots):
        return lambda now: Roots(roots._base.parent, now=lambda: now)

    def note(self, elsewhere, shop, *needs):
        """Notes needs there, and takes the folder away, so that it cannot be seen here."""
        lockfile = shop / "pylock.one.toml"
        elsewhere.keep_project(shop, {lockfile: needs}, now=NOW)
        return shop.rename(shop.with_name("unseen"))

    def test_are_kept_for_30_days_though_nothing_can_be_seen_of_them(self, elsewhere, here, shop):
        self.note(elsewhere, shop, A)
        told = f"project {shop}: pylock.one.toml (synced on container c0ffee, kept until 2024-11-04)"
        assert here(NOW + 30 * DAY).needed() == {A: (told,)}
        assert here(NOW + 30 * DAY).gone() == {}
        later = here(NOW + 31 * DAY)
        assert later.needed() == {}
        assert [why for _, why in later.gone().values()] == ["synced on container c0ffee, and not since 2024-10-04"]

    def test_are_judged_there_by_what_is_seen_there(self, elsewhere, shop):
        self.note(elsewhere, shop, A)
        assert elsewhere.needed() == {}
        assert [why for _, why in elsewhere.gone().values()] == ["the project or its lockfiles are gone"]

    def test_are_kept_for_ever_where_they_can_be_seen_here_as_well(self, elsewhere, here, shop):
        elsewhere.keep_project(shop, {shop / "pylock.one.toml": [A]}, now=NOW)
        assert here(NOW + 999 * DAY).needed().keys() == {A}

    def test_with_the_same_path_are_others(self, elsewhere, here, roots, shop):
        unseen = self.note(elsewhere, shop, A)
        shop.mkdir()
        (shop / "pylock.one.toml").write_text("another project's")
        roots.keep_project(shop, {shop / "pylock.one.toml": [B]}, now=NOW)
        assert here(NOW).needed().keys() == {A, B}
        assert unseen.is_dir()

    def test_with_the_same_path_and_lockfile_are_noted_once(self, roots, shop):
        for number in range(5):  # as a container for each run of a build server
            one = Roots(roots._base.parent, place=Place(key=f"{number:032}", name=f"container {number}"))
            one.keep_project(shop, {shop / "pylock.one.toml": [A]}, now=NOW + number * DAY)
        (project,) = roots.projects()
        assert (project.place.name, project.seen_at) == ("container 4", 20_004 * DAY)

    def test_by_which_nobody_noted_where_are_of_here(self, roots, shop):
        roots.keep_project(shop, {shop / "pylock.one.toml": [A], shop / "pylock.two.toml": [B]}, now=NOW)
        file = project_file(roots)
        document = json.loads(file.read_text())
        del document["place"], document["contents"]
        older = file.with_name(f"{'0' * 32}.json")
        older.write_text(json.dumps(document))
        file.unlink()
        assert roots.needed().keys() == {A, B}
        roots.keep_project(shop, {shop / "pylock.one.toml": [C]}, now=NOW)
        assert roots.needed().keys() == {B, C}
        assert not older.exists()
        (shop / "pylock.one.toml").unlink()
        assert roots.needed().keys() == {B}


class TestLeases:
    def test_keep_what_a_running_command_needs(self, roots):
        with roots.lease([B, A, B], command="sync"):
            assert roots.leased() == {A, B}
            assert roots.needed() == dict.fromkeys((A, B), (f"a running sync (pid {os.getpid()})",))
        assert roots.leased() == set()
        assert list((roots._base / "leases").iterdir()) == []

    def test_of_another_process_count(self, roots):
        with holding(roots._base.parent, f'lease(["{A}"], command="build")') as process:
            assert roots.needed() == {A: (f"a running build (pid {process.pid})",)}
            with roots.guard():
                assert roots.remove_dead_leases() == []
            assert roots.leased() == {A}

    def test_of_a_killed_process_are_dead_at_once(self, roots):
        with holding(roots._base.parent, f'lease(["{A}"], command="sync")') as process:
            (file,) = (roots._base / "leases").iterdir()
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert file.exists()
            assert roots.leased() == set()
            with roots.lease([B], command="sync"), roots.guard():
                assert roots.remove_dead_leases() == [file]
            assert not file.exists()

    def test_that_nobody_holds_are_dead_however_many_ask_at_once(self, roots):
        file = roots._base / "leases" / "1-ab.json"
        file.touch()  # as a command leaves it that was killed, or has just begun to write it
        with file.open("r+b") as asked:
            assert not is_locked(asked.fileno())
            assert roots.survey().damaged == {}
            assert roots.dead_leases() == [file]

    def test_end_with_their_command_though_a_child_of_it_lives_on(self, roots):
        with roots.lease([A], command="build"):
            child = subprocess.Popen(["sleep", "60"])
        with child:
            assert roots.leased() == set()
            child.kill()

    def test_that_are_damaged_while_held_stop_whoever_would_remove(self, roots):
        with roots.lease([A], command="sync"):
            (file,) = (roots._base / "leases").iterdir()
            file.write_text('{"pid": 1}')
            with pytest.raises(StoreError, match="expected pid, command and digests"):
                roots.needed()

    def test_wait_for_whoever_removes(self, roots):
        held = threading.Event()
        done = threading.Event()

        def lease():
            with roots.lease([A], command="sync"):
                done.set()
                held.wait(20)

        with holding(roots._base.parent, "guard()") as process:
            thread = threading.Thread(target=lease)
            thread.start()
            assert not done.wait(0.3)
            assert list((roots._base / "leases").iterdir()) == []
            process.stdin.close()
            assert done.wait(20)
        assert roots.leased() == {A}
        held.set()
        thread.join()

    def test_are_taken_once_a_killed_process_no_longer_holds_the_guard(self, roots):
        with holding(roots._base.parent, "guard()") as process:
            process.send_signal(signal.SIGKILL)
            process.wait()
            with roots.lease([A], command="sync"):
                assert roots.leased() == {A}

    def test_are_never_taken_for_dead_where_the_system_has_no_locks(self, roots, monkeypatch):
        with holding(roots._base.parent, f'lease(["{A}"], command="sync")') as process:
            process.kill()
            process.wait()
        monkeypatch.setitem(sys.modules, "fcntl", None)  # as on Windows
        with roots.lease([B], command="sync"), roots.guard():
            assert roots.remove_dead_leases() == []
            assert roots.leased() == {A, B}


class TestPins:
    def test_keep_blobs_until_they_are_taken_away(self, roots):
        roots.pin([A, B])
        roots.pin([A])
        assert roots.pinned() == {A, B}
        assert roots.needed() == {A: ("pinned",), B: ("pinned",)}
        roots.unpin([A, C])
        assert roots.pinned() == {B}

    def test_are_empty_files_under_the_digest(self, roots):
        roots.pin([A])
        (file,) = (roots._base / "pins").iterdir()
        assert (file.name, file.read_bytes()) == (hex_of(A), b"")

    def test_with_names_that_are_no_digests_pin_nothing(self, roots):
        (roots._base / "pins" / "README").write_text("")
        (roots._base / "pins" / hex_of(A)[:40]).write_text("")
        assert roots.pinned() == set()


def test_everyone_who_needs_a_blob_is_named(roots, shop):
    roots.pin([A])
    roots.keep_project(shop, {shop / "pylock.one.toml": [A]}, now=NOW)
    with roots.lease([A], command="build"):
        assert roots.needed()[A] == (
            "pinned", f"project {shop}: pylock.one.toml", f"a running build (pid {os.getpid()})"
        )  # fmt: skip


def test_a_full_disk_is_told_as_such(small_disk, shop):
    root = small_disk("1m")
    Store.open(root)
    roots = Roots(root)
    with pytest.raises(OSError, match="No space left"):
        (root / "fill").write_bytes(bytes(2_000_000))
    with pytest.raises(StoreFullError):
        roots.keep_project(shop, {shop / "pylock.one.toml": [A]}, now=NOW)
    with pytest.raises(StoreFullError), roots.lease([A], command="sync"):
        pytest.fail("leased nothing")
    assert roots.projects() == []
    assert list((root / "v1" / "leases").iterdir()) == []
