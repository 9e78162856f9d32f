"""Projects of the build context, installed in a sealed build: what they require, and what they are built with."""

from __future__ import annotations

import tomllib
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.images import added, output_of
from support.project import UserProject, assert_built_sealed
from support.server import Server
from support.wheels import installed_wheel, make_wheel

from builders.engine import Engine
from wheelcache.index import default_index

pytestmark = pytest.mark.engine

RUN = uuid.uuid4().hex[:10]
GREET = make_wheel("greet", "1.2", seed=RUN)
WEB = make_wheel("webby", "0.9", seed=RUN)
TOOL = make_wheel("tool", "3.0", requires=("tool-part",), seed=RUN)
PART = make_wheel("tool-part", "4.0", seed=RUN)

PYPROJECT = """\
[build-system]
requires = ["tool>=2"]
build-backend = "backend"
backend-path = ["."]
[project]
name = "app"
version = "1.0"
dependencies = ["greet"]
[project.optional-dependencies]
web = ["webby"]
"""
BACKEND = '''\
import pathlib, zipfile
import tool, tool_part  # what it is built with

METADATA = """\
Metadata-Version: 2.1
Name: app
Version: 1.0
Requires-Dist: greet
Provides-Extra: web
Requires-Dist: webby; extra == "web"
"""


def build_wheel(folder, config_settings=None, metadata_directory=None):
    name = "app-1.0-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(folder, name), "w") as wheel:
        wheel.writestr("app.py", f"BUILT_WITH = {tool.__version__!r}\\n")
        wheel.writestr("app-1.0.dist-info/METADATA", METADATA)
        wheel.writestr("app-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        names = wheel.namelist()
        wheel.writestr("app-1.0.dist-info/RECORD", "".join(f"{name},,\\n" for name in names))
    return name


build_editable = build_wheel
'''
FILES = {"pyproject.toml": PYPROJECT, "backend.py": BACKEND}
LOOK = "import app, greet; print(app.BUILT_WITH, greet.__version__)"


@pytest.fixture(scope="module")
def index() -> Iterator[Server]:
    with Server() as server:
        server.put_index([GREET, WEB, TOOL, PART])
        yield server


def test_a_local_project_is_built_and_installed_without_a_network(
    project: UserProject, engine: Engine, index: Server, base: str
) -> None:
    uv = installed_wheel("uv")
    index.put_index([GREET, WEB, TOOL, PART, uv])
    top = f"FROM {base}\nWORKDIR /srv\nCOPY . .\n"
    final = f"FROM {base}\nCOPY --from=builder /wheels /wheels\nRUN pip install --no-cache-dir /wheels/*.whl\n"
    staged = top.replace("\n", " AS builder\n", 1) + "RUN pip wheel --wheel-dir /wheels .\n" + final
    cases = {
        "plain": (f"{top}RUN pip install --no-cache-dir .\n", {"greet"}),
        "editable": (f"{top}RUN pip install --no-cache-dir -e '.[web]'\n", {"greet", "webby"}),
        "alone": (f"{top}RUN pip install greet==1.2 && pip install --no-deps .\n", {"greet"}),
        "wheel": (staged, {"greet"}),
    }
    if "manylinux" in uv.filename:
        cases["uv"] = (f"{top}RUN pip install uv\nRUN uv pip install --system '.[web]'\n", {"uv", "greet", "webby"})
    for name, (dockerfile, _) in cases.items():
        project.add(name, {"Dockerfile": dockerfile, **FILES}, build="sealed")
    assert_built_sealed(project, "plain")
    for name, (_, installed) in cases.items():
        assert {each for each, _ in project.locked(name)} == installed | {"tool", "tool-part"}, name
        assert {each for each, _ in added(engine, project.image(name), base)} == installed | {"app"}, name
        assert output_of(project.image(name), "python3", "-c", LOOK) == "3.0 1.2\n", name
    table = tomllib.loads((project.root / "pylock.plain.toml").read_text())["tool"]["wheelcache"]
    assert table["build-only"] == ["tool", "tool-part"]


def test_a_changed_requirement_of_a_project_makes_its_lockfile_stale_and_a_changed_version_does_not(
    project: UserProject, base: str
) -> None:
    project.add("app", {"Dockerfile": f"FROM {base}\nCOPY . /srv\nRUN pip install /srv\n", **FILES})
    assert project.wheelcache("lock").code == 0
    project.write({"app/pyproject.toml": PYPROJECT.replace('version = "1.0"', 'version = "2.0"')})
    assert project.wheelcache("lock", "--check").code == 0
    project.write({"app/pyproject.toml": PYPROJECT.replace('"greet"', '"greet", "webby"')})
    assert project.wheelcache("lock", "--check").code == 3


def test_a_project_whose_requirements_only_its_own_code_knows_is_refused_where_sealed_was_asked_for(
    project: UserProject, base: str
) -> None:
    files = {"setup.py": "from setuptools import setup\nsetup(name='app', install_requires=open('list').readlines())\n"}
    project.add("app", {"Dockerfile": f"FROM {base}\nCOPY . /srv\nRUN pip install /srv\n", **files}, build="sealed")
    ran = project.wheelcache("build")
    assert ran.code == 8
    message = ran.services["app"]["failure"]["message"]
    assert "line 3: the local project .: what it requires is only known when its setup.py runs" in message


@pytest.mark.index
def test_projects_are_built_with_the_usual_backends(engine: Engine, base: str, tmp_path: Path) -> None:
    """Hatchling asks for editables, and older setuptools for wheel, only while they build."""
    made = UserProject(
        tmp_path / "project", cache=tmp_path / "cache", index=default_index({}), key=uuid.uuid4().hex[:12]
    )
    hatch = PYPROJECT.replace('"tool>=2"', '"hatchling"').replace('"backend"', '"hatchling.build"')
    hatch = hatch.replace('backend-path = ["."]\n', "").replace('"greet"', '"click"').replace('"webby"', '"six"')
    hatch += "[tool.hatch.build.targets.wheel]\nonly-include = ['app.py']\n"
    top = f"FROM {base}\nCOPY . /srv\n"
    made.add("hatch", {"Dockerfile": f"{top}RUN pip install -e /srv\n", "pyproject.toml": hatch, "app.py": ""})
    old = (
        hatch.partition("[tool")[0]
        .replace('"hatchling"', '"setuptools<70"')
        .replace("hatchling.build", "setuptools.build_meta")
    )
    made.add("old", {"Dockerfile": f"{top}RUN pip install '/srv[web]'\n", "pyproject.toml": old, "app.py": ""})
    setup = "from setuptools import setup\nsetup(name='app', py_modules=['app'], install_requires=['click'])\n"
    made.add("bare", {"Dockerfile": f"{top}RUN pip install /srv\n", "setup.py": setup, "app.py": ""})
    try:
        assert_built_sealed(made, "hatch")
        names = {name: {each for each, _ in added(engine, made.image(name), base)} for name in ("hatch", "old", "bare")}
        assert names == {"hatch": {"app", "click"}, "old": {"app", "click", "six"}, "bare": {"app", "click"}}
    finally:
        for ref in made.images():
            engine.remove_image(ref)
