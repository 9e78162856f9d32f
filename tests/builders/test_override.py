"""An override is read by compose itself, laid over the file that it is for; no engine is needed."""

from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path

import pytest

from builders.override import Override, forget_others, lay_out_override, make_override
from builders.reading import read_service
from builders.services import read_services
from builders.workspace import Dressing
from wheelcache.config import BuildMode, IndexConfig, Project, ServiceConfig
from wheelcache.programs import run_program

pytestmark = pytest.mark.skipif(shutil.which("docker") is None, reason="no docker client on PATH")

COMPOSE = """
name: shop
services:
  web:
    build:
      context: we$$b
      pull: true
      args: {A: "1"}
      labels: [x=y]
      additional_contexts: [extra=./extra]
      secrets: [token]
      network: host
  worker:
    build:
      context: we$$b
      pull: true
      args: {A: "1"}
      labels: [x=y]
      additional_contexts: [extra=./extra]
      secrets: [token]
      network: host
  job:
    image: job:1
    build: {context: job, dockerfile_inline: "FROM base:1\\nRUN pip install a\\n"}
secrets:
  token: {environment: TOKEN}
"""
HIDDEN = "https://me:hush@index.example/simple"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "a b"
    for name in ("we$b", "job", "extra"):
        (folder / name).mkdir(parents=True)
    (folder / "compose.yml").write_text(COMPOSE)
    (folder / "we$b" / "Dockerfile").write_text("FROM base:1\nRUN pip install -r requirements.txt\n")
    (folder / "we$b" / "Dockerfile.dockerignore").write_text("hidden\n")
    (folder / "we$b" / "requirements.txt").write_text("a\n")
    return folder


def override(folder: Path, *, mode: BuildMode = "sealed", image: str | None = None) -> Override:
    project = Project(
        root=folder,
        file=None,
        compose=["compose.yml"],
        services=[ServiceConfig(name="job", image=image)] if image else [],
    )
    dressings = [
        Dressing(
            reading=read_service(service),
            mode=mode,
            offline=False,
            network=service.compose.network if service.compose is not None else None,
            wheels_image=f"wheelcache/wheels:{service.name}",
            overrides={"base:1": "wheelcache/base:x"},
            constraints=("a==1",),
            labels={"wheelcache.lock": "sha256:0", "odd": "$x"},
            indexes=[IndexConfig(name="main", url=HIDDEN)],
            pip_timeout=300,
            pip_retries=3,
        )
        for service in read_services(project, run=run_program)
    ]
    return make_override(dressings, home=folder / "ca$che")


def merged(folder: Path, made: Override) -> dict:
    (folder / "over.yml").write_text(made.text)
    done = run_program(
        [
            "docker",
            "compose",
            "-f",
            str(folder / "compose.yml"),
            "-f",
            str(folder / "over.yml"),
            "config",
            "--format=json",
        ]
    )
    assert done.is_done, done.reason()
    return json.loads(done.stdout.replace(b"$$", b"$"))


def test_what_the_user_wrote_stays_and_ours_comes_beside_it(folder: Path) -> None:
    made = override(folder)
    services = merged(folder, made)["services"]
    web = services["web"]["build"]
    assert web.pop("context").startswith(f"{made.folder}/web/web-")
    assert web == {
        "dockerfile": f"{made.folder}/web/Dockerfile",
        "args": {"A": "1"},
        "labels": {"x": "y", "wheelcache.lock": "sha256:0", "odd": "$x"},
        "additional_contexts": {
            "extra": f"{folder}/extra",
            "base:1": "docker-image://wheelcache/base:x",
            "wheelcache-wheels": "docker-image://wheelcache/wheels:web",
        },
        "secrets": [{"source": "token"}],
        "network": "host",
    }
    assert services["worker"]["build"]["dockerfile"] == web["dockerfile"]
    assert "dockerfile_inline" not in services["job"]["build"]
    assert services["job"]["image"] == "job:1"
    assert made.images == ("wheelcache/base:x", "wheelcache/wheels:job", "wheelcache/wheels:web")


def test_an_image_that_the_project_file_names_takes_the_place_of_composes_own(folder: Path) -> None:
    assert merged(folder, override(folder, image="job:2"))["services"]["job"]["image"] == "job:2"


def test_an_online_build_gets_its_configuration_as_secrets_that_only_their_owner_reads(folder: Path) -> None:
    made = override(folder, mode="online")
    assert "hush" not in made.text
    lay_out_override(made)
    model = merged(folder, made)
    assert [(each["source"], each["target"]) for each in model["services"]["web"]["build"]["secrets"][1:]] == [
        ("wheelcache-web-wheelcache-pip", "wheelcache-pip"),
        ("wheelcache-web-wheelcache-uv", "wheelcache-uv"),
    ]
    file = Path(model["secrets"]["wheelcache-web-wheelcache-pip"]["file"])
    assert f"timeout = 300\nretries = 3\nindex-url = {HIDDEN}\n" in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_folder_is_made_once_for_each_content_and_follows_the_context(folder: Path) -> None:
    first = override(folder)
    assert not first.is_laid_out
    lay_out_override(first)
    (link,) = [path for path in (first.folder / "web").iterdir() if path.is_symlink()]
    assert link.samefile(folder / "we$b")
    assert (first.folder / "web" / "Dockerfile.dockerignore").read_text() == "hidden\n"
    assert "target=/wheelcache" in (first.folder / "web" / "Dockerfile").read_text()
    (folder / "we$b" / "app.py").write_text("x")
    assert override(folder) == first
    lay_out_override(first)

    (folder / "we$b" / "Dockerfile.dockerignore").unlink()
    second = override(folder)
    assert second.folder != first.folder
    lay_out_override(second)
    forget_others(second)
    assert list(first.folder.parent.iterdir()) == [second.folder]
    assert (folder / "we$b" / "app.py").read_text() == "x"
