"""Every judgement of speed, as the value it is."""

from __future__ import annotations

from itertools import pairwise

import pytest

from wheelcache.rates import (
    CALM_SECONDS,
    LARGEST_READ,
    LOWEST_LIMIT,
    REFILL_BYTES,
    Ramp,
    Sample,
    after_level,
    after_setback,
    is_progress,
    is_stalled,
    next_read,
)


class TestReads:
    def test_grow_while_they_are_quick(self):
        assert next_read(16 << 10, 0.01) == 32 << 10
        assert next_read(LARGEST_READ, 0.0) == LARGEST_READ

    def test_shrink_when_one_takes_long_but_never_to_nothing(self):
        assert next_read(16 << 10, 2.0) == 8 << 10
        assert next_read(1 << 10, 60.0) == 1 << 10

    def test_stay_in_between(self):
        assert next_read(16 << 10, 0.3) == 16 << 10


def samples(*rates: int) -> list[Sample]:
    """One sample per second, with so many bytes between two."""
    return [Sample(time=float(second), received=sum(rates[:second])) for second in range(len(rates) + 1)]


class TestStalling:
    def test_is_a_whole_window_below_the_rate(self):
        assert is_stalled(samples(*[1] * 30), min_rate=20, window=30)

    def test_is_not_known_before_a_window_has_passed(self):
        assert not is_stalled(samples(*[0] * 29), min_rate=20, window=30)

    def test_is_not_a_pause_within_a_fast_transfer(self):
        assert not is_stalled(samples(*[0] * 25, 1000, 0, 0, 0, 0), min_rate=20, window=30)

    def test_counts_the_last_window_only(self):
        assert is_stalled(samples(1_000_000, *[1] * 30), min_rate=20, window=30)

    def test_is_never_found_without_a_rate_or_samples(self):
        assert not is_stalled(samples(*[0] * 100), min_rate=0, window=30)
        assert not is_stalled([], min_rate=20, window=30)

    def test_exactly_the_rate_is_enough(self):
        assert not is_stalled(samples(*[20] * 30), min_rate=20, window=30)


def test_few_bytes_are_no_progress():
    assert not is_progress(0)
    assert not is_progress(REFILL_BYTES - 1)
    assert is_progress(REFILL_BYTES)


def climb(ramp: Ramp, *rates: float, now: float = 0.0, most: int = 64) -> list[int]:
    """The limits after one judged level after another."""
    limits = [ramp.limit]
    for rate in rates:
        ramp = after_level(ramp, rate=rate, now=now, most=most)
        limits.append(ramp.limit)
    return limits


class TestTheRamp:
    def test_begins_with_two_connections(self):
        assert Ramp().limit == LOWEST_LIMIT == 2

    def test_climbs_as_long_as_each_step_brings_more(self):
        limits = climb(Ramp(), 10.0, 20.0, 40.0, 80.0)
        assert all(before < after for before, after in pairwise(limits))

    def test_never_climbs_beyond_what_is_allowed(self):
        assert climb(Ramp(), 10.0, 20.0, 40.0, 80.0, most=5)[-1] == 5
        assert climb(Ramp(limit=1, previous=1), 10.0, 20.0, most=1) == [1, 1, 1]

    def test_takes_a_step_back_that_brought_nothing(self):
        grown = after_level(Ramp(), rate=10.0, now=0.0, most=64)
        back = after_level(grown, rate=10.2, now=1.0, most=64)
        assert back.limit == LOWEST_LIMIT
        assert back.calm_until == 1.0 + CALM_SECONDS

    def test_stays_where_it_is_while_calm(self):
        back = after_level(after_level(Ramp(), rate=10.0, now=0.0, most=64), rate=10.0, now=1.0, most=64)
        assert after_level(back, rate=99.0, now=0.9 + CALM_SECONDS, most=64) == back

    def test_tries_again_after_the_calm(self):
        back = after_level(after_level(Ramp(), rate=10.0, now=0.0, most=64), rate=10.0, now=1.0, most=64)
        assert after_level(back, rate=10.0, now=1.0 + CALM_SECONDS, most=64).limit > back.limit

    def test_is_halved_by_a_setback_and_calm_for_a_while(self):
        ramp = after_setback(Ramp(limit=8, previous=4, rate=10.0), now=5.0)
        assert (ramp.limit, ramp.previous, ramp.calm_until) == (4, 4, 5.0 + CALM_SECONDS)

    def test_never_falls_below_one_connection(self):
        assert after_setback(Ramp(limit=1, previous=1), now=0.0).limit == 1

    def test_climbs_again_from_one(self):
        one = after_setback(Ramp(limit=1, previous=1), now=0.0)
        assert after_level(one, rate=10.0, now=CALM_SECONDS, most=64).limit > 1

    @pytest.mark.parametrize("most", [2, 3, 4, 16])
    def test_at_its_top_does_not_step_back_because_the_line_varies(self, most):
        limits = climb(Ramp(limit=most, previous=most, rate=100.0), 60.0, 100.0, 50.0, most=most)
        assert limits == [most] * 4
