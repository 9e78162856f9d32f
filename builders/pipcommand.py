"""Recognises a pip or uv command and reads what its arguments ask for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from posixpath import basename
from typing import Final, Literal

from packaging.utils import canonicalize_name

from builders.shellcommand import Command
from builders.shellwords import Word
from wheelcache.options import Grammar, Options, OptionsError

UNSURE: Final = "\0"
"""Stands in an argument for what only the running command knows."""

_INSTALLING: Final = frozenset({"install", "wheel", "download", "sync"})
_PIP_VALUED: Final = (
    "--log --log-file --local-log",
    "--proxy",
    "--retries",
    "--timeout --default-timeout",
    "--exists-action",
    "--trusted-host",
    "--cert",
    "--client-cert",
    "--cache-dir",
    "--use-feature",
    "--use-deprecated",
    "--keyring-provider",
    "--resume-retries",
    "--python",
)
_PIP_FLAGS: Final = (
    "--help -h",
    "--debug",
    "--isolated",
    "--require-virtualenv --require-venv",
    "--verbose -v",
    "--version -V",
    "--quiet -q",
    "--no-input",
    "--no-cache-dir --no-cache",
    "--disable-pip-version-check",
    "--no-color",
    "--no-python-version-warning",
)
_PIP: Final = Grammar(
    valued=(
        *_PIP_VALUED,
        "--requirement -r",
        "--constraint -c",
        "--build-constraint",
        "--editable -e",
        "--group",
        "--requirements-from-script",
        "--target -t",
        "--platform",
        "--python-version",
        "--implementation",
        "--abi",
        "--root",
        "--prefix",
        "--src",
        "--upgrade-strategy",
        "--config-settings --config-setting -C",
        "--global-option",
        "--install-option",
        "--build-option",
        "--no-binary",
        "--only-binary",
        "--progress-bar",
        "--root-user-action",
        "--report",
        "--index-url -i --pypi-url",
        "--extra-index-url",
        "--find-links -f",
        "--uploaded-prior-to",
        "--all-releases",
        "--only-final",
        "--wheel-dir -w",
        "--dest --destination-dir --destination-directory -d",
    ),
    flags=(
        *_PIP_FLAGS,
        "--upgrade -U",
        "--force-reinstall",
        "--ignore-installed -I",
        "--no-deps --no-dependencies",
        "--pre",
        "--user",
        "--no-user",
        "--require-hashes",
        "--no-index",
        "--no-warn-script-location",
        "--no-warn-conflicts",
        "--no-build-isolation",
        "--use-pep517",
        "--no-use-pep517",
        "--check-build-dependencies",
        "--break-system-packages",
        "--ignore-requires-python",
        "--compile",
        "--no-compile",
        "--no-clean",
        "--no-verify",
        "--prefer-binary",
        "--dry-run",
    ),
)
_PIP_GLOBAL: Final = Grammar(valued=_PIP_VALUED, flags=_PIP_FLAGS, stops=True)
_UV_VALUED: Final = (
    "--cache-dir",
    "--allow-insecure-host --trusted-host",
    "--color",
    "--directory",
    "--project",
    "--config-file",
    "--python-preference",
    "--python-fetch",
    "--preview-features --preview-feature",
)
_UV_FLAGS: Final = (
    "--help -h",
    "--version -V",
    "--quiet -q",
    "--verbose -v",
    "--no-cache --no-cache-dir -n",
    "--native-tls",
    "--no-native-tls",
    "--system-certs",
    "--offline",
    "--no-offline",
    "--no-progress",
    "--no-config",
    "--no-color",
    "--managed-python",
    "--no-managed-python",
    "--no-python-downloads",
    "--allow-python-downloads",
    "--preview",
    "--no-preview",
)
_UV: Final = Grammar(
    valued=(
        *_UV_VALUED,
        "--requirement --requirements -r",
        "--constraint --constraints -c",
        "--build-constraint --build-constraints -b",
        "--override --overrides",
        "--excludes --exclude",
        "--editable -e",
        "--extra",
        "--group",
        "--index",
        "--default-index",
        "--index-url -i",
        "--extra-index-url",
        "--find-links -f",
        "--index-strategy",
        "--keyring-provider",
        "--upgrade-package -P",
        "--reinstall-package",
        "--refresh-package",
        "--resolution",
        "--prerelease",
        "--fork-strategy",
        "--config-setting --config-settings -C",
        "--config-settings-package",
        "--no-build-isolation-package",
        "--exclude-newer",
        "--exclude-newer-package",
        "--link-mode",
        "--no-sources-package",
        "--python -p",
        "--target -t",
        "--prefix",
        "--no-binary",
        "--only-binary",
        "--no-build-package",
        "--no-binary-package",
        "--python-version",
        "--python-platform",
        "--torch-backend",
    ),
    flags=(
        *_UV_FLAGS,
        "--all-extras",
        "--no-index",
        "--upgrade -U",
        "--reinstall --force-reinstall",
        "--pre",
        "--no-build-isolation",
        "--compile-bytecode --compile",
        "--no-compile-bytecode --no-compile",
        "--no-sources",
        "--refresh",
        "--no-deps",
        "--require-hashes",
        "--no-require-hashes",
        "--verify-hashes",
        "--no-verify-hashes",
        "--system",
        "--no-system",
        "--user",
        "--break-system-packages",
        "--no-break-system-packages",
        "--no-build",
        "--build",
        "--allow-empty-requirements",
        "--exact",
        "--inexact",
        "--strict",
        "--no-strict",
        "--dry-run",
    ),
)
_UV_GLOBAL: Final = Grammar(valued=_UV_VALUED, flags=_UV_FLAGS, stops=True)
_PIP_PROGRAM: Final = re.compile(r"pip(-?\d[\d.]*)?")
_GET_PIP: Final = re.compile(r"(^|/)get-pip[\w.-]*$")
_GETS: Final = (
    *("install", "--upgrade", "--force-reinstall", "pip"),
    *('setuptools; python_version < "3.12"', 'wheel; python_version < "3.12"'),
)
"""What get-pip.py asks pip for."""

PYTHON: Final = re.compile(r"(python|pypy)[\d.]*")
"""A Python interpreter's name, without its folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PipCommand:
    """A command that installs, fetches or builds distributions.

    Attributes:
        tool: which program's rules hold.
        subcommand: `install`, `wheel`, `download` or `sync`.
        program: pip's, python's or uv's word as written, found through PATH unless it has a slash.
        interpreter: how the tool is called, such as `python3 -m pip`.
        options: its arguments; `UNSURE` marks what is not known in them.
        problem: why the arguments could not be read; empty when they were.
    """

    tool: Literal["pip", "uv"]
    subcommand: str
    program: str
    interpreter: str
    options: Options
    problem: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """A call of pip or uv of any kind, before its arguments are read."""

    tool: Literal["pip", "uv"]
    program: str
    interpreter: str
    words: tuple[Word, ...]


