#!/usr/bin/env bash
# Makes what the demo and the tests need on this machine: a Docker engine with buildx and compose, a Python base image,
# a virtual environment. Each function does only what is left to do, so all of it may be run again at any time.
#
#   bash Dockerfiles/provision.sh [engine | base | IMAGE:TAG | venv [EXTRAS] | stop]...   (nothing given: engine base venv)
#
# or sourced: `. Dockerfiles/provision.sh`, then ensure_engine, stop_engine, ensure_base [REF], ensure_venv [EXTRAS],
# ensure_tools PACKAGE... Where a function cannot help it says what is missing and what to do, and answers 10.
#
# The functions say `|| return` where they must not go on: a caller that writes `ensure_engine || …` switches errexit off.
#
# WHEELCACHE_NO_PULL=1     does not try to pull a base image: for machines that no container registry answers
# WHEELCACHE_PULL_TIMEOUT  seconds after which a pull is given up (60)
# WHEELCACHE_ENGINE_DIR    where the pid file and the log of an engine started here go (/var/run/wheelcache)
set -euo pipefail

PROVISION_ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
PROVISION_ENGINE_DIR=${WHEELCACHE_ENGINE_DIR:-/var/run/wheelcache}
PROVISION_UNFIT=10

provision_say() { printf 'provision: %s\n' "$*" >&2; }

# provision_refuse WHAT REMEDY: the last words of a function that cannot go on.
provision_refuse() {
  provision_say "$1"
  provision_say "  next step: $2"
  return "$PROVISION_UNFIT"
}

# provision_os FIELD: one field of os-release(5), nothing where the system has none.
provision_os() {
  # shellcheck source=/dev/null
  if [[ -r /etc/os-release ]]; then (. /etc/os-release && printf '%s' "${!1:-}"); fi
}

provision_is_root() { [[ $(id -u) -eq 0 ]]; }

# Debian, Ubuntu and what is derived from them, as root: the only systems on which packages are installed.
provision_can_install() {
  provision_is_root && command -v apt-get >/dev/null &&
    [[ " $(provision_os ID) $(provision_os ID_LIKE) " =~ \ (debian|ubuntu)\  ]]
}

# Runs a function while no other process on this machine provisions: apt waits for its packages' lock, not its lists'.
provision_alone() {
  if ! provision_is_root || ! command -v flock >/dev/null || [[ -n ${PROVISION_LOCK_FD:-} ]]; then
    "$@"
    return
  fi
  mkdir -p "$PROVISION_ENGINE_DIR"
  local lock status=0
  exec {lock}>"$PROVISION_ENGINE_DIR/provision.lock" || return
  flock "$lock" || return
  PROVISION_LOCK_FD=$lock "$@" || status=$?
  exec {lock}>&-
  return "$status"
}

provision_apt() {
  local log status=0
  log=$(mktemp)
  DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 \
    -o Dpkg::Options::=--force-confold "$@" </dev/null >"$log" 2>&1 || status=$?
  if ((status)); then
    tail -n 25 "$log" >&2
    provision_say "apt-get $* failed ($status)"
  fi
  rm -f "$log"
  return "$status"
}

provision_has_package() {
  [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) == installed ]]
}

