"""What git tells of a folder: which commit it is, and where its source is kept."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from wheelcache.programs import ProgramMissingError, ProgramTimeoutError, Runner

_SECONDS: Final = 10.0
_REMOTE: Final = "origin"
_SCP_LIKE: Final = re.compile(r"(?:(?P<user>[^@/:\s]+)@)?(?P<host>[^@/:\s]{2,}):(?!//)(?P<path>\S+)")
"""`git@host:owner/project.git` (git-clone, "Git URLs"); of one letter before the colon Windows makes a drive."""


def commit_of(folder: Path, run: Runner) -> str:
    """Returns the last commit that touched *folder*; empty where git does not know it, or files differ from it.

    Files that git does not track count for nothing.
    """
    if _ask(run, folder, "status", "--porcelain", "--untracked-files=no", "--", ".") != "":
        return ""
    return _ask(run, folder, "log", "-1", "--format=%H", "--", ".") or ""


def head_of(folder: Path, run: Runner) -> str:
    """Returns the commit that *folder*'s repository is at; empty where there is none.

    With `-dirty` behind it (as `git describe` says it) where a tracked file differs from it.
    """
    head = _ask(run, folder, "rev-parse", "--verify", "--quiet", "HEAD") or ""
    is_clean = not head or _ask(run, folder, "status", "--porcelain", "--untracked-files=no") == ""
    return head if is_clean else f"{head}-dirty"


def source_of(folder: Path, run: Runner) -> str:
    """Returns the URL of the repository that *folder* was cloned from; empty where there is none.

    Never with credentials, which both a URL and git's `insteadOf` may bring along; a folder of this machine is no URL.
    """
    return public_url(_ask(run, folder, "remote", "get-url", _REMOTE) or "")


def public_url(text: str) -> str:
    """Returns a repository's URL without what is only its owner's: password, token, query; empty for none.

    The user of an ssh URL stays, without whom nobody gets in: it is `git` for everybody.
    """
    if scp_like := _SCP_LIKE.fullmatch(text):
        user = f"{scp_like['user']}@" if scp_like["user"] else ""
        return f"ssh://{user}{scp_like['host']}/{scp_like['path'].lstrip('/')}"
    try:
        parts = urlsplit(text)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return ""
    if parts.scheme not in {"https", "http", "ssh", "git", "git+ssh"} or not parts.hostname:
        return ""
    user = f"{parts.username}@" if parts.username and "ssh" in parts.scheme else ""
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return urlunsplit((parts.scheme, f"{user}{host}{port}", parts.path, "", ""))


def _ask(run: Runner, folder: Path, *words: str) -> str | None:
    """Returns what git prints; None where it refuses, or is not there."""
    try:
        asked = run(["git", "--no-optional-locks", "-C", str(folder), *words], timeout=_SECONDS)
    except (ProgramMissingError, ProgramTimeoutError):
        return None
    return asked.stdout.decode(errors="replace").strip() if asked.is_done else None
