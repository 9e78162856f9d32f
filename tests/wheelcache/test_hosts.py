"""How hosts are judged over all wheels of a sync, without a clock or a server."""

from __future__ import annotations

import pytest

from wheelcache.catalog import HostRecord
from wheelcache.faults import Fault, SourceFault
from wheelcache.hosts import Hosts
from wheelcache.pace import Observed
from wheelcache.rates import LEVEL_SECONDS, LOWEST_LIMIT
from wheelcache.sources import OPEN_AFTER

HOST = "a.test"
NOW = 1_700_000_000.0
DAY = 86_400.0


def record(**changes) -> HostRecord:
    fields = {"host": HOST, "rate": 8e6, "per_connection": 2e6, "lies": 0, "faults": 0, "seen_at": NOW}
    return HostRecord(**fields | changes)


def hosts(per_host: int = 8, *records: HostRecord) -> Hosts:
    return Hosts(per_host, records={each.host: each for each in records}, now=NOW)


def fail(
    made: Hosts,
    fault: Fault,
    *,
    now: float = 0.0,
    retry_after: float | None = None,
    host: str = HOST,
    progressed: bool = False,
) -> None:
    made.begin(host)
    found = SourceFault(fault, "", retry_after=retry_after)
    made.failed(host, found, now=now, progressed=progressed, pause=lambda failures: 10.0 * failures)
    made.end(host)


def see(made: Hosts, connections: int, received: int, *, seconds: float, now: float) -> None:
    """Lets so many connections bring so many bytes."""
    what = Observed(
        received=received,
        connection_seconds=connections * seconds,
        delivering=connections,
        is_working=received > 0,
    )
    made.observe({HOST: what}, seconds=seconds, now=now)


class TestAnUnknownHost:
    def test_begins_with_few_connections(self):
        assert hosts().state(HOST).limit == LOWEST_LIMIT

    def test_never_begins_with_more_than_allowed(self):
        assert hosts(1).state(HOST).limit == 1

    def test_that_is_a_local_file_has_no_limit_and_no_breaker(self):
        made = hosts(1)
        for _ in range(9):
            made.begin("")
            fail(made, Fault.CUT, host="")
        assert made.state("").has_room
        assert made.state("").faults == 0


class TestRecords:
    def test_tell_the_speed_of_an_earlier_run(self):
        assert hosts(8, record()).state(HOST).rate == 2e6

    def test_grow_old(self):
        assert hosts(8, record(seen_at=NOW - 6 * DAY)).state(HOST).rate == 2e6
        assert hosts(8, record(seen_at=NOW - 8 * DAY)).state(HOST).rate == 0

    def test_of_the_future_are_not_believed(self):
        assert hosts(8, record(seen_at=NOW + DAY)).state(HOST).rate == 0

    def test_of_recent_failures_count_but_open_no_breaker(self):
        assert hosts(8, record(faults=99)).state(HOST).faults == OPEN_AFTER - 1
        assert hosts(8, record(faults=99, seen_at=NOW - DAY)).state(HOST).faults == 0

    def test_are_kept_of_hosts_that_were_talked_to(self):
        made = hosts(8, record(host="silent.test"))
        made.begin(HOST)
        made.worked(HOST, now=1.0)
        fail(made, Fault.BUSY, host="busy.test")
        made.state("asked-for-nothing.test")
        assert {each.host for each in made.records(now=NOW)} == {HOST, "busy.test"}

    def test_of_failures_do_not_renew_themselves_without_a_word(self):
        assert hosts(8, record(faults=2)).records(now=NOW + 60) == []

    def test_of_lies_are_kept_until_a_right_wheel_came(self):
        made = hosts(8, record(lies=1))
        fail(made, Fault.DIGEST)
        see(made, 1, 100_000, seconds=0.1, now=1.0)
        assert [each.lies for each in made.records(now=NOW)] == [2]
        made.vouched(HOST)
        assert made.state(HOST).lies == 0

    def test_say_what_was_measured(self):
        made = hosts()
        made.begin(HOST)
        see(made, 1, 500_000, seconds=0.5, now=1.0)
        made.worked(HOST, now=1.0)
        [kept] = made.records(now=NOW)
        assert (kept.rate, kept.per_connection, kept.seen_at) == (1e6, 1e6, NOW)


class TestSpeed:
    def test_is_of_one_connection(self):
        made = hosts()
        see(made, 4, 2_000_000, seconds=0.5, now=1.0)
        assert made.state(HOST).rate == pytest.approx(1e6)

    def test_follows_what_comes_in(self):
        made = hosts()
        see(made, 1, 100_000, seconds=0.1, now=1.0)
        for tick in range(200):
            see(made, 1, 10_000, seconds=0.1, now=1.1 + tick / 10)
        assert made.state(HOST).rate == pytest.approx(1e5, rel=0.2)

    def test_is_not_lost_by_a_moment_without_bytes(self):
        made = hosts()
        see(made, 1, 500_000, seconds=0.5, now=1.0)
        see(made, 0, 0, seconds=0.1, now=1.1)
        assert made.state(HOST).rate == pytest.approx(1e6)


