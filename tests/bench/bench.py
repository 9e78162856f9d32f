"""What every case of the fetch benchmark is given."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from offers import WheelFile
from peers import Pip, newest_pip
from throttled import Server, make_wheels, offered, running
from trials import Scene, Traffic, Trials

MB = 1_000_000
AT_SERVER = (
    "From servers on loopback: bytes read are counted where the server gives them to its kernel, and so include what "
    "still stood in socket buffers when a connection broke, and miss a write that broke with it."
)
IN_CLIENT = (
    "From servers that fail, and with kills: the bytes that wheelcache reads are counted in it, at its socket reads."
)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """The options of this run, and its folder.

    Attributes:
        folder: everything is written below it.
        runs: rounds of the cases in which times are compared.
        all_peers: let slow peers take part in every round, and in cases that are hard on them.
        kills: of the case `kills`.
        outage: seconds, of the case `line`.
        requirement: what the closure is of.
        seed: of random moments.
    """

    folder: Path
    runs: int
    all_peers: bool
    kills: int
    outage: float
    requirement: str
    seed: int

    @cached_property
    def trials(self) -> Trials:
        """The folder in which clients run."""
        folder = self.folder / "runs"
        folder.mkdir()
        return Trials(folder)

    @cached_property
    def pip(self) -> Pip:
        """The newest pip."""
        return newest_pip(self.folder / "pip")

    @contextmanager
    def wheels(self, *megabytes: int) -> Iterator[tuple[Path, tuple[WheelFile, ...]]]:
        """Yields a folder with wheels of these sizes, which it then removes."""
        folder = self.trials.new_folder("wheels")
        made = make_wheels(folder, [size * MB for size in megabytes])
        try:
            yield folder, made
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def server(self, files: Path, *options: str | float) -> Server:
        """Returns a server that is not yet started."""
        return Server(self.trials.new_folder("server"), files, options)


@contextmanager
def served(wheels: Sequence[WheelFile], *servers: Server, hooked: bool = False) -> Iterator[Scene]:
    """Yields the scene in which *servers* offer *wheels*, the first as the place that lockfiles name.

    Args:
        wheels: what they serve.
        servers: not yet started; ended afterwards.
        hooked: count bytes in the client.
    """
    with running(servers):
        offer = offered(wheels, servers)
        yield Scene(offer=offer, traffic=Traffic(count=lambda: sum(server.sent for server in servers), hooked=hooked))
