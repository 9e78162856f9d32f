"""What the engine's API says, read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from builders.enginevalues import DiskUsage, data_folder, disk_usage, image_config, split_reference


@pytest.mark.parametrize(
    ("ref", "name", "tag"),
    [
        ("python", "python", "latest"),
        ("python:3.11-slim", "python", "3.11-slim"),
        ("localhost:5000/team/app", "localhost:5000/team/app", "latest"),
        ("localhost:5000/team/app:1", "localhost:5000/team/app", "1"),
        ("team/app@sha256:ab", "team/app", "sha256:ab"),
        ("host:1/app:2@sha256:ab", "host:1/app", "sha256:ab"),
    ],
)
def test_references_are_split_at_the_tag_and_not_at_the_port(ref: str, name: str, tag: str) -> None:
    assert split_reference(ref) == (name, tag)


def test_an_image_that_says_nothing_of_itself_is_roots() -> None:
    config = image_config({"Id": "sha256:a", "Size": None, "Os": "linux", "Architecture": "arm64", "Variant": "v8"})
    assert (config.user, config.env, config.onbuild, config.platform) == ("", {}, (), "linux/arm64/v8")


def test_cache_that_is_an_images_layer_too_counts_once() -> None:
    usage = {
        "LayersSize": 10,
        "BuildCache": [{"Size": 5, "Shared": False}, {"Size": 7, "Shared": True}],
        "Containers": [{"SizeRw": 1}, {}],
        "Volumes": [{"UsageData": {"Size": -1}}, {"UsageData": {"Size": 2}}],
    }
    assert disk_usage(usage) == DiskUsage(images=10, build_cache=5, containers=1, volumes=2)


@pytest.mark.parametrize(
    ("info", "folder"),
    [
        ({"DockerRootDir": "/var/lib/docker", "DriverStatus": [["Backing Filesystem", "extfs"]]}, "/var/lib/docker"),
        ({"DockerRootDir": "/d", "DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]]}, None),
        ({"DockerRootDir": "/d", "DriverStatus": None}, "/d"),
        ({"DockerRootDir": ""}, None),
        ({}, None),
    ],
)
def test_where_the_engine_keeps_images_is_known_unless_containerd_does(
    info: dict[str, Any], folder: str | None
) -> None:
    assert data_folder(info) == (Path(folder) if folder else None)
