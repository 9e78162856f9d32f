"""Kills syncs at every call and at random moments, fills disks under them, and looks at what is left of the store.

    python tests/bench/crashes.py [--kills 500] [--fills 20] [--skip-calls] [--seed N] [--scratch DIR] [--json FILE]

- calls: a process that publishes, notes needs, puts a wrong blob aside, syncs or prunes ends, by each kind of fault, at
  each call that changes a file (`support.faultpoints`); and where there is strace, at each system call that does, those
  of SQLite included.
- kills: two `wheelcache sync` on one store, some with a `wheelcache prune --all` beside them, end by SIGKILL at random
  moments. One of two lockfiles is there only at times: prune is to remove what it needs then, and nothing else.
- fills: `wheelcache sync` on a disk of a few megabytes (tmpfs) that somebody else fills meanwhile, then empties.

After each: the store opens, each blob's bytes are its digest, what a sync had said to be in the store is there, what
was in partials is still, journals vouch for right bytes only; and the next sync ends well and fetches only the rest.
Exit code 1 when anything was otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from measure import amount, table
from offers import WheelFile, write_lockfile
from throttled import Server, make_wheels, offered

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from support import scenarios
from support.aftermath import Violation, blobs, kept_bytes, violations, wrong_marks
from support.faultpoints import FaultKind, Nursery

from wheelcache.digest import Digest, parse_digest
from wheelcache.rates import LARGEST_READ
from wheelcache.store import Store

PROGRAM: Final = Path(sys.executable).with_name("wheelcache")
TARGET: Final = ("--python", "3.11", "--platform", "manylinux_2_28_x86_64")
KINDS: Final[tuple[FaultKind, ...]] = ("killed", "torn", "full", "full for a moment")
SIZES: Final = [100_000 * size for size in (2, 3, 5, 8, 12, 18, 27, 60)]
RATE: Final = 4_000_000
HAND_OVER: Final = 2 * LARGEST_READ
"""Bytes that come twice where one connection hands the rest of its part to another: what it was just reading."""

SYSTEM_CALLS: Final = (
    "write,pwrite64,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,ftruncate,chmod"
)


class Tally:
    """Counts what was tried, and what was wrong."""

    def __init__(self) -> None:
        self.tried: Counter[str] = Counter()
        self.wrong: Counter[tuple[str, str]] = Counter()

    def note(self, part: str, found: Sequence[Violation], why: object) -> None:
        """Takes in one try."""
        self.tried[part] += 1
        for each in found:
            self.wrong[part, each.kind] += 1
            print(f"    VIOLATION {part}: {each.kind}: {each.words} ({why})", flush=True)

    def show(self) -> int:
        """Prints the table; returns the exit code."""
        rows = []
        for part, count in self.tried.items():
            kinds = ", ".join(f"{number} x {kind}" for (where, kind), number in self.wrong.items() if where == part)
            rows.append((part, str(count), kinds or "none"))
        print(f"\n{table(('what', 'times', 'violations'), rows)}")
        return 1 if self.wrong else 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """A folder of its own, and two lockfiles of what a server has.

    Attributes:
        work: the folder.
        lockfiles: of the first wheels, and of the others.
        truth: of each wheel, a file with its right bytes.
        names: the digests by the files' names.
        chance: decides everything.
    """

    work: Path
    lockfiles: tuple[Path, Path]
    truth: dict[Digest, Path]
    names: dict[str, Digest]
    chance: random.Random

    @classmethod
    def of(cls, work: Path, wheels: Sequence[WheelFile], made: Path, chance: random.Random) -> Scene:
        """Makes it of wheels that are served."""
        half = [wheel for number, wheel in enumerate(wheels) if number % 2 == 0]
        others = [wheel for wheel in wheels if wheel not in half]
        names = {wheel.filename: parse_digest(f"sha256:{wheel.sha256}") for wheel in wheels}
        (work / "project").mkdir()
        return cls(
            work=work,
            lockfiles=(write_lockfile(work / "pylock.toml", half), write_lockfile(work / "pylock.b.toml", others)),
            truth={digest: made / name for name, digest in names.items()},
            names=names,
            chance=chance,
        )

    def wheels_of(self, lockfile: Path) -> set[Digest]:
        """Returns what a lockfile needs."""
        text = lockfile.read_text()
        return {digest for name, digest in self.names.items() if name in text}

    def size(self, digest: Digest) -> int:
        """Returns the wheel's size in bytes."""
        return self.truth[digest].stat().st_size

    def said(self, events: Path) -> set[Digest]:
        """Returns of which wheels syncs have said that they are in the store."""
        lines = [json.loads(line) for line in events.read_bytes().split(b"\n")[:-1]] if events.exists() else []
        finished = [line for line in lines if line["event"] == "WheelFinished" and line["state"] != "failed"]
        return {self.names[line["filename"]] for line in finished if line["state"] != "missing"}

    def argv(self, *arguments: str | Path) -> list[str | Path]:
        """Returns a command line."""
        return [PROGRAM, *arguments]

    def start(self, *arguments: str | Path) -> subprocess.Popen[bytes]:
        """Starts the program, in a process group of its own."""
        with (self.work / "log").open("ab") as log:
            return subprocess.Popen(
                self.argv(*arguments), cwd=self.work / "project", stdout=log, stderr=log, start_new_session=True
            )

    def finish(self, root: Path, lockfiles: Sequence[Path]) -> list[Violation]:
        """Syncs to the end; all is to be there, and no byte is to be fetched that was kept."""
        kept, present = kept_bytes(root, self.truth), blobs(root)
        ran = subprocess.run(
            self.argv("sync", *lockfiles, *TARGET, "--cache-dir", root, "--json", "-q"),
            cwd=self.work / "project",
            capture_output=True,
            check=False,
        )
        if ran.returncode:
            return [Violation(kind="next sync failed", words=f"exit {ran.returncode}: {ran.stderr.decode()[-500:]}")]
        found = violations(root, published={digest for each in lockfiles for digest in self.wheels_of(each)})
        for wheel in json.loads(ran.stdout)["wheels"]:
            digest = wheel["digest"]
            most = 0 if digest in present else self.size(digest) - (kept[digest].right if digest in kept else 0)
            if wheel["bytes_fetched"] > most + HAND_OVER:
                words = f"{wheel['filename']}: fetched {wheel['bytes_fetched']}, expected at most {most}"
                found.append(Violation(kind="kept bytes fetched again", words=words))
        return found


