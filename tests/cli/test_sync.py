"""`wheelcache sync` as people run it: what it fetches, says and refuses, and the shape of its JSON."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

import pytest
from support.program import ALPHA, BIG, GAMMA, NATIVE, TARGET
from support.server import Exchange, Respond, Serve, Server

from wheelcache.resolve import uv_program

WHEEL_KEYS = {
    "lockfiles", "name", "version", "filename", "digest", "size", "state", "bytes_fetched", "source", "error"
}  # fmt: skip
SYNC_KEYS = {"command", "ok", "wheels", "bytes_fetched", "seconds"}
ERROR_KEYS = {"kind", "message", "hint", "exit_code"}


def test_a_sync_says_what_was_fetched_and_a_second_one_fetches_nothing(project, server):
    project("sync").shows("""\
exit 0
-- stdout
3 wheels, 302 kB: 3 downloaded; 302 kB fetched in [TIME]
""")
    asked = len(server.requests)
    project("sync").shows("""\
exit 0
-- stdout
3 wheels, 302 kB: 3 cached; 0 B fetched in [TIME]
""")
    assert len(server.requests) == asked


def test_sync_locks_what_is_unlocked(run, index):
    run.service("one", "gamma==1.0")
    run.declare("one", index=index)
    run("sync").shows("""\
exit 0
-- stdout
1 wheel, 300 kB: 1 downloaded; 300 kB fetched in [TIME]
-- stderr
locking one for CPython 3.11.0 on manylinux_2_28_x86_64: missing
""")
    assert run.holds(GAMMA.digest)


def test_json_has_exactly_the_documented_keys(project):
    first = project("sync", "one", "--json")
    assert first.code == 0
    assert first.document.keys() == SYNC_KEYS
    assert first.document["command"] == "sync"
    assert first.document["ok"] is True
    assert all(row.keys() == WHEEL_KEYS for row in first.document["wheels"])
    gamma = next(row for row in first.document["wheels"] if row["name"] == "gamma")
    assert gamma == {
        "lockfiles": ["[HOME]/project/pylock.one.toml"],
        "name": "gamma",
        "version": "1.0",
        "filename": GAMMA.filename,
        "digest": GAMMA.digest,
        "size": GAMMA.size,
        "state": "downloaded",
        "bytes_fetched": GAMMA.size,
        "source": f"http://[INDEX]/simple-files/{GAMMA.filename}",
        "error": None,
    }
    second = project("sync", "one", "--json")
    assert {row["state"] for row in second.document["wheels"]} == {"cached"}
    assert second.document["bytes_fetched"] == 0


def test_json_on_failure_tells_what_was_done_beside_the_error(project, server):
    server.script(f"/simple-files/{GAMMA.filename}", then=Respond(status=404))
    ran = project("sync", "one", "--json")
    assert ran.code == 4
    assert ran.document.keys() == SYNC_KEYS | {"error"}
    assert ran.document["error"].keys() == ERROR_KEYS
    assert ran.document["ok"] is False
    assert ran.document["error"]["kind"] == "network"
    assert ran.document["error"]["exit_code"] == 4
    assert {row["name"]: row["state"] for row in ran.document["wheels"]} == {"alpha": "downloaded", "gamma": "failed"}
    assert ran.err.count("error: ") == 1


def test_all_sources_failing_is_a_network_error_that_names_wheel_and_source(project, server):
    server.script(f"/simple-files/{GAMMA.filename}", then=Respond(status=404))
    project("sync", "one").shows("""\
exit 4
-- stdout
2 wheels, 301 kB: 1 downloaded, 1 failed; 1.15 kB fetched in [TIME]
-- stderr
warning: gamma-1.0-py3-none-any.whl: http://[INDEX]/simple-files/gamma-1.0-py3-none-any.whl: refused: expected the file, found HTTP status 404
gamma-1.0-py3-none-any.whl: failed: every source failed
error: gamma-1.0-py3-none-any.whl: every source failed
  http://[INDEX]/simple-files/gamma-1.0-py3-none-any.whl: refused: expected the file, found HTTP status 404
