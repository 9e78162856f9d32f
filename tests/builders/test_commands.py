"""Command lines of buildx and compose."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from builders.commands import BuildRequest, buildx_build, compose_config

PLAIN = BuildRequest(context=Path("/ctx/shop-ml"), dockerfile=Path("/tmp/Dockerfile"))


def test_a_plain_build_says_no_more_than_it_must() -> None:
    assert buildx_build(PLAIN) == [
        "build", "--progress=rawjson", "--provenance=false",
        "--file", "/tmp/Dockerfile", "--", "/ctx/shop-ml",
    ]  # fmt: skip


def test_every_field_reaches_its_option() -> None:
    argv = buildx_build(
        BuildRequest(
            context=Path("/c"),
            dockerfile=Path("/d"),
            tags=["a:1", "b:2"],
            target="final",
            build_args={"A": "1", "FROM_ENVIRONMENT": None, "EMPTY": ""},
            build_contexts={"python:3.11-slim": "docker-image://wheelcache/base:k"},
            secrets={"wheelcache-pip": Path("/s/pip.conf")},
            other_secrets=["id=token,env=TOKEN"],
            ssh=["default"],
            labels={"x": "y"},
            network="none",
            extra_hosts=["h=10.0.0.1"],
            shm_size="2gb",
            ulimits=["nofile=10:20"],
            platforms=["linux/amd64", "linux/arm64"],
            cache_from=["type=registry,ref=r"],
            cache_to=["type=inline"],
            metadata_file=Path("/m.json"),
            pull=True,
            builder="far",
            output="cacheonly",
        )
    )
    assert argv[1:] == [
        "--progress=rawjson", "--provenance=false", "--output=type=cacheonly", "--builder", "far", "--file", "/d",
        "--tag", "a:1", "--tag", "b:2", "--target", "final",
        "--build-arg", "A=1", "--build-arg", "FROM_ENVIRONMENT", "--build-arg", "EMPTY=",
        "--build-context", "python:3.11-slim=docker-image://wheelcache/base:k",
        "--secret", "id=wheelcache-pip,src=/s/pip.conf", "--secret", "id=token,env=TOKEN",
        "--ssh", "default", "--label", "x=y", "--network", "none", "--add-host", "h=10.0.0.1", "--shm-size", "2gb",
        "--ulimit", "nofile=10:20", "--platform", "linux/amd64,linux/arm64",
        "--cache-from", "type=registry,ref=r", "--cache-to", "type=inline", "--metadata-file", "/m.json", "--pull",
        "--", "/c",
    ]  # fmt: skip


def test_what_another_builder_made_comes_to_the_engine_uncompressed() -> None:
    argv = buildx_build(replace(PLAIN, builder="far"))
    assert argv[3:6] == ["--output=type=docker,compression=uncompressed", "--builder", "far"]


def test_a_secret_file_with_a_comma_in_its_path_stays_one_field() -> None:
    argv = buildx_build(
        BuildRequest(context=Path("/c"), dockerfile=Path("/d"), secrets={"pip": Path('/home/a, "b"/pip.conf')})
    )
    assert argv[argv.index("--secret") + 1] == 'id=pip,"src=/home/a, ""b""/pip.conf"'


def test_a_build_never_throws_layers_away() -> None:
    assert not any("no-cache" in part for part in buildx_build(PLAIN))


def test_compose_is_asked_for_its_own_reading() -> None:
    argv = compose_config(
        [Path("a.yml"), Path("b.yml")], env_file=Path(".env.staging"), profiles=["gpu"], project_directory=Path("/p")
    )
    assert argv == [
        "docker", "compose", "--file", "a.yml", "--file", "b.yml", "--env-file", ".env.staging", "--profile", "gpu",
        "--project-directory", "/p", "config", "--format", "json",
    ]  # fmt: skip
