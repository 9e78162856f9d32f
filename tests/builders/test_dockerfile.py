from __future__ import annotations

from pathlib import Path

import pytest
from support.samplecontexts import samples

from builders.dockerfile import Base, decode_dockerfile, parse_dockerfile
from builders.expansion import ExpansionError, expand
from builders.instructions import DockerfileSyntaxError, Flag
from builders.stages import resolve_stages
from wheelcache.errors import ExitCode

SAMPLES = Path(__file__).parent / "dockerfiles"


def sample(name: str) -> str:
    return (SAMPLES / f"{name}.Dockerfile").read_bytes().decode()


@pytest.mark.parametrize("path", samples(are_refused=False), ids=lambda path: path.stem)
def test_positions_point_at_the_keyword_and_at_the_end_of_every_instruction(path):
    text = decode_dockerfile(path.read_bytes())
    end = 0
    for instruction in parse_dockerfile(text).instructions:
        assert text[instruction.start : instruction.keyword_end].upper() == instruction.keyword
        assert end <= instruction.start
        assert instruction.keyword_end <= instruction.flags_end <= instruction.end
        assert text.count("\n", 0, instruction.start) + 1 == instruction.line
        assert text.count("\n", 0, instruction.end) + 1 == instruction.end_line
        assert text[instruction.end : instruction.end + 1] in {"", "\n", "\r"}
        end = instruction.end


def test_comments_and_blank_lines_inside_a_continuation_are_left_out():
    text = "FROM a\nRUN pip install \\\n  torch \\\n  # why\n\n  flask\nUSER b\n"
    run = parse_dockerfile(text).instructions[1]
    assert run.body.split() == ["pip", "install", "torch", "flask"]
    assert (run.line, run.end_line) == (2, 6)


def test_a_backtick_escapes_where_the_directive_says_so_and_the_bom_is_no_part_of_it():
    dockerfile = parse_dockerfile(sample("crlf_bom_backtick"))
    assert dockerfile.escape == "`"
    assert [each.keyword for each in dockerfile.instructions] == ["FROM", "WORKDIR", "RUN"]
    assert dockerfile.instructions[2].body.split() == ["pip", "install", "torch", "flask"]


def test_two_escape_characters_at_the_line_end_continue_nothing():
    dockerfile = parse_dockerfile("FROM a\nRUN echo \\\\\nRUN b\n")
    assert [each.body for each in dockerfile.instructions[1:]] == ["echo \\\\", "b"]


def test_a_comment_before_them_ends_the_directives():
    dockerfile = parse_dockerfile("# hello\n# escape=`\nFROM a\nRUN x \\\n y\n")
    assert dockerfile.directives == ()
    assert dockerfile.instructions[1].body == "x  y"


def test_flags_are_read_with_their_quotes_removed_and_end_at_the_first_other_word():
    text = 'FROM a\nRUN --mount="type=bind,source=x y,target=/z" --network=none \\\n --security=insecure ls --all\n'
    run = parse_dockerfile(text).instructions[1]
    assert run.flags == (
        Flag(name="mount", value="type=bind,source=x y,target=/z"),
        Flag(name="network", value="none"),
        Flag(name="security", value="insecure"),
    )
    assert run.body == "ls --all"


def test_heredocs_belong_to_their_instruction_tabs_stripped_and_quoting_remembered():
    copy, run, plain = parse_dockerfile(sample("heredoc")).instructions[1:4]
    assert [(each.name, each.content, each.expands) for each in copy.heredocs] == [
        ("reqs.txt", "torch==2.8.0\nflask\n", True),
        ("extra.txt", "gunicorn\n", False),
    ]
    assert run.heredocs[0].content.startswith("set -eux\n# a comment\npip install")
    assert run.body == "<<-EOF"
    assert plain.heredocs[0].content == 'print("RUN pip is only text here")\n'


