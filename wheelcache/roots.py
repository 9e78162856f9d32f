"""What the store must not lose: the needs of known projects' lockfiles, of running commands, and pins.

All of it stands in small files, so that losing the catalog loses none of it:

    v1/pins/<hex>                     empty: this blob stays
    v1/projects/<id>.json             what a project's lockfiles needed when they were last synced
    v1/leases/<pid>-<random>.json     what a running command needs; locked by it for as long as it runs
    v1/prune.lock                     who writes one of these, or removes a blob, holds it for that moment

A command leases what it needs before it asks the store for it. Who removes blobs looks at these files and removes under
one and the same lock: so what was leased before stays, and who comes later sees the blob missing and fetches it.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from io import FileIO
from pathlib import Path
from typing import Final

from wheelcache.digest import Digest, hex_of, parse_digest
from wheelcache.errors import StoreError
from wheelcache.files import exclusive, is_locked, lock_open_file, store_errors, sync_folder, write_atomically
from wheelcache.ordinary import DOOR, expect_own, make_file, open_new
from wheelcache.place import Place, this_place
from wheelcache.rootfiles import Lease, ProjectRoot, describe_damage, read_lease, read_project

_LOCK: Final = "prune.lock"


@dataclass(frozen=True, kw_only=True, slots=True)
class Needs:
    """Who needs what.

    Attributes:
        reasons: by digest, everyone who needs it, in words.
        damaged: files that cannot be read, each with what is wrong: nobody knows what they need.
    """

    reasons: dict[Digest, tuple[str, ...]] = field(default_factory=dict)
    damaged: dict[Path, str] = field(default_factory=dict)


class Roots:
    """The roots of one store. Every method but those that say so takes `guard` by itself where it needs to.

    Args:
        root: the cache folder of a store that was opened.
        place: where this process is; the default finds out.
        now: seconds since 1970.

    Raises:
        StoreError: (every method) a file cannot be read or written.
    """

    def __init__(self, root: Path, *, place: Place | None = None, now: Callable[[], float] = time.time) -> None:
        self._base = root / "v1"
        self._place = place or this_place()
        self._now = now

    def guard(self) -> AbstractContextManager[None]:
        """Keeps roots from being added; who removes blobs reads `needed` and removes within it. Never nested; brief."""
        return exclusive(self._base / _LOCK)

    def keep_project(self, path: Path, lockfiles: Mapping[Path, Iterable[Digest]], *, now: float) -> None:
        """Notes what a project's lockfiles need, beside what is known of its other lockfiles.

        Nothing is written where nothing changed since the same day.

        Args:
            path: the project's folder, or a lockfile that belongs to none.
            lockfiles: what each of those needs that were synced.
            now: seconds since 1970.
        """
        path = path.resolve()
        name = hashlib.sha256(os.fsencode(f"{self._place.key}\0{path}")).hexdigest()[:32]
        file = self._base / "projects" / f"{name}.json"
        news = {each.resolve(): tuple(dict.fromkeys(digests)) for each, digests in lockfiles.items()}
        with suppress(OSError, ValueError):
            known = read_project(file)
            if known.synced(news, now=now) == known:
                return
        with self.guard(), store_errors(file):
            project = self._noted(file, path).synced(news, now=now)
            write_atomically(file, project.document())
            for other in self.projects():
                if project.replaces(other):
                    other.file.unlink(missing_ok=True)

    def projects(self) -> list[ProjectRoot]:
        """Returns all projects that can be read, those included that are gone."""
        return self._projects({})

    def needing(self, project: ProjectRoot) -> dict[Path, tuple[Digest, ...]]:
        """Returns the lockfiles of a project that still need their wheels; none: it is no root any more."""
        return project.needing(self._place, self._now())

    def gone(self) -> dict[Path, tuple[ProjectRoot, str]]:
        """Returns the projects that are no roots any more by their files, each with the reason in words."""
        gone = [project for project in self.projects() if not self.needing(project)]
        return {project.file: (project, project.describe_end(self._place)) for project in gone}

    @contextmanager
    def lease(self, digests: Iterable[Digest], *, command: str) -> Iterator[None]:
        """Keeps blobs for as long as the context lasts and this process runs, whether they are there yet or not.

        Args:
            digests: which.
            command: what people are told who asks why they stay: `a running sync (pid 123)`.
        """
        file = self._base / "leases" / f"{os.getpid()}-{os.urandom(8).hex()}.json"
        document = {"pid": os.getpid(), "command": command, "digests": sorted(set(digests))}
        with ExitStack() as held:
            with self.guard(), store_errors(file):
                opened = held.enter_context(FileIO(open_new(file), "w"))
                held.callback(_unlink_if_can, file)
                opened.write(json.dumps(document).encode())
                lock_open_file(opened.fileno())
            yield

    def leases(self) -> list[Lease]:
        """Returns the leases of commands that run."""
        return self._leases({})

    def leased(self) -> set[Digest]:
        """Returns what running commands need."""
        return {digest for lease in self.leases() for digest in lease.digests}

    def dead_leases(self) -> list[Path]:
        """Returns what killed commands left; certain only within `guard`."""
        return [file for file in _files(self._base / "leases") if not _is_held(file)]

    def remove_dead_leases(self) -> list[Path]:
        """Removes what killed commands left, and returns it; the caller holds `guard`."""
        dead = self.dead_leases()
        for file in dead:
            with store_errors(file):
                file.unlink(missing_ok=True)
        return dead

    def forget(self, project: ProjectRoot) -> None:
        """Removes a project that is gone; the caller holds `guard`, and read it within."""
        with store_errors(project.file):
            project.file.unlink(missing_ok=True)

    def pin(self, digests: Iterable[Digest]) -> None:
        """Keeps blobs until they are unpinned, whether they are there yet or not."""
        folder = self._base / "pins"
        with self.guard(), store_errors(folder):
            for digest in digests:
                make_file(folder / hex_of(digest))
            sync_folder(folder)

    def unpin(self, digests: Iterable[Digest]) -> None:
        """Takes pins away; those of blobs that were not pinned are no matter."""
        folder = self._base / "pins"
        with self.guard(), store_errors(folder):
            for digest in digests:
                (folder / hex_of(digest)).unlink(missing_ok=True)
            sync_folder(folder)

    def pinned(self) -> set[Digest]:
        """Returns what is pinned."""
        found = set()
        for file in _files(self._base / "pins"):
            with suppress(ValueError):  # no name that we would give: it pins nothing
                found.add(parse_digest(f"sha256:{file.name}"))
        return found

    def survey(self) -> Needs:
        """Returns who needs what, and which files are damaged."""
        damaged: dict[Path, str] = {}
        reasons: dict[Digest, list[str]] = {digest: ["pinned"] for digest in self.pinned()}
        for project in self._projects(damaged):
            for lockfile, digests in self.needing(project).items():
                for digest in digests:
                    reasons.setdefault(digest, []).append(project.describe(lockfile, self._place))
        for lease in self._leases(damaged):
            for digest in lease.digests:
                reasons.setdefault(digest, []).append(f"a running {lease.command} (pid {lease.pid})")
        return Needs(reasons={digest: tuple(words) for digest, words in reasons.items()}, damaged=damaged)

    def needed(self) -> dict[Digest, tuple[str, ...]]:
        """Returns what must stay, with everyone who needs it.

        Raises:
            StoreError: a file is damaged, and so nobody knows what it needs: nothing may be removed.
        """
        needs = self.survey()
        if needs.damaged:
            file, wrong = next(iter(needs.damaged.items()))
            raise StoreError(
                f"{file}: {wrong}; what it keeps is unknown, so nothing is removed",
                hint="sync its project again, or remove this file: then nothing is kept on its account",
                path=str(file),
            )
        return needs.reasons

    def _noted(self, file: Path, path: Path) -> ProjectRoot:
        """Returns what is noted of a project that is here; a damaged note is made good, as far as it can be."""
        with suppress(FileNotFoundError, ValueError):
            return read_project(file)
        unplaced = [each for each in self.projects() if each.path == path and each.place is None]
        known = unplaced[0] if unplaced else ProjectRoot(file=file, path=path)
        return replace(known, file=file, place=self._place)

    def _projects(self, damaged: dict[Path, str]) -> list[ProjectRoot]:
        found = []
        for file in _files(self._base / "projects"):
            try:
                found.append(read_project(file))
            except FileNotFoundError:  # removed since
                continue
            except (OSError, ValueError) as error:
                damaged[file] = describe_damage(error)
        return sorted(found, key=lambda project: project.path)

    def _leases(self, damaged: dict[Path, str]) -> list[Lease]:
        found = []
        for file in _files(self._base / "leases"):
            if not _is_held(file):
                continue
            try:
                found.append(read_lease(file))
            except FileNotFoundError:  # its command has ended since
                continue
            except (OSError, ValueError) as error:
                damaged[file] = describe_damage(error)
        return found


def _files(folder: Path) -> list[Path]:
    """Returns what the folder holds, in order; temporary files of `write_atomically` are left out."""
    with store_errors(folder):  # not glob: to that a folder that may not be read is an empty one
        return sorted(file for file in folder.iterdir() if not file.name.startswith("."))


def _unlink_if_can(file: Path) -> None:
    with suppress(OSError):  # a lease that nobody holds is dead, and is removed by whoever prunes
        file.unlink(missing_ok=True)


def _is_held(file: Path) -> bool:
    """True while the process that wrote a lease runs; on doubt it does."""
    try:
        expect_own(file)
        descriptor = os.open(file, os.O_RDONLY | DOOR)
    except FileNotFoundError:
        return False
    except OSError:  # it may not be read, say, or is none
        return True
    try:
        return is_locked(descriptor)
    except OSError:
        return True
    finally:
        os.close(descriptor)
