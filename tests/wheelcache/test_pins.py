"""Requirement files that lock, and what they include."""

from pathlib import Path

import pytest

from wheelcache.errors import LockError, ProjectFileError
from wheelcache.pins import parse_pins, read_closure, read_text
from wheelcache.target import declared_target

LINUX = declared_target("3.11", "manylinux_2_28_x86_64")
HASH = "ab" * 32


def test_hashed_pins_are_read_and_lines_for_other_targets_left_out():
    text = f"""a==1.0 \\
    --hash=sha256:{HASH} \\
    --hash=sha256:{"cd" * 32}
b==2 ; sys_platform == "win32" --hash=sha256:{HASH}
C_d==3 --hash=sha256:{HASH}
"""
    pins = parse_pins(text, Path("r.txt"), LINUX)

    assert [(pin.name, pin.version, len(pin.digests)) for pin in pins] == [("a", "1.0", 2), ("c-d", "3", 1)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a==1.0", "r.txt:1: a: expected a sha256 hash, found none"),
        (f"\na==1.0 --hash=md5:{HASH}", "r.txt:2: a: expected a sha256 hash, found none"),
        (f"a>=1.0 --hash=sha256:{HASH}", "r.txt:1: expected name==version with hashes"),
        (f"a==1.* --hash=sha256:{HASH}", "r.txt:1: expected name==version with hashes"),
        ("-r other.txt", "r.txt:1: expected name==version with hashes"),
        ("a b c", "r.txt:1: expected name==version with hashes"),
    ],
)
def test_a_line_that_does_not_lock_is_refused_with_its_number(text, message):
    with pytest.raises(LockError) as caught:
        parse_pins(text, Path("r.txt"), LINUX)

    assert message in caught.value.message
    assert caught.value.hint


def test_included_files_are_read_once_even_in_a_circle(tmp_path):
    (tmp_path / "a.txt").write_text("-r sub/b.txt\nx")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.txt").write_text("-c c.txt\n-r ../a.txt")
    (tmp_path / "sub" / "c.txt").write_text("y<2")

    texts = read_closure([tmp_path / "a.txt"], read=read_text)

    assert sorted(path.name for path in texts) == ["a.txt", "b.txt", "c.txt"]


def test_a_missing_include_names_the_line_that_asks_for_it(tmp_path):
    (tmp_path / "a.txt").write_text("flask\n-r absent.txt")

    with pytest.raises(ProjectFileError, match=r"a\.txt:2: .*absent\.txt: expected a requirements file"):
        read_closure([tmp_path / "a.txt"], read=read_text)
