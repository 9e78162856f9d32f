"""What a service's Dockerfile and requirement files ask for together."""

from __future__ import annotations

from pathlib import Path

from builders.reading import Reading, read_service
from builders.services import Service


def read(folder: Path, requirements: str) -> Reading:
    (folder / "requirements.txt").write_text(requirements)
    dockerfile = folder / "Dockerfile"
    dockerfile.write_text("FROM python:3.11\nCOPY requirements.txt .\nRUN pip install -r requirements.txt\n")
    return read_service(Service(name="one", images=("one:1",), context=folder, dockerfile=dockerfile))


def test_a_file_that_can_be_locked_is_left_to_the_resolver(tmp_path: Path) -> None:
    reading = read(tmp_path, "--extra-index-url https://index.example/cu128\ntorch==2.8.0+cu128\n")
    assert [demand.lines for demand in reading.demands] == [(f"-r {tmp_path}/requirements.txt",)]
    assert reading.obstacles == ()


def test_a_line_that_cannot_be_locked_leaves_the_files_indexes_in_force(tmp_path: Path) -> None:
    text = "--extra-index-url https://index.example/cu128\ntorch==2.8.0+cu128\ngit+https://code.example/tool\n"
    [demand] = read(tmp_path, text).demands
    assert demand.lines == ("torch==2.8.0+cu128", "--extra-index-url https://index.example/cu128")


def test_files_on_servers_stay_urls_and_stand_in_the_way_of_a_sealed_build(tmp_path: Path) -> None:
    text = "-r https://me:secret@files.example/base.txt\n-c https://files.example/pins.txt\nflask\n"
    fetched = (
        "requirements.txt: https://files.example/base.txt is fetched while the command runs",
        "requirements.txt: https://files.example/pins.txt is fetched while the command runs",
    )
    assert read(tmp_path, text).obstacles == fetched

    reading = read(tmp_path, text + "git+https://code.example/tool\n")
    assert set(fetched) < set(reading.obstacles)
    [demand] = reading.demands
    assert demand.lines == (
        "flask",
        "-c https://files.example/pins.txt",
        "-r https://me:secret@files.example/base.txt",
    )
