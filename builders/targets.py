"""Finds out what a service's commands meet: the interpreter that wheels must fit, and what it has already."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from builders.attempt import Builder
from builders.commands import BuildRequest
from builders.contexts import unique_context
from builders.dockerfile import encode_dockerfile
from builders.engine import Engine
from builders.enginevalues import ImageConfig
from builders.errors import BuildError, EngineError
from builders.installs import Install
from builders.prefix import brings_its_own_python, brings_python, probe_dockerfile
from builders.probe import Facts, NoPythonError, probe_interpreter
from builders.reading import Reading
from wheelcache.digest import Digest, digest_of_bytes
from wheelcache.errors import LockError
from wheelcache.installed import Installed, read_installed
from wheelcache.requirements import parse_requirements
from wheelcache.resolve import Demand
from wheelcache.target import Target, declared_target, target_from_facts

Place = tuple[str, str, str]
"""Where a command runs: the image, the program that installs, and the stage where that brings the Python."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ground:
    """What a service's commands meet.

    Attributes:
        target: what its wheels must fit.
        facts: what the interpreter at each place said of itself; empty where the target is declared: then nobody was
            asked, and nothing counts as installed.
    """

    target: Target
    facts: Mapping[Place, Facts] = field(default_factory=dict)

    def demands(self, reading: Reading) -> tuple[Demand, ...]:
        """Returns what is to be resolved, with what is installed already and the constraints that hold there."""
        return tuple(
            replace(
                demand,
                installed=self._seen(reading, demand, installs),
                constraints=_pins(self._constraints(reading, installs)),
            )
            for demand, installs in zip(reading.demands, reading.sources, strict=True)
        )

    def held(self, reading: Reading) -> dict[str, str]:
        """Returns what is installed already where commands see it, by name: the version, or all that differ."""
        versions: dict[str, set[str]] = {}
        for demand in self.demands(reading):
            for each in demand.installed:
                versions.setdefault(each.name, set()).add(each.version)
        return {name: ", ".join(sorted(found)) for name, found in versions.items()}

    def constraint_files(self, reading: Reading) -> dict[str, Digest]:
        """Returns the digests of the constraint files in the images that the commands obey, by path."""
        return {
            path: digest_of_bytes(text.encode())
            for installs in reading.sources
            for path, text in self._constraints(reading, installs).items()
        }

    def _seen(self, reading: Reading, demand: Demand, installs: Sequence[Install]) -> tuple[Installed, ...]:
        places = {place_of(reading, install) for install in installs}
        facts = self.facts.get(places.pop()) if len(places) == 1 else None
        if facts is None:
            return ()
        is_own = facts.is_venv and all(each.environment == facts.prefix and not each.force for each in installs)
        if not demand.sees_installed and not is_own:
            return ()
        gone = reading.findings.uninstalled
        return tuple(each for each in read_installed(facts.installed) if each.name not in gone)

    def _constraints(self, reading: Reading, installs: Sequence[Install]) -> dict[str, str]:
        found: dict[str, str] = {}
        for install in installs:
            facts = self.facts.get(place_of(reading, install))
            found |= facts.constraints[install.tool] if facts is not None else {}
        return found


def place_of(reading: Reading, install: Install) -> Place:
    """Returns where *install* runs."""
    stages = reading.findings.stages
    brought = str(install.stage) if brings_python(stages, install) else ""
    return stages.external_base(install.stage), install.interpreter, brought


