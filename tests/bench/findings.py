"""What the fetch benchmark finds, what is promised of it, and the tables that say both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from measure import amount, seconds, table
from peers import Client

_NOTES = (
    "Times are those of whole processes; CPU is theirs and their children's.",
    "uv has no download command: its figures are of an installation, with unpacking.",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One run of one client.

    Attributes:
        client: its name.
        number: of the round, from 1.
        seconds: of the whole process, wall clock.
        cpu: seconds, user and system, with children.
        peak_rss: bytes.
        exit_code: None when it was stopped at the time limit.
        wrong: files that are missing or have other bytes than they should.
        read: bytes that came in, headers included.
        size: bytes that were to be had.
        stderr: the end of what it said.
    """

    client: str
    number: int
    seconds: float
    cpu: float
    peak_rss: int
    exit_code: int | None
    wrong: tuple[str, ...]
    read: int
    size: int
    stderr: str

    @property
    def done(self) -> bool:
        """True when it ended well and left the right files."""
        return self.exit_code == 0 and not self.wrong

    @property
    def ending(self) -> str:
        """How it ended, in a few words."""
        bad = sum("wrong bytes" in each for each in self.wrong)
        if self.exit_code is None:
            words = f"stopped after {self.seconds:.0f} s"
        else:
            words = "all right" if self.done else f"exit {self.exit_code}, {len(self.wrong)} lacking"
        return f"{words}, {bad} WRONG" if bad else words


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """What is promised, and whether it was kept."""

    what: str
    found: str
    limit: str
    kept: bool


@dataclass(kw_only=True, slots=True)
class Found:
    """What one case found.

    Attributes:
        case: its name, with the variant.
        setting: what was done, in a sentence.
        samples: all runs, in order.
        limits: what is promised.
        notes: what a reader must know of how it was measured.
    """

    case: str
    setting: str
    samples: list[Sample] = field(default_factory=list)
    limits: list[Limit] = field(default_factory=list)
    notes: tuple[str, ...] = ()

    def of(self, client: Client) -> list[Sample]:
        """Returns the runs of one client."""
        return [sample for sample in self.samples if sample.client == client.name]

    def limit_ratio(self, measure: str, ours: Client, peer: Client, limit: float) -> None:
        """Promises that the median, over the rounds, of ours by the peer's in the same round is at most *limit*.

        Args:
            measure: `seconds` or `cpu`.
            ours: client.
            peer: client; what it did not finish says nothing.
            limit: of the ratio.
        """
        finished = {sample.number: sample for sample in self.of(peer) if sample.done}
        ratios = [
            getattr(sample, measure) / getattr(finished[sample.number], measure)
            for sample in self.of(ours)
            if sample.number in finished
        ]
        what = {"seconds": "wall", "cpu": "CPU"}[measure]
        found = f"{median(ratios):.3f} x ({', '.join(f'{ratio:.3f}' for ratio in ratios)})" if ratios else "no pair"
        kept = bool(ratios) and median(ratios) <= limit and self._all_done(ours)
        self.promise(f"{what}: {ours.name} / {peer.name}", found, f"<= {limit} x", kept=kept)

    def limit_memory(self, ours: Client, limit: int) -> None:
        """Promises that no run of ours takes more than *limit* bytes of memory."""
        most = max(sample.peak_rss for sample in self.of(ours))
        kept = most <= limit and self._all_done(ours)
        self.promise(f"peak RSS, most: {ours.name}", amount(most), f"<= {amount(limit)}", kept=kept)

    def limit_median(self, ours: Client, limit: float) -> None:
        """Promises the median of ours to take at most *limit* seconds."""
        value = median(sample.seconds for sample in self.of(ours))
        kept = value <= limit and self._all_done(ours)
        self.promise(f"wall, median: {ours.name}", f"{value:.3f} s", f"<= {limit:.3f} s", kept=kept)

    def limit_read(self, ours: Client, limit: float = 1.01) -> None:
        """Promises that ours finishes, all right, having read at most *limit* times the bytes that there are."""
        ratio = max(sample.read / sample.size for sample in self.of(ours))
        kept = ratio <= limit and self._all_done(ours)
        self.promise(f"finishes; bytes read / size: {ours.name}", f"{ratio:.4f} x", f"<= {limit} x", kept=kept)

    def limit_finishes(self, ours: Client) -> None:
        """Promises that ours finishes with the right files."""
        endings = ", ".join(dict.fromkeys(sample.ending for sample in self.of(ours)))
        self.promise(f"finishes: {ours.name}", endings, "all right", kept=self._all_done(ours))

    def limit_nothing_wrong(self, ours: Client) -> None:
        """Promises that ours publishes no wrong byte, whether it finishes or not."""
        bad = [each for sample in self.of(ours) for each in sample.wrong if "wrong bytes" in each]
        self.promise(f"nothing wrong published: {ours.name}", ", ".join(bad) or "nothing", "nothing", kept=not bad)

    def promise(self, what: str, found: str, limit: str, *, kept: bool) -> None:
        """Adds a promise."""
        self.limits.append(Limit(what=what, found=found, limit=limit, kept=kept))

    def _all_done(self, client: Client) -> bool:
        samples = self.of(client)
        return bool(samples) and all(sample.done for sample in samples)

    def as_json(self) -> dict[str, Any]:
        """Returns everything for a file, but for what clients said: it may name hosts."""
        document = asdict(self)
        for sample in document["samples"]:
            del sample["stderr"]
        return document


def told(sample: Sample) -> str:
    """Returns one run in one line, with the client's last words where it failed."""
    line = f"{sample.client}: {seconds(sample.seconds)}, {amount(sample.read)} read, {sample.ending}"
    return line if sample.done else f"{line}\n{sample.stderr[-600:].rstrip()}"


def tables(founds: Sequence[Found]) -> str:
    """Returns all cases as Markdown: what was found, then what was promised."""
    parts = []
    for found in founds:
        groups: dict[str, list[Sample]] = {}
        for sample in found.samples:
            groups.setdefault(sample.client, []).append(sample)
        parts.append(f"### {found.case}\n\n{found.setting}")
        if groups:
            head = ["client", "wall, median", "all runs", "CPU", "peak RSS", "bytes read", "/ size", "ended"]
            parts.append(table(head, [_row(name, samples) for name, samples in groups.items()]))
    promised = [
        [found.case, limit.what, limit.found, limit.limit, "yes" if limit.kept else "NO"]
        for found in founds
        for limit in found.limits
    ]
    if promised:
        parts.append("### Limits\n\n" + table(["case", "measure", "found (each round)", "limit", "kept"], promised))
    notes = dict.fromkeys([*_NOTES, *(note for found in founds for note in found.notes)])
    return "\n\n".join([*parts, "\n".join(f"- {note}" for note in notes)])


def _row(name: str, samples: Sequence[Sample]) -> list[str]:
    endings: Mapping[str, None] = dict.fromkeys(sample.ending for sample in samples)
    return [
        name,
        _precise(median(sample.seconds for sample in samples)),
        ", ".join(_digits(sample.seconds) for sample in samples),
        _precise(median(sample.cpu for sample in samples)),
        amount(max(sample.peak_rss for sample in samples)),
        amount(median(sample.read for sample in samples)) if samples[0].read else "-",
        f"{median(sample.read / sample.size for sample in samples):.4f}" if samples[0].read else "-",
        "; ".join(endings),
    ]


def _precise(value: float) -> str:
    return f"{_digits(value)} s"


def _digits(value: float) -> str:
    return f"{value:.2f}" if value >= 1 else f"{value:.3f}"
