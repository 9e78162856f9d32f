"""The command line itself: options, names, the project file, and what is said of wrong ones."""

from __future__ import annotations

import pytest


def test_help_names_every_command(run):
    ran = run("--help")
    assert ran.code == 0
    assert not ran.err
    for command in ("lock", "sync", "status", "wheelhouse", "build"):
        assert f"\n  {command} " in ran.out


@pytest.mark.parametrize("command", ["lock", "sync", "status", "wheelhouse", "build"])
def test_each_command_has_help_with_an_example_on_one_line(run, command):
    ran = run(command, "--help", env={"COLUMNS": "80"})
    assert ran.code == 0
    assert not ran.err
    example = next(line for line in ran.out.splitlines() if "Example:" in line)
    assert f"wheelcache {command}" in example
    assert ran.out.splitlines()[ran.out.splitlines().index(example) + 1] == ""


def test_the_version_is_said(run):
    run("--version").shows("""\
exit 0
-- stdout
wheelcache, version [VERSION]
""")


def test_no_command_shows_help_and_is_a_usage_error(run):
    ran = run()
    assert ran.code == 2
    assert not ran.out
    assert ran.err.startswith("Usage: wheelcache [OPTIONS] COMMAND [ARGS]...")


def test_an_unknown_command_is_a_usage_error(run):
    run("fetch").shows("""\
exit 2
-- stderr
error: No such command 'fetch'
hint: see wheelcache --help
""")


def test_an_unknown_command_as_json(run):
    run("--json", "fetch").shows("""\
exit 2
-- stdout
{
  "command": "",
  "ok": false,
  "error": {
    "kind": "usage",
    "message": "No such command 'fetch'",
    "hint": "see wheelcache --help",
    "exit_code": 2
  }
}
-- stderr
error: No such command 'fetch'
hint: see wheelcache --help
""")


def test_an_unknown_option_is_a_usage_error(run):
    run("sync", "--fast").shows("""\
exit 2
-- stderr
error: No such option '--fast'
hint: see wheelcache sync --help
""")


def test_an_unknown_option_as_json(run):
    run("sync", "--fast", "--json").shows("""\
exit 2
-- stdout
{
  "command": "sync",
  "ok": false,
  "error": {
    "kind": "usage",
    "message": "No such option '--fast'",
    "hint": "see wheelcache sync --help",
    "exit_code": 2
  }
}
-- stderr
error: No such option '--fast'
hint: see wheelcache sync --help
""")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--timeout", "0"], "--timeout"),
        (["--timeout", "nan"], "--timeout"),
        (["--deadline", "inf"], "--deadline"),
        (["--connections", "0"], "--connections"),
        (["--limit-rate", "-5"], "--limit-rate"),
        (["--python", "3.11"], "--platform"),
        (["--mirror", "me:secret@mirror"], "--mirror"),
        (["--index-url", "ftp://mirror"], "--index-url"),
        (["--config"], "--config"),
        (["--cache-dir", ""], "--cache-dir"),
    ],
)
def test_a_wrong_value_is_a_usage_error_that_names_the_option(run, arguments, said):
    ran = run("sync", *arguments)
    assert ran.code == 2, ran
    assert said in ran.err
    assert "hint: " in ran.err
    assert "secret" not in ran.err
    assert not ran.out


def test_a_folder_without_a_project(run):
    run("sync").shows("""\
exit 2
-- stderr
error: [HOME]/project: expected services, found none
hint: write compose = ["docker-compose.yml"] or [[services]] in wheelcache.toml, or pass --file COMPOSE
""")


def test_an_unknown_service_is_told_which_there_are(project):
    project("sync", "three").shows("""\
exit 2
-- stderr
error: expected a service or a lockfile, found 'three'
hint: the services are: one, two
""")


