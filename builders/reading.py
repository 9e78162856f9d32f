"""Reads a service's Dockerfile and requirement files: what it asks for, and why some of it cannot be locked."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from builders.contextfiles import ContextPath
from builders.dockerfile import Base, Dockerfile, decode_dockerfile, parse_dockerfile
from builders.installs import Findings, Install, find_installs
from builders.localproject import ProjectNeeds, read_project
from builders.localwheel import read_wheel
from builders.services import Service
from builders.starting import started_texts
from builders.uvproject import LOCK, UvProject, local_packages, reasons_against
from wheelcache.errors import ProjectFileError
from wheelcache.pins import read_closure, read_text
from wheelcache.redaction import without_userinfo
from wheelcache.requirements import RequirementsFile, parse_requirements
from wheelcache.resolve import Demand

_LONGEST_SCRIPT: Final = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """A service and what its files say.

    Attributes:
        service: as compose or the project file has it.
        dockerfile: parsed.
        findings: what it installs.
        demands: what is to be resolved, in the order of installation.
        sources: the installs that each demand comes from, in the same order.
        files: the texts of all requirement and constraint files, by their names relative to the context.
        uv_locks: the texts of the uv.lock files that it installs, by their folders.
        started: texts that say what its containers start, beside the Dockerfile itself.
        unlockable: sentences; why some of what it installs cannot be locked, and so needs an online build.
        unsealable: sentences; why some command would not keep to the mounted wheels.
    """

    service: Service
    dockerfile: Dockerfile
    findings: Findings
    demands: tuple[Demand, ...]
    sources: tuple[tuple[Install, ...], ...]
    files: Mapping[str, str]
    uv_locks: Mapping[ContextPath, str]
    started: tuple[str, ...]
    unlockable: tuple[str, ...]
    unsealable: tuple[str, ...]

    @property
    def installs(self) -> tuple[Install, ...]:
        """Every pip and uv command that installs."""
        return self.findings.installs

    @property
    def obstacles(self) -> tuple[str, ...]:
        """Everything that stands in the way of a sealed build."""
        return (*self.unlockable, *self.unsealable)


def read_service(service: Service, *, bases: Mapping[str, Base] | None = None) -> Reading:
    """Reads what *service* installs.

    Args:
        service: whose files are read.
        bases: what its base images say, by reference, where the engine was asked.

    Raises:
        ProjectFileError: the Dockerfile or a requirements file is missing or cannot be read as one.
    """
    dockerfile = parse_dockerfile(_dockerfile_text(service), file=service.where)
    contexts = _named_contexts(service)

    def has(path: ContextPath) -> bool:
        return (found := _on_disk(path, service, contexts)) is not None and found.is_file()

    def text_of(path: ContextPath) -> str | None:
        return _text(_on_disk(path, service, contexts))

    findings = find_installs(
        dockerfile,
        target=service.stage or "",
        build_args=service.args,
        bases=bases,
        platform=_platform(service),
        named_contexts=frozenset(contexts),
        has=has,
        text_of=text_of,
    )
    needs = [_needs(install, service, contexts) for install in findings.installs]
    if service.requirements is not None:
        asked = [(_demand_of_files(service.requirements, service, findings.installs), findings.installs)]
        paths = list(service.requirements)
        reasons: list[str] = []
    else:
        asked = [
            (_demand(install, need, service, contexts), (install,))
            for install, need in zip(findings.installs, needs, strict=True)
        ]
        paths = [path for install in findings.installs for path in _paths(install, service, contexts)]
        reasons = [f"line {install.line}: {reason}" for install in findings.installs for reason in install.unlockable]
        reasons += [
            f"line {install.line}: {reason}"
            for install, need in zip(findings.installs, needs, strict=True)
            for reason in need.unlockable
        ]
        reasons += [f"line {foreign.line}: {foreign.reason}" for foreign in findings.foreign if foreign.is_python]
    # Last, and so in versions that agree with what is installed; nothing of it stays.
    asked += [
        (_build_demand(install, need), (install,)) for install, need in zip(findings.installs, needs, strict=True)
    ]
    texts = read_closure(paths, read=read_text)
    reasons += _reasons_in(texts, service)
    # A uv.lock has settled its versions: the other commands agree with it where they can.
    asked = [(demand, installs) for demand, installs in asked if demand.lines or demand.project]
    asked.sort(key=lambda pair: not pair[0].project)
    uv_locks = {
        project.folder: read_text(path / LOCK)
        for install in findings.installs
        if (project := install.uv_project) is not None
        and (path := _on_disk(project.folder, service, contexts)) is not None
    }
    for folder, text in uv_locks.items():
        path = _on_disk(folder, service, contexts)
        texts = {**texts, **({path / LOCK: text} if path is not None else {})}
    return Reading(
        service=service,
        dockerfile=dockerfile,
        findings=findings,
        demands=tuple(demand for demand, _ in asked),
        sources=tuple(installs for _, installs in asked),
        files={os.path.relpath(path, service.context).replace(os.sep, "/"): text for path, text in texts.items()},
        uv_locks=uv_locks,
        started=started_texts(
            findings.stages,
            service.compose.started if service.compose is not None else (),
            named_contexts=frozenset(contexts),
            has=has,
            text_of=text_of,
        ),
        unlockable=tuple(dict.fromkeys(reasons)),
        unsealable=tuple(
            dict.fromkeys(
                f"line {install.line}: {reason}" for install in findings.installs for reason in install.unsealable
            )
        ),
    )


def _dockerfile_text(service: Service) -> str:
    if service.dockerfile is None:
        return service.inline or ""
    try:
        return decode_dockerfile(service.dockerfile.read_bytes())
    except OSError as error:
        raise ProjectFileError(
            f"{service.dockerfile}: expected a Dockerfile: {error}", hint="check the file and its permissions"
        ) from error


def _text(path: Path | None) -> str | None:
    """Returns the text of a small file; None for what is no text, or too long for a script that people write."""
    try:
        if path is None or path.stat().st_size > _LONGEST_SCRIPT:
            return None
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def _platform(service: Service) -> str:
    """Returns the platform that is built for, for the automatic arguments: as compose says, else this machine's."""
    if service.compose is not None and service.compose.platforms:
        return service.compose.platforms[0]
    return "linux/arm64" if platform.machine().lower() in {"aarch64", "arm64"} else "linux/amd64"


