from __future__ import annotations

import pytest

from builders.dockerfile import parse_dockerfile
from builders.installs import find_installs
from builders.prefix import brings_its_own_python, brings_python, probe_dockerfile


def test_the_probe_holds_everything_before_the_install_to_the_byte():
    head = "# syntax=x\nFROM debian AS b\r\nRUN apt-get install -y python3-pip\n# last\n"
    dockerfile = parse_dockerfile(head + "RUN pip install x\nFROM debian\nCOPY --from=b /x /x\n")
    (install,) = find_installs(dockerfile).installs
    assert probe_dockerfile(dockerfile, install) == head


@pytest.mark.parametrize(
    ("base", "step", "expected"),
    [
        ("debian:12", "RUN apt-get update && apt-get install -y python3 python3-pip", True),
        ("debian:12", "RUN apt-get install -y python3.12-venv", True),
        ("alpine", "RUN apk add --no-cache python3 py3-pip", True),
        ("rockylinux:9", "RUN dnf -y install python3.11", True),
        ("debian:12", "RUN uv python install 3.12", True),
        ("debian:12", "RUN uv venv --python 3.12 /v", True),
        ("debian:12", "RUN curl https://pyenv.run | bash", True),
        ("ubuntu", "RUN add-apt-repository ppa:deadsnakes/ppa", True),
        ("debian:12", "COPY --from=python:3.11-slim /usr/local /usr/local", True),
        ("ghcr.io/a/b", "RUN conda create -n x python=3.11", True),
        ("debian:12", "RUN apt-get install -y gcc libpq-dev", False),
        ("python:3.11-slim", "RUN apt-get install -y gcc python3-dev", False),
        ("debian:12", "COPY --from=ghcr.io/astral-sh/uv:0.9 /uv /bin/uv", False),
        ("debian:12", "RUN apt-get remove -y python3", False),
        ("debian:12", "RUN python3 -V", False),
    ],
)
def test_a_python_brought_before_an_install_is_noticed(base, step, expected):
    found = find_installs(parse_dockerfile(f"FROM {base}\n{step}\nRUN pip install x\n"))
    assert brings_python(found.stages, found.installs[0]) is expected
    assert not brings_its_own_python(found.stages, found.installs[0])


def test_a_python_brought_by_the_parent_stage_counts():
    found = find_installs(
        parse_dockerfile("FROM debian AS a\nRUN apt-get install -y python3\nFROM a\nRUN pip install x\n")
    )
    assert brings_python(found.stages, found.installs[0])


def test_a_python_brought_after_the_install_or_in_its_own_run_is_told_apart():
    found = find_installs(
        parse_dockerfile(
            "FROM debian\nRUN apt-get install -y python3-pip && pip install x\nRUN apt-get install python3\n"
        )
    )
    assert not brings_python(found.stages, found.installs[0])
    assert brings_its_own_python(found.stages, found.installs[0])
