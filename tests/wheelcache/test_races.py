"""Syncs, prunes and verifications on one store, some of them killed; for hours of it: `tests/bench/races.py`."""

from __future__ import annotations

import os
import random
import sys

import pytest
from support.commands import environment, program
from support.racers import race_while_all_stays, race_while_lockfiles_change
from support.races import Field, Race, Terms
from support.server import Server

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="nothing is fetched there, and nothing can be killed")

TERMS = Terms(syncs=6, prunes=1, verifies=1, kills=0.3, max_size="500kB", turn=0.5)
PATIENCE = 60.0
"""Seconds in which enough happens on the busiest machine."""


@pytest.fixture
def race(tmp_path):
    """Begins races on terms of theirs."""
    chance = random.Random(os.urandom(8))
    with Server(rate=2_500_000) as server:
        field = Field(server, count=30, largest=400_000, sets=8, spread=(4, 10), chance=chance)

        def begin(terms=TERMS, environ=None) -> Race:
            (tmp_path / "race").mkdir()
            return Race(tmp_path / "race", field, terms, chance, start=program(environ or environment()))

        yield begin


def test_each_wheel_is_fetched_once_by_all_syncs_together_while_others_prune_and_verify(race):
    begun = race()
    race_while_all_stays(begun)

    assert begun.account.wrong == []
    assert begun.account.removed == {}


def test_each_wheel_is_fetched_once_more_than_it_was_pruned_and_none_that_a_lockfile_needs_is_missing(race):
    begun = race()
    race_while_lockfiles_change(begun, seconds=PATIENCE, is_enough=lambda: begun.account.removed.total() >= 5)

    assert begun.account.wrong == []
    assert begun.account.removed
