"""Workers that use one store at once, each running the command line over and over: see `races`."""

from __future__ import annotations

import itertools
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import tomli_w

from support.commands import Process
from support.races import Race
from support.wheels import MadeWheel
from wheelcache.digest import Digest

_DELETED: Final = 0.7
"""The share of lockfiles that are deleted each time they are looked after."""

_FIRST_BYTES: Final = 5.0
"""Seconds in which a sync that is to be killed may begin to fetch something."""

_ATTEMPTS: Final = 10
"""How often a sync is begun anew that was killed."""

_GLANCE: Final = 0.2
"""Seconds between two looks whether it is enough."""

_SOON: Final = 0.6
"""Seconds within which it is killed then."""


def _nothing(_process: Process) -> float:
    """Lets a process be."""
    return 0.0


class Worker(threading.Thread):
    """Runs commands until it is done, or the race is over."""

    def __init__(self, race: Race, kind: str, number: int) -> None:
        super().__init__(name=f"{kind}{number}", daemon=True)
        self.race = race
        self.number = number
        self.chance = race.random()
        self.folder = race.work / self.name
        self.folder.mkdir()

    def run(self) -> None:
        try:
            self.work()
        except Exception as error:  # noqa: BLE001 - the race is to hear of it
            self.race.blame(f"{self.name}: {error!r}")

    def work(self) -> None:
        raise NotImplementedError


class Syncing(Worker):
    """Syncs lockfiles."""

    def __init__(self, race: Race, number: int) -> None:
        super().__init__(race, "sync", number)
        self.is_tidy = False
        """True where a project file says how large the store may be: each sync prunes as well, and is never killed."""

    def sync(self, *lockfiles: Path, needed: frozenset[Digest], who: str, is_safe: bool = False) -> bool:
        """Syncs lockfiles, and looks whether all is there; False where the sync was killed, unless it *is_safe*."""
        race = self.race
        fate = _nothing if is_safe else self._fate(who)
        done = race.sync(*lockfiles, cwd=self.folder, needed=needed, who=who, fate=fate)
        if done:
            race.look(needed, who)
        return done

    def _fate(self, who: str) -> Callable[[Process], float]:
        """Returns what happens to a sync, and when it was killed (seconds since 1970)."""
        terms, draw = self.race.terms, self.chance.random()
        if not self.is_tidy and draw < terms.kills:
            return lambda process: self._kill(process, who)
        if terms.kills <= draw < terms.kills + terms.stops:
            return lambda process: self._pause(process, who)
        return _nothing

    def _await_bytes(self, process: Process, who: str) -> bool:
        """Waits until a sync fetches something, and a little longer; False where it ends before."""
        ends = time.monotonic() + _FIRST_BYTES
        while time.monotonic() < ends and process.poll() is None and not self.race.field.noted.begun_by(who):
            time.sleep(0.01)
        time.sleep(self.chance.uniform(0, _SOON))
        return process.poll() is None

    def _kill(self, process: Process, who: str) -> float:
        if self.chance.random() < 0.5:
            took = self.race.account.seconds["sync"]
            time.sleep(self.chance.uniform(0, took[-1] if took else _SOON))
        else:
            self._await_bytes(process, who)
        at = time.time()
        process.kill()
        return at

    def _pause(self, process: Process, who: str) -> float:
        if self._await_bytes(process, who):
            process.send_signal(signal.SIGSTOP)
            time.sleep(self.race.terms.pause)
            process.send_signal(signal.SIGCONT)
            with self.race.guard:
                self.race.account.paused.add(who)
        return 0.0


