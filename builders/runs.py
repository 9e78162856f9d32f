"""Reads what a RUN instruction runs, in whichever of its forms."""

from __future__ import annotations

import re
from posixpath import basename
from typing import Final

from builders.dockerfile import Step
from builders.shell import read_script, read_words
from builders.shellcommand import Script

_SHELLS: Final = frozenset({"sh", "bash", "dash", "ash", "zsh", "ksh"})
_NETWORKED: Final = frozenset(
    {
        "add-apt-repository",
        "apk",
        "apt",
        "apt-get",
        "aptitude",
        "aria2c",
        "aws",
        "bun",
        "cargo",
        "conda",
        "curl",
        "dnf",
        "gcloud",
        "gdown",
        "gem",
        "gsutil",
        "hf",
        "huggingface-cli",
        "mamba",
        "microdnf",
        "micromamba",
        "npm",
        "npx",
        "nvm",
        "pacman",
        "pdm",
        "pipenv",
        "pipx",
        "pixi",
        "playwright",
        "pnpm",
        "poetry",
        "rsync",
        "rustup",
        "scp",
        "ssh",
        "svn",
        "tdnf",
        "uvx",
        "wget",
        "yarn",
        "yum",
        "zypper",
    }
)
_QUIET: Final = frozenset({"autoremove", "autoclean", "clean", "purge", "remove", "cache", "config"})
_GIT_NETWORK: Final = frozenset({"clone", "fetch", "pull", "submodule", "lfs", "ls-remote"})
_FETCHES: Final = re.compile(
    r"https?://|from_pretrained|(?<!no-)download|load_dataset|urlretrieve|urlopen|requests\.get"
)


def read_run(step: Step) -> Script:
    """Returns the commands of a RUN; what no shell would read is given back as unread text."""
    instruction, setting = step.instruction, step.setting
    environment: dict[str, str | None] = {**setting.args, **setting.env}
    words = instruction.exec_form
    if words is not None:
        return read_words(words, environment=environment, cwd=setting.workdir)
    text = instruction.body
    is_script = bool(instruction.heredocs) and re.fullmatch(r"\d*<<-?\S+", text) is not None
    if is_script:
        text = instruction.heredocs[0].content
        if not _is_shell_script(text):
            return Script(commands=(), unread=(text,))
    elif instruction.heredocs:
        text = "\n".join([text, *(heredoc.raw.rstrip("\n") for heredoc in instruction.heredocs)])
    if basename(setting.shell[0]) not in _SHELLS:
        return Script(commands=(), unread=(text,))
    return read_script(text, environment=environment, cwd=setting.workdir, complete=setting.knows_base)


def needs_network(script: Script) -> bool:
    """True when a script runs something beside pip and uv that clearly wants the network."""
    for command in script.commands:
        arguments = command.arguments
        verb = next((word for word in arguments if not word.startswith("-")), "")
        if command.name in _NETWORKED and verb not in _QUIET and verb:
            return True
        if command.name == "git" and _GIT_NETWORK & set(arguments):
            return True
        runs_pip = re.fullmatch(r"pip[\d.]*|uv", command.name) or "pip" in arguments[:3]
        is_quiet = runs_pip or command.name in {"echo", "printf", "test", "["}
        if not is_quiet and any(_FETCHES.search(word) for word in arguments):
            return True
    return any(_FETCHES.search(text) for text in script.unread)


def _is_shell_script(text: str) -> bool:
    first = text.split("\n", 1)[0]
    if not first.startswith("#!"):
        return True
    words = [basename(word) for word in first[2:].split()]
    return bool(_SHELLS & set(words[:2] if words[:1] == ["env"] else words[:1]))
