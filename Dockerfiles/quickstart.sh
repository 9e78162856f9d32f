#!/usr/bin/env bash
# From a bare machine to the four services of the demo, built: a Docker engine if none answers, a virtual environment, the
# base image, then lock, sync and build. Run again, it does only what is left.
#
#   bash Dockerfiles/quickstart.sh
#
# WHEELCACHE_DIR names the folder of the store; see provision.sh for what else may be set. Ends with the exit code of the
# command that failed, if one did.
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=Dockerfiles/provision.sh
. "$here/provision.sh"

say() { printf '\n== %s\n' "$*" >&2; }

started=$SECONDS
say "provision: engine, virtual environment, base image"
ensure_engine
ensure_venv
ensure_base
say "provision: $((SECONDS - started)) s"

results=$(mktemp -d)
trap 'rm -rf -- "$results"' EXIT
PATH=$PROVISION_ROOT/.venv/bin:$PATH
cd "$here/demo"

code=0
for command in lock sync build; do
  say "wheelcache $command"
  started=$SECONDS
  wheelcache "$command" --json </dev/null >"$results/$command.json" || code=$?
  say "wheelcache $command: $((SECONDS - started)) s, exit code $code"
  printf '%s\n' "$((SECONDS - started))" >"$results/$command.seconds"
  if ((code)); then break; fi
done

docker system df -v --format '{{json .Images}}' >"$results/images.json" 2>/dev/null || true
docker system df --format '{{.Type}}: {{.Size}}' >"$results/engine" 2>/dev/null || true

python - "$results" <<'PYTHON' || code=$((code ? code : 1))
"""Prints what was done and what it costs, from the commands' own JSON and the engine's own account."""

import json
import os
import sys
from pathlib import Path

from platformdirs import user_cache_path

results = Path(sys.argv[1])


def read(name):
    try:
        return json.loads((results / f"{name}.json").read_text() or "null")
    except (OSError, ValueError):
        return None


def amount(size):
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB" if size else "0"


def table(head, rows):
    widths = [max(len(str(row[column])) for row in (head, *rows)) for column in range(len(head))]
    for row in (head, ["-" * width for width in widths], *rows):
        cells = [str(cell).ljust(width) if not column else str(cell).rjust(width)
                 for column, (cell, width) in enumerate(zip(row, widths, strict=True))]
        print("  ".join(cells).rstrip())
    print()


lock, sync, build = read("lock") or {}, read("sync") or {}, read("build") or {}
images = read("images") or []
wheels = {service: each["size"] for each in lock.get("lockfiles", []) for service in each["services"]}
fetched = sync.get("bytes_fetched", 0)

print()
rows = []
for command, document in (("lock", lock), ("sync", sync), ("build", build)):
    if not document:
        continue
    error = document.get("error") or {}
    seconds = document.get("seconds", float((results / f"{command}.seconds").read_text()))
    rows.append([command, "ok" if document.get("ok") else f"exit {error.get('exit_code', '?')}", f"{seconds:.1f}",
                 amount(fetched) if command == "sync" else ""])
if rows:
    table(["command", "state", "seconds", "bytes fetched"], rows)

by_name = {f"{image['Repository']}:{image['Tag']}": image for image in images}
services = build.get("services", [])
rows = []
for service in services:
    image = by_name.get(service.get("image") or "", {})
    rows.append([service["name"], service["state"], f"{service.get('seconds') or 0:.1f}", service.get("attempts") or 0,
                 amount(wheels.get(service["name"], 0)), image.get("Size", "?"), image.get("UniqueSize", "?")])
if rows:
    table(["service", "state", "seconds", "attempts", "wheels", "image", "not shared"], rows)

bases = sorted({service["shared_base"] for service in services if service.get("shared_base")} & set(by_name))
if bases:
    table(["shared base", "image"], [[name, by_name[name]["Size"]] for name in bases])

try:
    engine = ", ".join((results / "engine").read_text().split("\n")).strip(", ")
except OSError:
    engine = ""
if engine:
    print(f"engine: {engine}")
store = Path(os.environ.get("WHEELCACHE_DIR") or user_cache_path("wheelcache", appauthor=False)).expanduser()
if store.is_dir():
    seen = {}
    for path in store.rglob("*"):
        if path.is_file() and not path.is_symlink():
            status = path.stat()
            seen[status.st_dev, status.st_ino] = status.st_blocks * 512
    print(f"store: {amount(sum(seen.values()))} in {store}")

for service in services:
    failure = service.get("failure")
    if failure:
        print(f"\n{service['name']}: {failure['class']}: {failure['message']}\n  next step: {failure['hint']}\n  log: {failure['log']}")
PYTHON

if ((code)); then
  say "stopped with exit code $code; run this again to go on from here"
else
  say "done; start it: docker compose -f Dockerfiles/demo/docker-compose.production.yml up -d --no-build, then http://127.0.0.1:8080"
fi
exit "$code"
