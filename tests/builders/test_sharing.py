from __future__ import annotations

import pytest

from builders.dockerfile import parse_dockerfile
from builders.installs import find_installs
from builders.sharing import Sharing, sharing

BASE = "python:3.11-slim"


def verdict(text: str) -> Sharing:
    found = find_installs(parse_dockerfile(text))
    return sharing(found.stages, found.installs)


@pytest.mark.parametrize(
    "text",
    [
        f"FROM {BASE}\nRUN pip install x\n",
        f"FROM {BASE}\nRUN python3.11 -m pip install -U x\n",
        f"FROM {BASE}\nRUN uv pip install --system x\n",
        f"FROM {BASE} AS b\nRUN pip install --user x\nFROM {BASE}\nCOPY --from=b /root/.local /root/.local\n",
        f"FROM {BASE} AS b\nRUN pip install --prefix=/i x\nFROM {BASE}\nCOPY --from=b /i /usr/local\n",
        f"FROM {BASE} AS b\nRUN pip install --prefix=/i x\nFROM {BASE}\nCOPY --from=b /i/local /usr/local\n",
        f"FROM {BASE} AS b\nRUN pip install --user x\nFROM {BASE}\nCOPY --from=b /root/.local/lib/site-packages /l\n",
        f"FROM {BASE} AS base\nFROM base AS b\nRUN pip install --user x\nFROM base\nCOPY --from=b /root/.local /r\n",
        f"FROM {BASE}\nRUN /usr/local/bin/python3.11 -m pip install x\n",
        f"FROM {BASE}\nRUN uv pip install --system --python 3.11 x\n",
        f"FROM {BASE}\nRUN pip install uv\nRUN uv pip sync --system r.txt\n",
        f"FROM {BASE} AS b\nRUN pip install -U pip\nRUN pip install --user x\nFROM {BASE}\nCOPY --from=b /root /\n",
        f"FROM {BASE} AS b\nENV PYTHONUSERBASE=/i\nRUN pip install --user x\nFROM {BASE}\nCOPY --from=b /i/lib /i\n",
        f"FROM {BASE} AS b\nENV PIP_PREFIX=/i\nRUN pip install x\nFROM b AS c\nFROM {BASE}\nCOPY --from=c /i /i\n",
        f"FROM {BASE}\nRUN apt-get update && apt-get install -y gcc python3-dev && pip install x\n",
        f"FROM node:20 AS web\nRUN npm ci\nFROM {BASE}\nCOPY --from=web /dist /dist\nRUN pip install x\n",
    ],
)
def test_installs_that_see_the_base_and_end_up_on_it_share_it(text):
    found = verdict(text)
    assert (found.verdict, found.bases) == ("shared", (BASE,))


