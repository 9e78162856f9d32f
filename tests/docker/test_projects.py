"""Whole projects through the real command line, engine and base image: what is sealed, shared, checked and refused.

Every wheel comes from an index on loopback; containers and builds reach no network for them.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
import tomllib
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tomli_w
from support.debs import make_archive
from support.images import LOCK_LABEL, added, output_of
from support.project import UserProject, assert_built_sealed, ended
from support.server import Request, Server
from support.wheels import installed_wheel, make_wheel

from builders.engine import Engine
from wheelcache.programs import run_program

pytestmark = pytest.mark.engine

MakeImage = Callable[..., str]

RUN = uuid.uuid4().hex[:10]
BULK = make_wheel("bulk", "1.0", size=21_000_000, requires=("greet",), seed=RUN)
GREET = make_wheel("greet", "1.2", seed=RUN)
NEWER = make_wheel("greet", "2.0", seed=RUN)
POLITE = make_wheel("polite", "0.5", requires=("greet",), seed=RUN)
EXTRA = make_wheel("extra", "3.1", seed=RUN)

PIP = "RUN pip install --no-cache-dir -r requirements.txt\n"


@pytest.fixture(scope="module")
def index() -> Iterator[Server]:
    with Server() as server:
        server.put_index([BULK, GREET, NEWER, POLITE, EXTRA])
        yield server


def test_uv_into_an_environment_in_one_stage(project: UserProject, index: Server, engine: Engine, base: str) -> None:
    uv = installed_wheel("uv")
    if "manylinux" not in uv.filename:
        pytest.skip("NO uv FOR LINUX ON THIS MACHINE, NOT TESTED")
    index.put_index([uv])
    dockerfile = f"""\
FROM {base}
RUN pip install --no-cache-dir uv
RUN uv venv /opt/venv
ENV VIRTUAL_ENV=/opt/venv PATH=/opt/venv/bin:$PATH
WORKDIR /srv
COPY requirements.txt .
RUN uv pip install -r requirements.txt
COPY app.py .
CMD ["python", "app.py"]
"""
    app = "import sys, greet, polite; print(sys.prefix, greet.__version__, polite.__version__)\n"
    project.add("web", {"Dockerfile": dockerfile, "requirements.txt": "polite\ngreet<2\n", "app.py": app})
    assert_built_sealed(project, "web")
    assert len(project.install_steps("web")) == 2
    assert project.locked("web") == {("uv", uv.version), ("polite", "0.5"), ("greet", "1.2")}
    assert added(engine, project.image("web"), base) == project.locked("web")
    assert output_of(project.image("web")) == "/opt/venv 1.2 0.5\n"


def test_a_builder_pinned_by_digest_and_another_final_image(
    project: UserProject, pinned: str, make_image: MakeImage, engine: Engine, base: str
) -> None:
    final = make_image(f"FROM {base}\nRUN echo final >/etc/kind\n")
    dockerfile = f"""\
FROM {pinned} AS builder
WORKDIR /build
COPY requirements.txt .
RUN pip install --user --no-cache-dir -r requirements.txt

