"""Where builds leave their cache in a registry, so that what one machine built another one need not build."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from builders.engine import Engine
from builders.errors import EngineError
from wheelcache.errors import UsageError
from wheelcache.lock import service_slug
from wheelcache.programs import Runner

_SECONDS: Final = 120.0
"""How long a registry may take to say whether it has something."""

_REF: Final = re.compile(r"(?P<repository>[^@\s]+?)(?::(?P<tag>[\w.-]+))?")
"""A tag has no slash: what stands behind the colon of a host and port is none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CachePlace:
    """A repository for caches; each image has a tag of its own there, since an export takes the place of the last.

    Attributes:
        repository: such as `registry.example/shop/cache`.
        prefix: what every tag begins with; may be empty.
        options: the rest of what BuildKit is told, such as `mode=max`.
    """

    repository: str
    prefix: str = ""
    options: tuple[str, ...] = ()

    def ref_of(self, name: str) -> str:
        """Returns where the cache of the image *name* is."""
        return f"{self.repository}:{'-'.join(part for part in (self.prefix, service_slug(name)) if part)}"

    def of(self, name: str) -> str:
        """Returns what BuildKit is told for the image *name*."""
        return ",".join(("type=registry", f"ref={self.ref_of(name)}", *self.options))


@dataclass(frozen=True, kw_only=True, slots=True)
class RegistryCache:
    """Where builds look for cache, and where they leave it."""

    sources: tuple[CachePlace, ...] = ()
    targets: tuple[CachePlace, ...] = ()

    def sources_of(self, name: str) -> tuple[str, ...]:
        """Returns where the build of *name* looks."""
        return tuple(place.of(name) for place in self.sources)

    def targets_of(self, name: str) -> tuple[str, ...]:
        """Returns where the build of *name* leaves its own."""
        return tuple(place.of(name) for place in self.targets)

    def lacks(self, name: str, *, run: Runner, environ: Mapping[str, str]) -> bool:
        """Tells whether the cache of *name* is still to be left; where nobody can be asked, it is."""
        inspect = ("docker", "buildx", "imagetools", "inspect", "--raw")
        return any(
            not run([*inspect, place.ref_of(name)], env=environ, timeout=_SECONDS).is_done for place in self.targets
        )


NO_CACHE: Final = RegistryCache()


def read_cache(sources: Sequence[str], targets: Sequence[str]) -> RegistryCache:
    """Reads the values of `--cache-from` and `--cache-to`.

    Raises:
        UsageError: one is no cache in a registry.
    """
    return RegistryCache(
        sources=tuple(_read_place(text, option="--cache-from") for text in sources),
        targets=tuple(_read_place(text, option="--cache-to") for text in targets),
    )


def check_export(engine: Engine) -> None:
    """Checks that *engine* can export what it built as a cache.

    Raises:
        EngineError: it cannot.
    """
    if not engine.keeps_manifests():
        raise EngineError(
            "--cache-to: expected an engine that keeps images in containerd's store, found one with a store of its "
            "own, which exports no cache",
            hint='set {"features": {"containerd-snapshotter": true}} in its daemon.json and restart it, or leave '
            "--cache-to out; --cache-from works with both",
        )


def _read_place(text: str, *, option: str) -> CachePlace:
    fields = next(csv.reader([text]), []) if "=" in text else ["type=registry", f"ref={text}"]
    values = dict(field.partition("=")[::2] for field in fields)
    kind, found = values.get("type", ""), _REF.fullmatch(values.get("ref", ""))
    if kind != "registry" or found is None:
        raise UsageError(
            f"{option}: expected a repository such as registry.example/shop/cache, or type=registry,ref=…, "
            f"found {text!r}",
            hint="each image gets a tag of its own there",
        )
    rest = tuple(field for field in fields if field.partition("=")[0] not in {"type", "ref"})
    return CachePlace(repository=found["repository"], prefix=found["tag"] or "", options=rest)
