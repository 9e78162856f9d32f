"""Base images that hold something already: what of it serves, what is replaced, and when that is locked again.

The images stand in for pytorch's and NVIDIA's: a torch that no index has, with dependencies.
"""

from __future__ import annotations

import tomllib
import uuid
from collections.abc import Callable, Iterator

import pytest
from support.images import added, output_of
from support.project import UserProject, assert_built_sealed
from support.server import Server
from support.wheels import MadeWheel, make_wheel

from builders.engine import Engine

pytestmark = pytest.mark.engine

RUN = uuid.uuid4().hex[:10]
OURS = "2.8.0a0+5228986c39.nv25.06"
TORCH = [make_wheel("torch", version, requires=("filelock",), seed=RUN) for version in ("2.7.1", "2.8.0")]
FILELOCK = [make_wheel("filelock", version, seed=RUN) for version in ("3.10", "3.20")]
VISION = make_wheel("vision", "0.23", requires=("torch<3", "flask"), seed=RUN)
FLASK = make_wheel("flask", "3.1", seed=RUN)
HELD = [make_wheel("torch", OURS, requires=("filelock",), seed=RUN), FILELOCK[0]]
NEWER = make_wheel("torch", "2.9.0+cu130", requires=("filelock",), seed=RUN)


@pytest.fixture(scope="module")
def index() -> Iterator[Server]:
    with Server() as server:
        server.put_index([*TORCH, *FILELOCK, VISION, FLASK])
        yield server


@pytest.fixture
def make_base(base: str, make_image: Callable[..., str]) -> Callable[..., str]:
    """Builds an image on the base image that holds wheels already."""

    def make(*wheels: MadeWheel, more: str = "", install: str = "pip install --no-cache-dir") -> str:
        files = {f"wheels/{wheel.filename}": wheel.data for wheel in wheels}
        names = " ".join(f"{wheel.name}=={wheel.version}" for wheel in wheels)
        put = (
            f"COPY wheels /tmp/wheels\nRUN {install} --no-index --find-links /tmp/wheels {names} && rm -r /tmp/wheels\n"
        )
        return make_image(f"FROM {base}\n{put}{more}", files)

    return make


def recorded(project: UserProject, service: str) -> dict[str, str]:
    """What a service's lockfile says of its base image."""
    table = tomllib.loads((project.root / f"pylock.{service}.toml").read_text())["tool"]["wheelcache"]
    return dict(table.get("base", {}))


def test_what_the_base_image_holds_serves_and_is_not_fetched(
    project: UserProject, engine: Engine, make_base: Callable[..., str]
) -> None:
    gpu = make_base(*HELD)
    project.add(
        "ml",
        {
            "Dockerfile": f"FROM {gpu}\nCOPY requirements.txt .\nRUN pip install -r requirements.txt\n",
            "requirements.txt": "torch>=2.6\nvision\n",
        },
    )
    assert_built_sealed(project, "ml")
    assert project.locked("ml") == added(engine, project.image("ml"), gpu) == {("vision", "0.23"), ("flask", "3.1")}
    assert recorded(project, "ml") == {"torch": OURS, "filelock": "3.10"}
    assert project.wheelcache("lock", "--check").code == 0
    ran = project.wheelcache("sync")
    assert set(ran.wheels) == {"vision", "flask"}


CASES: dict[str, tuple[str, set[str]]] = {
    # What the requirement excludes is replaced; the rest stays.
    "older": ("RUN pip install torch==2.7.1 flask\n", {"torch", "flask"}),
    "final": ("RUN pip install 'torch>=2.8' flask\n", {"torch", "flask"}),
    # Only what is named is upgraded.
    "upgrade": ("RUN pip install -U filelock vision\n", {"filelock", "vision", "flask"}),
    "force": ("RUN pip install --force-reinstall torch\n", {"torch", "filelock"}),
    "target": ("RUN pip install --target /srv/lib vision\n", {"vision", "torch", "filelock", "flask"}),
    "venv": (
        "RUN python3 -m venv /opt/v && /opt/v/bin/pip install vision\n",
        {"vision", "torch", "filelock", "flask"},
    ),
    "seeing-venv": (
        "RUN python3 -m venv --system-site-packages /opt/v && /opt/v/bin/pip install vision\n",
        {"vision", "flask"},
    ),
    "user": ("RUN pip install --user vision\n", {"vision", "flask"}),
    "prefix": ("RUN pip install --prefix /opt/p vision\n", {"vision", "flask"}),
    # What a command does not see, and another needs, is fetched for both.
    "torn": ("RUN pip install torch\nRUN pip install --target /srv/lib torch\n", {"torch", "filelock"}),
    "gone": ("RUN pip uninstall -y torch && pip install vision\n", {"torch", "vision", "flask"}),
}


