"""What goes from a store and what stays, with real files, real processes, and kills at random moments."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import closing, contextmanager
from pathlib import Path, PurePosixPath

import pytest
from support import scenarios
from support.faultpoints import Nursery
from support.stores import make_deep
from support.wheels import make_wheel

from wheelcache.digest import hex_of
from wheelcache.errors import StoreError
from wheelcache.holdings import FileFacts, Holding, Holdings, take_holdings
from wheelcache.layout import read_layout
from wheelcache.prune import prune
from wheelcache.pruneplan import Limits, plan_prune
from wheelcache.roots import Roots
from wheelcache.store import Store
from wheelcache.verify import verify_store
from wheelcache.views import make_view

DAY = 86_400.0
NOW = float(int(time.time()))
ONE, TWO, SIX = (
    make_wheel(f"wheel-{name}", "1.0", size=size) for name, size in (("a", 2000), ("b", 3000), ("c", 6000))
)


class Clock:
    """Seconds since 1970, as a test sets them."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(tmp_path, clock):
    return Store.open(tmp_path / "cache", now=clock)


@pytest.fixture
def roots(store):
    return Roots(store.root)


def put(store, made):
    wheel = made.locked()
    with store.acquire(wheel.digest):
        partial = store.partial(wheel)
        partial.write(0, made.data)
        store.publish(wheel, partial)
        partial.close()
    return wheel


def begin(store, made, count: int) -> Path:
    with store.acquire(made.digest):
        partial = store.partial(made.locked(), piece=512)
        partial.write(0, made.data[:count])
        partial.flush()
        partial.close()
    return store.root / "v1" / "partial" / f"{hex_of(made.digest)}.part"


def view_of(store, key: str, *wheels) -> Path:
    return make_view(store, key, [(PurePosixPath("wheels", wheel.filename), wheel) for wheel in wheels], {})


def age(path: Path, seconds: float) -> None:
    os.utime(path, (NOW - seconds, NOW - seconds))


def run_prune(store, roots, *, now=NOW, between=lambda: None, **wanted):
    """Prunes as the command does; *between* happens after the decision."""
    holdings = take_holdings(store, roots, now=now)
    leases = roots.leases()
    plan = plan_prune(
        holdings,
        needed=roots.needed().keys(),
        leased={digest for lease in leases for digest in lease.digests},
        limits=Limits(**wanted),
        now=now,
        is_idle=not leases,
    )
    between()
    return prune(store, roots, holdings, plan, stop=threading.Event(), now=lambda: now)


def removed(done) -> list[tuple[str, str]]:
    return [(removal.holding.kind, removal.holding.name) for removal in done.removed]


def known(store) -> set[str]:
    with closing(sqlite3.connect(store.root / "v1" / "catalog.sqlite")) as connection:
        blobs = {digest for (digest,) in connection.execute("SELECT digest FROM blobs")}
        assert {digest for (digest,) in connection.execute("SELECT digest FROM pieces")} <= blobs
    return blobs


def left_in_partial(store) -> list[str]:
    return sorted(file.name for file in (store.root / "v1" / "partial").iterdir())


@contextmanager
def leasing(store, *digests):
    """Another process that holds a lease until it is killed or its stdin ends."""
    script = (
        "import sys; from pathlib import Path; from wheelcache.roots import Roots\n"
        "with Roots(Path(sys.argv[1])).lease(sys.argv[2:], command='build'):\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", script, store.root, *digests], **pipes) as process:
        try:
            assert process.stdout.readline() == b"held\n"
            yield process
        finally:
            process.kill()


