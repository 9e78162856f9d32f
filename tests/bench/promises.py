"""What is promised of a run of wheelcache, judged from what it printed, logged and left on disk."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from demo import ADDED, CHANGED
from measure import amount

IMAGES_LIMIT = 8 * 1000**3
TOTAL_LIMIT = 13 * 1000**3

_HEAVY = 20 * 1000**2
_SENT_LIMIT = 2 * 1000**2
"""Bytes that may go to the engine where nothing is sent: questions about images, Dockerfiles, an app.py."""

_INSTALLER = re.compile(r"\bRUN\b.*?\b(?:pip3?|uv)\b", re.DOTALL)
_PIP_INSTALLED = re.compile(r"Successfully installed (?P<names>.+)")
_UV_INSTALLED = re.compile(r"^#\d+ (?:\S+ )? ?\+ (?P<name>[A-Za-z0-9][\w.-]*)==", re.MULTILINE)


def judge(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns a verdict per promise that the run went far enough to show: `promise`, `found`, `kept`."""
    steps = result["steps"]
    verdicts = [_verdict("cold: lock, sync and build end with 0", f"exit {steps['cold']['exit_code']}", "exit 0")]
    if steps["cold"]["exit_code"]:
        return verdicts
    total = result["engine_growth"] + result["store"]
    verdicts += [
        _at_most("cold: growth of the images", result["images"], IMAGES_LIMIT),
        _at_most("cold: growth of engine and store together", total, TOTAL_LIMIT),
        _sealed([step for each in steps.values() for step in each["build_steps"]]),
        *(
            _verdict(f"{name} prints its torch version", version, r"2\.8\.0\+\w+")
            for name, version in result["torch"].items()
        ),
        _verdict("ml answers a prediction over HTTP", result["prediction"], r'.*"prediction".*'),
        _verdict("nothing changed: each service is unchanged", _states(steps["again"]), r"(\S+ unchanged(, |$))+"),
        _at_most("nothing changed: nothing is sent to the engine", steps["again"]["sent"], _SENT_LIMIT),
        _one_is_built("app.py changed", steps["app"]),
        _verdict("app.py changed: no pip or uv step runs", _names(_installer_steps(steps["app"])), "none"),
        _at_most("app.py changed: only its files are sent", steps["app"]["sent"], _SENT_LIMIT),
        *_requirement(steps["cold"], steps["requirement"]),
        _verdict("requirement added: ml still answers", result["prediction_after"], r'.*"prediction".*'),
    ]
    return verdicts


def _requirement(cold: dict[str, Any], step: dict[str, Any]) -> list[dict[str, Any]]:
    name = ADDED.partition("==")[0]
    wheels = step["documents"].get("sync", {}).get("wheels", [])
    fetched = [wheel["name"] for wheel in wheels if wheel["state"] != "cached"]
    light = sum(wheel["size"] or 0 for wheel in _wheels_of(CHANGED, wheels) if not _is_heavy(wheel))
    heavy = {wheel["name"] for wheel in cold["documents"]["sync"]["wheels"] if _is_heavy(wheel)}
    installed = _installed(step["build_logs"])
    return [
        _verdict(f"requirement added: {name} alone is fetched", _names(fetched), name),
        _one_is_built("requirement added", step),
        _at_most("requirement added: no more is sent than light wheels", step["sent"], _SENT_LIMIT + light),
        _verdict("requirement added: no heavy wheel is installed", _names(heavy & installed), "none"),
        _verdict(f"requirement added: {name} is installed", _names({name} & installed), name),
    ]


def _wheels_of(service: str, wheels: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the wheels that the lockfile of a service names."""
    lockfile = f"pylock.{service}.toml"
    return [wheel for wheel in wheels if any(Path(path).name == lockfile for path in wheel["lockfiles"])]


def _is_heavy(wheel: dict[str, Any]) -> bool:
    return bool((wheel["size"] or 0) >= _HEAVY)


def _sealed(build_steps: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Judges every pip and uv step of all builds by its own command, which BuildKit reports with its flags."""
    installers = [step["step"] for step in build_steps if _INSTALLER.search(step["step"])]
    sealed = [step for step in installers if "--network=none" in step]
    found = f"{len(sealed)} of {len(installers)} with --network=none, in an engine without a way out"
    return {
        "promise": "no pip or uv step of any build has a network",
        "found": found,
        "kept": bool(installers) and len(sealed) == len(installers),
    }


def _installer_steps(step: dict[str, Any]) -> list[str]:
    """Returns the pip and uv steps that ran, rather than being taken from the build cache."""
    return [
        each["step"] for each in step["build_steps"] if each["state"] != "cached" and _INSTALLER.search(each["step"])
    ]


def _installed(logs: Sequence[str]) -> set[str]:
    """Returns the names of the distributions that pip and uv said they installed."""
    found = set()
    for log in logs:
        text = Path(log).read_text(errors="replace")
        found |= {match["name"] for match in _UV_INSTALLED.finditer(text)}
        for match in _PIP_INSTALLED.finditer(text):
            found |= {pair.rpartition("-")[0] for pair in match["names"].split()}
    return {name.lower().replace("_", "-").replace(".", "-") for name in found}


def _states(step: dict[str, Any]) -> str:
    services = step["documents"].get("build", {}).get("services", [])
    return ", ".join(f"{service['name']} {service['state']}" for service in services) or "no service"


def _one_is_built(what: str, step: dict[str, Any]) -> dict[str, Any]:
    states = {each["name"]: each["state"] for each in step["documents"].get("build", {}).get("services", [])}
    kept = bool(states) and all(
        state == ("built" if name == CHANGED else "unchanged") for name, state in states.items()
    )
    return {"promise": f"{what}: {CHANGED} alone is built", "found": _states(step), "kept": kept}


def _at_most(promise: str, found: int, limit: int) -> dict[str, Any]:
    return {"promise": f"{promise} (at most {amount(limit)})", "found": amount(found), "kept": found <= limit}


def _verdict(promise: str, found: str, pattern: str) -> dict[str, Any]:
    return {"promise": promise, "found": found, "kept": re.fullmatch(pattern, found.strip(), re.DOTALL) is not None}


def _names(found: Any) -> str:
    return " ".join(sorted(found)) or "none"
