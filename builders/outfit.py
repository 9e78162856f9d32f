"""What a service's build is given beside its own files: its shared base, its wheels, its settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from builders.attempt import Builder
from builders.elsewhere import Elsewhere
from builders.engine import Engine
from builders.errors import BuildError, EngineError
from builders.preparing import Prepared
from builders.registrycache import NO_CACHE, RegistryCache
from builders.sharedbase import SharedBase, ensure_shared_base, shared_base_refs
from builders.wheelimage import WheelImage, ensure_wheel_image, wheel_image_ref
from builders.workspace import Dressing
from wheelcache.config import BuildConfig, IndexConfig
from wheelcache.events import Sink
from wheelcache.store import Store

Bases = dict[tuple[str, ...], SharedBase | BuildError]
"""What came of each shared base in this run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Workshop:
    """Everything that builds are made with.

    Attributes:
        engine: holds the images.
        store: holds the wheels.
        builder: runs buildx.
        settings: the project's `[build]`.
        indexes: for online builds.
        offline: True when no step may have a network.
        emit: takes what happens.
        tags: that each image gets beside its own references, in each of its repositories.
        is_pushed: True where images go to their registries once they are checked.
        cache: where builds look for cache in registries, and leave it.
        elsewhere: the builder of services' images; None for the engine itself.
    """

    engine: Engine
    store: Store
    builder: Builder
    settings: BuildConfig
    indexes: Sequence[IndexConfig]
    offline: bool
    emit: Sink
    tags: tuple[str, ...] = ()
    is_pushed: bool = False
    cache: RegistryCache = NO_CACHE
    elsewhere: Elsewhere | None = None


def dress(
    prepared: Prepared,
    *,
    settings: BuildConfig,
    indexes: Sequence[IndexConfig],
    offline: bool,
    labels: Mapping[str, str],
    cache: RegistryCache = NO_CACHE,
) -> Dressing:
    """Returns what a build of a service gets; its images, whose references stand for their content, need not exist yet.

    Args:
        prepared: the service.
        settings: the project's `[build]`.
        indexes: for an online build.
        offline: True when no step may have a network.
        labels: of the image.
        cache: where to look for cache in registries, and to leave it.
    """
    base = shared_base_refs(prepared.base_id, prepared.shared.wheels)[-1] if prepared.shared is not None else ""
    wheels = ""
    if _installs(prepared):
        wheels = wheel_image_ref(prepared.own_wheels, constraints=prepared.constraints, locks=prepared.uv_locks)
    compose = prepared.reading.service.compose
    network = compose.network if compose is not None else None
    return Dressing(
        reading=prepared.reading,
        mode=prepared.mode,
        offline=offline,
        network="none" if settings.network == "none" else network,
        wheels_image=wheels,
        overrides=dict.fromkeys(prepared.share.bases, base) if base else {},
        constraints=prepared.constraints,
        labels=labels,
        indexes=indexes,
        pip_timeout=settings.pip_timeout,
        pip_retries=settings.retries,
        cache_from=cache.sources_of(prepared.name),
        cache_to=cache.targets_of(prepared.name),
    )


def make_shared_base(prepared: Prepared, workshop: Workshop, bases: Bases) -> SharedBase | None:
    """Returns the shared base of a service, made on first use; what failed once is not tried for each service again.

    Raises:
        StoreError: the store lacks a wheel.
        BuildError: it could not be made.
    """
    shared = prepared.shared
    if shared is None:
        return None
    key = (*shared.ground, *(wheel.digest for wheel in shared.wheels))
    known = bases.get(key)
    if isinstance(known, BuildError):
        raise known
    if known is not None:
        # What it cost was counted with the service that it was made for.
        return replace(known, built=False, sent=0, seconds=0.0)
    try:
        made = ensure_shared_base(
            workshop.engine,
            workshop.store,
            base=prepared.base,
            wheels=shared.wheels,
            builder=workshop.builder,
            cache=workshop.cache if workshop.elsewhere is None else NO_CACHE,
        )
    except EngineError:
        raise
    except BuildError as error:
        bases[key] = error
        raise
    bases[key] = made
    return made


def make_wheel_image(prepared: Prepared, workshop: Workshop) -> WheelImage | None:
    """Returns the image of what a service installs itself; None where it installs nothing.

    Raises:
        StoreError: the store lacks a wheel.
        BuildError: it could not be made.
    """
    if not _installs(prepared):
        return None
    return ensure_wheel_image(
        workshop.engine,
        workshop.store,
        prepared.own_wheels,
        constraints=prepared.constraints,
        locks=prepared.uv_locks,
        builder=workshop.builder,
    )


def _installs(prepared: Prepared) -> bool:
    return bool(prepared.reading.installs)