FROM {final}
COPY --from=builder /root/.local /root/.local
CMD ["python3", "-c", "import polite; print(open('/etc/kind').read(), polite.__version__)"]
"""
    project.add("job", {"Dockerfile": dockerfile, "requirements.txt": "polite==0.5\n"})
    assert engine.image_id(pinned) is None
    assert_built_sealed(project, "job")
    assert project.locked("job") == {("polite", "0.5"), ("greet", "2.0")}
    assert added(engine, project.image("job"), base) == project.locked("job")
    assert output_of(project.image("job")) == "final\n 0.5\n"


def test_each_command_takes_its_wheels_from_its_own_index(
    project: UserProject, index: Server, engine: Engine, base: str
) -> None:
    """torch from the index of its CUDA version, the rest from elsewhere, is what most GPU services do."""
    torch = make_wheel("torch", "2.8.0+cu128", requires=("greet<2",), seed=RUN)
    plain = make_wheel("torch", "2.9.0", seed=RUN)
    vision = make_wheel("vision", "1.0", requires=("torch",), seed=RUN)
    index.put_index([BULK, GREET, NEWER, POLITE, EXTRA, plain, vision])
    cuda = index.put_index([torch, GREET], root="/cu128")
    cases = {
        "steps": f"RUN pip install --index-url {cuda} torch\nRUN pip install vision polite\n",
        "step": f"RUN pip install --index-url {cuda} torch && pip install vision polite\n",
        "extra": f"RUN pip install --extra-index-url {cuda} torch==2.8.0+cu128 vision polite\n",
    }
    for name, dockerfile in cases.items():
        project.add(name, {"Dockerfile": f"FROM {base}\n{dockerfile}"}, build="sealed")
    assert_built_sealed(project, "steps")
    locked = {("torch", "2.8.0+cu128"), ("greet", "1.2"), ("vision", "1.0"), ("polite", "0.5")}
    for name in cases:
        assert added(engine, project.image(name), base) == project.locked(name) == locked, name


APT = """\
COPY archive /srv/archive
RUN rm -rf /etc/apt/sources.list.d/* && echo 'deb [trusted=yes] file:/srv/archive ./' >/etc/apt/sources.list
"""


def test_apt_get_and_then_another_user_who_installs_what_the_command_names(
    project: UserProject, engine: Engine, base: str
) -> None:
    archive = make_archive("wheelcache-hello", "1.0", {"usr/bin/hello-of-apt": b"#!/bin/sh\necho hello\n"})
    dockerfile = f"""\
FROM {base}
{APT}RUN apt-get update \\
    && apt-get install -y --no-install-recommends wheelcache-hello \\
    && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home app
USER app
WORKDIR /home/app
RUN pip install --no-cache-dir greet==1.2 polite
CMD hello-of-apt && python3 -c "import greet, os; print(greet.__version__, greet.__file__, os.getuid() != 0)"
"""
    files = {f"archive/{name}": data for name, data in archive.items()}
    project.add("web", {"Dockerfile": dockerfile, **files})
    assert_built_sealed(project, "web")
    assert project.locked("web") == {("greet", "1.2"), ("polite", "0.5")}
    assert added(engine, project.image("web"), base) == project.locked("web")
    hello, line = output_of(project.image("web")).splitlines()
    assert hello == "hello"
    assert re.fullmatch(r"1\.2 /home/app/\.local/lib/.*/greet/__init__\.py True", line)


def test_apt_get_and_pip_in_one_run(project: UserProject, engine: Engine, base: str) -> None:
    archive = make_archive("wheelcache-hello", "1.0", {"usr/bin/hello-of-apt": b"#!/bin/sh\necho hello\n"})
    dockerfile = f"""\
FROM {base}
{APT}RUN apt-get update && apt-get install -y wheelcache-hello && pip install --no-cache-dir greet==1.2
"""
    project.add("web", {"Dockerfile": dockerfile, **{f"archive/{name}": data for name, data in archive.items()}})
    ran = project.wheelcache("build")
    assert ran.code == 0, ran.stderr
    (step,) = project.install_steps("web")
    assert "--network=none" not in step, "apt-get needs its network; pip is held by no-index alone"
    assert "target=/etc/pip.conf" in step
    assert added(engine, project.image("web"), base) == project.locked("web") == {("greet", "1.2")}


def test_a_requirement_from_version_control_is_built_online_or_refused(project: UserProject, base: str) -> None:
    files = {
        "Dockerfile": f"FROM {base}\nCOPY requirements.txt .\n{PIP}",
        "requirements.txt": "greet\ntool @ git+https://git.example.org/tool.git@v1\n",
    }
    project.add("quiet", files)
    project.add("strict", files, build="sealed")
    project.add("plain", {"Dockerfile": f"FROM {base}\nRUN pip install --no-cache-dir extra\n"})
    shown = project.wheelcache("build", "--dry-run")
    assert shown.code == 0, shown.stderr
    quiet, strict, plain = (shown.services[name] for name in ("quiet", "strict", "plain"))
    assert (quiet["mode"], plain["mode"]) == ("online", "sealed")
    assert "git+https://git.example.org/tool.git" in quiet["why_online"]
    assert "--network=none" not in quiet["difference"]
    assert "cannot be built sealed" in strict["refused"]

    ran = project.wheelcache("build", "strict", "plain")
    assert ran.code == 8
    assert ran.states == {"strict": "failed", "plain": "built"}
    failure = ran.services["strict"]["failure"]
    assert failure["class"] == "refused"
    assert "requirements.txt" in failure["message"]
    assert "git+https://git.example.org/tool.git" in failure["message"]
    assert 'build = "online"' in failure["hint"]


