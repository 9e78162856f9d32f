from __future__ import annotations

from pathlib import Path

import pytest

from builders.contextfiles import ContextPath
from builders.dockerfile import parse_dockerfile
from builders.installs import Findings, Install, find_installs
from builders.located import LocalProject

SAMPLES = Path(__file__).parent / "dockerfiles"


def find(text: str, **options) -> Findings:
    return find_installs(parse_dockerfile(text), **options)


def sample(name: str) -> Findings:
    return find((SAMPLES / f"{name}.Dockerfile").read_bytes().decode())


def only(body: str, **options) -> Install:
    (install,) = find(f"FROM python:3.11-slim\n{body}\n", **options).installs
    return install


def paths(*names: str) -> tuple[ContextPath, ...]:
    return tuple(ContextPath(path=name) for name in names)


def test_user_install_of_a_copied_requirements_file_in_a_builder_stage():
    (install,) = sample("two_stage_user").installs
    assert install == Install(
        instruction=3,
        line=4,
        stage=0,
        tool="pip",
        subcommand="install",
        interpreter="pip",
        requirement_files=paths("requirements.txt"),
        destination="user",
    )


@pytest.mark.parametrize(
    ("command", "interpreter"),
    [
        ("pip install x", "pip"),
        ("pip3.11 install x", "pip3.11"),
        ("pip --no-cache-dir install x", "pip"),
        ("python -m pip install x", "python -m pip"),
        ("python3 -Im pip install x", "python3 -m pip"),
        ("/usr/local/bin/pip install x", "/usr/local/bin/pip"),
        ("uv pip install --system x", "uv pip"),
        ("uv --no-cache pip install --system x", "uv pip"),
        ("python -m uv pip install --system x", "python -m uv pip"),
    ],
)
def test_every_way_to_call_pip_is_recognised(command, interpreter):
    install = only(f"RUN {command}")
    assert (install.interpreter, install.requirements, install.unlockable) == (interpreter, ("x",), ())
    assert install.destination == "system"


@pytest.mark.parametrize(
    "command", ["pip check", "pip config set a.b c", "pip install --dry-run x", "uv --version", "echo pip install x"]
)
def test_what_installs_nothing_is_no_install(command):
    assert find(f"FROM a\nRUN {command}\n").installs == ()


def test_indexes_and_switches_are_read_from_options_and_variables():
    install = only(
        "ENV PIP_EXTRA_INDEX_URL='https://b/simple https://c/simple' PIP_PRE=1\n"
        "RUN pip install -U --no-deps --require-hashes --force-reinstall -i https://a/simple -f https://d torch==2.8.0"
    )
    assert install.index_url == "https://a/simple"
    assert install.extra_index_urls == ("https://b/simple", "https://c/simple")
    assert install.find_links == ("https://d",)
    assert (install.pre, install.no_deps, install.require_hashes, install.upgrade, install.force) == (True,) * 5
    assert install.unsealable == ()


def test_uvs_own_words_for_indexes_are_read():
    install = only(
        "ENV UV_INDEX=https://b/simple UV_SYSTEM_PYTHON=1\n"
        "RUN uv pip install --default-index https://a/simple --index https://c/simple --torch-backend=cu128 torch"
    )
    assert (install.index_url, install.torch_backend) == ("https://a/simple", "cu128")
    assert install.extra_index_urls == ("https://c/simple", "https://b/simple")


def test_pip_config_set_counts_for_later_commands():
    install = only("RUN pip config set global.index-url https://a/simple\nRUN pip install x")
    assert install.index_url == "https://a/simple"
    assert only("RUN pip config set global.find-links /x\nRUN pip install x").unsealable == (
        "PIP_FIND_LINKS=/x replaces the mounted wheels",
    )


