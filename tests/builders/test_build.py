"""What is decided around a service's build."""

from __future__ import annotations

import pytest

from builders.build import has_network


@pytest.mark.parametrize(
    ("step", "network", "has"),
    [
        ("[builder 3/5] RUN pip install torch", None, True),
        ("[builder 3/5] RUN pip install torch", "host", True),
        ("[builder 3/5] RUN pip install torch", "none", False),
        ("[3/5] RUN --network=none --mount=type=bind,from=a,target=/b pip install torch", None, False),
        ("[3/5] RUN --mount=type=bind,from=a,target=/b --network=host pip install torch", "none", True),
        ("[3/5] RUN --network=default pip install torch", "none", False),
        ("[3/5] RUN docker run --network=none busybox", None, True),
        ("[2/5] ADD https://files.example/x /x", "none", True),
        ("[internal] load metadata for docker.io/library/python:3.11", "none", True),
    ],
)
def test_a_run_has_the_network_it_names_else_the_builds(step: str, network: str | None, has: bool) -> None:
    assert has_network(step, network) is has
