from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from builders.dockerfile import parse_dockerfile
from builders.installs import find_installs
from builders.instructions import DockerfileSyntaxError
from builders.rewrite import rewrite_dockerfile
from builders.shell import read_script
from wheelcache.requirements import parse_requirements

INSTALLS = ["pip install x", "pip3 install -r r.txt", "uv pip install --system y", "python -m pip install '.[a]'"]
OTHERS = ["echo 'a b'", "apt-get update", "cd /x", "$V", "${V:-x}", "$(pip install z)", "--mount=type=cache,target=/c"]
MARKS = [
    "--network=none",
    "é",
    "# x",
    "\\\\",
    "'",
    '"',
    ";",
    "|",
    "(",
    ")",
    "if",
    "then",
    "fi",
    "{",
    "}",
    "<<",
    "case",
    "esac",
    ">",
]
PIECES = st.sampled_from([*INSTALLS, *OTHERS, *MARKS])
BLANK = st.sampled_from([" ", "  ", "\t", " \\\n", " \\\n  # a comment\n", " \\  \n\n", "\\\n "])
JOINS = st.sampled_from([" && ", " || ", "; ", " ", " \\\n && "])
INDENT = st.sampled_from(["", " ", "\t"])
LINE_END = st.sampled_from(["\n", "\r\n", "\n\n", "\n# comment\n"])


@st.composite
def runs(draw) -> str:
    keyword = draw(st.sampled_from(["RUN", "run", "Run", "ONBUILD RUN"]))
    kind = draw(st.sampled_from(["shell", "heredoc", "exec"]))
    if kind == "exec":
        return f'{keyword} ["pip", "install", "x y"]'
    if kind == "heredoc":
        body = "\n".join(draw(st.lists(PIECES, max_size=4)))
        return f"{keyword} <<'EOF'\n{body}\nEOF"
    pieces = draw(st.lists(PIECES, min_size=1, max_size=5))
    text = pieces[0]
    for piece in pieces[1:]:
        text += draw(JOINS) + piece
    return keyword + draw(BLANK) + text


@st.composite
def dockerfiles(draw) -> str:
    head = draw(st.sampled_from(["", "\ufeff", "# syntax=docker/dockerfile:1\n", "# escape=\\\n", "\n# hello\n"]))
    others = st.sampled_from(
        ["WORKDIR /app", "COPY . .", "USER app", "ENV V=1", "ARG W", "FROM b AS c", "COPY a b /d/"]
    )
    lines = ["FROM a AS b", *draw(st.lists(st.one_of(runs(), others), max_size=8))]
    return head + "".join(draw(INDENT) + line + draw(LINE_END) for line in lines)


@given(dockerfiles(), st.booleans(), st.booleans())
def test_a_rewrite_changes_nothing_but_the_words_it_puts_in(text, sealed, drop_syntax):
    try:
        dockerfile = parse_dockerfile(text)
    except DockerfileSyntaxError:
        return
    installs = find_installs(dockerfile).installs
    rewritten = rewrite_dockerfile(
        dockerfile, installs, wheels_context="w", source_of=lambda _: "/s", sealed=sealed, drop_syntax=drop_syntax
    )
    plain = rewritten.text
    start = text.find(rewritten.dropped)
    for insertion in rewritten.insertions:
        at = insertion.offset - len(rewritten.dropped)
        assert plain[at:].startswith(insertion.words)
        plain = plain[:at] + plain[at + len(insertion.words) :]
    assert plain[:start] + rewritten.dropped + plain[start:] == text
    again = parse_dockerfile(rewritten.text)
    assert [(each.keyword, each.body) for each in again.instructions] == [
        (each.keyword, each.body) for each in dockerfile.instructions
    ]
    assert [each.requirements for each in find_installs(again).installs] == [each.requirements for each in installs]


@given(dockerfiles())
def test_instructions_lie_one_after_the_other_in_the_text(text):
    try:
        dockerfile = parse_dockerfile(text)
    except DockerfileSyntaxError:
        return
    end = 0
    for instruction in dockerfile.instructions:
        assert end <= instruction.start < instruction.keyword_end <= instruction.end
        assert text[instruction.start : instruction.keyword_end].upper() == instruction.keyword
        end = instruction.end


@given(st.lists(st.one_of(PIECES, JOINS, st.text(max_size=5)), max_size=12).map("".join))
def test_any_text_at_all_can_be_read_as_shell(text):
    script = read_script(text, environment={"V": "1"}, cwd="/")
    assert all(command.words for command in script.commands)


@given(st.text())
def test_any_text_at_all_can_be_read_as_requirements(text):
    read = parse_requirements(text)
    assert all(isinstance(each, str) for each in read.requirements)


@given(st.text())
def test_any_text_at_all_is_a_dockerfile_or_a_syntax_error(text):
    try:
        dockerfile = parse_dockerfile(text)
    except DockerfileSyntaxError:
        return
    assert find_installs(dockerfile).stages.stages
