"""`wheelcache lock` as people run it: what it says, what it writes, what it refuses."""

from __future__ import annotations

import tomllib

import pytest
from support.program import ALPHA, GAMMA, GAMMA_2, TARGET
from support.wheels import make_wheel


def versions(program, service: str) -> dict[str, str]:
    document = tomllib.loads((program.cwd / f"pylock.{service}.toml").read_text())
    return {package["name"]: package["version"] for package in document["packages"]}


def test_services_agree_on_the_versions_that_fit_both(project):
    assert versions(project, "one") == {"alpha": "2.0", "gamma": "1.0"}
    assert versions(project, "two") == {"beta": "1.0", "gamma": "1.0"}


def test_services_that_cannot_agree_are_locked_each_by_itself(run, index):
    run.service("one", "gamma==1.0")
    run.service("two", "gamma==2.0")
    run.declare("one", "two", index=index)
    run("lock").shows("""\
exit 0
-- stdout
one: locked (missing): pylock.one.toml, 1 wheel, 300 kB
two: locked (missing): pylock.two.toml, 1 wheel, 400 kB
-- stderr
resolving one, two together for CPython 3.11.0 on manylinux_2_28_x86_64
locking one for CPython 3.11.0 on manylinux_2_28_x86_64: missing
locking two for CPython 3.11.0 on manylinux_2_28_x86_64: missing
""")


def test_locking_says_what_was_done(run, index):
    run.service("one", "alpha")
    run.declare("one", index=index)
    run("lock").shows("""\
exit 0
-- stdout
one: locked (missing): pylock.one.toml, 2 wheels, 401 kB
-- stderr
locking one for CPython 3.11.0 on manylinux_2_28_x86_64: missing
""")
    run("lock").shows("""\
exit 0
-- stdout
one: unchanged: pylock.one.toml, 2 wheels, 401 kB
""")


def test_a_lockfile_has_sizes_and_no_second_run_is_needed_to_know_them(project):
    document = tomllib.loads((project.cwd / "pylock.one.toml").read_text())
    assert {wheel["size"] for package in document["packages"] for wheel in package["wheels"]} == {
        GAMMA.size,
        make_wheel("alpha", "2.0", requires=("gamma",)).size,
    }


def test_check_tells_fresh_from_stale_and_changes_nothing(project):
    lockfile = project.cwd / "pylock.one.toml"
    before = lockfile.read_bytes()
    assert project("lock", "--check").code == 0
    project.write("one/requirements.txt", "alpha\nnative\n")
    project("lock", "--check").shows("""\
exit 3
-- stdout
one: stale (its requirements, constraints, indexes or options changed): pylock.one.toml, 2 wheels, 301 kB
two: unchanged: pylock.two.toml, 2 wheels, 301 kB
-- stderr
error: stale: pylock.one.toml (its requirements, constraints, indexes or options changed)
hint: run wheelcache lock
""")
    assert lockfile.read_bytes() == before


def test_check_of_what_was_never_locked(run, index):
    run.service("one", "alpha")
    run.declare("one", index=index)
    ran = run("lock", "--check", "--json")
    assert ran.code == 3
    assert ran.document["lockfiles"][0]["state"] == "stale"
    assert ran.document["lockfiles"][0]["reason"] == "missing"


def test_check_and_upgrade_exclude_each_other(project):
    project("lock", "--check", "--upgrade").shows("""\
exit 2
-- stderr
error: --check: changes nothing, so it cannot upgrade
hint: leave out one of the two
""")