@pytest.mark.parametrize(
    ("body", "destination", "environment"),
    [
        ("RUN pip install x", "system", ""),
        ("RUN pip install --user x", "user", ""),
        ("USER app\nRUN pip install x", "user", ""),
        ("USER 0:0\nRUN pip install x", "system", ""),
        ("ENV PIP_USER=1\nRUN pip install x", "user", ""),
        ("RUN pip install --prefix=/install x", "prefix", ""),
        ("RUN pip install -t /layer x", "target", ""),
        ("RUN pip wheel x", "wheel", ""),
        ("RUN pip download x", "wheel", ""),
        ("RUN python -m venv /v && /v/bin/pip install x", "venv", "/v"),
        ("RUN python -m venv /v\nRUN . /v/bin/activate && pip install x", "venv", "/v"),
        ("RUN python -m venv /v\nENV PATH=/v/bin:$PATH\nRUN pip install x", "venv", "/v"),
        ("RUN python -m venv /v\nRUN pip install x", "system", ""),
        (
            "RUN virtualenv -p python3 --system-site-packages v\nRUN v/bin/python -m pip install x",
            "venv-system-site-packages",
            "/v",
        ),
        ("WORKDIR /w\nRUN uv venv\nRUN uv pip install x", "venv", "/w/.venv"),
        ("RUN uv venv /v\nENV VIRTUAL_ENV=/v\nRUN uv pip install x", "venv", "/v"),
        ("RUN uv venv /v\nRUN uv pip install -p /v/bin/python x", "venv", "/v"),
        ("ENV UV_SYSTEM_PYTHON=1\nRUN uv pip install x", "system", ""),
        ("ENV VIRTUAL_ENV=/usr/local\nRUN uv pip install x", "system", ""),
        ("RUN uv pip install --system --target /t x", "target", ""),
    ],
)
def test_where_an_install_goes(body, destination, environment):
    install = only(body)
    assert (install.destination, install.environment) == (destination, environment)


def test_a_virtual_environment_copied_from_another_stage_is_known():
    install = find(
        "FROM a AS b\nRUN python -m venv --system-site-packages /opt/venv\n"
        "FROM a\nCOPY --from=b /opt /srv\nRUN /srv/venv/bin/pip install x\n"
    ).installs[0]
    assert (install.destination, install.environment) == ("venv-system-site-packages", "/srv/venv")


@pytest.mark.parametrize(
    ("copy", "argument", "expected"),
    [
        ("COPY requirements.txt .", "requirements.txt", "requirements.txt"),
        ("COPY requirements.txt /tmp/r.txt", "/tmp/r.txt", "requirements.txt"),
        ("COPY api/requirements.txt ./", "requirements.txt", "api/requirements.txt"),
        ("COPY . .", "reqs/base.txt", "reqs/base.txt"),
        ("COPY . /src/", "/src/base.txt", "base.txt"),
        ("COPY reqs /app/reqs", "reqs/base.txt", "reqs/base.txt"),
        ("COPY reqs/ /r/", "/r/base.txt", "reqs/base.txt"),
        ("COPY requirements*.txt ./", "requirements-gpu.txt", "requirements-gpu.txt"),
        ("COPY a/*.txt b/ /r/", "/r/base.txt", "a/base.txt"),
        ('COPY ["my reqs.txt", "/r/"]', "'/r/my reqs.txt'", "my reqs.txt"),
        ("COPY a.txt b.txt /r/", "/r/b.txt", "b.txt"),
        ("ADD --chown=1:1 requirements.txt .", "requirements.txt", "requirements.txt"),
        ("ARG D=api\nCOPY $D/requirements.txt .", "requirements.txt", "api/requirements.txt"),
        ("COPY --parents api/requirements.txt ./", "api/requirements.txt", "api/requirements.txt"),
        ("COPY . .\nCOPY other.txt requirements.txt", "requirements.txt", "other.txt"),
        ("COPY . .\nRUN cat requirements.txt", "requirements.txt", "requirements.txt"),
    ],
)
def test_a_file_argument_is_followed_back_to_the_build_context(copy, argument, expected):
    install = find(f"FROM a\nWORKDIR /app\n{copy}\nRUN pip install -r {argument}\n").installs[-1]
    assert (install.requirement_files, install.unlockable) == (paths(expected), ())


def test_a_file_is_followed_through_stages_and_named_contexts():
    text = "FROM a AS one\nCOPY x.txt /x.txt\nFROM a\nCOPY --from=one /x.txt /y.txt\nRUN pip install -r /y.txt\n"
    assert find(text).installs[0].requirement_files == paths("x.txt")
    text = "FROM a\nCOPY --from=shared x.txt /y.txt\nRUN pip install -r /y.txt\n"
    (install,) = find(text, named_contexts=frozenset({"shared"})).installs
    assert install.requirement_files == (ContextPath(path="x.txt", context="shared"),)
    (install,) = find(text).installs
    assert install.unlockable == ("x.txt comes from the image shared (line 2)",)


