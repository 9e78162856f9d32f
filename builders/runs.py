"""Reads what a RUN instruction runs, in whichever of its forms."""

from __future__ import annotations

import re
from posixpath import basename
from typing import Final

from builders.dockerfile import Step
from builders.shell import SHELLS, is_shell_script, read_script, read_words
from builders.shellcommand import Files, Script

_MACHINES: Final = {"amd64": "x86_64", "arm64": "aarch64"}


def read_run(step: Step, files: Files | None = None) -> Script:
    """Returns the commands of a RUN; what no shell would read is given back as unread text.

    Args:
        step: the RUN.
        files: what is known of the files it sees.
    """
    instruction, setting = step.instruction, step.setting
    environment: dict[str, str | None] = {**dict.fromkeys(setting.unset, ""), **setting.args, **setting.env}
    words = instruction.exec_form
    if words is not None:
        return read_words(words, environment=environment, cwd=setting.workdir, files=files)
    text = instruction.body
    is_script = bool(instruction.heredocs) and re.fullmatch(r"\d*<<-?\S+", text) is not None
    if is_script:
        text = instruction.heredocs[0].content
        if not is_shell_script(text):
            return Script(commands=(), unread=(text,))
    elif instruction.heredocs:
        text = "\n".join([text, *(heredoc.raw.rstrip("\n") for heredoc in instruction.heredocs)])
    if basename(setting.shell[0]) not in SHELLS:
        return Script(commands=(), unread=(text,))
    try:
        return read_script(
            text,
            environment=environment,
            cwd=setting.workdir,
            complete=setting.knows_base,
            files=files,
            outputs=_outputs(setting.platform),
        )
    except RecursionError:  # nested deeper than anybody writes by hand
        return Script(commands=(), unread=(text,))


def _outputs(platform: str) -> dict[str, str]:
    """Returns what commands print that only tell the platform."""
    system, _, rest = platform.partition("/")
    arch = rest.partition("/")[0]
    machine = _MACHINES.get(arch)
    if system != "linux" or machine is None:
        return {}
    return {
        **dict.fromkeys(("uname -m", "uname -i", "uname -p", "uname --machine", "arch"), machine),
        "dpkg --print-architecture": arch,
        "uname -s": "Linux",
        "uname": "Linux",
    }
