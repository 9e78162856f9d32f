"""The project file: `wheelcache.toml`, or `[tool.wheelcache]` in `pyproject.toml`."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from wheelcache.errors import ProjectFileError

PROJECT_FILE: Final = "wheelcache.toml"

BuildMode = Literal["sealed", "online"]


def parse_bytes(text: object) -> int:
    """Returns the bytes (or bytes per second) that a person wrote: `60GB`, `512 MiB`, `20kB/s`, or a plain number.

    Raises:
        ValueError: it is of another form.
    """
    if isinstance(text, int) and not isinstance(text, bool):
        return text
    if text == "":
        return 0
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:([kKMGT])(i)?)?B?(?:/s)?", str(text).strip())
    if not match:
        msg = f"expected an amount such as 60GB or 20MB/s, found {text!r}"
        raise ValueError(msg)
    power = " kMGT".index((match[2] or " ").replace("K", "k"))
    return int(float(match[1]) * (1024 if match[3] else 1000) ** power)


class _Amount:
    """Lets the project file write bytes as people do; read by pydantic, which this module imports only when needed."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:  # noqa: ANN401 - pydantic's protocol
        from pydantic_core import core_schema  # noqa: PLC0415

        return core_schema.no_info_before_validator_function(parse_bytes, handler(source))


Amount = Annotated[int, _Amount()]


def checked_url(text: object) -> str:
    """Returns *text*, the URL of an index.

    Raises:
        ValueError: it is none; the message does not repeat it, since it may hold a password.
    """
    parts = urlsplit(text) if isinstance(text, str) else None
    if not isinstance(text, str) or parts is None or not (parts.hostname if parts.scheme != "file" else parts.path):
        msg = "expected a URL such as https://index.example/simple"
        raise ValueError(msg)
    if parts.scheme not in {"http", "https", "file"}:
        msg = f"expected a URL that begins with https://, http:// or file://, found {parts.scheme}:"
        raise ValueError(msg)
    return text


TAG_WORD: Final = re.compile(r"\{(git-sha|git-short|date)\}")
"""What stands in a tag for what is known only at the build."""


def check_tag(text: str) -> None:
    """Checks a tag, in which `TAG_WORD` may stand.

    Raises:
        ValueError: no image can have it (distribution's grammar of references).
    """
    longest = TAG_WORD.sub(lambda word: "0" * (len("0" * 40 + "-dirty") if word[1] == "git-sha" else 18), text)
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", longest):
        msg = (
            "tags: expected letters, digits, _ . - and {git-sha}, {git-short} or {date}, 128 characters at most, "
            f"found {text!r}"
        )
        raise ValueError(msg)


