"""Tells whether a RUN needs the network for something other than what pip and uv install."""

from __future__ import annotations

import re
from collections.abc import Mapping
from keyword import iskeyword
from typing import Final

from builders.pipcommand import module_run
from builders.shellcommand import Command, Script

_QUIET: Final = frozenset(
    name
    for names in (
        ". : [ [[ alias break builtin cd command continue declare echo eval exec exit export false getopts hash kill",
        "let local popd printf pushd pwd read readonly return set shift shopt source test time trap true type typeset",
        "ulimit umask unset wait",
        "base64 basename cat chgrp chmod chown cksum cmp comm cp cut date dd df diff dirname du env expr fc-cache",
        "file find fix-permissions head id install ln ls md5sum mkdir mktemp mv nproc paste patch printenv ps readlink",
        "realpath rename rm rmdir seq sha1sum sha256sum sha512sum sleep sort split stat sync tac tail tee touch tr",
        "tree truncate tty uname uniq unlink wc which whoami xargs yes",
        "awk egrep fgrep gawk grep jq sed",
        "bunzip2 bzip2 gunzip gzip tar unxz unzip xz zcat zip zstd",
        "addgroup adduser chpasswd chsh deluser groupadd groupmod passwd useradd userdel usermod visudo",
        "getent hostname ldconfig locale-gen localedef lscpu update-alternatives update-ca-certificates update-locale",
        "ar as c++ cc cpp g++ gcc ld ldd nm objdump patchelf ranlib readelf strip",
        "dpkg-query rpm-query python-config virtualenv",
    )
    for name in names.split()
)
"""Programs that never use the network."""

_QUIET_VERBS: Final[Mapping[str, frozenset[str]]] = {
    **dict.fromkeys(
        ("apk", "apt", "apt-cache", "apt-get", "apt-mark", "aptitude", "dnf", "microdnf", "tdnf", "yum", "zypper"),
        frozenset({"auto", "autoclean", "autoremove", "clean", "del", "erase", "manual", "purge", "remove"}),
    ),
    **dict.fromkeys(("conda", "mamba", "micromamba"), frozenset({"activate", "clean", "config", "info", "init"})),
    "git": frozenset({"apply", "checkout", "config", "describe", "init", "log", "reset", "rev-parse", "status"}),
    "npm": frozenset({"cache", "config"}),
    "poetry": frozenset({"cache", "check", "config"}),
    "uv": frozenset({"cache", "pip", "sync", "venv", "version"}),
    "yarn": frozenset({"cache", "config"}),
}
"""By program: what it does without the network."""

_QUIET_MODULES: Final = frozenset(
    ["compileall", "ensurepip", "ipykernel", "pip", "py_compile", "site", "uv", "venv", "virtualenv"]
)
_ALWAYS_QUIET: Final = re.compile(r"echo|printf|test|\[|\[\[|pip(-?\d[\d.]*)?")
_FETCHES: Final = re.compile(
    r"https?://|from_pretrained|(?<!no-)download|load_dataset|urlretrieve|urlopen|requests\.get"
)


_FOR_VERSION: Final = re.compile(r"(^|\s)(-p|--python)[\s=]+[^\s/]+(\s|$)")
_CALLED: Final = re.compile(r"(\w+)\s*\(")
_QUIET_CALLS: Final = frozenset(
    name
    for names in (
        "abspath append basename bool close compile decode dict dirname dumps encode endswith enumerate exists",
        "exit expanduser find_spec float format get get_config_var get_path get_paths get_python_lib getattr",
        "getenv getsitepackages glob hasattr __import__ import_module int invalidate_caches is_available isdir",
        "isfile isinstance items join keys len list lower lstrip machine makedirs map max min mkdir open Path",
        "platform print range read read_text readlines realpath remove rename replace repr resolve rglob rstrip",
        "set sorted split splitlines startswith str strip sub symlink system_info tuple unlink upper values",
        "version write write_text writelines zip",
    )
    for name in names.split()
)
"""What a program in Python may call and is known to do without the network; a class may load a model."""


def needs_network(script: Script) -> bool:
    """True when a script runs something beside pip and uv that is not known to do without the network."""
    return any(not _is_quiet(command) for command in script.commands) or not all(map(_is_quiet_text, script.unread))


def _is_quiet(command: Command) -> bool:
    """True for a command that does without the network, pip and uv with a mounted configuration among them."""
    arguments = command.arguments
    if _ALWAYS_QUIET.fullmatch(command.name):
        return True
    if re.fullmatch(r"(python|pypy)[\d.]*", command.name):
        return _is_quiet_python(command)
    if command.name in _QUIET_VERBS:
        verb = next((word for word in arguments if not word.startswith("-")), "")
        if verb == "venv" and _FOR_VERSION.search(" ".join(arguments)):
            return False  # uv fetches an interpreter that is not there
        return not verb or verb in _QUIET_VERBS[command.name]
    return command.name in _QUIET and not any(_FETCHES.search(word) for word in arguments)


def _is_quiet_python(command: Command) -> bool:
    module = module_run(command)
    if module is not None:
        return module[0] in _QUIET_MODULES
    if "-c" in command.arguments:
        return all(_is_quiet_text(word) for word in command.arguments)
    return all(word.startswith("-") for word in command.arguments)


def _is_quiet_text(text: str) -> bool:
    """True for a program's text that calls nothing but what is known to do without the network."""
    calls = {name for name in _CALLED.findall(text) if not iskeyword(name)}
    return calls <= _QUIET_CALLS and _FETCHES.search(text) is None
