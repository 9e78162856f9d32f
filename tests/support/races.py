"""Many commands at once on one store: what each did, who was given which bytes, and what must be true of it all."""

from __future__ import annotations

import hashlib
import json
import random
import signal
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any, Final

import tomli_w

from support.aftermath import blobs, violations
from support.behaviours import Serve
from support.commands import Ended, Process, Start, run_command
from support.exchange import Exchange
from support.program import TARGET
from support.server import Server
from support.wheels import MadeWheel, make_wheel
from wheelcache.digest import Digest, hex_of, parse_digest
from wheelcache.partial import PIECE_BYTES
from wheelcache.rates import LARGEST_READ

SMALLEST: Final = 1_300
"""Bytes of a wheel that has hardly anything in it."""

HAND_OVER: Final = 2 * LARGEST_READ
"""Bytes that come twice where one connection hands the rest of its part to another: what it was just reading."""


@dataclass(kw_only=True, slots=True)
class Given:
    """One answer: to which command, of which wheel, from which byte on, how many bytes of it."""

    who: str
    filename: str
    start: int = 0
    sent: int = 0


class Noted:
    """Answers honestly, and notes who was given what: each lockfile's URLs say who asks.

    Attributes:
        answers: in the order in which they began.
    """

    def __init__(self) -> None:
        self.answers: list[Given] = []
        self._begun: defaultdict[str, set[str]] = defaultdict(set)

    def answer(self, exchange: Exchange) -> None:
        request = exchange.request
        given = Given(who=request.query, filename=request.path.rpartition("/")[2], start=exchange.range_start() or 0)
        self.answers.append(given)
        self._begun[given.who].add(given.filename)
        try:
            Serve().answer(exchange)
        finally:
            given.sent = request.sent

    def begun_by(self, who: str) -> set[str]:
        """The files of which somebody was given bytes, or is."""
        return set(self._begun.get(who, ()))


class Field:
    """Real wheels on a real server, and sets of them that overlap.

    Args:
        server: has them.
        count: how many wheels.
        largest: bytes of the largest; as many are between 1 and 2 kB as between 1 and 2 MB.
        sets: how many sets.
        spread: a set's smallest and largest number of wheels.
        chance: decides.
    """

    def __init__(
        self, server: Server, *, count: int, largest: int, sets: int, spread: tuple[int, int], chance: random.Random
    ) -> None:
        self.noted = Noted()
        sizes = [round(SMALLEST * (largest / SMALLEST) ** (number / (count - 1))) for number in range(count)]
        made = [make_wheel(f"race-{number}", "1.0", size=size) for number, size in enumerate(sizes)]
        self._urls = {wheel.filename: server.put_wheel(wheel) for wheel in made}
        for url in self._urls.values():
            server.script(url.removeprefix(server.url), then=self.noted)
        self._digests = {wheel.filename: wheel.digest for wheel in made}
        self.sizes = {self._digests[wheel.filename]: wheel.size for wheel in made}
        self.sets = [tuple(chance.sample(made, chance.randint(*spread))) for _ in range(sets)]

    def digest(self, filename: str) -> Digest:
        return self._digests[filename]

    def digests(self, wheels: Collection[MadeWheel]) -> frozenset[Digest]:
        return frozenset(self._digests[wheel.filename] for wheel in wheels)

    def write_lockfile(self, path: Path, wheels: Collection[MadeWheel], *, who: str) -> None:
        """Writes a lockfile in one step, as `wheelcache lock` does; whoever uses it is known to the server as *who*."""
        packages = [
            {
                "name": wheel.name,
                "version": wheel.version,
                "wheels": [
                    {
                        "name": wheel.filename,
                        "url": f"{self._urls[wheel.filename]}?{who}",
                        "size": wheel.size,
                        "hashes": {"sha256": hex_of(self._digests[wheel.filename])},
                    }
                ],
            }
            for wheel in wheels
        ]
        temporary = path.with_suffix(".new")
        temporary.write_text(tomli_w.dumps({"lock-version": "1.0", "created-by": "races", "packages": packages}))
        temporary.replace(path)