def _named_contexts(service: Service) -> dict[str, Path]:
    """Returns the further contexts that are folders of this machine."""
    if service.compose is None:
        return {}
    named = service.compose.additional_contexts
    return {name: Path(value) for name, value in named.items() if "://" not in value}


def _on_disk(path: ContextPath, service: Service, contexts: Mapping[str, Path]) -> Path | None:
    """Returns where a context's file stands on this machine; None where it lies outside of its context."""
    root = contexts.get(path.context) if path.context else service.context
    if root is None:
        return None
    found = Path(os.path.normpath(root / path.path))
    return found if found.is_relative_to(os.path.normpath(root)) else None


def _paths(install: Install, service: Service, contexts: Mapping[str, Path]) -> list[Path]:
    wanted = (*install.requirement_files, *install.constraint_files)
    return [found for path in wanted if (found := _on_disk(path, service, contexts)) is not None]


def _needs(install: Install, service: Service, contexts: Mapping[str, Path]) -> ProjectNeeds:
    """Returns what it takes to install the local projects that a command names."""
    if install.uv_project is not None:
        return _uv_needs(install.uv_project, service, contexts)
    needs: list[ProjectNeeds] = []
    reasons: list[str] = []
    for project in install.local_projects:
        folder = _on_disk(project.folder, service, contexts)
        if folder is None:
            reasons.append(f"the local project {project.folder} lies outside of its build context")
            continue
        if folder.suffix == ".whl":
            need = read_wheel(folder, extras=project.extras)
        else:
            need = read_project(folder, extras=project.extras, is_editable=project.editable, tool=install.tool)
        needs.append(need)
        reasons += [f"the local project {project.folder}: {reason}" for reason in need.unlockable]
    return ProjectNeeds(
        requirements=tuple(line for need in needs for line in need.requirements) if not install.no_deps else (),
        build=tuple(line for need in needs for line in need.build) if not reasons else (),  # online it gets them
        unlockable=tuple(reasons),
    )


def _uv_needs(project: UvProject, service: Service, contexts: Mapping[str, Path]) -> ProjectNeeds:
    """Returns what it takes to build the packages of a uv project; what they require its uv.lock says."""
    folder = _on_disk(project.folder, service, contexts)
    if folder is None:
        return ProjectNeeds(requirements=(), build=(), unlockable=(f"{project.folder} lies outside of its context",))
    lock = read_text(folder / LOCK)
    reasons = tuple(f"{LOCK}: {reason}" for reason in dict.fromkeys(reasons_against(lock)))
    built = [
        read_project(folder / local, extras=(), is_editable=True, tool="uv") for local in local_packages(lock, project)
    ]
    return ProjectNeeds(
        requirements=(),
        build=tuple(line for need in built for line in need.build) if not reasons else (),
        unlockable=reasons,
    )


def _build_demand(install: Install, needs: ProjectNeeds) -> Demand:
    return Demand(
        lines=needs.build,
        index_url=install.index_url or None,
        extra_index_urls=install.extra_index_urls,
        find_links=tuple(link for link in install.find_links if "://" in link),
        for_build=True,
    )


