"""An engine whose disk, or whose memory, is too small for what is to be built."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.engines import OwnEngine, own_engine
from support.project import UserProject
from support.server import Server
from support.wheels import make_wheel

pytestmark = pytest.mark.engine

RUN = uuid.uuid4().hex[:10]
LARGE = make_wheel("large", "1.0", size=40_000_000, seed=RUN)
INSTALL = "COPY requirements.txt .\nRUN pip install -r requirements.txt\n"
ALLOCATE = "RUN --network=none python3 -c 'bytes(bytearray(400_000_000))'\n"
WRITE = "RUN --network=none head -c 2000000000 /dev/urandom > /file\n"


@pytest.fixture(scope="module")
def small(base: str) -> Iterator[OwnEngine]:
    """An engine with 800 MB of disk and 300 MB of memory, in which the base image is."""
    with own_engine(disk=800_000_000, memory=300_000_000) as engine:
        engine.take(base)
        yield engine


@pytest.fixture(scope="module")
def index() -> Iterator[Server]:
    with Server() as server:
        server.put_index([LARGE])
        yield server


@pytest.fixture
def shop(small: OwnEngine, base: str, index: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> UserProject:
    """A project of the service `web`, which installs the large wheel, on the small engine; it goes with the engine."""
    monkeypatch.setenv("DOCKER_HOST", small.unix)
    made = UserProject(tmp_path / "project", cache=tmp_path / "cache", index=f"{index.url}/simple/", key=RUN)
    made.add("web", {"requirements.txt": "large\n", "Dockerfile": f"FROM {base}\n{INSTALL}"})
    return made


def test_too_small_a_disk_is_told_before_anything_is_built(small: OwnEngine, shop: UserProject) -> None:
    with small.filled(left=60_000_000):
        ran = shop.wheelcache("build")
    assert (ran.code, ran.document["error"]["kind"]) == (8, "engine-full")
    message, hint = ran.document["error"]["message"], ran.document["error"]["hint"]
    # A copy on its way, the image of the wheels, and what is installed.
    needed = re.search(r"expected at least ([\d,]+) bytes free", message)
    assert needed is not None, message
    assert int(needed[1].replace(",", "")) == pytest.approx(3 * LARGE.size, rel=0.01)
    assert message.startswith(f"disk: {small.disk}/docker: ")
    assert "docker builder prune" in hint
    assert "wheelcache prune --images" in hint
    assert ran.services == {}
    assert shop.image("web") not in small.docker("images", "--format", "{{.Repository}}:{{.Tag}}")

    assert shop.wheelcache("build").code == 0
    with small.filled(left=60_000_000):
        assert shop.wheelcache("build").states == {"web": "unchanged"}


def test_a_disk_that_fills_up_in_a_step_and_a_step_that_is_killed_for_memory(
    small: OwnEngine, shop: UserProject, base: str
) -> None:
    shop.add("disk", {"Dockerfile": f"FROM {base}\n{WRITE}"})
    shop.add("memory", {"Dockerfile": f"FROM {base}\n{ALLOCATE}"})
    ran = shop.wheelcache("build", "disk", "memory")
    assert ran.code == 8
    rows = ran.services
    assert {name: (row["failure"]["class"], row["attempts"]) for name, row in rows.items()} == {
        "disk": ("disk", 1),
        "memory": ("memory", 1),
    }
    assert "No space left on device" in rows["disk"]["failure"]["message"]
    assert "docker builder prune" in rows["disk"]["failure"]["hint"]
    assert rows["memory"]["failure"]["message"].startswith("Killed")
    assert "MAX_JOBS=1" in rows["memory"]["failure"]["hint"]
    # What a failed step wrote is gone: the next build has all of the disk again.
    shop.add("disk", {"Dockerfile": f"FROM {base}\nRUN --network=none echo {RUN}\n"})
    assert shop.wheelcache("build", "disk").states == {"disk": "built"}
