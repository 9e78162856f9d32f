"""A world in which a wheel is fetched: servers that say, cut and lie as told, and a clock that runs as told.

The network is all that is made up: bytes go through the real carrier into a real store. Each connection has a thread of
its own, but one runs at a time, from one read to the next, so that a list of numbers says in which order all happens.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from wheelcache.claims import Carrier, Claim, Revoked
from wheelcache.digest import Digest, digest_of_bytes
from wheelcache.download import Download
from wheelcache.errors import WheelcacheError
from wheelcache.events import Event, Note
from wheelcache.faults import Fault, SourceFault
from wheelcache.hosts import Hosts
from wheelcache.lock import LockedWheel
from wheelcache.lookup import LookUp
from wheelcache.pace import FetchSettings, Halted, Observed, Throttle, Watch
from wheelcache.partial import Partial
from wheelcache.shared import Shared
from wheelcache.sources import Source
from wheelcache.store import Store

RETRIES = 40
"""More than the troubles of any server here, so that none is given up that would have served."""

LONGEST_REST = 30.0
"""Seconds: if nothing happened for so long, nothing ever will."""

CRC_BLIND = (0x1DB710641).to_bytes(5, "little")
"""CRC-32's polynomial: bytes that differ by it have one checksum."""


@dataclass(kw_only=True)
class Server:
    """One source of the wheel, on a host of its own.

    Attributes:
        kind: `serves`; or what it says instead: `gone`, `page`, `other` (a file of another size), `down`, `trickles`
            (a byte per connection).
        lies: positions in the file at which its bytes are wrong.
        twist: how they are wrong; servers of one twist tell one lie.
        is_forger: its lies have the right CRC-32.
        has_ranges: else it always sends the whole file.
        has_length: else nobody learns from it how long the file is.
        troubles: what happens to it before it serves as it should: `busy`, `connect`, or the bytes after which it is
            cut; where they are negative its body ends there as if that were all.
        speed: bytes per second.
        is_mirror: its URL has to be asked for.
        longer: bytes that it has beyond the file's end.
    """

    kind: str = "serves"
    lies: frozenset[int] = frozenset()
    twist: int = 1
    is_forger: bool = False
    has_ranges: bool = True
    has_length: bool = True
    troubles: list[str | int] = field(default_factory=list)
    speed: float = 1000.0
    is_mirror: bool = False
    longer: int = 0

    def content(self, truth: bytes) -> bytes:
        data = bytearray(truth)
        for place in self.lies:
            for offset, byte in enumerate(CRC_BLIND if self.is_forger else bytes([self.twist])):
                if place + offset < len(data):
                    data[place + offset] ^= byte
        return bytes(data)

    def is_honest(self, truth: bytes) -> bool:
        return self.kind == "serves" and not self.longer and self.content(truth) == truth