def test_context_folders_of_one_name_keep_their_own_files(project: UserProject, base: str) -> None:
    """The files are of equal size and time; so are those of the contexts beside."""
    dockerfile = (
        f"FROM {base}\nRUN pip install --no-cache-dir extra\nCOPY app.py /srv/\nCOPY --from=more app.py /srv/more.py\n"
    )
    for name in ("a", "b"):
        files = {"app/Dockerfile": dockerfile, "app/app.py": f"print('{name}')\n", "more/app.py": f"print('m{name}')\n"}
        project.add(name, files)
        for file in ("app/app.py", "more/app.py"):
            os.utime(project.root / name / file, (1_700_000_000, 1_700_000_000))
    settings = tomllib.loads((project.root / "wheelcache.toml").read_text())
    project.write({"wheelcache.toml": tomli_w.dumps({"indexes": settings["indexes"], "compose": ["compose.yml"]})})

    def built(beside: dict[str, str]) -> list[str]:
        services = {
            name: {
                "image": project.image(name),
                "build": {"context": f"{name}/app", "additional_contexts": {"more": f"{other}/more"}},
            }
            for name, other in beside.items()
        }
        project.write({"compose.yml": json.dumps({"services": services})})
        ran = project.wheelcache("build")
        assert ran.code == 0, ran.stderr
        look = "cd /srv && python3 app.py && python3 more.py"
        return [output_of(project.image(name), "sh", "-c", look) for name in beside]

    assert built({"a": "a", "b": "b"}) == ["a\nma\n", "b\nmb\n"]
    assert built({"a": "b"}) == ["a\nmb\n"]


def test_an_image_in_which_a_later_step_changed_a_version_gets_no_tag(
    project: UserProject, engine: Engine, base: str
) -> None:
    dockerfile = f"FROM {base}\nCOPY . /srv/\nRUN pip install --no-cache-dir greet==1.2 extra\n"
    project.add("web", {"Dockerfile": dockerfile})
    assert project.wheelcache("build").states == {"web": "built"}
    before = engine.image_id(project.image("web"))

    steps = {
        r"greet: expected 1\.2, found 9\.9": (
            "COPY greet-9.9.dist-info /tmp/info\n"
            "RUN python3 -c \"import glob, shutil, importlib.metadata as m; d = m.distribution('greet')._path;"
            " shutil.rmtree(d); shutil.move('/tmp/info', str(d).replace('1.2', '9.9'))\"\n"
        ),
        "missing: extra": 'RUN python3 -c "import shutil, importlib.metadata as m;'
        " shutil.rmtree(m.distribution('extra')._path)\"\n",
    }
    project.write({"web/greet-9.9.dist-info/METADATA": "Metadata-Version: 2.1\nName: greet\nVersion: 9.9\n"})
    for message, step in steps.items():
        project.write({"web/Dockerfile": dockerfile + step})
        ran = project.wheelcache("build")
        assert ran.code == 8
        failure = ran.services["web"]["failure"]
        assert failure["class"] == "check"
        assert re.search(message, failure["message"])
        assert "wheelcache lock" in failure["hint"]
        assert Path(failure["log"]).is_file()
        assert engine.image_id(project.image("web")) == before
        label = f"--filter=label={LOCK_LABEL}={engine.image_config(project.image('web')).labels[LOCK_LABEL]}"  # type: ignore[union-attr]
        assert run_program(["docker", "images", "--quiet", "--filter=dangling=true", label]).stdout == b""


def test_a_failed_step_shows_its_last_words(project: UserProject, engine: Engine, base: str) -> None:
    step = "RUN echo https://someone:secret@example.org; echo the reason >&2; exit 3\n"
    project.add("web", {"Dockerfile": f"FROM {base}\nRUN pip install --no-cache-dir extra\n{step}"})
    ran = project.wheelcache("build")
    assert ran.code == 8
    failure = ran.services["web"]["failure"]
    assert sorted(failure["message"].splitlines()[1:]) == ["    https://example.org", "    the reason"]  # two streams
    assert "    the reason\n" in ran.stderr
    assert engine.image_id(project.image("web")) is None


