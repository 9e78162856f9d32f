"""What one build is given beside the service's own files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from builders.compose import ComposeService
from builders.reading import Reading, read_service
from builders.services import Service
from builders.workspace import Dressing, difference, lay_out, rewritten
from wheelcache.config import BuildMode

SECRET = "https://me:p@ss@index.example/simple"


def read(folder: Path, dockerfile: str) -> Reading:
    (folder / "Dockerfile").write_text(dockerfile)
    return read_service(Service(name="one", images=("one:1",), context=folder, dockerfile=folder / "Dockerfile"))


def test_the_difference_shows_no_credentials(tmp_path: Path) -> None:
    reading = read(tmp_path, f"FROM python:3.11\nRUN pip install --index-url {SECRET} torch\n")
    copy = rewritten(reading, mode="sealed", offline=False)
    assert SECRET in copy.text
    assert "+RUN --network=none" in (shown := difference(reading, copy))
    assert shown.count("https://index.example/simple") == 2
    assert "p@ss" not in shown


@pytest.mark.parametrize(
    ("mode", "offline", "stays"), [("sealed", False, False), ("online", True, False), ("online", False, True)]
)
def test_no_frontend_is_asked_of_a_registry_without_a_network(
    tmp_path: Path, mode: BuildMode, offline: bool, stays: bool
) -> None:
    reading = read(tmp_path, "# syntax=docker/dockerfile:1\nFROM python:3.11\nRUN pip install torch\n")
    assert ("syntax=" in rewritten(reading, mode=mode, offline=offline).text) is stays


@pytest.mark.parametrize(
    ("facts", "pulls"),
    [
        ({}, True),
        ({"offline": True}, False),
        ({"wheels_image": "wheelcache/wheels:1"}, False),
        ({"overrides": {"python:3.11": "wheelcache/base:1"}}, False),
    ],
)
def test_no_registry_is_asked_for_the_images_we_made(tmp_path: Path, facts: dict[str, Any], pulls: bool) -> None:
    (tmp_path / "Dockerfile").write_text("FROM python:3.11\n")
    compose = ComposeService(name="one", project="p", image="one:1", context=tmp_path, dockerfile=None, pull=True)
    service = Service(
        name="one", images=("one:1",), context=tmp_path, dockerfile=tmp_path / "Dockerfile", compose=compose
    )
    plain: dict[str, Any] = {"offline": False, "wheels_image": "", "overrides": {}}
    dressing = Dressing(
        reading=read_service(service),
        mode="sealed",
        network=None,
        constraints=(),
        labels={},
        indexes=(),
        pip_timeout=60,
        pip_retries=3,
        **{**plain, **facts},
    )
    (tmp_path / "build").mkdir()
    assert lay_out(tmp_path / "build", dressing, attempt=1).pull is pulls