class MadeUpAnswer:
    """An answer whose every read waits until it is its connection's turn."""

    def __init__(self, thread: Turns, status: int, headers: dict[str, str], data: bytes, *, cut: int | None) -> None:
        self.url = ""
        self.status = status
        self.headers = headers
        self._data = memoryview(data)
        self._thread = thread
        self._cut = cut
        self._is_aborted = False

    def read(self, size: int) -> bytes:
        amount = self._thread.wait_for_turn()
        if self._is_aborted:
            raise SourceFault(Fault.CUT, "aborted")
        count = min(size, amount)
        if self._cut is not None:
            count = min(count, self._cut)
            if not count:
                raise SourceFault(Fault.CUT, "the connection broke")
            self._cut -= count
        data, self._data = bytes(self._data[:count]), self._data[count:]
        self._thread.received += len(data)
        return data

    def abort(self) -> None:
        self._is_aborted = True

    def close(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Turns:
    """One connection's thread, which runs only when it is told to, until its next read."""

    def __init__(self, world: World, claim: Claim) -> None:
        self.claim = claim
        self.fault: SourceFault | None = None
        self.defect: BaseException | None = None
        self.is_due = claim.piece is None
        self.is_over = False
        self.received = 0
        self._world = world
        self._amount = 0
        self._go, self._stop = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def turn(self, amount: int) -> int:
        """Lets it run to its next read, which brings up to *amount* bytes; returns how many it brought."""
        self._amount, self.received = amount, 0
        self._go.release()
        self._stop.acquire()
        if self.is_over:
            self._thread.join()
        return self.received

    def wait_for_turn(self) -> int:
        self._stop.release()
        self._go.acquire()
        return self._amount

    def _run(self) -> None:
        self._go.acquire()
        world, claim, download = self._world, self.claim, self._world.download
        try:
            world.carrier(self).carry(
                claim, download.opened(), report=lambda fresh: download.receive(claim, fresh), learn=download.learn
            )
            self.is_due = self.is_due or download.compare(claim)
        except SourceFault as fault:
            self.fault = fault
        except (Revoked, Halted):
            pass
        except BaseException as defect:  # noqa: BLE001 - raised again where the test sees it
            self.defect = defect
        self.is_over = True
        self._stop.release()


@dataclass(frozen=True, kw_only=True)
class _Line:
    """The transport that one connection sees."""

    world: World
    thread: Turns

    def open(self, url: str, *, offset: int = 0, end: int | None = None) -> MadeUpAnswer:
        return self.world.answer(self.thread, url, offset, end)


class World:
    """All there is: a store, servers, a clock, and a download that is carried on in the order that *choices* say.

    Args:
        root: where the store is to be.
        truth: the wheel's bytes.
        servers: in order of preference.
        choices: what happens next, as numbers; once they are used up, the plainest thing does.
        piece: bytes of a piece.
        is_size_locked: the lockfile knows the size.
        hint: what an index says of the size, where the lockfile says nothing.
    """

    def __init__(
        self,
        root: Path,
        truth: bytes,
        servers: Iterable[Server],
        choices: Iterable[int] = (),
        *,
        piece: int = 64,
        is_size_locked: bool = True,
        hint: int | None = None,
    ) -> None:
        self.truth = truth
        self.servers = {f"http://s{number}.test/w.whl": server for number, server in enumerate(servers)}
        self.mirrors = {
            f"http://s{number}.test/simple/": url
            for number, (url, server) in enumerate(self.servers.items())
            if server.is_mirror
        }
        self.digest: Digest = digest_of_bytes(truth)
        self.now = 1000.0
        self.events: list[Event] = []
        self.delivered = 0
        self.late = 0
        """Bytes of those that came when another connection had their part already."""
        self.restarted_at = 0
        """Bytes that were delivered before the last crash."""
        self.asked: list[str] = []
        """The sources that parts were claimed for, in order."""
        self.dead: dict[str, int] = {}
        """The sources that were found to lie while the wheel was not there yet, and how many were asked before that."""
        self.error: WheelcacheError | None = None
        self.is_published = False
        self._waited = 0.0
        self._choices: Iterator[int] = iter(choices)
        self._root = root
        self._boot = 0
        self._piece = piece
        self._hint = len(truth) if is_size_locked else hint
        self.wheel = LockedWheel(
            name="w",  # type: ignore[arg-type]
            version="1",
            filename="w.whl",
            digest=self.digest,
            size=len(truth) if is_size_locked else None,
            urls=tuple(url for url, server in self.servers.items() if not server.is_mirror),
        )
        self.settings = FetchSettings(connections=3, per_host=2, retries=RETRIES, piece=piece)
        Store.open(root)
        self._begin()

    def answer(self, thread: Turns, url: str, offset: int, end: int | None) -> MadeUpAnswer:
        """Says what a server says."""
        server = self.servers[url]
        trouble = server.troubles.pop(0) if server.troubles else None
        if server.kind == "down" or trouble == "connect":
            raise SourceFault(Fault.CONNECT, "expected a connection, found none")
        if trouble == "busy":
            return MadeUpAnswer(thread, 503, {"retry-after": "2"}, b"", cut=None)
        if server.kind == "gone":
            return MadeUpAnswer(thread, 404, {}, b"", cut=None)
        if server.kind == "page":
            return MadeUpAnswer(thread, 200, {"content-type": "text/html"}, b"<html>", cut=None)
        data = server.content(self.truth) + bytes(server.longer or 4 * (server.kind == "other"))
        cut = trouble if isinstance(trouble, int) else 1 if server.kind == "trickles" else None
        if cut is not None and cut < 0:
            return self._part_of(
                thread, server, data, offset, end, whole=data[: (offset if server.has_ranges else 0) - cut]
            )
        return self._part_of(thread, server, data, offset, end, cut=cut)

    def _part_of(
        self,
        thread: Turns,
        server: Server,
        data: bytes,
        offset: int,
        end: int | None,
        *,
        whole: bytes | None = None,
        cut: int | None = None,
    ) -> MadeUpAnswer:
        """Returns the answer of a server that has *data*, but sends no more of it than of *whole*."""
        sent = data if whole is None else whole
        total = str(len(data)) if server.has_length else "*"
        if server.has_ranges and (offset or end is not None):
            if offset >= len(data):
                return MadeUpAnswer(thread, 416, {"content-range": f"bytes */{total}"}, b"", cut=None)
            last = len(data[:end]) - 1
            headers = {"content-range": f"bytes {offset}-{last}/{total}"}
            return MadeUpAnswer(thread, 206, headers, sent[offset:end], cut=cut)
        return MadeUpAnswer(thread, 200, {"content-length": total} if server.has_length else {}, sent, cut=cut)

    def carrier(self, thread: Turns) -> Carrier:
        line = _Line(world=self, thread=thread)
        throttle = Throttle(0, clock=lambda: self.now)
        return Carrier(transport=lambda: line, watch=self._watch, throttle=throttle, now=lambda: self.now)  # type: ignore[arg-type, return-value]

    def run(self, *, steps: int = 4000) -> None:
        """Carries the download on until it is published or fails.

        Raises:
            AssertionError: it does neither, or something that must always hold does not.
        """
        for _ in range(steps):
            if self.is_published or self.error:
                break
            self._step()
            self._look()
        else:
            msg = "the download does not end"
            raise AssertionError(msg)
        while self._busy:  # whose part was taken over, and who has not noticed yet
            self._go_on(self._busy[0], amount=1)
        self.end()

    def end(self) -> None:
        """Lets go of everything."""
        self._stop_connections()
        self.download.close()

    @property
    def said(self) -> str:
        return "\n".join(event.message for event in self.events if isinstance(event, Note))

    # What can happen.

    def _pick(self, count: int) -> int:
        return next(self._choices, 0) % count

    def _step(self) -> None:
        happening = self._pick(16)
        if happening == 15:
            self._crash(is_power_cut=bool(self._pick(2)))
        elif happening == 14:
            self.download.opened().flush()
        elif happening == 13:
            self.now += 0.1 * self._pick(100)
        elif happening >= 6 and self._busy:
            self._go_on(self._busy[self._pick(len(self._busy))], amount=1 + self._pick(256) * 3)
        elif len(self._busy) >= self.settings.connections or not self._take_on():
            if self._busy:
                self._go_on(self._busy[0], amount=1 << 20)
            else:
                self._wait()

    def _take_on(self) -> bool:
        """Does what a free thread of the dispatcher would; false when there is nothing."""
        download = self.download
        part = download.next_part(self.now)
        if part is None and download.is_hopeless(self.now):
            if download.is_unchecked:
                self._conclude()
            else:
                self._fail(download.failure())
            return True
        if part is None and (offer := download.next_share(self.now)) is not None:
            self._bring_meanwhile()
            part = offer[1]()
        if part is None:
            return False
        if isinstance(part, LookUp):
            self._busy.append(part)
        else:
            assert part.source.url not in self.dead, f"{part.source.url} lied and was asked again"
            self.asked.append(part.source.url)
            self._busy.append(Turns(self, part))
        self._waited = 0.0
        return True

    def _bring_meanwhile(self) -> None:
        """Lets a connection bring bytes while a thread decides: the guard that is held then does not stop readers."""
        if work := next((work for work in self._busy if isinstance(work, Turns) and not work.is_over), None):
            for _ in range(self._pick(3)):
                if not work.is_over:
                    self._turn(work, 1 + self._pick(256) * 3)

    def _go_on(self, work: Turns | LookUp, *, amount: int) -> None:
        if isinstance(work, LookUp):
            self._busy.remove(work)
            url = self.mirrors[work.source.url]
            self.download.learned(work.source, [Source(url=url, mirror=work.source.url)], None)
            return
        if not work.is_over:
            self._turn(work, amount)
        if work.is_over:
            self._busy.remove(work)
            if work.defect is not None:
                raise work.defect
            self.download.release(work.claim, work.fault)
            if work.is_due and self.download.is_whole and not self.is_published:
                self._conclude()

    def _turn(self, work: Turns, amount: int) -> None:
        wanted = work.claim.end - work.claim.position if work.claim.end is not None else amount
        count = work.turn(amount)
        self.delivered += count
        self.late += count if work.claim.is_revoked else max(count - wanted, 0)
        seconds = count / self.servers[work.claim.source.url].speed
        self.now += seconds / len(self._busy)
        if count:
            what = Observed(received=count, connection_seconds=seconds, delivering=1, is_working=True)
            self.hosts.observe({work.claim.source.host: what}, seconds=seconds, now=self.now)

    def _conclude(self) -> None:
        found = self.download.conclude()
        if found is None:
            self.is_published = True
            self.download.settle()
            return
        self.download.search(found)
        for url in self.servers:
            if f"{url}: {Fault.DIGEST}" in self.said:
                self.dead.setdefault(url, len(self.asked))

    def _wait(self) -> None:
        self._waited += 0.5
        assert self._waited < LONGEST_REST, f"it hangs: {self.said}"
        self.now += 0.5

    def _fail(self, error: WheelcacheError) -> None:
        self.error = error

    def _crash(self, *, is_power_cut: bool) -> None:
        self._stop_connections()
        self.download.close()
        self.restarted_at = self.delivered
        self._boot += is_power_cut
        self._begin()

    def _begin(self) -> None:
        self.dead = {}
        self.events = []
        self._busy: list[Turns | LookUp] = []
        self.hosts = Hosts(self.settings.per_host, records={}, now=0.0)
        self._watch = Watch(
            stop=threading.Event(), settings=self.settings, observe=lambda *_: None, clock=lambda: self.now
        )
        self.store = Store(self._root, boot=f"boot {self._boot}", now=lambda: self.now)
        shared = Shared(
            store=self.store,
            transport=_no_transport,
            mirrors=list(self.mirrors),
            indexes=[],
            settings=self.settings,
            emit=self.events.append,
            watch=self._watch,
            hosts=self.hosts,
            offline=False,
            pause=lambda failures: min(0.5 * failures, 10.0),
        )
        self.download = Download(self.wheel, shared, size=self._hint)
        lock = self.store.acquire(self.digest, timeout=0)
        assert lock is not None
        self.download.open(lock)
        if self.download.is_whole:
            self._conclude()

    def _stop_connections(self) -> None:
        self._watch.halt("killed")
        for work in self._busy:
            while isinstance(work, Turns) and not work.is_over:
                work.turn(0)

    def _look(self) -> None:
        """Looks at what must hold at any time."""
        claims = [claim for claim in self.download.claims if claim.end is not None and claim.position < claim.end]
        partial: Partial = self.download.opened()
        pieces = [
            set(range(claim.position // partial.piece, -(-(claim.end or 0) // partial.piece))) for claim in claims
        ]
        assert sum(map(len, pieces)) == len(set().union(*pieces)), f"two connections fetch one piece: {claims}"
        assert self.download.fetched <= self.delivered - self.restarted_at
        used = sum(state.active for state in self.hosts.states().values())
        busy = sum(not isinstance(work, Turns) or bool(work.claim.source.host) for work in self._busy)
        assert used == busy, f"{busy} connections, {used} counted"


def _no_transport() -> object:
    msg = "nobody is to be asked"
    raise AssertionError(msg)
