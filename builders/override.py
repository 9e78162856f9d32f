"""Lays a compose file over the user's own, so that plain `docker compose build` builds what ours would."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path, PurePosixPath
from typing import Any, Final

from builders.commands import BuildRequest
from builders.contexts import unique_context
from builders.workspace import Dressing, lay_out
from wheelcache.digest import digest_of_bytes, digest_of_json, hex_of
from wheelcache.files import store_errors, sync_folder, temporary_name
from wheelcache.lock import service_slug
from wheelcache.ordinary import is_folder, make_folder, make_folders, open_new

_HEADER: Final = """\
# Made by wheelcache compose-override, for: docker compose -f COMPOSE -f THIS build
# Make it anew when requirements, a Dockerfile, a base image or a build section change;
# wheelcache compose-override --check exits 3 when it is time. Files that images are made of may change as they like.
"""
_KEY_DIGITS: Final = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Override:
    """An override file, and the folder that it speaks of.

    Attributes:
        text: of the file.
        folder: has what the services are built with; its name stands for the content.
        files: their content, by their paths in that folder.
        contexts: the services' context folders, by the service's folder in that folder.
        secrets: those of the files that hold credentials.
        images: references of the images that the builds need.
    """

    text: str
    folder: Path
    files: Mapping[PurePosixPath, bytes]
    contexts: Mapping[str, tuple[Path, str]]
    secrets: frozenset[PurePosixPath]
    images: tuple[str, ...]

    @property
    def is_laid_out(self) -> bool:
        """True when the folder is there."""
        return self.folder.is_dir()


def make_override(dressings: Sequence[Dressing], *, home: Path) -> Override:
    """Returns the override file for services of a compose project; nothing is written.

    Args:
        dressings: what each service's build gets.
        home: the folder below which files may lie for as long as the override is used.
    """
    files: dict[PurePosixPath, bytes] = {}
    secrets, requests = set[PurePosixPath](), list[BuildRequest]()
    with tempfile.TemporaryDirectory(prefix="wheelcache-override-") as scratch:
        for dressing in dressings:
            name = service_slug(dressing.reading.service.name)
            folder = Path(scratch) / name
            folder.mkdir()
            request = lay_out(folder, dressing, attempt=1)
            requests.append(request)
            files |= {
                PurePosixPath(name, file.name): file.read_bytes()
                for file in sorted(folder.iterdir())
                if file.is_file() and not file.is_symlink()
            }
            secrets |= {PurePosixPath(name, file.name) for file in request.secrets.values()}
    contexts = {
        service_slug(dressing.reading.service.name): (
            dressing.reading.service.context.resolve(),
            dressing.reading.service.name,
        )
        for dressing in dressings
    }
    content = [[str(path), digest_of_bytes(data)] for path, data in sorted(files.items())]
    places = [[name, str(real)] for name, (real, _) in sorted(contexts.items())]
    folder = home / hex_of(digest_of_json([content, places]))[:_KEY_DIGITS]
    return Override(
        text=_HEADER + _yaml(_document(dressings, requests, folder)),
        folder=folder,
        files=files,
        contexts=contexts,
        secrets=frozenset(secrets),
        images=tuple(sorted({image for dressing in dressings for image in dressing.images.values()})),
    )


def lay_out_override(override: Override) -> None:
    """Makes the folder that an override speaks of, whole or not at all.

    Raises:
        StoreError: it cannot be made.
        BuildError: a link to a context cannot be made.
    """
    with store_errors(override.folder):
        if is_folder(override.folder):
            return
        make_folders(override.folder.parent)
    temporary = temporary_name(override.folder)
    try:
        with store_errors(override.folder):
            make_folder(temporary)
            for name in override.contexts:
                make_folder(temporary / name)
            for path, data in override.files.items():
                with FileIO(open_new(temporary / path), "w") as opened:
                    opened.write(data)
                (temporary / path).chmod(0o600 if path in override.secrets else 0o644)
        for name, (real, service) in override.contexts.items():
            unique_context(temporary / name, real, service)
        with store_errors(override.folder):
            temporary.rename(override.folder)
            sync_folder(override.folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def forget_others(override: Override) -> None:
    """Removes the folders of earlier overrides beside this one's."""
    for other in override.folder.parent.iterdir():
        if other != override.folder:
            shutil.rmtree(other, ignore_errors=True)


def _document(dressings: Sequence[Dressing], requests: Sequence[BuildRequest], folder: Path) -> dict[str, Any]:
    services: dict[str, Any] = {}
    secrets: dict[str, Any] = {}
    for dressing, request in zip(dressings, requests, strict=True):
        service = dressing.reading.service
        own = folder / service_slug(service.name)
        names = {identity: f"wheelcache-{own.name}-{identity}" for identity in request.secrets}
        build = _build_section(dressing, request, own, names)
        secrets |= {names[identity]: {"file": str(own / file.name)} for identity, file in request.secrets.items()}
        for name in service.names:
            services[name] = {"build": build}
        if service.compose is not None and service.images[0] != service.compose.image:  # the project file's word
            services[service.name] = {"image": service.images[0], "build": build}
    return {"services": services, **({"secrets": secrets} if secrets else {})}


def _build_section(
    dressing: Dressing, request: BuildRequest, own: Path, secret_names: Mapping[str, str]
) -> dict[str, Any]:
    """Returns what a service's build section gets; what the user's own says beside stays with it."""
    service = dressing.reading.service
    build: dict[str, Any] = {
        "context": str(own / request.context.name),
        "dockerfile": str(own / request.dockerfile.name),
    }
    if service.inline is not None or (service.compose is not None and service.compose.dockerfile_inline):
        build["dockerfile_inline"] = None
    if request.network is not None:
        build["network"] = request.network
    if service.compose is not None and service.compose.pull and not request.pull:
        build["pull"] = False
    if dressing.images:
        build["additional_contexts"] = {name: f"docker-image://{image}" for name, image in dressing.images.items()}
    if dressing.labels:
        build["labels"] = dict(dressing.labels)
    if secret_names:
        build["secrets"] = [{"source": name, "target": identity} for identity, name in secret_names.items()]
    return build


def _yaml(value: Mapping[str, Any], indent: str = "") -> str:
    """Writes mappings as YAML 1.2 blocks; None takes away what the file below says (compose-spec, "Reset value")."""
    lines = []
    for key, each in value.items():
        head = f"{indent}{_scalar(key)}:"
        if isinstance(each, Mapping):
            lines.append(f"{head}\n{_yaml(each, indent + '  ')}")
        elif isinstance(each, list):
            items = (f"{indent}  - {_flow(item)}\n" for item in each)
            lines.append(f"{head}\n{''.join(items)}")
        else:
            lines.append(f"{head} {'!reset null' if each is None else _interpolated(each)}\n")
    return "".join(lines)


def _flow(item: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"{_scalar(key)}: {_interpolated(value)}" for key, value in item.items()) + "}"


def _interpolated(value: object) -> str:
    """Writes a value so that compose's interpolation leaves it as it is (compose-spec, "Interpolation")."""
    return _scalar(value.replace("$", "$$") if isinstance(value, str) else value)


def _scalar(value: object) -> str:
    """Writes a scalar as JSON does, whose strings are YAML's double-quoted ones."""
    return json.dumps(value, ensure_ascii=False)
