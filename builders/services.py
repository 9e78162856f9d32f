"""The services to build: what compose says, with what the project file says in its place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from builders.compose import ComposeService, read_compose
from wheelcache.config import BuildMode, Project, ServiceConfig, TargetConfig
from wheelcache.errors import ProjectFileError, UsageError
from wheelcache.lock import lockfile_name
from wheelcache.programs import Runner


@dataclass(frozen=True, kw_only=True, slots=True)
class Service:
    """One image to build.

    Attributes:
        name: as compose or the project file calls it.
        aliases: other services that compose builds in exactly the same way; one build serves all of them.
        images: the tags the image gets; the first is the service's own.
        context: the build context's folder.
        dockerfile: the Dockerfile, absolute; None when compose holds its text.
        inline: the Dockerfile's text in the compose file; None when there is a file.
        args: build arguments.
        stage: the stage to build; None for the last.
        mode: sealed or online as somebody wrote it down; None leaves it to us.
        requirements: what to lock in place of what the Dockerfile installs; None for the latter.
        target: the declared target, as far as there is one.
        compose: everything else that compose says of its build; None without compose.
    """

    name: str
    aliases: tuple[str, ...] = ()
    images: tuple[str, ...]
    context: Path
    dockerfile: Path | None
    inline: str | None = None
    args: Mapping[str, str] = field(default_factory=dict)
    stage: str | None = None
    mode: BuildMode | None = None
    requirements: tuple[Path, ...] | None = None
    target: TargetConfig = field(default_factory=TargetConfig)
    compose: ComposeService | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The name and its aliases."""
        return (self.name, *self.aliases)

    @property
    def lockfile(self) -> str:
        """The file name of its lockfile."""
        return lockfile_name(self.name)

    @property
    def where(self) -> str:
        """Where its Dockerfile stands, for messages."""
        return str(self.dockerfile) if self.dockerfile is not None else f"{self.name}: dockerfile_inline"


def read_services(project: Project, *, run: Runner) -> tuple[Service, ...]:
    """Returns every service of *project*, in the order in which they are written down.

    Raises:
        ProjectFileError: there is none, a compose file or a Dockerfile is missing, two lockfiles would get one name.
        EngineError: compose is needed and not installed.
    """
    composed: tuple[ComposeService, ...] = ()
    if project.compose:
        env_file = project.root / project.compose_env_file if project.compose_env_file else None
        composed = read_compose(
            [project.root / file for file in project.compose],
            env_file=env_file,
            profiles=tuple(project.compose_profiles),
            run=run,
        )
    overrides = {service.name: service for service in project.services}
    services = [_from_compose(service, overrides.pop(service.name, None), project) for service in composed]
    services += [_from_project(service, project) for service in overrides.values()]
    if not services:
        raise ProjectFileError(
            f"{project.file or project.root}: expected services, found none",
            hint='write compose = ["docker-compose.yml"] or [[services]] in wheelcache.toml, or pass --file COMPOSE',
        )
    merged = tuple(_merge_equal_builds(services))
    _check(merged)
    return merged


def choose_services(services: Sequence[Service], names: Sequence[str]) -> tuple[Service, ...]:
    """Returns the services that *names* ask for, all of them when it is empty.

    Raises:
        UsageError: no service has one of the names.
    """
    known = {name: service for service in services for name in service.names}
    for name in names:
        if name not in known:
            raise UsageError(
                f"expected a service or a lockfile, found {name!r}",
                hint=f"the services are: {', '.join(sorted(known))}",
            )
    chosen = {known[name].name for name in names}
    return tuple(service for service in services if not names or service.name in chosen)


def _from_compose(composed: ComposeService, override: ServiceConfig | None, project: Project) -> Service:
    override = override or ServiceConfig(name=composed.name)
    context = project.root / override.context if override.context else composed.context
    dockerfile = None
    if override.dockerfile or composed.dockerfile_inline is None:
        dockerfile = context / (override.dockerfile or composed.dockerfile or "Dockerfile")
    return Service(
        name=composed.name,
        images=(override.image or composed.image, *composed.tags),
        context=context,
        dockerfile=dockerfile,
        inline=composed.dockerfile_inline if dockerfile is None else None,
        args=composed.args,
        stage=composed.target,
        mode=override.build or project.build.build,
        requirements=_paths(override.requirements, context),
        target=_target(override, project),
        compose=composed,
    )


def _from_project(service: ServiceConfig, project: Project) -> Service:
    if service.context is None:
        raise ProjectFileError(
            f"{project.file}: services.{service.name}.context: missing, and no compose file knows this service",
            hint='write context = "folder", or correct the name',
        )
    context = project.root / service.context
    return Service(
        name=service.name,
        images=(service.image or f"{service.name.lower()}:latest",),
        context=context,
        dockerfile=context / (service.dockerfile or "Dockerfile"),
        mode=service.build or project.build.build,
        requirements=_paths(service.requirements, context),
        target=_target(service, project),
    )


def _paths(requirements: Sequence[str] | None, context: Path) -> tuple[Path, ...] | None:
    return None if requirements is None else tuple(context / name for name in requirements)


def _target(service: ServiceConfig, project: Project) -> TargetConfig:
    """Returns the service's own target, with the project's where it is silent."""
    own, common = service.target or TargetConfig(), project.target
    target = TargetConfig(
        python=own.python or common.python,
        platform=own.platform or common.platform,
        torch_backend=own.torch_backend or common.torch_backend,
    )
    if (target.python is None) != (target.platform is None):
        missing = "platform" if target.platform is None else "python"
        raise ProjectFileError(
            f"{project.file}: target.{missing}: missing", hint="declare both python and platform, or neither"
        )
    return target


def _merge_equal_builds(services: Iterable[Service]) -> Iterable[Service]:
    """Makes one of services whose builds are equal: compose projects run one image as web and as worker."""
    merged: dict[object, Service] = {}
    for service in services:
        extras = None if service.compose is None else service.compose.build_identity
        key = (
            service.context,
            service.dockerfile,
            service.inline,
            tuple(sorted(service.args.items())),
            service.stage,
            service.mode,
            service.requirements,
            service.target,
            extras,
        )
        first = merged.get(key)
        if first is None:
            merged[key] = service
            continue
        merged[key] = _with_alias(first, service)
    return merged.values()


def _with_alias(first: Service, other: Service) -> Service:
    images = first.images + tuple(image for image in other.images if image not in first.images)
    compose = first.compose
    if compose is not None and other.compose is not None:
        compose = replace(compose, started=(*compose.started, *other.compose.started))
    return replace(first, aliases=(*first.aliases, other.name), images=images, compose=compose)


def _check(services: Sequence[Service]) -> None:
    taken: dict[str, str] = {}
    for service in services:
        if not service.context.is_dir():
            raise ProjectFileError(
                f"{service.name}: context: expected a folder, found none at {service.context}",
                hint="correct `context` in the compose or project file",
            )
        if service.dockerfile is not None and not service.dockerfile.is_file():
            raise ProjectFileError(
                f"{service.name}: dockerfile: expected a file, found none at {service.dockerfile}",
                hint="correct `dockerfile` in the compose or project file",
            )
        other = taken.setdefault(service.lockfile, service.name)
        if other != service.name:
            raise ProjectFileError(
                f"the services {other} and {service.name} would share the lockfile {service.lockfile}",
                hint="rename one of them: names must differ in more than special characters",
            )
