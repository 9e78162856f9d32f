from __future__ import annotations

import pytest

from builders.shell import read_script, read_words
from builders.shellcommand import Files, Script


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
        ("V=$MANY; pip install $V", ["a", "b", "c==1"]),
        ("P=(a 'b c' $TV); pip install \"${P[@]}\" -q", ["a", "b c", "2.8", "-q"]),
        ('P=(a); P+=(b c); pip install "${P[@]}"', ["a", "b", "c"]),
        ("P=(\n a # one\n b\n) && pip install ${P[*]}", ["a", "b"]),
        ("pip install torch==${TV:0:1}.${TV:2}", ["torch==2.8"]),
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


def test_the_body_of_a_loop_over_known_words_is_read_for_each_of_them():
    commands = read("for p in a $TWO; do pip install $p; done", TWO="b c").commands
    assert [(each.words[2].text, each.is_sure, each.condition) for each in commands] == [
        ("a", True, ""),
        ("b", True, ""),
        ("c", True, ""),
    ]


@pytest.mark.parametrize("words", ["$(ls)", "*.txt", "$NOPE"])
def test_the_variable_of_a_loop_over_unknown_words_is_not_known_but_its_body_runs(words):
    one, two = (
        each
        for each in read(f"for p in {words}; do pip install $p; pip install x; done").commands
        if each.name == "pip"
    )
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
        ("until x; do pip install a; done", "it stands in a while loop"),
        ("f() { pip install a; }; f", ""),
        ("function f { pip install a; }; if x; then f; fi", "it stands in an if"),
        ("f() { y; }; pip install a", ""),
        ("[ -f r ] && pip install a", ""),
        ("[ -f r ] && pip install a; y", "it depends on a test"),
        ("[ -f r ] || exit 1; pip install a", ""),
        ("[ -f r ] || { y; exit 1; } && pip install a; z", ""),
        ("f() { y; exit 1; }; [ -f r ] || f && pip install a; z", ""),
        ("[ -f r ] && exit 2 || pip install a; z", ""),
        ("[ -f r ] || (y; exit 1) && pip install a; z", "it depends on a test"),
        ("[ -f r ] || y | exit 1 && pip install a; z", "it depends on a test"),
        ("[ -f r ] || exit 0 && pip install a; z", "it depends on a test"),
        ("[ -f r ] || exit $V && pip install a; z", "it depends on a test"),
        ("if x; then exit 0; fi; pip install a", "the script may have ended before"),
        ("if x; then exit 1; fi; pip install a", ""),
        ("f() { return; }; f; pip install a", ""),
        ("for i in 1 2; do x && break; done; pip install a", ""),
    ],
)
def test_what_may_not_run_says_why(text, condition):
    command = next(each for each in read(text).commands if each.name == "pip")
    assert command.condition == condition


@pytest.mark.parametrize(
    ("text", "runs"),
    [
        ('if [ "$V" = one ]; then pip install a; fi', True),
        ('if [ "$V" != one ]; then pip install a; fi', False),
        ("if test $V == two; then y; else pip install a; fi", True),
        ("if test $V == two; then y; elif [ $V = one ]; then pip install a; else y; fi", True),
        ('if [[ "$V" == o* && -n $V ]]; then pip install a; fi', True),
        ('if [[ "$V" == "o*" || ! -n $V ]]; then pip install a; fi', False),
        ("[ -z $V ] && pip install a; y", False),
        ("[ -z $V ] || pip install a", True),
        ("true || pip install a", False),
        ("false || pip install a", True),
        ("if [ 3 -ge 12 ]; then pip install a; fi", False),
        ("if [ ! \\( a = b \\) -a c = c ]; then pip install a; fi", True),
        ("case $V in two|t*) y ;; o??) pip install a ;; *) y ;; esac", True),
        ("case $V in two) pip install a ;; esac", False),
        ("while false; do pip install a; done", False),
        ("while true; do pip install a && break; done", True),
        ("if [ -f /there ]; then pip install a; fi", True),
        ("exit 0; pip install a", False),
        ("if [ $(true) = x ]; then pip install a; fi", None),
        ("if [ = x ]; then pip install a; fi", False),
        ('if echo "$V" | grep -q "^o.e"; then pip install a; fi', True),
        ("if echo $V | grep -qF o.e; then pip install a; else y; fi", False),
    ],
)
def test_what_known_values_decide_is_decided(text, runs):
    files = Files(exists=lambda path: True if path == "/there" else None)
    script = read_script(text, environment={"V": "one"}, cwd="/", files=files)
    found = [each.condition for each in script.commands if each.name == "pip"]
    assert found == {True: [""], False: [], None: ["it stands in an if"]}[runs]