def recognise_call(command: Command) -> Call | None:
    """Returns the call of pip or uv that *command* is; None where it is another program."""
    program, rest = command.words[0].text if command.words else "", command.words[1:]
    if command.name == "uv" or _PIP_PROGRAM.fullmatch(command.name):
        return Call(tool="uv" if command.name == "uv" else "pip", program=program, interpreter=program, words=rest)
    if not PYTHON.fullmatch(command.name):
        return None
    bootstrap = _bootstrap(command)
    if bootstrap is not None:
        return Call(tool="pip", program=program, interpreter=f"{program} -m pip", words=bootstrap)
    if rest and _PIP_PROGRAM.fullmatch(basename(rest[0].text)):
        return Call(tool="pip", program=program, interpreter=f"{program} {rest[0].text}", words=rest[1:])
    module = _module(rest)
    if module is None or module[0] not in {"pip", "uv"}:
        return None
    tool: Literal["pip", "uv"] = "pip" if module[0] == "pip" else "uv"
    return Call(tool=tool, program=program, interpreter=f"{program} -m {tool}", words=module[1])


def _bootstrap(command: Command) -> tuple[Word, ...] | None:
    """Returns the arguments of the pip that `get-pip.py` runs, as a file or through a pipe; None for anything else."""
    operands = [word for word in command.words[1:] if not word.text.startswith("-")]
    is_piped = not operands and any("get-pip" in word.text for word in command.feeding)
    if not is_piped and not (operands and _GET_PIP.search(operands[0].text)):
        return None
    given = command.words[command.words.index(operands[0]) + 1 :] if operands else command.words[1:]
    refused = {word.text.removeprefix("--no-") for word in given if word.text.startswith("--no-")}
    refused |= {"pip"} if any(re.match(r"pip\b", word.text) for word in given) else set()
    asked = [Word(text=text) for text in _GETS if text.partition(";")[0] not in refused]
    return (*asked, *(word for word in given if word.text not in {"-", "--no-setuptools", "--no-wheel"}))


