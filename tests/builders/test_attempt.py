"""One image's build: its log and its tries."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from builders.attempt import Builder
from builders.commands import BuildRequest
from wheelcache.events import ignore
from wheelcache.programs import run_program


@pytest.mark.parametrize("name", ["team/ml", "../../x", "..", "/etc"])
def test_no_name_leads_the_log_out_of_its_folder(tmp_path: Path, name: str) -> None:
    client = tmp_path / "bin" / "docker"
    client.parent.mkdir()
    client.write_text("#!/bin/sh\nexit 1\n")
    client.chmod(0o755)
    environ = {**os.environ, "PATH": f"{client.parent}:/usr/bin:/bin"}
    logs = tmp_path / "cache" / "logs"
    builder = Builder(run=run_program, emit=ignore, logs=logs, retries=0, stop=threading.Event(), environ=environ)
    request = BuildRequest(context=tmp_path, dockerfile=tmp_path / "Dockerfile")
    outcome = builder.build(name, lambda _: request, has_network=lambda _: True)
    assert outcome.failure is not None
    assert outcome.log.resolve().parent.parent == logs
