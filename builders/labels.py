"""What the labels of a service's image say: what is locked, from which source and commit, on which base."""

from __future__ import annotations

from typing import Final

from builders.dockerfile import Dockerfile
from builders.git import commit_of, source_of
from builders.instructionrules import pairs_of
from builders.preparing import Prepared
from wheelcache.digest import digest_of_json
from wheelcache.programs import Runner

LOCK: Final = "wheelcache.lock"
REVISION: Final = "org.opencontainers.image.revision"

_OCI: Final = "org.opencontainers.image"


def labels_of(prepared: Prepared, *, run: Runner) -> dict[str, str]:
    """Returns labels that change only when what is built does, so that an unchanged image keeps its id.

    `wheelcache.lock` stands for the wheels that are locked; the others are OCI's (image-spec, "Pre-Defined Annotation
    Keys"), without `created`, which would make every build another image: when that was the image itself says. Those
    that the Dockerfile or the compose file sets are left to it. Shared bases get none: labels are inherited.

    Args:
        prepared: the service.
        run: runs programs; asks git.
    """
    reading = prepared.reading
    wheels = sorted((wheel.filename, wheel.digest) for wheel in prepared.locked.wheels)
    ours = {
        f"{_OCI}.title": reading.service.name,
        f"{_OCI}.source": source_of(reading.service.context, run),
        REVISION: commit_of(reading.service.context, run),
        f"{_OCI}.base.name": prepared.base,
        f"{_OCI}.base.digest": prepared.base_digest,
    }
    compose = reading.service.compose
    theirs = _set_in(reading.dockerfile) | (compose.labels.keys() if compose is not None else set())
    told = {name: value for name, value in ours.items() if value and name not in theirs}
    return {LOCK: digest_of_json(wheels), **told}


def _set_in(dockerfile: Dockerfile) -> set[str]:
    """Returns the names of the labels that a Dockerfile sets, in whatever stage."""
    words = [
        word
        for instruction in dockerfile.instructions
        if instruction.keyword == "LABEL"
        for word in pairs_of(instruction.body, dockerfile.escape)
    ]
    return {word.partition("=")[0].strip("\"'") for word in words}