def test_a_new_version_is_taken_only_when_asked_for(project, server):
    newer = make_wheel("alpha", "3.0", requires=("gamma",))
    gamma = make_wheel("gamma", "1.5")
    server.put_index([ALPHA, make_wheel("alpha", "2.0", requires=("gamma",)), newer])
    server.put_index([GAMMA, gamma])
    project.environ["UV_NO_CACHE"] = "1"
    project.write("one/requirements.txt", "alpha  # a comment is a change as well\n")

    assert project("lock").code == 0
    assert versions(project, "one") == {"alpha": "2.0", "gamma": "1.0"}
    assert project("lock", "--upgrade-project", "Alpha").code == 0
    assert versions(project, "one") == {"alpha": "3.0", "gamma": "1.0"}
    assert versions(project, "two") == {"beta": "1.0", "gamma": "1.0"}
    assert project("lock", "--upgrade").code == 0
    assert versions(project, "one") == {"alpha": "3.0", "gamma": "1.5"}
    assert versions(project, "two") == {"beta": "1.0", "gamma": "1.5"}


def test_a_requirement_nobody_has_shows_uvs_reason(run, index):
    run.service("one", "alpha>=9")
    run.declare("one", index=index)
    ran = run("lock")
    assert ran.code == 3
    assert not ran.out
    assert "\nerror: one ([HOME]/project/one/Dockerfile): the requirements cannot be resolved:\nNo solution" in ran.err
    assert "you require alpha>=9" in ran.err
    assert ran.err.endswith("\nhint: change the requirement named above\n")
    assert not list(run.cwd.glob("pylock*"))


def test_a_conflict_within_a_service_shows_uvs_reason(run, index):
    run.service("one", "beta", "gamma==2.0")
    run.declare("one", index=index)
    ran = run("lock", "--json")
    assert ran.code == 3
    assert ran.document.keys() == {"command", "ok", "error"}
    assert ran.document["error"].keys() == {"kind", "message", "hint", "exit_code"}
    assert ran.document["error"]["kind"] == "resolve"
    assert "beta depend on gamma<2" in ran.document["error"]["message"]


def test_a_project_with_only_a_source_distribution(run, server):
    server.put("/simple/source/", b'<a href="/files/source-1.0.tar.gz">source-1.0.tar.gz</a>', content_type="text/html")
    run.service("one", "source")
    run.declare("one", index=f"{server.url}/simple/")
    ran = run("lock")
    assert ran.code == 3
    assert "\nerror: one ([HOME]/project/one/Dockerfile): a project has no wheel for the target:\n" in ran.err
    assert "source==1.0 has no usable wheels" in ran.err
    assert ran.err.endswith(
        "\nhint: choose a version with wheels, or put a wheel built from its source into an index of yours\n"
    )


def test_a_project_without_a_wheel_for_the_target(run, server):
    index = server.put_index([make_wheel("native", "1.0", tag="cp312-cp312-manylinux_2_17_x86_64")])
    run.service("one", "native")
    run.declare("one", index=index)
    ran = run("lock")
    assert ran.code == 3
    assert "a project has no wheel for the target:\n" in ran.err
    assert "native==1.0 has no wheels with a matching Python" in ran.err


def test_an_index_that_does_not_answer(run):
    run.service("one", "alpha")
    run.declare("one", index="http://127.0.0.1:9/simple/")
    ran = run("lock", env={"UV_HTTP_RETRIES": "0"})
    assert ran.code == 4, ran
    assert ran.err.splitlines()[1] == "error: the package index did not answer:"


def test_offline_resolves_nothing(project, server):
    asked = len(server.requests)
    assert project("--offline", "lock").code == 0
    project.write("one/requirements.txt", "alpha\nbeta\n")
    project("--offline", "lock").shows("""\
exit 3
-- stderr
error: pylock.one.toml (its requirements, constraints, indexes or options changed): nothing is resolved offline
hint: run wheelcache lock once with the network
""")
    assert len(server.requests) == asked


def test_a_requirements_file_that_is_missing(run, index):
    run.service("one", "-r more.txt")
    run.declare("one", index=index)
    run("lock").shows("""\
exit 2
-- stderr
error: [HOME]/project/one/requirements.txt:1: [HOME]/project/one/more.txt: expected a requirements file: No such file or directory
hint: correct the name, or create the file
""")  # noqa: E501


