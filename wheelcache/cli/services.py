"""The builders as the commands use them: one engine, one locker, one builder for a whole run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

from builders.background import in_background
from wheelcache.cli.session import Session, make_locker
from wheelcache.config import Project
from wheelcache.programs import run_program

if TYPE_CHECKING:
    from builders.attempt import Builder
    from builders.engine import Engine
    from builders.locking import LockedService
    from builders.services import Service
    from builders.targets import TargetFinder

# Modules are imported where they are used: docker, buildx and compose answer meanwhile.


class Yard:
    """What a run does with services.

    Args:
        session: this run.
        project: with the command line's flags applied.
        is_eager: True to ask each image for its interpreter even where a lockfile records the answer. The engine is
            connected, and compose asked, in the background then: a third of a build in which nothing has changed.
        environ: the environment that the engine and its builder are chosen by.
        resources: closes what was opened.
    """

    def __init__(
        self, session: Session, project: Project, *, is_eager: bool, environ: Mapping[str, str], resources: ExitStack
    ) -> None:
        self._environ = environ
        self._session = session
        self._project = project
        self._resources = resources
        self._is_eager = is_eager
        self._reading: Future[tuple[Service, ...]] | None = self._read() if is_eager else None
        self._connecting: Future[Engine] | None = self._connect() if is_eager else None

    @cached_property
    def services(self) -> tuple[Service, ...]:
        """All services of the project.

        Raises:
            ProjectFileError: there is none, or a file is missing.
        """
        self._reading = self._reading or self._read()
        return self._reading.result()

    def _read(self) -> Future[tuple[Service, ...]]:
        from builders.services import read_services  # noqa: PLC0415

        return in_background(lambda: read_services(self._project, run=run_program), name="read")

    def engine(self) -> Engine:
        """Returns the engine, connected on first use.

        Raises:
            EngineError: none answers.
        """
        self._connecting = self._connecting or self._connect()
        return self._connecting.result()

    def _connect(self) -> Future[Engine]:
        from builders.engine import Engine  # noqa: PLC0415

        session, emit = self._session, self._session.emit
        connecting = in_background(
            lambda: Engine.connect(run=run_program, environ=self._environ, emit=emit, stop=session.stop),
            name="connect",
        )
        self._resources.callback(connecting.add_done_callback, _close_engine)
        return connecting

    def builder(self) -> Builder:
        """Returns what runs buildx."""
        return self._builder

    @cached_property
    def _builder(self) -> Builder:
        from builders.attempt import Builder  # noqa: PLC0415
        from builders.buildx import buildx_environ, find_buildx  # noqa: PLC0415

        session = self._session
        return Builder(
            run=run_program,
            emit=session.emit,
            logs=session.cache_root / "v1" / "logs",
            retries=self._project.build.retries,
            stop=session.stop,
            environ=buildx_environ(self._environ),
            buildx=find_buildx(run=run_program, environ=self._environ),
        )

    def lock(
        self,
        services: Sequence[Service],
        *,
        check: bool = False,
        frozen: bool = False,
        upgrade: bool = False,
        upgrades: Sequence[str] = (),
    ) -> tuple[LockedService, ...]:
        """Locks what is unlocked or stale of *services*, and returns all."""
        from builders.locking import LockWishes, lock_services  # noqa: PLC0415
        from builders.reading import read_service  # noqa: PLC0415

        wishes = LockWishes(
            check=check, frozen=frozen, upgrade=upgrade, upgrades=tuple(upgrades), offline=self._session.offline
        )
        return lock_services(
            [read_service(service) for service in services],
            root=self._project.root,
            locker=make_locker(self._session, self._project),
            targets=self._targets,
            wishes=wishes,
            others=[service.lockfile for service in self.services if service not in services],
        )

    @cached_property
    def _targets(self) -> TargetFinder:
        from builders.targets import TargetFinder  # noqa: PLC0415

        return TargetFinder(
            engine=self.engine,
            builder=self.builder,
            cache=self._session.cache_root / "v1" / "targets",
            is_eager=self._is_eager,
            is_offline=self._session.offline,
        )


def _close_engine(connecting: Future[Engine]) -> None:
    if connecting.exception() is None:
        connecting.result().close()


@contextmanager
def open_yard(
    session: Session, project: Project, *, is_eager: bool, environ: Mapping[str, str] = os.environ
) -> Iterator[Yard]:
    """Opens what a run does with services, and closes it in the end."""
    with ExitStack() as resources:
        yield Yard(session, project, is_eager=is_eager, environ=environ, resources=resources)
