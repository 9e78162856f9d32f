"""Lockfiles by any tool: which wheels they mean for a target, and what makes one unusable."""

from pathlib import Path

import pytest
import tomli_w

from wheelcache.digest import Digest, digest_of_bytes
from wheelcache.errors import LockError
from wheelcache.lock import LockRecord, completed_lock, lockfile_name, parse_lockfile, select_wheels
from wheelcache.target import declared_target

LINUX = declared_target("3.11", "manylinux_2_28_x86_64")
PATH = Path("/project/pylock.toml")


def wheel(filename: str, **more):
    return {"url": f"https://files.example/{filename}", "hashes": {"sha256": "ab" * 32}, **more}


def document(*packages, **more):
    return {"lock-version": "1.0", "created-by": "test", "packages": list(packages), **more}


def locked(*packages, **more):
    return parse_lockfile(tomli_w.dumps(document(*packages, **more)), PATH)


def package(name: str, *wheels, **more):
    return {"name": name, "version": "1.0", "wheels": list(wheels), **more}


def test_the_wheel_that_fits_best_is_chosen_by_the_targets_tags_not_this_machines():
    names = [
        "a-1.0-cp311-cp311-win_amd64.whl",
        "a-1.0-py3-none-any.whl",
        "a-1.0-cp311-cp311-manylinux_2_17_x86_64.whl",
        "a-1.0-cp311-cp311-manylinux_2_35_x86_64.whl",
    ]
    lockfile = locked(package("a", *map(wheel, names)))

    assert [chosen.filename for chosen in select_wheels(lockfile, LINUX)] == [names[2]]
    assert [chosen.filename for chosen in select_wheels(lockfile, declared_target("3.11", "win_amd64"))] == [names[0]]


def test_markers_are_judged_in_the_targets_environment():
    lockfile = locked(
        package("a", wheel("a-1.0-py3-none-any.whl"), marker="sys_platform == 'win32'"),
        package("b", wheel("b-1.0-py3-none-any.whl"), marker="sys_platform == 'linux'"),
    )

    assert [chosen.name for chosen in select_wheels(lockfile, LINUX)] == ["b"]


def test_a_local_wheel_is_had_from_beside_the_lockfile():
    entry = {"path": "wheels/a-1.0-py3-none-any.whl", "hashes": {"sha256": "ab" * 32}, "size": 5}

    (chosen,) = select_wheels(locked(package("a", entry)), LINUX)

    assert chosen.urls == ("file:///project/wheels/a-1.0-py3-none-any.whl",)
    assert chosen.size == 5


def test_a_wheel_given_by_direct_url_counts_as_a_wheel():
    archive = {"url": "https://files.example/a-1.0%2Blocal-py3-none-any.whl", "hashes": {"sha256": "ab" * 32}}

    (chosen,) = select_wheels(locked({"name": "a", "archive": archive}), LINUX)

    assert (chosen.filename, chosen.version) == ("a-1.0+local-py3-none-any.whl", "1.0+local")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            {
                "name": "a",
                "version": "1.0",
                "sdist": {"url": "https://x/a-1.0.tar.gz", "hashes": {"sha256": "ab" * 32}},
            },
            "a: expected a wheel, found only a source distribution",
        ),
        (
            {"name": "a", "vcs": {"type": "git", "url": "https://x/a", "commit-id": "1"}},
            "a: expected a wheel, found a version control URL",
        ),
        (
            package("a", wheel("a-1.0-cp312-cp312-win_amd64.whl")),
            "does not fit CPython 3.11.0 on manylinux_2_28_x86_64",
        ),
        (
            package("a", {"url": "https://x/a-1.0-py3-none-any.whl", "hashes": {"md5": "0" * 32}}),
            "expected a sha256 digest, found md5",
        ),
        (
            package("a", {"url": "https://x/a-1.0-py3-none-any.whl", "hashes": {"sha256": "zz"}}),
            "expected sha256:<64 hex digits>",
        ),
        (
            package(
                "a", {"url": "https://x/a", "name": "..%2Fa-1.0-py3-none-any.whl", "hashes": {"sha256": "ab" * 32}}
            ),
            "",
        ),
    ],
)
def test_what_cannot_be_fetched_by_digest_is_refused_by_name(entry, message):
    with pytest.raises(LockError) as caught:
        select_wheels(locked(entry), LINUX)

    assert message in caught.value.message
    assert str(PATH) in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    "text", ["x = [", "a = 1", 'lock-version = "9.0"\ncreated-by = "x"\npackages = []', "packages = 'x'"]
)
def test_what_is_no_lockfile_is_refused(text):
    with pytest.raises(LockError, match=r"pylock\.toml"):
        parse_lockfile(text, PATH)


def test_two_files_that_differ_in_case_only_are_refused():
    clash = locked(
        {"name": "a", "archive": wheel("A-1.0-py3-none-any.whl")},
        {"name": "b", "archive": wheel("a-1.0-py3-none-any.whl")},
    )

    with pytest.raises(LockError, match="differ in case only"):
        select_wheels(clash, LINUX)


def test_our_record_and_sizes_are_read_back_as_they_were_written():
    record = LockRecord(services=("ml", "worker"), target=LINUX, inputs=digest_of_bytes(b"inputs"))
    digest = Digest("sha256:" + "ab" * 32)

    written = completed_lock(
        document(package("a", wheel("a-1.0-py3-none-any.whl"))), sizes={digest: 7}, record=record, created_by="us 1"
    )
    lockfile = parse_lockfile(tomli_w.dumps(written), PATH)

    assert lockfile.record == record
    assert select_wheels(lockfile, LINUX)[0].size == 7
    assert written["tool"]["wheelcache"]["size"] == 7


@pytest.mark.parametrize(
    "table", [{"inputs": "x"}, {"services": []}, 3, {"inputs": "sha256:" + "0" * 64, "target": {}}]
)
def test_a_damaged_record_of_ours_is_an_error_not_a_guess(table):
    text = tomli_w.dumps({**document(), "tool": {"wheelcache": table}})

    with pytest.raises(LockError, match=r"tool\.wheelcache"):
        parse_lockfile(text, PATH)


def test_a_service_name_becomes_a_valid_lockfile_name():
    assert lockfile_name("agente-deposito") == "pylock.agente-deposito.toml"
    assert lockfile_name("ml.v2/x") == "pylock.ml-v2-x.toml"
