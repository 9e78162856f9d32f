"""Base images, as services are decided about."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from builders.compose import ComposeService
from builders.engine import Engine
from builders.locking import LockedService
from builders.preparing import prepare
from builders.reading import read_service
from builders.services import Service

pytestmark = pytest.mark.engine


@pytest.fixture
def unreachable(engine: Engine, make_image: Callable[..., str]) -> Iterator[str]:
    """An image in the engine whose registry does not answer."""
    ref = "127.0.0.1:9/wheelcache-test/stale:1"
    engine.tag(make_image("FROM scratch\nCOPY app /app\n", {"app": "old"}), ref)
    yield ref
    engine.remove_image(ref)


def service(folder: Path, base: str, *, pull: bool) -> LockedService:
    (folder / "Dockerfile").write_text(f"FROM {base}\nLABEL x=y\n")
    compose = ComposeService(name="one", project="p", image="one:1", context=folder, dockerfile="Dockerfile", pull=pull)
    read = read_service(
        Service(name="one", images=("one:1",), context=folder, dockerfile=folder / "Dockerfile", compose=compose)
    )
    return LockedService(
        reading=read,
        path=folder / "pylock.one.toml",
        state="unchanged",
        reason="",
        lockfile=None,
        target=None,
        wheels=(),
    )


@pytest.mark.parametrize(
    ("pull", "offline", "refused"), [(True, False, True), (True, True, False), (False, False, False)]
)
def test_a_base_image_is_looked_for_anew_where_compose_says_so(
    engine: Engine, unreachable: str, tmp_path: Path, *, pull: bool, offline: bool, refused: bool
) -> None:
    (found,) = prepare([service(tmp_path, unreachable, pull=pull)], engine=engine, is_online=False, is_offline=offline)
    assert (found.refusal is not None) is refused
    if found.refusal is not None:
        assert unreachable in found.refusal.message
