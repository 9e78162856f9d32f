"""Which source is asked next, and what becomes of those that failed, as values."""

from __future__ import annotations

import pytest

from wheelcache.faults import FATAL, Fault, SourceFault
from wheelcache.sources import (
    OPEN_AFTER,
    OUTAGE_SECONDS,
    HostState,
    Source,
    after_fault,
    choose_source,
    is_best,
    is_hopeless,
)

A, B, C = (Source(url=f"https://{letter}.test/x") for letter in "abc")
KNOWN = {"a.test": HostState(rate=1e6), "b.test": HostState(rate=1e6), "c.test": HostState(rate=1e6)}
"""Hosts of one speed."""


FAULTS = {fault: SourceFault(fault, "") for fault in Fault}


def failed(source: Source, fault: Fault = Fault.CONNECT, *, rests_until: float = 0.0, progressed: bool = False):
    return after_fault(source, FAULTS[fault], rests_until=rests_until, progressed=progressed)


def choose(*sources, now=0.0, hosts=None, **more):
    return choose_source(sources, now=now, hosts=KNOWN if hosts is None else hosts, **more)


class TestChoosing:
    def test_takes_the_first_while_nothing_speaks_against_it(self):
        assert choose(A, B) == A

    def test_prefers_what_has_not_failed(self):
        assert choose(failed(A), B) == B

    def test_prefers_fewer_failures(self):
        assert choose(failed(failed(A)), failed(B)) == failed(B)

    def test_prefers_a_host_that_works_for_others(self):
        assert choose(A, B, hosts=KNOWN | {"a.test": HostState(rate=1e6, faults=2)}) == B

    def test_prefers_the_faster_host(self):
        assert choose(A, B, hosts=KNOWN | {"b.test": HostState(rate=4e6)}) == B

    def test_keeps_the_order_among_hosts_of_about_one_speed(self):
        assert choose(A, B, hosts={"a.test": HostState(rate=1.2e6), "b.test": HostState(rate=1.3e6)}) == A

    def test_prefers_reliability_to_speed(self):
        assert choose(failed(A), B, hosts=KNOWN | {"a.test": HostState(rate=1e9)}) == B

    def test_takes_who_has_no_ranges_last(self):
        without = failed(A, Fault.RANGE)
        assert choose(without, failed(failed(B))) == failed(failed(B))
        assert choose(without) == without

    def test_never_takes_what_is_to_be_avoided(self):
        assert choose(A, B, avoid={A.url}) == B
        assert choose(A, avoid={A.url}) is None

    @pytest.mark.parametrize("fault", sorted(FATAL))
    def test_never_takes_a_dead_one(self, fault):
        assert choose(failed(A, fault)) is None
        assert choose(failed(A, fault), B) == B

    @pytest.mark.parametrize("fault", sorted(set(Fault) - FATAL))
    def test_takes_a_failed_one_again_when_there_is_no_other(self, fault):
        assert choose(failed(A, fault)) == failed(A, fault)

    def test_of_nobody_is_nobody(self):
        assert choose() is None


class TestTheUntried:
    def test_are_tried_even_beside_a_fast_one(self):
        assert choose(A, B, hosts={"a.test": HostState(rate=1e9)}) == B

    def test_are_tried_by_one_connection_only(self):
        hosts = {"a.test": HostState(rate=1e9), "b.test": HostState(active=1)}
        assert choose(A, B, hosts=hosts) == A

    def test_are_tried_in_the_order_given(self):
        assert choose(A, B, C, hosts={}) == A
        assert choose(A, B, C, hosts={"a.test": HostState(active=1)}) == B

    def test_that_failed_are_not_tried_before_those_that_work(self):
        assert choose(failed(A), B, hosts={"b.test": HostState(rate=1.0)}) == B

    def test_are_tried_after_a_local_file(self):
        local = Source(url="file:///srv/x.whl")
        assert choose(local, A, hosts={}) == local


class TestRests:
    def test_are_kept_by_a_source(self):
        resting = failed(A, Fault.BUSY, rests_until=9.0)
        assert choose(resting, now=8.9) is None
        assert choose(resting, now=9.0) == resting

    def test_are_kept_by_a_host_for_all_its_files(self):
        hosts = KNOWN | {"a.test": HostState(rests_until=9.0)}
        assert choose(A, now=8.9, hosts=hosts) is None
        assert choose(A, now=9.0, hosts=hosts) == A

    def test_leave_the_work_to_others_however_often_they_failed(self):
        resting, worse = failed(A, Fault.BUSY, rests_until=9.0), failed(failed(B))
        assert choose(resting, worse) == worse
        assert choose(resting, worse, now=9.0) == resting


class TestTheBreaker:
    def test_is_closed_while_failures_are_few(self):
        host = HostState(faults=OPEN_AFTER - 1, active=3, limit=4)
        assert host.has_room
        assert choose(A, hosts={"a.test": host}) == A

    def test_is_open_while_the_host_rests(self):
        assert choose(A, now=1.0, hosts={"a.test": HostState(faults=OPEN_AFTER, rests_until=5.0)}) is None

    def test_is_half_open_for_one_connection_after_the_rest(self):
        host = HostState(faults=OPEN_AFTER, rests_until=5.0, limit=4)
        assert choose(A, now=5.0, hosts={"a.test": host}) == A
        busy = HostState(faults=OPEN_AFTER, rests_until=5.0, limit=4, active=1)
        assert choose(A, now=5.0, hosts={"a.test": busy}) is None

    def test_leaves_a_host_without_room_for_another(self):
        hosts = KNOWN | {"a.test": HostState(rate=1e6, active=2, limit=2)}
        assert choose(A, B, hosts=hosts) == B
        assert choose(A, hosts=hosts) is None


