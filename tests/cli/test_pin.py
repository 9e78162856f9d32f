"""`wheelcache pin` and `wheelcache unpin` as people run them."""

from __future__ import annotations

import pytest
from support.program import ALPHA_2, BETA, GAMMA, TARGET, Program

from wheelcache.digest import hex_of


@pytest.fixture
def synced(project) -> Program:
    """The project of two services, synced, and gone since: nobody needs its wheels."""
    assert project("sync").code == 0
    for name in ("one", "two"):
        (project.cwd / f"pylock.{name}.toml").rename(project.home / f"kept.{name}.toml")
    return project


def pinned(program: Program) -> set[str]:
    return {f"sha256:{file.name}" for file in (program.cache / "v1" / "pins").iterdir()}


def test_a_pinned_wheel_is_needed_until_it_is_unpinned(synced):
    synced("pin", "gamma==1.0").shows("""\
exit 0
-- stdout
gamma-1.0-py3-none-any.whl: pinned
""")
    rows = {row["name"]: (row["pinned"], row["needed_by"]) for row in synced("list", "--json").document["wheels"]}
    assert rows == {"alpha": (False, []), "beta": (False, []), "gamma": (True, ["pinned"])}
    synced("unpin", "gamma==1.0").shows("""\
exit 0
-- stdout
gamma-1.0-py3-none-any.whl: unpinned
""")
    assert pinned(synced) == set()


def test_a_second_time_changes_nothing_and_says_so(synced):
    assert synced("pin", "gamma==1.0").code == 0
    assert synced("pin", "gamma==1.0").out == "gamma-1.0-py3-none-any.whl: was pinned already\n"
    assert synced("unpin", "beta==1.0").out == "beta-1.0-py3-none-any.whl: was not pinned\n"
    assert pinned(synced) == {GAMMA.digest}


@pytest.mark.parametrize(
    "name",
    [
        GAMMA.digest,
        GAMMA.digest.upper(),
        hex_of(GAMMA.digest),
        hex_of(GAMMA.digest)[:8],
        GAMMA.digest[: len("sha256:") + 12],
        GAMMA.filename,
        f"somewhere/{GAMMA.filename}",
        "gamma-1.0.0-py3-none-any.whl",
        "gamma==1.0",
        "Gamma==1.0.0",
    ],
)
def test_a_wheel_has_many_names(synced, name):
    ran = synced("pin", name)
    assert ran.code == 0, ran
    assert pinned(synced) == {GAMMA.digest}


def test_a_file_of_that_name_in_the_working_directory_is_no_lockfile(synced):
    synced.write(GAMMA.filename, "")
    assert synced("pin", GAMMA.filename).code == 0
    assert pinned(synced) == {GAMMA.digest}


def test_several_wheels_are_pinned_at_once_or_none(synced):
    ran = synced("pin", "alpha==2.0", "delta==1.0")
    assert ran.code == 2
    assert pinned(synced) == set()
    assert synced("pin", "alpha==2.0", hex_of(BETA.digest)[:10]).code == 0
    assert pinned(synced) == {ALPHA_2.digest, BETA.digest}


def test_a_lockfile_stands_for_its_wheels_even_those_that_are_not_there(project):
    assert project("sync", "one").code == 0
    project("pin", "pylock.two.toml").shows("""\
exit 0
-- stdout
beta-1.0-py3-none-any.whl: pinned, not in the store yet
gamma-1.0-py3-none-any.whl: pinned
""")
    assert pinned(project) == {BETA.digest, GAMMA.digest}
    project("unpin", "pylock.two.toml").shows("""\
exit 0
-- stdout
beta-1.0-py3-none-any.whl: unpinned
gamma-1.0-py3-none-any.whl: unpinned, still needed by project [HOME]/project: pylock.one.toml
""")
    assert pinned(project) == set()


def test_a_lockfile_is_taken_for_the_target_given(synced):
    lockfile = synced.home / "kept.two.toml"
    assert synced("pin", lockfile, "--python", "3.11").code == 2
    assert synced("pin", lockfile, *TARGET).code == 0
    assert pinned(synced) == {BETA.digest, GAMMA.digest}


def test_a_pin_of_what_is_gone_can_be_taken_away(synced):
    assert synced("pin", "gamma==1.0").code == 0
    name = hex_of(GAMMA.digest)
    (synced.cache / "v1" / "blobs" / "sha256" / name[:2] / name).unlink()
    assert synced("unpin", name[:8]).out == f"{GAMMA.digest}: unpinned\n"
    assert pinned(synced) == set()


def test_json_has_every_wheel_named(synced):
    ran = synced("pin", "gamma==1.0", "--json")
    assert ran.document == {
        "command": "pin",
        "wheels": [
            {
                "digest": GAMMA.digest,
                "filename": GAMMA.filename,
                "present": True,
                "pinned": True,
                "changed": True,
            }
        ],
        "ok": True,
    }
    [row] = synced("unpin", "beta==1.0", "--json").document["wheels"]
    assert (row["pinned"], row["changed"]) == (False, False)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("gamma==2.0", "the store has gamma==1.0"),
        ("gamma", "the store has gamma==1.0"),
        ("gamma>=1.0", "the store has gamma==1.0"),
        ("gama==1.0", "the store has gamma==1.0"),
        ("gamma-2.0-py3-none-any.whl", "the store has gamma==1.0"),
        ("12345678", "name it by its digest (or 8 hex digits of it or more), its file name, or name==version: "),
        (hex_of(GAMMA.digest)[:7], "name it by its digest (or 8 hex digits of it or more)"),
        ("torch==2.8.0", "name it by its digest"),
    ],
)
def test_an_unknown_wheel_is_told_what_comes_near(synced, name, hint):
    for command in ("pin", "unpin"):
        ran = synced(command, name)
        assert ran.code == 2
        lines = ran.err.splitlines()
        assert lines[0] == f"error: {name}: expected a wheel in the store, found none"
        assert lines[1].startswith(f"hint: {hint}")
    assert pinned(synced) == set()


def test_the_beginning_of_two_digests_is_told_both(run):
    assert run("list").code == 0
    digests = ["ab" * 31 + tail for tail in ("00", "01")]
    for digest in digests:
        blob = run.cache / "v1" / "blobs" / "sha256" / "ab" / digest
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(b"")
    run("pin", "abababab").shows(f"""\
exit 2
-- stderr
error: abababab: expected the beginning of one digest, found 2 that begin so
hint: write more of it: sha256:{digests[0]}, sha256:{digests[1]}
""")
    assert run("pin", digests[1]).out == f"sha256:{digests[1]}: pinned\n"


def test_an_empty_store(run):
    run("pin", "gamma==1.0").shows("""\
exit 2
-- stderr
error: gamma==1.0: expected a wheel in the store, found none
hint: the store is empty: run wheelcache sync first, or pin a lockfile
""")


def test_nothing_named_is_a_usage_error(run):
    assert run("pin").code == 2
    assert run("unpin").code == 2


def test_a_lockfile_that_is_missing_is_a_lock_error(run):
    assert run("pin", "pylock.toml").code == 3


def test_help_says_how_to_name_wheels(run):
    for command in ("pin", "unpin"):
        ran = run(command, "--help")
        assert ran.code == 0
        assert f"Example: wheelcache {command} torch==2.8.0" in ran.out
