#!/usr/bin/env bash
# Checks everything: provisions an engine, a base image and the virtual environment, then lint, format, types, import
# contracts and tests. Arguments go to pytest: bash tests/run.sh -k lock
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=Dockerfiles/provision.sh
. "$root/Dockerfiles/provision.sh"
cd "$root"

# step NAME COMMAND...: runs it without stdin, says what runs and for how long, and returns its code.
step() {
  local name=$1 started=$SECONDS status=0
  shift
  printf '== %s: %s\n' "$name" "$*"
  "$@" </dev/null || status=$?
  if ((status)); then
    printf '== %s: FAILED with %d after %d s\n' "$name" "$status" "$((SECONDS - started))"
  else
    printf '== %s: ok, %d s\n' "$name" "$((SECONDS - started))"
  fi
  return "$status"
}

provisioned() {
  ensure_engine && ensure_base
}

total=$SECONDS
if ! step provision provisioned; then
  # Where nothing can be installed the tests without an engine are still worth running; elsewhere this is a failure.
  if provision_can_install; then exit "$PROVISION_UNFIT"; fi
  printf '== NO ENGINE: the tests that need a real Docker engine WILL BE SKIPPED\n'
fi
step environment ensure_venv test,dev || exit
export PATH="$root/.venv/bin:$PATH"

failed=0
step lint ruff check . || failed=$?
step format ruff format --check . || failed=$?
step types mypy || failed=$?
step imports lint-imports || failed=$?
if ((failed)); then exit "$failed"; fi

step tests pytest "$@" || exit
printf '== all: ok, %d s\n' "$((SECONDS - total))"
