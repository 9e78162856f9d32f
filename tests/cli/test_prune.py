"""`wheelcache prune` as people run it: what goes, what stays, and what is told."""

from __future__ import annotations

import json
import random
import re
import signal
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from support.program import ALPHA_2, BETA, GAMMA, PROGRAM, Program, needs_root, wait_until
from support.server import Serve

KEYS = {"command", "dry_run", "removed", "kept_needed", "freed_bytes", "store_bytes", "ok"}
ROW = {"kind", "path", "name", "size", "last_used", "reason"}


@pytest.fixture
def synced(project) -> Program:
    """The project of two services, synced."""
    assert project("sync").code == 0
    return project


def told(ran) -> str:
    """What was said, without days."""
    return re.sub(r"\b\d{4}-\d\d-\d\d\b", "[DAY]", str(ran))


def removed(ran) -> list[tuple[str, str]]:
    assert ran.code == 0, ran
    return [(row["kind"], row["name"]) for row in ran.document["removed"]]


def drop(program: Program, service: str) -> Path:
    """Takes a service's lockfile away, so that what it alone needs is needed by nobody."""
    return (program.cwd / f"pylock.{service}.toml").rename(program.home / f"{service}.kept")


def test_nothing_goes_that_a_lockfile_needs(synced):
    synced("prune", "--all").shows("""\
exit 0
-- stdout
nothing to remove; the store has 302 kB
""")
    assert all(synced.holds(made.digest) for made in (ALPHA_2, BETA, GAMMA))


def test_what_nobody_needs_goes_once_it_is_old(synced):
    drop(synced, "two")
    synced("prune").shows("""\
exit 0
-- stdout
nothing to remove; the store has 302 kB
""")
    assert (
        told(synced("prune", "--older-than", "0"))
        == f"""\
exit 0
-- stdout
removed wheel {BETA.filename}  1.14 kB  last used [DAY]: needed by nobody, last used less than a minute ago
1 removed, 1.14 kB freed; the store has 301 kB
"""
    )
    assert (synced.holds(BETA.digest), synced.holds(GAMMA.digest)) == (False, True)


def test_a_dry_run_says_the_same_and_removes_nothing(synced):
    drop(synced, "two")
    assert (
        told(synced("prune", "--all", "--dry-run"))
        == f"""\
exit 0
-- stdout
would remove wheel {BETA.filename}  1.14 kB  last used [DAY]: needed by nobody, last used less than a minute ago
1 to remove, 1.14 kB to free; the store would have 301 kB
"""
    )
    dry, done = (synced("prune", "--all", "--json", *more).document for more in (["--dry-run"], []))
    assert (dry.pop("dry_run"), done.pop("dry_run")) == (True, False)
    assert dry == done
    assert not synced.holds(BETA.digest)


def test_json_has_every_removal(synced):
    drop(synced, "two")
    ran = synced("prune", "--all", "--json")
    assert ran.document.keys() == KEYS
    (row,) = ran.document["removed"]
    assert row.keys() == ROW
    assert (row["kind"], row["name"], row["size"]) == ("wheel", BETA.filename, BETA.size)
    assert row["path"].endswith(BETA.digest.removeprefix("sha256:"))
    assert ran.document["freed_bytes"] == BETA.size
    assert ran.document["store_bytes"] == ALPHA_2.size + GAMMA.size
    assert [(row["name"], row["needed_by"]) for row in ran.document["kept_needed"]] == [
        (GAMMA.filename, ["project [HOME]/project: pylock.one.toml"]),
        (ALPHA_2.filename, ["project [HOME]/project: pylock.one.toml"]),
    ]


def test_a_size_that_cannot_be_reached_is_told_with_the_largest_that_is_needed(synced):
    ran = synced("prune", "--max-size", "100kB")
    assert (ran.code, ran.out) == (0, "nothing to remove; the store has 302 kB\n")
    assert ran.err.startswith(
        "warning: the store cannot be brought to 100 kB: it has 302 kB, of which 302 kB are wheels that are needed; "
        f"the largest: {GAMMA.filename} (300 kB, project [HOME]/project: pylock.one.toml, and 1 more), "
        f"{ALPHA_2.filename} ("
    )


def test_a_size_is_kept_with_the_least_recently_used_going_first(synced):
    assert synced("sync", "one").code == 0  # beta was used before the others now
    for service in ("one", "two"):
        drop(synced, service)
    room = ALPHA_2.size + GAMMA.size
    assert ("wheel", BETA.filename) in removed(synced("prune", "--max-size", str(room), "--json"))
    assert [synced.holds(made.digest) for made in (ALPHA_2, BETA, GAMMA)] == [True, False, True]


