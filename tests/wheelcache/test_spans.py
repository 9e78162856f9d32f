"""Which parts of a file are missing, unclaimed and worth sharing, as values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wheelcache.spans import (
    FASTER,
    UNSEEN_PIECES,
    WORTH_SPLITTING,
    WORTH_TAKING,
    Span,
    missing_spans,
    split_point,
    unclaimed,
)


def spans(*pairs: tuple[int, int | None]) -> list[Span]:
    return [Span(start=start, end=end) for start, end in pairs]


class TestMissingSpans:
    def test_of_nothing_written_are_the_whole_file(self):
        assert missing_spans([0, 0, 0], piece=10, size=25) == spans((0, 25))
        assert missing_spans([], piece=10, size=25) == spans((0, 25))

    def test_of_all_written_are_none(self):
        assert missing_spans([10, 10, 5], piece=10, size=25) == []

    def test_begin_where_a_piece_ends(self):
        assert missing_spans([10, 3, 5], piece=10, size=25) == spans((13, 20))

    def test_that_are_neighbours_are_joined(self):
        assert missing_spans([4, 0, 0], piece=10, size=25) == spans((4, 25))

    def test_are_apart_where_something_is_between(self):
        assert missing_spans([4, 10, 0], piece=10, size=25) == spans((4, 10), (20, 25))
        assert missing_spans([4, 1, 0], piece=10, size=25) == spans((4, 10), (11, 25))

    def test_of_unknown_size_have_no_end(self):
        assert missing_spans([], piece=10, size=None) == spans((0, None))
        assert missing_spans([10, 3], piece=10, size=None) == spans((13, None))
        assert missing_spans([10, 10], piece=10, size=None) == spans((20, None))

    def test_of_unknown_size_keep_gaps_before_the_end(self):
        assert missing_spans([4, 10], piece=10, size=None) == spans((4, 10), (20, None))

    def test_of_pieces_beyond_those_written_go_up_to_the_size(self):
        assert missing_spans([10, 4], piece=10, size=45) == spans((14, 45))

    @given(st.lists(st.integers(0, 8), max_size=8), st.integers(1, 8), st.integers(0, 70))
    def test_and_what_is_written_make_the_file(self, written, piece, size):
        written = [min(count, piece, max(size - index * piece, 0)) for index, count in enumerate(written)]
        there = {at for index, count in enumerate(written) for at in range(index * piece, index * piece + count)}
        found = missing_spans(written, piece=piece, size=size)
        missing = [at for span in found for at in range(span.start, span.end)]
        assert sorted(there | set(missing)) == list(range(size))
        assert not there & set(missing)
        assert len(missing) == len(set(missing))


class TestUnclaimed:
    def test_without_claims_is_all_that_is_missing(self):
        assert unclaimed(spans((5, 30)), [], piece=10) == spans((5, 30))

    def test_leaves_claims_out_and_what_surrounds_them(self):
        assert unclaimed(spans((0, 100)), spans((30, 60)), piece=10) == spans((0, 30), (60, 100))

    def test_leaves_a_piece_out_that_is_claimed_in_part(self):
        assert unclaimed(spans((0, 100)), spans((33, 58)), piece=10) == spans((0, 30), (60, 100))

    def test_of_a_claim_without_an_end_is_what_comes_before(self):
        assert unclaimed(spans((0, None)), spans((25, None)), piece=10) == spans((0, 20))

    def test_of_an_open_span_goes_on_behind_a_claim(self):
        assert unclaimed(spans((0, None)), spans((0, 40)), piece=10) == spans((40, None))

    def test_is_nothing_where_all_is_claimed(self):
        assert unclaimed(spans((3, 20), (40, 50)), spans((3, 12), (12, 50)), piece=10) == []

    @given(
        st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)).map(sorted), max_size=4),
        st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)).map(sorted), max_size=4),
        st.integers(1, 9),
    )
    def test_never_shares_a_piece_with_a_claim(self, missing, claimed, piece):
        missing = [Span(start=low, end=high) for low, high in missing if low < high]
        claimed = [Span(start=low, end=high) for low, high in claimed if low < high]
        pieces = {at // piece for claim in claimed for at in range(claim.start, claim.end)}
        for span in unclaimed(missing, claimed, piece=piece):
            assert span.start < span.end
            assert not pieces & {at // piece for at in range(span.start, span.end)}


class TestASplitPoint:
    def test_of_equals_is_the_middle(self):
        assert split_point(Span(start=0, end=1000), piece=10, rate=100.0, other_rate=100.0) == 500

    def test_leaves_the_slower_less(self):
        assert split_point(Span(start=0, end=1000), piece=10, rate=100.0, other_rate=300.0) == 250

    def test_of_an_unknown_speed_is_the_middle(self):
        assert split_point(Span(start=0, end=1000), piece=10, rate=100.0, other_rate=0.0) == 500
        assert split_point(Span(start=0, end=1000), piece=10, rate=0.0, other_rate=100.0) == 500

    def test_is_the_start_of_a_piece_that_the_first_is_not_in(self):
        assert split_point(Span(start=13, end=40), piece=10, rate=1.0, other_rate=1000.0) == 20

    def test_is_none_for_what_is_done_in_a_moment(self):
        rate = 1000 / WORTH_SPLITTING
        assert split_point(Span(start=0, end=999), piece=10, rate=rate, other_rate=rate) is None

    def test_is_none_for_a_few_pieces_of_which_nothing_came_yet(self):
        few = Span(start=0, end=UNSEEN_PIECES * 10 - 1)
        assert split_point(few, piece=10, rate=0.0, other_rate=100.0) is None

    @pytest.mark.parametrize("end", [None, 13, 5])
    def test_is_none_where_there_is_no_known_rest(self, end):
        assert split_point(Span(start=13, end=end), piece=10, rate=1.0, other_rate=1.0) is None

    def test_is_the_start_where_a_much_faster_one_takes_a_crawling_ones_last_piece(self):
        rate = 7 / (WORTH_TAKING + 1)
        assert split_point(Span(start=13, end=20), piece=10, rate=rate, other_rate=rate * (FASTER + 1)) == 13

    def test_is_none_where_only_the_last_piece_could_be_taken_by_one_hardly_faster(self):
        rate = 7 / (WORTH_TAKING + 1)
        assert split_point(Span(start=13, end=20), piece=10, rate=rate, other_rate=rate * FASTER) is None

    def test_is_none_where_the_last_piece_is_soon_done(self):
        rate = 7 / WORTH_TAKING
        assert split_point(Span(start=13, end=20), piece=10, rate=rate, other_rate=rate * 100) is None

    @given(
        st.integers(0, 500),
        st.integers(1, 500),
        st.integers(1, 50),
        st.floats(0, 1e6),
        st.floats(0, 1e6),
    )
    def test_lies_within_the_span_at_a_piece(self, start, length, piece, rate, other_rate):
        span = Span(start=start, end=start + length)
        point = split_point(span, piece=piece, rate=rate, other_rate=other_rate)
        assert point is None or point == start or (start < point < start + length and point % piece == 0)
