"""What `compose-override` writes, used as people use it: by plain `docker compose build` on a real engine."""

from __future__ import annotations

import os
import re
import subprocess
import uuid
from collections.abc import Iterator

import pytest
from support.images import LOCK_LABEL, added, layers, output_of, size_above
from support.project import UserProject
from support.server import Server
from support.wheels import make_wheel

from builders.engine import Engine

pytestmark = pytest.mark.engine

RUN = uuid.uuid4().hex[:10]
BULK = make_wheel("bulk", "1.0", size=21_000_000, seed=RUN)
GREET = make_wheel("greet", "1.2", seed=RUN)
POLITE = make_wheel("polite", "0.5", requires=("greet",), seed=RUN)
OVERRIDE = "compose.wheelcache.yml"
APP = "import sys, greet; print('{} $HOME', greet.__version__)\n"


@pytest.fixture(scope="module")
def index() -> Iterator[Server]:
    with Server() as server:
        server.put_index([BULK, GREET, POLITE])
        yield server


@pytest.fixture
def shop(project: UserProject, index: Server, base: str, engine: Engine) -> Iterator[UserProject]:
    """A compose project: two services whose contexts have one folder name, the second's Dockerfile in the file."""
    dockerfile = f"FROM {base}\nARG WORD\nCOPY requirements.txt .\nRUN pip install --no-cache-dir -r requirements.txt\n"
    ending = 'COPY . /srv\nRUN test ! -e /srv/hidden && echo "$WORD" >/word\nCMD ["python3", "/srv/app.py"]\n'
    for name in ("one", "two"):
        project.add(name, {}, context=f"{name}/app")
    project.write(
        {
            "wheelcache.toml": f'compose = ["compose.yml"]\n[[indexes]]\nname = "local"\nurl = "{index.url}/simple/"\n',
            "compose.yml": f"""\
name: shop-{project.key}
services:
  one:
    image: {project.image("one")}
    environment: {{PASSWORD: hush-hush}}
    build:
      context: one/app
      args: {{WORD: "a$$b"}}
      labels: [team=shop]
  two:
    image: {project.image("two")}
    build:
      context: two/app
      args: {{WORD: two}}
      secrets: [token]
      dockerfile_inline: |
{"".join(f"        {line}" for line in (dockerfile + ending.replace("$", "$$")).splitlines(keepends=True))}
secrets:
  token: {{environment: HOME}}
""",
            "one/app/Dockerfile": dockerfile + ending,
            "one/app/Dockerfile.dockerignore": "hidden\n",
            "one/app/hidden": "x",
            "one/app/requirements.txt": "bulk\ngreet\n",
            "two/app/requirements.txt": "bulk\npolite\n",
            "one/app/app.py": APP.format(1),
            "two/app/app.py": APP.format(2),
        }
    )
    for name in ("one", "two"):  # what BuildKit tells files apart by
        os.utime(project.root / name / "app" / "app.py", (1_700_000_000, 1_700_000_000))
    yield project
    for ref in set(re.findall(r"docker-image://([^\"]+)", (project.root / OVERRIDE).read_text())):
        engine.remove_image(ref)


def compose(project: UserProject, *arguments: str) -> str:
    """Runs plain `docker compose` on the project with its override; returns what it says."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COMPOSE_")}
    done = subprocess.run(
        ["docker", "compose", "-f", "compose.yml", "-f", OVERRIDE, "--progress=plain", *arguments],
        cwd=project.root,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_plain_compose_builds_what_a_build_of_ours_would(
    shop: UserProject, index: Server, engine: Engine, base: str
) -> None:
    before = {file: file.read_bytes() for file in shop.root.rglob("*") if file.is_file()}
    ran = shop.wheelcache("compose-override")
    assert ran.code == 0, ran.stderr
    assert [row["shared_with"] for row in ran.services.values()] == [["one", "two"]] * 2
    override = shop.root / OVERRIDE
    made = {file for file in shop.root.rglob("*") if file.is_file()} - before.keys()
    assert {file.name for file in made} == {OVERRIDE, "pylock.one.toml", "pylock.two.toml"}
    assert {file: file.read_bytes() for file in before} == before
    assert "hush" not in override.read_text()

    asked = len(index.requests)
    compose(shop, "build")
    assert len(index.requests) == asked
    by_compose = {name: engine.image_config(shop.image(name)) for name in ("one", "two")}
    for number, (name, config) in enumerate(by_compose.items(), start=1):
        assert config is not None
        assert added(engine, shop.image(name), base) == shop.locked(name)
        assert output_of(shop.image(name)) == f"{number} $HOME 1.2\n"
        assert config.labels[LOCK_LABEL].startswith("sha256:")
        assert config.labels.get("team") == ("shop" if name == "one" else None)
    assert output_of(shop.image("one"), "cat", "/word") == "a$b\n"

    # A build of ours finds every layer in the cache.
    layers_of_compose = {name: layers(shop.image(name)) for name in ("one", "two")}
    built = shop.wheelcache("build")
    assert built.code == 0, built.stderr
    for name, config in by_compose.items():
        assert layers(shop.image(name)) == layers_of_compose[name]
        assert size_above(engine, shop.image(name), built.services[name]["shared_base"]) < 1_000_000
        ours = engine.image_config(shop.image(name))
        assert ours is not None
        assert config is not None
        assert ours.labels.items() <= config.labels.items()


def test_it_is_made_once_and_serves_until_what_is_locked_changes(shop: UserProject, engine: Engine) -> None:
    assert shop.wheelcache("compose-override", "--check").code == 3
    first = shop.wheelcache("compose-override")
    assert first.code == 0, first.stderr
    text = (shop.root / OVERRIDE).read_text()
    assert shop.wheelcache("compose-override", "--check").code == 0
    compose(shop, "build")
    images = [layers(shop.image(name)) for name in ("one", "two")]
    compose(shop, "build")
    assert [layers(shop.image(name)) for name in ("one", "two")] == images

    shop.write({"one/app/app.py": "print('edited')\n"})
    assert shop.wheelcache("compose-override", "--check").code == 0
    compose(shop, "build", "one")
    assert output_of(shop.image("one")) == "edited\n"
    assert shop.wheelcache("compose-override").code == 0
    assert (shop.root / OVERRIDE).read_text() == text

    shop.write({"one/app/Dockerfile": (shop.root / "one/app/Dockerfile").read_text() + "ENV A=1\n"})
    changed = shop.wheelcache("compose-override", "--check")
    assert (changed.code, changed.document["error"]["kind"]) == (3, "stale-lock")
    assert shop.wheelcache("compose-override").code == 0
    assert (shop.root / OVERRIDE).read_text() != text
    (home,) = (shop.cache / "v1" / "overrides").iterdir()
    assert len(list(home.iterdir())) == 1

    shop.write({"one/app/requirements.txt": "bulk\ngreet\npolite\n"})
    stale = shop.wheelcache("compose-override", "--check")
    assert stale.code == 3
    assert "pylock.one.toml" in stale.document["error"]["message"]
