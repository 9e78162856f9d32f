"""Tags by the project's policy."""

from __future__ import annotations

import subprocess
from datetime import date
from pathlib import Path

import pytest

from builders.tagging import pushable, read_tags, references
from wheelcache.config import BuildConfig
from wheelcache.errors import ExitCode, ProjectFileError
from wheelcache.programs import run_program


def read(root: Path, *templates: str) -> tuple[str, ...]:
    return read_tags(templates, root=root, today=lambda: date(2026, 3, 9), run=run_program)


def test_tags_say_commit_and_day(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run(["git", "-C", tmp_path, *identity, "commit", "--allow-empty", "-qm", "x"], check=True)
    argv = ["git", "-C", tmp_path, "rev-parse", "HEAD"]
    head = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()
    assert read(tmp_path, "{git-sha}", "v1-{git-short}", "{date}", "latest", "2026-03-09") == (
        head, f"v1-{head[:12]}", "2026-03-09", "latest",
    )  # fmt: skip


def test_without_a_commit_there_is_no_tag_of_one(tmp_path: Path) -> None:
    assert read(tmp_path, "{date}") == ("2026-03-09",)
    with pytest.raises(ProjectFileError, match=r"build\.tags: \{git-short\}: expected a git repository") as caught:
        read(tmp_path, "{git-short}")
    assert caught.value.exit_code is ExitCode.USAGE


@pytest.mark.parametrize("tag", ["", "{sha}", "{git-sha", "a/b", "a:b", "-a", "a b", "x" * 129, "{git-sha}" * 3])
def test_what_cannot_be_a_tag_is_refused(tag: str) -> None:
    with pytest.raises(ValueError, match=r"^tags: expected letters, digits"):
        BuildConfig(tags=["fine-{date}", tag])


def test_every_repository_of_an_image_gets_the_tags() -> None:
    images = ("shop/ml:staging", "r.example:5000/ml", "shop/ml:latest")
    assert references(images, ("1", "latest")) == (
        *images, "shop/ml:1", "r.example:5000/ml:1", "r.example:5000/ml:latest",
    )  # fmt: skip


def test_what_names_no_registry_is_not_pushed() -> None:
    assert pushable(("shop-ml:1", "shop/ml:1", "localhost:5000/ml")) == ("shop/ml:1", "localhost:5000/ml")
