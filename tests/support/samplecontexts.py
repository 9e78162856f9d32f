"""Makes a build context that has whatever a Dockerfile's commands ask of it, and nothing that stands in the way."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from builders.dockerfile import decode_dockerfile, parse_dockerfile
from builders.installs import find_installs
from builders.reading import Reading, read_service
from builders.services import Service
from support.wheels import make_wheel

_PROJECT = b'[project]\nname = "example"\nversion = "1"\n'

_LOCK = b"""
version = 1
requires-python = ">=3.11"
[[package]]
name = "example"
version = "1"
source = { virtual = "." }
"""


def samples(*, are_refused: bool) -> list[Path]:
    """Returns the sample Dockerfiles that BuildKit refuses, or those that it takes."""
    found = sorted((Path(__file__).parents[1] / "builders" / "dockerfiles").glob("*.Dockerfile"))
    return [path for path in found if path.stem.startswith("refused_") is are_refused]


def read_sample(path: Path, context: Path, args: Mapping[str, str] | None = None) -> Reading:
    """Reads the Dockerfile *path* with what its COPYs could bring in the empty folder *context*.

    Raises:
        DockerfileSyntaxError: it is none.
    """
    dockerfile = parse_dockerfile(decode_dockerfile(path.read_bytes()), file=str(path))
    for install in find_installs(dockerfile, build_args=args).installs:
        for file in install.constraint_files:
            _place(context / file.path, b"")
        for file in install.requirement_files:
            _place(context / file.path, b"example\n")
        if install.uv_project is not None:
            _place(context / install.uv_project.folder.path / "uv.lock", _LOCK)
            _place(context / install.uv_project.folder.path / "pyproject.toml", _PROJECT)
        for project in install.local_projects:
            wheel = context / project.folder.path
            if wheel.suffix == ".whl":
                _place(wheel, make_wheel("example").data)
            else:
                _place(wheel / "pyproject.toml", _PROJECT)
    return read_service(Service(name="sample", images=("sample:1",), context=context, dockerfile=path, args=args or {}))


def _place(file: Path, data: bytes) -> None:
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
