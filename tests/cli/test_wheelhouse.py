"""`wheelcache wheelhouse` as people run it."""

from __future__ import annotations

import shutil

from support.program import BETA, GAMMA


def test_a_wheelhouse_holds_the_locked_wheels_and_requirements_with_hashes(project):
    assert project("sync").code == 0
    project("wheelhouse", "wheels", "two").shows("""\
exit 0
-- stdout
wheels: 2 wheels, 301 kB
""")
    names = {file.name for file in (project.cwd / "wheels").iterdir()}
    assert names == {BETA.filename, GAMMA.filename, "requirements.two.txt", ".wheelcache.json"}
    assert (project.cwd / "wheels" / "requirements.two.txt").read_text() == (
        f"beta==1.0 --hash={BETA.digest}\ngamma==1.0 --hash={GAMMA.digest}\n"
    )


def test_a_wheelhouse_as_json(project):
    assert project("sync").code == 0
    ran = project("wheelhouse", "wheels", "--json")
    assert ran.code == 0
    assert ran.document == {
        "command": "wheelhouse",
        "ok": True,
        "folder": "wheels",
        "wheels": 3,
        "bytes": ran.document["bytes"],
        "requirements": {"one": "requirements.one.txt", "two": "requirements.two.txt"},
    }


def test_a_folder_with_files_of_others_is_refused_and_left_alone(project):
    assert project("sync").code == 0
    kept = project.write("wheels/notes.txt", "mine")
    project("wheelhouse", "wheels").shows("""\
exit 2
-- stderr
error: wheels: expected an empty folder or a wheelhouse of ours, found notes.txt
hint: name another folder, or remove what is not ours
""")
    assert [file.name for file in kept.parent.iterdir()] == ["notes.txt"]


def test_a_wheelhouse_before_a_sync(project):
    project("wheelhouse", "wheels").shows("""\
exit 6
-- stderr
error: the store lacks 3 of the locked wheels: alpha-2.0-py3-none-any.whl, beta-1.0-py3-none-any.whl, gamma-1.0-py3-none-any.whl
hint: run wheelcache sync with the same arguments first
""")  # noqa: E501
    assert not (project.cwd / "wheels").exists()


def test_two_lockfiles_of_one_name_are_refused_rather_than_one_of_them_dropped(project):
    for folder in ("a", "b"):
        (project.cwd / folder).mkdir()
        shutil.copy(project.cwd / "pylock.one.toml", project.cwd / folder)
    assert project("sync").code == 0

    refused = project("wheelhouse", "wheels", "a/pylock.one.toml", "b/pylock.one.toml")

    assert refused.code == 2
    assert "would both be requirements.one.txt" in refused.err
