"""What becomes of finished images: labels and tags by policy, and their way into a real registry."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.project import UserProject
from support.registry import PASSWORD, USER, Registry, own_registry
from support.server import Server
from support.wheels import make_wheel

from builders.engine import Engine
from wheelcache.errors import ExitCode

pytestmark = pytest.mark.engine

GREET = make_wheel("greet", "1.2")
DOCKERFILE = """\
FROM python:3.11-slim AS build
RUN pip install --target /x greet
FROM scratch
COPY --from=build /x /x
COPY app.py /
"""
SMALL = {"Dockerfile": DOCKERFILE, "app.py": "1"}
"""An image of two files; a push of its builder stage's base would take seconds."""


@pytest.fixture(scope="module")
def index() -> Iterator[Server]:
    with Server() as server:
        server.put_index([GREET])
        yield server


def settings(project: UserProject, more: str) -> None:
    file = project.root / "wheelcache.toml"
    file.write_text(f"{file.read_text()}\n{more}\n")


def commit(root: Path) -> str:
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    for words in (
        ["init", "-q"],
        ["remote", "add", "origin", "https://me:secret@code.example/shop"],
        ["add", "."],
        [*identity, "commit", "-qm", "x"],
    ):
        subprocess.run(["git", "-C", root, *words], check=True)
    head = subprocess.run(["git", "-C", root, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    return head.stdout.strip()


def test_a_pushed_image_has_its_labels_and_tags_in_the_registry(
    project: UserProject, engine: Engine, registry: Registry, made_images: list[str]
) -> None:
    repository = f"{project.key}/web"
    image = f"{registry.host}/{repository}"
    project.add("web", SMALL, image=f"{image}:staging")
    settings(project, '[build]\ntags = ["{git-short}", "day-{date}"]')
    head = commit(project.root)
    ran = project.wheelcache("build", "--push")
    assert ran.code == 0, ran.stderr
    row = ran.services["web"]
    made_images += row["tags"]
    assert (row["state"], row["tags"][:2]) == ("built", [f"{image}:staging", f"{image}:{head[:12]}"])
    assert registry.tags(repository) == {ref.rpartition(":")[2] for ref in row["tags"]}
    for ref, digest in row["pushed"].items():
        assert registry.manifest(repository, ref.rpartition(":")[2])[0] == digest
    assert row["pushed"].keys() == set(row["tags"])
    config = engine.image_config(f"{image}:{head[:12]}")
    assert config is not None
    assert config.image_id == row["image_id"]
    oci = {name.removeprefix("org.opencontainers.image."): value for name, value in config.labels.items()}
    assert oci.items() >= {
        "title": "web", "source": "https://code.example/shop", "revision": head,
    }.items()  # fmt: skip
    (project.root / "web" / "app.py").write_text("2")
    again = project.wheelcache("build", "--push")
    assert (again.code, again.states) == (0, {"web": "built"})
    made_images += again.services["web"]["tags"]
    assert f"{image}:{head[:12]}-dirty" in again.services["web"]["pushed"]
    assert registry.manifest(repository, head[:12])[0] == row["pushed"][f"{image}:{head[:12]}"]


def test_a_registry_that_lets_nobody_in_costs_the_push_and_not_the_build(
    project: UserProject, engine: Engine, made_images: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "registry"
    folder.mkdir()
    with own_registry(folder, is_open=False) as registry:
        image = f"{registry.host}/{project.key}/web:1"
        made_images.append(image)
        project.add("web", SMALL, image=image)
        refused = project.wheelcache("build", "--push")
        assert refused.code == ExitCode.BUILD
        row = refused.services["web"]
        assert (row["state"], row["failure"]["class"], row["pushed"]) == ("failed", "auth", {})
        assert "docker login" in row["failure"]["hint"]
        assert engine.image_id(image) == row["image_id"]
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
        auth = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        (tmp_path / "config.json").write_text(json.dumps({"auths": {registry.host: {"auth": auth}}}))
        let_in = project.wheelcache("build", "--push")
        assert (let_in.code, let_in.states) == (0, {"web": "unchanged"}), let_in.stderr
        assert let_in.services["web"]["pushed"].keys() == {image}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("build", "--push"), "--push: web: expected an image with a registry"),
        (("--offline", "build", "--push"), "--push: expected a network"),
        (("--offline", "build", "--cache-from", "r/c"), "--cache-from: expected a network"),
        (("build", "--cache-to", "type=local,dest=x"), "--cache-to: expected a repository"),
        (("build", "--cache-to", "r/c"), "--cache-to: expected an engine that keeps images in containerd's store"),
    ],
)
def test_what_cannot_be_done_ends_a_build_before_it_begins(
    project: UserProject, engine: Engine, arguments: tuple[str, ...], message: str
) -> None:
    if "r/c" in arguments and engine.keeps_manifests():
        pytest.skip("THE ENGINE CAN EXPORT CACHES, NOT TESTED")
    project.add("web", SMALL, image="web:1")
    ran = project.wheelcache(*arguments)
    assert ran.code == (ExitCode.ENGINE if arguments[-1] == "r/c" and arguments[0] == "build" else ExitCode.USAGE)
    assert ran.document["error"]["message"].startswith(message)
    assert not (project.root / "pylock.web.toml").exists()
