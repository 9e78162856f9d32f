"""Which files of a context are newer than a build."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from builders.contextnews import ContextNews, context_news


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """A context that has not changed for a moment."""
    folder = tmp_path / "app"
    (folder / "src" / "deep").mkdir(parents=True)
    for name in ("Dockerfile", "app.py", "src/one.py", "src/deep/two.py"):
        (folder / name).write_text("old")
    return folder


@pytest.fixture
def since(context: Path) -> float:
    """A moment after that: what is written from now on is newer, on a coarse clock too."""
    began = time.time()
    while True:
        (context.parent / "clock").write_text("")
        if (context.parent / "clock").stat().st_mtime > began:
            return began
        time.sleep(0.001)


def test_nothing_is_new(context: Path, since: float) -> None:
    news = context_news(context, None, since=since)
    assert (news.files, news.is_whole) == ((), True)


def test_a_file_that_was_written_is_new(context: Path, since: float) -> None:
    (context / "src/deep/two.py").write_text("new")
    assert context_news(context, None, since=since).files == ("src/deep/two.py",)


def test_a_file_that_came_with_an_older_time_is_new(context: Path, since: float) -> None:
    other = context.parent / "other.py"
    other.write_text("other")
    os.utime(other, (1, 1))
    other.rename(context / "app.py")
    assert context_news(context, None, since=since).files == ("app.py",)


@pytest.mark.parametrize(("gone", "told"), [("src/deep/two.py", "src/deep/"), ("app.py", "./")])
def test_of_a_file_that_went_its_folder_tells(context: Path, since: float, gone: str, told: str) -> None:
    (context / gone).unlink()
    assert context_news(context, None, since=since).files == (told,)


def test_what_the_ignore_rules_leave_out_is_left_out(context: Path, since: float) -> None:
    (context / ".dockerignore").write_text("# rules\nsrc\n!src/one.py\n")
    os.utime(context / ".dockerignore", (1, 1))
    for name in ("src/one.py", "src/deep/two.py"):
        (context / name).write_text("new")
    assert "src/one.py" in context_news(context, None, since=since).files
    assert "src/deep/two.py" not in context_news(context, None, since=since).files
    dockerfile = context.parent / "Dockerfile.gpu"
    (context.parent / "Dockerfile.gpu.dockerignore").write_text("src/one.py\n")
    assert "src/one.py" not in context_news(context, dockerfile, since=since).files


def test_of_a_context_with_too_many_files_it_is_said_that_not_all_were_looked_at(context: Path, since: float) -> None:
    assert context_news(context, None, since=since, most=7).is_whole
    assert not context_news(context, None, since=since, most=6).is_whole


def test_a_context_that_is_gone_is_not_judged(context: Path, since: float) -> None:
    assert context_news(context / "nowhere", None, since=since) == ContextNews(files=(), is_whole=False)
