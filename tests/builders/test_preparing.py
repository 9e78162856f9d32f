"""What is decided about a service before it is built."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.wheels import make_wheel

from builders.locking import LockedService
from builders.plan import SharedSet
from builders.preparing import Prepared
from builders.reading import read_service
from builders.services import Service
from builders.sharing import sharing
from wheelcache.target import declared_target

BASE = "python:3.11-slim"
COPIED = f"FROM {BASE} AS b\nRUN pip install --user tool\nFROM {BASE}\nCOPY --from=b /root/.local /root/.local\n"
WHEELS = [make_wheel(name).locked() for name in ("tool", "torch", "flask", "numpy")]


def prepared(folder: Path, dockerfile: str, *shared: str) -> Prepared:
    (folder / "Dockerfile").write_text(dockerfile)
    (folder / "requirements.txt").write_text("Flask>=1\nnumpy; sys_platform == 'win32'\n")
    read = read_service(Service(name="one", images=("one:1",), context=folder, dockerfile=folder / "Dockerfile"))
    locked = LockedService(
        reading=read,
        path=folder / "pylock.one.toml",
        state="unchanged",
        reason="",
        lockfile=None,
        target=declared_target("3.11", "manylinux_2_28_x86_64"),
        wheels=tuple(WHEELS),
    )
    common = tuple(wheel for wheel in WHEELS if wheel.name in shared)
    return Prepared(
        locked=locked,
        reading=read,
        mode="sealed",
        share=sharing(read.findings.stages, read.installs),
        base=BASE,
        base_id="sha256:x",
        shared=SharedSet(ground=("", ""), services=("one", "two"), wheels=common) if shared else None,
    )


@pytest.mark.parametrize(
    ("dockerfile", "shared", "required"),
    [
        (f"FROM {BASE}\nRUN pip install flask\n", (), {"tool", "torch", "flask", "numpy"}),
        (COPIED, (), set()),
        (COPIED, ("torch",), {"torch"}),
        (
            f"{COPIED}RUN pip install Flask other\n",
            ("torch",),
            {"torch", "flask"},
        ),
        (
            f"{COPIED}COPY requirements.txt .\nRUN pip install -r requirements.txt\n",
            (),
            {"flask"},
        ),
    ],
)
def test_an_image_must_hold_what_its_own_stages_and_its_base_bring(
    tmp_path: Path, dockerfile: str, shared: tuple[str, ...], required: set[str]
) -> None:
    assert prepared(tmp_path, dockerfile, *shared).required == required
