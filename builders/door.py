"""Turns what the Docker SDK raises, and the HTTP library below it, into our own errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from builders.connecting import reason_of
from builders.errors import EngineError


@contextmanager
def door(deed: str) -> Iterator[None]:
    """Turns the SDK's exceptions into ours.

    Args:
        deed: what the engine was asked to do, as in "could not *deed*".

    Raises:
        EngineError: the SDK raised something.
    """
    from docker.errors import DockerException  # noqa: PLC0415
    from requests.exceptions import RequestException  # noqa: PLC0415
    from urllib3.exceptions import HTTPError  # noqa: PLC0415

    try:
        yield
    except (DockerException, RequestException, HTTPError) as error:
        reason = reason_of(error)
        raise EngineError(
            f"the Docker engine could not {deed}: {reason}",
            hint="see the engine's log (journalctl -u docker), and whether `docker info` answers",
            reason=reason,
        ) from error