hint: the index may have dropped the file: lock again, or name a mirror
""")  # noqa: E501


def test_other_bytes_than_locked_are_an_integrity_error(project, server):
    server.script(f"/simple-files/{GAMMA.filename}", then=Serve(corrupt=True))
    ran = project("sync", "one")
    assert ran.code == 5, ran
    assert GAMMA.filename in ran.err
    assert not project.holds(GAMMA.digest)


def test_a_mirror_takes_over(project, server):
    server.script(f"/simple-files/{GAMMA.filename}", then=Respond(status=404))
    with Server() as other:
        project.hosts[other.host] = "[MIRROR]"
        mirror = other.put_index([GAMMA])
        ran = project("sync", "one", "--json", "--mirror", mirror)
    assert ran.code == 0, ran
    gamma = next(row for row in ran.document["wheels"] if row["name"] == "gamma")
    assert gamma["source"] == f"http://[MIRROR]/simple-files/{GAMMA.filename}"


def test_a_dry_run_fetches_nothing(project, server):
    asked = len(server.asked(f"/simple-files/{GAMMA.filename}"))
    project("sync", "--dry-run").shows("""\
exit 0
-- stdout
alpha-2.0-py3-none-any.whl  1.15 kB
gamma-1.0-py3-none-any.whl  300 kB
beta-1.0-py3-none-any.whl  1.14 kB
3 of 3 wheels missing: 302 kB to fetch
""")
    assert project("sync", "--dry-run", "--json").document.keys() == SYNC_KEYS | {"dry_run"}
    assert len(server.asked(f"/simple-files/{GAMMA.filename}")) == asked
    assert not project.holds(GAMMA.digest)


def test_offline_with_everything_there(project, server):
    assert project("sync").code == 0
    asked = len(server.requests)
    assert project("--offline", "sync").code == 0
    assert project("sync", "--frozen", "--offline").code == 0
    assert len(server.requests) == asked


def test_offline_with_something_missing(project, server):
    assert project("sync", "one").code == 0
    asked = len(server.requests)
    ran = project("--offline", "sync", "two", "--json")
    assert ran.code == 4
    assert {row["name"]: row["state"] for row in ran.document["wheels"]} == {"beta": "missing", "gamma": "cached"}
    project("--offline", "sync").shows("""\
exit 4
-- stdout
3 wheels, 302 kB: 2 cached, 1 missing; 0 B fetched in [TIME]
-- stderr
beta-1.0-py3-none-any.whl: missing: not in the store, and --offline forbids fetching it
error: beta-1.0-py3-none-any.whl: not in the store, and --offline forbids fetching it
hint: run the same command without --offline
""")
    assert len(server.requests) == asked


def test_frozen_takes_lockfiles_as_they_stand(project):
    project.write("one/requirements.txt", "alpha\nnative\n")
    ran = project("sync", "--frozen", "--json")
    assert ran.code == 0
    assert {row["name"] for row in ran.document["wheels"]} == {"alpha", "beta", "gamma"}
    (project.cwd / "pylock.two.toml").unlink()
    project("sync", "two", "--frozen").shows("""\
exit 2
-- stderr
error: two: expected its lockfile pylock.two.toml in [HOME]/project, found none
hint: run wheelcache lock two
""")


def test_a_deadline_ends_the_sync_and_keeps_the_bytes(big, server):
    server.script(f"/simple-files/{BIG.filename}", Serve(rate=500_000))
    ran = big("sync", "--deadline", "1")
    assert ran.code == 4
    assert "\nerror: big-1.0-py3-none-any.whl: the deadline of [TIME] has passed; " in ran.err
    assert ran.err.endswith(" bytes are kept\nhint: run the same command again: it continues where this one stopped\n")
    kept = big.partial_bytes()
    assert kept > 100_000
    ran = big("sync", "--json")
    assert ran.code == 0
    assert ran.document["wheels"][0]["state"] == "resumed"
    assert ran.document["bytes_fetched"] <= BIG.size - kept + 1000


def test_a_lockfile_for_another_target(run, index):
    run.service("one", "native")
    run.declare("one", index=index)
    assert run("lock").code == 0
    run("sync", "pylock.one.toml", "--python", "3.12", "--platform", "manylinux_2_28_x86_64").shows("""\
