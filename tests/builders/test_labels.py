"""The labels of a service's image."""

import subprocess
from types import SimpleNamespace

from builders.labels import labels_of
from wheelcache.lock import LockedWheel
from wheelcache.programs import run_program


def prepared(context, *, digest="sha256:" + "0" * 64):
    wheel = LockedWheel(name="a", version="1", filename="a-1-py3-none-any.whl", digest=digest, size=1, urls=())
    service = SimpleNamespace(context=context)
    return SimpleNamespace(
        base="python:3.11-slim", locked=SimpleNamespace(wheels=(wheel,)), reading=SimpleNamespace(service=service)
    )


def git(folder, *words):
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    done = subprocess.run(["git", "-C", folder, *identity, *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_the_revision_is_the_last_commit_that_touched_the_context(tmp_path):
    git(tmp_path, "init", "-q")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "app.py").write_text(name)
        git(tmp_path, "add", ".")
        git(tmp_path, "commit", "-qm", name)

    first, second = (
        labels_of(prepared(tmp_path / name), run=run_program)["org.opencontainers.image.revision"]
        for name in ("one", "two")
    )

    assert second == git(tmp_path, "rev-parse", "HEAD")
    assert first == git(tmp_path, "rev-parse", "HEAD~1")


def test_outside_of_git_there_is_no_revision_and_the_rest_stays(tmp_path):
    labels = labels_of(prepared(tmp_path), run=run_program)

    assert labels.keys() == {"wheelcache.lock", "org.opencontainers.image.base.name"}


def test_other_bytes_under_the_same_name_are_another_lock(tmp_path):
    one, other = (prepared(tmp_path, digest="sha256:" + digit * 64) for digit in "01")

    assert labels_of(one, run=run_program)["wheelcache.lock"] != labels_of(other, run=run_program)["wheelcache.lock"]