def try_calls(work: Path, tally: Tally, server: str) -> None:
    """Ends each scenario at each call."""
    truth = scenarios.write_files(work / "right")
    template = Store.open(work / "template")
    for made in scenarios.MADE.values():
        scenarios.put(template, made)
    project = work / "needing"
    project.mkdir()
    (project / "pylock.toml").touch()
    locked = tuple(made.locked(_url(server, made.filename)) for made in scenarios.MADE.values())

    def fresh(at: int) -> Path:
        root = work / f"run-{at}"
        shutil.rmtree(root, ignore_errors=True)
        return root

    def copied(at: int) -> Path:
        return scenarios.copy_store(template.root, fresh(at))

    tries = {
        "publish": (scenarios.publish, fresh),
        "note needs": (partial(scenarios.note_needs, project=project), fresh),
        "sync": (partial(scenarios.sync, wheels=locked), fresh),
        "prune": (scenarios.prune, copied),
    }
    with Nursery() as nursery:
        for name, (scenario, prepare) in tries.items():
            for kind in KINDS:
                for ended, root in nursery.each_fault(scenario, prepare, kind):
                    said = {parse_digest(line.split()[1]) for line in ended.said if line.startswith("published")}
                    found = violations(root, published=said) + wrong_marks(root, truth)
                    if ended.code not in (0, 1, -signal.SIGKILL):
                        found.append(Violation(kind="odd end", words=f"exit {ended.code}"))
                    last = ended.error.splitlines()[-1:]
                    if last and "StoreFullError" not in last[0] and "No space left" not in last[0]:
                        found.append(Violation(kind="odd error", words=last[0]))
                    scenarios.publish(root, lambda _line: None)
                    found += violations(root, published=[scenarios.LEFT.digest])
                    tally.note(f"{name}, {kind}", found, f"call {ended.at}, {ended.reached}")
                    shutil.rmtree(root)


