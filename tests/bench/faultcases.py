"""Servers that die, cut, answer with login pages or lie about ranges: who finishes, and how many bytes it takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

from bench import AT_SERVER, IN_CLIENT, MB, Bench, served
from children import Child, await_until
from findings import Found
from offers import WheelFile
from peers import Aria2, Client, Uv, Wheelcache
from throttled import Server
from trials import Scene

OURS = Wheelcache(download={})
ARIA2 = Aria2(options=("-j4",))
SPLITTING = Aria2(options=("-x4", "-s8"))
NOTES = (AT_SERVER, IN_CLIENT)
GIVEN = 300.0
"""Seconds for each client to come through; the servers are as fast as loopback."""


def dying(bench: Bench) -> Iterator[Found]:
    """Two mirrors, one of which is killed when half of the bytes are there."""
    with bench.wheels(600) as (files, wheels):
        for victim, words in enumerate(("the lockfile's server", "the mirror")):
            found = Found(
                case=f"dying, {words}",
                setting=f"One wheel of 600 MB from two servers of 50 MB/s each; {words} is killed at half of it.",
                notes=NOTES,
            )

            def scene(client: Client, victim: int = victim) -> AbstractContextManager[Scene]:
                servers = [bench.server(files, "--rate", 50 * MB) for _ in range(2)]
                return _dying(wheels, servers, servers[victim], hooked=client is OURS)

            bench.trials.in_turn(found, (SPLITTING, OURS), scene, runs=1, limit=GIVEN)
            found.limit_read(OURS)
            yield found


@contextmanager
def _dying(wheels: Sequence[WheelFile], servers: Sequence[Server], victim: Server, *, hooked: bool) -> Iterator[Scene]:
    with served(wheels, *servers, hooked=hooked) as scene:

        def kill_at_half(child: Child, _log: Path) -> None:
            if await_until(lambda: sum(server.sent for server in servers) >= scene.offer.size / 2, child):
                victim.kill()

        yield replace(scene, meanwhile=kill_at_half)


def cuts(bench: Bench) -> Iterator[Found]:
    """A server that closes every connection after so many bytes."""
    with bench.wheels(150, 100, 51) as (files, wheels):
        for every in (30, 8):
            found = Found(
                case=f"cuts, {every} MB",
                setting=f"301 MB in 3 wheels; the server closes each connection at every {every} MB of a file.",
                notes=NOTES,
            )
            _everybody(bench, found, files, wheels, "--cut-every", every * MB)
            found.limit_read(OURS)
            yield found


def portal(bench: Bench) -> Iterator[Found]:
    """A captive portal: every second answer is a login page that says 200."""
    with bench.wheels(150, 100, 51) as (files, wheels):
        found = Found(
            case="portal",
            setting="301 MB in 3 wheels; every second answer to a request for a file is a login page with status 200.",
            notes=NOTES,
        )
        _everybody(bench, found, files, wheels, "--portal-every", 2)
        found.limit_finishes(OURS)
        found.limit_nothing_wrong(OURS)
        yield found


def faults(bench: Bench) -> Iterator[Found]:
    """Servers from which no whole file can be had by honest means; only wrong bytes would be a failure."""
    with bench.wheels(200) as (files, wheels):
        for name, words, options in (
            ("shift", "206 at another offset than asked for, cut every 30 MB", ("--shift", 1, "--cut-every", 30 * MB)),
            ("no ranges", "Range ignored, cut at 150 MB", ("--no-ranges", "--cut-every", 150 * MB)),
        ):
            found = Found(case=f"faults, {name}", setting=f"One wheel of 200 MB; {words}.", notes=NOTES)
            _everybody(bench, found, files, wheels, *options)
            found.limit_nothing_wrong(OURS)
            yield found


def _everybody(bench: Bench, found: Found, files: Path, wheels: Sequence[WheelFile], *options: str | float) -> None:
    clients: Sequence[Client] = (OURS, ARIA2, Uv(), bench.pip)
    bench.trials.in_turn(
        found,
        clients,
        lambda client: served(wheels, bench.server(files, *options), hooked=client is OURS),
        runs=1,
        limit=GIVEN,
    )
