"""Turns requirements into a lockfile for a target: the resolving is uv's, asked in its own words."""

from __future__ import annotations

import re
import sys
import tempfile
import threading
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from packaging.markers import Marker
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from wheelcache.config import IndexConfig
from wheelcache.errors import NetworkError, ResolveError
from wheelcache.index import default_index
from wheelcache.installed import Installed, preferring, write_stand_ins
from wheelcache.programs import Completed, run_program
from wheelcache.redaction import without_userinfo
from wheelcache.target import Target, uv_arguments

_NO_ANSWER: Final = re.compile(
    r"error sending request|Failed to (?:fetch|download)|tcp connect error|dns error|timed out",
)
"""What uv says when an index did not answer (as opposed to answering that there is no solution)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Demand:
    """What one resolution is asked for.

    Attributes:
        lines: lines of a requirements file: PEP 508 requirements, and `-r` and `-c` with absolute paths.
        index_url: the one index to use in place of the project's; None for the project's.
        extra_index_urls: further indexes; the best version of any is taken, as pip does.
        find_links: folders or pages with wheels.
        prereleases: True when pre-releases are allowed for everything.
        constraints: PEP 508 lines that bound versions without asking for anything.
        torch_backend: in place of the project's.
        no_deps: True when what the lines name is wanted without what it depends on.
        mixes_indexes: True when a file of *lines* names further indexes, which pip treats as equals of the first.
        sees_installed: True when the command takes what its image holds already as installed.
        renewed: normalised names (PEP 503) that are upgraded even where an older version is installed.
        installed: what the image holds, as far as the command sees it.
        project: the folder of a uv.lock that says it all, in place of *lines*; empty for none.
        choice: what of that lock is wanted, as options of `uv export`.
        for_build: True for what a project is built with, in an environment of its own that does not stay.
    """

    lines: tuple[str, ...]
    index_url: str | None = None
    extra_index_urls: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    prereleases: bool = False
    constraints: tuple[str, ...] = ()
    torch_backend: str | None = None
    no_deps: bool = False
    mixes_indexes: bool = False
    sees_installed: bool = False
    renewed: tuple[str, ...] = ()
    installed: tuple[Installed, ...] = ()
    project: str = ""
    choice: tuple[str, ...] = ()
    for_build: bool = False

    @property
    def manner(self) -> tuple[object, ...]:
        """Everything that says how to look: demands that are equal in it can be resolved together."""
        return (
            self.index_url,
            self.extra_index_urls,
            self.find_links,
            self.prereleases,
            self.torch_backend,
            self.no_deps,
            self.mixes_indexes,
            self.sees_installed,
            self.for_build,
            self.choice,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Resolver:
    """uv, with what is the same for all resolutions of a run.

    Attributes:
        uv: the program.
        indexes: the project's indexes, the first the default; empty for uv's own default.
        torch_backend: uv's `--torch-backend`, such as `cu128`.
        environ: the environment uv runs in.
        timeout: seconds without an answer from an index.
        stop: set when the user interrupts.
    """

    uv: str
    indexes: Sequence[IndexConfig] = ()
    torch_backend: str | None = None
    environ: Mapping[str, str]
    timeout: float = 60
    stop: threading.Event

    def resolve(
        self,
        demand: Demand,
        target: Target,
        *,
        preferences: Mapping[str, Any] | None = None,
        upgrade: Sequence[str] = (),
    ) -> dict[str, Any]:
        """Resolves *demand* for *target* to wheels with hashes.

        Args:
            demand: what to resolve.
            target: what the wheels must fit.
            preferences: a PEP 751 document whose versions are kept where they can be; what is installed goes first.
            upgrade: projects whose preferred version is to be forgotten.

        Returns:
            A PEP 751 document, with what is installed already where that serves.

        Raises:
            ResolveError: there is no solution of wheels; the message is uv's reason.
            NetworkError: an index did not answer.
        """
        with tempfile.TemporaryDirectory(prefix="wheelcache-lock-") as scratch:
            requirements = Path(scratch, "requirements.in")
            requirements.write_text("\n".join([*demand.lines, ""]), encoding="utf-8")
            constraints = Path(scratch, "constraints.txt")
            constraints.write_text("\n".join([*demand.constraints, ""]), encoding="utf-8")
            output = Path(scratch, "pylock.toml")
            stand_ins = Path(scratch, "installed")
            stand_ins.mkdir()
            write_stand_ins(demand.installed, stand_ins)
            kept = [each for each in demand.installed if each.name not in demand.renewed]
            if preferences is not None or kept:
                output.write_text(_toml(preferring(kept, preferences)), encoding="utf-8")
            names = {each.name for each in kept}
            completed = run_program(
                [
                    *self._command(demand, target, [name for name in upgrade if canonicalize_name(name) not in names]),
                    *(("--find-links", str(stand_ins)) if demand.installed else ()),
                    *("--constraints", str(constraints)),
                    *("--output-file", str(output)),
                    str(requirements),
                ],
                env=self._environment(target),
                stop=self.stop,
            )
            if completed.returncode != 0:
                raise _reason(completed, scratch)
            return tomllib.loads(output.read_text(encoding="utf-8"))

    def export(self, demand: Demand, target: Target) -> dict[str, Any]:
        """Returns what a uv.lock holds of *demand* for *target*, as a PEP 751 document; nothing is resolved.

        Raises:
            ResolveError: the lock is not for that Python, or uv cannot read it.
        """
        command = [
            self.uv,
            "export",
            "--frozen",
            "--format",
            "pylock.toml",
            "--no-header",
            "--quiet",
            "--no-emit-local",
        ]
        completed = run_program(
            [*command, "--project", demand.project, "--python", sys.executable, *demand.choice],
            env={**self._environment(target), "UV_NO_CONFIG": "1"},
            stop=self.stop,
        )
        if completed.returncode != 0:
            raise _reason(completed, demand.project)
        document = tomllib.loads(completed.stdout.decode())
        wanted = SpecifierSet(document.get("requires-python", ""))
        if not wanted.contains(target.python, prereleases=True):
            raise ResolveError(
                f"{demand.project}/uv.lock: made for Python {wanted}, the image has {target.python}",
                hint="use another base image, or change requires-python and run uv lock",
            )
        environment = cast("dict[str, str]", dict(target.environment))
        packages = [
            {key: value for key, value in package.items() if key != "marker"}
            for package in document["packages"]
            if "marker" not in package or Marker(package["marker"]).evaluate(environment)
        ]
        return {**document, "packages": packages}

    def roots(self, demand: Demand) -> tuple[str, ...]:
        """Returns the indexes that *demand* is looked up in."""
        own = [index.url for index in self.indexes] or [default_index(self.environ)]
        return tuple(dict.fromkeys((*([demand.index_url] if demand.index_url else own), *demand.extra_index_urls)))

    def _command(self, demand: Demand, target: Target, upgrade: Sequence[str]) -> list[str]:
        command = [self.uv, "pip", "compile", "--format", "pylock.toml", "--no-build", "--no-header", "--quiet"]
        command += ["--python", sys.executable, *uv_arguments(target), *self._places(demand)]
        if demand.prereleases:
            command += ["--prerelease", "allow"]
        if demand.no_deps:
            command.append("--no-deps")
        for name in upgrade:
            command += ["--upgrade-package", canonicalize_name(name)]
        return command

    def _places(self, demand: Demand) -> list[str]:
        """Returns the options that say where to look."""
        places: list[str] = []
        if demand.index_url is not None:
            places += ["--default-index", demand.index_url]
        elif self.indexes:
            places += ["--default-index", self.indexes[0].url]
            for index in self.indexes[1:]:
                places += ["--index", f"{index.name}={index.url}"]
        for url in demand.extra_index_urls:
            places += ["--extra-index-url", url]
        if demand.extra_index_urls or demand.mixes_indexes:
            places += ["--index-strategy", "unsafe-best-match"]
        for link in demand.find_links:
            places += ["--find-links", link]
        backend = demand.torch_backend or self.torch_backend
        if backend is not None and demand.index_url is None:
            places += ["--torch-backend", backend]
        return places

    def _environment(self, target: Target) -> dict[str, str]:
        bundle = self.environ.get("REQUESTS_CA_BUNDLE")
        certificates = {"SSL_CERT_FILE": bundle} if bundle and "SSL_CERT_FILE" not in self.environ else {}
        # uv's word for macOS names no version; this variable does.
        mac = re.fullmatch(r"macosx_(\d+)_(\d+)_\w+", target.platform)
        return {
            **self.environ,
            **certificates,
            **({"MACOSX_DEPLOYMENT_TARGET": f"{mac[1]}.{mac[2]}"} if mac else {}),
            "NO_COLOR": "1",
            "UV_HTTP_TIMEOUT": str(max(1, round(self.timeout))),
            "UV_NO_PROGRESS": "1",
            "UV_PYTHON_DOWNLOADS": "never",
        }


def uv_program() -> str:
    """Returns the path of the uv that was installed with us."""
    from uv import find_uv_bin  # noqa: PLC0415 - needed only where something is resolved

    return str(find_uv_bin())


def _toml(document: Mapping[str, Any]) -> str:
    import tomli_w  # noqa: PLC0415 - needed only where a lockfile is written

    return tomli_w.dumps(document)


def _reason(completed: Completed, scratch: str) -> ResolveError | NetworkError:
    """Returns uv's own words as the error they stand for, without our temporary paths and credentials."""
    said = completed.stderr.decode(errors="replace").replace(f"{scratch}/", "").strip()
    said = without_userinfo(said).removeprefix("error: ")
    if "network was disabled" in said:
        return NetworkError(f"nothing can be resolved offline:\n{said}", hint="run once with the network")
    if _NO_ANSWER.search(said) and "No solution found" not in said:
        return NetworkError(
            f"the package index did not answer:\n{said}", hint="check the network, or name another index"
        )
    if "no usable wheels" in said or "has no wheels" in said:
        return ResolveError(
            f"a project has no wheel for the target:\n{said}",
            hint="choose a version with wheels, or put a wheel built from its source into an index of yours",
        )
    return ResolveError(f"the requirements cannot be resolved:\n{said}", hint="change the requirement named above")
