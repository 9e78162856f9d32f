"""Serves a folder of wheels with a Simple API until SIGTERM; run from the tests' folder: `python -m support.serve`.

The first line on stdout is the URL; the index is at `/simple/` below it. Faults concern the files, never the index.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from support.server import Behaviour, Serve, Server, by_turns, login_page

_BEYOND_ALL_FILES = 1 << 50


def main() -> None:
    options = _parser().parse_args()
    ending = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ending)  # before there are threads that could take them
    with Server(
        port=options.port, rate=options.rate, connection_rate=options.connection_rate, delay=options.delay
    ) as server:
        behaviour = _behaviour(options)
        for path in server.put_folder(options.folder):
            server.script(path, then=behaviour)
        sys.stdout.write(f"{server.url}\n")
        sys.stdout.flush()
        signal.sigwait(ending)


def _behaviour(options: argparse.Namespace) -> Behaviour:
    """What all files have in common, turns included."""
    step = options.cut_every
    cuts = range(step, _BEYOND_ALL_FILES, step) if step else ()
    serve = Serve(ranges=options.ranges, range_shift=options.shift, cut_at=cuts)
    if options.portal_every:
        return by_turns(*[serve] * (options.portal_every - 1), login_page())
    return serve


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m support.serve", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="where the wheels are")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--rate", type=float, metavar="BYTES", help="per second, all connections together")
    parser.add_argument("--connection-rate", type=float, metavar="BYTES", help="per second and connection")
    parser.add_argument("--delay", type=float, default=0.0, metavar="SECONDS", help="before each answer")
    parser.add_argument("--cut-every", type=int, metavar="BYTES", help="close at each multiple of it in a file")
    parser.add_argument("--portal-every", type=int, metavar="N", help="each N-th request for a file gets a login page")
    parser.add_argument("--no-ranges", dest="ranges", action="store_false", help="answer 200 to ranges")
    parser.add_argument("--shift", type=int, default=0, metavar="BYTES", help="answer ranges so much further on")
    return parser


if __name__ == "__main__":
    main()
