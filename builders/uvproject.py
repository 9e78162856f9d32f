"""Reads `uv sync` and `uv export`: whose uv.lock they take, and how that lock reads where its wheels lie mounted."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from posixpath import basename, dirname, join, normpath
from typing import Any, Final

from packaging.utils import canonicalize_name

from builders.contextfiles import ContextPath, copies_of
from builders.dockerfile import Step
from builders.mounts import mount_options
from builders.pipcommand import UNSURE, recognise_call, subcommand_of
from builders.shellcommand import Command
from wheelcache.digest import digest_of_json, hex_of
from wheelcache.errors import LockError
from wheelcache.lock import LockedWheel
from wheelcache.options import Grammar, Options, OptionsError

LOCK: Final = "uv.lock"

_CHOOSING_FLAGS: Final = ("all-extras", "no-dev", "only-dev", "no-default-groups", "all-groups", "all-packages")
_CHOOSING_VALUES: Final = ("extra", "no-extra", "group", "no-group", "only-group", "package")
_LEFT_OUT: Final = ("no-install-project", "no-install-workspace", "no-install-local")
_EMITTED: Final = {"no-emit-project": _LEFT_OUT[0], "no-emit-workspace": _LEFT_OUT[1], "no-emit-local": _LEFT_OUT[2]}
"""What `uv export` calls them."""
_GRAMMAR: Final = Grammar(
    valued=(
        *(f"--{name}" for name in _CHOOSING_VALUES),
        "--no-install-package",
        "--no-editable-package",
        "--python -p",
        "--project",
        "--directory",
        "--cache-dir",
        "--config-file",
        "--link-mode",
        "--index",
        "--default-index",
        "--index-url -i",
        "--extra-index-url",
        "--find-links -f",
        "--index-strategy",
        "--keyring-provider",
        "--reinstall-package",
        "--refresh-package",
        "--no-build-isolation-package",
        "--no-build-package",
        "--no-binary-package",
        "--config-setting --config-settings -C",
        "--allow-insecure-host --trusted-host",
        "--color",
        "--python-preference",
        "--preview-features",
        "--output-format",
        "--format",
        "--output-file -o",
        "--no-emit-package --prune",
    ),
    flags=(
        *(f"--{name}" for name in (*_CHOOSING_FLAGS, *_LEFT_OUT, *_EMITTED)),
        "--no-hashes",
        "--no-annotate",
        "--no-header",
        "--dev",
        "--no-editable",
        "--frozen",
        "--locked",
        "--inexact",
        "--exact",
        "--active",
        "--no-active",
        "--no-index",
        "--reinstall --force-reinstall",
        "--refresh",
        "--no-build",
        "--no-binary",
        "--no-build-isolation",
        "--compile-bytecode --compile",
        "--no-sources",
        "--no-cache --no-cache-dir -n",
        "--no-config",
        "--no-progress",
        "--no-python-downloads",
        "--managed-python",
        "--no-managed-python",
        "--native-tls",
        "--system-certs",
        "--offline",
        "--preview",
        "--quiet -q",
        "--verbose -v",
        "--dry-run",
        "--check",
        "--help -h",
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class UvSync:
    """A `uv sync` or `uv export`, before its project is found.

    Attributes:
        subcommand: `sync` or `export`.
        folder: where it looks for a project; None where only the running command knows.
        options: as given; those that variables give too.
        interpreter: how it is called.
        problem: why it cannot be read; empty where it can.
    """

    subcommand: str
    folder: str | None
    options: Options
    interpreter: str
    problem: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class UvProject:
    """A project whose uv.lock is installed.

    Attributes:
        folder: of its uv.lock, in the build context.
        lock_path: where the command finds the uv.lock, inside the image.
        choice: what of the lock is wanted, as options of `uv export`.
        left_out: which of its own packages are not installed: `no-install-project` and the like.
    """

    folder: ContextPath
    lock_path: str
    choice: tuple[str, ...]
    left_out: frozenset[str]


def read_uv_sync(command: Command) -> UvSync | None:
    """Returns the `uv sync` or `uv export` that *command* is; None for anything else, and where it changes nothing."""
    call = recognise_call(command)
    subcommand, arguments, before = subcommand_of(call) if call is not None and call.tool == "uv" else ("", (), None)
    if call is None or subcommand not in {"sync", "export"}:
        return None
    problem = ""
    try:
        options = _GRAMMAR.read(arguments)
    except OptionsError as error:
        options, problem = Options(values={}, flags=frozenset(), operands=()), f"its options: {error}"
    options = _with_variables(options, before, command.environment)
    if options.flags & {"dry-run", "check", "help"}:
        return None
    if any(UNSURE in value for values in options.values.values() for value in values):
        problem = "some of its arguments are only known when it runs"
    folder = options.last("directory") or options.last("project")
    place = normpath(join(command.cwd, folder)) if command.cwd is not None else None
    return UvSync(
        subcommand=subcommand,
        folder=place,
        options=options,
        interpreter=f"{call.interpreter} {subcommand}",
        problem=problem.replace(UNSURE, "…"),
    )


def choice_of(options: Options) -> tuple[str, ...]:
    """Returns what a `uv sync` wants of its lock, as options of `uv export`."""
    flags = [f"--{name}" for name in _CHOOSING_FLAGS if name in options.flags]
    valued = [word for name in _CHOOSING_VALUES for value in options.all(name) for word in (f"--{name}", value)]
    names = (*options.all("no-install-package"), *options.all("no-emit-package"))
    absent = [word for name in names for word in ("--no-emit-package", name)]
    return (*flags, *valued, *absent)


def left_out_by(options: Options) -> frozenset[str]:
    """Returns which of a project's own packages are left out, in the words of `uv sync`."""
    return frozenset({_EMITTED.get(flag, flag) for flag in options.flags} & {*_LEFT_OUT})


