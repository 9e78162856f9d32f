"""Credentials from the user's keyring, asked by its own program, as uv and pip do; nothing of it is stored here."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from wheelcache.errors import WheelcacheError
from wheelcache.programs import Runner, run_program

_SECONDS: Final = 30.0
"""How long the program may take: it may have to ask a server of its own."""


class Keyring:
    """The `keyring` program (github.com/jaraco/keyring), asked once per host and user; from any thread.

    Args:
        run: runs programs.
        find: returns where a program is; None where there is none.
    """

    def __init__(self, *, run: Runner = run_program, find: Callable[[str], str | None] = shutil.which) -> None:
        self._run = run
        self._find = find
        self._guard = threading.Lock()
        self._known: dict[tuple[str, str], tuple[str, str] | None] = {}

    def ask(self, url: str, user: str = "") -> tuple[str, str] | None:
        """Returns user and password for the server of *url*; None where the keyring has none, or there is no keyring.

        Args:
            url: that was refused; only its origin is told to the program.
            user: whose password is wanted; empty for whoever the keyring names.
        """
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        with self._guard:
            if (host, user) not in self._known:
                services = (f"{parts.scheme}://{host}", host)
                found = (self._ask_for(service, user) for service in services)
                self._known[host, user] = next((pair for pair in found if pair is not None), None)
            return self._known[host, user]

    def _ask_for(self, service: str, user: str) -> tuple[str, str] | None:
        program = self._find("keyring")
        if program is None:
            return None
        argv = [program, "get", service, user] if user else [program, "--mode", "creds", "get", service]
        try:
            ran = self._run(argv, timeout=_SECONDS)
        except WheelcacheError:  # a keyring that is broken or locked is as good as none: the server's refusal is shown
            return None
        lines = ran.stdout.decode(errors="replace").splitlines()
        if ran.returncode != 0 or len(lines) < (1 if user else 2):
            return None
        return (user, lines[0]) if user else (lines[0], lines[1])
