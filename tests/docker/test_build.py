"""A service's build, from what was decided to its image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from builders.attempt import Builder
from builders.build import build_services
from builders.compose import ComposeService
from builders.engine import Engine
from builders.locking import LockedService
from builders.outfit import Workshop
from builders.preparing import prepare
from builders.reading import read_service
from builders.services import Service
from wheelcache.config import BuildConfig
from wheelcache.events import Event, Note
from wheelcache.store import Store

pytestmark = pytest.mark.engine


def test_compose_keys_that_are_not_obeyed_are_named(
    engine: Engine, store: Store, builder: Builder, spare_ref: Callable[[], str], tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    compose = ComposeService(
        name="one",
        project="p",
        image=spare_ref(),
        context=tmp_path,
        dockerfile="Dockerfile",
        ignored=("no_cache", "privileged"),
    )
    service = Service(
        name="one", images=(compose.image,), context=tmp_path, dockerfile=tmp_path / "Dockerfile", compose=compose
    )
    locked = LockedService(
        reading=read_service(service),
        path=tmp_path / "pylock.one.toml",
        state="unchanged",
        reason="",
        lockfile=None,
        target=None,
        wheels=(),
    )
    events: list[Event] = []
    workshop = Workshop(
        engine=engine,
        store=store,
        builder=builder,
        settings=BuildConfig(),
        indexes=(),
        offline=True,
        emit=events.append,
    )
    (result,) = build_services(prepare([locked], engine=engine, is_online=False, is_offline=True), workshop)
    assert result.failure is None
    warnings = [event.message for event in events if isinstance(event, Note) and event.level == "warning"]
    assert warnings == ["one: not obeyed of its compose build: no_cache, privileged"]