class TestLookingUp:
    lookup = Source(url="https://m.test/simple/", is_lookup=True)

    def test_is_not_worth_it_while_a_source_serves(self):
        assert choose(A, self.lookup, may_look_up=False, hosts=KNOWN) == A

    def test_is_not_worth_it_while_a_source_that_serves_has_no_room(self):
        hosts = KNOWN | {"a.test": HostState(rate=1e6, active=2, limit=2)}
        assert choose(A, self.lookup, may_look_up=False, hosts=hosts) is None

    def test_is_done_once_all_sources_failed(self):
        assert choose(failed(A), self.lookup, may_look_up=False, hosts=KNOWN) == self.lookup

    def test_is_done_while_all_sources_rest(self):
        hosts = KNOWN | {"a.test": HostState(rests_until=9.0)}
        assert choose(A, self.lookup, may_look_up=False, hosts=hosts) == self.lookup

    def test_is_done_for_a_wheel_without_another_source(self):
        assert choose(self.lookup, may_look_up=False) == self.lookup

    def test_is_done_beside_a_source_that_serves_where_it_is_worth_it(self):
        assert choose(A, self.lookup, may_look_up=True, hosts=KNOWN) == self.lookup

    def test_comes_before_guesses_of_equal_standing(self):
        guess = Source(url="https://a.test/y", is_guess=True)
        assert choose(guess, A) == A


class TestTheBest:
    def test_is_the_fastest_whether_it_has_room_or_not(self):
        hosts = KNOWN | {"b.test": HostState(rate=9e6, active=4, limit=4)}
        assert is_best(B, [A, B], now=0.0, hosts=hosts)
        assert not is_best(A, [A, B], now=0.0, hosts=hosts)

    def test_is_whoever_is_left(self):
        hosts = KNOWN | {"b.test": HostState(rate=9e6, rests_until=5.0)}
        assert is_best(A, [A, B], now=0.0, hosts=hosts)
        assert is_best(A, [A, failed(B, Fault.REFUSED)], now=9.0, hosts=hosts)

    def test_is_not_lost_to_one_of_unknown_speed(self):
        assert is_best(A, [A, B], now=0.0, hosts={"a.test": HostState(rate=1e6)})

    def test_are_all_equals(self):
        assert is_best(A, [A, B], now=0.0, hosts=KNOWN)
        assert is_best(B, [A, B], now=0.0, hosts=KNOWN)


class TestAfterAFault:
    def test_a_source_rests_as_long_as_it_was_told(self):
        assert failed(A, Fault.BUSY, rests_until=7.0).rests_until == 7.0

    def test_failures_add_up(self):
        assert (failed(failed(A)).faults, failed(failed(A)).fruitless) == (2, 2)

    def test_a_cut_after_progress_is_no_reason_to_leave_the_source(self):
        source = failed(failed(A), Fault.CUT, rests_until=7.0, progressed=True)
        assert (source.faults, source.fruitless, source.rests_until) == (0, 0, 0.0)

    def test_a_cut_without_progress_is_a_failure(self):
        assert failed(A, Fault.CUT).faults == 1

    def test_slowness_is_one_even_after_progress_but_refills_the_budget(self):
        source = failed(failed(A), Fault.SLOW, progressed=True)
        assert (source.faults, source.fruitless) == (2, 0)

    def test_the_last_one_is_remembered(self):
        assert failed(A, Fault.SLOW).last.fault is Fault.SLOW

    def test_a_source_without_ranges_is_asked_for_the_whole_file_once(self):
        once = failed(A, Fault.RANGE)
        assert once.from_zero
        assert not once.is_dead
        assert failed(once, Fault.CUT, progressed=True).is_dead
        assert failed(once, Fault.RANGE).is_dead
        assert not failed(once, Fault.CONNECT).is_dead


class TestHope:
    def hopeless(self, source, host=None, *, now=0.0, budget=3):
        return is_hopeless(source, host or HostState(), now=now, budget=budget)

    def test_is_lost_at_once_for_the_dead(self):
        assert self.hopeless(failed(A, Fault.REFUSED))

    def test_is_lost_when_the_budget_is_spent(self):
        assert not self.hopeless(failed(failed(A)))
        assert self.hopeless(failed(failed(failed(A))))

    def test_is_lost_when_the_hosts_budget_is_spent(self):
        assert self.hopeless(A, HostState(faults=3))

    def test_is_kept_by_progress(self):
        assert not self.hopeless(failed(failed(failed(failed(A))), Fault.SLOW, progressed=True))

    @pytest.mark.parametrize("fault", [Fault.CONNECT, Fault.SILENT])
    def test_is_kept_for_a_line_that_worked_in_this_run(self, fault):
        source = failed(failed(failed(A, fault), fault), fault)
        worked = HostState(worked_at=100.0)
        assert not self.hopeless(source, worked, now=99.0 + OUTAGE_SECONDS)
        assert self.hopeless(source, worked, now=100.0 + OUTAGE_SECONDS)
        assert self.hopeless(source, HostState(worked_at=None), now=100.0)

    @pytest.mark.parametrize("fault", [Fault.BUSY, Fault.FOREIGN, Fault.SLOW])
    def test_is_not_kept_for_a_server_that_answers_but_does_not_serve(self, fault):
        source = failed(failed(failed(A, fault), fault), fault)
        assert self.hopeless(source, HostState(worked_at=100.0), now=101.0)

    def test_is_kept_where_the_host_is_out_for_all_its_wheels(self):
        host = HostState(faults=9, worked_at=100.0, last=SourceFault(Fault.CONNECT, ""))
        assert not self.hopeless(A, host, now=101.0)
