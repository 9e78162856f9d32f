"""What local projects require, told from their files alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders.localproject import read_project
from wheelcache.errors import ProjectFileError

HATCH = """\
[build-system]
requires = ["hatchling>=1.25"]
build-backend = "hatchling.build"
[project]
name = "My.App"
version = "1"
dependencies = ["click>=8"]
[project.optional-dependencies]
web = ["flask"]
GPU = ["torch; sys_platform == 'linux'"]
all = ["my-app[web,gpu]", "my_app[all]"]
"""
DYNAMIC = """\
[build-system]
requires = ["setuptools>=68"]
build-backend = "setuptools.build_meta"
[project]
name = "app"
dynamic = ["version", "dependencies", "optional-dependencies"]
[tool.setuptools.dynamic]
dependencies = {file = ["requirements.txt"]}
optional-dependencies.web = {file = "web.txt"}
"""
CFG = """\
[options]
install_requires =
    click
    # not this
    flask>2
[options.extras_require]
web = gunicorn
"""
CALL = "from setuptools import setup\nsetup()\n"
PLAIN = CALL.replace("()", "(name='x', packages=[], install_requires=['click'])")
POETRY = "[build-system]\nrequires = ['poetry-core']\nbuild-backend = 'poetry.core.masonry.api'\n"
VCS = HATCH.replace('"click>=8"', '"tool @ git+https://git.test/t"')


def needs(
    folder: Path, files: dict[str, str], *, extras: tuple[str, ...] = (), editable: bool = False, tool: str = "pip"
):
    for name, text in files.items():
        (folder / name).write_text(text)
    return read_project(folder, extras=extras, is_editable=editable, tool=tool)


@pytest.mark.parametrize(
    ("files", "extras", "requirements"),
    [
        ({"pyproject.toml": HATCH}, (), ("click>=8",)),
        ({"pyproject.toml": HATCH}, ("gpu", "web"), ("click>=8", "torch; sys_platform == 'linux'", "flask")),
        ({"pyproject.toml": HATCH}, ("all",), ("click>=8", "torch; sys_platform == 'linux'", "flask")),
        ({"pyproject.toml": HATCH}, ("unheard-of",), ("click>=8",)),
        (
            {"pyproject.toml": DYNAMIC, "requirements.txt": "a==1  # yes\n\nb\n", "web.txt": "c\n"},
            ("web",),
            ("a==1", "b", "c"),
        ),
        ({"setup.cfg": CFG, "setup.py": CALL}, ("web",), ("click", "flask>2", "gunicorn")),
        ({"setup.py": PLAIN}, (), ("click",)),
        ({"setup.py": "import setuptools\nsetuptools.setup(name='x')\n", "pyproject.toml": "[tool.ruff]\n"}, (), ()),
    ],
)
def test_declared_requirements_are_known(tmp_path, files, extras, requirements):
    found = needs(tmp_path, files, extras=extras)
    assert (found.requirements, found.unlockable) == (requirements, ())


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"pyproject.toml": DYNAMIC.partition("[tool")[0]}, "requires is only known when its build backend runs"),
        ({"setup.py": PLAIN.replace("['click']", "read()")}, "what it requires is only known when its setup.py runs"),
        ({"setup.py": "from setuptools import setup\nsetup(**about)\n"}, "only known when its setup.py runs"),
        ({"setup.py": "this is no Python"}, "only known when its setup.py runs"),
        ({"setup.cfg": CFG.replace("\n    click", " file: requirements.txt")}, "stands in a file that setup.cfg names"),
        ({"pyproject.toml": POETRY}, "what it requires only its build backend poetry knows"),
        ({"pyproject.toml": VCS}, "comes from version control"),
    ],
)
def test_what_only_running_code_knows_is_told(tmp_path, files, sentence):
    assert sentence in "; ".join(needs(tmp_path, files).unlockable)


@pytest.mark.parametrize(
    ("files", "editable", "build"),
    [
        ({"pyproject.toml": HATCH}, False, {"hatchling>=1.25"}),
        ({"pyproject.toml": HATCH}, True, {"hatchling>=1.25", "editables"}),
        ({"pyproject.toml": DYNAMIC, "requirements.txt": "", "web.txt": ""}, True, {"setuptools>=68", "wheel"}),
        ({"setup.py": PLAIN}, False, {"setuptools>=40.8.0", "wheel"}),
    ],
)
def test_what_a_project_is_built_with_is_known(tmp_path, files, editable, build):
    assert set(needs(tmp_path, files, editable=editable).build) == build


def test_uv_obeys_the_sources_of_a_project_and_pip_does_not(tmp_path):
    files = {"pyproject.toml": HATCH + "[tool.uv.sources]\nClick = {path = '../click'}\nother = {path = '../other'}\n"}
    assert needs(tmp_path, files).unlockable == ()
    assert needs(tmp_path, files, tool="uv").unlockable == ("[tool.uv.sources] say where click comes from",)


def test_a_file_that_is_no_toml_is_named(tmp_path):
    with pytest.raises(ProjectFileError, match=r"pyproject\.toml: expected TOML"):
        needs(tmp_path, {"pyproject.toml": "not toml"})
