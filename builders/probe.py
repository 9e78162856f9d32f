"""Asks an image's own interpreter what wheels must fit, and what it holds already; once per image."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from builders.asking import ask_inside
from builders.engine import Engine
from builders.errors import RefusedError
from wheelcache.digest import digest_of_json, hex_of

_FORM: Final = 2
"""Part of every kept answer's name: raised when the script answers otherwise."""


class NoPythonError(RefusedError):
    """An image holds no interpreter to ask."""

    kind = "no-python"


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What an interpreter in an image says of itself.

    Attributes:
        environment: the marker variables of PEP 508.
        abi: such as `cp311` or `cp313t`.
        glibc: such as `2.36`; None with another C library.
        musl: such as `1.2`; None with another C library.
        executable: its path in the image.
        prefix: where it installs below.
        is_venv: True inside of a virtual environment.
        purelib: where pip installs pure wheels.
        platlib: where pip installs other wheels.
        user_site: where `pip install --user` installs, as the image's own user.
        installed: the distributions that every user's commands see there: by normalised name `version`, `requires`
            and `extras`, as `wheelcache.installed.read_installed` takes them.
        constraints: the texts of the constraint files that its own variables name: by tool and path.
    """

    environment: Mapping[str, str]
    abi: str
    glibc: str | None
    musl: str | None
    executable: str
    prefix: str
    is_venv: bool
    purelib: str
    platlib: str
    user_site: str
    installed: Mapping[str, Mapping[str, Any]]
    constraints: Mapping[str, Mapping[str, str]]

    def as_json(self) -> dict[str, object]:
        """Returns the same as JSON values; `wheelcache.target.target_from_facts` takes them."""
        return asdict(self)


def probe_interpreter(engine: Engine, image_ref: str, interpreter: str = "", *, cache: Path) -> Facts:
    """Returns what the interpreter of *image_ref* says of itself, asked in a container without a network.

    Args:
        engine: runs the container, and pulls the image if it lacks it.
        image_ref: the image in which the install commands run.
        interpreter: the program that installs there (`pip`, `python3`, `/opt/venv/bin/python`): the interpreter that
            runs it is asked. Where it is empty, not there, or no Python, `python3` is.
        cache: the folder with earlier answers, by image id.

    Raises:
        NoPythonError: the image holds none.
        MissingImageError: the image cannot be had.
        BuildError: its Python is too old, or broken.
    """
    image_id = engine.image_id(image_ref) or engine.pull(image_ref).image_id
    file = cache / f"{hex_of(digest_of_json([_FORM, image_id, interpreter]))}.json"
    try:
        return Facts(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        pass  # never asked, or written by another version
    entrypoints = ["python3", "python"]
    if interpreter.startswith("/"):
        entrypoints.append(interpreter)
    answer = ask_inside(engine, image_id, ["facts", interpreter], entrypoints=entrypoints, name=image_ref)
    if answer is None:
        raise NoPythonError(
            f"{image_ref}: expected a Python interpreter, found none ({', '.join(entrypoints)})",
            hint="declare [target] python and platform in the project file, or use a base image with Python",
            image=image_ref,
        )
    facts = Facts(**answer)
    _keep(file, facts)
    return facts


def _keep(file: Path, facts: Facts) -> None:
    """Keeps an answer; where that cannot be, it is asked again next time."""
    temporary = file.with_suffix(".tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(facts.as_json()), encoding="utf-8")
        temporary.replace(file)
    except OSError:
        return
