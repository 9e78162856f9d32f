"""Runs clients in turn, each in a fresh folder, and measures them."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from children import EXITS_WITHIN, Child
from findings import Found, Sample, told
from measure import amount
from offers import Offer
from peers import Client
from sockethook import SocketCounters


@dataclass(frozen=True, kw_only=True, slots=True)
class Traffic:
    """How the bytes that come in are counted.

    Attributes:
        count: returns the bytes by now, of all clients.
        hooked: count them in the client itself instead, which must be a Python program.
    """

    count: Callable[[], int]
    hooked: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """What surrounds one run: what there is to fetch, how bytes are counted, and what happens in the middle.

    Attributes:
        offer: the files.
        traffic: the counting.
        meanwhile: called once the client runs; returns at once when the client has ended.
    """

    offer: Offer
    traffic: Traffic
    meanwhile: Callable[[Child, Path], None] = lambda _child, _log: None


class Trials:
    """A folder in which clients run.

    Args:
        folder: for everything that they write; empty between runs.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._number = 0

    def new_folder(self, name: str) -> Path:
        """Returns a path below the folder that nobody has used."""
        self._number += 1
        return self._folder / f"{name}-{self._number}"

    def in_turn(
        self,
        found: Found,
        clients: Sequence[Client],
        scene: Callable[[Client], AbstractContextManager[Scene]],
        *,
        runs: int,
        once: Sequence[Client] = (),
        limit: float = 1800.0,
    ) -> None:
        """Runs the clients one after the other, *runs* times, each round beginning with another one.

        Args:
            found: gets the samples.
            clients: those to be compared.
            scene: makes each run's surroundings.
            runs: rounds.
            once: run in the first round only, after the others.
            limit: seconds after which a run is stopped.
        """
        for number in range(runs):
            first = number % len(clients)
            turn = [*clients[first:], *clients[:first], *(once if number == 0 else ())]
            for client in turn:
                with scene(client) as surroundings:
                    sample = self.run(client, surroundings, number=number + 1, limit=limit)
                found.samples.append(sample)
                tell(f"{found.case}, {number + 1} of {runs}: {told(sample)}")

    def run(self, client: Client, scene: Scene, *, number: int, limit: float) -> Sample:
        """Runs one client in a fresh folder, judges what it left, and removes it; only the run itself is timed."""
        folder = self.new_folder("run")
        folder.mkdir()
        try:
            job = client.prepare(scene.offer, folder)
            env, count = dict(job.env), scene.traffic.count
            if scene.traffic.hooked:
                counters = SocketCounters(folder / "sockets")
                env, count = counters.environ(env), lambda: counters.read
            os.sync()
            log = folder / "stderr"
            before = count()
            with Child(job.argv, cwd=folder, env=env, log=log) as child:
                scene.meanwhile(child, log)
                ended = last = child.ended(limit)
                if last is None:
                    child.signal(signal.SIGKILL)
                    last = child.ended(EXITS_WITHIN)
            if last is None:
                raise SystemExit(f"{client.name}: cannot be killed")
            read = count() - before
            sample = Sample(
                client=client.name,
                number=number,
                seconds=last.seconds,
                cpu=last.cpu,
                peak_rss=last.peak_rss,
                exit_code=None if ended is None else ended.exit_code,
                wrong=tuple(client.wrong(scene.offer, folder)),
                read=read,
                size=scene.offer.size,
                stderr=log.read_text(errors="replace")[-1500:],
            )
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if scene.traffic.hooked and sample.done and read < scene.offer.size:
            raise SystemExit(
                f"{client.name}: {amount(scene.offer.size)} came in, {amount(read)} of them counted: "
                "it reads through a call that tests/bench/sockethook.py does not wrap"
            )
        return sample


def tell(line: str) -> None:
    """Says on stderr how far things are."""
    print(line, file=sys.stderr, flush=True)
