"""Online builds on a bad day: the network fails inside of a step, and comes back."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomli_w
from support.project import UserProject
from support.server import Respond, Server
from support.wheels import make_wheel

from builders.engine import Engine

pytestmark = pytest.mark.engine

RUN = uuid.uuid4().hex[:10]
LOCKED = make_wheel("locked", "1.0", seed=RUN)
LATE = make_wheel("late", "1.0", size=400_000, seed=RUN)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as started:
        started.put_index([LOCKED])
        started.put_wheel(LATE)
        yield started


@pytest.fixture
def project(engine: Engine, base: str, server: Server, tmp_path: Path) -> Iterator[UserProject]:
    """A service whose pip fetches one wheel that cannot be locked, from a server on the host's own network."""
    made = UserProject(tmp_path / "project", cache=tmp_path / "cache", index="", key=RUN)
    image = made.image("web")
    compose = {"services": {"web": {"image": image, "build": {"context": "web", "network": "host"}}}}
    settings = {
        "compose": ["compose.json"],
        "indexes": [{"name": "local", "url": f"{server.url}/simple/"}],
        "build": {"pip-timeout": 50, "retries": 2},
    }
    url = f"{server.url}/files/{LATE.filename}"
    made.write(
        {
            "compose.json": json.dumps(compose),
            "wheelcache.toml": tomli_w.dumps(settings),
            "web/requirements.txt": f"locked\nlate @ {url}\n",
            "web/Dockerfile": f"FROM {base}\nCOPY requirements.txt .\n"
            "RUN grep timeout /etc/pip.conf && pip install --no-cache-dir -r requirements.txt\n",
        }
    )
    yield made
    for ref in (image, *made.images()):
        engine.remove_image(ref)


def timeouts(project: UserProject) -> list[str]:
    """What pip's timeout was in each attempt, from the logs."""
    return re.findall(r"^#\d+ timeout = (\d+)$", project.logs("web"), re.MULTILINE)


def test_a_network_fault_in_a_step_is_retried_with_a_doubled_timeout(project: UserProject, server: Server) -> None:
    # pip itself asks again as often as [build] retries says: one failure of the step takes three answers.
    server.script(f"/files/{LATE.filename}", *[Respond(status=503)] * 3)

    ran = project.wheelcache("build")

    assert ran.code == 0, ran.stderr
    assert (ran.services["web"]["state"], ran.services["web"]["attempts"]) == ("built", 2)
    assert timeouts(project) == ["50", "100"]


def test_a_network_that_stays_away_ends_in_its_class_after_all_attempts(project: UserProject, server: Server) -> None:
    server.script(f"/files/{LATE.filename}", then=Respond(status=503))

    ran = project.wheelcache("build")

    assert ran.code == 8
    web = ran.services["web"]
    assert (web["attempts"], web["failure"]["class"]) == (3, "network")
    assert "run the same command again" in web["failure"]["hint"]
    assert Path(web["failure"]["log"]).is_file()