class TestWheels:
    def test_unused_for_30_days_go_where_nothing_is_said(self, store, roots, clock):
        old = put(store, ONE)
        clock.now = NOW + 29 * DAY
        young = put(store, TWO)
        done = run_prune(store, roots, now=NOW + 30 * DAY)
        assert removed(done) == [("wheel", ONE.filename)]
        assert done.removed[0].reason == "needed by nobody, last used 30 days ago"
        assert (store.has(old), store.has(young)) == (False, True)
        assert known(store) == {TWO.digest}
        assert (done.freed, done.store_bytes) == (ONE.size, TWO.size)

    def test_used_since_stay(self, store, roots, clock):
        put(store, ONE)
        clock.now = NOW + 29 * DAY
        store.touch([ONE.digest])
        assert removed(run_prune(store, roots, now=NOW + 30 * DAY)) == []

    def test_go_the_least_recently_used_first_until_the_store_is_small_enough(self, store, roots, clock):
        for made in (SIX, ONE, TWO):
            put(store, made)
            clock.now += 1
        store.touch([SIX.digest])
        total = ONE.size + TWO.size + SIX.size
        assert removed(run_prune(store, roots, now=clock.now, max_size=total)) == []
        done = run_prune(store, roots, now=clock.now, max_size=total - 1)
        assert removed(done) == [("wheel", ONE.filename)]
        done = run_prune(store, roots, now=clock.now, max_size=SIX.size)
        assert removed(done) == [("wheel", TWO.filename)]
        assert done.store_bytes == SIX.size

    def test_old_ones_go_as_well_where_a_size_and_an_age_are_given(self, store, roots, clock):
        put(store, ONE)
        clock.now += 10 * DAY
        put(store, TWO)
        assert removed(run_prune(store, roots, now=clock.now, max_size=1_000_000, older_than=9 * DAY)) == [
            ("wheel", ONE.filename)
        ]

    def test_all_that_nobody_needs_go_on_request(self, store, roots):
        put(store, ONE)
        put(store, TWO)
        roots.pin([TWO.digest])
        done = run_prune(store, roots, is_all=True)
        assert removed(done) == [("wheel", ONE.filename)]
        assert left_in_partial(store) == []

    def test_that_a_pin_a_project_or_a_lease_needs_stay_whatever_is_wanted(self, store, roots, tmp_path):
        for made in (ONE, TWO, SIX):
            put(store, made)
        lockfile = tmp_path / "pylock.toml"
        lockfile.write_text("")
        roots.keep_project(lockfile, {lockfile: [TWO.digest]}, now=NOW)
        roots.pin([ONE.digest])
        with leasing(store, SIX.digest):
            assert removed(run_prune(store, roots, now=NOW + 999 * DAY, max_size=0, older_than=0.0, is_all=True)) == []
        assert ("wheel", SIX.filename) in removed(run_prune(store, roots, max_size=0))
        assert known(store) == {ONE.digest, TWO.digest}

    def test_that_somebody_needs_since_the_decision_stay(self, store, roots):
        put(store, ONE)
        put(store, TWO)
        done = run_prune(store, roots, is_all=True, between=lambda: roots.pin([ONE.digest]))
        assert removed(done) == [("wheel", TWO.filename)]
        assert [removal.holding.name for removal in done.kept] == [ONE.filename]
        assert (done.freed, done.store_bytes) == (TWO.size, ONE.size)

    def test_that_are_being_written_stay(self, store, roots):
        put(store, ONE)
        other = Store.open(store.root)
        with other.acquire(ONE.digest):
            assert removed(run_prune(store, roots, is_all=True)) == []
        assert removed(run_prune(store, roots, is_all=True)) == [("wheel", ONE.filename)]

    def test_stay_all_where_a_project_cannot_be_read(self, store, roots):
        put(store, ONE)

        def damage():
            (store.root / "v1" / "projects" / f"{'0' * 32}.json").write_text("{")

        with pytest.raises(StoreError, match="what it keeps is unknown"):
            run_prune(store, roots, is_all=True, between=damage)
        assert store.has(ONE.locked())

    def test_unknown_to_the_catalog_go_by_their_own_dates(self, store, roots):
        put(store, ONE)
        (store.root / "v1" / "catalog.sqlite").unlink()
        age(store.blob(ONE.digest), 31 * DAY)
        assert removed(run_prune(Store.open(store.root), roots)) == [("wheel", ONE.filename)]

    def test_that_others_link_to_free_nothing_on_the_disk(self, store, roots, tmp_path):
        put(store, ONE)
        os.link(store.blob(ONE.digest), tmp_path / "mine.whl")
        done = run_prune(store, roots, is_all=True)
        assert (done.freed, done.store_bytes) == (0, 0)
        assert (tmp_path / "mine.whl").read_bytes() == ONE.data


