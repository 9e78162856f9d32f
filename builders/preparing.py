"""Decides how each service is built before anything is: sealed or online, and on which shared base."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from posixpath import basename, normpath
from typing import cast

from packaging.markers import UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import NormalizedName, canonicalize_name

from builders.dockerfile import Base
from builders.engine import Engine
from builders.errors import BuildError, EngineError, RefusedError
from builders.installs import Install
from builders.locking import LockedService
from builders.pipconf import WHEELS
from builders.plan import SharedSet, Sharer, plan_shared_sets, why_alone
from builders.reading import Reading, read_service
from builders.sharing import Sharing, sharing
from builders.targets import ensure_image
from builders.uvproject import lock_source, mounted_lock
from wheelcache.config import BuildMode
from wheelcache.digest import digest_of_json
from wheelcache.lock import LockedWheel
from wheelcache.requirements import parse_requirements
from wheelcache.target import Target


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """A service and how it is going to be built.

    Attributes:
        locked: the service with its lockfile.
        reading: what its files say, read with the environments of its base images.
        mode: sealed or online.
        why_online: why it is not sealed though nobody asked for that; empty otherwise.
        share: whether it can take heavy wheels from its base.
        base: the reference of the image its final stage is on; empty for `scratch`.
        base_id: that image's id.
        base_digest: of its manifest, as its registry has it; empty where it came from none.
        shared: the wheels that it takes from a shared base; None when it takes none.
        why_own: why it takes none.
        refusal: why it cannot be built at all; None when it can.
    """

    locked: LockedService
    reading: Reading
    mode: BuildMode
    why_online: str = ""
    share: Sharing
    base: str
    base_id: str
    base_digest: str = ""
    shared: SharedSet | None = None
    why_own: str = ""
    refusal: BuildError | None = None

    @property
    def name(self) -> str:
        """The service."""
        return self.reading.service.name

    @property
    def own_wheels(self) -> tuple[LockedWheel, ...]:
        """What is mounted into its build: what its base does not bring, and what its projects are built with.

        Those are built in environments that do not see the base; of small wheels it is not known which they need.
        """
        brought = {wheel.digest for wheel in self.shared.wheels} if self.shared is not None else set()
        asked = [line for demand in self.reading.demands if demand.for_build for line in demand.lines]
        tools = {canonicalize_name(Requirement(line).name) for line in asked}
        return tuple(
            wheel
            for wheel in self.locked.wheels
            if wheel.digest not in brought or (tools and (wheel.name in tools or not wheel.is_heavy))
        )

    @property
    def uv_locks(self) -> dict[str, str]:
        """The uv.lock files that are mounted over its projects' own, by their paths in the image of its wheels."""
        projects = [install.uv_project for install in self.reading.installs if install.uv_project is not None]
        return {
            lock_source(project): mounted_lock(self.reading.uv_locks[project.folder], self.locked.wheels, folder=WHEELS)
            for project in projects
            if project.folder in self.reading.uv_locks
        }

    @property
    def constraints(self) -> tuple[str, ...]:
        """The exact versions, as requirements, of what is locked and of what the base image brings."""
        locked = {str(wheel.name): wheel.version for wheel in self.locked.wheels}
        versions = {**self.locked.kept, **locked}
        return tuple(sorted(f"{name}=={version}" for name, version in versions.items()))

    @property
    def expected(self) -> tuple[tuple[str, str], ...]:
        """Name and version of what the image should hold, its base's part included; not what is uninstalled again."""
        versions = {wheel.name: wheel.version for wheel in _lasting(self.locked)} | self._kept_in_image
        return tuple(pair for pair in versions.items() if pair[0] not in self.reading.findings.uninstalled)

    @property
    def _kept_in_image(self) -> dict[NormalizedName, str]:
        """What the final stage's own base brings; of a builder stage's image it is not known what comes along."""
        stages = self.reading.findings.stages
        bases = {stages.external_base(install.stage) for install in self.reading.installs}
        is_whole = bases == {stages.external_base(stages.final)}
        return {canonicalize_name(name): version for name, version in self.locked.kept.items()} if is_whole else {}

    @property
    def required(self) -> frozenset[str]:
        """The projects that must be in the image; what a builder stage alone installs may stay behind there.

        One lockfile is for all installs, so where some stay behind it is known only of what the others name themselves,
        and of what the shared base brings.
        """
        stages = self.reading.findings.stages
        installs = [install for install in self.reading.installs if install.subcommand != "export"]
        chain = stages.chain(stages.final)
        staying = [install for install in installs if _stays(install, chain)]
        locked = frozenset(wheel.name for wheel in _lasting(self.locked)).union(self._kept_in_image)
        if installs and len(staying) == len(installs):
            return locked
        brought = {wheel.name for wheel in self.shared.wheels} if self.shared is not None else set[NormalizedName]()
        brought |= self._kept_in_image.keys()
        named = {name for install in staying for name in _named(install, self.reading, self.locked.target)}
        return locked & (brought | named)


