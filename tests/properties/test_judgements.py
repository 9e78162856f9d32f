"""What is judged before a byte is used, who is asked next, and how many connections a host gets: for any values."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from wheelcache.answers import RETRY_AFTER_LIMIT, Body, Whole, judge_answer, retry_after
from wheelcache.faults import FATAL, Fault, SourceFault
from wheelcache.rates import Ramp, after_level, after_setback
from wheelcache.sources import OPEN_AFTER, HostState, Source, after_fault, choose_source, is_hopeless

NUMBERS = st.sampled_from(["0", "1", "99", "100", "101", "199", "200", "*", "", "-1", "٣", "9" * 5000]) | st.integers(
    0, 300
).map(str)
RANGES = st.builds("bytes {}-{}/{}".format, NUMBERS, NUMBERS, NUMBERS)
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "content-range": RANGES | st.builds("bytes */{}".format, NUMBERS) | st.text(max_size=40),
        "content-length": NUMBERS | st.text(max_size=10),
        "content-type": st.sampled_from(["text/html", "application/zip", "multipart/byteranges; boundary=x", ";"]),
        "content-encoding": st.sampled_from(["gzip", "identity", ""]),
        "retry-after": NUMBERS | st.text(max_size=40),
    },
)
STATUSES = st.sampled_from([200, 206, 416, 503, 404, 304]) | st.integers(100, 999)


@given(STATUSES, HEADERS, st.integers(0, 200), st.none() | st.integers(1, 200), st.booleans())
@settings(max_examples=1000, deadline=None)
@example(206, {"content-range": "bytes 0-199/*"}, 0, 100, False)
@example(206, {"content-range": f"bytes 0-{'9' * 5000}/*"}, 0, None, False)
@example(416, {"content-range": f"bytes */{'9' * 5000}"}, 5, None, False)
@example(200, {"content-length": "9" * 5000}, 0, None, False)
def test_a_body_that_may_be_used_begins_where_it_was_asked_to_and_ends_within_the_file(
    status, headers, offset, size, from_zero
):
    try:
        verdict = judge_answer(status, headers, offset=offset, size=size, now=0.0, from_zero=from_zero)
    except SourceFault as fault:
        assert fault.retry_after is None or 0 <= fault.retry_after <= RETRY_AFTER_LIMIT  # noqa: PT017
        return
    if isinstance(verdict, Whole):
        assert status == 416
        assert offset > 0
        assert size in (None, offset)
        return
    assert isinstance(verdict, Body)
    assert verdict.start == (0 if from_zero else offset)
    assert status == 206 or verdict.start == 0
    assert verdict.end is None or verdict.end >= verdict.start
    assert verdict.total is None or verdict.end is None or verdict.end <= verdict.total
    assert size is None or verdict.total in (None, size)
    assert size is None or verdict.end is None or verdict.end <= size


DATES = st.sampled_from(
    [
        "Wed, 21 Oct 2015 07:28:00 GMT",
        "Fri, 31 Dec 9999 23:59:59 -9999",
        "Wed, 99 Oct 2015 07:28:00 GMT",
        "Mon, 1 Jan 0001 00:00:00 +2359",
        "1 2 3 4 5",
    ]
)


@given(DATES | NUMBERS | st.text(max_size=60), st.floats(0, 1e10))
@settings(max_examples=1000, deadline=None)
def test_a_servers_wish_to_wait_is_obeyed_within_bounds_or_not_at_all(value, now):
    seconds = retry_after(value, now=now)
    assert seconds is None or 0 <= seconds <= RETRY_AFTER_LIMIT


URLS = st.sampled_from(
    ["http://a.test/1", "http://a.test/2", "http://b.test/1", "http://c.test/1", "file:///w", "http://[", ""]
)
TIMES = st.floats(0, 20)
SOURCES = st.lists(
    st.builds(
        Source,
        url=URLS,
        is_lookup=st.booleans(),
        is_guess=st.booleans(),
        faults=st.integers(0, 5),
        fruitless=st.integers(0, 5),
        rests_until=TIMES,
        is_dead=st.booleans(),
        from_zero=st.booleans(),
    ),
    max_size=6,
    unique_by=lambda source: source.url,
)
STATES = st.builds(
    HostState,
    faults=st.integers(0, 6),
    rests_until=TIMES,
    worked_at=st.none() | TIMES,
    rate=st.just(0.0) | st.floats(0, 1e9),
    active=st.integers(0, 5),
    limit=st.integers(1, 5),
)
HOSTS = st.dictionaries(st.sampled_from(["a.test", "b.test", "c.test", ""]), STATES)
FAULTS = st.builds(SourceFault, st.sampled_from(list(Fault)), st.just("expected x, found y"))


def may_be_asked(source: Source, *, now: float, hosts: dict[str, HostState], avoid: set[str]) -> bool:
    host = hosts.get(source.host, HostState())
    is_free = host.active < (host.limit if host.faults < OPEN_AFTER else 1)
    is_rested = source.rests_until <= now and host.rests_until <= now
    return not source.is_dead and source.url not in avoid and is_rested and is_free


@given(SOURCES, TIMES, HOSTS, st.booleans(), st.sets(URLS))
@settings(max_examples=1000, deadline=None)
def test_nobody_is_asked_who_is_dead_rests_is_avoided_or_has_no_connection_left(
    sources, now, hosts, may_look_up, avoid
):
    able = [source for source in sources if may_be_asked(source, now=now, hosts=hosts, avoid=avoid)]
    chosen = choose_source(sources, now=now, hosts=hosts, may_look_up=may_look_up, avoid=avoid)
    if chosen is not None:
        assert chosen in able
        assert not (chosen.from_zero and any(not source.from_zero and not source.is_lookup for source in able))
    elif may_look_up:
        assert not able
    if able and not all(source.is_lookup for source in able):
        assert chosen is not None


@given(SOURCES.filter(bool), FAULTS, TIMES, st.booleans())
@settings(max_examples=500, deadline=None)
def test_a_fault_never_makes_a_source_better_unless_it_brought_bytes(sources, fault, rests_until, progressed):
    before = sources[0]
    after = after_fault(before, fault, rests_until=rests_until, progressed=progressed)
    assert (after.url, after.is_lookup, after.mirror) == (before.url, before.is_lookup, before.mirror)
    assert after.last is fault
    assert after.is_dead >= before.is_dead
    assert after.from_zero >= before.from_zero
    assert after.is_dead or fault.fault not in FATAL
    if not progressed:
        assert after.faults == before.faults + 1
        assert after.fruitless == before.fruitless + 1


@given(SOURCES.filter(bool), st.lists(FAULTS, min_size=9, max_size=9), STATES.filter(lambda state: not state.faults))
@settings(max_examples=500, deadline=None)
def test_failures_without_a_byte_use_up_a_source_in_the_end(sources, faults, host):
    source = sources[0]
    for fault in faults:
        source = after_fault(source, fault, rests_until=0.0, progressed=False)
    assert is_hopeless(source, host, now=10_000.0, budget=9)


@given(
    st.lists(st.tuples(st.floats(0, 1e9), st.floats(0, 20), st.booleans()), max_size=40),
    st.integers(1, 12),
)
@settings(max_examples=500, deadline=None)
def test_a_host_never_gets_more_connections_than_the_user_allows_nor_less_than_one(levels, most):
    ramp, now = Ramp(limit=min(Ramp().limit, most)), 0.0
    for rate, seconds, is_setback in levels:
        now += seconds
        ramp = after_setback(ramp, now=now) if is_setback else after_level(ramp, rate=rate, now=now, most=most)
        assert 1 <= ramp.limit <= most
        assert ramp.previous >= 1
