"""Who writes to a digest: what its lock file says of that, who is first, and what is believed of whom."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from wheelcache.place import Place, boot_id
from wheelcache.writers import SILENT_SECONDS, Claim, Taken, last_writer, parse_writers, process_start, this_writer

HERE = Place(key="here", name="here")
ELSEWHERE = {"boot": "another start", "place": "elsewhere", "host": "build-7", "space": ""}

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="nothing is fetched there")


def me(command: str = "wheelcache sync"):
    return this_writer(command, boot=boot_id(), place=HERE)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "digest.lock"


@pytest.fixture
def claim(file):
    """Claims, and gives back in the end."""
    made: list[Claim] = []

    def claim(writer=None) -> Claim:
        made.append(Claim(file, writer or me(), now=time.time))
        return made[-1]

    yield claim
    for each in made:
        each.release()


@pytest.fixture(scope="module")
def dead() -> dict[str, object]:
    """The pid and the start of a process that runs no more."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        found = {"pid": process.pid, "started": process_start(process.pid)}
        process.stdin.close()
    return found


class TestAClaim:
    def test_is_had_by_one_until_it_is_given_back(self, claim):
        first = claim()
        with pytest.raises(Taken):
            claim()
        assert first.holds()
        first.release()
        assert claim().holds()

    def test_says_who_has_it(self, claim, file):
        claim(me("wheelcache build"))
        assert last_writer(file, me()).describe(me()) == f"process {os.getpid()} (wheelcache build)"

    def test_is_taken_back_by_who_came_second_so_that_nobody_waits_for_it(self):
        one, other = me("one"), me("other")
        assert parse_writers(one.line() + other.line() + other.retraction()) == [one]
        assert parse_writers(one.retraction() + one.line()) == [one]

    def test_of_many_who_come_at_once_is_had_by_one(self, file):
        """Each tries until it has had it; nobody ever has it beside another."""
        barrier, holders, most = threading.Barrier(8), [], []

        def have() -> None:
            writer = me()
            barrier.wait()
            while True:
                try:
                    claim = Claim(file, writer, now=time.time)
                except Taken:
                    continue
                holders.append(writer)
                most.append(len(holders))
                assert claim.holds()
                holders.remove(writer)
                claim.release()
                return

        threads = [threading.Thread(target=have) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert most == [1] * 8

    def test_ends_with_its_process(self, claim, file, dead):
        file.write_bytes(replace(me(), **dead).line())
        assert last_writer(file, me()) is None
        assert claim().holds()

    def test_ends_with_its_process_though_another_has_the_pid_now(self, claim, file):
        file.write_bytes(replace(me(), started="1").line())
        assert claim().holds()

    def test_ends_with_its_process_though_nobody_waited_for_that(self, claim, file):
        process = subprocess.Popen(["true"])
        started = process_start(os.getpid())
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it is a zombie now
        assert process_start(process.pid) == ""
        file.write_bytes(replace(me(), pid=process.pid, started=started).line())
        assert claim().holds()
        process.wait()

    @pytest.mark.parametrize(
        "where", [{"boot": "an earlier start"}, {"space": "a container"}], ids=["before a restart", "in a container"]
    )
    def test_of_this_machine_ends_where_the_lock_does(self, claim, file, where):
        file.write_bytes(replace(me(), **where).line())
        assert not claim().is_from_afar

    def test_of_another_machine_ends_when_it_gave_no_sign_for_long(self, claim, file):
        file.write_bytes(replace(me(), **ELSEWHERE).line())
        with pytest.raises(Taken):
            claim()
        long_ago = time.time() - SILENT_SECONDS - 1
        os.utime(file, (long_ago, long_ago))
        taken = claim()
        assert (taken.holds(), taken.is_from_afar) == (True, True)

    def test_gives_signs(self, claim, file):
        holding = claim()
        os.utime(file, (1, 1))
        holding.touch()
        assert file.stat().st_mtime > time.time() - 60

    @pytest.mark.parametrize("fate", ["removed", "replaced", "emptied"])
    def test_is_lost_with_its_file(self, claim, file, fate):
        holding = claim()
        if fate == "emptied":
            os.truncate(file, 0)
        else:
            file.unlink()
        if fate == "replaced":
            Claim(file, me(), now=time.time)
        assert not holding.holds()


class TestALockFile:
    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"garbage\n\xff\xfe\n",
            b"null\n[]\n{}\n1",
            b'{"pid": 4242, "command": "sync"}',
            b"[" * 100_000,
            me().line()[:-20],
        ],
        ids=["nothing", "garbage", "other values", "half a line", "a deep one", "a torn line"],
    )
    def test_of_others_words_says_nothing_and_keeps_nobody_out(self, claim, file, data):
        file.write_bytes(data)
        assert last_writer(file, me()) is None
        assert claim().holds()

    @pytest.mark.parametrize(
        "wrong",
        [
            {"pid": "1"},
            {"pid": True},
            {"pid": 1.5},
            {"pid": -1},
            {"since": float("nan")},
            {"since": 1e300},
            {"command": None},
            {"host": 1},
        ],
        ids=str,
    )
    def test_with_values_of_other_types_says_nothing(self, wrong):
        assert parse_writers(replace(me(), **wrong).line()) == []

    def test_shows_no_control_characters_and_no_long_words(self):
        writer = replace(me("\x1b[31mred\n" + "x" * 999), **{**ELSEWHERE, "host": "a\x07b"})
        assert writer.describe(me()) == f"process {os.getpid()} on a?b (?[31mred?{'x' * 51})"

    def test_is_no_link_to_another_file(self, claim, file, tmp_path):
        victim = tmp_path / "victim"
        victim.write_bytes(me("mine").line())
        file.symlink_to(victim)
        assert last_writer(file, me()) is None
        with pytest.raises(OSError, match="found a symbolic link"):
            claim()