def test_what_goes_loses_its_name_on_the_disk_before_its_bytes(store, roots, tmp_path):
    """So a power cut cannot bring a blob's name back with bytes that took the place of its own."""
    for made in scenarios.MADE.values():
        scenarios.put(store, made)
    roots.pin([scenarios.RIGHT.digest])
    blob = store.blob(scenarios.LEFT.digest)
    calls, names = [], []
    with Nursery() as nursery:
        prepare = lambda at: scenarios.copy_store(store.root, tmp_path / f"run-{at}")  # noqa: E731
        for ended, root in nursery.each_fault(scenarios.prune, prepare, "killed"):
            calls.append(ended.reached)
            (name,) = [path.name for path in (root / blob.relative_to(store.root)).parent.iterdir()] or [""]
            names.append(name)
    first = calls.index("rename")
    assert calls[first + 1] == "fsync"  # of the folder
    assert "unlink" not in calls[:first]
    assert set(names[: first + 1]) == {blob.name}
    assert all(name.startswith(f".{blob.name}.") for name in names[first + 1 : -1])
    assert names[-1] == ""


@pytest.mark.parametrize("folder", ["blobs/sha256/ab", "partial", "views", "projects", "leases", "quarantine"])
def test_what_a_prune_was_removing_when_it_was_killed_goes_with_the_next_one(store, roots, tmp_path, folder):
    place = store.root / "v1" / folder
    place.mkdir(exist_ok=True)
    file, view = place / f".{'ab' * 32}.47.11.gone", place / f".{'cd' * 16}.47.12.gone"
    file.write_bytes(bytes(10))
    (view / "wheels").mkdir(parents=True)
    (view / "wheels" / "a.whl").symlink_to(tmp_path)
    (place / ".link.47.13.gone").symlink_to(tmp_path, target_is_directory=True)
    roots.pin([ONE.digest])
    done = run_prune(store, roots)
    assert {kind for kind, _ in removed(done)} == {"gone"}
    assert list(place.iterdir()) == []
    assert tmp_path.is_dir()


def test_what_a_prune_is_removing_is_no_finding_of_a_verify_meanwhile(store):
    put(store, ONE)
    blob = store.blob(ONE.digest)
    blob.rename(blob.with_name(f".{blob.name}.47.11.gone"))
    report = verify_store(store, fast=False, threads=1, emit=lambda _event: None, stop=threading.Event())
    assert report.findings == []


def test_rows_of_blobs_that_are_gone_leave_the_catalog(store, roots):
    put(store, ONE)
    put(store, TWO)
    store.blob(ONE.digest).unlink()
    assert not store.has(ONE.locked())
    run_prune(store, roots)
    assert known(store) == {TWO.digest}
    put(store, ONE)
    assert Store.open(store.root).has(ONE.locked())


class TestViews:
    def test_go_with_a_wheel_that_goes_and_so_its_bytes_become_free(self, store, roots):
        view = view_of(store, "ab" * 16, put(store, ONE), put(store, TWO))
        roots.pin([TWO.digest])
        done = run_prune(store, roots, is_all=True)
        assert removed(done) == [("view", "ab" * 16), ("wheel", ONE.filename)]
        assert not view.exists()
        assert list(view.parent.iterdir()) == []
        assert (done.freed, done.store_bytes) == (ONE.size, TWO.size)

    def test_of_wheels_that_stay_stay(self, store, roots):
        view = view_of(store, "ab" * 16, put(store, ONE))
        roots.pin([ONE.digest])
        assert removed(run_prune(store, roots, max_size=0)) == []
        assert view.is_dir()

    def test_of_wheels_that_are_gone_go(self, store, roots):
        view_of(store, "ab" * 16, put(store, ONE))
        store.blob(ONE.digest).unlink()
        done = run_prune(store, roots)
        assert [(each.holding.kind, each.reason) for each in done.removed] == [
            ("view", "holds a wheel that is not in the store any more")
        ]
        assert (done.freed, done.store_bytes) == (ONE.size, 0)

    def test_that_a_running_build_may_have_mounted_stay(self, store, roots):
        view_of(store, "ab" * 16, put(store, ONE))
        view_of(store, "cd" * 16, put(store, TWO))
        with leasing(store, ONE.digest):
            assert removed(run_prune(store, roots, is_all=True)) == [("view", "cd" * 16), ("wheel", TWO.filename)]

    def test_that_are_copies_go_before_any_wheel(self, store, roots):
        view = view_of(store, "ab" * 16, put(store, ONE))
        copy = view / "wheels" / ONE.filename
        copy.unlink()
        copy.write_bytes(ONE.data)
        holdings = take_holdings(store, roots, now=NOW)
        (found,) = holdings.of_kind("view")
        assert found.digests == {ONE.digest}
        done = run_prune(store, roots, max_size=ONE.size + 512)
        assert removed(done) == [("view", "ab" * 16)]
        assert store.has(ONE.locked())

    def test_are_made_anew(self, store, roots):
        wheel = put(store, ONE)
        view_of(store, "ab" * 16, wheel)
        roots.pin([ONE.digest])
        assert removed(run_prune(store, roots, is_all=True)) == [("view", "ab" * 16)]
        view = view_of(store, "ab" * 16, wheel)
        assert (view / "wheels" / ONE.filename).read_bytes() == ONE.data


