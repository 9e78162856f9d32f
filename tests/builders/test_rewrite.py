from __future__ import annotations

import subprocess

import pytest
from support.samplecontexts import samples
from support.wheels import make_wheel

from builders.dockerfile import decode_dockerfile, parse_dockerfile
from builders.installs import find_installs
from builders.pipconf import pip_conf
from builders.rewrite import Rewritten, rewrite_dockerfile

WHEELS = "--mount=type=bind,from=wheelcache-wheels,source=/svc,target=/wheelcache"
PIP = "--mount=type=bind,from=wheelcache-wheels,source=/etc/pip.conf,target=/etc/pip.conf"
UV = "--mount=type=bind,from=wheelcache-wheels,source=/etc/uv/uv.toml,target=/etc/uv/uv.toml"
PIP_SECRET = "--mount=type=secret,id=wheelcache-pip,target=/etc/pip.conf,required=true,mode=0444"
UV_SECRET = "--mount=type=secret,id=wheelcache-uv,target=/etc/uv/uv.toml,required=true,mode=0444"


def rewrite(text: str, **options) -> Rewritten:
    dockerfile = parse_dockerfile(text)
    installs = find_installs(dockerfile).installs
    return rewrite_dockerfile(
        dockerfile, installs, wheels_context="wheelcache-wheels", source_of=lambda _: "/svc", **options
    )


def restored(rewritten: Rewritten) -> str:
    """Takes the inserted words out again."""
    text = rewritten.text
    for insertion in rewritten.insertions:
        at = insertion.offset
        assert text[at : at + len(insertion.words)] == insertion.words
        text = text[:at] + text[at + len(insertion.words) :]
    return text


@pytest.mark.parametrize("path", samples(are_refused=False), ids=lambda path: path.stem)
def test_taking_the_inserted_words_out_gives_back_every_byte(path):
    text = decode_dockerfile(path.read_bytes())
    rewritten = rewrite(text)
    assert restored(rewritten) == text
    before, after = parse_dockerfile(text).instructions, parse_dockerfile(rewritten.text).instructions
    assert [(each.keyword, each.body, each.heredocs) for each in after] == [
        (each.keyword, each.body, each.heredocs) for each in before
    ]
    changed = [new.index for old, new in zip(before, after, strict=True) if old.flags != new.flags]
    assert changed == [each.instruction for each in rewritten.insertions]


def test_a_sealed_run_gets_no_network_its_wheels_and_its_configuration():
    assert rewrite("FROM a\nRUN pip install x\n").text == f"FROM a\nRUN --network=none {WHEELS} {PIP} pip install x\n"


def test_a_run_of_both_tools_gets_both_configurations():
    text = rewrite("FROM a\nRUN pip install uv && \\\n  uv pip install --system x\n").text
    assert text == f"FROM a\nRUN --network=none {WHEELS} {PIP} {UV} pip install uv && \\\n  uv pip install --system x\n"


def test_the_network_stays_where_the_run_needs_it_or_the_user_chose_one_or_the_build_is_online():
    assert f"RUN {WHEELS} {PIP} apt-get" in rewrite("FROM a\nRUN apt-get update && pip install x\n").text
    assert f"RUN {WHEELS} {PIP} --network=host" in rewrite("FROM a\nRUN --network=host pip install x\n").text
    assert f"RUN {WHEELS} {PIP_SECRET} pip" in rewrite("FROM a\nRUN pip install x\n", sealed=False).text


def test_the_configuration_of_an_online_build_is_a_secret_since_it_may_hold_credentials():
    text = rewrite("FROM a\nRUN pip install uv && uv pip install --system x\n", sealed=False).text
    assert text == f"FROM a\nRUN {WHEELS} {PIP_SECRET} {UV_SECRET} pip install uv && uv pip install --system x\n"


def test_offline_takes_the_network_even_from_a_run_that_wants_it():
    rewritten = rewrite("FROM a\nRUN apt-get update && pip install x\n", offline=True)
    assert f"RUN --network=none {WHEELS} {PIP} apt-get" in rewritten.text
    assert rewritten.insertions[0].sealed


