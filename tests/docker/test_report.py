"""What is recorded of real builds, and what is told of it: steps, bytes, what is shared, and why to build."""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from support.project import UserProject
from support.server import Server
from support.wheels import make_wheel

from builders.engine import Engine

pytestmark = pytest.mark.engine

RUN = uuid.uuid4().hex[:10]
BULK = make_wheel("bulk", "1.0", size=21_000_000, seed=RUN)
GREET = make_wheel("greet", "1.2", size=50_000, seed=RUN)
NEWER = make_wheel("greet", "2.0", size=90_000, seed=RUN)
SECRET = f"hunter2-{RUN}"
INSTALL = "RUN pip install --no-cache-dir -r requirements.txt"


@pytest.fixture(scope="module")
def index() -> Iterator[Server]:
    with Server() as server:
        server.put_index([BULK, GREET, NEWER])
        yield server


def dockerfile(project: UserProject, more: str = "") -> str:
    """A Dockerfile none of whose steps another project has cached."""
    return f"FROM python:3.11-slim\nENV KEY={project.key}\nCOPY requirements.txt .\n{INSTALL}\nCOPY app.py .\n{more}"


@pytest.fixture
def shop(project: UserProject) -> UserProject:
    """Two services that share a heavy wheel."""
    for name, requirements in (("one", "bulk\n"), ("two", "bulk\ngreet<2\n")):
        files = {"Dockerfile": dockerfile(project), "requirements.txt": requirements, "app.py": f"print({name!r})\n"}
        project.add(name, files)
    return project


def steps(report: dict[str, Any], service: str) -> dict[str, dict[str, Any]]:
    return {row["component"]: row for row in report["components"] if row["service"] == service}


def why(project: UserProject) -> dict[str, list[str]]:
    ran = project.wheelcache("build", "--dry-run")
    assert ran.code == 0, ran
    return {name: row["why_built"] for name, row in ran.services.items()}


def test_two_builds_beside_one_another(shop: UserProject, engine: Engine) -> None:
    first = shop.wheelcache("build")
    assert first.code == 0, first
    one = steps(first.document["report"], "one")
    assert list(one) == [
        "one",
        "shared base",
        "mounted wheels",
        "build context",
        *(name for name in one if name.startswith("FROM ")),
        "COPY requirements.txt .",
        INSTALL,
        "COPY app.py .",
        "export of the image",
        "check of the image",
        "image",
        "shared with others",
    ]
    assert one["one"]["now"]["state"] == "built"
    assert one["shared base"]["now"]["bytes"] >= 0.99 * BULK.size
    assert one["COPY app.py ."]["now"]["bytes"] == len("print('one')\n")
    assert one["image"]["now"]["bytes"] == engine.image_size(shop.image("one"))
    two = steps(first.document["report"], "two")
    assert 0.9 * GREET.size <= two[INSTALL]["now"]["bytes"] < BULK.size
    assert two["mounted wheels"]["now"]["bytes"] == GREET.size
    base = engine.image_size(first.services["two"]["shared_base"])
    assert base is not None
    assert base <= two["shared with others"]["now"]["bytes"] < two["image"]["now"]["bytes"]
    assert all(row["before"] is None for row in first.document["report"]["components"])

    shop.write({"two/requirements.txt": "bulk\ngreet>=2\n"})
    second = shop.wheelcache("build")
    assert second.states == {"one": "unchanged", "two": "built"}
    one, two = (steps(second.document["report"], name) for name in ("one", "two"))
    assert one[INSTALL]["now"]["state"] == "cached"
    assert one[INSTALL]["now"]["bytes"] == one[INSTALL]["before"]["bytes"]
    assert two[INSTALL]["now"]["state"] is None
    assert two[INSTALL]["now"]["seconds"] > 0
    assert two[INSTALL]["difference"]["bytes"] >= 0.9 * (NEWER.size - GREET.size)
    assert two["check of the image"]["now"]["state"] is None
    assert one["check of the image"]["now"]["state"] == "cached"
    shown = shop.wheelcache("report").document
    assert {key: shown[key] for key in second.document["report"]} == second.document["report"]


def test_why_each_service_would_be_built(shop: UserProject, engine: Engine) -> None:
    assert why(shop) == {"one": ["no build of it is recorded"], "two": ["no build of it is recorded"]}
    assert shop.wheelcache("build").code == 0
    assert why(shop) == {"one": ["nothing changed"], "two": ["nothing changed"]}
    shop.write({"one/app.py": "print()\n", "two/requirements.txt": "bulk\ngreet>=2\n"})
    assert why(shop) == {
        "one": ["app files changed: app.py (BuildKit decides what of it matters)"],
        "two": ["requirements.txt changed: ~ greet 1.2 → 2.0"],
    }
    shop.write({"one/Dockerfile": dockerfile(shop, "RUN exit 3\n"), "two/requirements.txt": "bulk\ngreet<2\n"})
    assert shop.wheelcache("build").states == {"one": "failed", "two": "unchanged"}
    engine.remove_image(shop.image("two"))
    assert why(shop) == {
        "one": [
            "its last build failed: unknown",
            "Dockerfile changed",
            "app files changed: app.py (BuildKit decides what of it matters)",
        ],
        "two": [f"{shop.image('two')} is not in the engine"],
    }


def test_what_a_service_shares_and_installs_itself(shop: UserProject) -> None:
    services = shop.wheelcache("build", "--dry-run").services
    assert (services["one"]["shared_with"], services["one"]["shared_bytes"]) == (["two"], BULK.size)
    assert (services["one"]["mounted_bytes"], services["two"]["mounted_bytes"]) == (0, GREET.size)


def test_a_failed_build_is_told_with_its_step_and_class(shop: UserProject) -> None:
    shop.write({"one/Dockerfile": dockerfile(shop, "RUN exit 3\n")})
    ran = shop.wheelcache("build", "one")
    assert ran.code == 8
    one = steps(ran.document["report"], "one")
    assert one["one"]["now"]["state"].startswith("failed: ")
    assert one["RUN exit 3"]["now"]["state"] == "failed"
    assert one[INSTALL]["now"]["state"] is None
    assert "image" not in one


def test_no_build_arguments_value_is_recorded_or_shown(project: UserProject) -> None:
    text = "FROM python:3.11-slim\nARG TOKEN\nRUN echo $TOKEN >/dev/null\nCOPY app.py /${TOKEN}/\n"
    project.add("one", {"Dockerfile": text, "app.py": "print()\n"})
    settings = (project.root / "wheelcache.toml").read_text()
    service = {"image": project.image("one"), "build": {"context": "one", "args": {"TOKEN": SECRET}}}
    project.write(
        {
            "compose.yml": json.dumps({"services": {"one": service}}),
            "wheelcache.toml": f'compose = ["compose.yml"]\n{settings}',
        }
    )
    ran = project.wheelcache("build")
    assert ran.code == 0, ran
    one = steps(ran.document["report"], "one")
    assert "COPY app.py /${TOKEN}/" in one
    assert one["COPY app.py /${TOKEN}/"]["now"]["bytes"] == len("print()\n")
    assert SECRET not in json.dumps(ran.document)
    with closing(sqlite3.connect(project.cache / "v1" / "catalog.sqlite")) as catalog:
        records = [record for (record,) in catalog.execute("SELECT record FROM runs")]
    assert len(records) == 2
    assert SECRET not in "".join(records)
    project.write({"compose.yml": json.dumps({"services": {"one": service}}).replace(SECRET, "other-value")})
    assert why(project) == {"one": ["build argument changed: TOKEN"]}
