"""Has the engine bring images from their registries, and to them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from builders.door import door
from builders.enginevalues import split_reference
from builders.errors import BuildError, EngineError
from builders.failures import classify
from builders.pulling import PULL, PUSH, Answer, Transfer, follow, keep_trying
from wheelcache.events import Sink

if TYPE_CHECKING:
    from docker import DockerClient

SILENCE: Final = 120.0
"""Seconds without a word from the engine after which a transfer is stuck; checking a large layer is silent too."""


class MissingImageError(BuildError):
    """An image is neither in the engine nor to be had from its registry."""

    kind = "missing-image"


class PushError(BuildError):
    """A registry does not take an image."""

    kind = "push"


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """How patient a transfer is, and who hears of it.

    Attributes:
        silence: seconds without a word from the engine; a whole transfer may take as long as its line needs.
        retries: how often it is tried again at most after a fault that passes.
        stop: set when the user interrupts; ends it.
        emit: takes how far it is.
    """

    silence: float
    retries: int
    stop: threading.Event
    emit: Sink

    def keep_trying(self, ref: str, once: Callable[[], str]) -> str:
        """Returns what *once* does, tried again after an error that says it may pass."""
        return keep_trying(
            once,
            ref=ref,
            passes=lambda error: isinstance(error, BuildError) and bool(error.facts.get("retry")),
            retries=self.retries,
            stop=self.stop,
            emit=self.emit,
        )

    def follow(self, ref: str, deed: str, transfer: Transfer, ask: Callable[[], Iterable[Answer]]) -> str:
        """Returns why a transfer failed, in the engine's own words; empty where it did not."""
        try:
            with door(f"{deed} {ref}"):
                return follow(ref, ask, transfer=transfer, silence=self.silence, stop=self.stop, emit=self.emit)
        except EngineError as error:
            return str(error.facts.get("reason", error.message))


def pull_image(client: DockerClient, ref: str, *, platform: str | None, line: Line) -> None:
    """Pulls *ref* from its registry; layers that are there already stay when it is tried again.

    Args:
        client: the SDK's own.
        ref: with a tag or a digest; without either, `latest` is meant.
        platform: such as `linux/arm64`; None for the engine's own.
        line: how patient it is.

    Raises:
        MissingImageError: its registry does not have it, cannot be reached, or does not let us.
        ProgramStoppedError: the user interrupted.
    """
    repository, tag = split_reference(ref)

    def answers() -> Iterable[Answer]:
        asked: Iterable[Answer] = client.api.pull(repository, tag=tag, stream=True, decode=True, platform=platform)
        return asked

    def once() -> str:
        if reason := line.follow(ref, "pull", PULL, answers):
            raise missing_image(ref, reason)
        return ""

    line.keep_trying(ref, once)


def push_image(client: DockerClient, ref: str, *, line: Line) -> str:
    """Pushes *ref* to its registry, with the credentials of `docker login`; what is there already is not sent again.

    Args:
        client: the SDK's own.
        ref: with its tag.
        line: how patient it is.

    Returns:
        The digest of its manifest in the registry; empty where the engine does not tell.

    Raises:
        PushError: its registry cannot be reached, or does not let us.
        ProgramStoppedError: the user interrupted.
    """
    repository, tag = split_reference(ref)

    def once() -> str:
        digests = [""]

        def answers() -> Iterator[Answer]:
            for answer in client.api.push(repository, tag=tag, stream=True, decode=True):
                digests.append(str((answer.get("aux") or {}).get("Digest") or digests[-1]))
                yield answer

        if reason := line.follow(ref, "push", PUSH, answers):
            failure = classify("", f"failed to push {ref}: {reason}")
            raise PushError(
                f"{ref}: not pushed: {reason}",
                hint=failure.hint,
                image=ref,
                fault=failure.fault,
                retry=failure.retry,
            )
        return digests[-1]

    return line.keep_trying(ref, once)


def missing_image(ref: str, reason: str) -> MissingImageError:
    """Returns the error of an image that is not to be had, for the engine's *reason*."""
    failure = classify("", f"failed to resolve source metadata for {ref}: {reason}")
    return MissingImageError(
        f"{ref}: not in the engine, and cannot be pulled: {reason}",
        hint=failure.hint,
        image=ref,
        retry=failure.retry,
    )
