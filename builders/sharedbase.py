"""Makes the shared base: a base image plus the heavy wheels that several services have in common."""

from __future__ import annotations

import json
import platform
import sys
import tempfile
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import groupby, takewhile
from pathlib import Path, PurePosixPath
from typing import Final

from builders.attempt import Builder
from builders.commands import BuildRequest
from builders.engine import Engine
from builders.enginevalues import ImageConfig
from builders.errors import BuildError, EngineError, RefusedError
from builders.plan import order_of_change
from builders.registrycache import NO_CACHE, RegistryCache
from wheelcache.digest import digest_of_json, hex_of
from wheelcache.lock import LockedWheel
from wheelcache.store import Store
from wheelcache.views import make_view

REPOSITORY: Final = "wheelcache/base"

_GROUND: Final = "wheelcache/ground"
_RULES: Final = 2
"""Part of every key: raised when the same wheels are to be installed differently."""

_UV: Final = "wheelcache-uv"
_ARCHITECTURES: Final = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedBase:
    """A shared base that the engine has.

    Attributes:
        ref: its reference; the tag stands for the base image's id and the wheels.
        image_id: its id.
        built: False when it was there.
        seconds: that it took to make.
        sent: bytes sent to the engine for it.
        size: bytes of the image, those of its base included.
    """

    ref: str
    image_id: str
    built: bool
    seconds: float
    sent: int
    size: int


def usable_uv(config: ImageConfig, wheels: Sequence[LockedWheel]) -> Path | None:
    """Returns this machine's uv where it runs in the image (same system, architecture, C library); else None."""
    architecture = config.platform.split("/")[1:2]
    is_same = sys.platform == "linux" and [_ARCHITECTURES.get(platform.machine().lower())] == architecture
    if not is_same or any("musllinux" in wheel.filename for wheel in wheels):
        return None
    from uv import find_uv_bin  # noqa: PLC0415 - needed only here

    try:
        return Path(find_uv_bin())
    except FileNotFoundError:
        return None


def ensure_shared_base(
    engine: Engine,
    store: Store,
    *,
    base: str,
    wheels: Sequence[LockedWheel],
    builder: Builder,
    interpreter: str = "",
    cache: RegistryCache = NO_CACHE,
    find_uv: Callable[[ImageConfig, Sequence[LockedWheel]], Path | None] = usable_uv,
) -> SharedBase:
    """Returns the shared base of *base* and *wheels*, made when the engine does not have it.

    It is the last of a chain of images, one for each group of wheels in the order of their change: so with another
    torch CUDA's libraries are neither sent nor installed again. Wheels are installed by name and without their
    dependencies: what the lockfile says is complete, and an install by path would leave a `direct_url.json` behind
    (PEP 610).

    Args:
        engine: has the base image.
        store: holds the wheels.
        base: the reference of the base image.
        wheels: what it is to hold beside.
        builder: runs the build.
        interpreter: the Python in the base that gets them; empty for the first one on its PATH.
        cache: where to look for what another machine made of it, and to leave what is made here.
        find_uv: returns the uv that installs them; where there is none, the base's own pip does.

    Raises:
        RefusedError: the base has ONBUILD triggers, which would run now rather than in the services' builds.
        StoreError: the store lacks a wheel.
        BuildError: the base image is not in the engine, or the build failed.
    """
    config = engine.image_config(base)
    if config is None:
        raise BuildError(f"{base}: not in the engine", hint=f"docker pull {base}", fault="missing-image")
    if config.onbuild:
        raise RefusedError(
            f"{base} has ONBUILD triggers ({config.onbuild[0]}), which would run while the shared base is built",
            hint="its services need wheels of their own",
        )
    ordered = sorted(wheels, key=order_of_change)
    chain = list(
        zip(shared_base_refs(config.image_id, ordered, interpreter=interpreter), _groups(ordered), strict=True)
    )
    below = SharedBase(ref=base, image_id=config.image_id, built=False, seconds=0.0, sent=0, size=config.size)
    missing = []
    for ref, group in reversed(chain):
        found = engine.image_config(ref)
        if found is not None and not cache.lacks(_cache_name(ref), run=builder.run, environ=builder.environ):
            below = replace(below, ref=ref, image_id=found.image_id, size=found.size)
            break
        missing.append((ref, group))
    if not missing:
        return below
    uv = find_uv(config, ordered)
    for ref, group in reversed(missing):
        layer = _Layer(ref=ref, wheels=group, user=config.user, interpreter=interpreter, uv=uv, cache=cache)
        below = layer.put_on(below, engine, store, builder=builder, base=base)
    return below


def shared_base_refs(image_id: str, wheels: Sequence[LockedWheel], *, interpreter: str = "") -> tuple[str, ...]:
    """Returns the references of a shared base's chain of images, itself the last; arguments as for its making."""
    refs, below = [], list[LockedWheel]()
    for group in _groups(sorted(wheels, key=order_of_change)):
        below += group
        content = [_RULES, image_id, interpreter, [[wheel.filename, wheel.digest] for wheel in below]]
        refs.append(f"{REPOSITORY}:{hex_of(digest_of_json(content))[:32]}")
    return tuple(refs)


def missing_groups(
    engine: Engine, image_id: str, wheels: Sequence[LockedWheel]
) -> list[tuple[str, tuple[LockedWheel, ...]]]:
    """Returns what of a shared base's chain is not in the engine: references, and the wheels that each adds."""
    ordered = sorted(wheels, key=order_of_change)
    chain = list(zip(shared_base_refs(image_id, ordered), _groups(ordered), strict=True))
    return list(takewhile(lambda link: engine.image_id(link[0]) is None, reversed(chain)))


