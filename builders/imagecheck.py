"""Compares the distributions that a finished image holds with what its lockfile says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from packaging.version import InvalidVersion, Version

from builders.asking import ask_inside
from builders.engine import Engine
from builders.errors import BuildError
from builders.inside import name_and_version


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageCheck:
    """What an image holds of what is locked.

    Attributes:
        found: every distribution in its file system, by normalised name: the versions, each once.
        wrong: locked projects that it holds in other versions only: the locked version, and those found.
        missing: locked projects that it does not hold, which is right for tools of a builder stage: the locked version.
    """

    found: Mapping[str, tuple[str, ...]]
    wrong: Mapping[str, tuple[str, str]]
    missing: Mapping[str, str]


def check_image(engine: Engine, image_ref: str, expected: Iterable[tuple[str, str]]) -> ImageCheck:
    """Looks into an image.

    Args:
        engine: has the image.
        image_ref: its reference or id.
        expected: normalised name and version of everything that is locked for it, and of what its base brings.

    Raises:
        BuildError: the image is not in the engine.
    """
    return compare(list_distributions(engine, image_ref), expected)


def compare(distributions: Iterable[tuple[str, str]], expected: Iterable[tuple[str, str]]) -> ImageCheck:
    """Compares *distributions* with what is *expected*, both by normalised name and version."""
    found: dict[str, tuple[str, ...]] = {}
    for name, version in sorted(set(distributions)):
        found[name] = (*found.get(name, ()), version)
    wrong: dict[str, tuple[str, str]] = {}
    missing: dict[str, str] = {}
    for name, locked in expected:
        versions = found.get(name, ())
        if not versions:
            missing[name] = locked
        elif not any(_is_same(version, locked) for version in versions):
            wrong[name] = (locked, ", ".join(versions))
    return ImageCheck(found=found, wrong=wrong, missing=missing)


def list_distributions(engine: Engine, image_ref: str) -> list[tuple[str, str]]:
    """Returns every distribution in an image's file system, whichever interpreter may see it.

    Its own Python looks, as root and without a network; where it has none, the whole image is read instead.

    Raises:
        BuildError: the image is not in the engine.
    """
    image_id = engine.image_id(image_ref)
    if image_id is None:
        raise BuildError(f"{image_ref}: not in the engine", hint="build it first")
    try:
        answer = ask_inside(engine, image_id, ["scan"], entrypoints=["python3", "python"], name=image_ref, user="0")
    except BuildError:
        answer = None  # a Python too old or cut down to look; nothing needs to run to read the image
    if answer is None:
        texts = (data for _, data in engine.files(image_id, wanted=_is_metadata))
        answer = [name_and_version(text.decode(errors="replace")) for text in texts]
    return [(pair[0], pair[1]) for pair in answer if pair]


def _is_metadata(path: str) -> bool:
    """True for what `builders.inside.scan` looks at: copies vendored in a site folder's packages are no installs."""
    file = PurePosixPath(path)
    is_own = (file.name == "METADATA" and file.parent.suffix == ".dist-info") or (
        file.name == "PKG-INFO" and file.parent.suffix == ".egg-info"
    )
    folder = file.parent if is_own else file
    if not is_own and file.suffix != ".egg-info":
        return False
    above = folder.parts[:-1]
    sites = [place for place, part in enumerate(above) if part in ("site-packages", "dist-packages")]
    return ".cache" not in above and (not sites or sites[0] == len(above) - 1)


def _is_same(found: str, locked: str) -> bool:
    try:
        return Version(found) == Version(locked)
    except InvalidVersion:
        return found == locked
