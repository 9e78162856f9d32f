"""The records of a project's runs: in the catalog, the newest ones of each service, read when they are asked for."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from wheelcache.catalog import Catalog, RunRow
from wheelcache.comparison import Pair
from wheelcache.runs import Run, ServiceRun, as_json

if TYPE_CHECKING:
    from pydantic import TypeAdapter

KEPT: Final = 30
"""Runs of each service that are kept, the newest."""

_LATEST: Final = 1e11
"""Seconds since 1970; a later run is none of ours."""

T = TypeVar("T", Run, ServiceRun)


class RunLog:
    """The runs of one project.

    Args:
        root: the cache folder of a store that was opened; they are kept in its catalog, and lost with it.
        project: the project's folder.

    Raises:
        StoreError: (every method) the catalog cannot be read or written.
    """

    def __init__(self, root: Path, project: Path) -> None:
        self._catalog = Catalog(root / "v1" / "catalog.sqlite")
        self._project = os.fsencode(project.resolve()).decode(errors="replace")

    def add(self, run: Run, services: Iterable[ServiceRun]) -> int:
        """Records a run and its services, and returns the number that it got."""
        records = {"": as_json(run), **{service.name: as_json(service) for service in services}}
        return self._catalog.add_run(self._project, records, keep=KEPT)

    def history(self) -> History:
        """Returns what is recorded."""
        return History(self._catalog.run_rows(self._project))


class History:
    """What is recorded of a project; a record that is not of our making is none.

    Args:
        rows: in any order.
    """

    def __init__(self, rows: Iterable[RunRow]) -> None:
        self._texts: dict[int, dict[str, str]] = {}
        for row in rows:
            self._texts.setdefault(row.number, {})[row.service] = row.record

    @property
    def numbers(self) -> list[int]:
        """The runs, the newest first."""
        return sorted(self._texts, reverse=True)

    @property
    def services(self) -> list[str]:
        """Every service of which something is recorded."""
        return sorted({name for texts in self._texts.values() for name in texts if name})

    def runs(self, services: Collection[str] = ()) -> Iterator[Run]:
        """Yields the runs, the newest first; only those of one of *services* where some are named."""
        for number in self.numbers:
            run = self.run(number)
            if run is not None and (not services or set(services) & run.states.keys()):
                yield run

    def run(self, number: int) -> Run | None:
        """Returns a run; None where it is not recorded."""
        run = self._parsed(self._texts.get(number, {}).get(""), self._run_adapter)
        return replace(run, number=number) if run is not None else None

    def service(self, number: int, name: str) -> ServiceRun | None:
        """Returns a service's part in a run; None where it is not recorded."""
        service = self._parsed(self._texts.get(number, {}).get(name), self._service_adapter)
        return replace(service, number=number) if service is not None else None

    def builds(self, name: str, *, until: int | None = None) -> Iterator[ServiceRun]:
        """Yields what is recorded of a service, the newest first.

        Args:
            name: the service.
            until: the run with which to begin; None for the newest.
        """
        for number in self.numbers:
            if until is None or number <= until:
                service = self.service(number, name)
                if service is not None:
                    yield service

    def failing(self, names: Iterable[str]) -> frozenset[str]:
        """Returns those services whose newest build failed by itself; one that nobody came to, or stopped, is none."""
        return frozenset(name for name in names if self._is_failing(name))

    def _is_failing(self, name: str) -> bool:
        tried = next((build for build in self.builds(name) if build.state != "skipped"), None)
        return tried is not None and tried.state == "failed" and tried.fault != "interrupted"

    def pairs(self, run: Run, services: Collection[str] = ()) -> list[Pair]:
        """Returns a run's services, each with the build that it is measured by; only those of *services*, if any."""
        chosen = [name for name in run.states if not services or name in services]
        return [self._pair(service) for name in chosen if (service := self.service(run.number, name)) is not None]

    def previous(self, run: Run) -> Run | None:
        """Returns the newest earlier run of the same command and services that came to its end; None for none."""
        return next(
            (
                earlier
                for earlier in self.runs()
                if earlier.number < run.number
                and earlier.is_done
                and (earlier.command, earlier.states.keys()) == (run.command, run.states.keys())
            ),
            None,
        )

    def _pair(self, now: ServiceRun) -> Pair:
        before = next((build for build in self.builds(now.name, until=now.number - 1) if build.is_done), None)
        return Pair(
            now=now,
            before=before,
            others_now=self._images(now.name, until=now.number),
            others_before=self._images(now.name, until=before.number) if before is not None else (),
        )

    def _images(self, name: str, *, until: int) -> tuple[ServiceRun, ...]:
        """Returns the newest images of the services beside *name*, as they were after a run."""
        others = [other for other in self.services if other != name]
        newest = (next((build for build in self.builds(each, until=until) if build.is_done), None) for each in others)
        return tuple(build for build in newest if build is not None)

    def _parsed(self, text: str | None, adapter: TypeAdapter[T]) -> T | None:
        from pydantic import ValidationError  # noqa: PLC0415 - see _run_adapter

        try:
            parsed = adapter.validate_json(text) if text is not None else None
        except ValidationError:
            return None
        return parsed if parsed is not None and 0 <= parsed.at <= _LATEST else None

    @cached_property
    def _run_adapter(self) -> TypeAdapter[Run]:
        from pydantic import TypeAdapter  # noqa: PLC0415 - costs 80 ms, needed only where there are runs

        return TypeAdapter(Run)

    @cached_property
    def _service_adapter(self) -> TypeAdapter[ServiceRun]:
        from pydantic import TypeAdapter  # noqa: PLC0415 - see _run_adapter

        return TypeAdapter(ServiceRun)