class TestPartials:
    def test_that_are_old_go_with_journal_and_lock_file(self, store, roots):
        file = begin(store, SIX, 2000)
        lock = file.with_suffix(".lock")
        lock.touch()
        for each in (file, file.with_suffix(".json")):
            age(each, 29 * DAY)
        assert removed(run_prune(store, roots)) == []
        for each in (file, file.with_suffix(".json"), lock):
            age(each, 31 * DAY)
        done = run_prune(store, roots)
        assert removed(done) == [("partial", SIX.digest)]
        assert done.removed[0].reason == "needed by nobody, nothing came in for 31 days"
        assert left_in_partial(store) == []

    def test_that_have_no_journal_go_too(self, store, roots):
        file = begin(store, SIX, 2000)
        file.with_suffix(".json").unlink()
        assert removed(run_prune(store, roots, is_all=True)) == [("partial", SIX.digest)]
        assert left_in_partial(store) == []

    def test_that_a_project_needs_stay_however_old(self, store, roots, tmp_path):
        file = begin(store, SIX, 2000)
        lockfile = tmp_path / "pylock.toml"
        lockfile.write_text("")
        roots.keep_project(lockfile, {lockfile: [SIX.digest]}, now=NOW)
        assert removed(run_prune(store, roots, is_all=True)) == []
        assert file.exists()

    def test_that_somebody_writes_to_stay(self, store, roots):
        begin(store, SIX, 2000)
        with Store.open(store.root).acquire(SIX.digest):
            assert removed(run_prune(store, roots, is_all=True)) == []
        assert store.partial_bytes(SIX.digest) == 2000

    @pytest.mark.parametrize("seen", [("lock",), ("lock", "part", "json")])
    def test_that_are_begun_or_published_while_it_looks_are_no_trouble(self, store, roots, monkeypatch, seen):
        def look(*arguments, **options):
            layout = read_layout(*arguments, **options)
            begin(store, SIX, 2000) if "part" not in seen else put(store, SIX)
            return layout

        file = begin(store, SIX, 1000)
        for suffix in {"lock", "part", "json"} - set(seen):
            file.with_suffix(f".{suffix}").unlink()
        file.with_suffix(".lock").touch()
        monkeypatch.setattr("wheelcache.holdings.read_layout", look)
        with roots.lease([SIX.digest], command="sync"):
            assert removed(run_prune(store, roots, is_all=True)) == []
        assert store.partial_bytes(SIX.digest) == 2000 or store.blob(SIX.digest).exists()

    def test_that_grew_since_the_decision_stay(self, store, roots):
        file = begin(store, SIX, 2000)
        age(file, 31 * DAY)
        age(file.with_suffix(".json"), 31 * DAY)
        done = run_prune(store, roots, between=lambda: begin(store, SIX, 3000))
        assert removed(done) == []
        assert store.partial_bytes(SIX.digest) == 3000

    @pytest.mark.parametrize("suffix", ["lock", "json"])
    def test_lock_files_and_journals_beside_none_go_after_a_day_even_of_what_is_needed(self, store, roots, suffix):
        file = store.root / "v1" / "partial" / f"{hex_of(ONE.digest)}.{suffix}"
        file.touch()
        roots.pin([ONE.digest])
        age(file, DAY / 2)
        assert removed(run_prune(store, roots)) == []
        age(file, 2 * DAY)
        assert removed(run_prune(store, roots)) == [("lock", ONE.digest)]
        assert left_in_partial(store) == []


