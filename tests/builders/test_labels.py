"""The labels of a service's image."""

import subprocess
from types import SimpleNamespace

import pytest

from builders.dockerfile import parse_dockerfile
from builders.git import head_of, public_url
from builders.labels import labels_of
from wheelcache.lock import LockedWheel
from wheelcache.programs import run_program

OCI = "org.opencontainers.image"


def prepared(context, *, digest="sha256:" + "0" * 64, dockerfile="FROM python:3.11-slim\n", **labels):
    wheel = LockedWheel(name="a", version="1", filename="a-1-py3-none-any.whl", digest=digest, size=1, urls=())
    service = SimpleNamespace(
        context=context, name="web", compose=SimpleNamespace(labels={f"{OCI}.{key}": labels[key] for key in labels})
    )
    return SimpleNamespace(
        base="python:3.11-slim",
        base_digest="sha256:" + "b" * 64,
        locked=SimpleNamespace(wheels=(wheel,)),
        reading=SimpleNamespace(service=service, dockerfile=parse_dockerfile(dockerfile)),
    )


def labels(*args, **options):
    """Those of OCI, without their common beginning."""
    found = labels_of(prepared(*args, **options), run=run_program)
    assert found.pop("wheelcache.lock").startswith("sha256:")
    return {name.removeprefix(f"{OCI}."): value for name, value in found.items()}


def git(folder, *words):
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    done = subprocess.run(["git", "-C", folder, *identity, *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def clone(tmp_path):
    """Two services, each with a commit of its own."""
    git(tmp_path, "init", "-q")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "app.py").write_text(name)
        git(tmp_path, "add", ".")
        git(tmp_path, "commit", "-qm", name)
    return tmp_path


def test_the_revision_is_the_last_commit_that_touched_the_context(clone):
    assert labels(clone / "two")["revision"] == git(clone, "rev-parse", "HEAD")
    assert labels(clone / "one")["revision"] == git(clone, "rev-parse", "HEAD~1")


def test_what_differs_from_its_commit_is_not_called_by_it(clone):
    (clone / "one" / "app.py").write_text("changed")
    (clone / "two" / "untracked.log").touch()
    assert "revision" not in labels(clone / "one")
    assert "revision" in labels(clone / "two")
    assert head_of(clone, run_program) == git(clone, "rev-parse", "HEAD") + "-dirty"


def test_outside_of_git_the_rest_stays(tmp_path):
    assert labels(tmp_path) == {
        "title": "web", "base.name": "python:3.11-slim", "base.digest": "sha256:" + "b" * 64,
    }  # fmt: skip


def test_the_source_is_where_it_was_cloned_from_without_what_git_puts_in(clone):
    git(clone, "remote", "add", "origin", "https://code.example/shop.git")
    git(clone, "config", "url.https://ci:ghp_secret@code.example/.insteadOf", "https://code.example/")
    assert "ghp_secret" in git(clone, "remote", "get-url", "origin")
    assert labels(clone / "one")["source"] == "https://code.example/shop.git"


@pytest.mark.parametrize(
    ("url", "public"),
    [
        ("https://me:pass@word@code.example:8443/a/b?token=x#y", "https://code.example:8443/a/b"),
        ("https://ghp_secret@code.example/a/b.git", "https://code.example/a/b.git"),
        ("git@code.example:a/b.git", "ssh://git@code.example/a/b.git"),
        ("ssh://git:secret@code.example:22/a/b", "ssh://git@code.example:22/a/b"),
        ("https://[fd00::1]/a", "https://[fd00::1]/a"),
        ("https://code.example:secret/a", ""),
        ("/srv/git/a.git", ""),
        ("file:///srv/git/a.git", ""),
        ("C:\\git\\a", ""),
        ("", ""),
    ],
)
def test_a_sources_url_is_what_everybody_may_know(url, public):
    assert public_url(url) == public


def test_labels_that_the_user_sets_are_the_users(tmp_path):
    dockerfile = f'FROM scratch AS a\nLABEL "{OCI}.title"="Mine" x=y\nFROM a\nLABEL {OCI}.base.name mine too\n'
    assert labels(tmp_path, dockerfile=dockerfile).keys() == {"base.digest"}
    assert labels(tmp_path, title="Mine").keys() == {"base.name", "base.digest"}


def test_other_bytes_under_the_same_name_are_another_lock(tmp_path):
    one, other = (prepared(tmp_path, digest="sha256:" + digit * 64) for digit in "01")

    assert labels_of(one, run=run_program)["wheelcache.lock"] != labels_of(other, run=run_program)["wheelcache.lock"]
