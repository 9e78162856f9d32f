"""uv, asked about an index on loopback: what it is told, what it answers, how its reasons are shown."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.server import Respond, Serve, Server
from support.wheels import make_wheel

from wheelcache.config import IndexConfig
from wheelcache.errors import NetworkError, ResolveError
from wheelcache.programs import ProgramStoppedError
from wheelcache.resolve import Demand, Resolver, uv_program
from wheelcache.target import declared_target

TARGET = declared_target("3.11", "manylinux_2_28_x86_64")
TORCH = [make_wheel("torch", version, requires=("numpy",)) for version in ("1.0", "2.0", "3.0a1")]
NUMPY = [make_wheel("numpy", version) for version in ("1.0", "2.0")]
NATIVE = [
    make_wheel("native", "1.0", tag=f"cp{python}-cp{python}-{platform}")
    for python in ("311", "312")
    for platform in ("manylinux_2_17_x86_64", "win_amd64", "macosx_14_0_arm64")
]


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as started:
        started.put_index([*TORCH, *NUMPY, *NATIVE])
        yield started


@pytest.fixture
def resolver(server: Server, tmp_path: Path) -> Resolver:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("UV_", "PIP_"))}
    return Resolver(
        uv=uv_program(),
        indexes=(IndexConfig(name="main", url=f"{server.url}/simple/"),),
        environ={**kept, "UV_CACHE_DIR": str(tmp_path / "uv"), "UV_HTTP_RETRIES": "0"},
        stop=threading.Event(),
    )


def pins(document: dict) -> dict[str, str]:
    return {package["name"]: package["version"] for package in document["packages"]}


def test_the_newest_versions_are_chosen_with_their_hashes(resolver):
    document = resolver.resolve(Demand(lines=("torch",)), TARGET)

    assert pins(document) == {"torch": "2.0", "numpy": "2.0"}
    torch = next(package for package in document["packages"] if package["name"] == "torch")
    assert f"sha256:{torch['wheels'][0]['hashes']['sha256']}" == TORCH[1].digest


def test_preferred_versions_are_kept_where_they_can_be(resolver):
    older = resolver.resolve(Demand(lines=("torch==1.0", "numpy==1.0")), TARGET)

    assert pins(resolver.resolve(Demand(lines=("torch",)), TARGET, preferences=older)) == {
        "torch": "1.0",
        "numpy": "1.0",
    }
    assert pins(resolver.resolve(Demand(lines=("torch>=2",)), TARGET, preferences=older)) == {
        "torch": "2.0",
        "numpy": "1.0",
    }
    upgraded = resolver.resolve(Demand(lines=("torch",)), TARGET, preferences=older, upgrade=["Torch"])
    assert pins(upgraded) == {"torch": "2.0", "numpy": "1.0"}


def test_constraints_bound_without_asking_for_anything(resolver):
    demand = Demand(lines=("torch",), constraints=("numpy<2", "native==1.0"))
    assert pins(resolver.resolve(demand, TARGET)) == {"torch": "2.0", "numpy": "1.0"}


def test_prereleases_and_dependencies_are_as_demanded(resolver):
    assert pins(resolver.resolve(Demand(lines=("torch",), prereleases=True, no_deps=True), TARGET)) == {
        "torch": "3.0a1"
    }


def test_the_wheels_of_this_machine_do_not_matter(resolver):
    document = resolver.resolve(Demand(lines=("native",)), declared_target("3.12", "macosx_14_0_arm64"))
    names = {wheel.get("name", wheel["url"].rpartition("/")[2]) for wheel in document["packages"][0]["wheels"]}
    assert "native-1.0-cp312-cp312-macosx_14_0_arm64.whl" in names


def test_a_demand_may_name_an_index_of_its_own(resolver, server):
    own = server.put_index([make_wheel("torch", "9.0")], root="/own")
    assert pins(resolver.resolve(Demand(lines=("torch",), index_url=own), TARGET)) == {"torch": "9.0"}
    both = Demand(lines=("torch",), extra_index_urls=(server.url + "/own/",))
    assert pins(resolver.resolve(both, TARGET)) == {"torch": "9.0"}


def test_a_further_index_of_the_project_is_asked_first(resolver, server):
    """uv takes a project from the first index that has it, the default one being the last."""
    own = server.put_index([make_wheel("torch", "1.5")], root="/own")
    two = replace(resolver, indexes=(*resolver.indexes, IndexConfig(name="own", url=own)))
    assert pins(two.resolve(Demand(lines=("torch",)), TARGET)) == {"torch": "1.5"}


def test_no_solution_is_a_resolve_error_with_uvs_reason(resolver):
    with pytest.raises(ResolveError, match=r"you require torch>=9") as caught:
        resolver.resolve(Demand(lines=("torch>=9",)), TARGET)

    assert "wheelcache-lock-" not in caught.value.message
    assert not caught.value.message.startswith("error:")


def test_a_project_without_fitting_wheels_says_so(resolver):
    with pytest.raises(ResolveError, match="a project has no wheel for the target"):
        resolver.resolve(Demand(lines=("native",)), declared_target("3.13", "manylinux_2_28_x86_64"))


@pytest.mark.parametrize("status", [500, 503])
def test_an_index_that_fails_is_a_network_error_not_a_missing_project(resolver, server, status):
    server.script("/simple/torch/", then=Respond(status=status))
    with pytest.raises(NetworkError, match="the package index did not answer"):
        resolver.resolve(Demand(lines=("torch",)), TARGET)


def test_an_index_that_hangs_is_given_up_after_the_timeout(resolver, server):
    server.script("/simple/torch/", then=Serve(delay=30))
    with pytest.raises(NetworkError, match="the package index did not answer"):
        replace(resolver, timeout=1).resolve(Demand(lines=("torch",)), TARGET)


def test_credentials_of_an_index_are_used_and_not_repeated(resolver, server):
    url = f"{server.url}/simple/".replace("//", "//me:se-cret@")
    with_password = replace(resolver, indexes=(IndexConfig(name="main", url=url),))
    assert "se-cret" not in str(with_password.resolve(Demand(lines=("torch",)), TARGET))
    assert any("authorization" in request.headers for request in server.requests)

    with pytest.raises(ResolveError) as caught:
        with_password.resolve(Demand(lines=("torch>=9",)), TARGET)
    assert "se-cret" not in caught.value.message

    server.script("/simple/numpy/", then=Respond(status=500))
    with pytest.raises(NetworkError) as failed:
        with_password.resolve(Demand(lines=("numpy",)), TARGET)
    assert "se-cret" not in failed.value.message


def test_an_interruption_ends_uv(resolver, server):
    server.script("/simple/torch/", then=Serve(delay=30))
    threading.Timer(0.5, resolver.stop.set).start()
    with pytest.raises(ProgramStoppedError):
        resolver.resolve(Demand(lines=("torch",)), TARGET)
