"""Finished images are looked into."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from builders.engine import Engine
from builders.errors import BuildError
from builders.imagecheck import check_image, list_distributions

pytestmark = pytest.mark.engine

MakeImage = Callable[..., str]

SITE = "opt/venv/lib/python3.11/site-packages"
FILES = {
    f"{SITE}/Flask_Login-1.0.dist-info/METADATA": "Name: Flask.Login\nVersion: 1.0\n\nVersion: 9",
    f"{SITE}/setuptools/_vendor/wheel-0.1.dist-info/METADATA": "Name: vendored\nVersion: 0.1\n",
    f"{SITE}/empty-1.dist-info/RECORD": "",
    "usr/lib/python3/dist-packages/old-1.egg-info/PKG-INFO": "Name: old\nVersion: 1\n",
    "usr/lib/python3/dist-packages/older-1.egg-info": "Name: older\nVersion: 0.9\n",
    "srv/target/torch-2.8.0.dist-info/METADATA": "Name: torch\nVersion: 2.8.0\n",
    "root/.cache/uv/archive-v0/x/torch-1.dist-info/METADATA": "Name: torch\nVersion: 1\n",
}
FOUND = {("flask-login", "1.0"), ("old", "1"), ("older", "0.9"), ("torch", "2.8.0")}


def test_distributions_are_found_wherever_they_are(engine: Engine, base: str, make_image: MakeImage) -> None:
    ref = make_image(f"FROM {base}\nCOPY . /\nUSER 1234\n", FILES)
    own = set(list_distributions(engine, base))
    assert "pip" in {name for name, _ in own}
    assert set(list_distributions(engine, ref)) == own | FOUND


def test_an_image_without_python_is_read_instead(engine: Engine, make_image: MakeImage) -> None:
    ref = make_image("FROM scratch\nCOPY . /\n", FILES)
    assert set(list_distributions(engine, ref)) == FOUND


def test_an_image_whose_python_cannot_look_is_read_instead(engine: Engine, base: str, make_image: MakeImage) -> None:
    ref = make_image(f"FROM {base}\nCOPY . /\nENV PYTHONHOME=/nowhere\n", FILES)
    assert set(list_distributions(engine, ref)) >= FOUND


def test_what_differs_from_the_lock_is_told(engine: Engine, make_image: MakeImage) -> None:
    ref = make_image("FROM scratch\nCOPY . /\n", FILES)
    check = check_image(engine, ref, [("torch", "2.8.0"), ("flask-login", "2.0"), ("absent", "3.0")])
    assert check.wrong == {"flask-login": ("2.0", "1.0")}
    assert check.missing == {"absent": "3.0"}


def test_an_image_that_is_not_there_is_an_error(engine: Engine) -> None:
    with pytest.raises(BuildError, match="not in the engine"):
        list_distributions(engine, "wheelcache-test/absent:1")
