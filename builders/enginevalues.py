"""What the engine tells of images, containers and its disk, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageConfig:
    """What an image says of how it is run and built upon (OCI image-spec, "Image Configuration").

    Attributes:
        image_id: `sha256:…`.
        size: bytes, those of its base included.
        platform: such as `linux/amd64` or `linux/arm64/v8`.
        env: the environment of its processes.
        user: empty for root.
        workdir: empty for `/`.
        entrypoint: empty where there is none.
        labels: inherited by what is built upon it.
        onbuild: instructions that run when something is built upon it.
        digests: `repository@sha256:…`, as registries have its manifest that it was pulled from or pushed to.
    """

    image_id: str
    size: int
    platform: str
    env: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    workdir: str = ""
    entrypoint: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    onbuild: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()

    def digest_in(self, ref: str) -> str:
        """Returns its manifest's digest in the repository of *ref*; empty where it has none there."""
        repository = split_reference(ref)[0]
        found = (each.partition("@") for each in self.digests)
        return next((digest for name, _, digest in found if name == repository), "")


@dataclass(frozen=True, kw_only=True, slots=True)
class Ran:
    """A container that ended by itself."""

    status: int
    stdout: bytes
    stderr: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineImage:
    """An image under one of its references.

    Attributes:
        ref: with its tag.
        image_id: `sha256:…`.
        size: bytes, those of its base included.
        created_at: seconds since 1970; 0 where the image does not say.
    """

    ref: str
    image_id: str
    size: int
    created_at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class DiskUsage:
    """Bytes that the engine keeps on disk; layers that images share count once."""

    images: int
    build_cache: int
    containers: int
    volumes: int


def image_config(attrs: Mapping[str, Any]) -> ImageConfig:
    """Reads what the engine's API says of an image (`GET /images/{name}/json`)."""
    config: Mapping[str, Any] = attrs.get("Config") or {}
    platform = [attrs.get("Os"), attrs.get("Architecture"), attrs.get("Variant")]
    return ImageConfig(
        image_id=str(attrs["Id"]),
        size=int(attrs.get("Size") or 0),
        platform="/".join(str(part) for part in platform if part),
        env=dict(entry.partition("=")[::2] for entry in config.get("Env") or ()),
        user=config.get("User") or "",
        workdir=config.get("WorkingDir") or "",
        entrypoint=tuple(config.get("Entrypoint") or ()),
        labels=dict(config.get("Labels") or {}),
        onbuild=tuple(config.get("OnBuild") or ()),
        digests=tuple(attrs.get("RepoDigests") or ()),
    )


def engine_image(ref: str, attrs: Mapping[str, Any]) -> EngineImage:
    """Reads what the engine's API says of an image (`GET /images/{name}/json`)."""
    try:
        created_at = datetime.fromisoformat(str(attrs.get("Created"))).timestamp()
    except ValueError:  # empty, or a year that no date has
        created_at = 0.0
    return EngineImage(
        ref=ref, image_id=str(attrs["Id"]), size=int(attrs.get("Size") or 0), created_at=max(created_at, 0.0)
    )


def disk_usage(usage: Mapping[str, Any]) -> DiskUsage:
    """Reads what the engine's API says of its disk (`GET /system/df`)."""
    return DiskUsage(
        images=int(usage.get("LayersSize") or 0),
        build_cache=sum(entry["Size"] for entry in usage.get("BuildCache") or () if not entry.get("Shared")),
        containers=sum(entry.get("SizeRw") or 0 for entry in usage.get("Containers") or ()),
        volumes=sum(max(0, (entry.get("UsageData") or {}).get("Size", 0)) for entry in usage.get("Volumes") or ()),
    )


def data_folder(info: Mapping[str, Any]) -> Path | None:
    """Reads from `GET /info` where the engine keeps images; None where containerd does, in a folder of its own."""
    folder = str(info.get("DockerRootDir") or "")
    return Path(folder) if folder and not is_containerd(info) else None


def is_containerd(info: Mapping[str, Any]) -> bool:
    """Reads from `GET /info` whether containerd keeps the images."""
    return any("io.containerd.snapshotter.v1" in entry for entry in info.get("DriverStatus") or ())


def split_reference(ref: str) -> tuple[str, str]:
    """Splits a reference; a digest stands for a tag, as the engine's API wants it."""
    if "@" in ref:
        name, _, digest = ref.partition("@")
        return split_reference(name)[0] if ":" in name.rpartition("/")[2] else name, digest
    head, slash, last = ref.rpartition("/")
    name, _, tag = last.partition(":")
    return f"{head}{slash}{name}", tag or "latest"