@dataclass(frozen=True, kw_only=True, slots=True)
class Death:
    """A killed sync.

    Attributes:
        who: its name.
        at: when, in seconds since 1970.
        seen_at: when it was looked what was there.
        there: what was there then.
        orphans: what it was fetching, with the syncs that needed it too.
    """

    who: str
    at: float
    seen_at: float
    there: frozenset[Digest]
    orphans: Mapping[Digest, frozenset[str]]


@dataclass(kw_only=True)
class Account:
    """What commands did to one store, as they and the server say.

    Attributes:
        published: how often each wheel was.
        perhaps: how often killed syncs may have, of which nobody knows.
        removed: how often each wheel was.
        received: bytes of each wheel that syncs read which ended by themselves.
        clouded: wheels of which killed syncs may have read bytes.
        killed: as whom the server knows those that did not.
        started: who began with a wheel, or went on with it, and when (seconds since 1970).
        deaths: of syncs.
        paused: syncs that were stopped for a while.
        seconds: how long commands took, by their names.
        wrong: what must not be, in words.
    """

    published: Counter[Digest] = field(default_factory=Counter)
    perhaps: Counter[Digest] = field(default_factory=Counter)
    removed: Counter[Digest] = field(default_factory=Counter)
    received: Counter[Digest] = field(default_factory=Counter)
    clouded: set[Digest] = field(default_factory=set)
    killed: set[str] = field(default_factory=set)
    started: defaultdict[Digest, list[tuple[float, str]]] = field(default_factory=lambda: defaultdict(list))
    deaths: list[Death] = field(default_factory=list)
    paused: set[str] = field(default_factory=set)
    seconds: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    wrong: list[str] = field(default_factory=list)

    def note_rows(self, document: Mapping[str, Any]) -> None:
        """Takes in what a sync says that it did."""
        for row in document.get("wheels", []):
            digest = parse_digest(row["digest"])
            self.received[digest] += row["bytes_fetched"]
            if row["state"] in {"downloaded", "resumed"}:
                self.published[digest] += 1
        self.note_removed(document.get("pruned", {}))

    def note_removed(self, document: Mapping[str, Any]) -> None:
        """Takes in what a prune says that it removed."""
        gone = [row for row in document.get("removed", []) if row["kind"] == "wheel"]
        self.removed.update(parse_digest(f"sha256:{Path(row['path']).name}") for row in gone)

    def take_overs(self) -> list[float]:
        """The seconds from each death until somebody else went on with what was being fetched, where somebody could."""
        found = []
        for death in self.deaths:
            for digest, others in death.orphans.items():
                first = min((at for at, who in self.started[digest] if who != death.who and at > death.at), default=inf)
                was_published = digest in death.there and first > death.seen_at  # in its last moment
                if others - self.killed - self.paused and not was_published:
                    found.append(first - death.at)
        return found

    def check(self, root: Path, field_: Field, noted: Sequence[Given]) -> list[str]:
        """Returns what is wrong with the sums, once all is over.

        Each wheel was published once more than it was removed, or as often where it is not there; and each time its
        bytes were read once.
        """
        wrong = []
        present = blobs(root)
        answers: defaultdict[Digest, list[Given]] = defaultdict(list)
        for given in noted:
            answers[field_.digest(given.filename)].append(given)
        for digest, size in field_.sizes.items():
            published, needed = self.published[digest], self.removed[digest] + (digest in present)
            if not published <= needed <= published + self.perhaps[digest]:
                words = f"published {published} times (perhaps {self.perhaps[digest]} more)"
                wrong.append(f"{digest}: {words}, removed {self.removed[digest]}, there: {digest in present}")
            least = 0 if digest in self.clouded else published * size
            read = self.received[digest]
            if not least <= read <= published * (size + HAND_OVER):
                wrong.append(f"{digest}: {size} bytes, published {published} times, and {read} bytes were read")
            # What goes on where another connection was too slow: of that one's body nobody reads the rest.
            sent = sum(each.sent for each in answers[digest] if each.who not in self.killed and not each.start)
            if size <= PIECE_BYTES and sent > published * size:
                told = ", ".join(f"{given.sent} to {given.who}" for given in answers[digest])
                wrong.append(
                    f"{digest}: {size} bytes, published {published} times, and {sent} bytes were sent from 0 on: {told}"
                )
        return wrong


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """How a race is run.

    Attributes:
        syncs: workers that sync, each with folders of its own.
        prunes: workers that prune.
        verifies: workers that verify.
        looks: workers that look: status, list, verify --fast.
        kills: the share of syncs that are killed.
        stops: the share of syncs that are stopped for *pause* seconds.
        pause: in seconds.
        limit: the seconds after which a command hangs.
        patience: the seconds within which somebody goes on with what a killed sync was fetching.
        max_size: what prunes, and some syncs, bring the store to.
        has_locks: False where the file system's locks lie: wheels may be fetched more than once, and nobody prunes.
        turn: the seconds after which one set is not wanted any more for a while, and another is.
    """

    syncs: int
    prunes: int
    verifies: int
    looks: int = 0
    kills: float = 0.0
    stops: float = 0.0
    pause: float = 10.0
    limit: float = 120.0
    patience: float = 30.0
    max_size: str = "20MB"
    turn: float = 2.0
    has_locks: bool = True


