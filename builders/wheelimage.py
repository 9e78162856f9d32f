"""Brings wheels to the engine as an image that builds mount: sent once, whatever mounts it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from builders.attempt import Builder
from builders.commands import BuildRequest
from builders.engine import Engine
from builders.errors import BuildError
from builders.pipconf import PIP_CONF, UV_TOML, pip_conf, uv_toml
from wheelcache.digest import digest_of_json, hex_of
from wheelcache.lock import LockedWheel
from wheelcache.store import Store
from wheelcache.views import make_view

REPOSITORY: Final = "wheelcache/wheels"
FOLDER: Final = "/wheels"
CONSTRAINTS: Final = "constraints.txt"

_TIMEOUT: Final = 15.0
"""pip's own default, in seconds; nothing is waited for where no index is asked."""

_FORM: Final = 2
"""Part of every key: raised when an image of the same wheels is to be laid out differently."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WheelImage:
    """An image that holds wheels and their constraints in `/wheels`, and pip's and uv's configurations for them.

    Attributes:
        ref: its reference; the tag stands for the content.
        sent: bytes sent to the engine for it; 0 when it was there.
        seconds: that it took to make.
    """

    ref: str
    sent: int = 0
    seconds: float = 0.0


def ensure_wheel_image(
    engine: Engine,
    store: Store,
    wheels: Iterable[LockedWheel],
    *,
    constraints: Sequence[str],
    locks: Mapping[str, str],
    builder: Builder,
) -> WheelImage:
    """Returns the image that holds *wheels*, made when the engine does not have it.

    As a local context they would be sent again for each new folder name, and alternately for two services.

    Args:
        engine: where the image is to be.
        store: holds the wheels.
        wheels: what a build may install.
        constraints: lines of its `constraints.txt`: everything that is locked, what a base brings included.
        locks: the texts of uv.lock files that are mounted over projects' own, by absolute path in the image.
        builder: runs the build.

    Raises:
        StoreError: the store lacks a wheel.
        BuildError: the image could not be made.
    """
    wheels = sorted(wheels, key=lambda wheel: wheel.filename)
    lines = sorted(constraints)
    ref = wheel_image_ref(wheels, constraints=lines, locks=locks)
    key = ref.rpartition(":")[2]
    if engine.image_id(ref) is not None:
        return WheelImage(ref=ref)
    view = make_view(
        store,
        key,
        [(_below(f"{FOLDER}/{wheel.filename}"), wheel) for wheel in wheels],
        {
            _below(f"{FOLDER}/{CONSTRAINTS}"): "".join(f"{line}\n" for line in lines),
            _below(PIP_CONF): pip_conf(sealed=True, timeout=_TIMEOUT),
            _below(UV_TOML): uv_toml(sealed=True, constraints=lines),
            **{_below(path): text for path, text in locks.items()},
        },
    )
    with tempfile.TemporaryDirectory(prefix="wheelcache-wheels-") as scratch:
        dockerfile = Path(scratch) / "Dockerfile"
        context = f"wheelcache-wheels-{key}"
        dockerfile.write_text(f"FROM scratch\nCOPY --from={context} / /\n", encoding="utf-8")
        request = BuildRequest(context=view, dockerfile=dockerfile, tags=[ref], build_contexts={context: str(view)})
        try:
            outcome = builder.build("wheels", lambda _attempt: request, has_network=lambda _step: True)
        finally:
            if any(wheel.is_heavy for wheel in wheels):  # a second or more, which a few megabytes are not worth
                engine.forget_context(context)
    if outcome.failure is not None:
        raise BuildError(
            f"the wheels could not be brought to the engine: {outcome.failure.message} (log: {outcome.log})",
            hint=outcome.failure.hint,
            fault=outcome.failure.fault,
        )
    return WheelImage(ref=ref, sent=outcome.sent, seconds=outcome.seconds)


def wheel_image_ref(wheels: Iterable[LockedWheel], *, constraints: Sequence[str], locks: Mapping[str, str]) -> str:
    """Returns the reference of the image that holds *wheels*; arguments as for its making."""
    ordered = sorted(wheels, key=lambda wheel: wheel.filename)
    content = [_FORM, [[wheel.filename, wheel.digest] for wheel in ordered], sorted(constraints), dict(locks)]
    return f"{REPOSITORY}:{hex_of(digest_of_json(content))[:32]}"


def _below(path: str) -> PurePosixPath:
    """Returns an absolute path in the image as one below the folder that it is made from."""
    return PurePosixPath(path.lstrip("/"))
