"""`uv sync` in a sealed build: the wheels are those of the project's own uv.lock, whatever its indexes were."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from support.images import added, output_of
from support.project import UserProject, assert_built_sealed
from support.server import Server
from support.wheels import installed_wheel, make_wheel

from builders.engine import Engine
from wheelcache.resolve import uv_program

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif("manylinux" not in installed_wheel("uv").filename, reason="NO uv FOR LINUX HERE, NOT TESTED"),
]

RUN = uuid.uuid4().hex[:10]
UV = installed_wheel("uv")
GREET = [make_wheel("greet", version, seed=RUN) for version in ("1.2", "2.0")]
WINDOWS = make_wheel("greet", "1.2", tag="cp311-cp311-win_amd64", seed=RUN)
POLITE = make_wheel("polite", "0.5", requires=("greet",), seed=RUN)
EXTRA = make_wheel("extra", "3.1", seed=RUN)
TOOL = make_wheel("tool", "3.0", seed=RUN)
TORCH = make_wheel("torch", "2.8.0+cu128", requires=("greet",), seed=RUN)
PLAIN_TORCH = make_wheel("torch", "2.9.0", seed=RUN)

BACKEND = """\
import pathlib, tomllib, zipfile
import tool  # what it is built with


def build_wheel(folder, config_settings=None, metadata_directory=None):
    name = tomllib.loads(pathlib.Path("pyproject.toml").read_text())["project"]["name"]
    with zipfile.ZipFile(pathlib.Path(folder, f"{name}-1.0-py3-none-any.whl"), "w") as wheel:
        wheel.writestr(f"{name}.py", f"BUILT_WITH = {tool.__version__!r}\\n")
        wheel.writestr(f"{name}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\\nName: {name}\\nVersion: 1.0\\n")
        tags = "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
        wheel.writestr(f"{name}-1.0.dist-info/WHEEL", tags)
        names = wheel.namelist()
        wheel.writestr(f"{name}-1.0.dist-info/RECORD", "".join(f"{each},,\\n" for each in names))
    return f"{name}-1.0-py3-none-any.whl"


build_editable = build_wheel
"""
BUILT = '[build-system]\nrequires = ["tool"]\nbuild-backend = "backend"\nbackend-path = ["."]\n'


def pyproject(name: str, *dependencies: str, more: str = "") -> str:
    listed = ", ".join(f'"{each}"' for each in dependencies)
    project = f'[project]\nname = "{name}"\nversion = "1.0"\nrequires-python = ">=3.9"\ndependencies = [{listed}]\n'
    return BUILT + project + more


@pytest.fixture(scope="module")
def index() -> Iterator[Server]:
    with Server() as server:
        server.put_index([UV, *GREET, WINDOWS, POLITE, EXTRA, TOOL, PLAIN_TORCH])
        yield server


@pytest.fixture
def lock(index: Server, tmp_path: Path) -> Callable[[Mapping[str, str]], dict[str, str | bytes]]:
    """Adds the uv.lock that uv makes of a project's files."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("UV_", "PIP_"))}
    environ = {**kept, "UV_DEFAULT_INDEX": f"{index.url}/simple/", "UV_CACHE_DIR": str(tmp_path / "uv")}

    def made(files: Mapping[str, str]) -> dict[str, str | bytes]:
        folder = tmp_path / "locking"
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        subprocess.run([uv_program(), "lock"], cwd=folder, env=environ, check=True, capture_output=True)
        return {**files, "uv.lock": (folder / "uv.lock").read_text()}

    return made


Lock = Callable[[Mapping[str, str]], dict[str, str | bytes]]


def test_the_pattern_that_uv_itself_recommends(project: UserProject, engine: Engine, base: str, lock: Lock) -> None:
    """Its own uv.lock is mounted by the RUN, or copied before; the one that names our wheels takes its place."""
    more = '[project.optional-dependencies]\nweb = ["polite"]\n[dependency-groups]\ndev = ["extra"]\n'
    files = lock({"pyproject.toml": pyproject("app", "greet<2", more=more), "backend.py": BACKEND})
    dockerfile = f"""\
FROM {base}
RUN pip install --no-cache-dir uv
WORKDIR /app
RUN --mount=type=cache,target=/root/.cache/uv-{RUN} \\
    --mount=type=bind,source=uv.lock,target=uv.lock \\
    --mount=type=bind,source=pyproject.toml,target=pyproject.toml \\
    uv sync --locked --no-install-project --no-dev
COPY . /app
RUN --mount=type=cache,target=/root/.cache/uv-{RUN} \\
    uv sync --locked --no-dev
ENV PATH=/app/.venv/bin:$PATH
"""
    project.add("plain", {"Dockerfile": dockerfile, **files}, build="sealed")
    every = dockerfile.replace("--no-dev", "--extra web").replace("--locked", "--frozen")
    project.add("every", {"Dockerfile": every, **files}, build="sealed")
    assert_built_sealed(project, "plain")
    installed = {"uv", "greet", "app"}
    for name, more_installed in (("plain", set()), ("every", {"polite", "extra"})):
        assert {each for each, _ in added(engine, project.image(name), base)} == installed | more_installed
        assert project.locked(name) >= {("greet", "1.2")}
        look = "import app, greet; print(app.BUILT_WITH, greet.__version__)"
        assert output_of(project.image(name), "python", "-c", look) == "3.0 1.2\n"
        assert output_of(project.image(name), "cat", "/app/uv.lock") == files["uv.lock"], "the user's own stays"


