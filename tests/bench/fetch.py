"""Fetching, against other programs and on bad days: wheelcache, aria2c, uv and pip in turn, in one run.

    python tests/bench/fetch.py [CASE…] [--runs 5] [--scratch DIR] [--json FILE]

    closure    the real closure of torch, cold: wall and CPU against aria2c with and without verifying, peak memory
    present    the same when everything is there already
    throttled  three wheels from a server that limits each connection, against aria2c with as many connections
    mirrors    one wheel from two servers of 10 and 30 MB/s: at least 90 % of their sum
    dying      one of two servers is killed half-way
    cuts       a server closes every connection after 30 MB, after 8 MB
    portal     every second answer is a login page
    kills      200 x SIGKILL over one transfer
    line       the server is away for five minutes
    faults     wrong offsets, ranges ignored: nobody can win, but nothing wrong may be published

Without a CASE all of them run, in this order (about forty minutes, most of them the closure and the line). The
program measured is the `wheelcache` beside this interpreter. Programs take turns, and each round begins with another
one: a slow minute of the network or the machine meets all of them. What is promised is the median of the ratios within
rounds. Times are those of whole processes. Servers run in processes of their own (`support.serve`) and are new for each
run; files are removed, and the disk synced, between runs. Everything is written below one new folder in --scratch,
which is removed at the end, also after Ctrl-C; aria2c is installed where it is missing (apt-get, as root), the newest
pip into that folder. Exit code 1 when a promise is not kept.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import closurecases
import enduringcases
import faultcases
import speedcases
from bench import Bench
from findings import Found, tables
from measure import require_free
from peers import ensure_aria2, versions

CASES: Mapping[str, Callable[[Bench], Iterator[Found]]] = {
    "closure": closurecases.closure,
    "present": closurecases.present,
    "throttled": speedcases.throttled,
    "mirrors": speedcases.mirrors,
    "dying": faultcases.dying,
    "cuts": faultcases.cuts,
    "portal": faultcases.portal,
    "kills": enduringcases.kills,
    "line": enduringcases.line,
    "faults": faultcases.faults,
}
NEEDED = 6_000_000_000


def main() -> int:
    """Runs the cases asked for and prints what was found."""
    options = _options()
    # Whatever ends this, servers and clients are stopped and their files removed on the way out.
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda number, _: sys.exit(128 + number))
    require_free(options.scratch or Path(tempfile.gettempdir()), NEEDED, "this benchmark")
    ensure_aria2()
    founds: list[Found] = []
    with tempfile.TemporaryDirectory(
        prefix="wheelcache-fetch-", dir=options.scratch, ignore_cleanup_errors=True
    ) as name:
        bench = Bench(
            folder=Path(name).resolve(),
            runs=options.runs,
            all_peers=options.all_peers,
            kills=options.kills,
            outage=options.outage,
            requirement=options.requirement,
            seed=random.randrange(10**9) if options.seed is None else options.seed,
        )
        compared = versions(bench.pip)
        for case in options.cases or CASES:
            for found in CASES[case](bench):
                founds.append(found)
                _save(options.json, compared, founds)
    print(f"{compared}; {options.runs} rounds\n\n{tables(founds)}")
    return 0 if all(limit.kept for found in founds for limit in found.limits) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, usage="%(prog)s [CASE…] [options]"
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", help="one or more of the above; default: all")
    parser.add_argument("--runs", type=int, default=5, help="rounds in which times are compared (%(default)s)")
    parser.add_argument("--all-peers", action="store_true", help="uv and pip in every round, and in the case line")
    parser.add_argument("--kills", type=int, default=200, help="in the case kills (%(default)s)")
    parser.add_argument("--outage", type=float, default=300, metavar="S", help="in the case line (%(default)s)")
    parser.add_argument("--requirement", default="torch==2.8.0", help="whose closure (%(default)s)")
    parser.add_argument("--seed", type=int, help="for random moments; default: another one each time")
    parser.add_argument("--scratch", type=Path, metavar="DIR", help="a folder on a disk with 14 GB free")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all that was found there, too")
    options = parser.parse_args()
    unknown = [case for case in options.cases if case not in CASES]
    if unknown:
        parser.error(f"expected {', '.join(CASES)}; found {', '.join(unknown)}")
    if options.runs < 1 or options.kills < 1:
        parser.error("--runs, --kills: expected 1 or more")
    return options


def _save(path: Path | None, compared: str, founds: list[Found]) -> None:
    if path:
        path.write_text(json.dumps({"compared": compared, "cases": [found.as_json() for found in founds]}, indent=1))


if __name__ == "__main__":
    sys.exit(main())
