"""`uv sync`: which lock it installs, what of it, and that lock with its wheels mounted."""

from __future__ import annotations

import tomllib

import pytest
from support.wheels import make_wheel

from builders.contextfiles import ContextPath
from builders.dockerfile import parse_dockerfile
from builders.installs import Findings, find_installs
from builders.rewrite import rewrite_dockerfile
from builders.uvproject import local_packages, mounted_lock, reasons_against
from wheelcache.errors import LockError

FILES = {"uv.lock", "pyproject.toml", "svc/pyproject.toml", "requirements.txt"}


def find(text: str) -> Findings:
    return find_installs(parse_dockerfile(text, file="Dockerfile"), has=lambda path: path.path in FILES)


def project_of(text: str):
    (install,) = find(text).installs
    return install


@pytest.mark.parametrize(
    ("lines", "environment"),
    [
        ("WORKDIR /app\nCOPY . .\nRUN uv sync", "/app/.venv"),
        ("COPY . /app\nRUN cd /app && uv sync --frozen", "/app/.venv"),
        ("COPY . /app\nRUN uv sync --project /app", "/app/.venv"),
        ("COPY . /app\nRUN uv --directory /app sync", "/app/.venv"),
        ("WORKDIR /app/svc\nCOPY . /app\nRUN uv sync", "/app/.venv"),
        ("WORKDIR /app\nCOPY . .\nENV UV_PROJECT_ENVIRONMENT=/opt/venv\nRUN uv sync", "/opt/venv"),
        ("WORKDIR /app\nCOPY . .\nENV VIRTUAL_ENV=/opt/venv\nRUN uv sync --active", "/opt/venv"),
        ("WORKDIR /app\nCOPY . .\nENV VIRTUAL_ENV=/opt/venv\nRUN uv sync", "/app/.venv"),
        ("WORKDIR /app\nRUN --mount=type=bind,source=uv.lock,target=uv.lock uv sync", "/app/.venv"),
    ],
)
def test_the_lock_and_the_environment_are_found(lines, environment):
    install = project_of(f"FROM a\n{lines}\n")
    assert install.uv_project.folder == ContextPath(path=".")
    assert install.uv_project.lock_path == "/app/uv.lock"
    assert (install.destination, install.environment, install.unlockable) == ("venv", environment, ())


@pytest.mark.parametrize(
    ("command", "choice", "left_out"),
    [
        ("uv sync --locked --no-dev --extra a --extra=b", ("--no-dev", "--extra", "a", "--extra", "b"), set()),
        ("UV_NO_DEV=1 uv sync --no-install-project", ("--no-dev",), {"no-install-project"}),
        ("uv sync --package api --no-group x", ("--no-group", "x", "--package", "api"), set()),
        ("uv sync --all-groups --no-install-package torch", ("--all-groups", "--no-emit-package", "torch"), set()),
    ],
)
def test_what_is_wanted_of_the_lock_is_read(command, choice, left_out):
    project = project_of(f"FROM a\nCOPY . /app\nWORKDIR /app\nRUN {command}\n").uv_project
    assert (project.choice, project.left_out) == (choice, left_out)


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ("RUN uv sync", "no uv.lock of the build context stands in /"),
        ("COPY . /\nRUN uv sync --script x.py", "its options"),
        ("COPY . /\nRUN uv sync --extra $(cat extra)", "only known when it runs"),
    ],
)
def test_what_cannot_be_read_is_told(lines, reason):
    assert reason in "; ".join(project_of(f"FROM a\nWORKDIR /\n{lines}\n").unlockable)


@pytest.mark.parametrize(
    "lines",
    [
        "RUN uv export --frozen -o r.txt && pip install -r r.txt",
        "RUN uv export --locked >r.txt\nRUN uv pip sync r.txt",
        "RUN uv export --output-file=r.txt\nFROM b\nCOPY --from=one /app/r.txt /tmp/\nRUN pip install -r /tmp/r.txt",
        "RUN uv export -o r.txt\nFROM b\nRUN --mount=from=one,source=/app/r.txt,target=/r.txt pip install -r /r.txt",
        "RUN uv export --format pylock.toml -o pylock.toml\nRUN uv pip install -r pylock.toml",
    ],
)
def test_what_uv_export_writes_down_is_locked_with_its_lock(lines):
    export, install = find(f"FROM a AS one\nWORKDIR /app\nCOPY . .\n{lines}\n").installs
    assert (export.subcommand, export.uv_project.lock_path) == ("export", "/app/uv.lock")
    assert (install.requirement_files, install.unlockable, install.uv_project) == ((), (), None)


