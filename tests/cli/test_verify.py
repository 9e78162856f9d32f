"""`wheelcache verify` as people run it: what it says, the shape of its JSON, what a repair fetches."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest
from support.program import BIG, GAMMA, Program, wait_until
from support.server import Respond

from wheelcache.partial import PIECE_BYTES

KEYS = {"command", "ok", "findings", "blobs", "bytes", "bytes_fetched", "seconds"}
FINDING_KEYS = {"kind", "path", "digest", "expected", "found", "hint", "harmless", "repaired"}


def blob(run: Program, digest: str):
    name = digest.removeprefix("sha256:")
    return run.cache / "v1/blobs/sha256" / name[:2] / name


def rot(run: Program, digest: str, place: int) -> None:
    """Lets one byte of a blob rot, as a disk does: its stat stays."""
    file = blob(run, digest)
    before = file.stat()
    file.chmod(0o644)
    with file.open("r+b") as opened:
        opened.seek(place)
        byte = opened.read(1)[0]
        opened.seek(place)
        opened.write(bytes([byte ^ 1]))
    file.chmod(0o444)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.fixture
def synced(big, server) -> Program:
    """A project that was synced, and a server that nobody has asked since."""
    assert big("sync").code == 0
    server.requests.clear()
    return big


def test_a_sound_store_has_nothing_wrong(synced):
    ran = synced("verify")
    assert ran.code == 0
    assert ran.out.startswith("1 blob, 3 MB read in [TIME] (")
    assert ran.out.endswith("/s): nothing wrong\n")
    assert ran.err == ""
    synced("verify", "--fast").shows("""\
exit 0
-- stdout
1 blob looked at, none read: nothing wrong
""")


def test_an_empty_store_too(run):
    assert run("verify", "--json").document == {
        "command": "verify", "ok": True, "findings": [], "blobs": 0, "bytes": 0, "bytes_fetched": 0, "seconds": 0
    }  # fmt: skip


def test_rot_is_an_integrity_error_that_names_the_file_and_the_next_step(synced):
    rot(synced, BIG.digest, 1_000_000)
    assert synced("status", "--json").document["lockfiles"][0]["present"] == 1
    assert synced("verify", "--fast").code == 0
    ran = synced("verify")
    assert ran.code == 5
    lines = ran.out.splitlines()
    path = str(blob(synced, BIG.digest)).replace(str(synced.home), "[HOME]")
    assert lines[0].startswith(f"rot: {path}: expected {BIG.digest}, found sha256:")
    assert lines[1] == "  next step: wheelcache verify --repair fetches what is damaged"
    assert lines[2].endswith(": 1 finding")
    assert ran.err.startswith(f"error: {path}: rot: expected {BIG.digest}, found sha256:")
    assert ran.err.endswith("\nhint: wheelcache verify --repair fetches what is damaged\n")


def test_json_has_exactly_the_documented_keys(synced):
    rot(synced, BIG.digest, 1_000_000)
    ran = synced("verify", "--json")
    assert ran.code == 5
    assert ran.document.keys() == KEYS | {"error"}
    assert (ran.document["ok"], ran.document["blobs"], ran.document["bytes"]) == (False, 1, BIG.size)
    [finding] = ran.document["findings"]
    assert finding.keys() == FINDING_KEYS
    assert (finding["kind"], finding["digest"], finding["repaired"]) == ("rot", BIG.digest, False)
    assert finding["harmless"] is False
    assert ran.document["error"]["kind"] == "integrity"


def test_a_repair_fetches_the_damaged_piece_alone(synced, server):
    rot(synced, BIG.digest, PIECE_BYTES + 5)
    ran = synced("verify", "--repair", "--json")
    assert ran.code == 0, ran
    assert ran.document["ok"] is True
    assert ran.document["bytes_fetched"] == server.sent() == BIG.size - PIECE_BYTES
    assert [finding["repaired"] for finding in ran.document["findings"]] == [True]
    assert blob(synced, BIG.digest).read_bytes() == BIG.data
    assert synced("verify").code == 0


def test_a_repair_says_what_it_did(synced):
    rot(synced, BIG.digest, 5)
    ran = synced("verify", "--repair")
    assert ran.code == 0
    assert ran.out.splitlines()[1] == "  repaired"
    assert ran.out.endswith(": 1 finding, 1 repaired; 2.1 MB fetched\n")
    assert ran.err == ""


def test_a_repair_knows_the_sources_of_every_project_that_was_synced(synced, tmp_path):
    rot(synced, BIG.digest, 5)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    ran = synced("verify", "--repair", cwd=elsewhere)
    assert ran.code == 0, ran
    assert blob(synced, BIG.digest).read_bytes() == BIG.data


def test_a_repair_without_a_source_says_so_and_keeps_what_is_good_for_a_sync(synced, server):
    rot(synced, BIG.digest, 5)
    lockfile = synced.cwd / "pylock.big.toml"
    away = synced.home / "away.toml"
    lockfile.rename(away)
    ran = synced("verify", "--repair", "--json")
    assert ran.code == 5
    [finding] = ran.document["findings"]
    assert finding["repaired"] is False
    assert finding["hint"].startswith("no known lockfile names it: run wheelcache sync with one that does")
    assert not blob(synced, BIG.digest).exists()
    ran = synced("sync", away, "--json")
    assert ran.document["bytes_fetched"] == server.sent() == PIECE_BYTES


def test_a_repair_whose_sources_fail_keeps_what_is_good_as_well(synced, server):
    rot(synced, BIG.digest, 5)
    server.script(f"/simple-files/{BIG.filename}", then=Respond(status=404))
    ran = synced("verify", "--repair")
    assert ran.code == 5
    assert "next step: run the same command again once its sources can be reached\n" in ran.out
    assert f"{BIG.filename}: failed" in ran.err
    assert synced.partial_bytes() == BIG.size - PIECE_BYTES


def test_a_repair_offline_asks_nobody(synced, server):
    rot(synced, BIG.digest, 5)
    assert synced("--offline", "verify", "--repair").code == 5
    assert server.requests == []
    assert synced.partial_bytes() == BIG.size - PIECE_BYTES


def test_a_repair_takes_the_lockfiles_that_are_named(project, server):
    assert project("sync").code == 0
    rot(project, GAMMA.digest, 7)
    ran = project("verify", "two", "--repair")
    assert ran.code == 0, ran
    rot(project, GAMMA.digest, 7)
    assert project("verify", "--repair", "pylock.one.toml").code == 0
    project("verify", "three", "--repair").shows("""\
