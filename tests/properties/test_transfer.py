"""A download in any order of cuts, crashes, lies and switches ends in the exact bytes, or in an error that says why."""

from __future__ import annotations

import hashlib
import tempfile
import zlib
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st
from properties.worlds import Server, World

from wheelcache.errors import IntegrityError, NetworkError

CHOICES = st.lists(st.integers(0, 255), max_size=150)
PIECES = st.sampled_from([64, 100, 256])
TROUBLES = st.lists(st.sampled_from(["busy", "connect", 0, 1, 70, 300, -1, -70]), max_size=5)
SPEEDS = st.sampled_from([50.0, 300.0, 2000.0])


def truth_of(size: int) -> bytes:
    block = hashlib.sha256(size.to_bytes(4)).digest()
    return b"PK\3\4" + (block * (size // 32 + 1))[: size - 4]


SIZES = st.integers(5, 1500)


@st.composite
def servers(draw, *, can_serve_wholly: bool = True) -> Server:
    """A server that serves as it should once its troubles are over."""
    has_ranges = draw(st.booleans()) if can_serve_wholly else True
    return Server(
        has_ranges=has_ranges, troubles=draw(TROUBLES), speed=draw(SPEEDS), is_mirror=draw(st.integers(0, 3)) == 0
    )


@st.composite
def bad_servers(draw, size: int, *, can_serve_wholly: bool = True) -> Server:
    """A server that is of no use, or lies."""
    server = draw(servers(can_serve_wholly=can_serve_wholly))
    server.kind = draw(st.sampled_from(["serves", "serves", "serves", "gone", "page", "other", "down", "trickles"]))
    server.lies = frozenset(draw(st.lists(st.integers(4, size - 1), min_size=1, max_size=5)))
    server.twist = draw(st.sampled_from([1, 2]))
    return server


def ended(truth: bytes, made: list[Server], choices: list[int], **ways) -> World:
    """Plays a download to its end, and looks at what must hold of any end."""
    with tempfile.TemporaryDirectory() as name:
        world = World(Path(name), truth, made, choices, **ways)
        try:
            world.run()
            blob = world.store.blob(world.digest)
            if world.is_published:
                assert blob.read_bytes() == truth
            else:
                assert not blob.exists()
                assert isinstance(world.error, NetworkError | IntegrityError)
                for url, server in world.servers.items():
                    known = url if not server.is_mirror else url.replace("w.whl", "simple/")
                    assert url in world.error.message or known in world.error.message
            assert world.download.fetched == world.delivered - world.restarted_at
            assert not any(state.active for state in world.hosts.states().values())
            if world.wheel.size is not None:  # else who is cut where nobody expects more looks like a liar
                honest = {url for url, server in world.servers.items() if server.is_honest(truth)}
                assert not honest & world.dead.keys(), "an honest server was given up as a liar"
        finally:
            world.end()
        return world


@given(SIZES, st.lists(servers(can_serve_wholly=False), min_size=1, max_size=3), CHOICES, PIECES)
@settings(max_examples=100, deadline=None)
def test_honest_servers_bring_each_byte_once_whatever_happens_to_them(size, made, choices, piece):
    world = ended(truth_of(size), made, [choice for choice in choices if choice % 16 != 15], piece=piece)
    assert world.is_published
    assert world.delivered - world.late == size


@given(SIZES, st.lists(servers(), min_size=1, max_size=3), CHOICES, PIECES)
@settings(max_examples=100, deadline=None)
def test_one_honest_server_that_has_ranges_is_enough_beside_others_that_have_none(size, made, choices, piece):
    made[len(choices) % len(made)].has_ranges = True
    assert ended(truth_of(size), made, choices, piece=piece).is_published


@given(st.data(), SIZES, CHOICES, PIECES)
@settings(max_examples=250, deadline=None)
def test_one_honest_server_is_enough_among_liars_that_can_be_asked_for_any_part(data, size, choices, piece):
    made = data.draw(st.lists(bad_servers(size, can_serve_wholly=False), min_size=1, max_size=3))
    made.insert(data.draw(st.integers(0, len(made))), data.draw(servers(can_serve_wholly=False)))
    world = ended(truth_of(size), made, choices, piece=piece)
    assert world.is_published, world.said


@given(st.data(), SIZES, CHOICES, PIECES)
@settings(max_examples=250, deadline=None)
def test_one_honest_server_is_enough_among_liars(data, size, choices, piece):
    made = data.draw(st.lists(bad_servers(size), min_size=1, max_size=3))
    made.insert(data.draw(st.integers(0, len(made))), data.draw(servers(can_serve_wholly=False)))
    world = ended(truth_of(size), made, choices, piece=piece)
    assert world.is_published, world.said


@given(st.data(), SIZES, CHOICES, PIECES)
@settings(max_examples=100, deadline=None)
def test_liars_alone_end_in_an_error(data, size, choices, piece):
    made = data.draw(st.lists(bad_servers(size), min_size=1, max_size=3))
    truth = truth_of(size)
    world = ended(truth, made, choices, piece=piece)
    for place in range(size):
        if all(server.kind != "serves" or server.content(truth)[place] != truth[place] for server in made):
            assert not world.is_published


@given(SIZES.filter(lambda size: size > 64), st.integers(0, 63))
@settings(max_examples=20, deadline=None)
def test_who_gave_only_right_bytes_of_a_piece_is_not_named_with_who_gave_the_wrong_ones(size, place):
    liar = Server(lies=frozenset({max(place, 4)}), troubles=[64])
    assert "http://s1.test/w.whl: wrong bytes" not in ended(truth_of(size), [liar, Server()], [], piece=4096).said


# Where the lockfile does not say how long the file is.


@given(
    SIZES,
    st.lists(servers(), min_size=1, max_size=3),
    CHOICES,
    PIECES,
    st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_without_a_size_honest_servers_are_enough(size, made, choices, piece, has_hint):
    made[0].has_ranges = True
    world = ended(truth_of(size), made, choices, piece=piece, is_size_locked=False, hint=size if has_hint else None)
    assert world.is_published, world.said


@given(st.data(), SIZES, CHOICES, PIECES)
@settings(max_examples=200, deadline=None)
def test_without_a_size_a_download_still_ends_in_the_exact_bytes_or_an_error(data, size, choices, piece):
    made = data.draw(st.lists(bad_servers(size) | servers(), min_size=1, max_size=3))
    for server in made:
        server.has_length = data.draw(st.booleans())
        server.longer = data.draw(st.sampled_from([0, 0, 1, 200]))
    hint = data.draw(st.sampled_from([None, size, size - 1, size + 100]))
    ended(truth_of(size), made, choices, piece=piece, is_size_locked=False, hint=hint)


LIES = st.frozensets(st.integers(4, 1499), min_size=1, max_size=4)


@given(SIZES, LIES, st.booleans(), CHOICES, PIECES)
@settings(max_examples=100, deadline=None)
@example(448, frozenset({4, 200, 300}), False, [], 64)
def test_one_honest_server_is_enough_beside_one_liar(size, lies, is_first, choices, piece):
    made = [Server(lies=lies), Server()]
    world = ended(truth_of(size), made[:: -1 if is_first else 1], choices, piece=piece)
    assert world.is_published, world.said


@given(SIZES, LIES, st.booleans(), CHOICES, PIECES)
@settings(max_examples=100, deadline=None)
@example(448, frozenset({4, 200, 300}), True, [], 64)
def test_lies_with_the_right_checksums_do_not_make_an_honest_server_a_liar(size, lies, is_first, choices, piece):
    made = [Server(lies=lies, is_forger=True), Server()]
    world = ended(truth_of(size), made[:: -1 if is_first else 1], choices, piece=piece)
    assert world.is_published, world.said


def test_the_lies_of_a_forger_have_the_right_checksum():
    assert zlib.crc32(truth_of(100)) == zlib.crc32(Server(lies=frozenset({50}), is_forger=True).content(truth_of(100)))