# Prints `URI KEYRING` of the archive this machine's own release comes from (KEYRING may be empty), whichever of the two
# formats of sources.list(5) names it. Nothing is assumed about the host: it may be a company's mirror.
provision_archive() {
  local codename
  codename=$(provision_os VERSION_CODENAME)
  { cat /etc/apt/sources.list.d/*.sources 2>/dev/null || true; } | awk -v codename="$codename" '
    function stanza_ends() {
      if (!found && enabled && (" " suites " ") ~ (" " codename " ") && (" " components " ") ~ / main / && uri != "") {
        print uri, key; found = 1
      }
      enabled = 1; suites = ""; components = ""; uri = ""; key = ""
    }
    BEGIN { enabled = 1 }
    /^[ \t]*$/ { stanza_ends(); next }
    /^#/ { next }
    { field = tolower($1) }
    field == "enabled:" && tolower($2) == "no" { enabled = 0 }
    field == "uris:" { uri = $2 }
    field == "signed-by:" { key = $2 }
    field == "suites:" { $1 = ""; suites = $0 }
    field == "components:" { $1 = ""; components = $0 }
    END { stanza_ends() }' | grep . && return
  { cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null || true; } | awk -v codename="$codename" '
    $1 == "deb" {
      key = ""
      if (match($0, /signed-by=[^] ,]+/)) key = substr($0, RSTART + 10, RLENGTH - 10)
      sub(/\[[^]]*\]/, "")
      if ($3 == codename && (" " $0 " ") ~ / main /) { print $2, key; exit }
    }' | grep .
}

# provision_suite SUITE: makes another suite of the machine's own archive installable on request (`name/SUITE`), without
# letting it upgrade anything by itself (apt_preferences(5): 100 is less than an installed version's own suite).
provision_suite() {
  local suite=$1 uri key
  local source=/etc/apt/sources.list.d/wheelcache-$suite.sources
  if ! read -r uri key < <(provision_archive); then
    provision_refuse "no archive of $(provision_os VERSION_CODENAME) in the apt sources of this machine" \
      "install docker.io, docker-buildx and docker-compose ($suite) by hand, start dockerd, run this again"
    return
  fi
  printf 'Package: *\nPin: release n=%s\nPin-Priority: 100\n' "$suite" >"/etc/apt/preferences.d/wheelcache-$suite"
  {
    printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\n' "$uri" "$suite"
    if [[ -n $key ]]; then printf 'Signed-By: %s\n' "$key"; fi
  } >"$source"
}

# --- engine ----------------------------------------------------------------------------------------------------------

provision_engine_answers() { timeout 20 docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

provision_has_plugins() {
  docker buildx version >/dev/null 2>&1 && docker compose version >/dev/null 2>&1
}

provision_install_engine() {
  local id
  id=$(provision_os ID)
  provision_say "installing a Docker engine with buildx and compose (apt-get)"
  if [[ $id == ubuntu ]]; then
    provision_apt update && provision_apt install --no-install-recommends \
      docker.io docker-buildx docker-compose-v2 iptables || return
  elif [[ $id == debian && $(provision_os VERSION_ID) == 12 ]]; then
    # Debian 12's own engine is 20.10 and has no buildx; Debian 13's needs nothing newer than Debian 12's libc. Named one
    # by one, because `-t trixie` would take every dependency from there, and upgrade libc and dpkg on the way.
    provision_suite trixie && provision_apt update && provision_apt install --no-install-recommends \
      docker.io/trixie docker-cli/trixie docker-buildx/trixie docker-compose/trixie iptables || return
  elif [[ $id == debian ]]; then
    provision_apt update && provision_apt install --no-install-recommends \
      docker.io docker-cli docker-buildx docker-compose iptables || return
  else
    provision_refuse "which packages hold the engine on $(provision_os PRETTY_NAME) is not known here" \
      "install a Docker engine with the buildx and compose plugins, run this again"
    return
  fi
  hash -r
}

# True while the dockerd that a pid file names runs; a killed one stays in the process table until somebody reaps it.
provision_dockerd_lives() {
  local pid
  pid=$(cat "$1" 2>/dev/null) && [[ -n $pid && $(cat "/proc/$pid/comm" 2>/dev/null) == dockerd ]] &&
    ! grep -q '^State:[[:space:]]*Z' "/proc/$pid/status" 2>/dev/null
}

# Starts dockerd in a session of its own, so that it outlives this shell and its terminal, and holds none of its files.
provision_launch_dockerd() {
  local pid_file=$1 log=$2
  if provision_dockerd_lives "$pid_file"; then return; fi
  rm -f "$pid_file" # dockerd refuses to start beside one whose process it takes for alive
  (
    if [[ -n ${PROVISION_LOCK_FD:-} ]]; then exec {PROVISION_LOCK_FD}>&-; fi
    exec setsid nohup dockerd --pidfile "$pid_file" </dev/null >>"$log" 2>&1
  ) &
  disown
}

provision_start_engine() {
  local pid_file=$PROVISION_ENGINE_DIR/dockerd.pid log=$PROVISION_ENGINE_DIR/dockerd.log second
  if [[ -d /run/systemd/system ]]; then
    provision_say "starting the docker service"
    if systemctl start docker && provision_engine_answers; then return; fi
    provision_refuse "the docker service does not answer" "see: systemctl status docker; journalctl -u docker"
    return
  fi
  provision_say "starting dockerd (log: $log)"
  mkdir -p "$PROVISION_ENGINE_DIR"
  for ((second = 0; second < 60; second++)); do
    # Again every few seconds: an engine killed a moment ago may still hold what the new one needs.
    if ((second % 5 == 0)); then provision_launch_dockerd "$pid_file" "$log"; fi
    if provision_engine_answers; then return; fi
    sleep 1
  done
  tail -n 15 "$log" >&2
  provision_refuse "dockerd did not answer within 60 s" "read $log; a container or VM must be allowed to run dockerd"
}

provision_engine() {
  if provision_engine_answers && provision_has_plugins; then return; fi
  if ! provision_can_install; then
    local missing="no Docker engine answers"
    if provision_engine_answers; then missing="the docker client lacks the buildx or the compose plugin"; fi
    provision_refuse "$missing, and only root on Debian or Ubuntu can be helped from here" \
      "start or install Docker with the buildx and compose plugins (docker info, docker buildx version, docker compose version must work)"
    return
  fi
  if [[ -n ${DOCKER_HOST:-} ]] && ! provision_engine_answers; then
    provision_refuse "the engine that DOCKER_HOST names does not answer" "start it, or unset DOCKER_HOST"
    return
  fi
  if ! command -v dockerd >/dev/null || ! provision_has_plugins; then provision_install_engine || return; fi
  if ! provision_engine_answers; then provision_start_engine || return; fi
  provision_has_plugins ||
    provision_refuse "the docker client finds no buildx or no compose plugin" "see: docker buildx version; docker compose version"
}

# Leaves an engine with buildx and compose answering.
ensure_engine() {
  if provision_engine_answers && provision_has_plugins; then return; fi
  provision_alone provision_engine
}

# Stops the engine that ensure_engine started, and no other. Images and containers stay on disk.
stop_engine() {
  local pid_file=$PROVISION_ENGINE_DIR/dockerd.pid pid second
  if [[ ! -s $pid_file ]]; then
    provision_say "no engine was started from here"
    return
  fi
  pid=$(<"$pid_file")
  if ! provision_dockerd_lives "$pid_file"; then
    rm -f "$pid_file"
    provision_say "the engine started from here is gone already"
    return
  fi
  kill "$pid"
  for ((second = 0; second < 60; second++)); do
    if ! provision_dockerd_lives "$pid_file"; then
      rm -f "$pid_file"
      provision_say "engine stopped"
      return
    fi
    sleep 1
  done
  provision_refuse "dockerd ($pid) did not stop within 60 s" "read $PROVISION_ENGINE_DIR/dockerd.log"
}

# --- base image ------------------------------------------------------------------------------------------------------

# provision_debian_of REF: the Debian release whose own Python is the one that a python:X.Y image promises.
provision_debian_of() {
  case $1 in
    python:3.9 | python:3.9[-.]*) printf bullseye ;;
    python:3.11 | python:3.11[-.]*) printf bookworm ;;
    python:3.13 | python:3.13[-.]*) printf trixie ;;
    *) return 1 ;;
  esac
}

# Makes an image out of Debian's packages that behaves as the official one does for whoever builds on it: `python`,
# `python3` and `pip` on PATH, pip free to install system-wide, Debian's apt. Site-packages differ (dist-packages).
provision_import_base() {
  local ref=$1 suite=$2 uri key dir work status=0
  local keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  ensure_tools debootstrap debian-archive-keyring || return
  if ! read -r uri key < <(provision_archive); then
    provision_refuse "no Debian archive in the apt sources of this machine" "docker pull or docker load $ref"
    return
  fi
  if [[ $key == /*.gpg ]]; then keyring=$key; fi
  work=$(mktemp -d -p "${WHEELCACHE_TMPDIR:-/var/tmp}" wheelcache-base.XXXXXX) || return
  dir=$work/root
  provision_say "making $ref from Debian's packages (debootstrap $suite, about a minute)"
  if ! debootstrap --variant=minbase --keyring="$keyring" \
    --include=python3,python3-pip,python3-venv,ca-certificates "$suite" "$dir" "$uri" </dev/null >"$work/log" 2>&1; then
    tail -n 15 "$work/log" >&2
    rm -rf -- "$work"
    provision_refuse "debootstrap $suite failed" "see the lines above; or docker pull / docker load $ref"
    return
  fi
  rm -f "$dir"/usr/lib/python3*/EXTERNALLY-MANAGED
  ln -sf python3 "$dir/usr/bin/python"
  # As the slim images of Docker's library do: no package lists, documentation or translations, now or later.
  rm -rf "$dir"/var/cache/apt/* "$dir"/var/lib/apt/lists/* "$dir"/var/log/* "$dir"/usr/share/{doc,man,info,locale,lintian}/*
  printf 'path-exclude /usr/share/%s/*\n' doc man info locale lintian >"$dir/etc/dpkg/dpkg.cfg.d/docker"
  printf '#!/bin/sh\nexit 101\n' >"$dir/usr/sbin/policy-rc.d"
  chmod 0755 "$dir/usr/sbin/policy-rc.d"
  printf 'APT::Install-Recommends "true";\nDPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin || true"; };\n' \
    >"$dir/etc/apt/apt.conf.d/docker-clean"
  rm -f "$dir/etc/resolv.conf" "$dir/etc/hostname"
  tar -C "$dir" --numeric-owner -c . |
    docker import --change 'CMD ["python3"]' --change 'ENV LANG=C.UTF-8' - "$ref" >/dev/null || status=$?
  rm -rf -- "$work"
  return "$status"
}

provision_base() {
  local ref=$1 suite
  if docker image inspect "$ref" >/dev/null 2>&1; then return; fi
  if [[ -z ${WHEELCACHE_NO_PULL:-} ]]; then
    provision_say "pulling $ref"
    if timeout "${WHEELCACHE_PULL_TIMEOUT:-60}" docker pull -q "$ref" </dev/null >/dev/null 2>&1; then return; fi
    provision_say "$ref cannot be pulled"
  fi
  if ! suite=$(provision_debian_of "$ref") || ! provision_can_install || [[ $(provision_os ID) != debian ]]; then
    provision_refuse "base image $ref is not here, and cannot be made on this machine" \
      "docker pull $ref where a registry answers, or docker load it from a file"
    return
  fi
  provision_import_base "$ref" "$suite"
}

# ensure_base [REF]: leaves the image in the engine: there already, else pulled, else made from Debian's packages.
ensure_base() {
  local ref=${1:-python:3.11-slim}
  if docker image inspect "$ref" >/dev/null 2>&1; then return; fi
  provision_alone provision_base "$ref"
}

# --- packages and Python ---------------------------------------------------------------------------------------------

# ensure_tools PACKAGE...: leaves these Debian packages installed.
ensure_tools() {
  local name missing=()
  for name in "$@"; do
    if ! command -v dpkg-query >/dev/null || ! provision_has_package "$name"; then missing+=("$name"); fi
  done
  if ((${#missing[@]} == 0)); then return; fi
  if ! provision_can_install; then
    provision_refuse "missing: ${missing[*]}" "install these (Debian's names) by hand"
    return
  fi
  provision_alone provision_packages "${missing[@]}"
}

provision_packages() {
  provision_say "installing $* (apt-get)"
  # The lists may be absent (container images come without) or too old for the archive: refreshed only then.
  provision_apt install --no-install-recommends "$@" 2>/dev/null ||
    { provision_apt update && provision_apt install --no-install-recommends "$@"; }
}

# Prints the first interpreter of 3.11 or newer; the machine's own `python3` comes first.
provision_python() {
  local name
  for name in python3 python3.13 python3.12 python3.11 python3.14; do
    if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      printf '%s' "$name"
      return
    fi
  done
  return 1
}

# provision_make_venv DIR: an environment with pip; on Debian, venv is a package of its own.
provision_make_venv() {
  local python
  if ! python=$(provision_python) && provision_can_install; then
    ensure_tools python3 python3-venv || return
    hash -r
  fi
  if ! python=$(provision_python); then
    provision_refuse "no Python of 3.11 or newer on PATH" "install one, run this again"
    return
  fi
  if ! "$python" -c 'import ensurepip, venv' 2>/dev/null && provision_can_install; then
    ensure_tools python3-venv || return
  fi
  "$python" -m venv --clear "$1"
}

# ensure_venv [EXTRAS]: leaves .venv at the root of the checkout with this project (editable) and the extras named
# (comma-separated). Installs again only when pyproject.toml or the interpreter has changed, or an extra is new.
ensure_venv() {
  local extras=${1:-} venv=$PROVISION_ROOT/.venv stamp state have="" name attempt
  local -a names=()
  stamp=$venv/.provisioned
  if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    provision_say "creating $venv"
    provision_make_venv "$venv" || return
  fi
  state="$("$venv/bin/python" -c 'import sys; print(*sys.version_info[:3], sep=".")') $(cksum <"$PROVISION_ROOT/pyproject.toml")"
  if [[ -f $stamp && $(head -n 1 "$stamp") == "$state" ]]; then have=",$(sed -n 2p "$stamp"),"; fi
  IFS=, read -r -a names <<<"$extras"
  local new=0
  if [[ -z $have ]]; then new=1; fi
  for name in ${names[@]+"${names[@]}"}; do
    if [[ $have != *",$name,"* ]]; then new=1; fi
  done
  if ((!new)); then return; fi
  extras=$(printf '%s\n' "${have//,/ }" "${extras//,/ }" | tr -s ' ' '\n' | sort -u | grep . | paste -sd, - || true)
  provision_say "installing this project into $venv${extras:+ (extras: $extras)}"
  for attempt in 1 2 3; do
    if "$venv/bin/python" -m pip --disable-pip-version-check install -q --timeout 120 --retries 10 \
      -e "$PROVISION_ROOT${extras:+[$extras]}" </dev/null >&2; then
      printf '%s\n%s\n' "$state" "$extras" >"$stamp"
      return
    fi
    provision_say "pip failed (attempt $attempt of 3)"
  done
  provision_refuse "the virtual environment cannot be completed" "see pip's words above; check the package index and the CA bundle"
}

# --- as a command ----------------------------------------------------------------------------------------------------

provision_main() {
  if (($# == 0)); then set -- engine base venv ""; fi
  while (($#)); do
    case $1 in
      engine) ensure_engine ;;
      base) ensure_base "" ;;
      *:*) ensure_base "$1" ;;
      stop) stop_engine ;;
      venv)
        case ${2-engine} in
          engine | base | stop | *:*) ensure_venv "" ;;
          *)
            ensure_venv "$2"
            shift
            ;;
        esac
        ;;
      *)
        provision_say "unknown word: $1 (engine | base | IMAGE:TAG | venv [EXTRAS] | stop)"
        return 2
        ;;
    esac
    shift
  done
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then provision_main "$@"; fi
