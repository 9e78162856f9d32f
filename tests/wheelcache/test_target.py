"""What a target accepts, and how it survives being written down."""

import pytest
from packaging.tags import Tag

from wheelcache.errors import LockError
from wheelcache.target import declared_target, target_from_facts, target_from_toml, uv_arguments


def test_a_declared_manylinux_target_accepts_older_glibc_and_legacy_aliases_but_no_newer():
    tags = declared_target("3.11", "manylinux_2_28_x86_64").tags

    assert tags[0] == Tag("cp311", "cp311", "manylinux_2_28_x86_64")
    assert Tag("cp311", "cp311", "manylinux2014_x86_64") in tags
    assert Tag("cp38", "abi3", "manylinux_2_17_x86_64") in tags
    assert Tag("py3", "none", "any") in tags
    assert Tag("cp311", "cp311", "manylinux_2_29_x86_64") not in tags


def test_old_glibc_aliases_end_where_the_architecture_began():
    tags = declared_target("3.11", "manylinux_2_28_aarch64").tags

    assert Tag("py3", "none", "manylinux2014_aarch64") in tags
    assert Tag("py3", "none", "manylinux2010_aarch64") not in tags


def test_a_target_is_the_same_after_being_written_to_a_lockfile_and_read_again():
    target = declared_target("3.12.4", "musllinux_1_2_aarch64")

    assert target_from_toml(target.as_toml()) == target


def test_an_interpreter_without_patch_release_gives_markers_the_first_one():
    assert declared_target("3.11", "win_amd64").environment["python_full_version"] == "3.11.0"
    assert declared_target("3.11.9", "win_amd64").environment["python_full_version"] == "3.11.9"


def test_an_asked_interpreter_equals_the_declared_one_of_the_same_libc():
    declared = declared_target("3.11.2", "manylinux_2_36_x86_64")
    facts = {"environment": dict(declared.environment), "abi": "cp311", "glibc": "2.36", "musl": None}

    assert target_from_facts(facts) == declared


def test_the_engines_kernel_is_no_part_of_an_images_target() -> None:
    declared = declared_target("3.11.2", "manylinux_2_36_x86_64")
    facts = {"abi": "cp311", "glibc": "2.36", "musl": None}
    here = {**declared.environment, "platform_release": "6.1.0-37-amd64", "platform_version": "#1 SMP"}
    there = {**declared.environment, "platform_release": "6.8.0-generic", "platform_version": "#40-Ubuntu"}
    assert target_from_facts({**facts, "environment": here}) == target_from_facts({**facts, "environment": there})


def test_a_free_threaded_interpreter_accepts_its_own_abi_and_no_stable_one():
    declared = declared_target("3.13", "manylinux_2_36_x86_64")
    tags = target_from_facts({"environment": dict(declared.environment), "abi": "cp313t", "glibc": "2.36"}).tags

    assert tags[0].abi == "cp313t"
    assert not any(tag.abi == "abi3" for tag in tags)


@pytest.mark.parametrize(
    ("platform", "word"),
    [
        ("manylinux_2_28_x86_64", "x86_64-manylinux_2_28"),
        ("manylinux_2_30_aarch64", "aarch64-manylinux_2_28"),
        ("manylinux_2_99_x86_64", "x86_64-manylinux_2_40"),
        ("musllinux_1_2_x86_64", "x86_64-unknown-linux-musl"),
        ("macosx_14_0_arm64", "aarch64-apple-darwin"),
        ("win_amd64", "x86_64-pc-windows-msvc"),
    ],
)
def test_uv_is_told_the_platform_it_knows_that_is_not_newer(platform, word):
    assert uv_arguments(declared_target("3.11", platform))[-1] == word


@pytest.mark.parametrize(("python", "platform"), [("2.7", "win_amd64"), ("3.11", "linux"), ("3.x", "win_amd64")])
def test_a_malformed_target_is_refused_with_an_example(python, platform):
    with pytest.raises(LockError) as caught:
        declared_target(python, platform)

    assert "expected" in caught.value.message
    assert "--p" in caught.value.hint


def test_an_interpreter_that_is_not_cpython_is_refused():
    environment = {**declared_target("3.11", "win_amd64").environment, "implementation_name": "pypy"}

    with pytest.raises(LockError, match="expected CPython"):
        target_from_facts({"environment": environment, "abi": "pp311", "glibc": "2.36"})