def test_what_the_dockerfile_itself_uninstalls_is_not_missed(project: UserProject, engine: Engine, base: str) -> None:
    project.add(
        "web",
        {"Dockerfile": f"FROM {base}\nRUN pip install --no-cache-dir polite greet==1.2\nRUN pip uninstall -y polite\n"},
    )
    ran = project.wheelcache("build")
    assert ran.code == 0, ran.stderr
    assert added(engine, project.image("web"), base) == {("greet", "1.2")}


def test_an_interrupted_build_ends_its_step_in_the_engine(project: UserProject, base: str) -> None:
    seconds = f"86399.{uuid.uuid4().int % 10**9:09}"
    project.add(
        "web", {"Dockerfile": f"FROM {base}\nRUN pip install --no-cache-dir extra\nRUN echo now; sleep {seconds}\n"}
    )
    process = project.start("build")
    deadline = time.monotonic() + 60
    while not is_running(base, seconds):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, project.logs("web")
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    ran = ended(process, timeout=30)
    assert ran.code == 130
    assert time.monotonic() - began < 15
    assert ran.document["ok"] is False
    assert ran.document["error"]["exit_code"] == 130
    while is_running(base, seconds):
        assert time.monotonic() - began < 20, "the step goes on"


def is_running(base: str, argument: str) -> bool:
    """True while a process of the engine's machine has *argument*."""
    look = f"""
import pathlib

def words(path):
    try:
        return path.read_bytes().split(bytes(1))
    except OSError:
        return []

commands = map(words, pathlib.Path("/proc").glob("[0-9]*/cmdline"))
print(any(found[:2] == [b"sleep", b"{argument}"] for found in commands))
"""
    argv = ["docker", "run", "--rm", "--network=none", "--pid=host", "--entrypoint=python3", base, "-c", look]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout == "True\n"


def test_a_change_costs_what_has_changed(project: UserProject, index: Server, base: str) -> None:
    dockerfile = f"FROM {base}\nCOPY requirements.txt .\n{PIP}COPY app.py /srv/\n"
    for name in ("one", "two"):
        files = {"Dockerfile": dockerfile, "requirements.txt": "bulk\n", "app.py": "print(1)\n"}
        project.add(name, files)
    first = project.wheelcache("build")
    assert first.states == {"one": "built", "two": "built"}
    assert sum(row["bytes_sent"] for row in first.services.values()) > BULK.size
    assert first.services["two"]["bytes_sent"] < 100_000
    already = [ask.path for ask in index.asked() if not is_of_resolver(ask)]

    project.write({"one/app.py": "print(2)\n"})
    logs = project.logs("one")
    second = project.wheelcache("build")
    assert second.states == {"one": "built", "two": "unchanged"}
    assert "pip install" in (new := project.logs("one").removeprefix(logs))
    assert pip_was_cached(new)
    assert output_of(project.image("one"), "python3", "/srv/app.py") == "2\n"
    assert [ask.path for ask in index.asked() if not is_of_resolver(ask)] == already

    project.write({"one/requirements.txt": "bulk\nextra\n"})
    third = project.wheelcache("build")
    assert third.code == 0, third.stderr
    assert {name: row["state"] for name, row in third.wheels.items()} == {
        "bulk": "cached",
        "greet": "cached",
        "extra": "downloaded",
    }
    assert third.states == {"one": "built", "two": "unchanged"}
    assert third.services["one"]["bytes_sent"] < 100_000
    assert third.services["one"]["shared_base"] == first.services["one"]["shared_base"]
    fetched = [ask.path for ask in index.asked() if not is_of_resolver(ask)][len(already) :]
    assert [path for path in fetched if path.endswith(".whl")] == [f"/simple-files/{EXTRA.filename}"]
    assert project.locked("one") == {("bulk", "1.0"), ("greet", "2.0"), ("extra", "3.1")}


def pip_was_cached(log: str) -> bool:
    (number,) = set(re.findall(r"^(#\d+) .*\bRUN .*pip install", log, re.MULTILINE))
    return f"\n{number} CACHED\n" in log


def is_of_resolver(request: Request) -> bool:
    """True for uv, which reads the metadata in wheels where an index offers no other."""
    return request.headers.get("user-agent", "").startswith("uv/")
