"""What is shared and what is not, shape by shape, as the README's table says it: planned, built, and looked at."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from support.images import size_above
from support.project import UserProject, ended
from support.server import Server
from support.wheels import MadeWheel, installed_wheel, make_wheel

from builders.engine import Engine
from wheelcache.resolve import uv_program

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif("manylinux" not in installed_wheel("uv").filename, reason="NO uv FOR LINUX HERE, NOT TESTED"),
]

README = Path(__file__).parents[2] / "README.md"

RUN = uuid.uuid4().hex[:10]
BULK = make_wheel("bulk", "1.0", size=21_000_000, requires=("greet",), seed=RUN)
MASS = make_wheel("mass", "1.0", size=21_000_000, seed=RUN)
HELD = make_wheel("torch", "2.8.0+held", seed=RUN)
GREET = make_wheel("greet", "1.2", seed=RUN)
POLITE = make_wheel("polite", "0.5", seed=RUN)
EXTRA = make_wheel("extra", "3.1", seed=RUN)
TOOL = make_wheel("tool", "3.0", seed=RUN)

PROJECT = """\
[build-system]
requires = ["greet", "tool"]
build-backend = "backend"
backend-path = ["."]
[project]
name = "app"
version = "1.0"
dependencies = ["bulk", "extra"]
"""
BACKEND = """\
import zipfile, greet, tool