class Race:
    """One store, and all who use it.

    Args:
        work: a new folder.
        field: what there is to be had.
        terms: how.
        chance: decides.
        start: how commands are started.

    Attributes:
        over: set when the workers are to come to their ends.
        keeps_all: true while all lockfiles stay, so that nothing may be removed.
        guard: held while the account is changed.
    """

    def __init__(self, work: Path, field_: Field, terms: Terms, chance: random.Random, *, start: Start) -> None:
        self.work = work
        self.root = work / "cache"
        self.field = field_
        self.terms = terms
        self._start = start
        self.account = Account()
        self.over = threading.Event()
        self.keeps_all = False
        self.guard = threading.Lock()
        self._first = len(field_.noted.answers)
        self._needs: dict[str, frozenset[Digest]] = {}
        self._began = time.time()
        self._seeds = chance
        self._numbers: Counter[str] = Counter()

    def wanted_now(self) -> list[tuple[MadeWheel, ...]]:
        """Returns the sets that are synced at this time: a quarter of all, and not for long."""
        sets, count = self.field.sets, max(len(self.field.sets) // 4, 1)
        first = int((time.time() - self._began) / self.terms.turn)
        return [sets[(first + number) % len(sets)] for number in range(count)]

    def random(self) -> random.Random:
        """Returns what decides for one worker."""
        return random.Random(self._seeds.random())

    def name(self, worker: str) -> str:
        """Returns a name that no command had before, as a URL's query can have it."""
        with self.guard:
            self._numbers[worker] += 1
            return f"by={self.work.name}-{worker}-{self._numbers[worker]}"

    def blame(self, words: str) -> None:
        """Notes something that must not be."""
        with self.guard:
            self.account.wrong.append(f"{time.time() - self._began:.1f} s: {words}")

    def look(self, needed: Collection[Digest], who: str) -> None:
        """Looks whether wheels are there that something keeps, and right."""
        for digest in needed:
            name = hex_of(digest)
            blob = self.root / "v1" / "blobs" / "sha256" / name[:2] / name
            try:
                with blob.open("rb") as file:
                    if hashlib.file_digest(file, "sha256").hexdigest() != name:
                        self.blame(f"{who}: {digest} has wrong bytes")
            except FileNotFoundError:
                self.blame(f"{who}: {digest} is missing")

    def command(
        self,
        *arguments: object,
        cwd: Path,
        who: str,
        meanwhile: Callable[[Process], None] = lambda _: None,
    ) -> Ended:
        """Runs a command that is to end well, unless *meanwhile* kills it."""
        argv = [*arguments, "--json", "--cache-dir", self.root]
        ended = run_command(argv, cwd=cwd, limit=self.terms.limit, start=self._start, meanwhile=meanwhile)
        with self.guard:
            self.account.seconds[str(arguments[0])].append(ended.seconds)
        if ended.hung:
            self.blame(f"{who}: {arguments[0]} hung:\n{ended.stderr}")
        elif ended.code not in (0, -signal.SIGKILL):
            findings = ended.document.get("findings", "")
            self.blame(f"{who}: {' '.join(map(str, arguments))}: exit {ended.code}: {ended.stderr[-3000:]}{findings}")
        return ended

    def sync(
        self,
        *lockfiles: Path,
        cwd: Path,
        needed: frozenset[Digest],
        who: str,
        fate: Callable[[Process], float] = lambda _: 0.0,
    ) -> bool:
        """Syncs lockfiles; False where it was killed, as *fate* may do: it returns when that was."""
        events = cwd / f"{who}.events"
        with self.guard:
            self._needs[who] = needed
        killed_at: list[float] = []
        ended = self.command(
            "sync",
            *lockfiles,
            *TARGET,
            "--events",
            events,
            cwd=cwd,
            who=who,
            meanwhile=lambda process: killed_at.append(fate(process)),
        )
        finished = self._read_events(events, who)
        with self.guard:
            self.account.note_rows(ended.document)
            if ended.code == -signal.SIGKILL:
                self._note_death(who, finished, killed_at[0])
            del self._needs[who]
        return ended.code == 0

    def _note_death(self, who: str, finished: Mapping[Digest, str], at: float) -> None:
        """Takes in that a sync was killed; the caller holds `guard`."""
        account, needed = self.account, self._needs[who]
        begun = {self.field.digest(name) for name in self.field.noted.begun_by(who)} - finished.keys()
        orphans = {
            digest: frozenset(name for name, needs in self._needs.items() if name != who and digest in needs)
            for digest in begun
        }
        there = frozenset(blobs(self.root))
        account.deaths.append(Death(who=who, at=at, seen_at=time.time(), there=there, orphans=orphans))
        account.killed.add(who)
        account.published.update(digest for digest, state in finished.items() if state != "cached")
        account.perhaps.update(needed - finished.keys())
        account.clouded |= needed

    def finish(self, needed: Collection[Digest]) -> None:
        """Looks, once all is over, whether everything is as it should be: *needed* is there, and the sums are right."""
        self.account.wrong += [f"{each.kind}: {each.words}" for each in violations(self.root, published=needed)]
        aside = sorted((self.root / "v1" / "quarantine").iterdir())
        self.account.wrong += [f"put aside: {file.name}, {file.stat().st_size} bytes" for file in aside]
        if not self.terms.has_locks:
            return
        late = [seconds for seconds in self.account.take_overs() if seconds > self.terms.patience]
        self.account.wrong += [f"a killed sync was followed after {seconds:.1f} s only" for seconds in late]
        self.account.wrong += self.account.check(self.root, self.field, self.field.noted.answers[self._first :])

    def _read_events(self, file: Path, who: str) -> dict[Digest, str]:
        """Takes in when a sync began with which wheels; returns what it says of those that are in the store."""
        finished = {}
        lines = file.read_bytes().split(b"\n")[:-1] if file.exists() else []
        for event in map(json.loads, lines):
            if event["event"] == "WheelStarted":
                with self.guard:
                    self.account.started[self.field.digest(event["filename"])].append((event["time"], who))
            if event["event"] == "WheelFinished" and event["state"] not in {"failed", "missing"}:
                finished[self.field.digest(event["filename"])] = event["state"]
        file.unlink(missing_ok=True)
        return finished
