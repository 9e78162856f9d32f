"""Cold run of the demo: `wheelcache lock`, `sync`, `build` beside `docker compose build`, one after the other.

    python tests/bench/cold.py [--side compose|wheelcache] [--wheels DIR] [--scratch DIR] [--json FILE]
                               [--compose-requirement]

Runs as root on Linux. Each side has a Docker engine of its own with empty data, seeded with nothing but the base image
(from the machine's engine, see Dockerfiles/provision.sh), a network namespace of its own, in which bytes fetched are
counted for both sides alike, and a copy of the demo; all of it is gone afterwards, also after Ctrl-C, but for the logs.
Exit code 1 when a promise of wheelcache's is not kept.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import composeside
import wheelcacheside
from measure import amount, require_free, seconds, table

STEPS = {
    "cold": "cold",
    "again": "nothing changed",
    "app": "app.py of one service changed",
    "requirement": "one small requirement added",
}


def main() -> int:
    """Runs the sides asked for and prints what was found."""
    options = _options()
    if os.geteuid() != 0:
        raise SystemExit("expected to run as root: it starts Docker engines of its own")
    # Whatever ends this, the engines are stopped and their data removed on the way out.
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda number, _: sys.exit(128 + number))
    scratch = options.scratch or Path(tempfile.mkdtemp(prefix="wheelcache-cold-", dir="/var/tmp"))
    logs = scratch.resolve() / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {}
    if options.side != "wheelcache":
        needed = composeside.NEEDED + options.compose_requirement * composeside.NEEDED_FOR_REQUIREMENT
        require_free(logs.parent, needed, "docker compose build of the demo")
        result["compose"] = composeside.run_compose(
            logs.parent, logs, with_requirement=options.compose_requirement, wheels=options.wheels
        )
        _save(options.json, result)
    if options.side != "compose":
        require_free(logs.parent, wheelcacheside.NEEDED, "the demo with wheelcache")
        result["wheelcache"] = wheelcacheside.run_wheelcache(logs.parent, logs, program=options.wheelcache)
        _save(options.json, result)
    print(_costs(result))
    checks = result.get("wheelcache", {}).get("checks", [])
    if checks:
        print(
            "\n"
            + table(
                ["promise", "found", "kept"], [[c["promise"], c["found"], "yes" if c["kept"] else "NO"] for c in checks]
            )
        )
    for side, found in result.items():
        for name, step in found["steps"].items():
            if step["exit_code"]:
                print(f"\n{side}, {STEPS[name]}: exit code {step['exit_code']}, log {step['log']}\n{step['failure']}")
    print(f"\nlogs: {logs}")
    failed = any(step["exit_code"] for step in result.get("wheelcache", {}).get("steps", {}).values())
    return 1 if failed or not all(check["kept"] for check in checks) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--side", choices=["both", "compose", "wheelcache"], default="both")
    parser.add_argument("--scratch", type=Path, metavar="DIR", help="default: a new folder below /var/tmp")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all that was found there, too")
    parser.add_argument("--compose-requirement", action="store_true", help="let compose, too, add the requirement")
    parser.add_argument("--wheels", type=Path, metavar="DIR", help="let compose's pip get the wheels from this folder")
    parser.add_argument("--wheelcache", metavar="PROGRAM", default=_wheelcache(), help="default: %(default)s")
    return parser.parse_args()


def _wheelcache() -> str:
    beside = Path(sys.executable).with_name("wheelcache")
    return str(beside) if beside.exists() else shutil.which("wheelcache") or "wheelcache"


def _save(path: Path | None, result: dict[str, Any]) -> None:
    if path:
        path.write_text(json.dumps(result, indent=2) + "\n")


def _costs(result: dict[str, Any]) -> str:
    """Returns the table of what both sides cost."""
    sides = [result.get("compose"), result.get("wheelcache")]

    def row(label: str, read: Any, limit: str = "") -> list[str]:
        return [label, *("-" if side is None else read(side) for side in sides), limit]

    def step(side: dict[str, Any], name: str) -> str:
        found = side["steps"].get(name)
        if found is None:
            return "-"
        state = f"exit {found['exit_code']}, " if found["exit_code"] else ""
        return f"{state}{seconds(found['seconds'])}, {amount(found['received'])}"

    rows = [row(f"{label}: time, fetched", lambda side, name=name: step(side, name)) for name, label in STEPS.items()]
    rows += [
        row("cold: with a full store, of compose's time", lambda side: _share(side, result), "0.6"),
        row("cold: of it lock, sync, build", _split),
        row("cold: fetched, by its own account", lambda side: amount(side["steps"]["cold"]["said_fetched"])),
        row("cold: growth of the engine's data folder", lambda side: amount(side["engine_growth"])),
        row("cold: of it images", lambda side: amount(side["images"]), "8 GB"),
        row("cold: of it build cache alone", lambda side: amount(side["build_cache"])),
        row("cold: store", lambda side: amount(side.get("store"))),
        row("cold: engine and store", lambda side: amount(side["engine_growth"] + side.get("store", 0)), "13 GB"),
    ]
    return table(["the demo, four services, three with torch", "docker compose build", "wheelcache", "limit"], rows)


def _share(side: dict[str, Any], result: dict[str, Any]) -> str:
    """Returns how a build with a full store compares with compose's, whose network may be a fast one: `--wheels`."""
    build = side["steps"]["cold"].get("commands", {}).get("build")
    compose = result.get("compose", {}).get("steps", {}).get("cold", {}).get("seconds")
    return f"{build / compose:.3f}" if build and compose else "-"


def _split(side: dict[str, Any]) -> str:
    return ", ".join(seconds(spent) for spent in side["steps"]["cold"].get("commands", {}).values()) or "-"


if __name__ == "__main__":
    sys.exit(main())
