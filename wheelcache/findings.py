"""What can be wrong with a store, as values."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from wheelcache.digest import Digest

Kind = Literal[
    "rot",  # bytes are not those that a digest or a journal vouches for
    "changed",  # a blob's stat is another than when its bytes were last read
    "unreadable",  # the disk or the permissions do not give a file
    "wrong-name",  # below blobs/, but no blob by its name and place
    "stray",  # nothing of ours
    "partial",  # nobody goes on with it, or nobody can
    "journal",  # a partial's journal is damaged
    "mode",  # a blob that its owner, or others, may write to
    "linked",  # a blob that has a name outside of the store
    "debris",  # what a killed process left, and nobody has a use for
    "catalog",  # the catalog is damaged, or says what is not so
    "root",  # a project's or a command's needs cannot be read
    "open-folder",  # anybody may change what is in it
]

HARMLESS: Final[frozenset[Kind]] = frozenset({"mode", "linked", "debris"})
"""What is worth a word, while no byte is wrong, missing or in doubt."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        kind: of what sort.
        path: where.
        digest: whose bytes are concerned; None where that cannot be told.
        expected: what should be there, in words.
        found: what is.
        hint: what to do.
        seen: the file's stat when it was looked at; None where that does not matter.
    """

    kind: Kind
    path: Path
    expected: str
    found: str
    hint: str
    digest: Digest | None = None
    seen: os.stat_result | None = None

    @property
    def is_harmless(self) -> bool:
        """True when nothing is the worse for it."""
        return self.kind in HARMLESS

    def as_json(self) -> dict[str, object]:
        """Returns it as JSON values; of a name that is no text, the bytes that are none are escaped."""
        return {
            "kind": self.kind,
            "path": _text(os.fspath(self.path)),
            "digest": self.digest,
            "expected": self.expected,
            "found": self.found,
            "hint": _text(self.hint),
            "harmless": self.is_harmless,
        }


def _text(said: str) -> str:
    return os.fsencode(said).decode(errors="backslashreplace")


class Findings(list[Finding]):
    """Findings in the order in which they are made."""

    def note(
        self,
        kind: Kind,
        path: Path,
        expected: str,
        found: str,
        hint: str,
        *,
        digest: Digest | None = None,
        seen: os.stat_result | None = None,
    ) -> None:
        """Adds one; arguments as for `Finding`."""
        self.append(Finding(kind=kind, path=path, expected=expected, found=found, hint=hint, digest=digest, seen=seen))