def build_wheel(folder, config_settings=None, metadata_directory=None):
    with zipfile.ZipFile(f"{folder}/app-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("app.py", "")
        told = "Metadata-Version: 2.1\\nName: app\\nVersion: 1.0\\n"
        told += "Requires-Dist: bulk\\nRequires-Dist: extra\\n"
        wheel.writestr("app-1.0.dist-info/METADATA", told)
        wheel.writestr("app-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("app-1.0.dist-info/RECORD", "".join(f"{name},,\\n" for name in wheel.namelist()))
    return "app-1.0-py3-none-any.whl"
"""

LOOK = """
import importlib, importlib.metadata as m, json, sys
held = {each.metadata["Name"]: each.version for each in m.distributions()}
for name in sys.argv[1:]:
    importlib.import_module(name)
print(json.dumps(held))
"""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A service of one shape.

    Attributes:
        row: the shape, as the first cell of a row of the README's table has it.
        dockerfile: BASE, UV and the like stand for images.
        asks: its requirements.txt.
        why: why it has an own copy, as far as it matters; empty where it shares.
        holds: the distributions that its image has more than its base image.
        files: of its context.
        build: of its compose file beside.
        started: what its compose file says beside `build`.
        python: what is asked for them.
        is_built: False for an own copy that is built like any other: how it is planned is all that there is to see.
    """

    row: str
    dockerfile: str
    asks: str = "bulk\n"
    why: str = ""
    holds: frozenset[str] = frozenset({"bulk", "greet"})
    files: Mapping[str, str] = field(default_factory=dict)
    build: Mapping[str, Any] = field(default_factory=dict)
    started: Mapping[str, Any] = field(default_factory=dict)
    python: str = "python3"
    is_built: bool = True


COPY = "COPY requirements.txt .\n"
PIP = "RUN pip install --no-cache-dir -r requirements.txt\n"
NAMED = (
    "a program of its heavy wheels named by a path of its own (`/root/.local/bin/torchrun`): in the Dockerfile, in "
    "compose's `command`, `entrypoint` or `healthcheck`, or in a script of the context that one of these starts"
)
PLAIN = f"FROM BASE\n{COPY}{PIP}"
BUILDER = f"FROM BASE AS builder\n{COPY}"
USER = f"{BUILDER}RUN pip install --user --no-cache-dir -r requirements.txt\nFROM BASE\n"
LOCAL = "COPY --from=builder /root/.local /root/.local\n"
WITH_UV = "FROM BASE\nCOPY --from=UV --chmod=755 /uv /usr/local/bin/uv\n"
VENV = "RUN python3 -m venv /opt/venv\n"
INTO_VENV = "RUN /opt/venv/bin/pip install --no-cache-dir -r requirements.txt\n"

CASES = {
    "system": Case(
        row="`pip install` into the system, in the final stage or in one that it builds on",
        dockerfile=PLAIN,
    ),
    "staged": Case(
        row="`pip install` into the system, in the final stage or in one that it builds on",
        dockerfile=f"{BUILDER}{PIP}FROM builder\nRUN echo final >/etc/kind\n",
    ),
    "uv": Case(
        row="`uv pip install --system`; `uv pip sync --system` as the last install",
        dockerfile=f"{WITH_UV}{COPY}RUN uv pip install --system --upgrade --no-cache -r requirements.txt\n",
    ),
    "sync": Case(
        row="`uv pip install --system`; `uv pip sync --system` as the last install",
        dockerfile=f"{WITH_UV}{COPY}RUN uv pip sync --system --no-cache requirements.txt\n",
        asks="bulk==1.0\ngreet==1.2\n",
    ),
    "user": Case(
        row="`pip install --user` in a builder stage, its `.local` copied into a final stage on the same image",
        dockerfile=USER + LOCAL,
        asks="bulk\npolite\n",
        holds=frozenset({"bulk", "greet", "polite"}),
    ),
    "prefix": Case(
        row="`pip install --prefix` in a builder stage, that folder copied into a final stage on the same image",
        dockerfile=f"{BUILDER}RUN pip install --prefix=/install --no-cache-dir -r requirements.txt\n"
        "FROM BASE\nCOPY --from=builder /install/local /usr/local\n",
    ),
    "another": Case(
        row="`pip install` as a user other than root",
        dockerfile=f"FROM BASE\nRUN useradd --create-home app\nUSER app\nWORKDIR /home/app\n{COPY}{PIP}",
    ),
    "pinned": Case(
        row="a base image pinned by digest (`FROM image@sha256:…`)",
        dockerfile=PLAIN.replace("BASE", "PINNED"),
    ),
    "api": Case(
        row="several build targets of one Dockerfile (`target:` of compose)",
        dockerfile=f"{PLAIN}FROM BASE AS last\nRUN false\n".replace("FROM BASE\n", "FROM BASE AS api\n", 1),
        build={"target": "api"},
    ),
    "index": Case(
        row="another index for each service, where its file is the same, byte for byte",
        dockerfile="FROM BASE\nRUN pip install --no-cache-dir --index-url OTHER bulk\n",
    ),
    "overlap": Case(
        row="some of its heavy wheels in common with others",
        dockerfile=PLAIN,
        asks="bulk\nmass\n",
        holds=frozenset({"bulk", "greet", "mass"}),
    ),
    "holding": Case(
        row="a base image that holds torch already (pytorch, NGC)",
        dockerfile=PLAIN.replace("BASE", "HELD"),
        asks="bulk\ntorch\npolite\n",
        holds=frozenset({"bulk", "greet", "polite", "torch"}),
    ),
    "local": Case(
        row="`pip install .`: a project of the build context",
        dockerfile="FROM HELD\nCOPY . /srv\nRUN pip install --no-cache-dir /srv\n",
        files={"pyproject.toml": PROJECT, "backend.py": BACKEND},
        holds=frozenset({"app", "bulk", "extra", "greet", "torch"}),
    ),
    "older": Case(
        row="the only service with its base image or target",
        dockerfile=PLAIN,
        why="has another target",
        is_built=False,
    ),
    "gone": Case(
        row="a heavy wheel that the Dockerfile uninstalls again",
        dockerfile=f"{PLAIN}RUN pip uninstall --yes bulk\n",
        why="it installs no heavy wheel (20 MB or more) that stays",
        is_built=False,
    ),
    "venv": Case(
        row="pip or uv into a virtual environment, copied between stages or not; `uv sync`",
        dockerfile=f"FROM BASE\n{VENV}{COPY}{INTO_VENV}",
        why="line 4: a virtual environment does not see the base image's packages",
        python="/opt/venv/bin/python",
        is_built=False,
    ),
    "copied": Case(
        row="pip or uv into a virtual environment, copied between stages or not; `uv sync`",
        dockerfile=f"FROM BASE AS builder\nRUN python3 -m venv --without-pip /opt/venv\n{COPY}"
        "RUN pip --python /opt/venv/bin/python install --no-cache-dir -r requirements.txt\n"
        "FROM BASE\nCOPY --from=builder /opt/venv /opt/venv\n",
        why="line 4: a virtual environment does not see the base image's packages",
        python="/opt/venv/bin/python",
    ),
    "uvsync": Case(
        row="pip or uv into a virtual environment, copied between stages or not; `uv sync`",
        dockerfile=f"{WITH_UV}WORKDIR /srv\nCOPY pyproject.toml uv.lock ./\nRUN uv sync --frozen --no-cache\n",
        why="line 5: a virtual environment does not see the base image's packages",
        files={
            "pyproject.toml": '[project]\nname = "app"\nversion = "1.0"\nrequires-python = ">=3.9"\n'
            'dependencies = ["bulk"]\n[tool.uv]\npackage = false\n'
        },
        python="/srv/.venv/bin/python",
    ),
    "seeing": Case(
        row="a virtual environment with `--system-site-packages`",
        dockerfile=f"FROM BASE\nRUN python3 -m venv --system-site-packages --without-pip /opt/venv\n{COPY}"
        "RUN /opt/venv/bin/python -m pip install --no-cache-dir -r requirements.txt\n",
        why="line 4: programs of wheels in the base image would run outside of the virtual environment",
        python="/opt/venv/bin/python",
        is_built=False,
    ),
    "library": Case(
        row="the system's packages, or `/usr/local`, copied out of a builder stage",
        dockerfile=f"{BUILDER}{PIP}FROM BASE\nCOPY --from=builder /usr/local /usr/local\n",
        why="heavy wheels would come along again",
    ),
    "left": Case(
        row="what a builder stage installs is not, or not all, copied into the final stage",
        dockerfile=f"{BUILDER}{PIP}RUN python3 -c 'import bulk' >/out\n"
        "FROM BASE\nCOPY --from=builder /out /out\nRUN pip install --no-cache-dir greet\n",
        why="line 3: not all that it installs is copied into the final stage as it is",
        holds=frozenset({"greet"}),
    ),
    "mixed": Case(
        row="builder stage and final stage on different images, or a final stage from `scratch`",
        dockerfile=f"{USER}{LOCAL}".replace("FROM BASE\nCOPY", "FROM HELD\nCOPY"),
        why="the final stage is on",
        holds=frozenset({"bulk", "greet", "torch"}),
    ),
    "target": Case(
        row="`--target`, `--root`; uv's `--prefix`",
        dockerfile=f"FROM BASE\n{COPY}RUN pip install --target /srv/lib -r requirements.txt\nENV PYTHONPATH=/srv/lib\n",
        why="line 3: --target and --root look at nothing that is installed already",
    ),
    "wheels": Case(
        row="`pip wheel`, then `--find-links`",
        dockerfile=f"{BUILDER}RUN pip wheel --wheel-dir /wheels -r requirements.txt\n"
        "FROM BASE\nCOPY --from=builder /wheels /wheels\n"
        "RUN pip install --no-cache-dir --no-index --find-links /wheels bulk\n",
        why="line 3: it makes or fetches wheels instead of installing them",
    ),
    "forced": Case(
        row="`--force-reinstall`, `--ignore-installed`, `--reinstall`",
        dockerfile=PLAIN.replace("install", "install --force-reinstall", 1),
        why="line 3: it reinstalls what is there already",
    ),
    "second": Case(
        row="another Python than the base image's first one, or one that the Dockerfile brings",
        dockerfile=PLAIN.replace("pip install", "/usr/bin/python3 -m pip install"),
        why="line 3: /usr/bin/python3 -m pip may be another Python than the base image's first one",
        is_built=False,
    ),
    "named": Case(
        row=NAMED,
        dockerfile=f'{USER}{LOCAL}CMD ["/root/.local/bin/bulkrun"]\n',
        why="it names /root/.local/bin/bulkrun, and programs of wheels in the base stand elsewhere",
        is_built=False,
    ),
    "commanded": Case(
        row=NAMED,
        dockerfile=f"{USER}{LOCAL}",
        started={"command": "/root/.local/bin/bulkrun --now"},
        why="it names /root/.local/bin/bulkrun, and programs of wheels in the base stand elsewhere",
        is_built=False,
    ),
    "scripted": Case(
        row=NAMED,
        dockerfile=f'{USER}{LOCAL}COPY start.sh /usr/local/bin/\nENTRYPOINT ["start.sh"]\n',
        files={"start.sh": '#!/bin/sh\nexec /root/.local/bin/bulkrun "$@"\n'},
        why="it names /root/.local/bin/bulkrun, and programs of wheels in the base stand elsewhere",
        is_built=False,
    ),
    "onbuild": Case(
        row="a base image with `ONBUILD`",
        dockerfile=PLAIN.replace("BASE", "ONBUILD"),
        why="has ONBUILD triggers",
    ),
    "platforms": Case(
        row="`platforms:` of compose; `additional_contexts:` in the base image's place; a stage called like it",
        dockerfile=PLAIN,
        build={"platforms": ["linux/{machine}".format(machine={"aarch64": "arm64"}.get(platform.machine(), "amd64"))]},
        why="it names platforms of its own",
        is_built=False,
    ),
    "replaced": Case(
        row="`platforms:` of compose; `additional_contexts:` in the base image's place; a stage called like it",
        dockerfile=PLAIN,
        build={"additional_contexts": {"BASE": "docker-image://HELD"}},
        why="its compose file puts another image in the place of",
        is_built=False,
    ),
}


@pytest.fixture(scope="module")
def index() -> Iterator[Server]:
    with Server() as server:
        server.put_index([BULK, MASS, GREET, POLITE, EXTRA, TOOL])
        server.put_index([BULK, GREET], root="/other")
        yield server


@pytest.fixture
def images(make_image: Callable[..., str], pinned: str, base: str, index: Server) -> dict[str, str]:
    """What the words in the cases stand for."""
    wheel: dict[str, str | bytes] = {HELD.filename: HELD.data}
    return {
        "OTHER": f"{index.url}/other/",
        "PINNED": pinned,
        "HELD": make_image(f"FROM {base}\nCOPY {HELD.filename} /\nRUN pip install --no-deps /{HELD.filename}\n", wheel),
        "ONBUILD": make_image(f"FROM {base}\nONBUILD RUN touch /fired\n"),
        "UV": make_image("FROM scratch\nCOPY uv /uv\n", {"uv": Path(uv_program()).read_bytes()}),
        "BASE": base,
    }


def filled(text: str, images: Mapping[str, str]) -> str:
    return re.sub("|".join(rf"\b{word}\b" for word in images), lambda match: images[match[0]], text)


@pytest.fixture
def matrix(project: UserProject, images: Mapping[str, str], index: Server, tmp_path: Path) -> UserProject:
    """A compose project with a service of each shape."""
    services = {}
    for name, case in CASES.items():
        files = {"Dockerfile": filled(case.dockerfile, images), "requirements.txt": case.asks, **case.files}
        project.add(name, files)
        build = {"context": name, **case.build}
        services[name] = {"image": project.image(name), "build": build, **case.started}
    environ = {**os.environ, "UV_DEFAULT_INDEX": f"{index.url}/simple/", "UV_CACHE_DIR": str(tmp_path / "uv")}
    subprocess.run([uv_program(), "lock"], cwd=project.root / "uvsync", env=environ, check=True, capture_output=True)
    settings = {
        "compose": ["compose.yml"],
        "indexes": [{"name": "local", "url": f"{index.url}/simple/"}],
        "services": [
            {"name": "older", "target": {"python": "3.11", "platform": f"manylinux_2_17_{platform.machine()}"}}
        ],
    }
    compose = filled(json.dumps({"services": services}), images)
    project.write({"wheelcache.toml": tomli_w.dumps(settings), "compose.yml": compose})
    return project


def held_by(image: str, case: Case) -> set[tuple[str, str]]:
    """What an image holds, as its own Python sees it; what should be there has been imported."""
    names = sorted(case.holds - {"torch"})
    argv = ["docker", "run", "--rm", "--network=none", image, case.python, "-c", LOOK, *names]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {pair for pair in json.loads(done.stdout).items() if pair[0] not in {"pip", "setuptools", "wheel"}}


def versions(*wheels: MadeWheel) -> dict[str, tuple[str, str]]:
    return {wheel.name: (wheel.name, wheel.version) for wheel in wheels}


def test_every_row_of_the_matrix_is_planned_built_and_as_it_would_be_without_us(
    matrix: UserProject, images: Mapping[str, str], engine: Engine
) -> None:
    sharing = [name for name, case in CASES.items() if not case.why]
    grounds = {"holding": {"holding", "local"}, "local": {"holding", "local"}}
    shown = ended(matrix.start("build", "--dry-run"), timeout=600)
    assert shown.code == 0, shown.stderr
    for name, row in shown.services.items():
        case = CASES[name]
        assert (row["mode"], row["refused"]) == ("sealed", None), name
        assert case.why in (row["why_own"] or ""), name
        assert bool(row["why_own"]) == bool(case.why), name
        assert (BULK.filename in row["shared_wheels"]) == (not case.why), name
        group = grounds.get(name, set(sharing) - {"holding", "local"}) if name in sharing else set()
        assert set(row["shared_with"]) == group - {name}, name
    assert shown.services["overlap"]["shared_wheels"] == [BULK.filename]
    assert MASS.filename in shown.services["overlap"]["mounted_wheels"]
    assert shown.services["holding"]["shared_wheels"] == [BULK.filename, GREET.filename]
    assert GREET.filename in shown.services["local"]["mounted_wheels"], "it is built with that, too"

    built = [name for name, case in CASES.items() if case.is_built]
    ran = ended(matrix.start("build", *built), timeout=900)
    assert ran.code == 0, ran.stderr
    bases = {name: row["shared_base"] for name, row in ran.services.items()}
    assert {name for name, shared in bases.items() if shared} == set(sharing)
    assert bases["holding"] == bases["local"] != bases["system"]
    assert len({bases[name] for name in sharing}) == 2
    for name in sharing:
        least = MASS.size if name == "overlap" else 0
        more = size_above(engine, matrix.image(name), bases[name]) - least
        assert more < (60_000_000 if name in {"uv", "sync"} else 1_000_000), name
    for name in set(built) - set(sharing) - {"left"}:
        assert BULK.size < size_above(engine, matrix.image(name), ground_of(CASES[name], images)), name

    known = versions(BULK, MASS, HELD, GREET, POLITE, EXTRA) | {"app": ("app", "1.0")}
    with ThreadPoolExecutor(4) as pool:
        found = dict(zip(built, pool.map(lambda name: held_by(matrix.image(name), CASES[name]), built), strict=True))
    assert found == {name: {known[each] for each in CASES[name].holds} for name in built}


def ground_of(case: Case, images: Mapping[str, str]) -> str:
    """Returns the image that its final stage is on."""
    return images[re.findall(r"^FROM (\w+)", case.dockerfile, re.MULTILINE)[-1]]


def test_the_readme_has_the_rows_that_are_tested() -> None:
    section = README.read_text().partition("### What is shared\n")[2].partition("\n#")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")][1:]
    tested = {case.row: "own copy" if case.why else "shared" for case in CASES.values()}
    assert {row[0]: row[1] for row in rows} == tested
