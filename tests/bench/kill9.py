"""Kills `wheelcache sync` with SIGKILL at random moments, lets it finish, and counts every byte that it read in all.

The bytes are counted outside the program, see `sockethook`. A plain cold run comes first, for its time and peak memory.
Exit 1 when more than 1.01 x the closure was read, or a blob is wrong or missing.

    python tests/bench/kill9.py [LOCKFILE] [--python 3.11 --platform manylinux_2_28_x86_64] [--scratch DIR]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from children import Child, await_until
from measure import amount, require_free, table
from sockethook import SocketCounters

LIMIT = 1.01
NEEDED = 6_000_000_000
LONGEST = 3600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One start of the program; *said* is the end of what it wrote."""

    name: str
    seconds: float
    read: int
    exit_code: int
    peak_rss: int
    said: str


class Counted:
    """Starts a program whose reads are counted.

    Args:
        folder: for logs and counters.
        argv: the program and its arguments.
        environ: all of its environment; None for this one.
    """

    def __init__(self, folder: Path, argv: Sequence[str], *, environ: Mapping[str, str] | None = None) -> None:
        self._folder = folder
        self._argv = argv
        self._environ = os.environ if environ is None else environ
        self._number = 0

    def run(self, name: str, *arguments: str, kill_after: int | None = None, delay: float = 0.0) -> Run:
        """Runs it to its end, or kills it *delay* seconds after it has read *kill_after* bytes."""
        self._number += 1
        counters = SocketCounters(self._folder / f"sockets-{self._number}")
        log = self._folder / f"log-{self._number}"
        with Child([*self._argv, *arguments], cwd=self._folder, env=counters.environ(self._environ), log=log) as child:
            if kill_after is not None and await_until(lambda: counters.read >= kill_after, child, every=0.002):
                child.sleep(delay)
                child.signal(signal.SIGKILL)
            ended = child.ended(LONGEST)
        if ended is None:
            raise SystemExit(f"{name}: did not end within {LONGEST:.0f} s\n{log.read_text(errors='replace')[-2000:]}")
        return Run(
            name=name,
            seconds=ended.seconds,
            read=counters.read,
            exit_code=ended.exit_code,
            peak_rss=ended.peak_rss,
            said=log.read_text(errors="replace")[-2000:],
        )


def finished(run: Run) -> Run:
    """Returns *run*; ends the program when it failed."""
    if run.exit_code:
        raise SystemExit(f"{run.name}: exit {run.exit_code}\n{run.said}")
    return run


def make_lockfile(folder: Path, requirement: str, python: str, platform: str) -> Path:
    """Resolves the real closure; the lockfile names index hosts, so it lives and dies in *folder*."""
    (folder / "requirements.in").write_text(requirement + "\n")
    lockfile = folder / "pylock.toml"
    resolver = [str(Path(sys.executable).with_name("uv")), "pip", "compile", str(folder / "requirements.in")]
    target = ["--python-version", python, "--python-platform", platform, "--no-build"]
    subprocess.run([*resolver, "--format", "pylock.toml", *target, "-q", "-o", str(lockfile)], check=True)
    return lockfile


def wrong_blobs(cache: Path) -> list[str]:
    """Returns the names of blobs whose bytes are not what their name says."""
    wrong = []
    for blob in (cache / "v1" / "blobs" / "sha256").glob("*/*"):
        with blob.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != blob.name:
                wrong.append(blob.name)
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill wheelcache sync five times; count what was read.")
    parser.add_argument("lockfile", nargs="?", type=Path, help="default: the closure of --requirement")
    parser.add_argument("--requirement", default="torch==2.8.0")
    parser.add_argument("--python", default="3.11")
    parser.add_argument("--platform", default="manylinux_2_28_x86_64")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=None, help="for the moments; default: another one each time")
    parser.add_argument("--scratch", type=Path, default=None, help="a folder on a disk with 6 GB free")
    parser.add_argument("--json", type=Path, default=None, help="write the figures here as well")
    options = parser.parse_args()
    require_free(options.scratch or Path(tempfile.gettempdir()), NEEDED, "this benchmark")
    with tempfile.TemporaryDirectory(prefix="wheelcache-kill9-", dir=options.scratch) as name:
        result = measure(Path(name), options)
    rows = [
        [run["name"], f"{run['seconds']:.1f} s", amount(run["read"]), str(run["exit_code"]), amount(run["peak_rss"])]
        for run in result["runs"]
    ]
    print(table(["run", "time", "bytes read", "exit", "peak RSS"], rows))
    print(
        f"\n{result['wheels']} wheels, {amount(result['closure'])}; read in all killed runs and the last one: ", end=""
    )
    print(
        f"{amount(result['read'])}, {result['ratio']:.5f} x (limit {LIMIT}); wrong blobs: {result['wrong'] or 'none'}"
    )
    print(json.dumps(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))
    return 0 if result["ok"] else 1


def measure(folder: Path, options: argparse.Namespace) -> dict[str, object]:
    """Runs everything in *folder*; returns the figures."""
    seed = options.seed if options.seed is not None else random.randrange(10**9)
    chance = random.Random(seed)
    platform = options.platform
    words = platform.split("_", 3)  # manylinux_2_28_x86_64 -> x86_64-manylinux_2_28, as uv says it
    lockfile = options.lockfile or make_lockfile(
        folder, options.requirement, options.python, f"{words[3]}-{'_'.join(words[:3])}"
    )
    program = str(Path(sys.executable).with_name("wheelcache"))
    target = ["--python", options.python, "--platform", platform]
    counted = Counted(folder, [program, "sync", str(lockfile.absolute()), *target, "-q", "--cache-dir"])
    cold = finished(counted.run("cold, not killed", str(folder / "cold")))
    closure = sum(blob.stat().st_size for blob in (folder / "cold" / "v1" / "blobs").rglob("*") if blob.is_file())
    wheels = sorted(blob.name for blob in (folder / "cold" / "v1" / "blobs" / "sha256").glob("*/*"))
    again = finished(counted.run("again, all present", str(folder / "cold")))
    subprocess.run(["rm", "-rf", str(folder / "cold")], check=True)

    cache = folder / "killed"
    moments = sorted(chance.uniform(0.02, 0.98) * closure for _ in range(options.kills))
    killed: list[Run] = []
    for number, moment in enumerate(moments, start=1):
        before = sum(run.read for run in killed)
        kill_after = max(int(moment) - before, 1)
        delay = chance.uniform(0, 0.3)
        killed.append(counted.run(f"kill -9, {number}", str(cache), kill_after=kill_after, delay=delay))
    killed.append(finished(counted.run("last", str(cache))))
    read = sum(run.read for run in killed)
    wrong = wrong_blobs(cache)
    missing = sorted(set(wheels) - {blob.name for blob in (cache / "v1" / "blobs" / "sha256").glob("*/*")})
    killed_in_earnest = all(run.exit_code == -9 for run in killed[:-1])
    ratio = read / closure
    return {
        "ok": ratio <= LIMIT and not wrong and not missing and killed_in_earnest,
        "seed": seed,
        "wheels": len(wheels),
        "closure": closure,
        "read": read,
        "ratio": ratio,
        "wrong": wrong,
        "missing": missing,
        "killed_in_earnest": killed_in_earnest,
        "runs": [
            {name: value for name, value in asdict(run).items() if name != "said"} for run in (cold, again, *killed)
        ],
    }


if __name__ == "__main__":
    raise SystemExit(main())