def test_pins_keep_what_no_lockfile_needs(synced):
    drop(synced, "two")
    assert synced("pin", "beta==1.0").code == 0
    assert removed(synced("prune", "--all", "--json")) == []
    assert synced("unpin", "beta==1.0").code == 0
    assert removed(synced("prune", "--all", "--json")) == [("wheel", BETA.filename)]


def test_a_running_sync_keeps_what_it_needs(synced, server):
    for service in ("one", "two"):
        drop(synced, service)
    lockfile = synced.write("new/pylock.toml", (synced.home / "two.kept").read_text())
    gamma = GAMMA.digest.removeprefix("sha256:")
    (synced.cache / "v1" / "blobs" / "sha256" / gamma[:2] / gamma).unlink()
    path = f"/simple-files/{GAMMA.filename}"
    asked = len(server.asked(path))
    server.script(path, then=Serve(silent_at=100))
    with synced.start("sync", lockfile) as process:
        try:
            wait_until(lambda: len(server.asked(path)) > asked)
            lockfile.unlink()  # so the sync alone needs them
            assert ("wheel", ALPHA_2.filename) in removed(synced("prune", "--all", "--json"))
            assert synced.holds(BETA.digest)
        finally:
            process.kill()
    assert ("wheel", BETA.filename) in removed(synced("prune", "--all", "--json"))


def test_a_store_of_which_nobody_said_who_needs_what_is_refused(synced):
    for file in (synced.cache / "v1" / "projects").iterdir():
        file.unlink()
    synced("prune", "--older-than", "0").shows("""\
exit 2
-- stderr
error: [HOME]/cache: no project, pin or running command is known, so everything would count as unneeded
hint: run wheelcache sync in each project that uses this store, or pin wheels; --all removes all there is
""")
    assert synced.holds(BETA.digest)
    assert len(removed(synced("prune", "--all", "--json"))) == 3


def test_an_empty_store_is_no_reason_to_refuse(run):
    run("prune").shows("""\
exit 0
-- stdout
nothing to remove; the store has 0 B
""")


def test_a_damaged_root_stops_it(synced):
    drop(synced, "two")
    (root,) = (synced.cache / "v1" / "projects").iterdir()
    root.write_text("{")
    ran = synced("prune", "--all")
    assert ran.code == 6
    assert ran.err.startswith(f"error: [HOME]/cache/v1/projects/{root.name}: expected JSON")
    assert synced.holds(BETA.digest)


def test_a_project_that_is_gone_is_said_with_more_words_only(synced):
    for service in ("one", "two"):
        drop(synced, service)
    dry = synced("prune", "--dry-run", "-v")
    assert "would remove project [HOME]/project" in dry.out
    assert synced("prune").out == "nothing to remove; the store has 302 kB\n"
    assert list((synced.cache / "v1" / "projects").iterdir()) == []


@needs_root
def test_what_was_synced_where_nobody_can_look_from_here_is_kept_for_30_days(synced):
    """On a machine of another name, below a folder that is mounted there alone, as in a container."""
    inside = synced.home / "inside"
    inside.mkdir()
    (inside / "pylock.toml").touch()
    lockfile = drop(synced, "two")
    script = 'hostname elsewhere && mount -t tmpfs tmpfs "$0" && cp "$1" "$0/pylock.toml" && shift && exec "$@"'
    sync = [PROGRAM, "sync", inside / "pylock.toml", "-q"]
    (inside / "pylock.toml").unlink()
    subprocess.run(
        ["unshare", "--uts", "--mount", "sh", "-c", script, inside, lockfile, *sync], env=synced.environ, check=True
    )
    assert removed(synced("prune", "--all", "--json")) == []
    assert synced.holds(BETA.digest)
    assert re.search(
        r"lockfile \[HOME\]/inside/pylock.toml \(synced on (container )?elsewhere, kept", synced("list", "-v").out
    )
    for file in (synced.cache / "v1" / "projects").iterdir():
        document = json.loads(file.read_text())
        file.write_text(json.dumps({**document, "seen_at": document["seen_at"] - 32 * 86_400}))
    ran = synced("prune", "--all", "--dry-run", "-v")
    assert re.search(r"remove project \[HOME\]/inside/pylock.toml .* elsewhere, and not since \d{4}-", ran.out)
    assert ("wheel", BETA.filename) in removed(synced("prune", "--all", "--json"))
    assert synced.holds(GAMMA.digest)


