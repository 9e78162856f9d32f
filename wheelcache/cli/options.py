"""Options that several commands share, and what they mean for the project."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import Any, Final, TypedDict

import click

from wheelcache.config import (
    LONGEST_SECONDS,
    DownloadConfig,
    IndexConfig,
    MirrorConfig,
    Project,
    TargetConfig,
    checked_url,
    parse_bytes,
)
from wheelcache.errors import UsageError


class AmountType(click.ParamType[int]):
    """Bytes, or bytes per second, as people write them."""

    name = "amount"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # noqa: ANN401
        """Returns what `parse_bytes` makes of *value*."""
        try:
            return parse_bytes(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class SecondsType(click.FloatRange):
    """A number of seconds that clocks and sockets can be given."""

    name = "seconds"

    def __init__(self, *, min_open: bool) -> None:
        super().__init__(min=0, min_open=min_open, max=LONGEST_SECONDS)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # noqa: ANN401
        """Returns *value* as a number."""
        seconds = float(super().convert(value, param, ctx))
        if not isfinite(seconds):
            self.fail(f"expected a number of seconds, found {value!r}", param, ctx)
        return seconds


class UrlType(click.ParamType[str]):
    """The root of a Simple API."""

    name = "url"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ANN401
        """Returns *value* unless it is no URL."""
        try:
            return checked_url(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


_FILE_OPTION: Final = click.option(
    "--file", "-f", "files", multiple=True, metavar="COMPOSE", type=click.Path(path_type=Path), help="A compose file."
)
_TARGET_OPTIONS: Final = (
    click.option("--python", metavar="VERSION", help="The target's Python, such as 3.11."),
    click.option("--platform", metavar="TAG", help="The target's platform, such as manylinux_2_28_x86_64."),
)
_INDEX_OPTION: Final = click.option(
    "--index-url", type=UrlType(), metavar="URL", help="The index to use in place of the project's."
)
_DOWNLOAD_OPTIONS: Final = (
    click.option(
        "--mirror",
        "mirrors",
        type=UrlType(),
        multiple=True,
        metavar="URL",
        help="Another root that serves the same files.",
    ),
    click.option("--timeout", type=SecondsType(min_open=True), metavar="S", help="Seconds without a byte."),
    click.option(
        "--deadline", type=SecondsType(min_open=False), metavar="S", help="Seconds for a whole sync; 0: none."
    ),
    click.option("--connections", type=click.IntRange(min=1), metavar="N", help="At most, all files together."),
    click.option("--limit-rate", type=AmountType(), metavar="RATE", help="At most this much, such as 20MB/s."),
)

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def _all(*options: Decorator) -> Decorator:
    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


compose_options: Final = _all(_FILE_OPTION)
target_options: Final = _all(*_TARGET_OPTIONS, _INDEX_OPTION)
download_options: Final = _all(*_DOWNLOAD_OPTIONS)


class Flags(TypedDict, total=False):
    """What `compose_options`, `target_options` and `download_options` hand to a command."""

    files: tuple[Path, ...]
    python: str | None
    platform: str | None
    index_url: str | None
    mirrors: tuple[str, ...]
    timeout: float | None
    deadline: float | None
    connections: int | None
    limit_rate: int | None


def with_flags(
    project: Project,
    *,
    files: tuple[Path, ...] = (),
    python: str | None = None,
    platform: str | None = None,
    index_url: str | None = None,
    mirrors: tuple[str, ...] = (),
    timeout: float | None = None,
    deadline: float | None = None,
    connections: int | None = None,
    limit_rate: int | None = None,
) -> Project:
    """Returns *project* with what the command line says in its place.

    Raises:
        UsageError: one half of a target is given without the other.
    """
    if files:
        project = replace(project, compose=[str(file.absolute()) for file in files])
    if (python is None) != (platform is None):
        raise UsageError(
            "--python and --platform: expected both or neither",
            hint="for example: --python 3.11 --platform manylinux_2_28_x86_64",
        )
    if python is not None:
        backend = project.target.torch_backend
        project = replace(project, target=TargetConfig(python=python, platform=platform, torch_backend=backend))
    if index_url is not None:
        project = replace(project, indexes=[IndexConfig(name="command-line", url=index_url)], mirrors=[])
    if mirrors:
        project = replace(project, mirrors=[*project.mirrors, *(MirrorConfig(url=url) for url in mirrors)])
    given = {
        name: value
        for name, value in (
            ("timeout", timeout),
            ("deadline", deadline),
            ("connections", connections),
            ("limit_rate", limit_rate),
        )
        if value is not None
    }
    download: DownloadConfig = replace(project.download, **given)  # type: ignore[arg-type]
    return replace(project, download=download)
