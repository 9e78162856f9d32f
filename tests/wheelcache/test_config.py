"""The project file: what it may say, and what is said when it says something else."""

from pathlib import Path

import pytest

from wheelcache.config import Project, load_project, parse_bytes
from wheelcache.errors import ProjectFileError


def write(folder: Path, text: str, name: str = "wheelcache.toml") -> Path:
    file = folder / name
    file.write_text(text)
    return file


def test_every_documented_key_is_understood(tmp_path):
    file = write(
        tmp_path,
        """
        compose = ["docker-compose.production.yml"]
        compose-env-file = ".env"
        compose-profiles = ["gpu"]
        [[services]]
        name = "ml"
        context = "ml"
        dockerfile = "Dockerfile"
        requirements = ["requirements.txt"]
        image = "shop/ml:staging"
        build = "online"
        [services.target]
        python = "3.12"
        [target]
        python = "3.11.9"
        platform = "manylinux_2_28_x86_64"
        torch-backend = "cu128"
        [[indexes]]
        name = "main"
        url = "https://index.example/simple"
        [[mirrors]]
        of = "main"
        url = "https://mirror.example/simple"
        [download]
        connections = 2
        per-host = 1
        timeout = 10.5
        deadline = 60
        min-rate = "20kB/s"
        limit-rate = "20MB/s"
        [build]
        build = "sealed"
        network = "none"
        pip-timeout = 100
        retries = 1
        tags = ["{git-short}", "main"]
        [cache]
        dir = "cache"
        max-size = "60GB"
        """,
    )

    project = load_project(None, start=tmp_path)

    assert (project.file, project.root) == (file, tmp_path)
    assert project.services[0].target.python == "3.12"
    assert project.target.torch_backend == "cu128"
    assert project.download.min_rate == 20_000
    assert project.download.limit_rate == 20_000_000
    assert project.cache.max_size == 60_000_000_000
    assert project.build.network == "none"


def test_without_a_project_file_the_defaults_hold(tmp_path):
    assert load_project(None, start=tmp_path) == Project(root=tmp_path)


def test_it_is_searched_upwards_and_paths_are_relative_to_it(tmp_path):
    write(tmp_path, "")
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)

    assert load_project(None, start=below).root == tmp_path


def test_pyproject_counts_only_when_it_has_our_table(tmp_path):
    write(tmp_path, "[tool.wheelcache.cache]\ndir = 'x'", "pyproject.toml")
    below = tmp_path / "below"
    below.mkdir()
    write(below, "[tool.other]\nx = 1", "pyproject.toml")

    assert load_project(None, start=below).cache.dir == "x"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("colour = 1", "colour: unknown key"),
        ("file = 'x'", "file: unknown key"),
        ("[[mirrors]]\nurl = 'mirror'", "mirrors[0].url: expected a URL such as https://index.example/simple"),
        ("[[indexes]]\nname = 'a'\nurl = 'ftp://a:b@c/'", "indexes[0].url: expected a URL that begins with https://"),
        ("[build]\nretries = -1", "retries: 0 or more"),
        ("[build]\npip-timeout = 0", "pip-timeout: expected more than 0 seconds"),
        ("[download]\ntimeout = nan", "timeout: expected more than 0 seconds"),
        ("[download]\ndeadline = inf", "deadline: 0 or more"),
        ("[download]\nconections = 3", "download.conections: unknown key"),
        ("[[services]]\ncontext = 'x'", "services[0].name: missing"),
        ("[build]\nbuild = 'fast'", "build.build: expected 'sealed' or 'online', found 'fast'"),
        ("[download]\nlimit-rate = 'fast'", "download.limit-rate: expected an amount such as 60GB or 20MB/s"),
        ("[download]\nconnections = 0", "connections and per-host: expected 1 or more"),
        ("compose = 'x.yml'", "compose: expected valid list, found 'x.yml'"),
        ("[[services]]\nname='a'\n[[services]]\nname='a'", "services: 'a' stands twice"),
        ("[[mirrors]]\nurl='https://u'\nof='nobody'", "mirrors[0].of: expected the name of an index, found 'nobody'"),
        ("x = [", "expected TOML"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_key(tmp_path, text, message):
    file = write(tmp_path, text)

    with pytest.raises(ProjectFileError) as caught:
        load_project(None, start=tmp_path)

    assert str(file) in caught.value.message
    assert message in caught.value.message
    assert caught.value.hint


def test_a_project_file_that_was_named_must_exist(tmp_path):
    with pytest.raises(ProjectFileError, match="expected a project file, found none"):
        load_project(tmp_path / "absent.toml", start=tmp_path)


@pytest.mark.parametrize(
    ("text", "value"),
    [("60GB", 60 * 10**9), ("1 MiB", 2**20), ("20kB/s", 20_000), ("1.5K", 1500), (7, 7), ("", 0), ("12", 12)],
)
def test_amounts_are_read_as_people_write_them(text, value):
    assert parse_bytes(text) == value


@pytest.mark.parametrize("text", ["-1", "GB", "1XB", "20MBq", True])
def test_what_is_no_amount_is_refused(text):
    with pytest.raises(ValueError, match="expected an amount"):
        parse_bytes(text)
