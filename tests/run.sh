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

# tests MARKS ARG...: runs the tests of these marks; an argument such as -k may leave none of them here, but some elsewhere.
chosen=0
tests() {
  local status=0
  pytest -m "$@" || status=$?
  if ((status == 5)); then return 0; fi
  chosen=1
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

# Tests without an engine wait much, and have folders, ports and processes of their own. Those with one look at all that
# it holds: each process has an engine of its own (tests/conftest.py), where this machine lets us start any.
engines=0
if [[ $(uname) == Linux && $(id -u) == 0 ]] && command -v dockerd >/dev/null; then engines=2; fi
step tests tests "not engine" --numprocesses 4 --dist worksteal "$@" || failed=$?
step "engine tests" tests engine --numprocesses "$engines" --dist worksteal "$@" || failed=$?
if ((failed)); then exit "$failed"; fi
if ((!chosen)); then
  printf '== NO TEST was chosen by: %s\n' "$*"
  exit 5
fi
printf '== all: ok, %d s\n' "$((SECONDS - total))"
