"""The builders' branch of the error tree."""

from __future__ import annotations

from wheelcache.errors import ExitCode, WheelcacheError


class BuildError(WheelcacheError):
    """An image could not be built as asked."""

    kind = "build"
    exit_code = ExitCode.BUILD


class RefusedError(BuildError):
    """A service cannot be built as asked, known before anything ran; the hint is the way out."""

    kind = "refused"


class EngineError(WheelcacheError):
    """No Docker engine answers, or it lacks what a build needs."""

    kind = "engine"
    exit_code = ExitCode.ENGINE