def _lasting(service: LockedService) -> tuple[LockedWheel, ...]:
    """Returns the wheels that are installed into the image, not only into an environment that a project is built in."""
    return tuple(wheel for wheel in service.wheels if wheel.name not in service.build_only)


def _named(install: Install, reading: Reading, target: Target | None) -> Iterator[NormalizedName]:
    """Yields the projects that an install itself names, as far as their markers hold for the target."""
    texts = [reading.files.get(normpath(file.path), "") for file in install.requirement_files if not file.context]
    lines = [line for text in texts for line in parse_requirements(text).requirements]
    environment = cast("dict[str, str]", dict(target.environment)) if target is not None else None
    for line in (*install.requirements, *lines):
        try:
            requirement = Requirement(line)
            holds = requirement.marker is None or requirement.marker.evaluate(environment)
        except (InvalidRequirement, UndefinedEnvironmentName):
            continue
        if holds:
            yield canonicalize_name(requirement.name)


def _stays(install: Install, chain: tuple[int, ...]) -> bool:
    return install.stage in chain and install.destination != "wheel"


def prepare(
    services: Sequence[LockedService], *, engine: Engine, is_online: bool, is_offline: bool
) -> tuple[Prepared, ...]:
    """Decides how *services* are built; what cannot be built has a refusal, and the others go on.

    Args:
        services: all of the project, since what is shared depends on all.
        engine: asked for base images, which are pulled when they are missing.
        is_online: the user wants online builds.
        is_offline: nothing may be pulled.

    Raises:
        EngineError: the engine does not answer.
    """
    stale = {} if is_offline else _pull_newer(services, engine)
    prepared = [_decide(service, engine, stale, is_online=is_online, is_offline=is_offline) for service in services]
    sharers = [
        Sharer(
            name=each.name,
            ground=(each.base_id, _target_key(each.locked)),
            wheels=tuple(
                wheel for wheel in _lasting(each.locked) if wheel.name not in each.reading.findings.uninstalled
            ),
            takes_light=each.share.takes_light,
        )
        for each in prepared
        if each.refusal is None and each.share.verdict == "shared" and not each.why_own
    ]
    sets = plan_shared_sets(sharers)
    shared = {name: common for common in sets for name in common.services}
    alone = {each.name: why_alone(each, sharers, sets) for each in sharers if each.name not in shared}
    return tuple(
        replace(each, shared=shared.get(each.name), why_own=alone.get(each.name, each.why_own)) for each in prepared
    )


def _pull_newer(services: Sequence[LockedService], engine: Engine) -> dict[str, BuildError]:
    """Pulls the base images of those whose compose file says `pull: true`; returns why not, by the image's reference.

    All of them before anything is decided, so that services on one base see the same.
    """
    failed: dict[str, BuildError] = {}
    for ref in sorted(
        {ref for service in services if _wants_newer(service.reading) for ref in _bases(service.reading)}
    ):
        try:
            engine.pull(ref)
        except BuildError as error:
            failed[ref] = error
    return failed


def _wants_newer(reading: Reading) -> bool:
    return reading.service.compose is not None and reading.service.compose.pull