@pytest.mark.parametrize(
    ("age", "told"), [("30", "expected a time such as 30d, 12h or 2w, found '30'"), ("1 year", "1 year")]
)
def test_an_age_that_is_none_is_refused(run, age, told):
    ran = run("prune", "--older-than", age)
    assert ran.code == 2
    assert told in ran.err


def test_images_need_an_engine_before_anything_goes(synced):
    drop(synced, "two")
    ran = synced("prune", "--all", "--images")
    assert ran.code == 10
    assert synced.holds(BETA.digest)


class TestAfterSync:
    """`[cache] max-size` in the project file."""

    @staticmethod
    def limit(program: Program, size: int) -> None:
        file = program.cwd / "wheelcache.toml"
        text = re.sub(r"\[cache\]\n.*\n", "", file.read_text())
        file.write_text(f'[cache]\nmax-size = "{size}"\n{text}')

    def test_what_nobody_needs_goes_until_the_store_is_small_enough(self, synced):
        drop(synced, "two")
        self.limit(synced, ALPHA_2.size + GAMMA.size)
        ran = synced("sync", "--frozen")
        assert ran.code == 0
        assert "1 removed, 1.14 kB freed; the store has 301 kB" in ran.err
        assert not synced.holds(BETA.digest)
        assert [synced.holds(made.digest) for made in (ALPHA_2, GAMMA)] == [True, True]

    def test_json_says_what_went(self, synced):
        drop(synced, "two")
        self.limit(synced, ALPHA_2.size + GAMMA.size)
        pruned = synced("sync", "--frozen", "--json").document["pruned"]
        assert [row["name"] for row in pruned["removed"]] == [BETA.filename]
        assert "pruned" not in synced("sync", "--frozen", "--json").document

    def test_nothing_is_said_where_there_is_room_or_all_is_needed(self, synced):
        for size in (1_000_000, 1000):
            self.limit(synced, size)
            ran = synced("sync", "--frozen")
            assert (ran.code, ran.err) == (0, "")
        assert "cannot be brought to 1 kB" in synced("sync", "--frozen", "-v").err

    def test_a_damaged_root_of_another_project_is_warned_of(self, synced):
        self.limit(synced, 1000)
        (synced.cache / "v1" / "projects" / f"{'0' * 32}.json").write_text("{")
        ran = synced("sync", "--frozen")
        assert ran.code == 0
        assert ran.err.startswith("warning: cache.max-size: not pruned: [HOME]/cache/v1/projects/000")


def test_a_wheelhouse_being_written_keeps_its_wheels(synced):
    leases = synced.cache / "v1" / "leases"
    seen: list[str] = []
    for number in range(20):  # it stands for a few milliseconds, which a busy machine may sleep through
        with synced.start("wheelhouse", f"wheels{number}", "two") as process:
            while process.poll() is None:
                for file in leases.iterdir():
                    with suppress(FileNotFoundError):
                        seen.append(file.read_text())
        assert process.returncode == 0
        if any(BETA.digest in text for text in seen):
            break
    else:
        pytest.fail(f"no lease was seen: {seen}")
    assert list(leases.iterdir()) == []


def test_prunes_that_are_killed_beside_running_syncs_cost_no_needed_wheel_and_no_byte_twice(synced, server):
    """Two lockfiles take turns; what is fetched again must have been seen missing."""
    chance = random.Random(4)
    path = f"/simple-files/{BETA.filename}"
    kept = synced.home / "two.kept"
    lockfile = synced.cwd / "pylock.two.toml"
    asked = len(server.asked(path))
    missing = 0
    for number in range(12):
        lockfile.rename(kept)
        prune = synced.start("prune", "--all", "-q")
        sync = synced.start("sync", "one")
        try:
            threading.Event().wait(0.3 + chance.random() * 0.5)
            if number % 4:  # the others come to their end, however busy the machine is
                prune.send_signal(signal.SIGKILL)
            prune.communicate()
            ran = synced.ended(sync)
            assert ran.code == 0, ran
        finally:
            prune.kill()
            sync.kill()
        assert all(synced.holds(made.digest) for made in (ALPHA_2, GAMMA))
        missing += not synced.holds(BETA.digest)
        kept.rename(lockfile)
        ran = synced("sync", "--json")
        assert ran.code == 0, ran
        assert all(synced.holds(made.digest) for made in (ALPHA_2, BETA, GAMMA))
    assert len(server.asked(path)) - asked == missing
    assert len(server.asked(f"/simple-files/{GAMMA.filename}")) <= 1
    assert missing, "no prune came so far: nothing was tested"
    assert synced("verify").code == 0