class TargetFinder:
    """Asks each image at most once.

    Args:
        engine: connects to the engine; called only when an image has to be asked.
        builder: for the probe builds of Dockerfiles that bring their own Python.
        cache: the folder in which answers are kept by image id.
        is_eager: True to ask the image even where a lockfile already records its answer.
        is_offline: True when no image may be pulled, and probe builds get no network.
    """

    def __init__(
        self,
        *,
        engine: Callable[[], Engine],
        builder: Callable[[], Builder],
        cache: Path,
        is_eager: bool,
        is_offline: bool,
    ) -> None:
        self._engine = engine
        self._builder = builder
        self._cache = cache
        self._is_eager = is_eager
        self._is_offline = is_offline
        self._asked: dict[str, Ground | BuildError] = {}

    def origin(self, reading: Reading) -> object:
        """Returns where the target comes from, as JSON values that say the same without an engine."""
        declared = self._declared(reading)
        if declared is not None:
            return declared.as_toml()
        return sorted(
            {(reading.findings.stages.external_base(i.stage), i.interpreter, i.python) for i in reading.installs}
        )

    def known(self, reading: Reading) -> Ground | None:
        """Returns the ground where the target is declared, or where images are asked in any case and can be."""
        declared = self._declared(reading)
        if declared is not None:
            return Ground(target=declared)
        if not self._is_eager:
            return None
        try:
            return self.ask(reading)
        except (BuildError, EngineError):
            return None

    def ask(self, reading: Reading) -> Ground:
        """Returns the ground, asked from the image unless the target is declared.

        Raises:
            LockError: nothing says what it is, or two commands of the service run interpreters that differ.
            EngineError: no engine answers.
            BuildError: the image cannot be had or asked.
        """
        declared = self._declared(reading)
        if declared is not None:
            return Ground(target=declared)
        name = reading.service.name
        if name not in self._asked:
            try:
                self._asked[name] = self._ask(reading)
            except BuildError as error:  # whoever asks again gets the same answer, without another pull
                self._asked[name] = error
        answer = self._asked[name]
        if isinstance(answer, BuildError):
            raise answer
        return answer

    def _declared(self, reading: Reading) -> Target | None:
        target = reading.service.target
        if target.python is None or target.platform is None:
            return None
        return declared_target(target.python, target.platform)

    def _ask(self, reading: Reading) -> Ground:
        service, stages = reading.service, reading.findings.stages
        places: dict[Place, Install] = {}
        for install in (install for install in reading.installs if install.subcommand != "export"):
            places.setdefault(place_of(reading, install), install)
        if not places:
            # Nothing is installed: any answer serves, and the final image has one.
            base = stages.external_base(stages.final)
            facts = self._of_image(base, "python3") if base != "scratch" else _nothing(service.name)
            return Ground(target=_target(facts, f"{service.name}: {base}"))
        found = {place: self._of_install(reading, install) for place, install in places.items()}
        targets = [_target(facts, f"{service.name}: {place[0]}") for place, facts in found.items()]
        for other in targets[1:]:
            if (other.tags, other.python) != (targets[0].tags, targets[0].python):
                raise LockError(
                    f"{service.name} ({service.where}): its pip and uv commands run two interpreters: "
                    f"{targets[0].describe()} and {other.describe()}",
                    hint="use one Python in all stages, or declare [services.target]",
                )
        return Ground(target=targets[0], facts=found)

    def _of_install(self, reading: Reading, install: Install) -> Facts:
        stages, service = reading.findings.stages, reading.service
        base = stages.external_base(install.stage)
        hint = install.python or install.interpreter
        if brings_its_own_python(stages, install):
            raise LockError(
                f"{service.where}:{install.line}: brings its Python and installs with it in one RUN: nobody can ask it",
                hint="split the RUN in two, or declare [services.target]",
            )
        if base == "scratch" or brings_python(stages, install):
            return self._of_probe(reading, install, hint)
        try:
            return self._of_image(base, hint)
        except NoPythonError:
            return self._of_probe(reading, install, hint)

    def _of_image(self, ref: str, hint: str) -> Facts:
        engine = self._engine()
        image = ensure_image(engine, ref, is_offline=self._is_offline)
        return probe_interpreter(engine, image.image_id, hint, cache=self._cache)

    def _of_probe(self, reading: Reading, install: Install, hint: str) -> Facts:
        """Builds the Dockerfile up to the install; its layers are the first ones of the real build."""
        service = reading.service
        engine = self._engine()
        with tempfile.TemporaryDirectory(prefix="wheelcache-probe-") as scratch:
            folder = Path(scratch)
            copy = folder / "Dockerfile"
            copy.write_bytes(encode_dockerfile(probe_dockerfile(reading.dockerfile, install)))
            request = BuildRequest(
                context=unique_context(folder, service.context, service.name),
                dockerfile=copy,
                build_args=dict(service.args),
                network="none" if self._is_offline else _network(reading),
                metadata_file=folder / "metadata.json",
            )
            outcome = self._builder().build(f"{service.name}-probe", lambda _: request, has_network=lambda _: True)
        if outcome.failure is not None:
            raise BuildError(
                f"{service.name}: {service.where} up to line {install.line} cannot be built, which it takes to ask its "
                f"Python: {outcome.failure.message} (log: {outcome.log})",
                hint=outcome.failure.hint,
            )
        return probe_interpreter(engine, outcome.image_id, hint, cache=self._cache)


def ensure_image(engine: Engine, ref: str, *, is_offline: bool) -> ImageConfig:
    """Returns what the image *ref* says of itself, pulled when the engine does not have it.

    Raises:
        MissingImageError: it is nowhere to be had.
        BuildError: it would have to be pulled, offline.
    """
    config = engine.image_config(ref)
    if config is not None:
        return config
    if is_offline:
        raise BuildError(f"the engine lacks the base image {ref}", hint=f"docker pull {ref}, or docker load it")
    return engine.pull(ref)


def _network(reading: Reading) -> str | None:
    return reading.service.compose.network if reading.service.compose is not None else None


def _target(facts: Facts, where: str) -> Target:
    try:
        return target_from_facts(facts.as_json())
    except ValueError as error:
        raise LockError(f"{where}: {error}", hint="declare [services.target]") from error


def _pins(constraints: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(line for text in constraints.values() for line in parse_requirements(text).requirements)


def _nothing(name: str) -> Facts:
    raise LockError(f"{name}: installs nothing, and its final stage starts from scratch", hint="leave the service out")