class TestWhatIsLeftOver:
    def test_trees_that_are_too_deep_for_a_path_go_or_are_named(self, store, roots):
        top = store.root / "v1" / "quarantine" / "deep"
        make_deep(top, 3000)
        age(top, 31 * DAY)
        said = ""
        try:
            run_prune(store, roots)
        except StoreError as error:
            said = error.message
        left = list(top.parent.iterdir())
        subprocess.run(["rm", "-rf", *left], check=True)
        assert said.endswith(": too deep to be removed") if left else not said

    def test_trees_whose_folders_may_not_be_read_go_all_the_same(self, store, roots):
        below = store.root / "v1" / "quarantine" / "folder" / "closed" / "below"
        below.mkdir(parents=True)
        (below / "file").touch()
        for folder in (below, below.parent, below.parents[1]):
            age(folder, 31 * DAY)
            folder.chmod(0)
        assert removed(run_prune(store, roots)) == [("quarantine", "folder")]
        assert list((store.root / "v1" / "quarantine").iterdir()) == []

    def test_quarantined_files_go_once_they_are_old(self, store, roots):
        put(store, ONE)
        blob = store.blob(ONE.digest)
        age(blob, 99 * DAY)
        bad = store.set_aside(ONE.digest, blob.stat())
        assert bad is not None
        folder = bad.with_name("folder")
        (folder / "below").mkdir(parents=True)
        (folder / "below" / "file").write_bytes(bytes(10))
        age(folder, 31 * DAY)
        assert removed(run_prune(store, roots)) == [("quarantine", "folder")]  # the blob was put aside just now
        age(bad, 31 * DAY)
        done = run_prune(store, roots)
        assert removed(done) == [("quarantine", bad.name)]
        assert done.freed == ONE.size
        assert list(bad.parent.iterdir()) == []

    def test_quarantined_links_are_not_followed(self, store, roots, tmp_path):
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "file").write_text("mine")
        (store.root / "v1" / "quarantine" / "link").symlink_to(outside)
        assert removed(run_prune(store, roots, is_all=True)) == [("quarantine", "link")]
        assert (outside / "file").read_text() == "mine"

    def test_leases_of_killed_commands_go(self, store, roots):
        with leasing(store, ONE.digest) as process:
            process.send_signal(signal.SIGKILL)
            process.wait()
            (file,) = (store.root / "v1" / "leases").iterdir()
            assert removed(run_prune(store, roots)) == [("lease", file.name)]
        assert list((store.root / "v1" / "leases").iterdir()) == []

    def test_projects_that_are_gone_go_and_others_stay(self, store, roots, tmp_path):
        for name in ("gone", "standing"):
            lockfile = tmp_path / name / "pylock.toml"
            lockfile.parent.mkdir()
            lockfile.write_text("")
            roots.keep_project(lockfile.parent, {lockfile: [ONE.digest]}, now=NOW)
        (tmp_path / "gone" / "pylock.toml").unlink()
        assert removed(run_prune(store, roots)) == [("project", str(tmp_path / "gone"))]
        assert [project.path for project in roots.projects()] == [tmp_path / "standing"]

    def test_temporary_files_go_an_hour_after_they_were_last_written(self, store, roots):
        base = store.root / "v1"
        file = base / "projects" / f".{'0' * 32}.json.123.tmp"
        file.write_text("half")
        view = base / "views" / f".{'ab' * 16}.123.456789"
        (view / "wheels").mkdir(parents=True)
        (view / "wheels" / "copy.whl").write_bytes(bytes(10))
        for each in (file, view):
            age(each, 7200)
        age(view / "wheels" / "copy.whl", 60)
        assert removed(run_prune(store, roots)) == [("temporary", file.name)]
        age(view / "wheels" / "copy.whl", 7200)
        assert removed(run_prune(store, roots)) == [("temporary", view.name)]
        assert not view.exists()


