"""Context folders get names of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders.contexts import unique_context
from builders.errors import BuildError


def test_two_folders_of_one_name_get_two_names(tmp_path: Path) -> None:
    links = []
    for service in ("a", "b"):
        (tmp_path / service / "app").mkdir(parents=True)
        (tmp_path / service / "app" / "who").write_text(service)
        links.append(unique_context(tmp_path / "links", tmp_path / service / "app", "app"))
    assert links[0].name != links[1].name
    assert [(link / "who").read_text() for link in links] == ["a", "b"]


def test_one_folder_keeps_its_name_from_run_to_run(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "same").symlink_to(tmp_path / "app")
    first = unique_context(tmp_path / "run1", tmp_path / "app", "shop-ml")
    assert unique_context(tmp_path / "run1", tmp_path / "app", "shop-ml") == first
    assert unique_context(tmp_path / "run2", tmp_path / "same", "shop-ml").name == first.name


def test_a_folder_that_takes_no_link_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BuildError, match="file"):
        unique_context(tmp_path / "file", tmp_path, "x")


@pytest.mark.parametrize("name", ["team/ml", "../../x", "..", "Ümlaut"])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    link = unique_context(tmp_path / "links", tmp_path, name)
    assert [link] == list((tmp_path / "links").iterdir())
