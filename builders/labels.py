"""What the labels of a service's image say: what is locked, from which revision, on which base."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from builders.preparing import Prepared
from wheelcache.digest import digest_of_json
from wheelcache.programs import ProgramMissingError, ProgramTimeoutError, Runner

_GIT_SECONDS: Final = 10.0


def labels_of(prepared: Prepared, *, run: Runner) -> dict[str, str]:
    """Returns labels that change only when what is built does, so that an unchanged image keeps its id.

    `wheelcache.lock` stands for the wheels that are locked; the others are OCI's (image-spec, "Pre-Defined Annotation
    Keys"). Shared bases get none: labels are inherited.

    Args:
        prepared: the service.
        run: runs programs; asks git.
    """
    wheels = sorted((wheel.filename, wheel.digest) for wheel in prepared.locked.wheels)
    labels: dict[str, str] = {"wheelcache.lock": digest_of_json(wheels)}
    if prepared.base:
        labels["org.opencontainers.image.base.name"] = prepared.base
    if revision := _revision(prepared.reading.service.context, run):
        labels["org.opencontainers.image.revision"] = revision
    return labels


def _revision(context: Path, run: Runner) -> str:
    """Returns the last commit that touched the context; empty where git does not know it."""
    try:
        asked = run(["git", "-C", str(context), "log", "-1", "--format=%H", "--", "."], timeout=_GIT_SECONDS)
    except (ProgramMissingError, ProgramTimeoutError):
        return ""
    return asked.stdout.decode(errors="replace").strip() if asked.is_done else ""
