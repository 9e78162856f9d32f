"""Every sample Dockerfile is read and rewritten as expected.toml beside it says by hand."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from support.samplecontexts import read_sample

from builders.installs import Install
from builders.instructions import DockerfileSyntaxError
from builders.pipconf import PIP_CONF, UV_TOML, WHEELS
from builders.workspace import rewritten

SAMPLES = Path(__file__).parent / "dockerfiles"
EXPECTED = tomllib.loads((SAMPLES / "expected.toml").read_text())


def told(install: Install) -> str:
    """Returns an install as expected.toml writes it down."""
    wanted = [
        *(f"'{each}'" if " " in each else each for each in install.requirements),
        *(f"-r {each}" for each in install.requirement_files),
        *(f"-c {each}" for each in install.constraint_files),
        *(
            f"{'-e ' * each.editable}./{each.folder}".replace("/.", "/")
            + (f"[{','.join(each.extras)}]" if each.extras else "")
            for each in install.local_projects
        ),
        *([f"-i {install.index_url}"] if install.index_url else []),
        *(f"--extra {each}" for each in install.extra_index_urls),
        *(f"-f {each}" for each in install.find_links),
        *(["--no-deps"] if install.no_deps else []),
        *(install.uv_project.choice if install.uv_project is not None else ()),
    ]
    where = "" if install.destination == "system" else f" -> {install.destination} {install.environment}".rstrip()
    called = install.interpreter.removesuffix(f" {install.subcommand}")
    return f"{install.line}: {called} {install.subcommand} {' '.join(wanted)}".rstrip() + where


def marks(words: str) -> str:
    """Returns added words in short: which tools' configuration, beside the wheels, and whether there is a network."""
    found = ["none"] if "--network=none" in words else []
    assert f"target={WHEELS}" in words
    found += [tool for tool, path in (("pip", PIP_CONF), ("uv", UV_TOML)) if f"target={path}" in words]
    found += ["lock"] if re.search(r"target=\S+/uv\.lock", words) else []
    return " ".join(found)


def test_every_sample_is_in_the_table_and_there_are_sixty_at_least():
    assert {path.stem for path in SAMPLES.glob("*.Dockerfile")} == EXPECTED.keys()
    assert len(EXPECTED) >= 60


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_sample_is_read_as_expected(name, tmp_path):
    expected = EXPECTED[name]
    path = SAMPLES / f"{name}.Dockerfile"
    if "refused" in expected:
        with pytest.raises(DockerfileSyntaxError, match=re.escape(f"{path}:{expected['refused']}")):
            read_sample(path, tmp_path)
        return
    reading = read_sample(path, tmp_path)
    assert [told(install) for install in reading.installs] == expected.get("installs", [])
    assert list(reading.obstacles) == expected.get("online", [])
    copy = rewritten(reading, mode="online" if reading.obstacles else "sealed", offline=False)
    assert [f"{each.line}: {marks(each.words)}".rstrip() for each in copy.insertions] == expected.get("added", [])


@pytest.mark.parametrize("options", [[], pytest.param(["--buildkit"], marks=pytest.mark.engine)])
def test_buildkit_judges_every_sample_and_its_copy_as_we_do(options):
    command = [sys.executable, Path(__file__).parents[1] / "bench" / "dockerfiles.py", SAMPLES, *options]
    run = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
