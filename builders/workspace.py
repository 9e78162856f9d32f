"""Lays out one build: the Dockerfile's copy with its mounts, its ignore rules, the mounted configuration."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from builders.commands import BuildRequest
from builders.contexts import unique_context
from builders.dockerfile import Dockerfile, encode_dockerfile
from builders.pipconf import pip_conf, uv_toml
from builders.reading import Reading
from builders.rewrite import Rewritten, rewrite_dockerfile
from builders.wheelimage import FOLDER
from wheelcache.config import BuildMode, IndexConfig
from wheelcache.redaction import without_userinfo

WHEELS_CONTEXT: Final = "wheelcache-wheels"
"""The named context with a service's wheels; its name beats a stage's, so it is one that nobody gives a stage."""

_OFFICIAL_FRONTEND: Final = re.compile(r"(docker\.io/)?docker/dockerfile(:1(\.\d+)*)?")
_NEWER_WORDS: Final = re.compile(
    r"^\s*(COPY|ADD|RUN)\b.*--(parents|exclude|security|device)\b", re.IGNORECASE | re.MULTILINE
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Dressing:
    """What a build of a service gets beside its own files.

    Attributes:
        reading: the service.
        mode: sealed or online.
        offline: True when no step may have a network.
        network: of RUN steps that do not say otherwise; None leaves it to the engine.
        wheels_image: the reference of the image that holds its wheels; empty when nothing is installed.
        overrides: FROM references to the images that take their place.
        constraints: `name==version` for all that is locked, and for what the base image brings.
        labels: of the image.
        indexes: for online builds.
        pip_timeout: seconds, of the first attempt.
        pip_retries: of each connection, when online.
        cache_from: where to look for cache, beside what compose says.
        cache_to: where to leave it, beside what compose says.
        builder: that builds; None for the engine itself.
        layouts: what takes the place of images, for a builder that does not see them: `oci-layout://…` by name.
        mark: the reference under which such a builder's image comes to the engine; empty for the engine itself.
    """

    reading: Reading
    mode: BuildMode
    offline: bool
    network: str | None
    wheels_image: str
    overrides: Mapping[str, str]
    constraints: tuple[str, ...]
    labels: Mapping[str, str]
    indexes: Sequence[IndexConfig]
    pip_timeout: float
    pip_retries: int
    cache_from: tuple[str, ...] = ()
    cache_to: tuple[str, ...] = ()
    builder: str | None = None
    layouts: Mapping[str, str] = field(default_factory=dict)
    mark: str = ""

    @property
    def images(self) -> dict[str, str]:
        """The images that the build needs, by the names that stand for them in its Dockerfile."""
        return {**self.overrides, **({WHEELS_CONTEXT: self.wheels_image} if self.wheels_image else {})}


def rewritten(reading: Reading, *, mode: BuildMode, offline: bool) -> Rewritten:
    """Returns the copy of a service's Dockerfile that is built."""
    return rewrite_dockerfile(
        reading.dockerfile,
        reading.installs,
        wheels_context=WHEELS_CONTEXT,
        source_of=lambda _install: FOLDER,
        sealed=mode == "sealed",
        offline=offline,
        drop_syntax=(mode == "sealed" or offline) and _needs_no_frontend(reading.dockerfile),
    )


def difference(reading: Reading, copy: Rewritten) -> str:
    """Returns what the copy changes, as a unified diff; for people, and so without the credentials of URLs."""
    lines = difflib.unified_diff(
        reading.dockerfile.text.splitlines(keepends=True),
        copy.text.splitlines(keepends=True),
        fromfile=reading.service.where,
        tofile=f"{reading.service.where} (as built)",
    )
    return encode_dockerfile(without_userinfo("".join(lines))).decode(errors="replace")