def test_the_exec_form_is_a_json_list_of_strings_and_anything_else_is_shell():
    text = 'FROM a\nRUN ["pip", "install"]\nRUN [ -f x ] && y\nRUN ["a"\n'
    forms = [each.exec_form for each in parse_dockerfile(text).instructions[1:]]
    assert forms == [("pip", "install"), None, None]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FROM a\nRUNN x\n", "api/Dockerfile:2: expected an instruction, found 'RUNN'"),
        ("FROM a\n \\\n\n# b\n", "api/Dockerfile:2: expected an instruction, found ''"),
        ("\n\nRUN x\n", "api/Dockerfile:3: expected FROM before RUN"),
        ("# nothing\n", "api/Dockerfile:1: expected a FROM, found none"),
        ("FROM a\nUSER\n", "api/Dockerfile:2: USER: expected arguments, found none"),
        (
            "FROM a\n\nRUN <<X\npip\n",
            "api/Dockerfile:3: expected the heredoc to end with a line X, found the file's end",
        ),
        ("# escape=x\nFROM a\n", "api/Dockerfile:1: escape: expected \\ or `, found 'x'"),
        ("FROM a b\n", "api/Dockerfile:1: FROM: expected IMAGE or IMAGE AS NAME, found 'a b'"),
        ("FROM $NOPE\n", "api/Dockerfile:1: FROM $NOPE: expected an image, found none after expansion"),
        ("FROM a\nSHELL bash\n", 'api/Dockerfile:2: SHELL: expected a JSON list such as ["/bin/bash", "-c"]'),
        ("FROM a\nENV A=1 B\n", "api/Dockerfile:2: ENV: expected NAME=VALUE, found 'B'"),
        pytest.param(
            f"FROM a\n#{'é' * 32767}\r\n",
            "api/Dockerfile:2: expected a line of 65535 bytes at most, found 65536",
            id="long line",
        ),
    ],
)
def test_what_buildkit_would_refuse_is_refused_with_file_and_line(text, message):
    with pytest.raises(DockerfileSyntaxError) as caught:
        resolve_stages(parse_dockerfile(text, file="api/Dockerfile"))
    assert caught.value.message == message
    assert caught.value.exit_code == ExitCode.USAGE


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("$V-x", "one-x"),
        ("${V}x", "onex"),
        ("${NO:-d}", "d"),
        ("${NO-d}", "d"),
        ("${EMPTY:-d}", "d"),
        ("${EMPTY-d}", ""),
        ("${V:+x}", "x"),
        ("${NO:+x}", ""),
        ("${NO:-${V}}", "one"),
        ("\\$V", "$V"),
        ("'$V'", "$V"),
        ('"$V y"', "one y"),
        ("${V%e}", "on"),
        ("${FILE##*/}", "c.txt"),
        ("${FILE#*/}", "b/c.txt"),
        ("${V/n/N}", "oNe"),
        ("a$", "a$"),
        ("it''s", "its"),
    ],
)
def test_words_expand_as_buildkit_does(word, expected):
    values = {"V": "one", "EMPTY": "", "FILE": "a/b/c.txt"}
    assert expand(word, values.get).text == expected


def test_variables_without_value_are_named():
    assert expand("$A-${B}-${C:-x}", {}.get).unknown == ("A", "B")


def test_a_word_nested_without_an_end_in_sight_is_refused():
    with pytest.raises(ExpansionError, match="nested deeper than anybody writes by hand"):
        expand("${A:-" * 3000 + "x" + "}" * 3000, {}.get)


def test_from_expands_global_arguments_and_build_arguments_win():
    text = "ARG V=3.11\nARG IMAGE=python:${V}-slim\nFROM ${IMAGE} AS Base\nFROM base AS two\nFROM two\n"
    stages = resolve_stages(parse_dockerfile(text))
    assert [stage.base for stage in stages.stages] == ["python:3.11-slim", "base", "two"]
    assert stages.chain(2) == (2, 1, 0)
    assert stages.external_base(2) == "python:3.11-slim"
    assert resolve_stages(parse_dockerfile(text), build_args={"V": "3.12"}).external_base(2) == "python:3.12-slim"


def test_platform_arguments_are_known_in_from_without_a_declaration():
    stages = resolve_stages(parse_dockerfile("FROM base-$TARGETARCH\n"), platform="linux/arm64")
    assert stages.stages[0].base == "base-arm64"


def test_a_global_argument_reaches_a_stage_only_when_it_is_declared_there():
    text = "ARG V=1\nFROM a\nRUN x\nARG V\nRUN y\n"
    steps = resolve_stages(parse_dockerfile(text)).stages[0].steps
    assert [step.setting.lookup("V") for step in steps] == [None, None, "1"]


def test_env_wins_over_arg_and_is_inherited_with_workdir_user_and_shell():
    text = (
        "FROM a AS b\nENV V=env P=/x:$P\nARG V=arg\nWORKDIR /srv\nWORKDIR app\nUSER me\n"
        'SHELL ["/bin/bash", "-c"]\nFROM b\nRUN x\n'
    )
    setting = resolve_stages(parse_dockerfile(text), bases={"a": Base(env={"P": "/bin"})}).stages[1].steps[0].setting
    assert setting.lookup("V") == "env"
    assert setting.lookup("P") == "/x:/bin"
    assert (setting.workdir, setting.user, setting.shell) == ("/srv/app", "me", ("/bin/bash", "-c"))
    assert setting.knows_base


def test_the_old_form_of_env_takes_the_rest_of_the_line():
    step = resolve_stages(parse_dockerfile("FROM a\nENV KEY some value\nRUN x\n")).stages[0].steps[1]
    assert step.setting.env == {"KEY": "some value"}


def test_only_stages_the_final_one_is_made_from_matter():
    text = (
        "FROM a AS unused\nFROM a AS tools\nFROM a AS deps\nFROM a AS wheels\nFROM deps\n"
        "COPY --from=1 /t /t\nRUN --mount=type=bind,from=wheels,target=/w x\n"
    )
    dockerfile = parse_dockerfile(text)
    assert resolve_stages(dockerfile).needed() == (1, 2, 3, 4)
    assert resolve_stages(dockerfile, target="deps").needed() == (2,)
    assert resolve_stages(dockerfile, target="0").final == 0


def test_a_target_that_names_no_stage_is_an_error_that_lists_them():
    with pytest.raises(DockerfileSyntaxError, match="target: expected one of one, 1, found 'two'"):
        resolve_stages(parse_dockerfile("FROM a AS one\nFROM b\n"), target="two")