def test_a_line_that_is_no_requirement_is_named_with_its_file(run, index):
    run.service("one", "alpha", "this is not one")
    run.declare("one", index=index)
    ran = run("lock")
    assert ran.code == 2, ran
    assert "requirements.txt:2: expected a requirement (PEP 508), found 'this is not one'" in ran.err


def test_a_damaged_lockfile_is_not_silently_replaced(project):
    project.write("pylock.one.toml", "lock-version = '1.0'\n")
    project("lock").shows("""\
exit 3
-- stderr
error: [HOME]/project/pylock.one.toml: expected a PEP 751 lockfile: Missing required value in 'created-by'
hint: restore pylock.one.toml from version control, or remove it and run wheelcache lock
""")


def test_a_lockfile_of_another_tool_is_not_written_to(project):
    text = (project.cwd / "pylock.one.toml").read_text().partition("[tool.wheelcache]")[0]
    project.write("pylock.one.toml", text)
    project.write("one/requirements.txt", "alpha\nnative\n")
    assert project("lock").code == 0
    assert (project.cwd / "pylock.one.toml").read_text() == text


@pytest.mark.parametrize("where", ["lock", "sync"])
def test_without_an_engine_an_undeclared_target_is_an_engine_error(run, index, where):
    run.service("one", "alpha")
    run.declare("one", index=index)
    text = (run.cwd / "wheelcache.toml").read_text()
    run.write("wheelcache.toml", text.replace('python = "3.11"\nplatform = "manylinux_2_28_x86_64"\n', ""))
    ran = run(where)
    assert ran.code == 10, ran
    assert "error: expected a Docker engine at unix://[HOME]/no-engine.sock, found none" in ran.err
    assert "hint: start Docker" in ran.err


def test_flags_give_the_target(run, index):
    run.service("one", "native")
    run.declare("one", index=index)
    text = (run.cwd / "wheelcache.toml").read_text()
    run.write("wheelcache.toml", text.replace('python = "3.11"\nplatform = "manylinux_2_28_x86_64"\n', ""))
    assert run("lock", *TARGET).code == 0
    assert versions(run, "one") == {"native": "1.0"}


def test_another_services_lockfile_is_agreed_with_though_it_is_not_locked_now(run, server):
    server.put_index([GAMMA])
    run.service("old", "gamma")
    run.declare("old", index=f"{server.url}/simple/")
    assert run("lock").code == 0
    server.put_index([GAMMA, GAMMA_2])
    run.service("new", "gamma")
    run.declare("old", "new", index=f"{server.url}/simple/")

    assert run("lock", "new").code == 0

    assert f'version = "{GAMMA.version}"' in (run.cwd / "pylock.new.toml").read_text()


def test_a_lockfile_of_another_tool_beside_ours_does_not_end_status(project):
    text = (project.cwd / "pylock.one.toml").read_text()
    (project.cwd / "pylock.foreign.toml").write_text(text[: text.index("[tool.wheelcache]")])
    (project.cwd / "wheelcache.toml").write_text("")

    shown = project("status")

    assert shown.code == 0
    assert "pylock.foreign.toml: left out" in shown.err


def test_versions_stay_when_the_target_changes(run, server):
    root = server.put_index([GAMMA])
    run.service("one", "gamma")
    run.declare("one", index=root)
    assert run("lock").code == 0
    server.put_index([GAMMA, GAMMA_2])
    file = run.cwd / "wheelcache.toml"
    file.write_text(file.read_text().replace("3.11", "3.12"))

    assert run("lock").code == 0

    assert versions(run, "one") == {"gamma": GAMMA.version}
    assert 'python_version = "3.12"' in (run.cwd / "pylock.one.toml").read_text()


def test_a_service_that_joins_an_equal_build_is_taken_into_its_lockfile(run, index):
    run.service("web", "gamma")
    run.declare("web", index=index)
    assert run("lock").code == 0
    file = run.cwd / "wheelcache.toml"
    file.write_text(file.read_text() + '[[services]]\nname = "worker"\ncontext = "web"\n')

    assert run("lock").code == 0

    assert run("status", "worker").code == 0
