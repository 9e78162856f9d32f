"""buildx's own words, decoded in whatever pieces they come."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders.rawjson import BuildProgress, Decoder, LogLine, Message, Status, StepResult, Text, Vertex, add_up
from wheelcache.events import Event, StepFinished, StepStarted, StepState

RUN = "sha256:" + "a" * 64
CONTEXT = "sha256:" + "b" * 64
OTHER = "sha256:" + "c" * 64


def log(text: str, vertex: str = RUN) -> dict[str, object]:
    data = base64.b64encode(text.encode()).decode()
    return {"logs": [{"vertex": vertex, "stream": 1, "data": data, "timestamp": "2026-01-01T00:00:01Z"}]}


def vertex(digest: str = RUN, name: str = "[2/2] RUN pip install {x}", **facts: object) -> dict[str, object]:
    return {"vertexes": [{"digest": digest, "name": name, **facts}]}


START = "2026-01-01T00:00:00.000000001Z"
DONE = "2026-01-01T00:00:02.500000001Z"

BUILD: list[dict[str, object]] = [
    vertex(CONTEXT, "[internal] load build context", started=START),
    {"statuses": [{"id": "transferring context:", "vertex": CONTEXT, "name": "transferring", "current": 10}]},
    {"statuses": [{"id": "transferring context:", "vertex": CONTEXT, "name": "transferring", "current": 2048}]},
    vertex(CONTEXT, "[internal] load build context", started=START, completed=START),
    vertex(OTHER, "[1/2] FROM base", started=START, completed=START, cached=True),
    vertex(),
    vertex(started=START),
    log("Collecting torch\r\n 10%\r100%\nhalf "),
    log("a line é\nlast words"),
    vertex(started=START, completed=DONE, error='process "pip {" did not complete: exit code: 1'),
    vertex("sha256:" + "d" * 64, "[other] RUN sleep", started=START, completed=DONE, error="x: context canceled"),
]
TRAILER = "Dockerfile:2\n   2 | >>> RUN pip\n{ not json\nERROR: failed to solve: exit code: 1\n"


def stream(indent: int | None) -> bytes:
    return ("".join(json.dumps(part, indent=indent) + "\n" for part in BUILD) + TRAILER).encode()


def messages(data: bytes, sizes: list[int]) -> list[Message]:
    decoder, found, position = Decoder(), [], 0
    for size in sizes:
        found += decoder.feed(data[position : position + size])
        position += size
    return [*found, *decoder.feed(data[position:]), *decoder.close()]


def progress_of(data: bytes) -> tuple[BuildProgress, list[Event], str]:
    events: list[Event] = []
    text: list[str] = []
    progress = BuildProgress("ml", emit=events.append, write=text.append)
    progress.feed(data)
    progress.close()
    return progress, events, "".join(text)


@given(st.sampled_from([None, 2]), st.lists(st.integers(0, 700), max_size=40))
def test_any_pieces_give_the_same_messages(indent: int | None, sizes: list[int]) -> None:
    assert messages(stream(indent), sizes) == messages(stream(None), [])


@given(st.binary(max_size=400), st.lists(st.integers(0, 60), max_size=20))
def test_nothing_that_a_program_may_write_breaks_the_decoder(data: bytes, sizes: list[int]) -> None:
    assert messages(data, sizes) == messages(data, [])


def test_messages_are_told_apart() -> None:
    found = messages(stream(2), [])
    assert Vertex(digest=RUN, name="[2/2] RUN pip install {x}") in found
    assert Status(vertex=CONTEXT, id="transferring context:", current=2048, total=0) in found
    assert LogLine(vertex=RUN, stream=1, data="a line é\nlast words".encode()) in found
    assert Text(line="ERROR: failed to solve: exit code: 1") in found


def test_an_object_cut_off_in_the_middle_stays_readable_as_text() -> None:
    assert messages(b'{\n  "vertexes": [\n', []) == [Text(line="{"), Text(line='  "vertexes": [')]


def test_the_last_message_needs_no_line_end() -> None:
    assert messages(json.dumps(vertex()).encode(), []) == [Vertex(digest=RUN, name="[2/2] RUN pip install {x}")]


def test_the_failed_step_is_the_one_with_an_error_of_its_own() -> None:
    progress, _, _ = progress_of(stream(2))
    assert progress.failed is not None
    assert progress.failed.name == "[2/2] RUN pip install {x}"
    assert progress.failed.log == "Collecting torch\n100%\nhalf a line é\nlast words"
    assert progress.trailer.endswith("ERROR: failed to solve: exit code: 1")


def test_steps_become_events_with_seconds_and_state() -> None:
    _, events, _ = progress_of(stream(2))
    assert StepStarted(name="ml", step="[2/2] RUN pip install {x}") in events
    assert StepFinished(name="ml", step="[1/2] FROM base", state="cached", seconds=0.0) in events
    assert StepFinished(name="ml", step="[2/2] RUN pip install {x}", state="failed", seconds=2.5) in events
    assert [event for event in events if isinstance(event, StepStarted) and "RUN pip" in event.step] == [
        StepStarted(name="ml", step="[2/2] RUN pip install {x}")
    ]


def test_a_step_taken_up_again_counts_all_its_seconds() -> None:
    again = vertex(started="2026-01-01T00:00:03Z", completed="2026-01-01T00:00:04Z")
    data = "".join(
        json.dumps(part) + "\n" for part in [vertex(started=START), vertex(started=START, completed=DONE), again]
    )
    progress, events, _ = progress_of(data.encode())
    assert progress.steps[RUN].seconds == pytest.approx(3.5)
    assert sum(isinstance(event, StepFinished) for event in events) == 2


def test_how_each_step_ended_is_known_but_not_of_those_given_up() -> None:
    assert progress_of(stream(2))[0].results == (
        StepResult(name="[internal] load build context", state="done", seconds=0.0, sent=2048),
        StepResult(name="[1/2] FROM base", state="cached", seconds=0.0),
        StepResult(name="[2/2] RUN pip install {x}", state="failed", seconds=2.5),
    )


def test_two_attempts_add_up_to_what_was_done_in_either() -> None:
    def step(name: str, state: StepState, seconds: float) -> StepResult:
        return StepResult(name=name, state=state, seconds=seconds)

    first = [step("base", "cached", 0), step("apt", "done", 30), step("pip", "failed", 5), step("tool", "done", 1)]
    second = [step("base", "cached", 0), step("apt", "cached", 0), step("pip", "done", 7), step("app", "done", 2)]
    assert add_up(first, second) == (
        step("base", "cached", 0),
        step("apt", "done", 30),
        step("pip", "done", 12),
        step("tool", "done", 1),
        step("app", "done", 2),
    )


def test_bytes_of_local_contexts_are_counted_once() -> None:
    assert progress_of(stream(2))[0].bytes_sent == 2048


def test_named_contexts_that_were_taken_up_are_known() -> None:
    data = json.dumps(
        vertex(name="[context python:3.11-slim] load metadata for python:3.11-slim", started=START)
    ).encode()
    assert progress_of(data)[0].contexts == {"python:3.11-slim"}


def test_the_log_reads_like_a_plain_one() -> None:
    _, _, text = progress_of(stream(None))
    assert (
        "#3 [2/2] RUN pip install {x}\n#3 Collecting torch\n#3 100%\n#3 half a line é\n#3 last words\n#3 ERROR" in text
    )
    assert text.endswith(TRAILER)


def test_without_any_message_nothing_failed() -> None:
    progress, events, text = progress_of(b"ERROR: unknown flag: --x\n")
    assert (progress.failed, events, progress.trailer) == (None, [], "ERROR: unknown flag: --x")
    assert text == "ERROR: unknown flag: --x\n"


def test_credentials_reach_neither_events_nor_the_log() -> None:
    url = "https://me:p@ss@index.example/simple"
    run = f"[2/2] RUN pip install --index-url {url} torch"
    parts = [
        vertex(name=run, started=START),
        log(f"Looking in indexes: {url}\nhalf a line: {url}"),
        vertex(name=run, started=START, completed=DONE, error=f'process "pip -i {url}" did not complete'),
    ]
    data = "".join(json.dumps(part) + "\n" for part in parts) + f"   2 | >>> RUN pip install --index-url {url}\n"
    progress, events, written = progress_of(data.encode())
    assert progress.failed is not None
    shown = f"{events} {written} {progress.failed} {progress.failed.log} {progress.trailer}"
    assert shown.count("https://index.example/simple") > 5
    assert "p@ss" not in shown
    assert "me:" not in shown