def _cache_name(ref: str) -> str:
    return f"base-{ref.rpartition(':')[2]}"


def _groups(ordered: Sequence[LockedWheel]) -> list[tuple[LockedWheel, ...]]:
    """Returns wheels in groups that change together."""
    return [tuple(group) for _, group in groupby(ordered, key=lambda wheel: order_of_change(wheel)[0])]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Layer:
    """One image of the chain.

    Attributes:
        ref: its reference.
        wheels: what it adds.
        user: the base image's own user.
        interpreter: the Python that gets them; empty for the first one on PATH.
        uv: installs them; None for the base's own pip.
        cache: in registries.
    """

    ref: str
    wheels: tuple[LockedWheel, ...]
    user: str
    interpreter: str
    uv: Path | None
    cache: RegistryCache

    def put_on(self, below: SharedBase, engine: Engine, store: Store, *, builder: Builder, base: str) -> SharedBase:
        """Builds it on another image; returns it, with what both cost.

        Raises:
            BuildError: the build failed.
            StoreError: the store lacks a wheel.
        """
        key = self.ref.rpartition(":")[2]
        view = make_view(store, key, [(PurePosixPath(wheel.filename), wheel) for wheel in self.wheels], {})
        # A tag of this run's own, which no other run takes away under it.
        ground, context = f"{_GROUND}:{key}-{uuid.uuid4().hex[:12]}", f"wheelcache-heavy-{key}"
        engine.tag(below.image_id, ground)
        try:
            with tempfile.TemporaryDirectory(prefix="wheelcache-base-") as scratch:
                dockerfile = Path(scratch) / "Dockerfile"
                text = base_dockerfile(
                    ground,
                    self.wheels,
                    context=context,
                    user=self.user,
                    interpreter=self.interpreter,
                    has_uv=self.uv is not None,
                )
                dockerfile.write_text(text, encoding="utf-8")
                contexts = {context: str(view)} | ({_UV: str(self.uv.parent)} if self.uv is not None else {})
                request = BuildRequest(
                    context=view,
                    dockerfile=dockerfile,
                    tags=[self.ref],
                    build_contexts=contexts,
                    cache_from=self.cache.sources_of(_cache_name(self.ref)),
                    cache_to=self.cache.targets_of(_cache_name(self.ref)),
                )
                outcome = builder.build("shared-base", lambda _attempt: request, has_network=lambda _step: False)
        finally:
            with suppress(EngineError):  # a name too many harms nobody; what was built counts
                engine.remove_image(ground)
            if any(wheel.is_heavy for wheel in self.wheels):  # a second or more, which a few megabytes are not worth
                engine.forget_context(context)
        made = engine.image_config(self.ref)
        if outcome.failure is not None or made is None:
            words = outcome.failure.message if outcome.failure is not None else "no image came of it"
            raise BuildError(
                f"the shared base of {base} could not be built: {words} (log: {outcome.log})",
                hint=outcome.failure.hint if outcome.failure is not None else "look at the log",
                fault=outcome.failure.fault if outcome.failure is not None else "unknown",
            )
        return SharedBase(
            ref=self.ref,
            image_id=made.image_id,
            built=True,
            seconds=below.seconds + outcome.seconds,
            sent=below.sent + outcome.sent,
            size=made.size,
        )


def base_dockerfile(
    ground: str,
    wheels: Sequence[LockedWheel],
    *,
    context: str,
    user: str,
    interpreter: str,
    has_uv: bool,
) -> str:
    """Returns the Dockerfile of one image of a shared base; its command is in exec form, since there may be no shell.

    Args:
        ground: the reference of the image below.
        wheels: what it adds.
        context: the named context that has those wheels.
        user: the base image's own user, whom the shared base keeps; empty for root.
        interpreter: the Python that gets the wheels; empty for the first one on PATH.
        has_uv: False where the base's own pip installs them.
    """
    is_root = user.partition(":")[0] in ("", "0", "root")
    mounts = [f"--mount=type=bind,from={context},target=/wheelcache"]
    if has_uv:
        mounts.append(f"--mount=type=bind,from={_UV},source=/uv,target=/wheelcache-uv")
    command = _uv_install(interpreter) if has_uv else _pip_install(interpreter)
    command += [f"{wheel.name}=={wheel.version}" for wheel in wheels]
    run = f"RUN --network=none {' '.join(mounts)} {json.dumps(command)}"
    lines = [f"FROM {ground}", run] if is_root else [f"FROM {ground}", "USER 0", run, f"USER {user}"]
    return "\n".join(lines) + "\n"


def _uv_install(interpreter: str) -> list[str]:
    return [
        "/wheelcache-uv",
        "pip",
        "install",
        "--no-config",
        *(["--python", interpreter] if interpreter else ["--system"]),
        "--break-system-packages",
        "--compile-bytecode",
        "--no-deps",
        "--no-index",
        "--no-cache",
        # From uv's own temporary cache, which is in the same layer: a second copy of 6 GB took as long as unpacking.
        "--link-mode=hardlink",
        "--find-links=/wheelcache",
    ]


def _pip_install(interpreter: str) -> list[str]:
    return [
        "env",
        "PIP_CONFIG_FILE=/dev/null",
        # PEP 668; as an option it would stop a pip that does not know it.
        "PIP_BREAK_SYSTEM_PACKAGES=1",
        interpreter or "python3",
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--no-deps",
        "--no-index",
        "--no-cache-dir",
        "--find-links=/wheelcache",
    ]
