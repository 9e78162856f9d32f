from __future__ import annotations

import pytest

from builders.shell import Script, read_script, read_words


def read(text: str, **environment: str) -> Script:
    return read_script(text, environment={"PATH": "/usr/bin", **environment}, cwd="/app")


def pip_calls(text: str, **environment: str) -> list[list[str]]:
    commands = read(text, **environment).commands
    return [[word.text for word in each.words] for each in commands if each.name == "pip"]


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("pip install 'torch==$TV' \"x==$TV\"", ["torch==$TV", "x==2.8"]),
        ("pip install $MANY", ["a", "b", "c==1"]),
        ('pip install "$MANY"', ["a b c==1"]),
        ("pip install x # not y", ["x"]),
        ("pip install x#y", ["x#y"]),
        ("pip install a \\\n  b \\\n  c", ["a", "b", "c"]),
        ("pip install torch${TV:+==$TV} ${NOPE:-flask}", ["torch==2.8", "flask"]),
        ("pip install 'a>=1' b\\>=2", ["a>=1", "b>=2"]),
        ("set -eux; pip install x", ["x"]),
        ("sudo -H -u app pip install x", ["x"]),
        ("env -u B A=1 pip install x", ["x"]),
        ("exec timeout -k 3 300 nice -n 5 pip install x", ["x"]),
        ("gosu app pip install x", ["x"]),
        ("sh -c 'pip install \"x==$TV\"'", ["x==2.8"]),
        ("bash -euxo pipefail -c 'pip install x'", ["x"]),
        ("bash -e <<E\npip install x\nE\n", ["x"]),
        ("su app -c 'pip install x'", ["x"]),
        ("{ pip install x; }", ["x"]),
        ("yes | pip install x > /dev/null 2>&1", ["x"]),
        ("V=3; pip install x==$V", ["x==3"]),
        ("export V=3 && pip install x==$V", ["x==3"]),
    ],
)
def test_the_words_of_a_command_are_what_the_program_gets(text, arguments):
    script = read(text, TV="2.8", MANY="a b c==1")
    command = next(each for each in script.commands if each.name == "pip")
    assert [word.text for word in command.words] == ["pip", "install", *arguments]
    assert command.is_sure
    assert (command.condition, command.nested) == ("", "")


@pytest.mark.parametrize(
    "text",
    ["pip install $NOPE", "pip install $(cat x)", "pip install `cat x`", "pip install x==$((1+2))", "pip install $1"],
)
def test_what_only_the_running_script_knows_is_marked_unsure(text):
    command = next(each for each in read(text).commands if each.name == "pip")
    assert not command.is_sure


def test_an_unset_variable_is_empty_and_sure_when_the_whole_environment_is_known():
    script = read_script("pip install x$NOPE", environment={}, cwd="/", complete=True)
    assert [word.text for word in script.commands[0].words] == ["pip", "install", "x"]
    assert script.commands[0].is_sure


def test_a_loop_variable_is_not_known_but_the_body_of_a_for_loop_runs():
    one, two = read("for p in a b; do pip install $p; pip install x; done").commands
    assert not one.is_sure
    assert two.is_sure
    assert two.condition == ""


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("if x; then pip install a; fi", "it stands in an if"),
        ("if x; then y; else pip install a; fi", "it stands in an if"),
        ("if x; then { pip install a; }; fi", "it stands in an if"),
        ("if ! pip install a; then exit 1; fi", ""),
        ("x || pip install a", "it stands after ||"),
        ("x || { y; pip install a; }", "it stands after ||"),
        ("x || y; pip install a", ""),
        ("pip install a || true", ""),
        ("[ -f r ] && pip install a || true", "it depends on a test"),
        ("case $X in a|b) pip install a ;; *) y ;; esac", "it stands in a case"),
        ("case $X in a) y ;; esac; pip install a", ""),
        ("while x; do pip install a; done", "it stands in a while loop"),
        ("until pip install a; do sleep 5; done", ""),
        ("f() { pip install a; }; f", "it stands in a function"),
        ("f() { y; }; pip install a", ""),
    ],
)
def test_what_may_not_run_says_why(text, condition):
    command = next(each for each in read(text).commands if each.name == "pip")
    assert command.condition == condition


def test_a_command_inside_a_substitution_or_behind_xargs_says_so():
    assert next(c for c in read("x=$(pip download y)").commands if c.name == "pip").nested == "$(…)"
    assert next(c for c in read("cat r | xargs -n 1 pip install").commands if c.name == "pip").nested == "xargs"


def test_cd_lasts_until_the_subshell_or_the_script_ends():
    folders = {
        command.words[2].text: command.cwd
        for command in read(
            "(cd /x && pip install a); pip install b; cd s && pip install c; cd $N; pip install d"
        ).commands
    }
    assert folders == {"a": "/x", "b": "/app", "c": "/app/s", "d": None}


def test_activating_a_virtual_environment_changes_path():
    (command,) = read(". venv/bin/activate && pip install x").commands
    assert command.environment["PATH"] == "/app/venv/bin:/usr/bin"
    assert command.environment["VIRTUAL_ENV"] == "/app/venv"


def test_assignments_before_a_command_are_for_that_command_alone():
    one, two = read("PIP_NO_INDEX=1 pip install x; pip install y").commands
    assert one.environment["PIP_NO_INDEX"] == "1"
    assert "PIP_NO_INDEX" not in two.environment


def test_a_here_document_is_no_command_and_its_target_is_a_write():
    cat, pip = read("cat <<E > r.txt\npip install no\nE\npip install yes").commands
    assert [word.text for word in cat.writes] == ["r.txt"]
    assert pip.words[2].text == "yes"


def test_text_for_other_interpreters_is_given_back_unread():
    assert "import os\n" in read("python3 <<E\nimport os\nE\n").unread
    assert read("eval pip install x").unread == ("pip install x",)


def test_the_exec_form_expands_nothing():
    (command,) = read_words(("pip", "install", "$X;y"), environment={}, cwd="/").commands
    assert [word.text for word in command.words] == ["pip", "install", "$X;y"]
    assert command.is_sure


def test_echo_of_a_pip_command_is_no_pip_command():
    assert pip_calls("echo pip install x && printf 'pip install y'") == []