class TestPlan:
    """Decisions without files."""

    @staticmethod
    def holding(kind, name: str, *inodes: int, used: float = 0.0, digests=()) -> Holding:
        return Holding(
            kind=kind,
            path=Path(kind, name),
            name=name,
            size=100,
            last_used=used,
            inodes=tuple((1, inode) for inode in inodes),
            digests=frozenset(digests),
        )

    def plan(self, *items: Holding, links: int = 1, needed=(), **wanted):
        files = {inode: FileFacts(size=100, links=links) for item in items for inode in item.inodes}
        holdings = Holdings(items=items, files=files)
        return plan_prune(holdings, needed=set(needed), leased=set(), limits=Limits(**wanted), now=1000.0)

    def test_a_file_with_two_names_is_free_once_both_are_gone(self):
        wheel = self.holding("wheel", "a", 1, digests=["a"])
        view = self.holding("view", "v", 1, digests=["a"])
        plan = self.plan(wheel, view, links=2, is_all=True)
        assert [removal.holding.name for removal in plan.removals] == ["v", "a"]
        assert (plan.freed, plan.store_bytes) == (100, 0)
        assert self.plan(wheel, links=2, is_all=True).freed == 0

    def test_wheels_of_one_age_go_in_one_order(self):
        wheels = [self.holding("wheel", name, number, digests=[name]) for number, name in enumerate("cab")]
        plan = self.plan(*wheels, max_size=100)
        assert [removal.holding.name for removal in plan.removals] == ["a", "b"]

    def test_what_cannot_be_reached_is_left_at_what_is_needed(self):
        wheels = [self.holding("wheel", name, number, digests=[name]) for number, name in enumerate("abc")]
        plan = self.plan(*wheels, max_size=50, needed=["a", "b"])
        assert [removal.holding.name for removal in plan.removals] == ["c"]
        assert plan.store_bytes == 200

    def test_dates_in_the_future_are_no_age(self):
        plan = self.plan(self.holding("wheel", "a", 1, used=2000.0, digests=["a"]), older_than=1.0)
        assert plan.removals == ()


CHURN = """
    import sys, threading, time
    from pathlib import Path
    from wheelcache.holdings import take_holdings
    from wheelcache.prune import prune
    from wheelcache.pruneplan import Limits, plan_prune
    from wheelcache.roots import Roots
    from wheelcache.store import Store
    store = Store.open(Path(sys.argv[1]))
    roots = Roots(store.root)
    print("ready", flush=True)
    while True:
        holdings = take_holdings(store, roots, now=time.time())
        plan = plan_prune(
            holdings, needed=roots.needed().keys(), leased=roots.leased(), limits=Limits(is_all=True), now=time.time()
        )
        prune(store, roots, holdings, plan, stop=threading.Event())
"""


def test_a_prune_that_is_killed_anywhere_beside_running_syncs_loses_nothing_that_is_needed(store, roots, tmp_path):
    chance = random.Random(20)
    wheels = [make_wheel(f"w{number}", "1.0", size=3000 + number) for number in range(12)]
    pinned, churning = wheels[:4], wheels[4:]
    for made in pinned:
        put(store, made)
    roots.pin(made.digest for made in pinned)
    fetched, again = set(), 0
    script = textwrap.dedent(CHURN)
    for _ in range(25):
        with subprocess.Popen([sys.executable, "-c", script, store.root], stdout=subprocess.PIPE) as process:
            try:
                assert process.stdout.readline() == b"ready\n"
                for _ in range(3):
                    chosen = chance.sample(churning, 4)
                    with roots.lease([made.digest for made in chosen], command="sync"):
                        ours = Store.open(store.root)
                        for made in chosen:
                            if not ours.has(made.locked()):
                                again += made.digest in fetched
                                fetched.add(made.digest)
                                put(ours, made)
                        view = view_of(ours, os.urandom(16).hex(), *(made.locked() for made in chosen))
                        for made in chosen:
                            assert (view / "wheels" / made.filename).read_bytes() == made.data
                        assert all(store.blob(made.digest).read_bytes() == made.data for made in (*chosen, *pinned))
                threading.Event().wait(chance.random() * 0.02)
            finally:
                process.kill()
    assert again, "nothing was pruned, so nothing was tested"
    reopened = Store.open(store.root)
    assert all(reopened.has(made.locked()) for made in pinned)
    run_prune(reopened, roots, now=2e9, is_all=True)
    assert known(reopened) == {made.digest for made in pinned}
    assert left_in_partial(reopened) == []
    assert list((store.root / "v1" / "views").iterdir()) == []
    assert list((store.root / "v1" / "leases").iterdir()) == []
