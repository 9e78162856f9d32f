"""Speed from slow servers: several connections to one, and two mirrors at once."""

from __future__ import annotations

from collections.abc import Iterator

from bench import AT_SERVER, MB, Bench, served
from findings import Found
from peers import Aria2, Uv, Wheelcache

DEFAULTS = Wheelcache(download={})
WIDE = Wheelcache(download={"connections": 12, "per-host": 12})
SLOW = ("--connection-rate", 10 * MB, "--delay", 0.05)


def throttled(bench: Bench) -> Iterator[Found]:
    """Three wheels from a server that gives each connection 10 MB/s and lets each request wait."""
    with bench.wheels(150, 100, 51) as (files, wheels):
        for peer, ours, once, words in (
            (Aria2(options=("-x4", "-s4")), WIDE, (Uv(), bench.pip), "up to 12 connections"),
            (Aria2(options=("-j1", "-x4", "-s4")), DEFAULTS, (), "4 connections"),
        ):
            found = Found(
                case=f"throttled, {words}",
                setting="301 MB in 3 wheels from a server that gives each connection 10 MB/s, each answer after 50 ms.",
                notes=(AT_SERVER,),
            )
            bench.trials.in_turn(
                found,
                (peer, ours),
                lambda _client: served(wheels, bench.server(files, *SLOW)),
                runs=bench.runs,
                once=once,
                limit=300,
            )
            found.limit_ratio("seconds", ours, peer, 1.0)
            yield found


def mirrors(bench: Bench) -> Iterator[Found]:
    """One wheel from two servers of different speed, either of which may be the one that the lockfile names."""
    size, least = 600 * MB, 0.9 * 40 * MB
    peer = Aria2(options=("-x4", "-s8"))
    with bench.wheels(600) as (files, wheels):
        for first, second in ((10, 30), (30, 10)):
            found = Found(
                case=f"mirrors, {first} + {second} MB/s",
                setting=f"600 MB in one wheel; the lockfile's server gives {first} MB/s in all, the mirror {second}.",
                notes=(AT_SERVER,),
            )
            bench.trials.in_turn(
                found,
                (peer, DEFAULTS),
                lambda _client, rates=(first, second): served(
                    wheels, *(bench.server(files, "--rate", rate * MB) for rate in rates)
                ),
                runs=bench.runs,
                limit=600,
            )
            found.limit_median(DEFAULTS, size / least)
            yield found
