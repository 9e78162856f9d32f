"""What an image holds already, told to a real uv and taken out of its answer again."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.server import Server
from support.wheels import make_wheel

from wheelcache.config import IndexConfig
from wheelcache.events import ignore
from wheelcache.installed import Installed, part_installed, read_installed
from wheelcache.locking import Locker
from wheelcache.resolve import Demand, Resolver, uv_program
from wheelcache.target import declared_target
from wheelcache.transport import Transport

TARGET = declared_target("3.11", "manylinux_2_28_x86_64")
NGC = "2.8.0a0+5228986c39.nv25.06"
WHEELS = [
    *(make_wheel("torch", version) for version in ("2.7.1", "2.8.0", "2.9.0")),
    *(make_wheel("numpy", version) for version in ("1.26.0", "2.2")),
    make_wheel("vision", "0.23", requires=("torch>=2.6", "numpy")),
    make_wheel("late", "1.0"),
]


@pytest.fixture
def locker(tmp_path: Path) -> Iterator[Locker]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("UV_", "PIP_"))}
    with Server() as server:
        server.put_index(WHEELS)
        resolver = Resolver(
            uv=uv_program(),
            indexes=(IndexConfig(name="main", url=f"{server.url}/simple/"),),
            environ={**kept, "UV_CACHE_DIR": str(tmp_path / "uv"), "UV_HTTP_RETRIES": "0"},
            stop=threading.Event(),
        )
        yield Locker(resolver=resolver, transport=lambda: Transport(timeout=5), emit=ignore)


def held(name: str, version: str, *requires: str, extras: tuple[str, ...] = ()) -> Installed:
    told = {"version": version, "requires": requires, "extras": extras}
    (installed,) = read_installed({name: told})
    return installed


NVIDIAS = (held("torch", NGC), held("numpy", "1.26.0"))
BROKEN = (held("torch", "2.5", "late", "numpy>=2"), held("numpy", "1.26.0"))
BUILT = held("built", "1", "late; extra == 'more'", extras=("more",))


@pytest.mark.parametrize(
    ("lines", "installed", "renewed", "fetched", "kept"),
    [
        (("vision",), (), (), {"vision": "0.23", "torch": "2.9.0", "numpy": "2.2"}, {}),
        (("vision",), NVIDIAS, (), {"vision": "0.23"}, {"torch": NGC, "numpy": "1.26.0"}),
        (("torch>=2.8",), NVIDIAS, (), {"torch": "2.9.0"}, {}),
        (("torch<2.8", "numpy"), NVIDIAS, (), {"torch": "2.7.1"}, {"numpy": "1.26.0"}),
        (("torch==2.8.0",), (held("torch", "2.8.0+cu128"),), (), {}, {"torch": "2.8.0+cu128"}),
        (("vision", "numpy"), NVIDIAS, ("numpy",), {"vision": "0.23", "numpy": "2.2"}, {"torch": NGC}),
        (("numpy<2",), NVIDIAS, ("numpy",), {}, {"numpy": "1.26.0"}),
        (("torch",), BROKEN, (), {"late": "1.0", "numpy": "2.2"}, {"torch": "2.5"}),
        (("built[more]",), (BUILT,), (), {"late": "1.0"}, {"built": "1"}),
    ],
)
def test_what_is_installed_serves_wherever_pip_would_keep_it(
    locker: Locker,
    *,
    lines: tuple[str, ...],
    installed: tuple[Installed, ...],
    renewed: tuple[str, ...],
    fetched: dict[str, str],
    kept: dict[str, str],
) -> None:
    demand = Demand(lines=lines, installed=installed, renewed=renewed)
    resolution = locker.resolve([demand], TARGET, preferences=None, upgrade=["torch"])
    assert {package["name"]: package["version"] for package in resolution.document["packages"]} == fetched
    assert resolution.kept == kept


def test_what_only_one_of_two_commands_finds_is_fetched_for_both(locker: Locker) -> None:
    sees = Demand(lines=("vision",), installed=NVIDIAS, sees_installed=True)
    resolution = locker.resolve([sees, Demand(lines=("torch",))], TARGET, preferences=None)
    assert {package["name"] for package in resolution.document["packages"]} == {"vision", "torch"}
    assert resolution.kept == {"numpy": "1.26.0"}


def test_two_images_with_two_versions_bring_neither(locker: Locker) -> None:
    demands = [Demand(lines=("torch",), installed=(held("torch", version),)) for version in ("2.8.0", "2.7.1")]
    resolution = locker.resolve(demands, TARGET, preferences=None)
    assert ([package["name"] for package in resolution.document["packages"]], resolution.kept) == (["torch"], {})


def test_what_no_resolver_understands_is_left_out() -> None:
    requires = ["ok>1", "<not a requirement>", "far @ https://x.test/far.whl"]
    found = {
        "ubuntu-thing": {"version": "0.0.0-ubuntu!", "requires": [], "extras": []},
        "odd": {"version": "1", "requires": requires, "extras": []},
    }
    assert read_installed(found) == (Installed(name="odd", version="1", requires=("ok>1", "far")),)


def test_versions_are_compared_by_meaning() -> None:
    document = {"packages": [{"name": "torch", "version": NGC.replace("06", "6")}, {"name": "other"}]}
    assert part_installed(document, NVIDIAS) == ({"packages": [{"name": "other"}]}, {"torch": NGC})
