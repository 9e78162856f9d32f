"""Verifying a store, against openssl over the same files with as many processes: bytes per second, in turn, in one run.

    python tests/bench/verify.py [--files 6] [--size 300000000] [--rounds 5] [--scratch DIR] [--json FILE]

A store of big random blobs is made as a sync makes it, below one new folder in --scratch that is removed at the end.
Each round runs `openssl dgst -sha256` through `xargs -P` and the `wheelcache verify` beside this interpreter, and each
round begins with the other one; once with all files in the page cache (warm), once with none (cold: posix_fadvise
DONTNEED before each run; a virtual machine's host may have them in a cache of its own all the same). Times are those of
whole processes, and of wheelcache also without its start and end, as its --json says it. What is promised is the median
of the ratios within rounds: the reading at 90 % of openssl's rate at least. Exit code 1 when that is not kept.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from measure import amount, require_free, seconds, table

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from wheelcache.digest import Digest
from wheelcache.lock import LockedWheel
from wheelcache.store import Store

LOWEST_RATIO = 0.9
_BLOCK = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    """One round; times in seconds."""

    is_cold: bool
    openssl: float
    process: float
    reading: float


def main() -> int:
    """Runs the rounds and prints what was found."""
    options = _options()
    total = options.files * options.size
    scratch = options.scratch or Path(tempfile.gettempdir())
    require_free(scratch, total + options.size + 500_000_000, "this benchmark")
    processes = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="wheelcache-verify-", dir=scratch) as name:
        root = Path(name)
        blobs = [
            _blob(Store.open(root / "cache"), root / "random", number, options.size) for number in range(options.files)
        ]
        rounds = [
            _round(root, blobs, processes, number=number, is_cold=is_cold)
            for is_cold in (False, True)
            for number in range(options.rounds)
        ]
    if options.json:
        options.json.write_text(json.dumps([asdict(each) for each in rounds], indent=1))
    print(f"{options.files} blobs of {amount(options.size)}, {processes} processors, {options.rounds} rounds\n")
    return _show(rounds, total)


def _show(rounds: Sequence[Round], total: int) -> int:
    rows, kept = [], True
    for is_cold in (False, True):
        some = [each for each in rounds if each.is_cold == is_cold]
        ratio = statistics.median(each.openssl / each.reading for each in some)
        kept = kept and ratio >= LOWEST_RATIO
        times: dict[str, Callable[[Round], float]] = {
            "openssl": lambda each: each.openssl,
            "verify": lambda each: each.process,
            "its reading": lambda each: each.reading,
        }
        for name, time_of in times.items():
            middle = statistics.median(map(time_of, some))
            against = statistics.median(each.openssl / time_of(each) for each in some)
            cache = "cold" if is_cold else "warm"
            rows.append((cache, name, seconds(middle), f"{amount(total / middle)}/s", f"{100 * against:.0f} %"))
    print(table(("page cache", "what", "median", "rate", "of openssl's rate"), rows))
    print(f"\nthe reading at {100 * LOWEST_RATIO:.0f} % of openssl's rate or more: {'kept' if kept else 'NOT KEPT'}")
    return 0 if kept else 1


def _round(root: Path, blobs: Sequence[Path], processes: int, *, number: int, is_cold: bool) -> Round:
    found: dict[str, float] = {}

    def openssl() -> None:
        argv = ["xargs", "-P", str(processes), "-n", "1", "openssl", "dgst", "-sha256"]
        began = time.monotonic()
        subprocess.run(argv, input="\n".join(map(str, blobs)), text=True, stdout=subprocess.DEVNULL, check=True)
        found["openssl"] = time.monotonic() - began

    def verify() -> None:
        program = Path(sys.executable).with_name("wheelcache")
        began = time.monotonic()
        done = subprocess.run(
            [program, "verify", "--json", "--cache-dir", root / "cache"], capture_output=True, check=True, cwd=root
        )
        found["process"] = time.monotonic() - began
        document = json.loads(done.stdout)
        found["reading"] = document["seconds"]
        if (document["blobs"], document["findings"]) != (len(blobs), []):
            raise SystemExit(f"expected a sound store, found {document}")

    for run in (openssl, verify) if number % 2 else (verify, openssl):
        for blob in blobs:
            _warm(blob) if not is_cold else _cool(blob)
        run()
    return Round(is_cold=is_cold, **found)


def _warm(file: Path) -> None:
    with file.open("rb", buffering=0) as opened:
        while opened.read(_BLOCK):
            pass


def _cool(file: Path) -> None:
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _blob(store: Store, scratch: Path, number: int, size: int) -> Path:
    """Makes a blob of random bytes as a sync does, with its entry in the catalog."""
    sha256 = hashlib.sha256()
    with scratch.open("wb") as file:
        for start in range(0, size, _BLOCK):
            block = os.urandom(min(_BLOCK, size - start))
            sha256.update(block)
            file.write(block)
    wheel = LockedWheel(
        name="bench",
        version=str(number),
        filename=f"bench-{number}-py3-none-any.whl",
        digest=Digest(f"sha256:{sha256.hexdigest()}"),
        size=size,
        urls=(),
    )
    with store.acquire(wheel.digest), scratch.open("rb") as file:
        partial = store.partial(wheel)
        for start in range(0, size, _BLOCK):
            partial.write(start, file.read(_BLOCK))
        blob = store.publish(wheel, partial)
        partial.close()
    scratch.unlink()
    return blob


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=6, help="how many blobs (%(default)s)")
    parser.add_argument("--size", type=int, default=300_000_000, help="bytes of each (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="warm ones, and as many cold ones (%(default)s)")
    parser.add_argument("--scratch", type=Path, metavar="DIR", help="a folder on the disk to be measured")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all rounds there, too")
    options = parser.parse_args()
    if min(options.files, options.size, options.rounds) < 1:
        parser.error("--files, --size, --rounds: expected 1 or more")
    return options


if __name__ == "__main__":
    sys.exit(main())