def _url(server: str, filename: str) -> str:
    return f"{server}/simple-files/{filename}"


def try_system_calls(scene: Scene, tally: Tally) -> None:
    """Kills a sync at the n-th system call of one of its threads, until they end by themselves."""
    if shutil.which("strace") is None:
        print("NOT TESTED: system calls one by one, there is no strace")
        return
    root = scene.work / "traced"
    for call in SYSTEM_CALLS.split(","):
        for number in range(1, 400, 1 if call not in ("write", "pwrite64") else 7):
            shutil.rmtree(root, ignore_errors=True)
            events = scene.work / f"events-{call}-{number}"
            tracer = [
                "strace",
                "-f",
                "-qqq",
                "-e",
                f"trace={call}",
                "-e",
                f"inject={call}:signal=SIGKILL:when={number}",
            ]
            sync = ["sync", *scene.lockfiles, *TARGET, "--cache-dir", root, "--events", events, "-q"]
            ran = subprocess.run(
                [*tracer, "-o", "/dev/null", *scene.argv(*sync)],
                cwd=scene.work / "project",
                capture_output=True,
                check=False,
            )
            if root.exists():
                found = violations(root, published=scene.said(events)) + wrong_marks(root, scene.truth)
                found += scene.finish(root, scene.lockfiles) if number % 5 == 1 else []
                tally.note("system calls of sync", found, f"{call} {number}")
            events.unlink(missing_ok=True)
            if ran.returncode == 0:
                break


def try_kills(scene: Scene, tally: Tally, kills: int) -> None:
    """Kills two syncs, and prunes, at random moments, over and over on one store."""
    chance, root = scene.chance, scene.work / "killed"
    one, other = scene.lockfiles
    always, at_times = scene.wheels_of(one), scene.wheels_of(other)
    text = other.read_text()
    published: set[Digest] = set()
    done = number = 0
    while done < kills:
        number += 1
        events = scene.work / f"killed-events-{number}"
        has_other = chance.random() < 0.6
        other.write_text(text) if has_other else other.unlink(missing_ok=True)
        _delete_some(scene, root, published)
        published -= at_times  # a prune of another run may take them
        before = kept_bytes(root, scene.truth)
        lockfiles = [one, other] if has_other else [one]
        running = [
            scene.start("sync", *lockfiles, *TARGET, "--cache-dir", root, "--events", events, "-q") for _ in range(2)
        ]
        is_pruned = chance.random() < 0.4
        began = time.monotonic()
        moments = [began + chance.uniform(0.3, 2.0) for _ in running]
        if is_pruned:
            running.append(scene.start("prune", "--all", "--cache-dir", root, "-q"))
            moments.append(began + chance.uniform(0.3, 1.2))
        for moment, process in sorted(zip(moments, running, strict=True), key=lambda pair: pair[0]):
            time.sleep(max(moment - time.monotonic(), 0))
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                done += 1
            process.wait()
        published |= scene.said(events) & (always if is_pruned and not has_other else always | at_times)
        found = violations(root, published=published) + wrong_marks(root, scene.truth)
        after, present = kept_bytes(root, scene.truth), blobs(root)
        for digest, was in before.items():
            now = after[digest].right if digest in after else 0
            is_needed = has_other or digest in always
            if digest not in present and is_needed and now < was.right:
                found.append(Violation(kind="kept bytes lost", words=f"{digest}: {was.right}, then {now}"))
        if number % 10 == 0:
            found += scene.finish(root, lockfiles)
            published = blobs(root)
        tally.note("kill -9", found, f"round {number}, {done} kills, prune {is_pruned}, both {has_other}")
        events.unlink(missing_ok=True)
        if number % 25 == 0:
            print(f"{done} kills in {number} rounds", flush=True)
    other.write_text(text)
    tally.note("kill -9", scene.finish(root, scene.lockfiles), "the end")
    print(f"{done} processes killed in {number} rounds")


def _delete_some(scene: Scene, root: Path, published: set[Digest]) -> None:
    """Deletes blobs once most are there, so that there is something to fetch."""
    present = blobs(root)
    if len(present) > len(scene.truth) // 2:
        for digest in sorted(present):
            if scene.chance.random() < 0.6:
                published.discard(digest)
                name = digest.removeprefix("sha256:")
                (root / "v1" / "blobs" / "sha256" / name[:2] / name).unlink()


