"""Images say what wheels must fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from builders.engine import Engine
from builders.errors import BuildError
from builders.probe import NoPythonError, probe_interpreter
from builders.registries import MissingImageError
from wheelcache.target import ENVIRONMENT_KEYS, target_from_facts

pytestmark = pytest.mark.engine

MakeImage = Callable[..., str]


def test_an_interpreter_says_what_it_is(engine: Engine, base: str, tmp_path: Path) -> None:
    facts = probe_interpreter(engine, base, "pip", cache=tmp_path)
    assert set(facts.environment) == set(ENVIRONMENT_KEYS)
    minor = facts.environment["python_version"].partition(".")[2]
    assert facts.abi == f"cp3{minor}"
    assert facts.glibc is not None
    assert facts.musl is None
    assert not facts.is_venv
    assert "pip" in facts.installed
    assert facts.purelib.endswith("-packages")
    assert facts.user_site.startswith("/root/")
    target = target_from_facts(facts.as_json())
    assert target.platform == f"manylinux_{facts.glibc.replace('.', '_')}_{facts.environment['platform_machine']}"


@pytest.mark.parametrize("hint", ["/opt/venv/bin/python", "/opt/venv/bin/pip", "pip"])
def test_the_interpreter_behind_the_installing_program_is_asked(
    engine: Engine, base: str, make_image: MakeImage, tmp_path: Path, hint: str
) -> None:
    ref = make_image(f"FROM {base}\nRUN python3 -m venv /opt/venv\nENV PATH=/opt/venv/bin:$PATH\n")
    facts = probe_interpreter(engine, ref, hint, cache=tmp_path)
    assert facts.is_venv
    assert facts.prefix == "/opt/venv"
    assert facts.purelib.startswith("/opt/venv/lib/")


def test_a_venv_off_the_path_is_found_by_its_pip(
    engine: Engine, base: str, make_image: MakeImage, tmp_path: Path
) -> None:
    ref = make_image(f"FROM {base}\nRUN python3 -m venv '/opt/with space'\n")
    assert probe_interpreter(engine, ref, "/opt/with space/bin/pip", cache=tmp_path).prefix == "/opt/with space"
    assert not probe_interpreter(engine, ref, "pip", cache=tmp_path).is_venv


@pytest.mark.parametrize("hint", ["", "/nowhere/bin/python", "sh"])
def test_an_interpreter_that_is_not_there_yet_is_answered_for_by_python3(
    engine: Engine, base: str, tmp_path: Path, hint: str
) -> None:
    assert not probe_interpreter(engine, base, hint, cache=tmp_path).is_venv


def test_an_image_is_asked_as_its_own_user_without_its_entrypoint_or_a_shell(
    engine: Engine, base: str, make_image: MakeImage, tmp_path: Path
) -> None:
    ref = make_image(f'FROM {base}\nRUN ["rm", "/bin/sh"]\nENV HOME=/home/app\nUSER 1234\nENTRYPOINT ["/bin/false"]\n')
    assert probe_interpreter(engine, ref, "pip", cache=tmp_path).user_site.startswith("/home/app/")


def test_an_application_in_the_working_directory_does_not_answer(
    engine: Engine, base: str, make_image: MakeImage, tmp_path: Path
) -> None:
    ref = make_image(f"FROM {base}\nWORKDIR /srv\nCOPY json.py .\n", {"json.py": "raise SystemExit('shadowed')"})
    assert probe_interpreter(engine, ref, "pip", cache=tmp_path).abi.startswith("cp3")


def test_what_an_image_prints_at_start_is_no_answer(
    engine: Engine, base: str, make_image: MakeImage, tmp_path: Path
) -> None:
    ref = make_image(
        f"FROM {base}\nENV PYTHONPATH=/noise\nCOPY sitecustomize.py /noise/\n",
        {"sitecustomize.py": "print('{\"hello\": 1}')"},
    )
    assert probe_interpreter(engine, ref, "pip", cache=tmp_path).abi.startswith("cp3")


def test_an_answer_is_kept_by_image_id(engine: Engine, base: str, tmp_path: Path) -> None:
    facts = probe_interpreter(engine, base, "pip", cache=tmp_path)
    (kept,) = tmp_path.iterdir()
    kept.write_text(kept.read_text().replace(f'"{facts.executable}"', '"/from/the/kept/answer"'))
    assert probe_interpreter(engine, base, "pip", cache=tmp_path).executable == "/from/the/kept/answer"
    kept.write_text("{damaged")
    assert probe_interpreter(engine, base, "pip", cache=tmp_path) == facts


def test_an_answer_that_cannot_be_kept_is_still_an_answer(engine: Engine, base: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert probe_interpreter(engine, base, cache=tmp_path / "file").abi.startswith("cp3")


def test_an_image_without_python_is_refused_with_the_way_out(
    engine: Engine, make_image: MakeImage, tmp_path: Path
) -> None:
    ref = make_image("FROM scratch\nCOPY app /app\n", {"app": ""})
    with pytest.raises(NoPythonError, match=ref) as caught:
        probe_interpreter(engine, ref, "/opt/venv/bin/python", cache=tmp_path)
    assert "[target]" in caught.value.hint


def test_a_python_that_fails_is_named_with_its_last_words(
    engine: Engine, base: str, make_image: MakeImage, tmp_path: Path
) -> None:
    ref = make_image(f"FROM {base}\nENV PYTHONHOME=/nowhere\n")
    with pytest.raises(BuildError, match="could not answer"):
        probe_interpreter(engine, ref, cache=tmp_path)


def test_an_image_that_is_nowhere_is_missing(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(MissingImageError):
        probe_interpreter(engine, "127.0.0.1:9/absent:1", cache=tmp_path)