exit 2
-- stderr
error: three: expected its lockfile pylock.three.toml in [HOME]/project, found none
hint: run wheelcache lock three
""")


def test_a_damaged_catalog_is_made_anew_with_all_that_it_said(synced, server):
    listed = synced("list", "--json").document
    (synced.cache / "v1" / "catalog.sqlite").write_bytes(b"rotten" * 1000)
    ran = synced("verify")
    assert ran.code == 5
    assert ran.out.startswith("catalog: [HOME]/cache/v1/catalog.sqlite: expected a catalog as we write it, found ")
    ran = synced("verify", "--repair")
    assert ran.code == 0, ran
    assert synced("verify").code == 0
    again = synced("list", "--json").document
    assert [wheel["filename"] for wheel in again["wheels"]] == [wheel["filename"] for wheel in listed["wheels"]]
    rot(synced, BIG.digest, 5)
    assert synced("verify", "--repair", "--json").document["bytes_fetched"] == PIECE_BYTES


def test_strays_are_moved_into_the_quarantine(synced):
    stray = synced.cache / "v1" / "partial" / "notes.txt"
    stray.write_text("mine")
    assert synced("verify").code == 5
    assert synced("verify", "--repair").code == 0
    assert not stray.exists()
    assert (synced.cache / "v1" / "quarantine" / "notes.txt").read_text() == "mine"
    assert synced("verify").code == 0


def test_a_pipe_in_a_blobs_place_keeps_nobody_waiting(synced):
    file = blob(synced, BIG.digest)
    file.unlink()
    os.mkfifo(file)
    assert synced("verify", timeout=20).code == 5
    assert synced("list", "--json", timeout=20).document["wheels"] == []
    assert synced("status", "--json", timeout=20).document["lockfiles"][0]["missing"] == 1
    assert synced("sync", timeout=20).code == 0
    assert synced("verify").code == 0


def test_several_findings_are_counted_and_what_is_left_is_an_error(synced):
    (synced.cache / "v1" / "stray").touch()
    (synced.cache / "v1" / "partial").chmod(0o777)
    ran = synced("verify")
    assert ran.err.startswith("error: 2 findings; the first: [HOME]/cache/v1/partial: open-folder: ")
    ran = synced("verify", "--repair")
    assert ran.code == 5
    assert ran.out.endswith(": 2 findings, 1 repaired; 0 B fetched\n")
    assert ran.err.startswith("error: [HOME]/cache/v1/partial: open-folder: ")
    assert "hint: chmod o-w" in ran.err


def leave_debris(run: Program) -> None:
    journal = run.cache / "v1" / "partial" / f"{'1' * 64}.json"
    journal.touch()
    os.utime(journal, (1, 1))


def loosen(run: Program) -> None:
    blob(run, BIG.digest).chmod(0o644)


def link(run: Program) -> None:
    (run.home / "backup").hardlink_to(blob(run, BIG.digest))


@pytest.mark.parametrize(
    ("change", "kind", "is_repaired"), [(leave_debris, "debris", True), (loosen, "mode", True), (link, "linked", False)]
)
def test_what_is_harmless_is_told_and_no_error(synced, change, kind, is_repaired):
    change(synced)
    ran = synced("verify", "--json")
    assert (ran.code, ran.document["ok"]) == (0, True)
    [finding] = ran.document["findings"]
    assert (finding["kind"], finding["harmless"], finding["repaired"]) == (kind, True, False)
    ran = synced("verify")
    assert ran.code == 0
    assert ran.out.startswith(f"{kind}: ")
    assert ran.out.endswith(": nothing wrong; 1 harmless finding\n")
    assert ran.err == ""
    ran = synced("verify", "--repair", "--json")
    assert ran.code == 0
    assert [finding["repaired"] for finding in ran.document["findings"]] == [is_repaired]
    assert len(synced("verify", "--fast", "--json").document["findings"]) == (0 if is_repaired else 1)


def test_what_is_harmless_hides_no_error(synced):
    leave_debris(synced)
    rot(synced, BIG.digest, 5)
    ran = synced("verify")
    assert ran.code == 5
    assert ran.out.endswith(": 2 findings (1 harmless)\n")
    assert ran.err.startswith("error: [HOME]/cache/v1/blobs/")


@pytest.mark.parametrize(
    "name", [b"\x1b]0;owned\x07\x1b[2J", b"a\r\nerror: gone", b"\xff\xfe", "\u202egnp.exe".encode()]
)
def test_no_name_of_a_file_reaches_the_terminal_as_more_than_text(synced, name):
    (synced.cache / "v1" / "partial" / os.fsdecode(name)).touch()
    folder = synced.cache / "v1" / os.fsdecode(name)
    folder.mkdir()
    for arguments in ((), ("--repair",)):
        ran = synced("verify", *arguments, env={"PYTHONIOENCODING": "utf-8"})
        assert ran.code == (0 if arguments else 5)
        assert all(line.isprintable() for text in (ran.out, ran.err) for line in text.split("\n"))
        assert len(ran.out.splitlines()) == 5
    (synced.cache / "v1" / "partial" / os.fsdecode(name)).touch()
    document = synced("verify", "--json").document
    assert [finding["kind"] for finding in document["findings"]] == ["stray"]
    json.dumps(document, ensure_ascii=False).encode()


def test_a_flipped_bit_in_the_catalog_is_found_by_a_fast_look(synced):
    catalog = synced.cache / "v1" / "catalog.sqlite"
    data = bytearray(catalog.read_bytes())
    data[data.index(BIG.filename.encode())] ^= 1
    catalog.write_bytes(data)
    ran = synced("verify", "--fast")
    assert ran.code == 5
    assert "found blobs: 'sha256:" in ran.out
    assert synced("verify", "--repair", "--json").document["bytes_fetched"] == 0
    assert synced("verify", "--fast").code == 0


def test_repairing_without_reading_is_refused(run):
    run("verify", "--fast", "--repair").shows("""\