def test_global_options_count_before_and_after_the_command(project, tmp_path):
    before = project("--json", "--cache-dir", tmp_path / "elsewhere", "status")
    after = project("status", "--json", "--cache-dir", tmp_path / "elsewhere")
    assert before.code == after.code == 0
    assert before.document == after.document
    assert before.document["store"] == "[HOME]/elsewhere"


def test_the_cache_folder_is_the_options_then_the_environments_then_the_project_files(project, tmp_path):
    project.write("wheelcache.toml", (project.cwd / "wheelcache.toml").read_text() + '[cache]\ndir = "own"\n')
    project.environ["XDG_CACHE_HOME"] = str(tmp_path / "xdg")

    def store(*arguments: object, **environ: str) -> str:
        return project("status", "--json", *arguments, env=environ).document["store"]

    assert store("--cache-dir", "given") == "[HOME]/project/given"
    assert store() == "[HOME]/cache"
    assert store(WHEELCACHE_DIR="") == "[HOME]/project/own"


def test_an_unknown_key_names_file_and_key(run):
    run.write("wheelcache.toml", "[download]\nconections = 3\n[[service]]\nname = 'x'\n")
    run("sync").shows("""\
exit 2
-- stderr
error: [HOME]/project/wheelcache.toml: download.conections: unknown key
[HOME]/project/wheelcache.toml: service: unknown key
hint: README.md lists every key of the project file
""")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("compose = 3\n", "wheelcache.toml: compose: expected"),
        ("[target\n", "wheelcache.toml: expected TOML:"),
        ("[[services]]\nname = 'a'\n", "wheelcache.toml: services.a.context: missing"),
        ("[[services]]\nname = 'a'\ncontext = 'nowhere'\n", "a: context: expected a folder, found none at"),
        ("[[services]]\nname = 'a'\ncontext = '.'\n", "a: dockerfile: expected a file, found none at"),
        ("[target]\npython = '3.11'\n[[services]]\nname = 'a'\ncontext = '.'\n", "target.platform: missing"),
    ],
)
def test_a_wrong_project_file_names_file_key_and_what_was_expected(run, text, said):
    run.write("wheelcache.toml", text)
    ran = run("sync")
    assert ran.code == 2, ran
    assert said in ran.err
    assert "\nhint: " in ran.err
    assert not ran.out


def test_a_missing_project_file(run):
    run("--config", "no.toml", "sync").shows("""\
exit 2
-- stderr
error: no.toml: expected a project file, found none
hint: create wheelcache.toml, or name the right file with --config
""")


def test_a_project_file_that_is_no_text(run):
    (run.cwd / "wheelcache.toml").write_bytes(b"\xff\xfe\x00")
    ran = run("sync")
    assert ran.code == 2
    assert "wheelcache.toml: cannot be read" in ran.err


def test_the_project_file_is_searched_upwards_and_paths_are_relative_to_it(project):
    below = project.cwd / "one" / "deep"
    below.mkdir()
    ran = project("lock", "--check", cwd=below)
    assert ran.code == 0, ran


def test_pyprojects_table_serves_as_well(run, index):
    run.service("one", "gamma")
    run.declare("one", index=index)
    text = (run.cwd / "wheelcache.toml").read_text()
    (run.cwd / "wheelcache.toml").unlink()
    text = text.replace("[[", "[[tool.wheelcache.").replace("[target]", "[tool.wheelcache.target]")
    run.write("pyproject.toml", text)
    ran = run("lock")
    assert ran.code == 0, ran
    assert (run.cwd / "pylock.one.toml").is_file()


def test_an_events_file_that_cannot_be_written(project):
    project("sync", "--events", "no/such/file").shows("""\
exit 2
-- stderr
error: --events no/such/file: cannot be written: [Errno 2] No such file or directory: 'no/such/file'
hint: name a writable file
""")


def test_a_compose_file_that_is_missing(run):
    run("lock", "--file", "compose.yml").shows("""\
exit 2
-- stderr
error: [HOME]/project/compose.yml: expected a file, found none
hint: correct `compose` in the project file, or --file
""")