def test_bind_mounts_are_followed_and_relative_targets_are_in_the_working_directory():
    (install,) = sample("bind_mount").installs
    assert install.constraint_files == paths("constraints.txt")
    assert install.local_projects == (LocalProject(folder=ContextPath(path="."), extras=("gpu",), editable=True),)
    assert install.unlockable == ()


def test_where_the_context_can_be_looked_at_a_copy_that_lacks_the_file_is_passed_over():
    text = "FROM a\nWORKDIR /app\nCOPY one two /app/\nRUN pip install -r r.txt\n"
    (install,) = find(text, has=lambda path: path.path == "two/r.txt").installs
    assert install.requirement_files == paths("two/r.txt")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("RUN pip install -r /r.txt", "/r.txt is not copied from the build context"),
        ("RUN echo torch > /r.txt\nRUN pip install -r /r.txt", "/r.txt is made or changed by the RUN in line 2"),
        (
            "COPY r.txt /r.txt\nRUN sed -i s/a/b/ /r.txt\nRUN pip install -r /r.txt",
            "/r.txt is made or changed by the RUN in line 3",
        ),
        (
            "COPY . /\nRUN uv pip compile /r.in -o /r.txt\nRUN pip install -r /r.txt",
            "/r.txt is made or changed by the RUN in line 3",
        ),
        (
            "COPY . /\nRUN uv pip install --system -r /pyproject.toml",
            "/pyproject.toml is a project, not a list of requirements",
        ),
        (
            "COPY . /\nRUN uv pip install --system -r /pylock.gpu.toml",
            "/pylock.gpu.toml is a lockfile (PEP 751), not a list of requirements",
        ),
        ("RUN pip install -c https://u:p@h/c.txt x", "https://h/c.txt is fetched while the command runs"),
        ("RUN --mount=type=cache,target=/c pip install -r /c/r.txt", "/c/r.txt stands on a cache mount"),
        ("RUN pip install $WHAT", "the argument '…' is only known when the command runs"),
        ("RUN pip install x==$(cat v)", "the argument 'x==…' is only known when the command runs"),
        (
            "RUN pip install git+https://u:p@h/x",
            "git+https://h/x comes from version control: name a release, or COPY a wheel of it",
        ),
        ("RUN pip install x @", "'@' is no requirement (PEP 508)"),
        ("RUN if x; then pip install y; fi", "pip install: it stands in an if, so it may not run"),
        ("RUN cat r | xargs pip install", "pip install: it runs inside xargs"),
        ("RUN pip install --nope x", "pip install: its options: no such option: --nope"),
        ("RUN pip install --platform any --target x y", "--platform asks for another target than the image"),
        ("RUN pip install /x/y.whl", "/x/y.whl: what an archive on disk requires is not read"),
        (
            "RUN python -c 'x' <<E\nsubprocess: pip install x\nE",
            "pip is called in a way that is not read: pip install x",
        ),
        (f"RUN {'$(' * 3000} pip install x", "pip is called in a way that is not read: pip install x"),
        ('SHELL ["python", "-c"]\nRUN pip install x', "pip is called in a way that is not read: pip install x"),
    ],
)
def test_what_cannot_be_locked_says_why(body, reason):
    installs = find(f"FROM a\n{body}\n").installs
    assert reason in installs[-1].unlockable


def test_a_second_try_of_the_same_command_is_no_second_install():
    installs = [each for each in sample("branches").installs if each.line in {5, 6}]
    assert [(each.line, each.unlockable) for each in installs] == [(5, ()), (6, ())]


def test_a_file_written_in_the_dockerfile_gives_its_requirements():
    first, second = sample("heredoc").installs
    assert first.requirements == ("torch==2.8.0", "flask")
    assert second.requirements == ("gunicorn",)


def test_wheels_that_an_earlier_stage_made_are_locked_with_it():
    wheel, from_folder, from_files = sample("wheels_folder").installs
    assert (wheel.destination, wheel.requirement_files) == ("wheel", paths("requirements.txt"))
    assert (from_folder.no_index, from_folder.find_links) == (True, ("/wheels",))
    assert from_files.unlockable == ()