exit 2
-- stderr
error: --fast reads no blob, and so has nothing to repair
hint: run wheelcache verify --repair without --fast
""")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_ends_it_with_what_was_found_by_then(synced, number, code):
    huge = blob(synced, f"sha256:{'ab' * 32}")
    huge.parent.mkdir()
    huge.touch(0o444)
    os.truncate(huge, 1 << 40)  # all holes; to read them takes minutes
    (synced.cache / "v1" / "stray").touch()
    events = synced.home / "events"
    with synced.start("verify", "--json", "--events", events) as process:
        wait_until(lambda: events.exists() and "StoreRead" in events.read_text())
        began = time.monotonic()
        process.send_signal(number)
        ran = synced.ended(process)
    assert time.monotonic() - began < 15
    assert ran.code == code
    assert ran.document["error"]["kind"] == "interrupted"
    assert [finding["kind"] for finding in ran.document["findings"]] == ["stray"]
    assert 0 < ran.document["bytes"] < 1 << 40


def test_events_tell_how_far_the_reading_is(synced):
    events = synced.home / "events"
    assert synced("verify", "--events", events).code == 0
    lines = [json.loads(line) for line in events.read_text().splitlines()]
    last = [line for line in lines if line["event"] == "StoreRead"][-1]
    assert (last["read"], last["size"]) == (BIG.size, BIG.size)
    assert last["rate"] > 0