USER = f"FROM {BASE} AS b\nRUN pip install --user x\nFROM {BASE}\nCOPY --from=b /root/.local /home/app/.local\n"
TWICE = "the system's packages are copied into another stage, and heavy wheels would come along again"
LEFT = "line 2: not all that it installs is copied into the final stage as it is"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"FROM {BASE}\n", "nothing is installed by pip or uv"),
        (
            "FROM python:latest AS python\nRUN pip install x\n",
            "a stage is called python too, and BuildKit would replace the stage",
        ),
        (
            f"FROM {BASE}\nRUN python -m venv /v && /v/bin/pip install x\n",
            "line 2: a virtual environment does not see the base image's packages",
        ),
        (
            f"FROM {BASE}\nRUN pip install x\nRUN pip install -t /t y\n",
            "line 3: --target and --root look at nothing that is installed already",
        ),
        (f"FROM {BASE}\nRUN pip wheel x\n", "line 2: it makes or fetches wheels instead of installing them"),
        (f"FROM {BASE}\nRUN pip install --force-reinstall x\n", "line 2: it reinstalls what is there already"),
        (
            f"FROM {BASE}\nRUN uv pip install --prefix /p x\n",
            "line 2: uv does not see the base image's packages with --prefix",
        ),
        (
            f"FROM python:3.11 AS b\nRUN pip install --user x\nFROM {BASE}\nCOPY --from=b /root/.local /r\n",
            f"line 2: it installs into a stage on python:3.11, the final stage is on {BASE}",
        ),
        (
            "FROM ubuntu:22.04\nRUN apt-get install -y python3-pip\nRUN pip install x\n",
            "line 3: the Python it installs into is not the base image's own",
        ),
        (
            "FROM alpine\nRUN apk add py3-pip && pip install x\n",
            "line 2: the Python it installs into is not the base image's own",
        ),
        (
            f"FROM {BASE}\nRUN pip3.12 install x\n",
            "line 2: pip3.12 may be another Python than the base image's first one",
        ),
        (
            f"FROM {BASE} AS b\nRUN pip install x\nFROM {BASE}\nCOPY --from=b /usr/local/lib /usr/local/lib\n",
            TWICE,
        ),
        (
            f'FROM {BASE} AS b\nRUN pip install --prefix=/usr x\nFROM {BASE}\nCOPY --from=b ["/usr", "/usr"]\n',
            TWICE,
        ),
        (
            f"FROM {BASE} AS b\nRUN pip install --user x\nFROM {BASE}\nCOPY --from=b / /\n",
            TWICE,
        ),
        (f"FROM {BASE} AS b\nRUN make\nFROM {BASE}\nCOPY --from=b /usr/local /usr/local\nRUN pip install x\n", TWICE),
        (f"FROM {BASE}\nRUN pip install x\nCOPY --from={BASE} /usr/local/lib /l\n", TWICE),
        (f"FROM {BASE} AS b\nRUN pip install x && run\nFROM {BASE}\nCOPY --from=b /out /out\n", LEFT),
        (f"FROM {BASE} AS b\nRUN pip install --user x\nFROM {BASE}\nCOPY --from=b /root/.local/bin /b\n", LEFT),
        (f"FROM {BASE} AS b\nRUN pip install --prefix /i x\nFROM {BASE}\nCOPY --from=b /i/bin /usr/bin\n", LEFT),
        (USER.replace(f"FROM {BASE}\nCOPY", f"FROM {BASE} AS c\nCOPY") + f"FROM {BASE}\nCOPY --from=c /x /x\n", LEFT),
        (
            f"FROM {BASE}\nRUN uv pip sync --system r.txt\nRUN pip install x\n",
            "line 2: it would take away what line 3 installs",
        ),
        (
            f"FROM {BASE}\nENV PIP_IGNORE_INSTALLED=1\nRUN pip install x\n",
            "line 3: it reinstalls what is there already",
        ),
        (
            f"FROM {BASE}\nRUN python -m venv --system-site-packages /v && /v/bin/pip install x\n",
            "line 2: programs of wheels in the base image would run outside of the virtual environment",
        ),
        (
            f"FROM {BASE}\nRUN /usr/bin/python3 -m pip install x\n",
            "line 2: /usr/bin/python3 -m pip may be another Python than the base image's first one",
        ),
        (
            f"FROM {BASE}\nRUN uv pip install --system --python 3.12 x\n",
            "line 2: 3.12 may be another Python than the base image's first one",
        ),
        (
            f"FROM {BASE} AS b\nRUN pip install x\nFROM scratch\nCOPY --from=b / /\n",
            "the final stage starts from scratch",
        ),
    ],
)
def test_every_other_shape_has_its_own_copy_and_says_why(text, reason):
    assert verdict(text) == Sharing(verdict="own", bases=(), reason=reason)


def test_a_digest_pinned_base_is_named_exactly_as_it_is_written():
    pinned = "python:3.11-slim@sha256:" + "0" * 64
    assert verdict(
        f"ARG B={pinned}\nFROM $B AS x\nRUN pip install --user y\nFROM ${{B}}\nCOPY --from=x /root /r\n"
    ).bases == (pinned,)


@pytest.mark.parametrize(
    "line",
    [
        "ENV PATH=/home/app/.local/bin:$PATH",
        'CMD ["uvicorn", "app:app"]',
        'CMD ["/usr/local/bin/python", "app.py"]',
        "RUN ln -s /usr/bin/true /bin/x && PATH=/opt/bin:/bin/ echo",
        'SHELL ["/bin/bash", "-o", "pipefail", "-c"]',
        "RUN <<EOF\n#!/bin/sh\ntrue;/usr/bin/env x\nEOF",
        "RUN curl -fsSL https://example.com/bin/install.sh | sh",
    ],
)
def test_small_wheels_may_come_from_the_base_where_programs_are_found_through_path(line):
    assert verdict(f"{USER}{line}\n").takes_light


@pytest.mark.parametrize(
    "line",
    [
        'CMD ["/home/app/.local/bin/uvicorn", "app:app"]',
        "COPY --from=b /root/.local/bin/gunicorn /usr/local/bin/",
        "RUN ~/.local/bin/flask --version",
        "RUN $HOME/.local/bin/flask --version",
        "RUN <<EOF\n/root/.local/bin/flask --version\nEOF",
    ],
)
def test_small_wheels_stay_with_a_service_that_names_a_program_where_its_own_installs_put_it(line):
    found = verdict(f"{USER}{line}\n")
    assert (found.verdict, found.takes_light) == ("shared", False)
    assert verdict(f"FROM {BASE}\nRUN pip install x\n{line.replace('--from=b', '')}\n").takes_light


def test_small_wheels_stay_with_a_service_whose_builder_stage_has_tools_that_the_image_has_not():
    tools = USER.replace("RUN pip install --user", "RUN pip install --upgrade pip\nRUN pip install --user")
    found = verdict(tools)
    assert (found.verdict, found.takes_light) == ("shared", False)
