"""Lockfiles made by a real uv and an index on loopback: what is in them, when they are stale, how they are made."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.server import Server
from support.wheels import make_wheel

from wheelcache.config import IndexConfig, TargetConfig
from wheelcache.digest import Digest
from wheelcache.errors import LockError, ProjectFileError, StaleLockError
from wheelcache.events import ignore
from wheelcache.lock import LockRecord, select_wheels
from wheelcache.locking import Locker, document_of, lock_files, merge_documents, merge_neighbours, standing_lockfile
from wheelcache.resolve import Demand, Resolver, uv_program
from wheelcache.target import declared_target
from wheelcache.transport import Transport

DECLARED = TargetConfig(python="3.11", platform="manylinux_2_28_x86_64")
TARGET = declared_target("3.11", "manylinux_2_28_x86_64")
TORCH = [make_wheel("torch", version, requires=("numpy",)) for version in ("1.0", "2.0")]
NUMPY = [make_wheel("numpy", version) for version in ("1.0", "2.0")]


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as started:
        started.put_index([*TORCH, *NUMPY])
        yield started


@pytest.fixture
def locker(server: Server, tmp_path: Path) -> Locker:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("UV_", "PIP_"))}
    resolver = Resolver(
        uv=uv_program(),
        indexes=(IndexConfig(name="main", url=f"{server.url}/simple/"),),
        environ={**kept, "UV_CACHE_DIR": str(tmp_path / "uv"), "UV_HTTP_RETRIES": "0"},
        stop=threading.Event(),
    )
    return Locker(resolver=resolver, transport=lambda: Transport(timeout=5), emit=ignore)


@pytest.fixture
def requirements(tmp_path: Path) -> Path:
    file = tmp_path / "requirements.txt"
    file.write_text("torch\n-c limits.txt\n")
    (tmp_path / "limits.txt").write_text("numpy<2\n")
    return file


def lock(locker: Locker, requirements: Path, *, offline: bool = False):
    path = requirements.parent / "pylock.toml"
    return lock_files([requirements], path, target=DECLARED, locker=locker, offline=offline)


def versions(lockfile) -> dict[str, str]:
    return {package.name: str(package.version) for package in lockfile.pylock.packages}


def test_a_lockfile_records_target_inputs_and_sizes(locker, requirements):
    lockfile = lock(locker, requirements)

    assert lockfile.record is not None
    assert lockfile.record.target == TARGET
    assert versions(lockfile) == {"numpy": "1.0", "torch": "2.0"}
    assert {wheel.filename: wheel.size for wheel in select_wheels(lockfile, TARGET)} == {
        NUMPY[0].filename: NUMPY[0].size,
        TORCH[1].filename: TORCH[1].size,
    }
    assert standing_lockfile(lockfile.path) == lockfile


def test_a_lockfile_that_answers_to_its_inputs_is_left_alone(locker, requirements, server):
    before = lock(locker, requirements).path.read_bytes()
    asked = len(server.requests)

    assert lock(locker, requirements, offline=True).path.read_bytes() == before
    assert len(server.requests) == asked


@pytest.mark.parametrize(("name", "text"), [("requirements.txt", "torch\n"), ("limits.txt", "numpy==2.0\n")])
def test_any_changed_file_makes_it_stale(locker, requirements, name, text):
    lock(locker, requirements)
    (requirements.parent / name).write_text(text)

    with pytest.raises(StaleLockError, match="stale"):
        lock(locker, requirements, offline=True)


def test_another_index_makes_it_stale_and_another_password_does_not(locker, requirements, server):
    lock(locker, requirements)

    def at(url: str) -> Locker:
        indexes = (IndexConfig(name="main", url=url),)
        return replace(locker, resolver=replace(locker.resolver, indexes=indexes))

    lock(at(f"{server.url}/simple/".replace("//", "//me:pw@")), requirements, offline=True)
    with pytest.raises(StaleLockError):
        lock(at(f"{server.url}/other/"), requirements, offline=True)


def test_a_new_release_alone_changes_nothing(locker, requirements, server):
    lock(locker, requirements)
    server.put_index([*TORCH, make_wheel("torch", "3.0")])
    requirements.write_text("torch>=1\n-c limits.txt\n")

    assert versions(lock(locker, requirements)) == {"numpy": "1.0", "torch": "2.0"}


def test_the_target_must_be_declared(locker, requirements):
    with pytest.raises(LockError, match="the target is not known"):
        lock_files(
            [requirements], requirements.parent / "pylock.toml", target=TargetConfig(), locker=locker, offline=False
        )


def test_another_tools_lockfile_is_not_overwritten(locker, requirements):
    path = requirements.parent / "pylock.toml"
    path.write_text('lock-version = "1.0"\ncreated-by = "another"\npackages = []\n')

    with pytest.raises(LockError, match="another tool made it"):
        lock(locker, requirements)


def test_a_requirements_file_that_is_missing_is_named(locker, tmp_path):
    with pytest.raises(ProjectFileError, match=r"gone\.txt"):
        lock(locker, tmp_path / "gone.txt")


def test_demands_are_resolved_like_one_install_after_the_other(locker):
    first, second = Demand(lines=("numpy==1.0",), no_deps=True), Demand(lines=("torch",))

    document = locker.resolve([first, second], TARGET, preferences=None).document

    assert {package["name"]: package["version"] for package in document["packages"]} == {"numpy": "1.0", "torch": "2.0"}


def test_sizes_are_asked_only_where_nobody_knows_them(locker, server, tmp_path):
    document = locker.resolve([Demand(lines=("numpy==1.0",))], TARGET, preferences=None).document
    record = LockRecord(services=("a",), target=TARGET, inputs=Digest("sha256:" + "0" * 64))
    known = {NUMPY[0].digest: 4711}
    heads = len(server.asked(method="HEAD"))

    lockfile = locker.finish(tmp_path / "pylock.a.toml", document, record=record, known_sizes=known)

    assert select_wheels(lockfile, TARGET)[0].size == 4711
    assert len(server.asked(method="HEAD")) == heads


def test_a_lockfile_is_written_whole_or_not_at_all(locker, tmp_path):
    document = locker.resolve([Demand(lines=("numpy",))], TARGET, preferences=None).document
    record = LockRecord(services=(), target=TARGET, inputs=Digest("sha256:" + "0" * 64))
    folder = tmp_path / "folder"
    (folder / "pylock.toml").mkdir(parents=True)

    with pytest.raises(LockError, match="cannot be written"):
        locker.finish(folder / "pylock.toml", document, record=record, known_sizes={})
    assert [file.name for file in folder.iterdir()] == ["pylock.toml"]


def test_a_document_is_given_back_without_our_record(locker, requirements):
    lockfile = lock(locker, requirements)
    document = document_of(lockfile)

    assert document is not None
    assert "tool" not in document
    assert [package["name"] for package in document["packages"]] == ["numpy", "torch"]
    assert document_of(None) is None


def test_of_several_documents_the_first_that_names_a_project_counts():
    one = {"lock-version": "1.0", "packages": [{"name": "b", "version": "1"}]}
    two = {"lock-version": "1.0", "packages": [{"name": "b", "version": "2"}, {"name": "a", "version": "2"}]}

    assert merge_documents([one, two])["packages"] == [{"name": "a", "version": "2"}, {"name": "b", "version": "1"}]


def test_neighbours_that_look_in_the_same_places_are_resolved_together():
    here = [Demand(lines=("a",)), Demand(lines=("b",))]
    there = Demand(lines=("c",), index_url="https://index.example/simple")

    assert [demand.lines for demand in merge_neighbours([*here, there, here[0]])] == [("a", "b"), ("c",), ("a",)]


def test_what_an_earlier_command_took_from_another_index_stays_what_it_is(locker, server):
    server.put_index([make_wheel("torch", "1.0+cpu")], root="/cpu")
    server.put_index([*TORCH, *NUMPY, make_wheel("accelerate", "1.0", requires=("torch",))])
    demands = [Demand(lines=("torch",), index_url=f"{server.url}/cpu/"), Demand(lines=("accelerate",))]

    document = locker.resolve(demands, TARGET, preferences=None).document

    assert {package["name"]: package["version"] for package in document["packages"]} == {
        "accelerate": "1.0",
        "torch": "1.0+cpu",
    }


def test_an_extra_index_in_a_file_is_an_equal_of_the_first_as_it_is_for_pip(locker, server, requirements):
    server.put_index([make_wheel("numpy", "0.5")], root="/extra")
    requirements.write_text(f"--extra-index-url {server.url}/extra/\nnumpy\n")

    assert versions(lock(locker, requirements)) == {"numpy": "2.0"}
