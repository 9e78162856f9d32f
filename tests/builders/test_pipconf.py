from __future__ import annotations

import subprocess
import sys
import tomllib

import pytest

from builders.pipconf import pip_conf, uv_toml


def pip_reads(text: str, folder) -> dict[str, str]:
    """Lets pip itself read a configuration."""
    file = folder / "pip.conf"
    file.write_text(text)
    listing = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"],
        env={"PIP_CONFIG_FILE": str(file), "HOME": str(folder), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    pairs = (line.partition("=") for line in listing.splitlines() if line.startswith("global."))
    read = {name.removeprefix("global."): value.strip("'\"") for name, _, value in pairs}
    return {name: value for name, value in read.items() if name in text}  # the machine may have settings of its own


def test_pip_reads_a_sealed_configuration_as_it_is_meant(tmp_path):
    assert pip_reads(pip_conf(sealed=True, timeout=300), tmp_path) == {
        "find-links": "/wheelcache",
        "constraint": "/wheelcache/constraints.txt",
        "disable-pip-version-check": "true",
        "no-index": "true",
        "retries": "0",
        "timeout": "300",
    }


def test_pip_reads_indexes_with_percent_signs_untouched(tmp_path):
    text = pip_conf(
        sealed=False,
        timeout=600,
        retries=5,
        index_url="https://u:p%40ss%%@h/simple",
        extra_index_urls=["https://a/simple", "https://b/simple"],
    )
    read = pip_reads(text, tmp_path)
    assert read["index-url"] == "https://u:p%40ss%%@h/simple"
    assert read["extra-index-url"].split("\\n") == ["", "https://a/simple", "https://b/simple"]
    assert (read["timeout"], read["retries"]) == ("600", "5")
    assert "no-index" not in read


def test_uvs_configuration_is_toml_whatever_the_constraints_hold():
    text = uv_toml(sealed=True, constraints=['torch==2.8.0; python_version < "3.12"'])
    assert tomllib.loads(text) == {
        "find-links": ["/wheelcache"],
        "constraint-dependencies": ['torch==2.8.0; python_version < "3.12"'],
        "no-index": True,
        "offline": True,
    }
    assert tomllib.loads(uv_toml(sealed=False, index_url="https://h/ü", extra_index_urls=["https://a"])) == {
        "find-links": ["/wheelcache"],
        "index-url": "https://h/ü",
        "extra-index-url": ["https://a"],
    }


def test_a_url_cannot_add_settings_of_its_own():
    with pytest.raises(ValueError, match="expected no blanks or line ends"):
        pip_conf(sealed=False, timeout=1, index_url="https://h\nno-index = true")
