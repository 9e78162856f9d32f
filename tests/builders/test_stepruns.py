"""What is recorded of a build's steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from builders.dockerfile import parse_dockerfile
from builders.layers import ImageLayer
from builders.rawjson import StepResult
from builders.stages import resolve_stages
from builders.stepruns import step_runs
from wheelcache.runs import StepRun

TWO_STAGES = "FROM a AS Builder\nRUN make\nFROM a\nWORKDIR /app\nCOPY --from=builder /x /x\n"


def ran(name: str, seconds: float = 1.0, *, sent: int = 0) -> StepResult:
    return StepResult(name=name, state="done", seconds=seconds, sent=sent)


def recorded(
    names: Sequence[str | StepResult],
    text: str = "FROM a\nRUN x\n",
    *,
    arguments: Mapping[str, str] | None = None,
    layers: Sequence[tuple[str, int]] = (),
) -> tuple[StepRun, ...]:
    return step_runs(
        [ran(step) if isinstance(step, str) else step for step in names],
        stages=resolve_stages(parse_dockerfile(text)),
        arguments=arguments or {},
        layers=[ImageLayer(key=str(place), size=size, keyword=word) for place, (word, size) in enumerate(layers)],
    )


def test_steps_come_in_the_dockerfiles_order_with_what_takes_time_around_them() -> None:
    steps = recorded(
        [
            "[internal] load .dockerignore",
            "[stage-1  2/3] WORKDIR /app",
            "[builder 2/2] RUN make",
            "[builder 1/2] FROM docker.io/library/a",
            ran("[internal] load build context", sent=70),
            "[context wheelcache-wheels] wheelcache/wheels:1",
            "exporting to image",
            "[stage-1 3/3] COPY --from=builder /x /x",
        ],
        TWO_STAGES,
    )
    assert [(step.stage, step.place, step.name, step.size) for step in steps] == [
        ("", 0, "build context", 70),
        ("builder", 1, "FROM docker.io/library/a", None),
        ("builder", 2, "RUN make", None),
        ("stage-1", 2, "WORKDIR /app", None),
        ("stage-1", 3, "COPY --from=builder /x /x", None),
        ("", 0, "export of the image", None),
    ]


def test_our_own_words_are_left_out_of_a_name() -> None:
    name = "[2/2] RUN --network=none --mount=type=bind,from=w,source=/wheels,target=/wheelcache pip install\n\t x"
    assert recorded([name])[0].name == "RUN pip install x"


@pytest.mark.parametrize(
    ("name", "arguments", "shown"),
    [
        ("RUN curl -H hunter2secret", {"TOKEN": "hunter2secret"}, "RUN curl -H ${TOKEN}"),
        ("RUN pip install torch==2.8.0", {"V": "2.8"}, "RUN pip install torch==2.8.0"),
        ("RUN pip install torch==2.8.0", {"V": "2.8.0"}, "RUN pip install torch==${V}"),
        ("RUN a-secret-b secret", {"A": "secret", "B": "a-secret-b"}, "RUN ${B} ${A}"),
        ("RUN pip -i https://h.example/simple", {"URL": "https://u:pw@h.example/simple"}, "RUN pip -i ${URL}"),
        ("COPY x COPY", {"WORD": "COPY"}, "COPY x ${WORD}"),
        ("RUN printf '\x1b[31m\x07'", {}, "RUN printf '?[31m?'"),
        (f"RUN {'x' * 400}", {}, f"RUN {'x' * 295}…"),
    ],
)
def test_a_name_tells_no_build_arguments_value(name: str, arguments: dict[str, str], shown: str) -> None:
    assert recorded([f"[2/2] {name}"], arguments=arguments)[0].name == shown


def test_the_final_stages_steps_get_their_layers_sizes() -> None:
    steps = recorded(
        ["[builder 2/2] RUN make", "[stage-1 2/3] WORKDIR /app", "[stage-1 3/3] COPY --from=builder /x /x"],
        TWO_STAGES,
        layers=[("", 1000), ("WORKDIR", 0), ("COPY", 55)],
    )
    assert [step.size for step in steps] == [None, 0, 55]


def test_a_stage_that_builds_on_another_has_that_ones_layers_too() -> None:
    text = "FROM a AS one\nRUN x\nFROM one AS two\nCOPY y /\n"
    steps = recorded(["[two 2/2] COPY y /", "[one 2/2] RUN x"], text, layers=[("", 1), ("RUN", 20), ("COPY", 3)])
    assert [(step.stage, step.size) for step in steps] == [("one", 20), ("two", 3)]


@pytest.mark.parametrize("layers", [[], [("RUN", 5)], [("COPY", 1), ("RUN", 5)]])
def test_sizes_are_left_out_where_steps_and_layers_do_not_agree(layers: list[tuple[str, int]]) -> None:
    steps = recorded(["[1/3] FROM a", "[2/3] RUN x", "[3/3] COPY y /"], "FROM a\nRUN x\nCOPY y /\n", layers=layers)
    assert [step.size for step in steps] == [None, None, None]


def test_the_only_stage_is_the_same_however_it_is_called() -> None:
    names = ["[1/2] FROM a", "[2/2] RUN x"], ["[stage-0 1/2] FROM a", "[stage-0 2/2] RUN x"]
    once, again = (recorded(each, layers=[("", 1), ("RUN", 20)]) for each in names)
    assert once == again
    assert [step.size for step in once] == [None, 20]


def test_the_same_step_for_two_platforms_is_two() -> None:
    steps = recorded(["[linux/amd64 2/2] RUN x", "[linux/arm64/v8 2/2] RUN x"])
    assert [step.stage for step in steps] == ["linux/amd64", "linux/arm64/v8"]
