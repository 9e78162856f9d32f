"""Cuts the power of a disk with a volatile cache under `wheelcache sync` and `wheelcache prune`; looks at what is left.

    python tests/bench/powercut.py [--cuts 200] [--seed N] [--scratch DIR] [--json FILE]

The store lies on an ext4 on a disk that this process plays (see `cutdisk`): it knows what was flushed, and at a random
moment, or at a random write, it keeps that, and of what was written since all, nothing, the first part or any blocks.
What is left is the next run's disk; the machine counts as started anew each time. There are three lockfiles, of which
some stand at a time: what the others need is pruned, beside running syncs or alone, and so there is always something to
fetch. In some runs two syncs share the store, or the program is killed and started again before the power goes. Of each
cut a copy is mounted and looked at:

- the store opens, its catalog too, and so do the notes of what projects need;
- every blob's bytes are its digest; every blob of which a sync had said that it is in the store, and that a standing
  lockfile needs, is there;
- bytes that a journal says to have reached the disk are the wheel's;
- `wheelcache verify` finds no rot; the next sync ends well, with right blobs only, and fetches no kept byte again; and
  the next prune leaves no blob that no standing lockfile needs, none that is removed by halves, and all others.

A copy of each disk that fails is kept in the scratch folder. Needs root, FUSE and loop devices. Exit code 1 when
anything failed, 77 where nothing can be mounted.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, Literal, get_args

from cutdisk import CannotMountError, CutDisk, mounted, new_image, write_sparse
from measure import amount, require_free, table
from offers import WheelFile, write_lockfile
from throttled import Server, make_wheels, offered

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from support.aftermath import Violation, blobs, kept_bytes, violations, wrong_marks

from wheelcache.digest import Digest, parse_digest
from wheelcache.rates import LARGEST_READ

SIZES: Final = [1_000_000 * size for size in (1, 2, 3, 4, 5, 6, 8, 11, 15, 40)]
IMAGE: Final = 160 << 20
"""So small that what is written soon takes the place of what was removed."""

GROUPS: Final = 3
RATE: Final = 60_000_000
LIMITS: Final = ("60MB/s", "12MB/s", "5MB/s")
"""How fast syncs go: some publish many wheels, some have partials that were brought to the disk several times."""

BOOT: Final = "/proc/sys/kernel/random/boot_id"
OPTIONS: Final = (
    "defaults",
    "commit=1",
    "commit=1,noauto_da_alloc",
    "data=writeback",
    "data=writeback,noauto_da_alloc",
)
"""How the disk is mounted: as ext4 does it by itself; with more of what no flush asked for; without its help for those
who rename what they did not flush; and so that a file whose removal was cut off comes back with the bytes of whatever
took its blocks meanwhile."""

DEBRIS: Final = frozenset(f"verify: {kind}" for kind in ("journal", "partial", "debris", "mode"))
HAND_OVER: Final = 2 * LARGEST_READ
"""Bytes that come twice where one connection hands the rest of its part to another: what it was just reading."""

UNFIT: Final = 77
LONGEST: Final = 60.0


Pruned = Literal["meanwhile", "before", "never"]


@dataclass(kw_only=True, slots=True)
class Found:
    """One cut.

    Attributes:
        number: counted from 1.
        options: how the disk was mounted.
        limit: how fast syncs went.
        kept: what the disk kept of its cache.
        unflushed: bytes in that cache.
        seconds: from the sync's start to the cut.
        pruned: the power went while a prune ran, after one had, or there was none.
        published: blobs of which syncs had said that they are in the store.
        partials: bytes of each partial: noted before the cut, usable after it, right of these.
        violations: what is wrong.
        debris: what verify would tidy up, by its kind; it costs bytes or nothing, and misleads nobody.
    """

    number: int
    options: str
    limit: str
    kept: str
    unflushed: int
    seconds: float
    pruned: Pruned
    published: int
    partials: list[tuple[int, int, int]] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    debris: list[str] = field(default_factory=list)


class Rounds:
    """All cuts of one disk, one after the other.

    Args:
        work: a new folder.
        wheels: what is synced, and where it can be had.
        made: the folder with the right files.
        image: the disk to begin with.
        chance: decides everything.
    """

    def __init__(
        self, work: Path, wheels: Sequence[WheelFile], made: Path, *, image: bytearray, chance: random.Random
    ) -> None:
        self._work = work
        self._image = image
        self._chance = chance
        self._sizes = {parse_digest(f"sha256:{wheel.sha256}"): wheel.size for wheel in wheels}
        self._names = {wheel.filename: parse_digest(f"sha256:{wheel.sha256}") for wheel in wheels}
        self._truth = {digest: made / name for name, digest in self._names.items()}
        self._groups: dict[Path, set[Digest]] = {}
        for number in range(GROUPS):
            some = [wheel for place, wheel in enumerate(wheels) if place % GROUPS == number]
            lockfile = write_lockfile(work / f"pylock.{number}.toml", some)
            self._groups[lockfile] = {parse_digest(f"sha256:{wheel.sha256}") for wheel in some}
        self._texts = {lockfile: lockfile.read_text() for lockfile in self._groups}
        self._standing = list(self._groups)
        self._published: set[Digest] = set()
        self._limit = LIMITS[0]
        self._project = work / "elsewhere"
        self._project.mkdir()

    def cut(self, number: int) -> Found:
        """Lets syncs run, cuts the power, and looks at what is left; that is the disk of the next call."""
        chance, work = self._chance, self._work
        disk_file, events = work / "disk", work / f"events-{number}.jsonl"
        disk_file.touch()
        events.touch()
        options, self._limit = chance.choice(OPTIONS), chance.choice(LIMITS)
        disk = CutDisk(disk_file, self._image, chance=chance, witness=lambda: self._said(events))
        with disk, mounted(disk_file, work / "mounted", options) as folder:
            root = folder / "cache"
            self._choose_lockfiles()
            boot = self._new_boot()
            syncs, prunes = chance.choice(((1, False), (1, True), (1, True), (2, True), (0, True)))
            at_request = not syncs or chance.random() < 0.5
            if at_request:
                disk.cut_at(disk.requests + int(chance.lognormvariate(5.0 if syncs else 3.0, 1.2)))
            began = time.monotonic()
            ends = began + (LONGEST if at_request else chance.uniform(0.2, 7.0))
            pruned = self._run_until(disk, root, events, boot, ends, syncs=syncs, prunes=prunes)
            noted = kept_bytes(root, self._truth)
            disk.cut_now()
            seconds = time.monotonic() - began
        if disk.cut is None:
            raise RuntimeError("nothing was cut")
        self._image = disk.cut.image
        said = disk.cut.witness
        self._published |= said if isinstance(said, set) else set()
        if prunes:
            self._published &= self._needed()
        found = Found(
            number=number,
            options=options,
            limit=self._limit,
            kept=disk.cut.kept,
            unflushed=disk.cut.unflushed,
            seconds=seconds,
            pruned=pruned,
            published=len(self._published),
        )
        self._look(found, {digest: kept.noted for digest, kept in noted.items()})
        return found

    def _run_until(
        self, disk: CutDisk, root: Path, events: Path, boot: Path, ends: float, *, syncs: int, prunes: bool
    ) -> Pruned:
        """Runs syncs, and prunes one after the other, until the cut, or until all is done or the time is over."""
        kill_at = self._chance.uniform(0.3, 3.0) if self._chance.random() < 0.2 else LONGEST
        running = [self._start_sync(root, events, boot) for _ in range(syncs)]
        prune: subprocess.Popen[bytes] | None = None
        began = time.monotonic()
        prune_at = began + self._chance.uniform(0.0, 1.5) * bool(syncs)
        try:
            while time.monotonic() < ends and not disk.was_cut.is_set():
                is_over = all(process.poll() is not None for process in running)
                if prunes and (prune is None or prune.poll() is not None) and time.monotonic() > prune_at:
                    if is_over and prune is not None:
                        break
                    prune = self._start(boot, "prune", "--all", "-q", "--cache-dir", root)
                    prune_at = time.monotonic() + self._chance.uniform(0.5, 2.0)
                if is_over and not prunes:
                    os.sync() if self._chance.random() < 0.2 else None
                    break
                if time.monotonic() > began + kill_at and syncs:
                    kill_at = LONGEST
                    _kill(running)
                    running = [self._start_sync(root, events, boot)]
                time.sleep(0.005)
        finally:
            disk.cut_now()
            is_pruning = prune is not None and prune.poll() is None
            _kill([*running, *([prune] if prune is not None else [])])
        return "meanwhile" if is_pruning else "before" if prune is not None else "never"

    def _look(self, found: Found, noted: dict[Digest, int]) -> None:
        """Mounts a copy and notes everything that is wrong with it."""
        copy = self._work / "copy"
        write_sparse(copy, self._image)
        boot = self._new_boot()
        try:
            with mounted(copy, self._work / "looked-at") as folder:
                root = folder / "cache"
                found.violations += violations(root, published=self._published)
                found.violations += wrong_marks(root, self._truth)
                before = blobs(root)
                kept = kept_bytes(root, self._truth, boot=boot.read_text().strip())
                for digest, was in noted.items():
                    if digest not in before:
                        now = kept.get(digest)
                        found.partials.append((was, now.usable if now else 0, now.right if now else 0))
                for each in self._verify(root, boot):
                    found.debris.append(each.kind) if each.kind in DEBRIS else found.violations.append(each)
                found.violations += self._prune(root, boot)
                found.violations += self._sync_on(root, boot, {digest: each.right for digest, each in kept.items()})
        except CannotMountError as error:
            found.violations.append(Violation(kind="the file system itself", words=str(error)))
        if found.violations:
            write_sparse(self._work / f"failed-{found.number}.img", self._image)

    def _verify(self, root: Path, boot: Path) -> list[Violation]:
        ran = subprocess.run(
            self._argv(boot, "verify", "--json", "--cache-dir", root),
            capture_output=True,
            cwd=self._project,
            check=False,
        )
        try:
            findings = json.loads(ran.stdout)["findings"]
        except (ValueError, KeyError):
            return [Violation(kind="verify failed", words=f"exit {ran.returncode}: {ran.stderr.decode()[-500:]}")]
        return [
            Violation(kind=f"verify: {each['kind']}", words=f"{each['path']}: {each['expected']}, {each['found']}")
            for each in findings
        ]

    def _sync_on(self, root: Path, boot: Path, kept: dict[Digest, int]) -> list[Violation]:
        """Syncs to the end; every wheel is to be there, whole, and what was kept is not to be fetched again."""
        ran = subprocess.run(
            self._argv(boot, *self._sync(root), "--json"), capture_output=True, cwd=self._project, check=False
        )
        if ran.returncode:
            return [Violation(kind="next sync failed", words=f"exit {ran.returncode}: {ran.stderr.decode()[-500:]}")]
        found = violations(root, published=self._needed())
        for wheel in json.loads(ran.stdout)["wheels"]:
            most = self._sizes[wheel["digest"]] - kept.get(wheel["digest"], 0)
            if wheel["bytes_fetched"] > most + HAND_OVER:
                words = f"{wheel['filename']}: fetched {wheel['bytes_fetched']}, expected at most {most}"
                found.append(Violation(kind="kept bytes fetched again", words=words))
        return found

    def _prune(self, root: Path, boot: Path) -> list[Violation]:
        """Prunes all that nobody needs: nothing else is to go, and that for good."""
        argv = self._argv(boot, "prune", "--all", "--cache-dir", root)
        ran = subprocess.run(argv, capture_output=True, cwd=self._project, check=False)
        if ran.returncode:
            return [Violation(kind="next prune failed", words=f"exit {ran.returncode}: {ran.stderr.decode()[-500:]}")]
        found = []
        if lost := (self._published & self._needed()) - blobs(root):
            found.append(Violation(kind="needed blobs pruned", words=", ".join(sorted(lost))))
        if left := blobs(root) - self._needed():
            found.append(Violation(kind="nobody's blobs left", words=", ".join(sorted(left))))
        if gone := list(root.rglob("*.gone")):
            found.append(Violation(kind="removed by halves", words=", ".join(map(str, gone))))
        return found

    def _choose_lockfiles(self) -> None:
        """Lets some lockfiles stand, and takes the others away."""
        self._standing = self._chance.sample(list(self._groups), self._chance.randint(1, GROUPS))
        for lockfile, text in self._texts.items():
            lockfile.unlink(missing_ok=True)
            if lockfile in self._standing:
                lockfile.write_text(text)

    def _needed(self) -> set[Digest]:
        return {digest for lockfile in self._standing for digest in self._groups[lockfile]}

    def _said(self, events: Path) -> set[Digest]:
        """Returns of which wheels syncs have said by now that they are in the store."""
        lines = [json.loads(line) for line in events.read_bytes().split(b"\n")[:-1]]
        finished = [line for line in lines if line["event"] == "WheelFinished"]
        return {self._names[line["filename"]] for line in finished if line["state"] in ("downloaded", "resumed")}

    def _start_sync(self, root: Path, events: Path, boot: Path) -> subprocess.Popen[bytes]:
        return self._start(boot, *self._sync(root), "--events", events, "-q", "--limit-rate", self._limit)

    def _start(self, boot: Path, *arguments: str | Path) -> subprocess.Popen[bytes]:
        argv = self._argv(boot, *arguments)
        with (self._work / "log").open("ab") as log:
            return subprocess.Popen(argv, cwd=self._project, stdout=log, stderr=log, start_new_session=True)

    def _sync(self, root: Path) -> list[str | Path]:
        target = ["--python", "3.11", "--platform", "manylinux_2_28_x86_64"]
        return ["sync", *self._standing, *target, "--cache-dir", root]

    def _argv(self, boot: Path, *arguments: str | Path) -> list[str | Path]:
        """Returns a command line that runs wheelcache as if the machine had been started anew as *boot* says."""
        program = Path(sys.executable).with_name("wheelcache")
        script = f'mount --bind "$0" {BOOT} && exec "$@"'
        return ["unshare", "-m", "sh", "-c", script, boot, program, *arguments]

    def _new_boot(self) -> Path:
        file = self._work / "boot_id"
        text = f"{self._chance.getrandbits(128):032x}"
        file.unlink(missing_ok=True)  # who has it mounted keeps the old one
        file.write_text(f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}\n")
        return file


def _kill(running: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    for process in running:
        process.wait()


def main() -> int:
    """Makes all cuts and prints what was found."""
    options = _options()
    if os.geteuid() != 0 or sys.platform != "linux":
        print("NOT TESTED: mounting a disk of one's own needs root on Linux")
        return UNFIT
    scratch = options.scratch or Path(tempfile.gettempdir())
    require_free(scratch, 4 * IMAGE, "this benchmark")
    chance = random.Random(options.seed)
    work = Path(tempfile.mkdtemp(prefix="wheelcache-powercut-", dir=scratch))
    found: list[Found] = []
    try:
        with ExitStack() as resources:
            image = new_image(work / "empty", IMAGE)
            wheels = make_wheels(work / "wheels", SIZES)
            server = resources.enter_context(Server(work / "server", work / "wheels", ["--rate", RATE]))
            offer = offered(wheels, [server])
            rounds = Rounds(work, offer.wheels, work / "wheels", image=image, chance=chance)
            for number in range(1, options.cuts + 1):
                found.append(rounds.cut(number))
                _say(found[-1])
    except CannotMountError as error:
        print(f"NOT TESTED: this machine mounts no disk of one's own: {error}")
        return UNFIT
    finally:
        if not any(each.violations for each in found):
            shutil.rmtree(work, ignore_errors=True)
    if options.json:
        options.json.write_text(json.dumps({"seed": options.seed, "cuts": [asdict(each) for each in found]}, indent=1))
    return _show(found, options.seed, work)


def _say(found: Found) -> None:
    print(
        f"{found.number}: {found.options}, at {found.limit}, after {found.seconds:.2f} s, "
        f"{amount(found.unflushed)} unflushed, of which {found.kept} kept; pruned {found.pruned}; "
        f"{found.published} published, {len(found.partials)} partials",
        flush=True,
    )
    for each in found.violations:
        print(f"    VIOLATION {each.kind}: {each.words}", flush=True)


def _show(found: Sequence[Found], seed: int, work: Path) -> int:
    kinds = Counter(each.kind for one in found for each in one.violations)
    rows = []
    for options, limit in itertools.product(OPTIONS, LIMITS):
        some = [one for one in found if (one.options, one.limit) == (options, limit)]
        partials = [each for one in some for each in one.partials]
        noted, usable, right = (sum(each[place] for each in partials) for place in range(3))
        medians = [each[1] / each[0] for each in partials if each[0]]
        share = f"{100 * statistics.median(medians):.0f} %" if medians else "-"
        bad = sum(bool(one.violations) for one in some)
        rows.append(
            (options, limit, str(len(some)), str(bad), str(len(partials)), *map(amount, (noted, usable, right)), share)
        )
    head = (
        "mounted with",
        "rate",
        "cuts",
        "with violations",
        "partials",
        "noted before",
        "usable after",
        "right",
        "median kept",
    )
    print(f"\nseed {seed}\n{table(head, rows)}")
    kept = Counter(one.kept for one in found)
    for prune in get_args(Pruned):
        some = [one for one in found if one.pruned == prune]
        print(f"cuts with a prune {prune}: {len(some)}, with violations: {sum(bool(one.violations) for one in some)}")
    print("of what was not flushed the disk kept: " + ", ".join(f"{word} {count}" for word, count in kept.items()))
    for kind, count in Counter(each for one in found for each in one.debris).most_common():
        print(f"  tidied up, {kind}: {count}")
    for kind, count in kinds.most_common():
        print(f"  VIOLATED, {kind}: {count}")
    if kinds:
        print(f"the disks of these cuts are in {work}")
    return 1 if kinds else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Cut the power while wheelcache syncs and prunes; look at what is left."
    )
    parser.add_argument("--cuts", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.randrange(10**9))
    parser.add_argument("--scratch", type=Path, default=None, help="a folder on a disk with 1.5 GB free")
    parser.add_argument("--json", type=Path, default=None, help="write the figures here as well")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