def _demand(install: Install, needs: ProjectNeeds, service: Service, contexts: Mapping[str, Path]) -> Demand:
    if install.uv_project is not None:
        folder = _on_disk(install.uv_project.folder, service, contexts)
        is_known = folder is not None and not needs.unlockable
        return Demand(lines=(), project=str(folder) if is_known else "", choice=install.uv_project.choice)

    def lines(option: str, paths: Sequence[ContextPath]) -> list[str]:
        return [f"{option} {found}" for path in paths if (found := _on_disk(path, service, contexts)) is not None]

    files = [found for path in install.requirement_files if (found := _on_disk(path, service, contexts)) is not None]
    asked = [*install.requirements, *needs.requirements, *(line for file in files for line in _lines_of(file))]
    return Demand(
        lines=(*asked, *lines("-c", install.constraint_files)) if asked else (),
        index_url=install.index_url or None,
        extra_index_urls=install.extra_index_urls,
        find_links=tuple(link for link in install.find_links if "://" in link),
        prereleases=install.pre,
        torch_backend=install.torch_backend or service.target.torch_backend,
        no_deps=install.no_deps,
        mixes_indexes=_name_further_indexes(files),
        sees_installed=sees_installed(install),
        renewed=_named_in(install.requirements, files) if install.upgrade else (),
    )


def sees_installed(install: Install) -> bool:
    """True when *install* takes what its image's interpreter has already as installed, and leaves it as it is."""
    places = {"system", "user", "venv-system-site-packages", *(("prefix",) if install.tool == "pip" else ())}
    return install.destination in places and not install.force


def _named_in(requirements: Sequence[str], files: Sequence[Path]) -> tuple[str, ...]:
    """Returns the projects that a command and its files name themselves, normalised (PEP 503)."""
    texts = read_closure(files, read=read_text).values()
    lines = [*requirements, *(line for text in texts for line in parse_requirements(text).requirements)]
    return tuple(sorted({canonicalize_name(Requirement(line).name) for line in lines}))


def _lines_of(file: Path) -> list[str]:
    """Returns what a requirements file asks for: the file itself, or its lines without those no index can serve."""
    read = {path: parse_requirements(text) for path, text in read_closure([file], read=read_text).items()}
    if not any(each.unlockable or each.local_projects or each.unknown_options for each in read.values()):
        return [f"-r {file}"]
    lines: list[str] = []
    waiting, seen = [file], set[Path]()
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        lines += [*read[path].requirements, *_places_of(read[path])]
        lines += [f"-c {name if '://' in name else _beside(path, name)}" for name in read[path].constraints]
        lines += [f"-r {name}" for name in read[path].includes if "://" in name]
        waiting += [_beside(path, name) for name in read[path].includes if "://" not in name]
    return lines


def _places_of(read: RequirementsFile) -> list[str]:
    """Returns the options of a requirements file that say where to look."""
    return [
        *([f"--index-url {read.index_url}"] if read.index_url else []),
        *(f"--extra-index-url {url}" for url in read.extra_index_urls),
        *(f"--find-links {link}" for link in read.find_links if "://" in link),
    ]


def _beside(file: Path, name: str) -> Path:
    return Path(os.path.normpath(file.parent / name))


def _demand_of_files(files: Sequence[Path], service: Service, installs: Sequence[Install]) -> Demand:
    return Demand(
        lines=tuple(f"-r {file}" for file in files),
        torch_backend=service.target.torch_backend,
        mixes_indexes=_name_further_indexes(files),
        sees_installed=bool(installs) and all(map(sees_installed, installs)),
        renewed=_named_in((), files) if any(install.upgrade for install in installs) else (),
    )


def _name_further_indexes(files: Sequence[Path]) -> bool:
    return any(parse_requirements(text).extra_index_urls for text in read_closure(files, read=read_text).values())


def _refuse_nonsense(read: RequirementsFile, path: Path) -> None:
    for line in read.lines:
        if line.wish is not None and line.wish.kind == "invalid":
            raise ProjectFileError(
                f"{path}:{line.number}: expected a requirement (PEP 508), found {line.text!r}",
                hint="correct that line",
            )


def _reasons_in(texts: Mapping[Path, str], service: Service) -> list[str]:
    """Returns why lines of requirement files cannot be locked."""
    reasons: list[str] = []
    for path, text in texts.items():
        where = os.path.relpath(path, service.context)
        read = parse_requirements(text)
        _refuse_nonsense(read, path)
        reasons += [f"{where}: {reason}" for reason in read.unlockable]
        reasons += [f"{where}: the local project {wish.text} is built from source" for wish in read.local_projects]
        reasons += [f"{where}: {line!r} is not understood" for line in read.unknown_options]
        reasons += [
            f"{where}: {without_userinfo(name)} is fetched while the command runs"
            for name in (*read.includes, *read.constraints)
            if "://" in name
        ]
    return reasons
