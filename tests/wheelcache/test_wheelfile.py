"""What a wheel says of itself, and files that are none."""

from __future__ import annotations

import io
import zipfile

import pytest
from support.wheels import make_wheel

from wheelcache.wheelfile import WheelName, read_wheel_name

METADATA = "Metadata-Version: 2.1\nName: Demo.Pack\nVersion: 1.0.post1\n\nA text.\nName: other\n"
WHEEL = "Wheel-Version: 1.0\nTag: py3-none-any\n"
INFO = "demo_pack-1.0.post1.dist-info"


@pytest.fixture
def read(tmp_path):
    """Reads a wheel of these members, or these bytes."""

    def read(content):
        file = tmp_path / "blob"
        if isinstance(content, bytes):
            file.write_bytes(content)
        else:
            with zipfile.ZipFile(file, "w") as archive:
                for name, text in content.items():
                    archive.writestr(name, text)
        return read_wheel_name(file)

    return read


def members(*, info: str = INFO, metadata: str = METADATA, wheel: str = WHEEL, **others: str) -> dict[str, str]:
    return {"demo/__init__.py": "", f"{info}/METADATA": metadata, f"{info}/WHEEL": wheel, **others}


def test_the_names_of_a_wheel_are_its_own(read):
    assert read(members()) == WheelName(
        project="demo-pack", version="1.0.post1", filename="demo_pack-1.0.post1-py3-none-any.whl"
    )


@pytest.mark.parametrize(
    ("tags", "tail"),
    [
        ("Tag: cp311-cp311-manylinux_2_28_x86_64\n", "cp311-cp311-manylinux_2_28_x86_64"),
        ("Tag: py2-none-any\nTag: py3-none-any\n", "py2.py3-none-any"),
        (
            "Tag: cp311-cp311-manylinux_2_17_x86_64\nTag: cp311-cp311-manylinux2014_x86_64\n",
            "cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64",
        ),
        ("Build: 2local\nTag: py3-none-any\n", "2local-py3-none-any"),
    ],
)
def test_tags_and_build_make_the_file_name(read, tags, tail):
    assert read(members(wheel=f"Wheel-Version: 1.0\n{tags}")).filename == f"demo_pack-1.0.post1-{tail}.whl"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no archive",
        make_wheel(size=3000).data[:-200],
        make_wheel(size=3000).data[:1500] + bytes(1500),
        {"demo/__init__.py": ""},
        {f"deep/{INFO}/METADATA": METADATA, f"deep/{INFO}/WHEEL": WHEEL},
        {f"{INFO}/METADATA": METADATA},
        {f"{INFO}/WHEEL": WHEEL},
        {**members(), "other-2.0.dist-info/METADATA": METADATA},
        members(info="demo.dist-info"),
        members(info="other-1.0.dist-info"),
        members(metadata="Name: demo-pack\n"),
        members(metadata=""),
        members(wheel="Wheel-Version: 1.0\n"),
        members(wheel="Tag: py3-none\nTag: py3-none-any\n"),
        members(wheel="Tag: py3-none-../../etc\n"),
        members(wheel="Tag: py3-none-any\nBuild: x\n"),
        members(wheel="Tag: py3-none-\x1b[31many\n"),
    ],
)
def test_what_is_no_readable_wheel_has_no_name(read, content):
    assert read(content) is None


def test_an_encrypted_wheel_has_no_name(read):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in members().items():
            archive.writestr(name, text)
    data = bytearray(buffer.getvalue())
    start = 0
    while (start := data.find(b"PK\x01\x02", start)) >= 0:  # each member's flag that says so (APPNOTE 4.4.4)
        data[start + 8] |= 1
        start += 4
    assert read(bytes(data)) is None


def test_a_folder_has_no_name(tmp_path):
    assert read_wheel_name(tmp_path) is None
