"""A copy of the demo to measure on, and the changes made to it; the checkout itself is never touched."""

from __future__ import annotations

import shutil
from pathlib import Path

COMPOSE = "docker-compose.production.yml"
CHANGED = "ml"
"""The service that is changed: one with torch."""

TORCH_SERVICES = ("agente-deposito", "agente-negocio", "ml")
ADDED = "tabulate==0.9.0"
"""A small requirement that no service of the demo has yet."""

_DEMO = Path(__file__).resolve().parents[2] / "Dockerfiles" / "demo"


def copy_demo(folder: Path) -> Path:
    """Copies the demo, without lockfiles of an earlier run, and returns where."""
    shutil.copytree(_DEMO, folder, ignore=shutil.ignore_patterns("pylock*.toml", "__pycache__"))
    return folder


def change_app(folder: Path) -> None:
    """Changes a line of code in one service."""
    with (folder / CHANGED / "app.py").open("a", encoding="utf-8") as app:
        app.write("\nVERSION = 2\n")


def add_requirement(folder: Path) -> None:
    """Adds one small requirement to one service."""
    with (folder / CHANGED / "requirements.txt").open("a", encoding="utf-8") as requirements:
        requirements.write(f"{ADDED}\n")