def lay_out(folder: Path, dressing: Dressing, *, attempt: int) -> BuildRequest:
    """Writes everything that one attempt needs into *folder*, and returns what to build.

    Args:
        folder: private to this build: the configuration may hold an index's credentials.
        dressing: what the build gets.
        attempt: from 1; each one doubles pip's timeout, without losing a cached layer: secrets are no part of the key.
    """
    reading, service = dressing.reading, dressing.reading.service
    copy = folder / "Dockerfile"
    copy.write_bytes(encode_dockerfile(rewritten(reading, mode=dressing.mode, offline=dressing.offline).text))
    _carry_ignore_rules(service.dockerfile, copy)
    compose = service.compose
    contexts = dict(compose.additional_contexts) if compose is not None else {}
    beside = [f"{name}={place}" for name, place in sorted(contexts.items())]
    contexts |= {name: f"docker-image://{image}" for name, image in dressing.images.items()}
    contexts.update(dressing.layouts)
    return BuildRequest(
        context=unique_context(folder, service.context, service.name, beside=beside),
        dockerfile=copy,
        target=service.stage,
        build_args=dict(service.args),
        build_contexts=contexts,
        secrets=_configurations(folder, dressing, attempt) if dressing.wheels_image else {},
        other_secrets=compose.secrets if compose is not None else (),
        ssh=compose.ssh if compose is not None else (),
        labels={**(compose.labels if compose is not None else {}), **dressing.labels},
        network="none" if dressing.offline else dressing.network,
        extra_hosts=compose.extra_hosts if compose is not None else (),
        shm_size=compose.shm_size if compose is not None else None,
        ulimits=compose.ulimits if compose is not None else (),
        platforms=compose.platforms if compose is not None else (),
        cache_from=(*(compose.cache_from if compose is not None else ()), *dressing.cache_from),
        cache_to=(*(compose.cache_to if compose is not None else ()), *dressing.cache_to),
        metadata_file=folder / "metadata.json",
        tags=[dressing.mark] if dressing.mark else [],
        builder=dressing.builder,
        # With it BuildKit would look for the images we made in a registry; base images were pulled before then.
        pull=compose is not None and compose.pull and not dressing.offline and not dressing.images,
    )


def _configurations(folder: Path, dressing: Dressing, attempt: int) -> dict[str, Path]:
    """Writes the secrets of an online build; a sealed one finds its configuration beside its wheels."""
    if dressing.mode == "sealed" or dressing.offline:
        return {}
    first = dressing.indexes[0].url if dressing.indexes else ""
    others = [index.url for index in dressing.indexes[1:]]
    texts = {
        "wheelcache-pip": pip_conf(
            sealed=False,
            timeout=dressing.pip_timeout * 2 ** (attempt - 1),
            retries=dressing.pip_retries,
            index_url=first,
            extra_index_urls=others,
        ),
        "wheelcache-uv": uv_toml(
            sealed=False, constraints=dressing.constraints, index_url=first, extra_index_urls=others
        ),
    }
    paths = {}
    for name, text in texts.items():
        paths[name] = folder / name
        paths[name].touch(mode=0o600)
        paths[name].write_text(text, encoding="utf-8")
    return paths


def _carry_ignore_rules(dockerfile: Path | None, copy: Path) -> None:
    """Puts `<Dockerfile>.dockerignore` beside the copy; the context's own `.dockerignore` is found anyway."""
    if dockerfile is None:
        return
    rules = dockerfile.with_name(f"{dockerfile.name}.dockerignore")
    if rules.is_file():
        copy.with_name(f"{copy.name}.dockerignore").write_bytes(rules.read_bytes())


def _needs_no_frontend(dockerfile: Dockerfile) -> bool:
    """True when the frontend that `# syntax=` asks for does nothing here that the engine's own does not."""
    syntax = dockerfile.directive("syntax")
    return (
        syntax is not None
        and _OFFICIAL_FRONTEND.fullmatch(syntax.value) is not None
        and _NEWER_WORDS.search(dockerfile.text) is None
    )
