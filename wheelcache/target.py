"""What wheels must fit: one interpreter's full PEP 508 environment and its ordered PEP 425/600 tags."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from packaging.tags import Tag, compatible_tags, cpython_tags, mac_platforms

from wheelcache.errors import LockError

ENVIRONMENT_KEYS: Final = (
    "implementation_name",
    "implementation_version",
    "os_name",
    "platform_machine",
    "platform_python_implementation",
    "platform_release",
    "platform_system",
    "platform_version",
    "python_full_version",
    "python_version",
    "sys_platform",
)
"""PEP 508, "Environment Markers", without `extra`."""

_KERNEL_KEYS: Final = ("platform_release", "platform_version")

_GLIBC_ALIASES: Final = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
"""PEP 600, "Legacy manylinux tags": the glibc 2.x minor each one stands for."""

_UV_GLIBC_MINORS: Final = (17, 28, *range(31, 41))
"""The glibc 2.x minors for which uv knows a `--python-platform`; others are clamped downwards."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """One interpreter, as far as choosing wheels goes.

    Attributes:
        environment: the marker variables of PEP 508, all of `ENVIRONMENT_KEYS`.
        tags: what the interpreter accepts, best first.
    """

    environment: Mapping[str, str]
    tags: tuple[Tag, ...]

    @property
    def python(self) -> str:
        """The full Python version, such as `3.11.2`."""
        return self.environment["python_full_version"]

    @property
    def platform(self) -> str:
        """The most specific platform tag, such as `manylinux_2_36_x86_64`."""
        return self.tags[0].platform

    def describe(self) -> str:
        """Returns one line for people."""
        return f"CPython {self.python} on {self.platform}"

    def as_toml(self) -> dict[str, object]:
        """Returns the whole target as TOML values; `target_from_toml` reads them."""
        return {"environment": dict(self.environment), "tags": _compress(self.tags)}


def target_from_toml(value: object) -> Target:
    """Reads what `Target.as_toml` wrote.

    Raises:
        ValueError: a part is missing or is not what it should be.
    """
    if not isinstance(value, Mapping):
        msg = f"expected a table with environment and tags, found {type(value).__name__}"
        raise ValueError(msg)  # noqa: TRY004 - one exception for every way a file can be wrong
    environment, tags = value.get("environment"), value.get("tags")
    if not isinstance(environment, Mapping) or not isinstance(tags, Sequence) or not tags:
        msg = "expected the tables environment and tags"
        raise ValueError(msg)
    missing = [key for key in ENVIRONMENT_KEYS if not isinstance(environment.get(key), str)]
    if missing:
        msg = f"the environment lacks {', '.join(missing)}"
        raise ValueError(msg)
    return Target(
        environment={key: environment[key] for key in ENVIRONMENT_KEYS},
        tags=tuple(_expand(str(tag) for tag in tags)),
    )


def declared_target(python: str, platform: str) -> Target:
    """Makes a target from what a person writes down.

    Args:
        python: `3.11` or `3.11.9`; without a patch release, markers see `.0`, the release every other one satisfies.
        platform: one platform tag: `manylinux_2_28_x86_64`, `musllinux_1_2_aarch64`, `macosx_14_0_arm64`, `win_amd64`.

    Raises:
        LockError: either is of another form.
    """
    version = re.fullmatch(r"3\.(\d{1,2})(?:\.(\d{1,3}))?", python)
    if not version:
        raise LockError(
            f"target python: expected a version such as 3.11 or 3.11.9, found {python!r}",
            hint='write [target] python = "3.11", or pass --python 3.11',
        )
    platforms, names = _platforms(platform)
    full = python if version[2] else f"{python}.0"
    minor = int(version[1])
    return Target(
        environment={
            "implementation_name": "cpython",
            "implementation_version": full,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_version": "",
            "python_full_version": full,
            "python_version": f"3.{minor}",
            **names,
        },
        tags=_cpython((3, minor), platforms, abi=f"cp3{minor}"),
    )


def target_from_facts(facts: Mapping[str, object]) -> Target:
    """Makes a target from what an interpreter said of itself.

    Args:
        facts: `environment` (PEP 508), `abi` (`cp311`, `cp313t`), `glibc` and `musl` (`2.36`, or None).

    Raises:
        LockError: the interpreter is not CPython, or tells neither libc.
        ValueError: *facts* is malformed.
    """
    environment = facts.get("environment")
    if not isinstance(environment, Mapping):
        msg = "facts of an interpreter lack its environment"
        raise ValueError(msg)  # noqa: TRY004
    if environment.get("implementation_name") != "cpython":
        raise LockError(
            f"expected CPython in the image, found {environment.get('implementation_name')!r}",
            hint="use a CPython base image",
        )
    version = tuple(int(part) for part in str(environment["python_version"]).split("."))
    machine = str(environment["platform_machine"])
    platforms = [*_libc_platforms(facts, machine), f"linux_{machine}"]
    return Target(
        # The kernel is the engine's, not the image's: with it a lockfile would be stale on every other machine.
        environment={key: str(environment[key]) for key in ENVIRONMENT_KEYS} | dict.fromkeys(_KERNEL_KEYS, ""),
        tags=_cpython((version[0], version[1]), platforms, abi=str(facts["abi"])),
    )


def uv_arguments(target: Target) -> list[str]:
    """Returns uv's `--python-version` and `--python-platform` for *target*, a glibc unknown to uv clamped downwards.

    Raises:
        LockError: uv has no word for the platform.
    """
    return ["--python-version", target.python, "--python-platform", _uv_platform(target.platform)]


def _uv_platform(platform: str) -> str:
    if many := re.fullmatch(r"manylinux_2_(\d+)_(x86_64|aarch64)", platform):
        known = [minor for minor in _UV_GLIBC_MINORS if minor <= int(many[1])]
        if known:
            return f"{many[2]}-manylinux_2_{known[-1]}"
    if musl := re.fullmatch(r"musllinux_1_\d+_(x86_64|aarch64)", platform):
        return f"{musl[1]}-unknown-linux-musl"
    if mac := re.fullmatch(r"macosx_\d+_\d+_(arm64|x86_64|universal2)", platform):
        return "x86_64-apple-darwin" if mac[1] == "x86_64" else "aarch64-apple-darwin"
    if windows := re.fullmatch(r"win_(amd64|arm64)", platform):
        return "x86_64-pc-windows-msvc" if windows[1] == "amd64" else "aarch64-pc-windows-msvc"
    raise LockError(
        f"the resolver knows no target platform {platform!r}",
        hint="declare a [target] platform such as manylinux_2_28_x86_64",
    )


def _platforms(platform: str) -> tuple[list[str], dict[str, str]]:
    """Returns all platform tags that *platform* implies, best first, and the marker variables that follow from it."""
    if linux := re.fullmatch(r"(many|musl)linux_(\d+)_(\d+)_([a-z0-9_]+)", platform):
        libc = f"{linux[2]}.{linux[3]}"
        facts: dict[str, object] = {"glibc": libc} if linux[1] == "many" else {"musl": libc}
        names = {"os_name": "posix", "platform_system": "Linux", "sys_platform": "linux", "platform_machine": linux[4]}
        return [*_libc_platforms(facts, linux[4]), f"linux_{linux[4]}"], names
    if mac := re.fullmatch(r"macosx_(\d+)_(\d+)_(arm64|x86_64)", platform):
        names = {"os_name": "posix", "platform_system": "Darwin", "sys_platform": "darwin", "platform_machine": mac[3]}
        return list(mac_platforms((int(mac[1]), int(mac[2])), mac[3])), names
    if windows := re.fullmatch(r"win_(amd64|arm64)", platform):
        names = {
            "os_name": "nt",
            "platform_system": "Windows",
            "sys_platform": "win32",
            "platform_machine": windows[1].upper(),
        }
        return [platform], names
    raise LockError(
        f"target platform: expected a platform tag such as manylinux_2_28_x86_64, found {platform!r}",
        hint='write [target] platform = "manylinux_2_28_x86_64", or pass --platform',
    )


def _libc_platforms(facts: Mapping[str, object], machine: str) -> Iterator[str]:
    """Yields manylinux (PEP 600) or musllinux (PEP 656) platform tags, newest libc first."""
    kind = "glibc" if facts.get("glibc") else "musl"
    libc = re.match(r"(\d+)\.(\d+)", str(facts.get(kind) or ""))
    if not libc:
        raise LockError("the interpreter tells neither a glibc nor a musl version", hint="declare a [target]")
    minor = int(libc[2])
    if kind == "musl":
        yield from (f"musllinux_{libc[1]}_{older}_{machine}" for older in range(minor, -1, -1))
        return
    oldest = 5 if machine in {"x86_64", "i686"} else 17
    for older in range(minor, oldest - 1, -1):
        yield f"manylinux_2_{older}_{machine}"
        if older in _GLIBC_ALIASES:
            yield f"{_GLIBC_ALIASES[older]}_{machine}"


def _cpython(version: tuple[int, int], platforms: Sequence[str], *, abi: str) -> tuple[Tag, ...]:
    own = cpython_tags(version, abis=[abi], platforms=platforms)
    generic = compatible_tags(version, interpreter=f"cp{version[0]}{version[1]}", platforms=platforms)
    return (*own, *generic)


def _compress(tags: Sequence[Tag]) -> list[str]:
    """Writes neighbours of one interpreter and ABI as one compressed tag set (PEP 425), their order kept."""
    groups = groupby(tags, key=lambda tag: (tag.interpreter, tag.abi))
    return [f"{python}-{abi}-{'.'.join(tag.platform for tag in group)}" for (python, abi), group in groups]


def _expand(compressed: Iterator[str]) -> Iterator[Tag]:
    for text in compressed:
        python, abi, platforms = text.split("-")  # a ValueError names the malformed tag well enough
        yield from (Tag(python, abi, platform) for platform in platforms.split("."))
