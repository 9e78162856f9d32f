"""Builds one image with buildx: watched, logged, and tried again where trying again helps."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_result,
    sleep_using_event,
    stop_after_attempt,
    wait_exponential_jitter,
)

from builders.buildx import THROUGH_DOCKER
from builders.commands import BuildRequest, buildx_build
from builders.errors import BuildError
from builders.failures import Failure, classify, plain
from builders.rawjson import BuildProgress, StepResult, add_up
from wheelcache.events import BuildStarted, Sink, Waiting
from wheelcache.lock import service_slug
from wheelcache.programs import ProgramStoppedError, Runner

KEPT_LOGS = 20
"""Log files kept for each image, the newest."""

SHOWN_LINES = 15
"""Lines of a failed step that are shown; its whole log stands on disk."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How an image's build ended.

    Attributes:
        image_id: of the image; empty when the build failed.
        attempts: how often it was tried.
        seconds: all attempts and the waiting between them.
        failure: why it failed; None when it did not.
        tail: the failed step's last lines, without credentials; empty where no step failed.
        log: the last attempt's whole log.
        sent: bytes of local files sent to the engine.
        contexts: the named contexts that the build took up.
        steps: how each step ended, all attempts together.
    """

    image_id: str
    attempts: int
    seconds: float
    failure: Failure | None
    tail: tuple[str, ...]
    log: Path
    sent: int
    contexts: frozenset[str]
    steps: tuple[StepResult, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Builder:
    """Runs builds, one at a time.

    Attributes:
        run: runs programs.
        emit: takes what happens.
        logs: the folder below which each image has its logs.
        retries: how often a build is tried again at most.
        stop: set when the user interrupts.
        environ: the environment that buildx runs in.
        buildx: the words that call it.
    """

    run: Runner
    emit: Sink
    logs: Path
    retries: int
    stop: threading.Event
    environ: dict[str, str]
    buildx: tuple[str, ...] = THROUGH_DOCKER

    def build(
        self, name: str, request_for: Callable[[int], BuildRequest], *, has_network: Callable[[str], bool]
    ) -> Outcome:
        """Builds what *request_for* says, again while its failure is one that passes.

        Args:
            name: the image, for events and logs.
            request_for: returns the request of the attempt with that number, from 1.
            has_network: tells whether the step of that name ran with a network.

        Raises:
            BuildError: the log cannot be written.
        """
        began = time.monotonic()
        numbers = count(1)
        steps: tuple[StepResult, ...] = ()

        def once() -> Outcome:
            nonlocal steps
            number = next(numbers)
            outcome = self._once(name, number, request_for(number), has_network, began)
            steps = add_up(steps, outcome.steps)
            return replace(outcome, steps=steps)

        retrying = Retrying(
            stop=stop_after_attempt(self.retries + 1),
            wait=wait_exponential_jitter(initial=1, max=60),
            retry=retry_if_result(self._is_passing),
            sleep=sleep_using_event(self.stop),
            before_sleep=lambda state: self._say_waiting(name, state),
            retry_error_callback=_last_outcome,
        )
        outcome: Outcome = retrying(once)
        return outcome

    def _is_passing(self, outcome: Outcome) -> bool:
        return outcome.failure is not None and outcome.failure.retry and not self.stop.is_set()

    def _once(
        self, name: str, attempt: int, request: BuildRequest, has_network: Callable[[str], bool], began: float
    ) -> Outcome:
        log = self._new_log(name, attempt)
        self.emit(BuildStarted(name=name, attempt=attempt, log=str(log)))
        interrupted = False
        code = 1
        with log.open("w", encoding="utf-8") as file:
            progress = BuildProgress(name, emit=self.emit, write=file.write)
            try:
                argv = [*self.buildx, *buildx_build(request)]
                completed = self.run(argv, on_stderr=progress.feed, stop=self.stop, env=self.environ)
                code = completed.returncode
            except ProgramStoppedError:
                interrupted = True
            progress.close()
        failure = None
        tail: list[str] = []
        if code != 0 or interrupted:
            failed = progress.failed
            tail = [line for line in plain(failed.log if failed else "").splitlines() if line.strip()][-SHOWN_LINES:]
            failure = classify(
                failed.log if failed else "",
                "\n".join(part for part in (failed.error if failed else "", progress.trailer) if part),
                has_network=failed is None or has_network(failed.name),
                interrupted=interrupted or self.stop.is_set(),
            )
        return Outcome(
            image_id="" if failure or request.metadata_file is None else _image_id(request.metadata_file),
            attempts=attempt,
            seconds=time.monotonic() - began,
            failure=failure,
            tail=tuple(tail),
            log=log,
            sent=progress.bytes_sent,
            contexts=progress.contexts,
            steps=progress.results,
        )

    def _new_log(self, name: str, attempt: int) -> Path:
        folder = self.logs / service_slug(name)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for old in sorted(folder.glob("*.log"))[:-KEPT_LOGS]:
                old.unlink(missing_ok=True)
        except OSError as error:
            raise BuildError(
                f"{folder}: expected to write logs there: {error.strerror}", hint="check its permissions"
            ) from error
        return folder / f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}-attempt{attempt}.log"

    def _say_waiting(self, name: str, state: RetryCallState) -> None:
        seconds = state.next_action.sleep if state.next_action else 0.0
        outcome = state.outcome.result() if state.outcome else None
        reason = outcome.failure.message if outcome and outcome.failure else "trying again"
        self.emit(Waiting(filename=name, seconds=seconds, reason=reason))


def _last_outcome(state: RetryCallState) -> object:
    return state.outcome.result() if state.outcome else None


def _image_id(metadata_file: Path) -> str:
    """Returns the image's id as buildx wrote it down: the manifest's digest, or the config's in Docker's own store."""
    try:
        metadata = json.loads(metadata_file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return str(metadata.get("containerimage.digest") or "")
