"""What makes builds fail, done for real: each service fails in its own way, and is told its class and a hint."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import tomli_w
from support.project import Ran, UserProject
from support.server import Respond, Serve, Server
from support.tls import make_certificate
from support.wheels import make_wheel

from builders.engine import Engine

pytestmark = pytest.mark.engine

RUN = uuid.uuid4().hex[:10]
LOCKED = make_wheel("locked", "1.0", seed=RUN)
NEEDED = [make_wheel(name, "99.0", seed=RUN) for name in ("setuptools", "wheel")]
ASK = "RUN python3 -c 'import urllib.request; urllib.request.urlopen(\"{url}\").read()'"
EXTENSION = """\
from setuptools import Extension, setup

setup(name="odd", version="1.0", ext_modules=[Extension("odd", ["odd.c"])])
"""
TOOL = """\
import subprocess
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext


class Build(build_ext):
    def run(self):
        subprocess.check_call(["{tool}", "--version"])


setup(name="odd", version="1.0", ext_modules=[Extension("odd", [])], cmdclass={{"build_ext": Build}})
"""
BUILD = "COPY . /src\nRUN pip install --no-deps --no-build-isolation --no-index /src"


@dataclass(frozen=True, kw_only=True)
class Case:
    """A way to fail.

    Attributes:
        steps: of the Dockerfile, below its FROM; `{plain}` and `{tls}` are URLs, `{host}` is a registry.
        fault: the class that is told.
        says: part of the message.
        hint: part of the hint.
        attempts: how often it is built.
        files: of its context.
    """

    steps: str
    fault: str
    says: str
    hint: str
    attempts: int = 1
    files: Mapping[str, str] = field(default_factory=dict)


CASES = {
    "refused": Case(
        steps=ASK.format(url="http://127.0.0.1:1/"),
        fault="network",
        says="Connection refused",
        hint="run the same command again",
        attempts=2,
    ),
    "cut": Case(
        steps=ASK.format(url="{plain}/cut"),
        fault="network",
        says="IncompleteRead",
        hint="run the same command again",
        attempts=2,
    ),
    "disk": Case(
        steps="RUN --mount=type=tmpfs,target=/full,size=1m dd if=/dev/zero of=/full/file bs=1M count=2",
        fault="disk",
        says="No space left on device",
        hint="docker builder prune",
    ),
    "killed": Case(
        steps="RUN python3 -c 'import os, signal; os.kill(os.getpid(), signal.SIGKILL)'",
        fault="memory",
        says="Killed",
        hint="MAX_JOBS=1",
    ),
    "greedy": Case(
        steps="RUN ulimit -v 1000000; python3 -c 'bytes(2_000_000_000)'",
        fault="memory",
        says="MemoryError",
        hint="MAX_JOBS=1",
    ),
    "digest": Case(
        steps=f"RUN echo 'locked==1.0 --hash=sha256:{'0' * 64}' > /r.txt && "
        "echo pip install --index-url {plain}/simple/ --no-deps -r /r.txt | sh",
        fault="digest",
        says="DO NOT MATCH THE HASHES",
        hint="compare the hashes",
    ),
    "resolve": Case(
        steps="RUN echo nowhere > /r.txt && pip install -r /r.txt",
        fault="resolve",
        says="nowhere",
        hint="lock again",
    ),
    "conflict": Case(
        steps="RUN echo 'locked==2.0' > /r.txt && pip install -r /r.txt",
        fault="resolve",
        says="locked==2.0",
        hint="lock again",
    ),
    "gcc": Case(
        steps=BUILD,
        files={"setup.py": EXTENSION, "odd.c": ""},
        fault="compile",
        says="gcc is missing",
        hint="install build-essential",
    ),
    **{
        tool: Case(
            steps=BUILD,
            files={"setup.py": TOOL.format(tool=tool)},
            fault="compile",
            says=f"{tool} is missing",
            hint=f"install {tool} in",
        )
        for tool in ("cmake", "nasm", "cargo")
    },
    "copied": Case(
        steps="COPY --from={host}/no/other:1 / /x", fault="missing-image", says="/no/other:1", hint="correct its name"
    ),
    "password": Case(
        steps="RUN echo pip download --no-input {plain}/private/secret-1.0-py3-none-any.whl | sh",
        fault="auth",
        says="401",
        hint="credentials",
    ),
    "certificate": Case(
        steps="RUN echo pip install --retries 0 --index-url {tls}/simple/ locked | sh",
        fault="tls",
        says="CERTIFICATE_VERIFY_FAILED",
        hint="CA bundle",
    ),
}


def compose(project: UserProject, services: Iterable[str], *, index: Server, retries: int = 1) -> None:
    """Writes a project of services with the host's own network."""
    builds = {name: {"image": project.image(name), "build": {"context": name, "network": "host"}} for name in services}
    settings = {
        "compose": ["compose.json"],
        "indexes": [{"name": "local", "url": f"{index.url}/simple/"}],
        "build": {"retries": retries},
    }
    project.write({"compose.json": json.dumps({"services": builds}), "wheelcache.toml": tomli_w.dumps(settings)})


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    folder = tmp_path_factory.mktemp("tls")
    with Server() as plain, Server(certificate=make_certificate(folder)) as tls:
        plain.put_index([LOCKED, *NEEDED])
        plain.put("/cut", bytes(100_000))
        plain.script("/cut", then=Serve(cut_after=50_000))
        plain.put("/v2/", b"{}")
        yield plain, tls