def test_stages_the_target_does_not_need_are_not_read():
    text = "FROM a AS test\nRUN pip install pytest\nFROM a AS app\nRUN pip install x\n"
    assert [each.requirements for each in find(text).installs] == [("x",)]
    assert [each.requirements for each in find(text, target="test").installs] == [("pytest",)]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("apt-get update && pip install x", True),
        ("pip install x && curl -O https://h/x", True),
        ("pip install x && git clone https://h/x", True),
        ("pip install x && python -c 'import nltk; nltk.download(1)'", True),
        ("pip install x && python3 -c 'from whisper import _download; _download(1)'", True),
        ("pip install x && python -c 'from models import Small; Small(1)'", True),
        ("pip install x && python - <<END\nimport models\nmodels.load(1)\nEND", True),
        ("pip install x && python -c 'import x, sys; print(x.__version__); sys.exit(not (x.ready))'", False),
        ("pip install x && python - <<END\nimport x\nprint(x.__file__)\nEND", False),
        ("pip install x && virtualenv --no-download /v", False),
        ("uv venv --python 3.12 /v && uv pip install x", True),
        ("uv venv /v --python=cpython3.12 && uv pip install x", True),
        ("uv venv /v -p /usr/bin/python3 && uv venv --python=/usr/bin/python3 && uv venv && uv pip install x", False),
        ("pip install x && apt-get clean && git --version", False),
        ("pip install x && echo https://h/x", False),
        ("pip install -i https://h/simple x", False),
    ],
)
def test_a_run_that_wants_the_network_for_something_else_says_so(command, expected):
    assert only(f"RUN {command}").needs_network is expected


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("ENV PIP_CONFIG_FILE=/dev/null\nRUN pip install x", "PIP_CONFIG_FILE=/dev/null overrules /etc/pip.conf"),
        ("ENV PIP_FIND_LINKS=/w\nRUN pip install x", "PIP_FIND_LINKS=/w replaces the mounted wheels"),
        ("RUN PIP_NO_INDEX=0 pip install x", "PIP_NO_INDEX=0 lets pip ask its index"),
        ("ARG UV_NO_CONFIG=1\nRUN uv pip install x", "UV_NO_CONFIG=1 makes uv ignore /etc/uv/uv.toml"),
        ("ENV UV_CONFIG_FILE=/u.toml\nRUN uv pip install x", "UV_CONFIG_FILE=/u.toml replaces /etc/uv/uv.toml"),
        ("RUN uv pip install --no-config x", "--no-config makes uv ignore /etc/uv/uv.toml"),
        (
            "RUN --mount=type=secret,id=x,target=/etc/pip.conf pip install x",
            "the RUN mounts its own /etc/pip.conf",
        ),
    ],
)
def test_what_defeats_a_mounted_configuration_is_named(body, reason):
    assert only(body).unsealable == (reason,)


@pytest.mark.parametrize(
    "body",
    [
        "ENV PIP_INDEX_URL=https://a/simple\nRUN pip install x",
        "ENV PIP_FIND_LINKS=/w\nRUN uv pip install x",
        "ENV UV_FIND_LINKS=/w UV_INDEX_URL=https://a/simple\nRUN uv pip install x",
        "RUN pip install --isolated --extra-index-url https://a/simple -f /w x",
    ],
)
def test_what_merely_adds_to_the_mounted_configuration_is_not(body):
    assert only(body).unsealable == ()


def test_what_is_uninstalled_again_is_known_by_its_normalised_name():
    found = find("FROM a\nRUN pip install x && pip uninstall -y OpenCV_Python\nRUN uv pip uninstall --system y\n")
    assert found.uninstalled == {"opencv-python", "y"}


def test_other_installers_are_told_apart_by_what_they_install():
    found = sample("conda_poetry")
    assert [(each.tool, each.line, each.is_python) for each in found.foreign] == [
        ("conda install", 2, True),
        ("poetry install", 5, True),
        ("npm ci", 6, False),
    ]
    assert [each.requirements for each in found.installs] == [("poetry",)]


@pytest.mark.parametrize("command", ["uv add x", "uv tool install x", "pipx install x", "uvx x"])
def test_uv_beyond_its_pip_interface_is_foreign(command):
    found = find(f"FROM a\nRUN {command}\n")
    assert found.installs == ()
    assert found.foreign[0].tool == command.removesuffix(" x")
    assert found.foreign[0].reason.startswith(found.foreign[0].tool)


def test_what_a_windows_shell_runs_is_left_alone():
    found = find('FROM a\nSHELL ["C:/x/PowerShell.exe", "-Command"]\nRUN pip install x\nRUN dir\n')
    assert found.installs == ()
    assert [(each.line, each.is_python) for each in found.foreign] == [(3, True)]


def test_uv_run_that_syncs_nothing_is_no_installer():
    assert find("FROM a\nRUN uv run --no-sync pytest\n").foreign == ()