def test_a_sync_that_changes_nothing_installs_nothing():
    assert find("FROM a\nCOPY . /\nRUN uv sync --dry-run\n").installs == ()


def test_our_lock_comes_after_the_users_own_mounts():
    mount = "--mount=type=bind,source=uv.lock,target=uv.lock"
    text = f"FROM a\nWORKDIR /app\nRUN {mount} \\\n  # why\n  uv sync \\\n --frozen\n"
    dockerfile = parse_dockerfile(text, file="Dockerfile")
    copy = rewrite_dockerfile(dockerfile, find(text).installs, wheels_context="w", source_of=lambda _: "/wheels")
    (inserted,) = copy.insertions
    assert text[: inserted.offset].endswith("target=uv.lock")
    assert inserted.words.endswith("/uv.lock,target=/app/uv.lock")
    assert copy.text == text[: inserted.offset] + inserted.words + text[inserted.offset :]
    online = rewrite_dockerfile(
        dockerfile, find(text).installs, wheels_context="w", source_of=lambda _: "/wheels", sealed=False
    )
    assert "target=/app/uv.lock" not in online.text, "online it fetches by its own lock"


LOCK = """\
version = 1
[[package]]
name = "app"
version = "1.0"
source = { editable = "." }
dependencies = [
  { name = "torch", version = "2.8.0", source = { registry = "https://one.test/simple" } },
  { name = "torch", version = "2.8.0", source = { registry = "https://two.test/simple" } },
  { name = "extra" },
]
[[package]]
name = "torch"
version = "2.8.0"
source = { registry = "https://one.test/simple" }
wheels = [{ url = "https://one.test/torch-2.8.0-cp311-none-macosx_11_0_arm64.whl", hash = "sha256:00" }]
[[package]]
name = "torch"
version = "2.8.0"
source = { registry = "https://two.test/simple" }
sdist = { url = "https://two.test/torch-2.8.0.tar.gz", hash = "sha256:01" }
wheels = [
  { url = "https://two.test/torch-2.8.0-cp312-none-linux_x86_64.whl", hash = "sha256:02" },
  { url = "https://two.test/torch-2.8.0-py3-none-any.whl", hash = "%s" },
]
[[package]]
name = "extra"
version = "1.0"
source = { registry = "https://one.test/simple" }
wheels = [{ url = "https://one.test/extra-1.0-py3-none-any.whl", hash = "sha256:03" }]
"""


def test_the_mounted_lock_offers_exactly_the_wheels_that_are_there():
    torch = make_wheel("torch", "2.8.0").locked()
    document = tomllib.loads(mounted_lock(LOCK % torch.digest, [torch], folder="/wheelcache"))
    found = {(each["name"], each["source"].get("registry", "")): each.get("wheels") for each in document["package"]}
    assert found["torch", "/wheelcache"] == [{"path": torch.filename, "hash": torch.digest}]
    # What another index has under that name and version stays another package.
    assert [wheel["hash"] for wheel in found["torch", "/wheelcache/elsewhere"]] == ["sha256:00"]
    assert [wheel["path"] for wheel in found["extra", "/wheelcache"]] == ["extra-1.0-py3-none-any.whl"]
    app = next(each for each in document["package"] if each["name"] == "app")
    sources = [each["source"]["registry"] for each in app["dependencies"] if "source" in each]
    assert sources == ["/wheelcache/elsewhere", "/wheelcache"]


def test_packages_without_wheels_on_an_index_are_told():
    lock = LOCK + (
        '[[package]]\nname = "vcs"\nsource = { git = "https://git.test/x" }\n'
        '[[package]]\nname = "source"\nsource = { registry = "https://one.test/simple" }\n'
        '[[package]]\nname = "file"\nsource = { url = "https://x.test/file-1-py3-none-any.whl" }\n'
    )
    assert list(reasons_against(lock)) == [
        "vcs comes from version control",
        "source has no wheels",
        "file is an archive of its own, outside every index",
    ]
    with pytest.raises(LockError, match=r"uv\.lock: expected TOML"):
        list(reasons_against("<<<<<<< HEAD"))


@pytest.mark.parametrize(
    ("flag", "built"),
    [
        ("", [".", "lib"]),
        (" --no-install-project", ["lib"]),
        (" --no-install-workspace", []),
        (" --no-install-local", []),
    ],
)
def test_a_projects_own_packages_are_built(flag, built):
    lock = LOCK + '[[package]]\nname = "lib"\nsource = { directory = "lib" }\n'
    project = project_of(f"FROM a\nCOPY . /app\nWORKDIR /app\nRUN uv sync{flag}\n").uv_project
    assert list(local_packages(lock, project)) == built
