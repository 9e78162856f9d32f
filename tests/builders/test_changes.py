"""Why a service is built anew."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from builders.changes import changes
from wheelcache.runs import Basis

BEFORE = Basis(
    dockerfile="d1",
    files={"requirements.txt": "r1", "constraints.txt": "c1"},
    wheels={"numpy": ("2.1.0", "n1"), "foo": ("1.0", "f1"), "torch": ("2.8.0", "t1")},
    bases={"python:3.11-slim": "sha256:" + "a" * 64},
    arguments={"A": "1", "B": "2"},
    shared=("torch",),
    mode="sealed",
    revision="c" * 40,
)
OTHER_WHEELS = {"numpy": ("2.2.0", "n2"), "httpx": ("0.28.1", "h1"), "torch": ("2.8.0", "t1")}


def test_nothing_changed() -> None:
    assert changes(BEFORE, BEFORE) == ()


@pytest.mark.parametrize(
    ("news", "told"),
    [
        (
            {"files": {**BEFORE.files, "requirements.txt": "r2"}, "wheels": OTHER_WHEELS},
            "requirements.txt changed: + httpx 0.28.1, ~ numpy 2.1.0 → 2.2.0, - foo 1.0",
        ),
        ({"files": {**BEFORE.files, "requirements.txt": "r2"}}, "requirements.txt changed (the same wheels)"),
        ({"wheels": OTHER_WHEELS}, "lockfile changed: + httpx 0.28.1, ~ numpy 2.1.0 → 2.2.0, - foo 1.0"),
        (
            {"wheels": {**BEFORE.wheels, "torch": ("2.8.0", "t2")}},
            "lockfile changed: ~ torch 2.8.0 (another file)",
        ),
        ({"dockerfile": "d2"}, "Dockerfile changed"),
        (
            {"dockerfile": "d2", "files": {"requirements.txt": "r2", "constraints.txt": "c2"}},
            "constraints.txt, requirements.txt and Dockerfile changed (the same wheels)",
        ),
        (
            {"dockerfile": "d2", "files": {}, "wheels": {}, "shared": ()},
            "Dockerfile changed: - foo 1.0, - numpy 2.1.0, - torch 2.8.0",
        ),
        (
            {"bases": {"python:3.11-slim": "sha256:" + "b" * 64}},
            "base image python:3.11-slim changed: sha256:aaaaaaaaaaaa… → sha256:bbbbbbbbbbbb…",
        ),
        ({"bases": {"python:3.12": "sha256:1"}}, "base image changed: python:3.11-slim → python:3.12"),
        ({"bases": {}}, "base image changed: python:3.11-slim → none"),
        ({"arguments": {"A": "9", "C": "3"}}, "build arguments changed: A, B, C"),
        ({"shared": ()}, "comes with the shared base no more: torch"),
        ({"shared": ("foo", "torch")}, "comes with the shared base now: foo"),
        ({"mode": "online"}, "mode: sealed → online"),
        ({"stage": "test"}, "stage: the last → test"),
        ({"revision": "d" * 40}, "commit: cccccccccccc → dddddddddddd"),
    ],
)
def test_a_change_is_a_sentence(news: dict[str, Any], told: str) -> None:
    assert changes(BEFORE, replace(BEFORE, **news)) == (told,)


def test_a_dockerfile_is_called_as_it_is() -> None:
    told = changes(BEFORE, replace(BEFORE, dockerfile="d2"), dockerfile="Dockerfile.gpu")
    assert told == ("Dockerfile.gpu changed",)


def test_many_wheels_are_counted() -> None:
    (told,) = changes(BEFORE, replace(BEFORE, wheels={f"p{n:02}": ("1", "x") for n in range(20)}))
    assert told.startswith("lockfile changed: + p00 1, + p01 1, ")
    assert told.endswith("+ p11 1, and 11 more")


def test_a_wheel_that_left_the_lockfile_is_not_told_of_twice() -> None:
    now = replace(BEFORE, wheels={"numpy": ("2.1.0", "n1"), "foo": ("1.0", "f1")}, shared=())
    assert changes(BEFORE, now) == ("lockfile changed: - torch 2.8.0",)