def built_by(options: Options) -> tuple[str, ...]:
    """Returns what a `uv sync` wants to build although there are wheels, as values of pip's `--no-binary`."""
    return (*([":all:"] if "no-binary" in options.flags else []), *options.all("no-binary-package"))


class Exports:
    """The requirement files that `uv export` writes; what they list is locked with the lock that they come from."""

    def __init__(self) -> None:
        self._files: set[str] = set()

    def note(self, command: Command, options: Options) -> None:
        """Remembers the files that a `uv export` writes."""
        written = [*options.all("output-file"), *(word.text for word in command.writes)]
        self._files.update(normpath(join(command.cwd or "/", file)) for file in written)

    def note_step(self, step: Step) -> None:
        """Follows such files into the stages that copy or mount them."""
        if step.instruction.keyword == "COPY":
            for copied in copies_of(step):
                for file in [file for file in self._files if file == f"/{copied.source.lstrip('/')}"]:
                    place = join(copied.destination, basename(file)) if copied.into_folder else copied.destination
                    self._files.add(place)
        for mount in step.instruction.values("mount"):
            options = mount_options(mount)
            if options.get("from") and normpath(join("/", options.get("source", "/"))) in self._files:
                self._files.add(step.setting.path(options.get("target", "/")))

    def without(self, files: Iterable[str]) -> tuple[str, ...]:
        """Returns *files* but for those."""
        return tuple(file for file in files if file not in self._files)


def environment_of(sync: UvSync, project: str, environment: Mapping[str, str | None]) -> str:
    """Returns the virtual environment that a `uv sync` fills.

    Args:
        sync: the command.
        project: the folder of its uv.lock, inside the image.
        environment: the command's variables.
    """
    active = environment.get("VIRTUAL_ENV") if "active" in sync.options.flags else ""
    return normpath(join(project, active or environment.get("UV_PROJECT_ENVIRONMENT") or ".venv"))


def local_packages(lock: str, project: UvProject) -> Iterator[str]:
    """Yields the folders, relative to the lock's, of the packages that are built when *project* is installed."""
    if {"no-install-workspace", "no-install-local"} & project.left_out:
        return
    for package in _packages(lock):
        source = package.get("source", {})
        folder = source.get("editable") or source.get("directory")
        if folder and not (folder == "." and "no-install-project" in project.left_out):
            yield str(folder)


def lock_source(project: UvProject) -> str:
    """Returns where the mounted uv.lock of *project* lies in the image of its wheels."""
    return f"/uv/{hex_of(digest_of_json(str(project.folder)))[:16]}/{LOCK}"


