"""BuildKit and context folders of one name: the fault, and that links with names of their own avoid it."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from builders.contexts import unique_context
from builders.engine import Engine
from wheelcache.programs import run_program

pytestmark = pytest.mark.engine


def files_of(context: Path, **named: Path) -> dict[str, str]:
    """Builds a context, with *named* ones, into a tar archive and returns its files."""
    argv = ["docker", "buildx", "build", "--file", str(context / "Dockerfile"), "--output", "type=tar,dest=-"]
    argv += [f"--build-context={name}={folder}" for name, folder in named.items()]
    done = run_program([*argv, str(context)])
    assert done.is_done, done.reason()
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        members = [member for member in archive if member.isfile()]
        return {member.name: archive.extractfile(member).read().decode() for member in members}  # type: ignore[union-attr]


def make_context(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True)
    for name, content in {
        "Dockerfile": "FROM scratch\nCOPY . /\n",
        ".dockerignore": "secret.txt\n.dockerignore\nDockerfile\n",
        "app.txt": text,
        "secret.txt": "secret",
    }.items():
        (folder / name).write_text(content)
        os.utime(folder / name, (1_700_000_000, 1_700_000_000))
    return folder


def test_services_whose_context_folders_have_one_name_get_their_own_files(engine: Engine, tmp_path: Path) -> None:
    contexts = [make_context(tmp_path / service / "app", service) for service in ("a", "b")]
    links = [unique_context(tmp_path / "links", context, "app") for context in contexts]
    assert [files_of(link) for link in (*links, links[0])] == [{"app.txt": "a"}, {"app.txt": "b"}, {"app.txt": "a"}]


def test_so_do_named_contexts_of_one_name_and_one_that_is_another_folder_now(engine: Engine, tmp_path: Path) -> None:
    app = make_context(tmp_path / "app", "main")
    (app / "Dockerfile").write_text("FROM scratch\nCOPY --from=extra app.txt /\n")
    extras = [make_context(tmp_path / service / "extra", service) for service in ("a", "b")]

    def text(service: str, extra: Path) -> str:
        link = unique_context(tmp_path / "links", app, service, beside=[str(extra)])
        return files_of(link, extra=extra)["app.txt"]

    assert [text(*each) for each in (("one", extras[0]), ("two", extras[1]), ("one", extras[1]))] == ["a", "b", "b"]


def test_a_changed_file_is_seen_through_the_link(engine: Engine, tmp_path: Path) -> None:
    context = make_context(tmp_path / "app", "old")
    link = unique_context(tmp_path / "links", context, "app")
    assert files_of(link) == {"app.txt": "old"}
    (context / "app.txt").write_text("new")
    assert files_of(link) == {"app.txt": "new"}