class Keeper(Syncing):
    """Syncs some of the sets, each with a lockfile that stays; and one lockfile that all such workers share."""

    def __init__(self, race: Race, number: int) -> None:
        super().__init__(race, number)
        self.needed: set[Digest] = set()

    def work(self) -> None:
        sets = self.race.field.sets
        shared = self.race.work / "pylock.shared.toml"
        mine: list[int | None] = list(self.chance.sample(range(1, len(sets)), max(len(sets) // 4, 2)))
        mine.insert(self.chance.randint(0, len(mine)), None)
        for index in mine:
            wheels = sets[index or 0]
            path = shared if index is None else self.folder / f"pylock.{index}.toml"
            needed = self.race.field.digests(wheels)
            self.needed |= needed
            for _ in range(_ATTEMPTS):
                who = self.race.name(self.name)
                if index is not None:
                    self.race.field.write_lockfile(path, wheels, who=who)
                if self.sync(path, needed=needed, who=who, is_safe=index is None):  # whose bytes could not be told
                    break


class Changer(Syncing):
    """Writes lockfiles, syncs them, looks after them, and deletes them again."""

    def __init__(self, race: Race, number: int) -> None:
        super().__init__(race, number)
        self.standing: dict[Path, frozenset[Digest]] = {}
        """What must be there: of the lockfiles that were synced and stand."""
        if number % 4 == 3 and race.terms.has_locks:
            self.is_tidy = True
            settings = {"cache": {"max-size": race.terms.max_size}}
            (self.folder / "wheelcache.toml").write_text(tomli_w.dumps(settings))

    def work(self) -> None:
        race, chance = self.race, self.chance
        while not race.over.is_set():
            who = race.name(self.name)
            count = 2 if chance.random() < 0.2 else 1
            chosen = {
                self.folder / f"pylock.{name}.toml": chance.choice(race.wanted_now())
                for name in chance.sample("abc", count)
            }
            self._sync_anew(chosen, who)
            race.over.wait(chance.uniform(0, 0.5))
            for path, needed in list(self.standing.items()):
                race.look(needed, f"{who}, later: {path.name}")
                if chance.random() < _DELETED:
                    del self.standing[path]
                    path.unlink()

    def _sync_anew(self, chosen: dict[Path, tuple[MadeWheel, ...]], who: str) -> None:
        race = self.race
        needs = {path: race.field.digests(wheels) for path, wheels in chosen.items()}
        for path, wheels in chosen.items():
            self.standing.pop(path, None)
            race.field.write_lockfile(path, wheels, who=who)
        if self.sync(*chosen, needed=frozenset().union(*needs.values()), who=who):
            self.standing.update(needs)


class Pruning(Worker):
    """Prunes in every way, over and over."""

    def __init__(self, race: Race, number: int) -> None:
        super().__init__(race, "prune", number)

    def work(self) -> None:
        ways = [("--all",), ("--max-size", self.race.terms.max_size), ("--older-than", "0"), ("--older-than", "1s")]
        for way in itertools.cycle(ways[self.number % 2 :] + ways[: self.number % 2]):
            if self.race.over.is_set():
                return
            ended = self.race.command("prune", *way, cwd=self.folder, who=self.name)
            with self.race.guard:
                self.race.account.note_removed(ended.document)
            lost = [row["path"] for row in ended.document.get("removed", []) if row["kind"] in {"wheel", "partial"}]
            if lost and self.race.keeps_all:
                self.race.blame(f"{self.name}: prune {' '.join(way)} removed {lost}")


class Verifying(Worker):
    """Verifies, over and over; in a store in use there are no findings."""

    def __init__(self, race: Race, number: int) -> None:
        super().__init__(race, "verify", number)

    def work(self) -> None:
        while not self.race.over.is_set():
            self.race.command("verify", cwd=self.folder, who=self.name)


class Looking(Worker):
    """Asks what there is, over and over."""

    def __init__(self, race: Race, number: int) -> None:
        super().__init__(race, "look", number)

    def work(self) -> None:
        for command in itertools.cycle([("list",), ("status",), ("verify", "--fast"), ("prune", "--all", "--dry-run")]):
            if self.race.over.is_set():
                return
            self.race.command(*command, cwd=self.folder, who=self.name)


def race_while_all_stays(race: Race) -> None:
    """Lets all sync what stays, each wheel once, while others prune and verify."""
    race.keeps_all = True
    race.field.write_lockfile(race.work / "pylock.shared.toml", race.field.sets[0], who="by=all")
    keepers = [Keeper(race, number) for number in range(race.terms.syncs)]
    others = _others(race)
    _run(keepers, others, race)
    needed = {digest for worker in keepers for digest in worker.needed}
    race.finish(needed)


def race_while_lockfiles_change(race: Race, *, seconds: float, is_enough: Callable[[], bool] = lambda: False) -> None:
    """Lets all write, sync and delete lockfiles for so long, or until it is enough, while others prune and verify."""
    anchor = race.work / "pylock.stays.toml"
    wheels = race.field.sets[0][:2]
    race.field.write_lockfile(anchor, wheels, who="by=anchor")
    race.sync(anchor, cwd=race.work, needed=race.field.digests(wheels), who="by=anchor")
    changers = [Changer(race, number) for number in range(race.terms.syncs)]
    _run(changers, _others(race), race, seconds=seconds, is_enough=is_enough)
    standing = [needed for worker in changers for needed in worker.standing.values()]
    race.finish(frozenset(race.field.digests(wheels)).union(*standing))


def _others(race: Race) -> list[Worker]:
    terms = race.terms
    counts: list[tuple[Callable[[Race, int], Worker], int]] = [
        (Pruning, terms.prunes),
        (Verifying, terms.verifies),
        (Looking, terms.looks),
    ]
    return [kind(race, number) for kind, count in counts for number in range(count)]


def _run(
    first: list[Worker],
    others: list[Worker],
    race: Race,
    *,
    seconds: float = 0.0,
    is_enough: Callable[[], bool] = lambda: True,
) -> None:
    """Runs workers for so many seconds, or until it is enough; then until the *first* are done with what they do."""
    ends = time.monotonic() + seconds
    for worker in (*first, *others):
        worker.start()
    while time.monotonic() < ends and not is_enough():
        race.over.wait(_GLANCE)
    if seconds:
        race.over.set()
    for worker in first:
        worker.join()
    race.over.set()
    for worker in others:
        worker.join()