def reasons_against(lock: str) -> Iterator[str]:
    """Yields why a uv.lock cannot be installed from wheels alone."""
    for package in _packages(lock):
        source = package.get("source", {})
        name = package.get("name", "a package")
        if "git" in source:
            yield f"{name} comes from version control"
        elif "url" in source or "path" in source:
            yield f"{name} is an archive of its own, outside every index"
        elif "registry" in source and not package.get("wheels"):
            yield f"{name} has no wheels"


def mounted_lock(lock: str, wheels: Iterable[LockedWheel], *, folder: str) -> str:
    """Returns a uv.lock that names the wheels lying in *folder* as its only source.

    It holds under `--locked` as well as under `--frozen`: what a lock is checked for are its requirements and that its
    sources are among uv's own, which the mounted configuration says of that folder.

    Args:
        lock: the project's own.
        wheels: those in the folder; of a package that is among them no others are offered.
        folder: absolute, inside the image.
    """
    import tomli_w  # noqa: PLC0415 - needed only where a lock is mounted

    document = tomllib.loads(lock)
    there = {(str(wheel.name), str(wheel.digest)): wheel.filename for wheel in wheels}
    taken: set[tuple[str, str]] = set()
    # Packages from two indexes must not become one: those that are not wanted here move aside.
    packages = sorted(document.get("package", ()), key=lambda package: not _has_wheel(package, there))
    moved: dict[tuple[str, str, str], dict[str, str]] = {}
    for package in packages:
        if "registry" not in package.get("source", {}):
            continue
        identity = (str(package["name"]), str(package.get("version")))
        source = {"registry": folder if identity not in taken else f"{folder}/elsewhere"}
        taken.add(identity)
        moved[(*identity, str(package["source"]["registry"]))] = source
        package["source"] = source
        own = [wheel for wheel in package.get("wheels", ()) if _key(package, wheel) in there]
        package["wheels"] = [
            {"path": there.get(_key(package, wheel), _filename(wheel)), "hash": wheel["hash"]}
            for wheel in own or package.get("wheels", ())
            if "hash" in wheel
        ]
        package.pop("sdist", None)
    for package in packages:
        for dependency in _dependencies(package):
            registry = dependency.get("source", {}).get("registry")
            if registry is not None:
                identity = (str(dependency["name"]), str(dependency.get("version")))
                dependency["source"] = moved.get((*identity, registry), {"registry": folder})
    return tomli_w.dumps(document)


def folders_above(path: str) -> Iterator[str]:
    """Yields *path* and the folders above it: uv.lock stands at the root of a workspace."""
    yield path
    while path != "/":
        path = dirname(path)
        yield path


def _with_variables(options: Options, before: Options | None, environment: Mapping[str, str | None]) -> Options:
    given = before if before is not None else Options(values={}, flags=frozenset(), operands=())
    flags = set(options.flags | given.flags)
    for name in ("no-dev", "no-default-groups", "no-editable", "no-binary", *_LEFT_OUT):
        if (environment.get(f"UV_{name.upper().replace('-', '_')}") or "").lower() in {"1", "true", "yes", "on"}:
            flags.add(name)
    values = {**given.values, **options.values}
    for name in ("no-group", "no-binary-package"):
        if (given_by_variable := environment.get(f"UV_{name.upper().replace('-', '_')}")) and name not in values:
            values[name] = tuple(given_by_variable.split())
    return Options(values=values, flags=frozenset(flags), operands=options.operands)


def _packages(lock: str) -> list[dict[str, Any]]:
    try:
        return list(tomllib.loads(lock).get("package", ()))
    except tomllib.TOMLDecodeError as error:
        raise LockError(f"uv.lock: expected TOML: {error}", hint="make it anew: uv lock") from error


def _dependencies(package: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    yield from package.get("dependencies", ())
    for table in ("optional-dependencies", "dev-dependencies"):
        for listed in package.get(table, {}).values():
            yield from listed


def _has_wheel(package: Mapping[str, Any], there: Mapping[tuple[str, str], str]) -> bool:
    return any(_key(package, wheel) in there for wheel in package.get("wheels", ()))


def _key(package: Mapping[str, Any], wheel: Mapping[str, Any]) -> tuple[str, str]:
    return canonicalize_name(str(package["name"])), str(wheel.get("hash", ""))


def _filename(wheel: Mapping[str, Any]) -> str:
    return str(wheel.get("filename") or wheel.get("path") or wheel.get("url", "")).rpartition("/")[2]