exit 3
-- stderr
error: pylock.one.toml: does not fit CPython 3.12.0 on manylinux_2_28_x86_64: No wheel found matching the provided tags for package 'native' at packages[0], and no sdist available as a fallback
hint: lock for this target: wheelcache lock, or pass the lockfile's own --python and --platform
""")  # noqa: E501


def test_what_a_lockfile_records_comes_before_the_project_files_target(run, index):
    run.service("one", "native")
    run.declare("one", index=index)
    assert run("lock").code == 0
    text = (run.cwd / "wheelcache.toml").read_text()
    run.write("wheelcache.toml", text.replace('"3.11"', '"3.12"'))
    assert run("status").code == 0
    assert run("sync", "--frozen").code == 0
    assert run("wheelhouse", "wheels").code == 0
    assert (run.cwd / "wheels" / NATIVE.filename).is_file()


def test_a_lockfile_without_digests(project):
    text = (project.cwd / "pylock.one.toml").read_text()
    project.write("pylock.weak.toml", text.replace("sha256 = ", "md5 = "))
    project("sync", "pylock.weak.toml").shows("""\
exit 3
-- stderr
error: pylock.weak.toml: alpha-2.0-py3-none-any.whl: expected a sha256 digest, found md5
hint: lock again with a tool that records sha256 hashes: wheelcache lock
""")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("pylock.x.toml", "<<<<<<< HEAD\n", "expected TOML"),
        ("pylock.x.toml", 'lock-version = "9.0"\ncreated-by = "x"\npackages = []\n', "9.0"),
        ("pylock.x.toml", "[project]\n", "expected a PEP 751 lockfile"),
        ("x.txt", "alpha\n", "expected name==version with hashes, found 'alpha'"),
        ("x.txt", "alpha==1.0\n", "alpha: expected a sha256 hash, found none"),
    ],
)
def test_what_is_no_lockfile_is_a_lock_error(run, index, name, text, said):
    run.write(name, text)
    ran = run("sync", name, *TARGET, "--index-url", index)
    assert ran.code == 3, ran
    assert name in ran.err
    assert said in ran.err
    assert "\nhint: " in ran.err


def test_a_lockfile_that_is_missing(run):
    run("sync", "pylock.no.toml").shows("""\
exit 3
-- stderr
error: pylock.no.toml: expected a lockfile, found none
hint: run wheelcache lock
""")


def test_a_lockfile_of_uv_is_taken_as_it_is(run, index):
    run.write("requirements.in", "alpha\nnative\n")
    argv = [uv_program(), "pip", "compile", "--quiet", "--format", "pylock.toml", "--default-index", index]
    argv += ["--python-version", "3.11", "--python-platform", "x86_64-manylinux_2_28", "-o", "pylock.toml"]
    subprocess.run([*argv, "--python", sys.executable, "requirements.in"], cwd=run.cwd, env=run.environ, check=True)
    text = (run.cwd / "pylock.toml").read_text()

    run("sync", "pylock.toml").shows("""\
exit 3
-- stderr
error: pylock.toml: does not record which interpreter it is for
hint: say it: --python 3.11 --platform manylinux_2_28_x86_64, or [target] in the project file
""")
    ran = run("sync", "pylock.toml", *TARGET)
    assert ran.code == 0, ran
    assert run.holds(NATIVE.digest)
    assert run("wheelhouse", "wheels", "pylock.toml", *TARGET).code == 0
    assert (run.cwd / "pylock.toml").read_text() == text


@pytest.mark.index
def test_a_lockfile_of_pip_is_taken_as_it_is(run, index, tmp_path):
    pip = tmp_path / "pip"
    subprocess.run([uv_program(), "pip", "install", "--quiet", "--target", pip, "pip>=25.3"], check=True)
    argv = [sys.executable, "-m", "pip", "lock", "--quiet", "--index-url", index, "alpha", "gamma<2"]
    environ = {**run.environ, "PYTHONPATH": str(pip), "PIP_CONFIG_FILE": "/dev/null"}
    subprocess.run(argv, cwd=run.cwd, env=environ, check=True, capture_output=True)

    ran = run("sync", "pylock.toml", *TARGET)
    assert ran.code == 0, ran
    assert run.holds(GAMMA.digest)


def test_requirements_with_hashes_are_taken_as_they_are(run, index, server):
    run.write("locked.txt", f"alpha==1.0 --hash={ALPHA.digest}\n")
    run("sync", "locked.txt").shows("""\