def module_run(command: Command) -> tuple[str, tuple[str, ...]] | None:
    """Returns the module that `python -m` runs and its arguments; None for other commands."""
    if not command.words or not PYTHON.fullmatch(command.name):
        return None
    found = _module(command.words[1:])
    return None if found is None else (found[0], tuple(word.text for word in found[1]))


def subcommand_of(call: Call) -> tuple[str, tuple[str, ...], Options | None]:
    """Returns a call's subcommand, the arguments after it, and the options before it (None when unreadable).

    For uv the subcommand of `uv pip install` is `pip install`.
    """
    texts = tuple(word.marked(UNSURE) for word in call.words)
    try:
        before = (_PIP_GLOBAL if call.tool == "pip" else _UV_GLOBAL).read(texts)
        rest = before.operands
        if call.tool == "uv" and rest[:1] == ("pip",):
            inner = _UV_GLOBAL.read(rest[1:])
            before = Options(values={**before.values, **inner.values}, flags=before.flags | inner.flags, operands=())
            rest = ("pip " + " ".join(inner.operands[:1]), *inner.operands[1:])
    except OptionsError:
        return "", texts, None
    return (rest[0], rest[1:], before) if rest else ("", (), before)


def uninstalled_by(call: Call) -> tuple[str, ...]:
    """Returns the normalised names (PEP 503) that `pip uninstall` or `uv pip uninstall` takes away again."""
    subcommand, arguments, _ = subcommand_of(call)
    if subcommand.removeprefix("pip ") != "uninstall":
        return ()
    return tuple(canonicalize_name(word) for word in arguments if not word.startswith("-") and UNSURE not in word)


def read_pip_command(call: Call) -> PipCommand | None:
    """Returns what a call installs; None where its subcommand installs nothing."""
    subcommand, arguments, before = subcommand_of(call)
    plain = subcommand.removeprefix("pip ")
    if before is None:
        return _unreadable(call, arguments) if _INSTALLING & set(arguments) else None
    is_uv_pip = call.tool == "uv" and subcommand.startswith("pip ")
    if plain not in _INSTALLING or (call.tool == "uv") != is_uv_pip:
        return None
    grammar = _PIP if call.tool == "pip" else _UV
    problem = ""
    try:
        options = grammar.read(arguments)
    except OptionsError as error:
        options, problem = Options(values={}, flags=frozenset(), operands=()), f"its options: {error}"
    options = Options(
        values={**before.values, **options.values}, flags=before.flags | options.flags, operands=options.operands
    )
    if options.flags & {"dry-run", "help"}:
        return None
    interpreter = f"{call.interpreter} pip" if call.tool == "uv" else call.interpreter
    return PipCommand(
        tool=call.tool,
        subcommand=plain,
        program=call.program,
        interpreter=interpreter,
        options=options,
        problem=problem.replace(UNSURE, "…"),
    )


def _unreadable(call: Call, arguments: Sequence[str]) -> PipCommand:
    return PipCommand(
        tool=call.tool,
        subcommand=next(word for word in arguments if word in _INSTALLING),
        program=call.program,
        interpreter=call.interpreter,
        options=Options(values={}, flags=frozenset(), operands=()),
        problem="its options are not known",
    )


def _module(words: tuple[Word, ...]) -> tuple[str, tuple[Word, ...]] | None:
    """Returns the module after `-m` among an interpreter's options, and what follows it."""
    for at, word in enumerate(words):
        if re.fullmatch(r"-[a-zA-Z]*m", word.text) and at + 1 < len(words):
            return words[at + 1].text, words[at + 2 :]
        if match := re.fullmatch(r"-m(\w[\w.]*)", word.text):
            return match[1], words[at + 1 :]
        if not word.text.startswith("-") or word.text == "-c":
            return None
    return None
