from __future__ import annotations

import pytest

from wheelcache.requirements import Wish, classify, parse_requirements


@pytest.mark.parametrize(
    ("word", "kind", "text"),
    [
        ("torch==2.8.0", "named", "torch==2.8.0"),
        ("uvicorn[standard] >=0.2", "named", "uvicorn[standard]>=0.2"),
        ("x; python_version < '3.12'", "named", 'x; python_version < "3.12"'),
        (".", "local", "."),
        ("./pkg", "local", "./pkg"),
        ("/src/pkg", "local", "/src/pkg"),
        ("file:///src/pkg", "local", "/src/pkg"),
        ("x @ file:///src/pkg", "local", "/src/pkg"),
        ("/wheels/*.whl", "archive", "/wheels/*.whl"),
        ("x-1.0-py3-none-any.whl", "archive", "x-1.0-py3-none-any.whl"),
        ("./x-1.0.tar.gz", "archive", "./x-1.0.tar.gz"),
        ("git+https://h/x.git", "vcs", "git+https://h/x.git"),
        ("x @ git+https://h/x.git", "vcs", "x@ git+https://h/x.git"),
        ("https://h/x.whl", "url", "https://h/x.whl"),
        ("a b", "invalid", "a b"),
    ],
)
def test_a_requirement_is_told_by_the_rules_of_pip(word, kind, text):
    wish = classify(word)
    assert (wish.kind, wish.text.replace(" @ ", "@ ")) == (kind, text)


def test_extras_of_a_local_project_are_kept():
    assert classify("./pkg[dev, gpu]", editable=True) == Wish(
        kind="local", text="./pkg", extras=("dev", "gpu"), editable=True
    )


def test_a_requirements_file_is_read_with_comments_continuations_and_options():
    read = parse_requirements(
        """\ufeff# all
--index-url https://one/simple
--extra-index-url=https://two/simple
-f ./wheels
--pre
torch==2.8.0 ; python_version > "3" # why
flask \\
    --hash=sha256:aa \\
    --hash=sha256:bb
-r other.txt
-cconstraints.txt
-e ./pkg[dev]
plain#notacomment
"""
    )
    assert read.requirements == ('torch==2.8.0; python_version > "3"', "flask")
    assert (read.includes, read.constraints) == (("other.txt",), ("constraints.txt",))
    assert (read.index_url, read.extra_index_urls) == ("https://one/simple", ("https://two/simple",))
    assert read.find_links == ("./wheels",)
    assert (read.pre, read.hashes, read.no_index) == (True, True, False)
    assert read.local_projects == (Wish(kind="local", text="./pkg", extras=("dev",), editable=True),)
    assert read.unlockable == ("'plain#notacomment' is no requirement (PEP 508)",)


def test_a_comment_ends_a_continuation_as_in_pip():
    assert parse_requirements("flask \\\n# comment\ntorch\n").requirements == ("flask", "torch")


def test_what_no_index_serves_is_named_without_credentials():
    read = parse_requirements("git+https://user:secret@h/x.git\nx @ https://user:secret@h/x.whl\n")
    assert read.unlockable == (
        "git+https://h/x.git comes from version control: name a release, or COPY a wheel of it",
        "x @ https://h/x.whl is a URL, outside every index: name a release, or COPY a wheel of it",
    )


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        ("--no-binary lxml\n--no-binary=numpy,scipy", "lxml,numpy,scipy"),
        ("--no-binary lxml,:none:,numpy", "numpy"),
        ("--no-binary :all:", ":all:"),
        ("--no-binary lxml\n--no-binary :none:", ""),
        ("--only-binary :all:", ""),
    ],
)
def test_what_is_to_be_built_from_source_is_named(lines, named):
    sentence = f"--no-binary {named} builds from source: leave it out, or build the wheel before, and COPY it"
    assert parse_requirements(f"{lines}\ntorch\n").unlockable == ((sentence,) if named else ())


def test_options_that_are_not_pips_are_kept_apart():
    assert parse_requirements("--what ever\ntorch\n").unknown_options == ("--what ever",)