@pytest.fixture(scope="module")
def ran(
    engine: Engine, base: str, servers: tuple[Server, Server], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ran]:
    """A build of all cases, each a service with the host's own network."""
    plain, tls = servers
    folder = tmp_path_factory.mktemp("faults")
    project = UserProject(folder / "project", cache=folder / "cache", index="", key=RUN)

    def filled(text: str) -> str:
        return text.replace("{plain}", plain.url).replace("{tls}", tls.url).replace("{host}", plain.host)

    closed = Respond(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})
    plain.script("/private/secret-1.0-py3-none-any.whl", then=closed)
    compose(project, CASES, index=plain)
    for name, case in CASES.items():
        project.write({f"{name}/{path}": content for path, content in case.files.items()})
        project.write({f"{name}/Dockerfile": f"FROM {base}\n{filled(case.steps)}\n"})
    yield project.wheelcache("build")
    for ref in (*map(project.image, CASES), *project.images()):
        engine.remove_image(ref)


@pytest.fixture
def project(engine: Engine, base: str, servers: tuple[Server, Server], tmp_path: Path) -> Iterator[UserProject]:
    """A project of the services `one` and `two`."""
    made = UserProject(tmp_path / "project", cache=tmp_path / "cache", index="", key=uuid.uuid4().hex[:12])
    compose(made, ["one", "two"], index=servers[0])
    for name in ("one", "two"):
        made.write({f"{name}/Dockerfile": f"FROM {base}\nRUN echo {name}\n"})
    yield made
    for ref in (made.image("one"), made.image("two"), *made.images()):
        engine.remove_image(ref)


@pytest.mark.parametrize("name", CASES)
def test_a_fault_is_told_with_its_class_and_a_hint_and_not_provoked_again_in_vain(ran: Ran, name: str) -> None:
    case, row = CASES[name], ran.services[name]
    failure = row["failure"]
    assert (row["state"], failure["class"]) == ("failed", case.fault), failure
    assert case.says in failure["message"].splitlines()[0], failure
    assert case.hint in failure["hint"], failure
    assert row["attempts"] == case.attempts


def test_what_is_finished_before_the_network_fails_is_kept(
    project: UserProject, base: str, servers: tuple[Server, Server]
) -> None:
    server, _ = servers
    url = server.put(f"/{project.key}", bytes(100_000))
    server.script(f"/{project.key}", Serve(cut_after=50_000), Serve(cut_after=70_000, reset=True))
    compose(project, ["one"], index=server, retries=3)
    project.write({"one/Dockerfile": f"FROM {base}\nRUN echo first {project.key}\n{ASK.format(url=url)}\n"})
    ran = project.wheelcache("build")
    assert ran.code == 0, ran.stderr
    assert ran.services["one"]["attempts"] == 3
    assert len(re.findall(rf"^#\d+ first {project.key}$", project.logs("one"), re.MULTILINE)) == 1
    assert len(server.asked(f"/{project.key}")) == 3


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (Respond(status=404, body=b'{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "unknown"}]}'), "unknown"),
        (Respond(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'}), "unauthorized"),
    ],
    ids=["missing", "private"],
)
def test_a_base_image_that_is_not_to_be_had_is_asked_for_once_and_named(
    project: UserProject, servers: tuple[Server, Server], answer: Respond, says: str
) -> None:
    server, _ = servers
    server.script(f"/v2/{project.key}/manifests/1", then=answer)
    image = f"{server.host}/{project.key}:1"
    compose(project, ["one"], index=server)
    project.write({"one/Dockerfile": f"FROM {image}\nRUN pip install locked\n"})
    ran = project.wheelcache("build")
    assert (ran.code, ran.document["error"]["kind"]) == (8, "missing-image")
    assert says in ran.document["error"]["message"]
    assert ran.document["error"]["hint"].startswith(f"{image} is not in the engine and cannot be pulled")
    assert "docker login" in ran.document["error"]["hint"]
    assert ran.stderr.count(f"{image}: pulling\n") == 1
