"""Compose files are read by compose itself; no engine is needed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from builders.compose import ComposeService, read_compose
from builders.errors import EngineError
from wheelcache.errors import ExitCode, ProjectFileError
from wheelcache.programs import run_program

needs_compose = pytest.mark.skipif(shutil.which("docker") is None, reason="no docker client on PATH")

FULL = """
name: shop
services:
  zeta:
    build:
      context: web
      dockerfile: docker/Dockerfile.prod
      target: final
      args: {A: "1 $$x $${y}", ONLY_FROM_ENVIRONMENT: , C: "${FROM_ENV_FILE:-x}"}
      labels: [x=y]
      network: none
      additional_contexts: {shared: ./web, base: docker-image://x}
      extra_hosts: ["h:10.0.0.1"]
      shm_size: 2gb
      secrets: [tok, {source: env, target: e2}]
      platforms: [linux/amd64]
      cache_from: [type=inline]
      cache_to: [type=inline]
      no_cache: true
      pull: true
      privileged: true
      tags: ["a/b:c"]
      ulimits: {nofile: {soft: 1, hard: 2}, nproc: 3}
  # alpha comes second
  alpha: {build: web, command: run --all, entrypoint: [sh, start.sh], healthcheck: {test: [CMD, /bin/ok]}}
  inline:
    image: a/inline:1
    build: {context: ., dockerfile_inline: "FROM scratch\\n"}
  db: {image: postgres}
  gpu: {build: web, profiles: [gpu]}
secrets:
  tok: {file: "./to,k"}
  env: {environment: TOKEN}
"""


def read(folder: Path, text: str, **options: object) -> tuple[ComposeService, ...]:
    file = folder / "compose.yml"
    file.write_text(text)
    return read_compose([file], run=run_program, **options)  # type: ignore[arg-type]


@needs_compose
def test_services_come_with_all_that_their_build_sections_say(tmp_path: Path) -> None:
    zeta, alpha, inline = read(tmp_path, FULL)
    assert zeta == ComposeService(
        name="zeta",
        project="shop",
        image="shop-zeta",
        context=tmp_path / "web",
        dockerfile="docker/Dockerfile.prod",
        target="final",
        args={"A": "1 $x ${y}", "C": "x"},
        labels={"x": "y"},
        network="none",
        additional_contexts={"shared": str(tmp_path / "web"), "base": "docker-image://x"},
        extra_hosts=("h=10.0.0.1",),
        shm_size="2147483648",
        ulimits=("nofile=1:2", "nproc=3"),
        secrets=(f'id=tok,"src={tmp_path}/to,k"', "id=e2,env=TOKEN"),
        platforms=("linux/amd64",),
        cache_from=("type=inline",),
        cache_to=("type=inline",),
        tags=("a/b:c",),
        pull=True,
        ignored=("no_cache", "privileged"),
    )
    assert (alpha.name, alpha.dockerfile, alpha.ignored) == ("alpha", "Dockerfile", ())
    assert alpha.started == ("sh", "start.sh", "run", "--all", "CMD", "/bin/ok")
    assert (inline.image, inline.dockerfile, inline.dockerfile_inline) == ("a/inline:1", None, "FROM scratch\n")


@needs_compose
def test_services_of_a_profile_come_only_when_it_is_named(tmp_path: Path) -> None:
    names = [service.name for service in read(tmp_path, FULL, profiles=["gpu"])]
    assert names == ["zeta", "alpha", "inline", "gpu"]


@needs_compose
def test_the_env_file_fills_in_variables(tmp_path: Path) -> None:
    (tmp_path / "staging.env").write_text("FROM_ENV_FILE=filled\n")
    assert read(tmp_path, FULL, env_file=tmp_path / "staging.env")[0].args["C"] == "filled"


@needs_compose
def test_equal_build_sections_have_equal_identities(tmp_path: Path) -> None:
    text = """
services:
  web: {image: a, command: serve, build: {context: x, args: {B: "2", A: "1"}}}
  worker: {image: b, build: {context: x, args: {A: "1", B: "2"}}}
  other: {image: c, build: {context: x, args: {A: "2"}}}
"""
    web, worker, other = read(tmp_path, text)
    assert web.build_identity == worker.build_identity != other.build_identity
    assert hash(web.build_identity)


@needs_compose
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("services: {a: {bild: x}}", "bild"),
        ("services: {a: {image: x, command: '${NOT_SET_ANYWHERE:?say it}'}}", "NOT_SET_ANYWHERE"),
        ("services: {a: [", "yaml"),
        ("services: {a: {build: x, image: i, env_file: [absent.env]}}", "absent.env"),
        ("services: {db: {image: postgres}}", "found none among db"),
        ("services: {a: {build: https://user:hunter2@git.example/x.git}}", "services.a.build.context"),
        ("services: {a: {build: {context: ., secrets: [s]}}}\nsecrets: {s: {external: true}}", "secrets: s"),
    ],
)
def test_what_cannot_be_taken_is_an_error_of_the_file_with_its_reason(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ProjectFileError, match=words) as caught:
        read(tmp_path, text)
    assert str(tmp_path / "compose.yml") in caught.value.message
    assert caught.value.hint
    assert "hunter2" not in caught.value.message


@needs_compose
def test_a_value_that_compose_quotes_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(ProjectFileError, match="interpolation") as caught:
        read(tmp_path, "services: {a: {image: x, environment: {PASSWORD: 'hunter2${oops-'}}}")
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in str(caught.value.facts)


def test_a_missing_file_is_named_with_its_key(tmp_path: Path) -> None:
    with pytest.raises(ProjectFileError, match=r"absent\.yml") as caught:
        read_compose([tmp_path / "absent.yml"], run=run_program)
    assert "`compose`" in caught.value.hint
    (tmp_path / "c.yml").write_text("")
    with pytest.raises(ProjectFileError, match=r"absent\.env") as caught:
        read_compose([tmp_path / "c.yml"], env_file=tmp_path / "absent.env", run=run_program)
    assert "`compose-env-file`" in caught.value.hint


def test_without_docker_the_engine_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match="docker") as caught:
        read(tmp_path, FULL)
    assert caught.value.exit_code is ExitCode.ENGINE


@pytest.mark.parametrize(
    "words",
    ["docker: unknown command: docker compose", "unknown flag: --file", "docker: 'compose' is not a docker command."],
)
def test_a_docker_client_without_compose_is_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    client = tmp_path / "docker"
    client.write_text(f'#!/bin/sh\necho "{words}" >&2\nexit 1\n')
    client.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(EngineError, match="compose plugin"):
        read(tmp_path, FULL)
