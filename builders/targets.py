"""Finds out what a service's wheels must fit: as declared, else asked from the interpreter its commands run."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from builders.attempt import Builder
from builders.commands import BuildRequest
from builders.contexts import unique_context
from builders.engine import Engine
from builders.errors import BuildError, EngineError
from builders.installs import Install
from builders.prefix import brings_its_own_python, brings_python, probe_dockerfile
from builders.probe import NoPythonError, probe_interpreter
from builders.reading import Reading
from wheelcache.errors import LockError
from wheelcache.target import Target, declared_target, target_from_facts


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
        self._asked: dict[str, Target] = {}

    def origin(self, reading: Reading) -> object:
        """Returns where the target comes from, as JSON values that say the same without an engine."""
        declared = self._declared(reading)
        if declared is not None:
            return declared.as_toml()
        return sorted(
            {(reading.findings.stages.external_base(i.stage), i.interpreter, i.python) for i in reading.installs}
        )

    def known(self, reading: Reading) -> Target | None:
        """Returns the target where it is declared, or where images are asked in any case and can be."""
        declared = self._declared(reading)
        if declared is not None or not self._is_eager:
            return declared
        try:
            return self.ask(reading)
        except (BuildError, EngineError):
            return None

    def ask(self, reading: Reading) -> Target:
        """Returns the target, asked from the image unless it is declared.

        Raises:
            LockError: nothing says what it is, or two commands of the service run interpreters that differ.
            EngineError: no engine answers.
            BuildError: the image cannot be had or asked.
        """
        declared = self._declared(reading)
        if declared is not None:
            return declared
        name = reading.service.name
        if name not in self._asked:
            self._asked[name] = self._ask(reading)
        return self._asked[name]

    def _declared(self, reading: Reading) -> Target | None:
        target = reading.service.target
        if target.python is None or target.platform is None:
            return None
        return declared_target(target.python, target.platform)

    def _ask(self, reading: Reading) -> Target:
        service, stages = reading.service, reading.findings.stages
        places: dict[tuple[str, str, str], Install] = {}
        for install in reading.installs:
            brought = str(install.stage) if brings_python(stages, install) else ""
            places.setdefault((stages.external_base(install.stage), install.interpreter, brought), install)
        if not places:
            # Nothing is installed: any answer serves, and the final image has one.
            base = stages.external_base(stages.final)
            return self._of_image(base, "python3", service.name) if base != "scratch" else _nothing(service.name)
        found = [self._of_install(reading, install) for install in places.values()]
        for other in found[1:]:
            if (other.tags, other.python) != (found[0].tags, found[0].python):
                raise LockError(
                    f"{service.name} ({service.where}): its pip and uv commands run two interpreters: "
                    f"{found[0].describe()} and {other.describe()}",
                    hint="use one Python in all stages, or declare [services.target]",
                )
        return found[0]

    def _of_install(self, reading: Reading, install: Install) -> Target:
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
            return self._of_image(base, hint, service.name)
        except NoPythonError:
            return self._of_probe(reading, install, hint)

    def _of_image(self, ref: str, hint: str, name: str) -> Target:
        engine = self._engine()
        image_id = ensure_image(engine, ref, is_offline=self._is_offline)
        try:
            return target_from_facts(probe_interpreter(engine, image_id, hint, cache=self._cache).as_json())
        except ValueError as error:
            raise LockError(f"{name}: {ref}: {error}", hint="declare [services.target]") from error

    def _of_probe(self, reading: Reading, install: Install, hint: str) -> Target:
        """Builds the Dockerfile up to the install; its layers are the first ones of the real build."""
        service = reading.service
        engine = self._engine()
        with tempfile.TemporaryDirectory(prefix="wheelcache-probe-") as scratch:
            folder = Path(scratch)
            copy = folder / "Dockerfile"
            copy.write_bytes(probe_dockerfile(reading.dockerfile, install).encode())
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
        facts: Mapping[str, object] = probe_interpreter(engine, outcome.image_id, hint, cache=self._cache).as_json()
        return target_from_facts(facts)


def ensure_image(engine: Engine, ref: str, *, is_offline: bool) -> str:
    """Returns the id of *ref*, pulled when the engine does not have it.

    Raises:
        MissingImageError: it is nowhere to be had.
        BuildError: it would have to be pulled, offline.
    """
    image_id = engine.image_id(ref)
    if image_id is not None:
        return image_id
    if is_offline:
        raise BuildError(f"the engine lacks the base image {ref}", hint=f"docker pull {ref}, or docker load it")
    return engine.pull(ref)


def _network(reading: Reading) -> str | None:
    return reading.service.compose.network if reading.service.compose is not None else None


def _nothing(name: str) -> Target:
    raise LockError(f"{name}: installs nothing, and its final stage starts from scratch", hint="leave the service out")
