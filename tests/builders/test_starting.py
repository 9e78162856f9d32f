"""Containers start what compose says, and scripts of the build context: those are read, whoever names them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from builders.compose import ComposeService
from builders.reading import read_service
from builders.services import Service
from builders.sharing import sharing

BASE = "python:3.11-slim"
USER = f"FROM {BASE} AS b\nRUN pip install --user x\nFROM {BASE}\nCOPY --from=b /root/.local /root/.local\n"
SCRIPT = '#!/bin/sh\nexec /root/.local/bin/run "$@"\n'


def programs(folder: Path, dockerfile: str, files: Mapping[str, str] = {}, started: tuple[str, ...] = ()) -> list[str]:
    for name, text in {"Dockerfile": USER + dockerfile, **files}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    compose = ComposeService(
        name="s", project="p", image="s:1", context=folder, dockerfile="Dockerfile", started=started
    )
    read = read_service(
        Service(name="s", images=("s:1",), context=folder, dockerfile=folder / "Dockerfile", compose=compose)
    )
    return list(sharing(read.findings.stages, read.installs, started=read.started).programs)


@pytest.mark.parametrize(
    ("dockerfile", "started"),
    [
        ('COPY start.sh /\nCMD ["/start.sh"]\n', ()),
        ("WORKDIR /srv\nCOPY . .\nENTRYPOINT ./start.sh --all\n", ()),
        ('COPY --chmod=755 start.sh /usr/local/bin/\nRUN chmod +x /usr/local/bin/start.sh\nCMD ["start.sh"]\n', ()),
        ('WORKDIR /srv\nCOPY start.sh ./\nHEALTHCHECK CMD ["sh", "start.sh"]\n', ()),
        ("COPY start.sh /opt/start\n", ("sh", "-c", "exec /opt/start")),
        ("WORKDIR /srv\nCOPY start.sh .\n", ("./start.sh",)),
        ("", ("/root/.local/bin/run", "--now")),
        ("COPY <<EOF /start.sh\nexec /root/.local/bin/run\nEOF\nCMD /start.sh\n", ()),
    ],
)
def test_a_program_is_found_in_what_containers_start(tmp_path: Path, dockerfile: str, started: tuple[str, ...]) -> None:
    assert programs(tmp_path, dockerfile, {"start.sh": SCRIPT}, started) == ["/root/.local/bin/run"]


@pytest.mark.parametrize(
    ("dockerfile", "started"),
    [
        ("COPY start.sh /\nCMD /other.sh\n", ()),
        ("COPY other.sh /start.sh\nCMD /start.sh\n", ()),
        ("", ("run", "--to=/srv/start.sh")),
        ("COPY folder /folder\nCMD /folder\n", ("..", "/", "$start")),
        ("COPY binary /binary\nCMD /binary\n", ()),
    ],
)
def test_what_is_not_started_counts_for_nothing(tmp_path: Path, dockerfile: str, started: tuple[str, ...]) -> None:
    files = {"start.sh": SCRIPT, "other.sh": "exec run\n", "folder/start.sh": SCRIPT}
    (tmp_path / "binary").write_bytes(b"\xff\xfe/root/.local/bin/run")
    assert programs(tmp_path, dockerfile, files, started) == []
