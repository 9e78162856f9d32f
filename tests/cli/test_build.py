"""`wheelcache build` and compose files as people run them, against a real engine, and without one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from support.program import PROGRAM, Program, needs_root, wait_until

from builders.engine import Engine
from builders.errors import EngineError
from wheelcache.programs import run_program

BASE = "python:3.11-slim"
DOCKERFILE = f"FROM {BASE}\nCOPY requirements.txt .\nRUN pip install -r requirements.txt\n"
SERVICE_KEYS = {
    "name", "state", "image", "image_id", "attempts", "seconds", "shared_base", "bytes_sent", "tags",
    "pushed", "failure",
}  # fmt: skip


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    try:
        connected = Engine.connect(run=run_program)
    except EngineError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"NO ENGINE, NOT TESTED: {error.message}")
    with connected:
        if connected.image_id(BASE) is None:
            pytest.skip(f"NO {BASE} IN THE ENGINE, NOT TESTED: run Dockerfiles/provision.sh base")
        yield connected


@pytest.fixture
def shop(run: Program, index: str, engine: Engine) -> Iterator[Program]:
    """A locked compose project `shop…` of the services `one` and `two`, with an engine."""
    run.environ.pop("DOCKER_HOST")
    run.environ |= {name: value for name, value in os.environ.items() if name.startswith("DOCKER_")}
    name = f"shop{uuid.uuid4().hex[:8]}"
    run.hosts[name] = "[SHOP]"
    run.service("one", "alpha")
    run.service("two", "beta")
    services = "".join(f"  {each}:\n    build: ./{each}\n    image: {name}/{each}:1\n" for each in ("one", "two"))
    run.write("compose.yml", f"name: {name}\nservices:\n{services}")
    run.declare(index=index, more='compose = ["compose.yml"]\n')
    yield run
    for each in ("one", "two"):
        engine.remove_image(f"{name}/{each}:1")
    for view in run.cache.glob("v1/views/*"):  # the image of a service's wheels is called as the view it was made of
        engine.remove_image(f"wheelcache/wheels:{view.name}")


@pytest.mark.engine
def test_a_build_as_json_and_again_unchanged(shop):
    ran = shop("build", "--json")
    assert ran.code == 0, ran
    assert ran.document.keys() >= {"command", "ok", "services", "seconds"}
    assert [(row["name"], row["state"]) for row in ran.document["services"]] == [("one", "built"), ("two", "built")]
    assert all(row.keys() == SERVICE_KEYS for row in ran.document["services"])
    again = shop("build", "--json")
    assert [row["state"] for row in again.document["services"]] == ["unchanged", "unchanged"]
    assert [document["report"]["run"]["number"] for document in (ran.document, again.document)] == [1, 2]
    offline = shop("--offline", "build", "one", "--json")
    assert offline.code == 0, offline
    assert [row["state"] for row in offline.document["services"]] == ["unchanged"]


@pytest.mark.engine
def test_a_failed_build_ends_with_8_and_the_others_are_built(shop):
    shop.write("one/Dockerfile", DOCKERFILE + "RUN echo 'no luck' >&2; exit 7\n")
    ran = shop("build", "--json")
    assert ran.code == 8, ran
    assert ran.document["error"]["kind"] == "build"
    one, two = ran.document["services"]
    assert (one["state"], two["state"]) == ("failed", "built")
    assert one["failure"].keys() == {"class", "message", "hint", "log"}
    assert "no luck" in Path(one["failure"]["log"].replace("[HOME]", str(shop.home))).read_text()


@pytest.mark.engine
def test_what_failed_last_time_is_built_first_and_told_in_the_usual_order(shop):
    shop.write("two/Dockerfile", DOCKERFILE + "RUN exit 7\n")
    assert shop("build").code == 8
    shop.write("two/Dockerfile", DOCKERFILE)
    events = shop.cwd / "events.jsonl"
    again = shop("build", "--json", "--events", events)
    assert again.code == 0, again
    assert "what failed last time is built first: two\n" in again.err
    told = [json.loads(line) for line in events.read_text().splitlines()]
    assert [event["name"] for event in told if event["event"] == "BuildFinished"] == ["two", "one"]
    assert [row["name"] for row in again.document["services"]] == ["one", "two"]
    assert "failed last time" not in shop("build").err


@pytest.mark.engine
def test_a_dry_run_builds_nothing_and_shows_the_difference(shop, engine):
    ran = shop("build", "--dry-run")
    assert ran.code == 0, ran
    assert "\n+RUN --network=none" in ran.out
    name = next(name for name, shown in shop.hosts.items() if shown == "[SHOP]")
    assert engine.image_id(f"{name}/one:1") is None
    assert shop("build", "--dry-run", "--json").document.keys() >= {"command", "ok", "services"}


@pytest.mark.engine
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_build_stops_the_engines_build(shop, number, code):
    shop.write("one/Dockerfile", DOCKERFILE + f"RUN sleep 30; echo {uuid.uuid4()}\n")
    events = shop.cwd / "events.jsonl"
    ran = shop.interrupted(
        *("build", "one", "--events", events),
        number=number,
        when=lambda: events.is_file() and "sleep 30" in events.read_text(),
    )
    assert ran.code == code, ran
    assert ran.err.endswith(
        "error: interrupted\nhint: run the same command again: it continues where this one stopped\n"
    )
    run = shop("report", "--json").document["run"]
    assert (run["failure"], run["services"]) == ("interrupted", {"one": "failed"})
    shop.write("one/Dockerfile", DOCKERFILE)
    again = shop("build", "one")
    assert again.code == 0
    assert again.out.splitlines()[-1].startswith("total  ")
    assert "component" in again.out


@needs_root
@pytest.mark.engine
def test_a_build_that_is_killed_outright_leaves_no_step_running(shop):
    token = uuid.uuid4().hex
    shop.write("one/Dockerfile", DOCKERFILE + f"RUN exec sh -c 'sleep 300; sleep 300' {token}\n")
    ran = shop.interrupted("build", "one", number=signal.SIGKILL, when=lambda: running(token))
    assert ran.code == -signal.SIGKILL
    wait_until(lambda: not running(token))
    shop.write("one/Dockerfile", DOCKERFILE)
    assert shop("build", "one").code == 0


def running(token: str) -> bool:
    """True when a process of a build's step, which has *token* for a name, runs on this machine."""
    wanted = f"\0sleep 300; sleep 300\0{token}\0".encode()
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if file.read_bytes().endswith(wanted):
                return True
    return False


