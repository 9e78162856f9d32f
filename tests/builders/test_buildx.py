"""How buildx is called: by its own path where docker itself would take it from there, and on a leash."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from builders.buildx import THROUGH_DOCKER, buildx_environ, find_buildx
from wheelcache.programs import run_program

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere docker is asked")

LEASH = ("setpriv", "--pdeathsig", "TERM", "--")
TRUE = shutil.which("true") or ""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with a docker client and its plugin; programs are of the machine's own kind, what they do is no matter."""
    for name in ("bin/docker", ".docker/cli-plugins/docker-buildx"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(TRUE, file)
    return tmp_path


def found(home: Path, **more: str) -> tuple[str, ...]:
    environ = {"HOME": str(home), "PATH": f"{home}/bin{os.pathsep}{os.environ['PATH']}", **more}
    return find_buildx(run=run_program, environ=environ)


def test_the_users_own_plugin_is_called_by_its_path(home: Path) -> None:
    assert found(home) == (*LEASH, f"{home}/.docker/cli-plugins/docker-buildx")
    (home / ".docker" / "config.json").write_text('{"credsStore": "pass"}')
    assert found(home) == (*LEASH, f"{home}/.docker/cli-plugins/docker-buildx")


def test_dockers_configuration_is_where_the_environment_says(home: Path) -> None:
    (home / ".docker").rename(home / "elsewhere")
    assert found(home, DOCKER_CONFIG=f"{home}/elsewhere") == (*LEASH, f"{home}/elsewhere/cli-plugins/docker-buildx")


@pytest.mark.parametrize(
    ("file", "text"),
    [
        (".docker/config.json", '{"cliPluginsExtraDirs": ["/opt/plugins"]}'),
        (".docker/config.json", "["),
        (".docker/config.json", "[]"),
        (".docker/cli-plugins/docker-buildx", "#!/bin/sh\n"),
        ("bin/docker", '#!/bin/sh\nexec sudo docker "$@"\n'),
    ],
    ids=["other folders", "no JSON", "no object", "a script for a plugin", "a script for docker"],
)  # fmt: skip
def test_docker_is_asked_where_something_is_not_as_usual(home: Path, file: str, text: str) -> None:
    (home / file).write_text(text)
    assert found(home) == (*LEASH, *THROUGH_DOCKER)


def test_without_a_leash_it_is_called_all_the_same(home: Path) -> None:
    assert found(home, PATH=f"{home}/bin") == (f"{home}/.docker/cli-plugins/docker-buildx",)


def test_the_leash_ends_what_is_on_it_when_its_owner_is_killed() -> None:
    leash = " ".join(LEASH)
    script = f"{leash} sh -c 'echo $$; exec sleep 60' & wait"
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        owner.kill()
    deadline = time.monotonic() + 30
    while _runs(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _runs(pid)


def _runs(pid: int) -> bool:
    """False for what has ended, whether or not somebody has waited for it."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_buildx_looks_at_no_repository_unless_the_user_wants_it_to() -> None:
    """`git status` of a large one takes seconds, for an attestation that no image gets."""
    assert buildx_environ({"HOME": "/h"}) == {
        "HOME": "/h",
        "BUILDX_GIT_INFO": "false",
        "BUILDX_METADATA_PROVENANCE": "disabled",
        "BUILDX_NO_DEFAULT_LOAD": "false",
    }
    assert buildx_environ({"BUILDX_GIT_INFO": "true"})["BUILDX_GIT_INFO"] == "true"