def test_each_command_counts_as_installed_what_pip_would(
    project: UserProject, engine: Engine, make_base: Callable[..., str]
) -> None:
    gpu = make_base(*HELD)
    for name, (dockerfile, _) in CASES.items():
        project.add(name, {"Dockerfile": f"FROM {gpu}\n{dockerfile}"})
    assert_built_sealed(project, "older")
    for name, (_, locked) in CASES.items():
        assert {each for each, _ in project.locked(name)} == locked, name
        # What comes beside the old, in an environment, brings pip and setuptools as well.
        assert added(engine, project.image(name), gpu) >= project.locked(name), name


def test_an_environment_of_the_base_images_own_counts_too(
    project: UserProject, engine: Engine, make_base: Callable[..., str]
) -> None:
    install = "python3 -m venv /opt/venv && /opt/venv/bin/pip install"
    gpu = make_base(*HELD, install=install, more="ENV PATH=/opt/venv/bin:$PATH VIRTUAL_ENV=/opt/venv\n")
    project.add("ml", {"Dockerfile": f"FROM {gpu}\nRUN pip install vision\n"})
    project.add("named", {"Dockerfile": f"FROM {gpu}\nRUN /opt/venv/bin/pip install vision\n"})
    assert_built_sealed(project, "ml")
    for name in ("ml", "named"):
        assert added(engine, project.image(name), gpu) == project.locked(name) == {("vision", "0.23"), ("flask", "3.1")}
        assert output_of(project.image(name), "python", "-c", "import torch; print(torch.__version__)") == f"{OURS}\n"


def test_the_constraints_of_the_base_image_hold(
    project: UserProject, engine: Engine, make_base: Callable[..., str]
) -> None:
    """NVIDIA's images bound every pip in them by a file that a variable names."""
    more = (
        f"RUN mkdir -p /etc/pip && echo 'torch=={OURS}\\nflask<3' >/etc/pip/constraint.txt\n"
        "ENV PIP_CONSTRAINT=/etc/pip/constraint.txt\n"
    )
    gpu = make_base(*HELD, more=more)
    older = make_wheel("flask", "2.3", seed=RUN)
    with Server() as server:
        server.put_index([*TORCH, VISION, FLASK, older])
        dockerfile = f"FROM {gpu}\nRUN pip install --index-url {server.url}/simple/ vision\n"
        project.add("ml", {"Dockerfile": dockerfile}, build="sealed")
        assert_built_sealed(project, "ml")
    assert project.locked("ml") == {("vision", "0.23"), ("flask", "2.3")}
    assert added(engine, project.image("ml"), gpu) == project.locked("ml")


def test_another_base_image_makes_the_lockfile_stale_where_that_matters(
    project: UserProject, engine: Engine, make_base: Callable[..., str], spare_ref: Callable[[], str]
) -> None:
    moving = spare_ref()
    engine.tag(make_base(*HELD), moving)
    project.add("ml", {"Dockerfile": f"FROM {moving}\nRUN pip install vision\n"})
    assert project.wheelcache("lock").code == 0

    engine.tag(make_base(*HELD, make_wheel("unrelated", "1.0")), moving)
    assert project.wheelcache("lock", "--check").code == 0

    engine.tag(make_base(NEWER, FILELOCK[0]), moving)
    ran = project.wheelcache("lock", "--check")
    assert ran.code == 3
    assert f"torch 2.9.0+cu130, {OURS} when it was locked" in ran.stderr
    assert project.wheelcache("lock").code == 0
    assert recorded(project, "ml") == {"torch": "2.9.0+cu130", "filelock": "3.10"}


def test_a_step_that_replaces_what_the_base_image_brings_gets_no_tag(
    project: UserProject, make_base: Callable[..., str]
) -> None:
    gpu = make_base(*HELD)
    meddling = (
        "COPY wheels /w\nRUN python3 -m zipfile -e /w/*.whl /w/x && cd $(python3 -c 'import torch; "
        "print(torch.__path__[0])')/.. && rm -r torch-* && cp -r /w/x/* .\n"
    )
    dockerfile = f"FROM {gpu}\nRUN pip install vision\n{meddling}"
    project.add("ml", {"Dockerfile": dockerfile, f"wheels/{TORCH[0].filename}": TORCH[0].data})
    ran = project.wheelcache("build")
    assert ran.code == 8
    assert f"torch: expected {OURS}, found 2.7.1" in ran.services["ml"]["failure"]["message"]


def test_a_dependency_that_the_base_image_lacks_is_fetched(
    project: UserProject, engine: Engine, make_base: Callable[..., str]
) -> None:
    gpu = make_base(HELD[0], install="pip install --no-deps")
    project.add("ml", {"Dockerfile": f"FROM {gpu}\nRUN pip install torch\n"})
    assert_built_sealed(project, "ml")
    assert added(engine, project.image("ml"), gpu) == project.locked("ml") == {("filelock", "3.20")}
