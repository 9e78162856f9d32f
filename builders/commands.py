"""The command lines of buildx and compose, as lists of arguments; another module runs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildRequest:
    """One image to build with `docker buildx build`; every field is that command's option of the same name.

    Attributes:
        context: the main context. BuildKit keeps what it was sent by this folder's own name, so no two different
            folders may come under one name: see `builders.contexts`.
        dockerfile: its path, which may lie outside the context.
        tags: the image's references.
        target: the stage to build; None for the last one.
        build_args: values; None takes the one of the environment, as `--build-arg NAME` does.
        build_contexts: name (or the reference of a FROM that it overrides) to `docker-image://…` or a folder.
        secrets: id to the file that holds it.
        other_secrets: further `--secret` values as the user's own project wrote them (`id=x,env=Y`).
        ssh: `--ssh` values (`default`, `key=/path`).
        labels: only for services: labels are inherited.
        network: of the RUN steps that do not say otherwise; None leaves it to the engine.
        extra_hosts: `name=address`.
        shm_size: bytes, or with a unit (`2gb`).
        ulimits: `nofile=1024:2048`.
        platforms: as `linux/amd64`.
        cache_from: sources of cache (`type=registry,ref=…`).
        cache_to: where to export cache to.
        metadata_file: written when the build is done.
        pull: look for newer base images in their registry.
        builder: that builds; None for the one that is chosen.
        output: where the result goes; `load` puts it into the engine's images, whichever driver builds.
    """

    context: Path
    dockerfile: Path
    tags: Sequence[str] = ()
    target: str | None = None
    build_args: Mapping[str, str | None] = field(default_factory=dict)
    build_contexts: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, Path] = field(default_factory=dict)
    other_secrets: Sequence[str] = ()
    ssh: Sequence[str] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    network: str | None = None
    extra_hosts: Sequence[str] = ()
    shm_size: str | None = None
    ulimits: Sequence[str] = ()
    platforms: Sequence[str] = ()
    cache_from: Sequence[str] = ()
    cache_to: Sequence[str] = ()
    metadata_file: Path | None = None
    pull: bool = False
    builder: str | None = None
    output: Literal["load", "cacheonly"] = "load"


def buildx_build(request: BuildRequest) -> list[str]:
    """Returns the command line that builds *request*, its progress as JSON on stderr.

    Layers are never thrown away (`--no-cache`), and no provenance is attached, which would give every build of the same
    content another image id.
    """
    argv = ["build", "--progress=rawjson", "--provenance=false"]
    if request.output == "cacheonly":
        argv.append("--output=type=cacheonly")
    elif request.builder is not None:
        # An engine unpacks what it loads: another builder would compress gigabytes for nothing.
        argv.append("--output=type=docker,compression=uncompressed")
    # The engine's own builder loads what it built (see `buildx_environ`); told to, it looks the engine over before.
    argv += _optional("--builder", request.builder)
    argv += ["--file", str(request.dockerfile)]
    argv += _repeated("--tag", request.tags)
    argv += _optional("--target", request.target)
    argv += _repeated("--build-arg", [n if v is None else f"{n}={v}" for n, v in request.build_args.items()])
    argv += _repeated("--build-context", [f"{name}={value}" for name, value in request.build_contexts.items()])
    argv += _repeated("--secret", [_csv(id=name, src=str(path)) for name, path in request.secrets.items()])
    argv += _repeated("--secret", request.other_secrets)
    argv += _repeated("--ssh", request.ssh)
    argv += _repeated("--label", [f"{name}={value}" for name, value in request.labels.items()])
    argv += _optional("--network", request.network)
    argv += _repeated("--add-host", request.extra_hosts)
    argv += _optional("--shm-size", request.shm_size)
    argv += _repeated("--ulimit", request.ulimits)
    argv += _optional("--platform", ",".join(request.platforms) or None)
    argv += _repeated("--cache-from", request.cache_from)
    argv += _repeated("--cache-to", request.cache_to)
    argv += _optional("--metadata-file", None if request.metadata_file is None else str(request.metadata_file))
    if request.pull:
        argv.append("--pull")
    return [*argv, "--", str(request.context)]


def compose_config(
    files: Sequence[Path],
    *,
    env_file: Path | None = None,
    profiles: Sequence[str] = (),
    project_directory: Path | None = None,
) -> list[str]:
    """Returns the command line that prints compose's own reading of *files* as JSON; what it prints holds secrets."""
    argv = ["docker", "compose"]
    argv += _repeated("--file", [str(file) for file in files])
    argv += _optional("--env-file", None if env_file is None else str(env_file))
    argv += _repeated("--profile", profiles)
    argv += _optional("--project-directory", None if project_directory is None else str(project_directory))
    return [*argv, "config", "--format", "json"]


def _optional(option: str, value: str | None) -> list[str]:
    return [] if value is None else [option, value]


def _repeated(option: str, values: Sequence[str]) -> list[str]:
    return [part for value in values for part in (option, value)]


def _csv(**fields: str) -> str:
    """Returns one CSV record (RFC 4180), as buildx reads its compound options: quoted where a field needs it."""
    parts = [f"{name}={value}" for name, value in fields.items()]
    return ",".join('"' + part.replace('"', '""') + '"' if set(part) & set(',"\n') else part for part in parts)