exit 3
-- stderr
error: locked.txt: does not record which interpreter it is for
hint: say it: --python 3.11 --platform manylinux_2_28_x86_64, or [target] in the project file
""")
    ran = run("sync", "locked.txt", *TARGET, "--index-url", index, "--json")
    assert ran.code == 0, ran
    assert [row["filename"] for row in ran.document["wheels"]] == [ALPHA.filename]
    assert run.holds(ALPHA.digest)


def test_a_requirements_file_is_locked_into_the_working_directory(run, index):
    run.write("requirements.txt", "alpha==1.0\n")
    run("sync", "-r", "requirements.txt").shows("""\
exit 3
-- stderr
error: -r: the target is not known: which Python, on which platform?
hint: say it: --python 3.11 --platform manylinux_2_28_x86_64, or [target] in the project file
""")
    run("sync", "-r", "requirements.txt", *TARGET, "--index-url", index).shows("""\
exit 0
-- stdout
2 wheels, 401 kB: 2 downloaded; 401 kB fetched in [TIME]
-- stderr
locking pylock.toml for CPython 3.11.0 on manylinux_2_28_x86_64
""")
    assert (run.cwd / "pylock.toml").is_file()
    run("sync", "-r", "requirements.txt", *TARGET, "--index-url", index).shows("""\
exit 0
-- stdout
2 wheels, 401 kB: 2 cached; 0 B fetched in [TIME]
""")


def test_a_requirements_file_never_replaces_another_tools_lockfile(run, index):
    run.write("requirements.txt", "alpha==1.0\n")
    run.write("pylock.toml", 'lock-version = "1.0"\ncreated-by = "somebody"\npackages = []\n')
    run("sync", "-r", "requirements.txt", *TARGET, "--index-url", index).shows("""\
exit 3
-- stderr
error: [HOME]/project/pylock.toml: another tool made it; it is not overwritten
hint: use it as it is (wheelcache sync pylock.toml), or remove it
""")


def test_credentials_are_used_and_stand_nowhere(run, server):
    index = server.put_index([ALPHA, GAMMA]).replace("http://", "http://me:se-cret@")
    run.service("one", "alpha==1.0")
    run.declare("one", index=index)
    said = [
        run("-v", "sync", "--events", "events.jsonl", "--mirror", index),
        run("sync", "--json"),
        run("status", "--json"),
        run("wheelhouse", "wheels", "--json"),
    ]
    server.script(f"/simple-files/{GAMMA.filename}", then=Respond(status=403))
    said += [run("-v", "sync", "--cache-dir", "other", "--events", "events.jsonl", "--mirror", index, "--json")]
    run.service("one", "alpha==9")
    said += [run("-v", "lock", "--json")]
    assert [ran.code for ran in said] == [0, 0, 0, 0, 4, 3], said

    asked = [request for request in server.requests if "authorization" in request.headers]
    assert {request.path for request in asked} >= {"/simple/alpha/", f"/simple-files/{ALPHA.filename}"}
    for ran in said:
        assert "se-cret" not in str(ran)
    for place in (run.cwd, run.cache):
        for file in place.rglob("*"):
            if file.is_file() and file.name != "wheelcache.toml":
                assert b"se-cret" not in file.read_bytes(), file


@dataclass(frozen=True)
class Guarded:
    """Answers only who shows credentials."""

    def answer(self, exchange: Exchange) -> None:
        known = "authorization" in exchange.request.headers
        (Serve() if known else Respond(status=401)).answer(exchange)


def test_files_that_are_served_only_for_an_indexs_credentials_are_had_with_them(run, server):
    index = server.put_index([ALPHA, GAMMA]).replace("http://", "http://me:se-cret@")
    for wheel in (ALPHA, GAMMA):
        server.script(f"/simple-files/{wheel.filename}", then=Guarded())
    run.service("one", "alpha==1.0")
    run.declare("one", index=index)

    assert run("sync").code == 0
    assert "se-cret" not in (run.cwd / "pylock.one.toml").read_text()
