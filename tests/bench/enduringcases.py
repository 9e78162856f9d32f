"""What takes long: two hundred kill -9 over one transfer, and a line that is down for minutes."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from bench import AT_SERVER, IN_CLIENT, MB, Bench, served
from children import Child, await_until
from findings import Found
from kill9 import Counted, wrong_blobs
from measure import amount
from offers import WheelFile
from peers import Aria2, Client, Uv, Wheelcache
from throttled import Server
from trials import Scene, tell

CONNECTIONS = 4
LOST_PER_CONNECTION = 256 * 1024
IN_START_UP = 0.1
"""The share of kills that may come before a byte has been read."""

TALKING = Wheelcache(download={}, arguments=())
"""As people run it: what it waits for is said on stderr."""


def kills(bench: Bench) -> Iterator[Found]:
    """SIGKILL at random moments over one transfer of 500 MB; after each, no wrong blob may stand in the store."""
    chance = random.Random(bench.seed)
    found = Found(
        case="kills",
        setting=f"{bench.kills} x SIGKILL over one transfer of 500 MB at 50 MB/s in all (--seed {bench.seed}).",
        notes=(IN_CLIENT,),
    )
    with bench.wheels(500) as (files, wheels), served(wheels, bench.server(files, "--rate", 50 * MB)) as scene:
        folder = bench.trials.new_folder("kills")
        folder.mkdir()
        cache = folder / "cache"
        ours = Wheelcache(download={})
        job = ours.prepare(scene.offer, folder)
        counted = Counted(folder, job.argv, environ=job.env)
        lives = []
        wrong: list[str] = []
        # A life's share is drawn so that all of them together come to about seven tenths of the transfer; what runs on
        # while a kill is on its way comes on top.
        most = 1.4 * scene.offer.size / bench.kills
        for number in range(bench.kills):
            in_start_up = chance.random() < IN_START_UP
            lives.append(
                counted.run(
                    f"kill -9, {number + 1}",
                    kill_after=0 if in_start_up else int(chance.uniform(1, most)),
                    delay=chance.uniform(0, 0.5 if in_start_up else 0.01),
                )
            )
            wrong += wrong_blobs(cache)
            if number % 20 == 19:
                tell(f"kills, {number + 1} of {bench.kills}: {amount(sum(life.read for life in lives))} read")
        last = counted.run("last")
        wrong += ours.wrong(scene.offer, folder)
    killed = sum(life.exit_code == -signal.SIGKILL for life in lives)
    read, size = sum(life.read for life in lives) + last.read, scene.offer.size
    most_read = 1.01 * size + bench.kills * CONNECTIONS * LOST_PER_CONNECTION
    found.promise(
        f"bytes read in {len(lives) + 1} lives",
        f"{amount(read)}, {read / size:.4f} x; lost per kill {amount((read - size) / max(killed, 1))}",
        f"<= {amount(most_read)}",
        kept=size <= read <= most_read,
    )
    found.promise("wrong or missing blobs, after any kill", ", ".join(wrong) or "none", "none", kept=not wrong)
    found.promise("lives that ended by the signal", str(killed), str(bench.kills), kept=killed == bench.kills)
    found.promise("the last run's exit code", str(last.exit_code), "0", kept=last.exit_code == 0)
    yield found


def line(bench: Bench) -> Iterator[Found]:
    """A server that is away for minutes in the middle of a transfer, and then back on the same port."""
    found = Found(
        case="line",
        setting=f"301 MB in 3 wheels at 50 MB/s in all; the server is away for {bench.outage:.0f} s at half of it.",
        notes=(AT_SERVER, IN_CLIENT),
    )
    peers: Sequence[Client] = (Aria2(options=("-j4",)), Uv(), bench.pip) if bench.all_peers else ()
    said: list[str] = []
    with bench.wheels(150, 100, 51) as (files, wheels):
        bench.trials.in_turn(
            found,
            (TALKING, *peers),
            lambda client: _interrupted(
                wheels,
                bench.server(files, "--rate", 50 * MB),
                bench.outage,
                said=said if client is TALKING else [],
                hooked=client is TALKING,
            ),
            runs=1,
            limit=bench.outage + 600,
        )
    found.limit_read(TALKING)
    waiting = [each for each in said if "waiting" in each.lower()]
    found.promise(
        'says on stderr that it is "waiting"',
        waiting[0].strip()[:120] if waiting else f"{len(said)} lines, none of them",
        "a line",
        kept=bool(waiting),
    )
    yield found


@contextmanager
def _interrupted(
    wheels: Sequence[WheelFile], server: Server, outage: float, *, said: list[str], hooked: bool
) -> Iterator[Scene]:
    with served(wheels, server, hooked=hooked) as scene:

        def interrupt(child: Child, log: Path) -> None:
            if not await_until(lambda: server.sent >= scene.offer.size / 2, child):
                return
            tell(f"line: the server goes away for {outage:.0f} s")
            server.kill()
            down_at = time.monotonic()
            child.sleep(outage)
            said.extend(log.read_text(errors="replace").replace("\r", "\n").splitlines())
            tell(f"line: the server is back after {time.monotonic() - down_at:.0f} s")
            server.start()

        yield replace(scene, meanwhile=interrupt)
