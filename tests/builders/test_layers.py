"""An image's layers, told apart by its history."""

from __future__ import annotations

import pytest

from builders.layers import image_layers

IMPORTED = {"CreatedBy": "", "Size": 144_000_000, "Comment": "Imported from -"}


def history(*entries: tuple[str, int]) -> list[dict[str, object]]:
    """The engine's own words, the newest first."""
    return [{"CreatedBy": created_by, "Size": size} for created_by, size in entries][::-1]


def ids(count: int) -> list[str]:
    return [f"sha256:{number:x}{'0' * 63}" for number in range(count)]


def test_layers_get_their_sizes_and_instructions() -> None:
    entries = history(
        ("WORKDIR /app", 0),
        ("ENV A=1", 0),
        ("RUN |1 TOKEN=secret /bin/sh -c pip install x # buildkit", 300),
        ("COPY . . # buildkit", 5),
        ("RUN /bin/sh -c true # buildkit", 0),
        ('CMD ["python3"]', 0),
    )
    layers = image_layers(ids(5), [*entries, IMPORTED])
    assert [(layer.keyword, layer.size) for layer in layers] == [
        ("", 144_000_000),
        ("WORKDIR", 0),
        ("RUN", 300),
        ("COPY", 5),
        ("RUN", 0),
    ]
    assert "secret" not in str(layers)


def test_the_words_of_older_builders_are_read_too() -> None:
    entries = history(
        ("/bin/sh -c #(nop) ADD file:1 in / ", 100),
        ("/bin/sh -c #(nop)  ENV A=1", 0),
        ("/bin/sh -c #(nop) WORKDIR /app", 0),
        ("|1 X=1 /bin/sh -c apt-get install x", 20),
    )
    layers = image_layers(ids(3), entries)
    assert [(layer.keyword, layer.size) for layer in layers] == [("ADD", 100), ("WORKDIR", 0), ("RUN", 20)]


def test_layers_of_a_tool_that_notes_empty_steps_are_those_with_bytes() -> None:
    entries = history(("bazel build ...", 70), ("RUN nothing", 0))
    assert [layer.size for layer in image_layers(ids(1), entries)] == [70]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_where_history_and_layers_do_not_agree_none_are_known(count: int) -> None:
    assert image_layers(ids(count), history(("RUN a", 5), ("RUN b", 6))) == ()


def test_a_layers_key_stands_for_all_below_it_too() -> None:
    one, two = ids(2)
    entries = history(("RUN a", 5), ("RUN b", 6))
    same = [layer.key for layer in image_layers([one, two], entries)]
    assert same == [layer.key for layer in image_layers([one, two], history(("RUN a", 5), ("COPY b", 6)))]
    other = [layer.key for layer in image_layers([two, two], entries)]
    assert len({*same, *other}) == 4
