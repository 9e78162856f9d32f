"""Lets syncs, prunes and verifications of one store run against each other, and checks what each of them did.

    python tests/bench/races.py [--seconds 600] [--syncs 16] [--prunes 2] [--verifies 1] [--looks 1] [--kills 0.05]
                                [--stops 0.01] [--rate 25MB] [--forked] [--lying-locks] [--seed N] [--scratch DIR]
                                [--json FILE]

Each worker runs the real command line over and over; 120 real wheels of 1.3 kB to 8 MB come from a real server, which
notes who reads what; 24 lockfiles of 10 to 30 of them overlap.

- all stays: on a new store each round, every worker syncs its lockfiles, which stay. Each wheel is fetched once by all
  of them together, and nothing is pruned.
- lockfiles change: on one store, workers write lockfiles, sync them, look whether their wheels stay, and delete them.
  Each wheel is fetched once more than it was removed.

In both, some syncs are killed and some are stopped for ten seconds, in the midst of fetching; what a killed one fetched
others go on with within 30 seconds. With --forked commands begin with everything imported, so that there are many times
as many of them. Every command is to end well, within 120 seconds, `verify` without findings; every blob is to be whole.

With --lying-locks everybody gets every lock at once, as on some network file systems: wheels may be fetched more than
once then, and nobody prunes; all else is to be as ever. Exit code 1 when anything was otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from measure import amount, seconds, table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from support.commands import environment, program, without_locks
from support.forks import Forks
from support.racers import race_while_all_stays, race_while_lockfiles_change
from support.races import Field, Race, Terms
from support.server import Server

WHEELS: Final = 120
LARGEST: Final = 8_000_000
SETS: Final = 24
SPREAD: Final = (10, 30)
SHARE: Final = 1 / 3
"""The share of the time in which all stays."""


def main() -> int:
    """Runs both parts, and prints what was done."""
    options = _parser().parse_args()
    chance = random.Random(options.seed)
    terms = Terms(
        syncs=options.syncs,
        prunes=0 if options.lying_locks else options.prunes,
        verifies=0 if options.lying_locks else options.verifies,
        looks=0 if options.lying_locks else options.looks,
        has_locks=not options.lying_locks,
        kills=options.kills,
        stops=options.stops,
    )
    load = os.getloadavg()[0]
    print(f"seed {options.seed}; {os.cpu_count()} processors, load {load:.1f} before", flush=True)
    began = time.monotonic()
    parts: dict[str, list[Race]] = {"all stays": [], "lockfiles change": []}
    with ExitStack() as stack:
        name = stack.enter_context(tempfile.TemporaryDirectory(prefix="wheelcache-races-", dir=options.scratch))
        server = stack.enter_context(Server(rate=options.rate))
        environ = without_locks(environment(), Path(name, "hook")) if options.lying_locks else environment()
        start = stack.enter_context(Forks(environ)).start if options.forked else program(environ)
        field = Field(server, count=WHEELS, largest=LARGEST, sets=SETS, spread=SPREAD, chance=chance)
        print(f"{len(field.sizes)} wheels, {amount(sum(field.sizes.values()))}", flush=True)
        while time.monotonic() - began < options.seconds * SHARE:
            race = Race(_folder(name), field, terms, chance, start=start)
            parts["all stays"].append(race)
            race_while_all_stays(race)
            _tell(f"all stays, round {len(parts['all stays'])}", [race])
        race = Race(_folder(name), field, terms, chance, start=start)
        parts["lockfiles change"].append(race)
        race_while_lockfiles_change(race, seconds=max(options.seconds - (time.monotonic() - began), 0))
        figures = {part: _figures(races, field) for part, races in parts.items()}
    figures["load"] = {"before": load, "after": os.getloadavg()[0]}
    figures["seed"] = options.seed
    for part, races in parts.items():
        _tell(part, races)
    print()
    _show({part: figures[part] for part in parts})
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))
    return 1 if any(race.account.wrong for races in parts.values() for race in races) else 0


def _folder(work: str) -> Path:
    """Makes the next folder."""
    folder = Path(work, f"race{sum(1 for _ in Path(work).iterdir())}")
    folder.mkdir()
    return folder


def _tell(part: str, races: Sequence[Race]) -> None:
    """Prints what was wrong, and how much was done."""
    wrong = [words for race in races for words in race.account.wrong]
    commands = sum(len(each) for race in races for each in race.account.seconds.values())
    kills = sum(len(race.account.killed) for race in races)
    print(f"{part}: {commands} commands, {kills} killed, {len(wrong)} violations", flush=True)
    for words in wrong if len(races) == 1 else ():
        print(f"    VIOLATION {words}", flush=True)


def _figures(races: Sequence[Race], field: Field) -> dict[str, object]:
    accounts = [race.account for race in races]
    took: dict[str, list[float]] = {}
    for account in accounts:
        for command, each in account.seconds.items():
            took.setdefault(command, []).extend(each)
    published = sum((account.published for account in accounts), Counter())
    needed = sum(field.sizes[digest] * count for digest, count in published.items())
    overs = [seconds for account in accounts for seconds in account.take_overs()]
    return {
        "rounds": len(races),
        "commands": {
            command: {"runs": len(each), "median": statistics.median(each), "longest": max(each)}
            for command, each in took.items()
        },
        "published": sum(published.values()),
        "removed": sum(sum(account.removed.values()) for account in accounts),
        "bytes_published": needed,
        "bytes_read": sum(sum(account.received.values()) for account in accounts),
        "killed": sum(len(account.killed) for account in accounts),
        "stopped": sum(len(account.paused) for account in accounts),
        "take_overs": {
            "times": len(overs),
            "median": statistics.median(overs) if overs else None,
            "longest": max(overs, default=None),
        },
        "violations": [words for account in accounts for words in account.wrong],
    }


def _show(figures: dict[str, dict[str, object]]) -> None:
    rows = []
    for part, each in figures.items():
        for command, took in each["commands"].items():
            rows.append((part, command, str(took["runs"]), seconds(took["median"]), seconds(took["longest"])))
    print(table(("part", "command", "runs", "median", "longest"), rows))
    print()
    head = ("part", "rounds", "wheels published", "removed", "bytes read", "of them needed", "killed", "stopped")
    head += ("take-overs", "median", "longest", "violations")
    rows = []
    for part, each in figures.items():
        read, needed, over = each["bytes_read"], each["bytes_published"], each["take_overs"]
        counts = (each["rounds"], each["published"], each["removed"])
        share = f"{needed / read:.4f}" if read else "-"
        ends = (each["killed"], each["stopped"], over["times"])
        times = (seconds(over["median"]), seconds(over["longest"]))
        rows.append(
            (part, *map(str, counts), amount(read), share, *map(str, ends), *times, str(len(each["violations"])))
        )
    print(table(head, rows))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Let commands on one store run against each other.")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--syncs", type=int, default=16)
    parser.add_argument("--prunes", type=int, default=2)
    parser.add_argument("--verifies", type=int, default=1)
    parser.add_argument("--looks", type=int, default=1, help="workers that list and ask for the status")
    parser.add_argument("--kills", type=float, default=0.05, help="the share of syncs that are killed")
    parser.add_argument("--stops", type=float, default=0.01, help="the share of syncs that are stopped for a while")
    parser.add_argument("--lying-locks", action="store_true", help="everybody gets every lock; only syncs run then")
    parser.add_argument("--rate", type=float, default=25e6, help="bytes per second that the server gives out")
    parser.add_argument("--forked", action="store_true", help="start commands with everything imported")
    parser.add_argument("--seed", type=int, default=random.randrange(10**9))
    parser.add_argument("--scratch", type=Path, default=None, help="a folder on a disk with 1 GB free")
    parser.add_argument("--json", type=Path, default=None, help="write the figures here as well")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