def _decide(
    service: LockedService,
    engine: Engine,
    stale: Mapping[str, BuildError],
    *,
    is_online: bool,
    is_offline: bool,
) -> Prepared:
    reading = service.reading
    stages = reading.findings.stages
    base = stages.external_base(stages.final)
    base = "" if base == "scratch" else base
    share = sharing(stages, reading.installs, started=reading.started)
    try:
        for error in (stale[ref] for ref in _bases(reading) if ref in stale and _wants_newer(reading)):
            raise error
        configs = {ref: ensure_image(engine, ref, is_offline=is_offline) for ref in _bases(reading)}
        reading = read_service(
            reading.service,
            bases={
                ref: Base(
                    env=_without_obeyed(config.env, service),
                    workdir=config.workdir,
                    user=config.user,
                    triggers=config.onbuild,
                )
                for ref, config in configs.items()
            },
        )
        share = sharing(reading.findings.stages, reading.installs, started=reading.started)
        if reading.demands != service.reading.demands:  # a base image's variables tell now what was not locked then
            both = (*service.reading.unlockable, *reading.unlockable)
            reading = replace(reading, unlockable=tuple(dict.fromkeys(both)))
        mode, why_online = _mode(reading, is_online=is_online)
    except EngineError:
        raise
    except BuildError as error:
        return Prepared(
            locked=service, reading=reading, mode="sealed", share=share, base=base, base_id="", refusal=error
        )
    config = configs.get(base)
    triggers = config is not None and bool(config.onbuild)
    return Prepared(
        locked=service,
        reading=reading,
        mode=mode,
        why_online=why_online,
        share=share,
        base=base,
        base_id=config.image_id if config is not None else "",
        base_digest=config.digest_in(base) if config is not None else "",
        why_own=_why_own(service, reading, share, base=base, triggers=triggers),
    )


def _without_obeyed(env: Mapping[str, str], service: LockedService) -> dict[str, str]:
    """Returns an image's environment without its constraint files that the lockfile was made with."""
    record = service.lockfile.record if service.lockfile is not None else None
    obeyed = record.base_constraints if record is not None else {}
    given = {name: env[name].split() for name in ("PIP_CONSTRAINT", "UV_CONSTRAINT") if name in env}
    rest = {name: " ".join(path for path in paths if path not in obeyed) for name, paths in given.items()}
    return {**env, **rest}


def _mode(reading: Reading, *, is_online: bool) -> tuple[BuildMode, str]:
    """Returns how to build, and why online when nobody asked for that.

    Raises:
        RefusedError: it was to be sealed in so many words, and cannot be.
    """
    asked = reading.service.mode
    if is_online or asked == "online":
        return "online", ""
    if not reading.obstacles:
        return "sealed", ""
    reasons = "; ".join(reading.obstacles)
    if asked == "sealed":
        raise RefusedError(
            f"{reading.service.name} ({reading.service.where}) cannot be built sealed: {reasons}",
            hint='change that line, or build it online: build = "online" for this service, or --online',
        )
    return "online", reasons


def _why_own(service: LockedService, reading: Reading, share: Sharing, *, base: str, triggers: bool) -> str:
    """Returns why a service takes no shared base, whatever others have in common with it; empty where it may."""
    if share.verdict == "own":
        return share.reason
    if triggers:
        return f"{base} has ONBUILD triggers, which would run while the shared base is built"
    compose = reading.service.compose
    if compose is not None and compose.platforms:
        return "it names platforms of its own"
    if compose is not None and base in compose.additional_contexts:
        return f"its compose file puts another image in the place of {base}"
    # Of a small wheel's program it is known that the wheel stays where it is.
    small = {wheel.name for wheel in service.wheels if not wheel.is_heavy}
    other = next((path for path in share.programs if canonicalize_name(basename(path)) not in small), "")
    return f"it names {other}, and programs of wheels in the base stand elsewhere" if other else ""


def _bases(reading: Reading) -> tuple[str, ...]:
    stages = reading.findings.stages
    return tuple(sorted({stages.external_base(stage) for stage in stages.needed()} - {"scratch"}))


def _target_key(service: LockedService) -> str:
    return digest_of_json(service.target.as_toml()) if service.target is not None else ""
