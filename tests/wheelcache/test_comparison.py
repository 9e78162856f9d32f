"""A run beside an earlier one."""

from __future__ import annotations

import pytest
from support.runs import layers, run_of, service, step

from wheelcache.comparison import Measure, Pair, Row, bytes_together, compare, matched_steps, shared_bytes
from wheelcache.runs import Fetch


def names(rows: tuple[Row, ...]) -> list[str]:
    return [row.component for row in rows]


def row_of(rows: tuple[Row, ...], component: str) -> Row:
    (found,) = [row for row in rows if row.component == component]
    return found


def test_a_first_run_has_nothing_beside_it() -> None:
    ml = service("ml", 9.0, step("RUN pip", 5.0, 300), made=layers(a=100, b=300))
    rows = compare(run_of(ml, fetch=Fetch(seconds=2.0, fetched=70, wheels=1, sources={"h": 70})), [Pair(now=ml)], None)
    assert names(rows) == [
        "wheels fetched", "from h", "ml", "RUN pip", "image", "shared with others", "total"
    ]  # fmt: skip
    assert all((row.before, row.has_before, row.seconds, row.size) == (None, False, None, None) for row in rows)
    assert row_of(rows, "RUN pip").now == Measure(seconds=5.0, size=300)
    assert row_of(rows, "image").now == Measure(size=400)


def test_seconds_bytes_and_hundredths_of_what_it_was() -> None:
    before = service("ml", 20.0, step("RUN pip", 8.0, 200), made=layers(a=100, b=200))
    now = service("ml", 10.0, step("RUN pip", 2.0, 300), made=layers(a=100, c=300))
    fetched = [Fetch(seconds=4.0, fetched=1000, wheels=1, sources={"h": 1000}), Fetch(seconds=1.0, fetched=0, wheels=1)]
    rows = compare(
        run_of(now, seconds=15.0, fetch=fetched[1]),
        [Pair(now=now, before=before)],
        run_of(before, seconds=30.0, fetch=fetched[0]),
    )
    told = {row.component: (row.seconds, row.size, row.percent) for row in rows}
    assert told == {
        "wheels fetched": (-3.0, -1000, -75.0),
        "from h": (None, -1000, -100.0),
        "ml": (-10.0, None, -50.0),
        "RUN pip": (-6.0, 100, -75.0),
        "image": (None, 100, pytest.approx(100 / 3)),
        "shared with others": (None, 0, None),
        "total": (-15.0, None, -50.0),
    }


def test_each_service_is_measured_by_its_own_last_build() -> None:
    ml, web = service("ml", 3.0), service("web", 4.0)
    rows = compare(run_of(ml, web), [Pair(now=ml, before=service("ml", 1.0)), Pair(now=web)], None)
    assert (row_of(rows, "ml").seconds, row_of(rows, "web").seconds) == (2.0, None)


def test_of_some_services_there_is_no_total() -> None:
    ml, web = service("ml"), service("web")
    assert "total" not in names(compare(run_of(ml, web), [Pair(now=ml)], None))


def test_what_a_failed_build_did_not_come_to_is_not_called_gone() -> None:
    before = service("ml", 9.0, step("RUN a", 1.0), step("RUN b", 2.0))
    failed = service("ml", 1.0, step("RUN a", 1.0, state="failed"), state="failed", fault="network", attempts=4)
    rows = compare(run_of(failed), [Pair(now=failed, before=before)], None)
    assert "RUN b" not in names(rows)
    assert row_of(rows, "ml").now == Measure(state="failed: network, 4 attempts", seconds=1.0)
    assert row_of(rows, "RUN a").now == Measure(state="failed", seconds=1.0)


def test_steps_are_the_same_by_their_words_or_else_by_their_place() -> None:
    before = [step("COPY a", place=2), step("RUN pip install x==1", place=3), step("RUN old", place=4)]
    now = [
        step("RUN new", place=2),
        step("COPY a", place=3),
        step("RUN pip install x==2", place=4),
        step("RUN old", place=5),
    ]
    told = [(old and old.name, new and new.name) for old, new in matched_steps(before, now)]
    assert told == [
        (None, "RUN new"),
        ("COPY a", "COPY a"),
        (None, "RUN pip install x==2"),
        ("RUN old", "RUN old"),
        ("RUN pip install x==1", None),
    ]
    (pair,) = matched_steps([step("RUN pip install x==1", place=3)], [step("RUN pip install x==2", place=3)])
    assert None not in pair


def test_steps_of_other_stages_and_our_own_are_never_taken_for_one_another() -> None:
    assert list(matched_steps([step("RUN x", place=2, stage="a")], [step("RUN x", place=2, stage="b")])) == [
        (None, step("RUN x", place=2, stage="b")),
        (step("RUN x", place=2, stage="a"), None),
    ]
    assert len(list(matched_steps([step("shared base")], [step("shared wheels")]))) == 2


def test_equal_steps_are_matched_one_by_one() -> None:
    twice = [step("RUN x", 1.0, place=2), step("RUN x", 2.0, place=3)]
    assert list(matched_steps(twice, twice)) == list(zip(twice, twice, strict=True))


def test_shared_bytes_are_those_of_layers_that_others_have_too() -> None:
    ml, web = service("ml", made=layers(a=100, b=20)), service("web", made=layers(a=100, c=3))
    assert shared_bytes(ml, [web]) == 100
    assert shared_bytes(ml, [ml]) == 0
    assert shared_bytes(service("ml"), [web]) is None


def test_layers_in_common_count_once() -> None:
    ml, web = service("ml", made=layers(a=100, b=20)), service("web", made=layers(a=100, c=3))
    assert bytes_together([ml, web]) == 123
    assert bytes_together([ml, service("web")]) is None
    rows = compare(run_of(ml, web), [Pair(now=ml, others_now=(web,)), Pair(now=web, others_now=(ml,))], None)
    assert row_of(rows, "all images together").now == Measure(size=123)
