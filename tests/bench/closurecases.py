"""The real closure of torch from the real index: cold against other programs, and when everything is there already."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import requests
from bench import MB, Bench
from children import Child
from findings import Found, Sample, told
from kill9 import make_lockfile
from measure import amount, require_free
from offers import Offer, WheelFile
from peers import PLATFORM, PYTHON, UV_PLATFORM, Aria2, Client, Uv, Wheelcache
from trials import Scene, Traffic, tell

from wheelcache.digest import hex_of
from wheelcache.index import default_index
from wheelcache.lock import parse_lockfile, select_wheels
from wheelcache.target import declared_target

NEEDED = 14_000_000_000
PRESENT_RUNS = 20
FROM_INDEX = (
    "From the real index: bytes read are what this machine's interfaces received meanwhile, headers and whatever else "
    "the machine did included."
)

OURS = Wheelcache(download={})
VERIFIED = Aria2(options=("-j4",))
UNVERIFIED = Aria2(options=("-j4",), verify=False)


def closure(bench: Bench) -> Iterator[Found]:
    """The closure into an empty cache: wall and CPU against aria2c, memory; pip and uv for the record."""
    require_free(bench.folder, NEEDED, "the closure, as uv unpacks it")
    offer = _offer(bench)
    found = Found(
        case="closure",
        setting=f"{bench.requirement} and all it needs, {_described(offer)}, into an empty cache, from the real index.",
        notes=(FROM_INDEX,),
    )
    slow: Sequence[Client] = (Uv(), bench.pip)
    clients = (VERIFIED, UNVERIFIED, OURS)
    bench.trials.in_turn(
        found,
        (*clients, *slow) if bench.all_peers else clients,
        lambda _client: _scene(offer),
        runs=bench.runs,
        once=() if bench.all_peers else slow,
    )
    found.limit_ratio("seconds", OURS, VERIFIED, 0.65)
    found.limit_ratio("seconds", OURS, UNVERIFIED, 1.05)
    found.limit_ratio("cpu", OURS, VERIFIED, 1.0)
    found.limit_memory(OURS, 120 * MB)
    yield found


def present(bench: Bench) -> Iterator[Found]:
    """The same command when nothing is to be done."""
    offer = _offer(bench)
    found = Found(case="present", setting=f"The same command again, {_described(offer)} there already.")
    folder = bench.trials.new_folder("present")
    folder.mkdir()
    job = OURS.prepare(offer, folder)
    for number in range(PRESENT_RUNS + 1):
        with Child(job.argv, cwd=folder, env=job.env, log=folder / "stderr") as child:
            ended = child.ended(1800)
        if ended is None or ended.exit_code:
            raise SystemExit(f"present: {OURS.name} failed\n{(folder / 'stderr').read_text(errors='replace')[-2000:]}")
        sample = Sample(
            client=OURS.name,
            number=number,
            seconds=ended.seconds,
            cpu=ended.cpu,
            peak_rss=ended.peak_rss,
            exit_code=ended.exit_code,
            wrong=() if number else tuple(OURS.wrong(offer, folder)),
            read=0,
            size=offer.size,
            stderr="",
        )
        if number:
            found.samples.append(sample)
        else:
            tell(f"present, getting it: {told(sample)}")
    found.limit_median(OURS, 0.35)
    yield found


def _described(offer: Offer) -> str:
    return f"{len(offer.wheels)} wheels, {amount(offer.size)}"


def _offer(bench: Bench) -> Offer:
    """Locks the closure. The lockfile names index hosts, so it lives and dies in the benchmark's folder."""
    folder = bench.trials.new_folder("lock")
    folder.mkdir()
    lockfile = make_lockfile(folder, bench.requirement, PYTHON, UV_PLATFORM)
    locked = select_wheels(parse_lockfile(lockfile.read_text(), lockfile), declared_target(PYTHON, PLATFORM))
    with requests.Session() as session:
        wheels = tuple(
            WheelFile(
                name=wheel.name,
                version=wheel.version,
                filename=wheel.filename,
                sha256=hex_of(wheel.digest),
                size=wheel.size or _size(session, wheel.urls[0]),
                urls=wheel.urls[:1],
            )
            for wheel in locked
        )
    return Offer(wheels=wheels, index=default_index(os.environ), lockfile=lockfile)


def _size(session: requests.Session, url: str) -> int:
    answer = session.head(url, allow_redirects=True, timeout=60, headers={"Accept-Encoding": "identity"})
    answer.raise_for_status()
    return int(answer.headers["Content-Length"])


@contextmanager
def _scene(offer: Offer) -> Iterator[Scene]:
    yield Scene(offer=offer, traffic=Traffic(count=_received))


def _received() -> int:
    """Bytes that came in through all interfaces but loopback; 0 where the system does not say."""
    root = Path("/sys/class/net")
    if not root.is_dir():
        return 0
    interfaces = (interface for interface in root.iterdir() if interface.name != "lo")
    return sum(int((interface / "statistics" / "rx_bytes").read_text()) for interface in interfaces)