class _Url:
    """Lets the project file be told of a URL that is none before anybody is asked there."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:  # noqa: ANN401 - pydantic's protocol
        from pydantic_core import core_schema  # noqa: PLC0415

        return core_schema.no_info_before_validator_function(checked_url, handler(source))


Url = Annotated[str, _Url()]

LONGEST_SECONDS: Final = 1_000_000
"""More than anybody waits, and less than what sockets refuse (their milliseconds are a C int)."""

_KEBAB: Final[Any] = {"extra": "forbid", "alias_generator": lambda name: name.replace("_", "-")}


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetConfig:
    """`[target]`: what wheels must fit, where it is not asked from the image."""

    __pydantic_config__ = _KEBAB

    python: str | None = None
    platform: str | None = None
    torch_backend: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexConfig:
    """`[[indexes]]`: the root of a Simple API."""

    __pydantic_config__ = _KEBAB

    name: str
    url: Url


@dataclass(frozen=True, kw_only=True, slots=True)
class MirrorConfig:
    """`[[mirrors]]`: another root that serves the same files as the index *of* (None: the first index).

    Every wheel is asked for there, of whatever index: the digest says whether it is the one.
    """

    __pydantic_config__ = _KEBAB

    url: Url
    of: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ServiceConfig:
    """`[[services]]`: one image to build; overrides what compose says, by name."""

    __pydantic_config__ = _KEBAB

    name: str
    context: str | None = None
    dockerfile: str | None = None
    requirements: list[str] | None = None
    image: str | None = None
    build: BuildMode | None = None
    target: TargetConfig | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class DownloadConfig:
    """`[download]`; times in seconds, rates in bytes per second, 0 for none."""

    __pydantic_config__ = _KEBAB

    connections: int = 4
    per_host: int = 4
    timeout: float = 60
    deadline: float = 0
    min_rate: Amount = 20_000
    limit_rate: Amount = 0

    def __post_init__(self) -> None:
        if self.connections < 1 or self.per_host < 1:
            msg = "connections and per-host: expected 1 or more"
            raise ValueError(msg)
        if not (0 < self.timeout <= LONGEST_SECONDS and 0 <= self.deadline <= LONGEST_SECONDS):
            msg = "timeout: expected more than 0 seconds; deadline: 0 or more"
            raise ValueError(msg)


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildConfig:
    """`[build]`; *pip_timeout* in seconds, doubled at each of *retries*; *tags* with `TAG_WORD` in them."""

    __pydantic_config__ = _KEBAB

    build: BuildMode | None = None
    network: Literal["default", "none"] = "default"
    pip_timeout: float = 300
    retries: int = 3
    tags: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not 0 < self.pip_timeout <= LONGEST_SECONDS or self.retries < 0:
            msg = "pip-timeout: expected more than 0 seconds; retries: 0 or more"
            raise ValueError(msg)
        for tag in self.tags:
            check_tag(tag)


@dataclass(frozen=True, kw_only=True, slots=True)
class CacheConfig:
    """`[cache]`; *max_size* in bytes, 0 for no bound."""

    __pydantic_config__ = _KEBAB

    dir: str = ""
    max_size: Amount = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Project:
    """What the project file says, or its defaults where there is none.

    Attributes:
        file: the project file; None when there is none.
        root: the folder that relative paths are relative to.
    """

    __pydantic_config__ = _KEBAB

    file: Path | None = None
    root: Path = field(default_factory=Path.cwd)
    compose: list[str] = field(default_factory=list)
    compose_env_file: str | None = None
    compose_profiles: list[str] = field(default_factory=list)
    services: list[ServiceConfig] = field(default_factory=list)
    target: TargetConfig = field(default_factory=TargetConfig)
    indexes: list[IndexConfig] = field(default_factory=list)
    mirrors: list[MirrorConfig] = field(default_factory=list)
    download: DownloadConfig = field(default_factory=DownloadConfig)
    build: BuildConfig = field(default_factory=BuildConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)


def find_project_file(start: Path) -> Path | None:
    """Returns the project file of *start* or of the nearest folder above it; None where no folder has one."""
    for folder in (start, *start.parents):
        own = folder / PROJECT_FILE
        if own.is_file():
            return own
        shared = folder / "pyproject.toml"
        if shared.is_file() and b"[tool.wheelcache" in shared.read_bytes():
            return shared
    return None


def load_project(file: Path | None, *, start: Path) -> Project:
    """Reads the project file.

    Args:
        file: as named by the user; None searches upwards from *start*.
        start: the working directory.

    Raises:
        ProjectFileError: it is missing, is no TOML, or has an unknown key or a value of the wrong type.
    """
    found = file if file is not None else find_project_file(start)
    if found is None:
        return Project(root=start)
    return _validated(_read(found), found)


def _read(file: Path) -> Mapping[str, object]:
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ProjectFileError(
            f"{file}: expected a project file, found none",
            hint=f"create {PROJECT_FILE}, or name the right file with --config",
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ProjectFileError(f"{file}: cannot be read: {error}", hint="check the file and its permissions") from error
    except tomllib.TOMLDecodeError as error:
        raise ProjectFileError(f"{file}: expected TOML: {error}", hint="correct the line named") from error
    if file.name == "pyproject.toml":
        tool = document.get("tool", {})
        document = tool.get("wheelcache", {}) if isinstance(tool, dict) else {}
        if not isinstance(document, dict):
            raise ProjectFileError(f"{file}: tool.wheelcache: expected a table", hint="write [tool.wheelcache]")
    return document


def _validated(document: Mapping[str, object], file: Path) -> Project:
    from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415 - costs 80 ms, needed only with a project file

    for reserved in ("file", "root"):
        if reserved in document:
            raise ProjectFileError(f"{file}: {reserved}: unknown key", hint="remove it; README.md lists every key")
    try:
        project = TypeAdapter(Project).validate_python(document)
    except ValidationError as error:
        raise ProjectFileError(
            "\n".join(f"{file}: {_sentence(problem)}" for problem in error.errors()),
            hint="README.md lists every key of the project file",
        ) from error
    _check_names(project, file)
    return replace(project, file=file.absolute(), root=file.absolute().parent)


def _sentence(problem: Mapping[str, Any]) -> str:
    """Returns `services[0].build: expected …, found …` for one of pydantic's findings."""
    key = ""
    for part in problem["loc"]:
        key += f"[{part}]" if isinstance(part, int) else f"{'.' if key else ''}{part}"
    if problem["type"] == "unexpected_keyword_argument":
        return f"{key}: unknown key"
    if problem["type"] == "missing":
        return f"{key}: missing"
    wanted = re.sub(r"^(Input|Value) (should|error),? ?(be )?(a )?", "", problem["msg"])
    found = problem["input"]
    shown = repr(found) if isinstance(found, str | int | float | bool | type(None)) else type(found).__name__
    return f"{key}: {wanted}" if problem["type"] == "value_error" else f"{key}: expected {wanted}, found {shown}"


def _check_names(project: Project, file: Path) -> None:
    names = [service.name for service in project.services]
    for name in names:
        if names.count(name) > 1:
            raise ProjectFileError(f"{file}: services: {name!r} stands twice", hint="name each service once")
    indexes = {index.name for index in project.indexes}
    for position, mirror in enumerate(project.mirrors):
        if mirror.of is not None and mirror.of not in indexes:
            raise ProjectFileError(
                f"{file}: mirrors[{position}].of: expected the name of an index, found {mirror.of!r}",
                hint="name one of [[indexes]], or leave `of` out for the first",
            )
