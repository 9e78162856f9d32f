"""The command line: the one place that prints and exits."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from typing import NoReturn


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line and exits with its code.

    Args:
        arguments: without the program's name; None takes the process's own.
    """
    try:
        from wheelcache.cli.app import run  # noqa: PLC0415 - keeps `import wheelcache.cli` free of click
    except KeyboardInterrupt:  # before there is a handler
        sys.exit(130)
    code = run(list(sys.argv[1:] if arguments is None else arguments))
    gc.freeze()  # the end of the process would look at each object several times: a tenth of a sync that has all
    sys.exit(code)