class TestConnections:
    def climb(self, made: Hosts, per_connection: float, *, seconds: float, now: float = 0.0) -> float:
        """All connections that are allowed bring bytes, for a while."""
        ends = now + seconds
        while now < ends:
            now += 0.1
            limit = made.state(HOST).limit
            see(made, limit, round(per_connection * limit * 0.1), seconds=0.1, now=now)
        return now

    def test_become_more_while_each_brings_its_own(self):
        made = hosts(16)
        self.climb(made, 1e6, seconds=LEVEL_SECONDS * 60)
        assert made.state(HOST).limit == 16

    def test_do_not_become_more_where_the_line_is_full(self):
        made, now = hosts(16), 0.0
        for _ in range(100):
            now += 0.1
            see(made, made.state(HOST).limit, 100_000, seconds=0.1, now=now)
        assert made.state(HOST).limit == LOWEST_LIMIT

    def test_do_not_become_more_while_those_allowed_are_not_in_use(self):
        made, now = hosts(16), 0.0
        for _ in range(100):
            now += 0.1
            see(made, 1, 100_000, seconds=0.1, now=now)
        assert made.state(HOST).limit == LOWEST_LIMIT

    @pytest.mark.parametrize("fault", [Fault.BUSY, Fault.CUT, Fault.SILENT, Fault.SLOW, Fault.CONNECT])
    def test_become_fewer_when_the_host_shows_that_it_has_too_many(self, fault):
        made = hosts(16)
        now = self.climb(made, 1e6, seconds=LEVEL_SECONDS * 60)
        fail(made, fault, now=now)
        assert made.state(HOST).limit == 8

    def test_become_fewer_by_resets_in_the_middle_and_not_with_each_at_once(self):
        made = hosts(16)
        now = self.climb(made, 1e6, seconds=LEVEL_SECONDS * 60)
        for _ in range(4):
            fail(made, Fault.CUT, now=now, progressed=True)
        assert made.state(HOST).limit == 8
        assert made.state(HOST).faults == 0

    def test_do_not_become_fewer_over_one_bad_file(self):
        made = hosts(16)
        now = self.climb(made, 1e6, seconds=LEVEL_SECONDS * 60)
        for fault in (Fault.REFUSED, Fault.SIZE, Fault.RANGE):
            fail(made, fault, now=now)
        assert made.state(HOST).limit == 16

    def test_are_counted(self):
        made = hosts(2)
        made.begin(HOST)
        assert made.state(HOST).has_room
        made.begin(HOST)
        assert not made.state(HOST).has_room
        made.end(HOST)
        assert made.state(HOST).has_room


class TestTheBreaker:
    def test_opens_after_so_many_failures_in_a_row_and_for_longer_each_time(self):
        made = hosts()
        for _ in range(OPEN_AFTER - 1):
            fail(made, Fault.CONNECT)
        assert made.state(HOST).rests_until == 0.0
        fail(made, Fault.CONNECT)
        assert made.state(HOST).rests_until == 10.0
        fail(made, Fault.CONNECT, now=10.0)
        assert made.state(HOST).rests_until == 30.0

    def test_is_closed_by_bytes(self):
        made = hosts()
        for _ in range(OPEN_AFTER):
            fail(made, Fault.CONNECT)
        made.worked(HOST, now=5.0)
        state = made.state(HOST)
        assert (state.faults, state.rests_until, state.worked_at, state.last) == (0, 0.0, 5.0, None)

    @pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.SIZE, Fault.RANGE, Fault.REDIRECT])
    def test_does_not_mind_one_bad_file(self, fault):
        made = hosts()
        for _ in range(9):
            fail(made, fault)
        assert made.state(HOST).faults == 0

    def test_obeys_a_servers_own_word_at_the_first_failure(self):
        made = hosts()
        fail(made, Fault.BUSY, now=3.0, retry_after=20.0)
        assert made.state(HOST).asked_until == 23.0

    def test_obeys_it_even_while_other_connections_bring_bytes(self):
        made = hosts()
        fail(made, Fault.BUSY, now=3.0, retry_after=20.0)
        see(made, 1, 100_000, seconds=0.1, now=4.0)
        assert made.state(HOST).faults == 0
        assert made.state(HOST).asked_until == 23.0

    def test_never_shortens_a_rest(self):
        made = hosts()
        fail(made, Fault.BUSY, now=0.0, retry_after=20.0)
        fail(made, Fault.BUSY, now=1.0, retry_after=2.0)
        assert made.state(HOST).asked_until == 20.0
