"""The script that runs inside images."""

from __future__ import annotations

import ast
import inspect
import sys
from pathlib import Path

import pytest

from builders import inside


def test_it_can_be_read_by_the_oldest_python_that_it_promises() -> None:
    source = inspect.getsource(inside)
    tree = ast.parse(source, feature_version=(3, 8))
    imported = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported <= sys.stdlib_module_names


@pytest.mark.parametrize(
    ("first_lines", "interpreter"),
    [
        ("#!/opt/venv/bin/python3.11\n", "/opt/venv/bin/python3.11"),
        ("#!/usr/bin/python3 -sP\n", "/usr/bin/python3"),
        ('#!/bin/sh\n\'\'\'exec\' "/opt/with space/bin/python" "$0" "$@"\n', "/opt/with space/bin/python"),
        ("#!/bin/sh\n'''exec' /opt/" + "long/" * 30 + 'bin/python "$0" "$@"\n', "/opt/" + "long/" * 30 + "bin/python"),
        ("#!/bin/sh\necho hello\n", None),
        ("#!/usr/bin/perl\n", None),
        ("\x7fELF", None),
    ],
)
def test_the_python_behind_a_program_is_told_from_its_first_lines(
    tmp_path: Path, first_lines: str, interpreter: str | None
) -> None:
    program = tmp_path / "pip"
    program.write_text(first_lines)
    program.chmod(0o755)
    assert inside.interpreter_of(str(program)) == interpreter


def test_a_python_is_its_own_interpreter() -> None:
    assert inside.interpreter_of(sys.executable) == sys.executable
    assert inside.interpreter_of("/nowhere/bin/python") is None


@pytest.mark.parametrize(
    ("metadata", "pair"),
    [
        ("Metadata-Version: 2.1\r\nName: Flask_Login\r\nVersion: 1.0\r\n\r\nName: other", ["flask-login", "1.0"]),
        ("Name: only\n", None),
        ("Summary: x\n\nName: in.the.body\nVersion: 1\n", None),
    ],
)
def test_metadata_is_read_from_its_header(metadata: str, pair: list[str] | None) -> None:
    assert inside.name_and_version(metadata) == pair
