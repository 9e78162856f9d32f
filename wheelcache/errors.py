"""The one tree of errors that reach people, each with its exit code and the next step."""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """What a process of ours ends with."""

    DONE = 0
    DEFECT = 1
    USAGE = 2
    LOCK = 3
    NETWORK = 4
    INTEGRITY = 5
    STORE = 6
    BUNDLE = 7
    BUILD = 8
    DEPLOY = 9
    ENGINE = 10
    INTERRUPTED = 130
    TERMINATED = 143


class WheelcacheError(Exception):
    """A failure that is the world's, not ours: reported in a sentence, without a traceback.

    Args:
        message: what was expected, what was found, and where.
        hint: the next step that helps; empty when there is none to give.
        facts: the same as values (paths, digests, byte counts), for `--json` and for callers.
    """

    kind: ClassVar[str] = "error"
    exit_code: ClassVar[ExitCode] = ExitCode.DEFECT

    def __init__(self, message: str, *, hint: str = "", **facts: object) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.facts = facts


class UsageError(WheelcacheError):
    """The command line asks for what cannot be."""

    kind = "usage"
    exit_code = ExitCode.USAGE


class ProjectFileError(UsageError):
    """The project file, the compose file or a Dockerfile is missing or says what we cannot take."""

    kind = "project-file"


class LockError(WheelcacheError):
    """A lockfile is missing, invalid, or not for this target."""

    kind = "lock"
    exit_code = ExitCode.LOCK


class ResolveError(LockError):
    """The requirements cannot be resolved; the message holds the resolver's own reason."""

    kind = "resolve"


class StaleLockError(LockError):
    """A lockfile no longer answers to its inputs."""

    kind = "stale-lock"


class NetworkError(WheelcacheError):
    """All sources of something failed, or the one that is needed cannot be reached."""

    kind = "network"
    exit_code = ExitCode.NETWORK


class IntegrityError(WheelcacheError):
    """Bytes are not what their digest says."""

    kind = "integrity"
    exit_code = ExitCode.INTEGRITY


class StoreError(WheelcacheError):
    """The store cannot be opened, read or written."""

    kind = "store"
    exit_code = ExitCode.STORE


class StoreFullError(StoreError):
    """The disk under the store has not enough room."""

    kind = "store-full"


class Interrupted(WheelcacheError):  # noqa: N818 - the field's word; nobody erred
    """SIGINT or SIGTERM asked us to stop; what was done stays done.

    Args:
        signal_number: 2 or 15; the exit code is 128 more (POSIX shells' convention).
    """

    kind = "interrupted"

    def __init__(self, signal_number: int) -> None:
        super().__init__("interrupted", hint="run the same command again: it continues where this one stopped")
        self.signal_number = signal_number
        self.exit_code = ExitCode(128 + signal_number)  # type: ignore[misc]
