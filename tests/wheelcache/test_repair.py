"""The search for wrong pieces, played with sources that are nothing but their bytes."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wheelcache.digest import Digest, digest_of_bytes
from wheelcache.repair import EARLIER, Audit

A, B, C = "https://a.test/x", "https://b.test/x", "https://c.test/x"
RIGHT = (1, 2, 3, 4, 5, 6)
"""Stands for the bytes of each piece of the right file."""


def lying(*places: int, by: int = 100) -> tuple[int, ...]:
    """A file that is wrong in some pieces."""
    return tuple(crc + by * (index in places) for index, crc in enumerate(RIGHT))


class Search:
    """Plays an audit to its end, as a download does: a piece at a time, the digest when it is due."""

    def __init__(self, served: dict[str, tuple[int, ...]], givers: list[set[str]], has: list[int]) -> None:
        self.served = served
        self.has = has
        self.able = [url for url in served if url != EARLIER]
        self.audit = Audit(givers, self.able)
        self.fetched: list[tuple[int, str]] = []
        self.named: set[str] = set()

    def run(self, choose=lambda able: able[0]) -> bool:
        """Returns true when the file is right in the end; *choose* picks whom to ask."""
        is_due = True
        while True:
            if is_due:
                if tuple(self.has) == RIGHT:
                    self.named |= self.audit.liars()
                    return True
                self._name(self.audit.proven())
            check = self.audit.next_check(self.able)
            if check is None:
                return False
            index, url = check.piece, choose([url for url in self.able if url in check.sources])
            self.fetched.append((index, url))
            found = self.served[url][index]
            there, self.has[index] = self.has[index], found
            is_due = self.audit.note(index, url, there=_digest(there), found=_digest(found), able=self.able)
            assert len(self.fetched) < 1000, "the search does not end"

    def _name(self, proven) -> None:
        for url in (proven - {EARLIER}) & set(self.able):
            self.able.remove(url)
            self.named.add(url)


def _digest(content: int) -> Digest:
    return digest_of_bytes(str(content).encode())


def mixture(served: dict[str, tuple[int, ...]], *givers: str) -> Search:
    """A search in a file whose pieces came from *givers*."""
    has = [served[giver][index] for index, giver in enumerate(givers)]
    return Search(served, [{giver} for giver in givers], has)


class TestOneLiar:
    def test_in_a_mixture_is_named_and_only_its_pieces_are_fetched_again(self):
        search = mixture({A: RIGHT, B: lying(*range(6))}, A, A, B, A, B, A)
        assert search.run()
        assert search.named == {B}
        assert {index for index, _ in search.fetched if search.served[B][index] != RIGHT[index]} >= {2, 4}
        assert [piece for piece in search.fetched if piece[1] == A] == [(2, A), (4, A)]

    def test_that_gave_all_is_replaced_piece_by_piece(self):
        search = mixture({A: lying(*range(6)), B: RIGHT}, *[A] * 6)
        assert search.run()
        assert search.named == {A}
        assert sorted(search.fetched) == [(index, B) for index in range(6)]

    def test_in_one_piece_costs_no_more_than_the_file(self):
        search = mixture({A: lying(3), B: RIGHT}, *[A] * 6)
        assert search.run()
        assert search.named == {A}
        assert len(search.fetched) <= 6

    def test_that_is_alone_is_proven_at_once(self):
        search = mixture({A: lying(3)}, *[A] * 6)
        assert not search.run()
        assert search.named == {A}
        assert search.fetched == []

    @pytest.mark.parametrize("wrong", range(6))
    @pytest.mark.parametrize("givers", [(A, A, A, B, B, B), (B, A, B, A, B, A), (A, B, B, B, B, B), (B, B, B, B, B, A)])
    def test_is_found_wherever_it_lies(self, wrong, givers):
        search = mixture({A: lying(wrong), B: RIGHT}, *givers)
        assert search.run()
        assert search.named == ({A} if givers[wrong] == A else set())

    def test_that_shares_a_piece_does_not_take_the_other_with_it(self):
        search = Search({A: RIGHT, B: lying(2)}, [{A}, {A}, {A, B}, {B}, {B}, {B}], list(lying(2)))
        assert search.run(choose=lambda able: able[0])
        assert A not in search.named


class TestAnEarlierRun:
    def test_is_replaced_where_it_is_wrong_and_never_named(self):
        served = {EARLIER: lying(0, 1), A: RIGHT}
        search = mixture(served, EARLIER, EARLIER, EARLIER, A, A, A)
        assert search.run()
        assert search.named == set()
        assert {index for index, _ in search.fetched} <= {0, 1, 2}

    def test_that_gave_all_is_compared_with_the_only_source(self):
        search = mixture({EARLIER: lying(5), A: RIGHT}, *[EARLIER] * 6)
        assert search.run()
        assert search.named == set()


class TestSeveralLiars:
    def test_of_whom_none_is_right_leave_nothing(self):
        search = mixture({A: lying(1), B: lying(1, by=200)}, A, A, A, B, B, B)
        assert not search.run()

    def test_who_agree_are_both_named_once_a_third_is_right(self):
        search = mixture({A: lying(1), B: lying(1), C: RIGHT}, A, A, A, B, B, B)
        assert search.run()
        assert A in search.named

    @pytest.mark.parametrize("givers", list(product((A, B, C), repeat=3)))
    def test_in_different_pieces_do_not_hide_the_one_who_is_right(self, givers):
        served = {A: lying(1), B: lying(4), C: RIGHT}
        search = mixture(served, *givers, *givers)
        assert search.run()
        assert C not in search.named

    def test_everywhere_do_not_hide_the_one_who_is_right(self):
        served = {A: lying(*range(6)), B: lying(*range(6), by=200), C: RIGHT}
        turns = iter(range(1000))
        search = mixture(served, *[A] * 6)
        assert search.run(choose=lambda able: able[next(turns) % len(able)])
        assert C not in search.named


@given(st.data())
def test_one_right_source_beside_one_liar_is_always_enough(data):
    wrong = data.draw(st.sets(st.integers(0, 5), min_size=1))
    givers = data.draw(st.lists(st.sampled_from([A, B]), min_size=6, max_size=6))
    search = mixture({A: lying(*wrong), B: RIGHT}, *givers)
    assert search.run()
    assert B not in search.named