@needs_root
@pytest.mark.engine
def test_an_engine_without_buildx(shop):
    """In a mount namespace of its own the client finds no plugins."""
    hidden = [
        f"mount -t tmpfs tmpfs {folder}"
        for root in ("/usr/libexec", "/usr/lib", "/usr/local/libexec", "/usr/local/lib")
        if (folder := Path(root, "docker", "cli-plugins")).is_dir()
    ]
    shop.declare("one", index=(shop.cwd / "wheelcache.toml").read_text().partition('url = "')[2].partition('"')[0])
    command = " && ".join([*hidden, f'exec "{PROGRAM}" build one'])
    environ = {**shop.environ, "DOCKER_CONFIG": str(shop.home)}
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", command], cwd=shop.cwd, env=environ, capture_output=True, check=False
    )
    said = shop.filtered(done.stderr)
    assert done.returncode == 10, said
    assert "error: expected docker's buildx plugin, found a docker client without it: builds need BuildKit\n" in said
    assert "hint: install docker-buildx-plugin" in said


def test_no_engine(project):
    ran = project("build", "--json")
    assert ran.code == 10, ran
    assert ran.document.keys() == {"command", "ok", "services", "error"}
    assert ran.document["error"]["kind"] == "engine"
    assert "error: expected a Docker engine at unix://[HOME]/no-engine.sock, found none" in ran.err


def test_no_docker_client(run, index):
    run.write("compose.yml", "services:\n  one:\n    build: .\n")
    run.declare(index=index, more='compose = ["compose.yml"]\n')
    run("lock", env={"PATH": "/nowhere"}).shows("""\
exit 10
-- stderr
error: expected the docker client with its compose plugin, found no docker on PATH
hint: install Docker with the compose plugin, or list the services in wheelcache.toml
""")


@pytest.mark.skipif(shutil.which("docker") is None, reason="NO DOCKER CLIENT, NOT TESTED")
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("services: [\n", "compose.yml: compose cannot read it: "),
        ("services:\n  db:\n    image: postgres\n", "expected one with a build section, found none among db"),
        ("services:\n  one:\n    build: ./nowhere\n", "one: context: expected a folder, found none at"),
        ("services:\n  one:\n    build: https://git.example/x.git\n", "services.one.build.context: expected a folder"),
        ("{}\n", "compose.yml"),
    ],
)
def test_a_compose_file_that_cannot_be_built(run, text, said):
    run.write("compose.yml", text)
    ran = run("lock", "--file", "compose.yml")
    assert ran.code == 2, ran
    assert said in ran.err
    assert "\nhint: " in ran.err