def test_a_variable_set_where_it_may_not_be_is_not_known_afterwards():
    text = "V=1; W=1; if x; then V=2; cd /y; fi; pip install $V $W"
    command = read(text).commands[-1]
    assert [word.sure for word in command.words] == [True, True, False, True]
    assert command.cwd is None


@pytest.mark.parametrize(
    "text", ["sh s/setup.sh", "bash -ex ./s/setup.sh", "s/setup.sh", "cd s && . ./setup.sh", "sudo /app/s/setup.sh x"]
)
def test_a_script_whose_text_is_known_is_read_where_it_runs(text):
    texts = {
        "/app/s/setup.sh": "#!/usr/bin/env bash\nset -e\npip install a\n",
        "/app/s/run.py": "#!/usr/bin/python3\npip install b\n",
    }
    script = read_script(f"{text}; s/run.py", environment={}, cwd="/app", files=Files(text=texts.get))
    assert [[word.text for word in each.words] for each in script.commands if each.name == "pip"] == [
        ["pip", "install", "a"]
    ]


def test_a_script_that_runs_itself_is_read_no_deeper_than_makes_sense():
    script = read_script("/s.sh", environment={}, cwd="/", files=Files(text=lambda _: "pip install a; /s.sh"))
    assert 1 < len(script.commands) < 20


def test_loops_and_functions_that_multiply_are_not_followed_to_their_end():
    loops = "for i in 1 2 3 4 5 6 7 8 9; do " * 7 + "pip install x$i; " + "done; " * 7
    assert 1000 < len(read(loops).commands) < 5000
    assert 1000 < len(read("f() { true; f; f; f; f; }; f").commands) < 5000


def test_a_function_knows_its_arguments():
    commands = read('f() { pip install "x==$1" $2; }; f 1 y; f $(cat v)').commands
    words = [[word.text for word in each.words[2:] if word.sure] for each in commands if each.name == "pip"]
    assert words == [["x==1", "y"], []]


@pytest.mark.parametrize(
    ("text", "installed"),
    [
        ('f() { "$@" || { sleep 5; "$@"; }; }; f pip install a "b c"', ["a", "b c"]),
        ('f() { n=$1; shift; for i in 1 2; do "$@" && return; sleep $n; done; }; f 9 pip install a', ["a"]),
        ('f() { sh -c "$*"; }; f pip install a b', ["a", "b"]),
        ("f() { pip install ${3:-a}; }; f x y", ["a"]),
        ("f() { shift 2; pip install $1; }; f x y a", ["a"]),
        ('set -- a b; pip install "$@"', ["a", "b"]),
        ("f() { y; }; set -- a; f b; pip install $1", ["a"]),
        ('f() { pip install "$@"; }; f a $(cat v)', None),
        ('f() { shift $1; pip install "$@"; }; f $(cat v) a', None),
    ],
)
def test_a_function_hands_its_arguments_on(text, installed):
    command = next(each for each in read(text).commands if each.name == "pip")
    assert ([word.text for word in command.words[2:]] if command.is_sure else None) == installed


def test_a_pipe_leaves_the_shell_as_it_was_and_tells_what_feeds_a_command():
    curl, python, pip = read("curl u | (cd /x; python -); pip install y").commands
    assert (curl.feeding, [word.text for word in python.feeding]) == ((), ["curl", "u"])
    assert pip.cwd == "/app"


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
    assert read("eval $NOPE pip").unread == (" pip",)


def test_what_eval_runs_is_read_where_it_is_known():
    assert pip_calls('eval "pip install $V"', V="x y") == [["pip", "install", "x", "y"]]


def test_the_exec_form_expands_nothing():
    (command,) = read_words(("pip", "install", "$X;y"), environment={}, cwd="/").commands
    assert [word.text for word in command.words] == ["pip", "install", "$X;y"]
    assert command.is_sure


def test_echo_of_a_pip_command_is_no_pip_command():
    assert pip_calls("echo pip install x && printf 'pip install y'") == []
