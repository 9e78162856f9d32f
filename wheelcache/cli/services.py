"""The builders as the commands use them: one engine, one locker, one builder for a whole run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from functools import cached_property
from threading import Thread

from builders.attempt import Builder
from builders.engine import Engine
from builders.locking import LockedService, LockWishes, lock_services
from builders.reading import read_service
from builders.services import Service, read_services
from builders.targets import TargetFinder
from wheelcache.cli.session import Session, make_locker
from wheelcache.config import Project
from wheelcache.programs import run_program


class Yard:
    """What a run does with services.

    Args:
        session: this run.
        project: with the command line's flags applied.
        is_eager: True to ask each image for its interpreter even where a lockfile records the answer. The engine is
            connected while compose and the Dockerfiles are read then: a fifth of a build in which nothing has changed.
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
        self._connecting: Future[Engine] | None = self._connect() if is_eager else None
        self._targets = TargetFinder(
            engine=self.engine,
            builder=self.builder,
            cache=session.cache_root / "v1" / "targets",
            is_eager=is_eager,
            is_offline=session.offline,
        )

    @cached_property
    def services(self) -> tuple[Service, ...]:
        """All services of the project.

        Raises:
            ProjectFileError: there is none, or a file is missing.
        """
        return read_services(self._project, run=run_program)

    def engine(self) -> Engine:
        """Returns the engine, connected on first use.

        Raises:
            EngineError: none answers.
        """
        self._connecting = self._connecting or self._connect()
        return self._connecting.result()

    def _connect(self) -> Future[Engine]:
        session = self._session
        connecting: Future[Engine] = Future()

        def connect() -> None:
            try:
                connecting.set_result(
                    Engine.connect(run=run_program, environ=self._environ, emit=session.emit, stop=session.stop)
                )
            except BaseException as error:  # noqa: BLE001 - raised again by whoever needs the engine
                connecting.set_exception(error)

        # A daemon, unlike those of a pool: an engine that does not answer keeps nobody from leaving.
        Thread(target=connect, name="wheelcache-connect", daemon=True).start()
        self._resources.callback(connecting.add_done_callback, _close_engine)
        return connecting

    def builder(self) -> Builder:
        """Returns what runs buildx."""
        session = self._session
        return Builder(
            run=run_program,
            emit=session.emit,
            logs=session.cache_root / "v1" / "logs",
            retries=self._project.build.retries,
            stop=session.stop,
            environ=dict(self._environ),
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