def test_runs_without_an_install_onbuild_and_unneeded_stages_stay_as_they_are():
    text = "FROM a AS unused\nRUN pip install y\nFROM a\nONBUILD RUN pip install x\nRUN ls\nRUN pip config list\n"
    assert rewrite(text) == Rewritten(text=text, insertions=())


def test_a_run_that_mounts_the_wheels_itself_stays_as_it_is():
    text = "FROM a\nRUN --mount=type=bind,source=w,dst=/wheelcache/ pip install --find-links /wheelcache x\n"
    assert rewrite(text) == Rewritten(text=text, insertions=(), untouched=(2,))


def test_a_configuration_that_the_user_mounts_is_not_mounted_twice():
    text = "FROM a\nRUN --mount=type=secret,id=mine,target=/etc/pip.conf pip install x\n"
    assert PIP not in rewrite(text).text
    assert PIP_SECRET not in rewrite(text, sealed=False).text


def test_words_go_after_a_keyword_whose_arguments_begin_on_the_next_line():
    rewritten = rewrite("FROM a\nrun\\\n  pip install x\n")
    assert rewritten.text == f"FROM a\nrun --network=none {WHEELS} {PIP}\\\n  pip install x\n"
    assert parse_dockerfile(rewritten.text).instructions[1].body == "pip install x"


def test_the_syntax_line_is_dropped_whole_so_that_escape_still_counts():
    text = "# syntax=docker/dockerfile:1.7-labs\n# escape=`\nFROM a\nRUN pip install `\n  x\n"
    rewritten = rewrite(text, drop_syntax=True)
    assert rewritten.dropped == "# syntax=docker/dockerfile:1.7-labs\n"
    assert rewritten.text.startswith("# escape=`\nFROM a\nRUN --network=none")
    assert parse_dockerfile(rewritten.text).escape == "`"


def test_two_folders_for_one_run_are_refused():
    dockerfile = parse_dockerfile("FROM a\nRUN pip install x && pip install y\n")
    with pytest.raises(ValueError, match="line 2: expected one folder of wheels for a RUN"):
        rewrite_dockerfile(
            dockerfile,
            find_installs(dockerfile).installs,
            wheels_context="wheelcache-wheels",
            source_of=lambda install: f"/{install.requirements[0]}",
        )


def test_a_context_that_a_stage_is_named_after_is_refused():
    with pytest.raises(ValueError, match="expected a name that no stage has, found 'wheelcache-wheels'"):
        rewrite("FROM a AS WheelCache-wheels\nRUN pip install x\n")


@pytest.mark.engine
def test_sealed_installs_of_every_form_find_their_wheels_and_no_network(tmp_path):
    text = """FROM python:3.11-slim
RUN test "$(ls /sys/class/net)" = lo && pip install one \\
  # comment
  && pip check
RUN ["pip", "install", "--user", "two"]
RUN <<EOF
set -eux
python3 -m pip install --prefix=/p --index-url http://127.0.0.1:9/simple three
EOF
RUN useradd -m app
USER app
RUN pip install --user four && pip freeze --user
"""
    context, wheels = tmp_path / "rewrite-context", tmp_path / "rewrite-wheels"
    context.mkdir()
    (wheels / "svc").mkdir(parents=True)
    names = ["one", "two", "three", "four"]
    for name in names:
        wheel = make_wheel(name)
        (wheels / "svc" / wheel.filename).write_bytes(wheel.data)
    (wheels / "svc" / "constraints.txt").write_text("".join(f"{name}==1.0\n" for name in names))
    (tmp_path / "Dockerfile").write_text(rewrite(text).text)
    (wheels / "etc").mkdir()
    (wheels / "etc" / "pip.conf").write_text(pip_conf(sealed=True, timeout=5))
    command = ["docker", "buildx", "build", "--progress=plain", "--no-cache", "--output=type=cacheonly"]
    command += ["-f", tmp_path / "Dockerfile"]
    command += [f"--build-context=wheelcache-wheels={wheels}", context]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr
    assert [name for name in names if f"Successfully installed {name}-1.0" in run.stderr] == names
