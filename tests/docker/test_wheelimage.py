"""Wheels reach the engine once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.wheels import MadeWheel, make_wheel

from builders.attempt import Builder
from builders.engine import Engine
from builders.wheelimage import WheelImage, ensure_wheel_image
from wheelcache.errors import StoreError
from wheelcache.lock import LockedWheel
from wheelcache.store import Store

pytestmark = pytest.mark.engine

Put = Callable[[MadeWheel], LockedWheel]


@pytest.fixture
def ensure(engine: Engine, store: Store, builder: Builder, made_images: list[str]) -> Callable[..., WheelImage]:
    def ensure(wheels: list[LockedWheel], constraints: list[str]) -> WheelImage:
        image = ensure_wheel_image(engine, store, wheels, constraints=constraints, locks={}, builder=builder)
        made_images.append(image.ref)
        return image

    return ensure


def test_wheels_are_sent_once_and_are_there_under_their_own_names(
    engine: Engine, stored: Put, ensure: Callable[..., WheelImage]
) -> None:
    made = [make_wheel("demo-one", size=50_000), make_wheel("demo-two", size=60_000)]
    wheels = [stored(wheel) for wheel in made]
    constraints = ["torch==2.8.0", "demo-one==1.0"]
    first = ensure(wheels, constraints)
    assert first.sent > 0
    files = dict(engine.files(first.ref, wanted=lambda path: path.startswith(("wheels/", "etc/pip", "etc/uv"))))
    assert files.pop("etc/pip.conf").count(b"no-index = true") == 1
    assert b'"demo-one==1.0", "torch==2.8.0"' in files.pop("etc/uv/uv.toml")
    assert files == {
        **{f"wheels/{wheel.filename}": wheel.data for wheel in made},
        "wheels/constraints.txt": b"demo-one==1.0\ntorch==2.8.0\n",
    }
    again = ensure(wheels[::-1], constraints[::-1])
    assert (again.ref, again.sent) == (first.ref, 0)


def test_wheels_of_one_name_and_other_bytes_are_another_image(
    engine: Engine, stored: Put, ensure: Callable[..., WheelImage]
) -> None:
    made = [make_wheel("demo", size=50_000, seed=seed) for seed in ("a", "b")]
    refs = [ensure([stored(wheel)], []).ref for wheel in made]
    contents = [dict(engine.files(ref, wanted=lambda path: path.endswith(".whl"))) for ref in refs]
    assert contents == [{f"wheels/{wheel.filename}": wheel.data} for wheel in made]


def test_a_wheel_that_is_not_in_the_store_is_an_error(engine: Engine, store: Store, builder: Builder) -> None:
    with pytest.raises(StoreError, match=r"demo-1\.0"):
        ensure_wheel_image(engine, store, [make_wheel().locked()], constraints=[], locks={}, builder=builder)
