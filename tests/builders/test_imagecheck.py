"""What an image holds, compared with what is locked."""

from __future__ import annotations

from builders.imagecheck import compare


def test_versions_are_compared_by_meaning() -> None:
    check = compare([("torch", "2.8"), ("odd", "not-a-version")], [("torch", "2.8.0")])
    assert (check.wrong, check.missing) == ({}, {})


def test_a_local_version_is_another_version() -> None:
    check = compare([("torch", "2.8.0+cpu")], [("torch", "2.8.0")])
    assert check.wrong == {"torch": ("2.8.0", "2.8.0+cpu")}


def test_one_right_copy_among_others_is_enough() -> None:
    check = compare([("pip", "23.0"), ("pip", "26.0"), ("pip", "26.0")], [("pip", "26.0")])
    assert (check.wrong, check.missing) == ({}, {})
    assert check.found == {"pip": ("23.0", "26.0")}


def test_what_is_not_locked_does_not_matter() -> None:
    check = compare([("extra", "1.0")], [])
    assert (check.wrong, check.missing) == ({}, {})
