"""Makes the shared base: a base image plus the heavy wheels that several services have in common."""

from __future__ import annotations

import json
import platform
import sys
import tempfile
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Final

from builders.attempt import Builder
from builders.commands import BuildRequest
from builders.engine import Engine
from builders.enginevalues import ImageConfig
from builders.errors import BuildError, EngineError, RefusedError
from builders.plan import order_of_change
from wheelcache.digest import digest_of_json, hex_of
from wheelcache.lock import LockedWheel
from wheelcache.store import Store
from wheelcache.views import make_view

REPOSITORY: Final = "wheelcache/base"

_GROUND: Final = "wheelcache/ground"
_RULES: Final = 1
"""Part of every key: raised when the same wheels are to be installed differently."""

_GROUPS: Final = {0: "cuda", 1: "others", 2: "torch", 3: "small"}
"""The folders of what `order_of_change` ranks; a layer each."""
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
    find_uv: Callable[[ImageConfig, Sequence[LockedWheel]], Path | None] = usable_uv,
) -> SharedBase:
    """Returns the shared base of *base* and *wheels*, made when the engine does not have it.

    The wheels are installed in the order of their change, a layer for each group, so that another torch leaves CUDA's
    libraries where they are. They are installed by name and without their dependencies: what the lockfile says is
    complete, and an install by path would leave a `direct_url.json` behind (PEP 610).

    Args:
        engine: has the base image.
        store: holds the wheels.
        base: the reference of the base image.
        wheels: what it is to hold beside.
        builder: runs the build.
        interpreter: the Python in the base that gets them; empty for the first one on its PATH.
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
    ref = shared_base_ref(config.image_id, ordered, interpreter=interpreter)
    key = ref.rpartition(":")[2]
    found = engine.image_config(ref)
    if found is not None:
        return SharedBase(ref=ref, image_id=found.image_id, built=False, seconds=0.0, sent=0, size=found.size)
    groups = {
        _GROUPS[rank]: tuple(group) for rank, group in groupby(ordered, key=lambda wheel: order_of_change(wheel)[0])
    }
    view = make_view(
        store,
        key,
        [(PurePosixPath(name, wheel.filename), wheel) for name, group in groups.items() for wheel in group],
        {},
    )
    uv = find_uv(config, ordered)
    # A tag of this run's own, which no other run takes away under it.
    ground, context = f"{_GROUND}:{key}-{uuid.uuid4().hex[:12]}", f"wheelcache-heavy-{key}"
    engine.tag(config.image_id, ground)
    try:
        with tempfile.TemporaryDirectory(prefix="wheelcache-base-") as scratch:
            dockerfile = Path(scratch) / "Dockerfile"
            text = base_dockerfile(
                ground, groups, context=context, user=config.user, interpreter=interpreter, has_uv=uv is not None
            )
            dockerfile.write_text(text, encoding="utf-8")
            contexts = {context: str(view)} | ({_UV: str(uv.parent)} if uv is not None else {})
            request = BuildRequest(context=view, dockerfile=dockerfile, tags=[ref], build_contexts=contexts)
            outcome = builder.build("shared-base", lambda _attempt: request, has_network=lambda _step: False)
    finally:
        with suppress(EngineError):  # a name too many harms nobody; what was built counts
            engine.remove_image(ground)
        engine.forget_context(context)
    made = engine.image_config(ref)
    if outcome.failure is not None or made is None:
        words = outcome.failure.message if outcome.failure is not None else "no image came of it"
        raise BuildError(
            f"the shared base of {base} could not be built: {words} (log: {outcome.log})",
            hint=outcome.failure.hint if outcome.failure is not None else "look at the log",
            fault=outcome.failure.fault if outcome.failure is not None else "unknown",
        )
    return SharedBase(
        ref=ref, image_id=made.image_id, built=True, seconds=outcome.seconds, sent=outcome.sent, size=made.size
    )


def shared_base_ref(image_id: str, wheels: Sequence[LockedWheel], *, interpreter: str = "") -> str:
    """Returns the reference of the shared base of a base image and wheels; arguments as for its making."""
    ordered = sorted(wheels, key=order_of_change)
    content = [_RULES, image_id, interpreter, [[wheel.filename, wheel.digest] for wheel in ordered]]
    return f"{REPOSITORY}:{hex_of(digest_of_json(content))[:32]}"


def base_dockerfile(
    ground: str,
    groups: Mapping[str, Sequence[LockedWheel]],
    *,
    context: str,
    user: str,
    interpreter: str,
    has_uv: bool,
) -> str:
    """Returns the Dockerfile of a shared base; its commands are in exec form, since the base may lack a shell.

    Args:
        ground: the reference of the base image.
        groups: wheels by the name of their folder, in the order of their installation.
        context: the named context that has those folders.
        user: the base image's own user, whom the shared base keeps; empty for root.
        interpreter: the Python that gets the wheels; empty for the first one on PATH.
        has_uv: False where the base's own pip installs them.
    """
    is_root = user.partition(":")[0] in ("", "0", "root")
    lines = [f"FROM {ground}", *([] if is_root else ["USER 0"])]
    for name, wheels in groups.items():
        mounts = [f"--mount=type=bind,from={context},source=/{name},target=/wheelcache"]
        if has_uv:
            mounts.append(f"--mount=type=bind,from={_UV},source=/uv,target=/wheelcache-uv")
        command = _uv_install(interpreter) if has_uv else _pip_install(interpreter)
        command += [f"{wheel.name}=={wheel.version}" for wheel in wheels]
        lines.append(f"RUN --network=none {' '.join(mounts)} {json.dumps(command)}")
    if not is_root:
        lines.append(f"USER {user}")
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