def try_fills(scene: Scene, tally: Tally, fills: int) -> None:
    """Fills a small disk under a sync, empties it, and lets the next sync go on."""
    folder = scene.work / "small"
    folder.mkdir()
    needed = sum(scene.size(digest) for digest in scene.truth)
    size = needed + 16_000_000 + 1_500_000
    for number in range(1, fills + 1):
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=False)
        if done.returncode:
            print("NOT TESTED: full disks, this machine mounts nothing")
            return
        try:
            found = _fill_once(scene, folder, scene.chance.uniform(0.02, 0.9) * needed)
            tally.note("full disk", found, f"round {number}")
        finally:
            subprocess.run(["umount", folder], check=True)


def _fill_once(scene: Scene, folder: Path, room: float) -> list[Violation]:
    root, ballast = folder / "cache", folder / "ballast"
    argv = scene.argv("sync", *scene.lockfiles, *TARGET, "--cache-dir", root, "--json", "-q")
    with subprocess.Popen(argv, cwd=scene.work / "project", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while process.poll() is None and not any((root / "v1" / "partial").glob("*.part")):
            time.sleep(0.002)
        with ballast.open("wb") as file:  # all that is left but for *room*
            os.posix_fallocate(file.fileno(), 0, max(shutil.disk_usage(folder).free - int(room), 1))
        out, err = process.communicate()
    found = violations(root) + wrong_marks(root, scene.truth)
    if process.returncode != 6:
        found.append(Violation(kind="another exit code than 6", words=f"{process.returncode}: {err.decode()[-300:]}"))
    else:
        error = json.loads(out)["error"]
        missing = [scene.size(digest) for digest in scene.truth if digest not in blobs(root)]
        if not any(character.isdigit() for character in f"{error['hint']}"):
            words = f"{error['message']} | {error['hint']}"
            found.append(
                Violation(kind="the hint does not say the bytes needed", words=f"{len(missing)} left: {words}")
            )
    kept = sum(each.right for each in kept_bytes(root, scene.truth).values())
    published = sum(scene.size(digest) for digest in blobs(root))
    print(f"    room for {amount(room)}: {amount(published)} published, {amount(kept)} kept")
    ballast.unlink()
    return found + scene.finish(root, scene.lockfiles)


def main() -> int:
    """Runs everything and prints the table."""
    parser = argparse.ArgumentParser(description="Kill syncs everywhere, fill their disks, and look at what is left.")
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--fills", type=int, default=20)
    parser.add_argument("--skip-calls", action="store_true", help="no faults at each call")
    parser.add_argument("--seed", type=int, default=random.randrange(10**9))
    parser.add_argument("--scratch", type=Path, default=None, help="a folder on a disk with 200 MB free")
    parser.add_argument("--json", type=Path, default=None, help="write the figures here as well")
    options = parser.parse_args()
    tally = Tally()
    chance = random.Random(options.seed)
    print(f"seed {options.seed}")
    with tempfile.TemporaryDirectory(prefix="wheelcache-crashes-", dir=options.scratch) as name:
        work = Path(name)
        made = work / "wheels"
        wheels = make_wheels(made, SIZES)
        for small in scenarios.MADE.values():
            (made / small.filename).write_bytes(small.data)
        with Server(work / "server", made, ["--rate", RATE]) as server:
            scene = Scene.of(work, offered(wheels, [server]).wheels, made, chance)
            if options.fills:
                try_fills(scene, tally, options.fills)
            if options.kills:
                try_kills(scene, tally, options.kills)
            if not options.skip_calls:
                calls = work / "calls"
                calls.mkdir()
                try_calls(calls, tally, server.url)
                try_system_calls(scene, tally)
    if options.json:
        wrong = {f"{part}: {kind}": count for (part, kind), count in tally.wrong.items()}
        options.json.write_text(json.dumps({"seed": options.seed, "tried": tally.tried, "wrong": wrong}, indent=1))
    return tally.show()


if __name__ == "__main__":
    raise SystemExit(main())