def test_a_member_of_a_workspace_into_an_environment_that_another_stage_takes(
    project: UserProject, engine: Engine, base: str, lock: Lock
) -> None:
    workspace = '[tool.uv.workspace]\nmembers = ["packages/*"]\n[tool.uv.sources]\nlib = {workspace = true}\n'
    files = lock(
        {
            "pyproject.toml": pyproject("app", "extra", more=workspace),
            "backend.py": BACKEND,
            "packages/lib/pyproject.toml": pyproject("lib", "polite"),
            "packages/lib/backend.py": BACKEND,
            "packages/api/pyproject.toml": pyproject(
                "api", "lib", more="[tool.uv.sources]\nlib = {workspace = true}\n"
            ),
            "packages/api/backend.py": BACKEND,
        }
    )
    dockerfile = f"""\
FROM {base} AS builder
RUN pip install --no-cache-dir uv
ENV UV_PROJECT_ENVIRONMENT=/opt/venv UV_LINK_MODE=copy
WORKDIR /src
COPY . .
RUN uv sync --frozen --no-editable --package api
FROM {base}
COPY --from=builder /opt/venv /opt/venv
"""
    project.add("api", {"Dockerfile": dockerfile, **files}, build="sealed")
    assert_built_sealed(project, "api")
    found = {each for each, _ in added(engine, project.image("api"), base)}
    assert found == {"api", "lib", "polite", "greet"}
    assert (
        output_of(project.image("api"), "/opt/venv/bin/python", "-c", "import api, lib, polite; print('ok')") == "ok\n"
    )


def test_wheels_of_two_indexes_and_a_command_that_agrees_with_the_lock(
    project: UserProject, engine: Engine, base: str, index: Server, lock: Lock
) -> None:
    own = index.put_index([TORCH], root="/cu128")
    more = (
        f'[[tool.uv.index]]\nname = "cu128"\nurl = "{own}"\nexplicit = true\n'
        '[tool.uv.sources]\ntorch = {index = "cu128"}\n'
    )
    files = lock({"pyproject.toml": pyproject("app", "torch", "greet<2", more=more), "backend.py": BACKEND})
    dockerfile = (
        f"FROM {base}\nRUN pip install --no-cache-dir uv polite\nWORKDIR /app\n"
        "COPY pyproject.toml uv.lock backend.py ./\nRUN uv sync --locked\n"
    )
    project.add("ml", {"Dockerfile": dockerfile, **files}, build="sealed")
    assert_built_sealed(project, "ml")
    locked = {pair for pair in project.locked("ml") if pair[0] != "uv"}
    assert locked == {("torch", "2.8.0+cu128"), ("greet", "1.2"), ("polite", "0.5"), ("tool", "3.0")}
    look = "import torch, greet; print(torch.__version__, greet.__version__)"
    assert output_of(project.image("ml"), "/app/.venv/bin/python", "-c", look) == "2.8.0+cu128 1.2\n"


def test_what_uv_export_writes_down_is_installed_by_pip_and_uv(
    project: UserProject, engine: Engine, base: str, lock: Lock
) -> None:
    more = '[dependency-groups]\ndev = ["extra"]\n'
    files = lock({"pyproject.toml": pyproject("app", "polite", "greet<2", more=more)})
    top = f"FROM {base} AS builder\nRUN pip install uv\nWORKDIR /app\nCOPY pyproject.toml uv.lock ./\n"
    export = "uv export --frozen --no-dev --no-emit-project"
    cases = {
        "staged": f"{top}RUN {export} -o requirements.txt\nFROM {base}\nCOPY --from=builder /app/requirements.txt .\n"
        "RUN pip install -r requirements.txt\n",
        "piped": f"{top}RUN {export.replace('frozen', 'locked')} >/r.txt && uv pip install --system -r /r.txt\n",
        "synced": f"{top}RUN uv venv /opt/venv\nENV VIRTUAL_ENV=/opt/venv\n"
        f"RUN {export} --format pylock.toml -o pylock.toml\nRUN uv pip sync pylock.toml\n",
    }
    for name, dockerfile in cases.items():
        project.add(name, {"Dockerfile": dockerfile, **files}, build="sealed")
    assert_built_sealed(project, "staged")
    for name in cases:
        found = {pair for pair in added(engine, project.image(name), base) if pair[0] != "uv"}
        assert found == {("polite", "0.5"), ("greet", "1.2")}, name


def test_a_changed_uv_lock_makes_the_lockfile_stale(project: UserProject, base: str, lock: Lock) -> None:
    dockerfile = f"FROM {base}\nWORKDIR /app\nCOPY . .\nRUN uv sync\n"
    project.add("app", {"Dockerfile": dockerfile, **lock({"pyproject.toml": pyproject("app", "greet<2")})})
    assert project.wheelcache("lock").code == 0
    assert ("greet", "1.2") in project.locked("app")
    project.write({f"app/{name}": text for name, text in lock({"pyproject.toml": pyproject("app", "greet>1")}).items()})
    assert project.wheelcache("lock", "--check").code == 3
    assert project.wheelcache("lock").code == 0
    assert ("greet", "1.2") in project.locked("app"), "uv keeps what it locked"
