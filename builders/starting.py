"""Finds what the containers of a service start: by its compose file, and by scripts of its build context."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from builders.contextfiles import ContextFiles, ContextPath, Has, InlineFile, TextOf
from builders.dockerfile import Setting, Stages
from builders.shellcommand import Script

_KEYWORDS: Final = frozenset({"CMD", "ENTRYPOINT", "HEALTHCHECK"})
_WORD: Final = re.compile(r"""[^\s"'`,;|&<>()\[\]{}=]+""")
_FOLDERS: Final = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
"""Where a program is found that is named without a folder: the `PATH` of nearly every image."""

_UNREAD: Final = Script(commands=())


def started_texts(
    stages: Stages, said: Sequence[str], *, named_contexts: frozenset[str], has: Has, text_of: TextOf
) -> tuple[str, ...]:
    """Returns *said*, and the texts of the scripts that it, or the Dockerfile for a container's start, names.

    Those of the build context, as the context has them; scripts that only other scripts call are not looked for.

    Args:
        stages: of the Dockerfile.
        said: what the compose file wants to be started.
        named_contexts: their names.
        has: tells whether a context holds a file.
        text_of: returns what such a file says.
    """
    files = ContextFiles(stages, lambda _stage, _step: _UNREAD, named_contexts=named_contexts, has=has)
    end = len(stages.stages[stages.final].steps)
    found = [files.find(path, stage=stages.final, step=end) for path in dict.fromkeys(_paths(stages, said))]
    written = [each.content for each in found if isinstance(each, InlineFile)]
    copied = [text for each in found if isinstance(each, ContextPath) and (text := text_of(each))]
    return (*said, *written, *copied)


def _paths(stages: Stages, said: Sequence[str]) -> Iterator[str]:
    """Yields where in the image a word may stand for a file."""
    final = stages.stages[stages.final]
    for text in said:
        yield from _places(text, final.end)
    for index in stages.chain(stages.final):
        for step in stages.stages[index].steps:
            if step.instruction.keyword in _KEYWORDS:
                yield from _places(step.instruction.body, step.setting)


def _places(text: str, setting: Setting) -> Iterator[str]:
    for word in _WORD.findall(text):
        yield setting.path(word)
        if "/" not in word:
            yield from (f"{folder}/{word}" for folder in _FOLDERS)
