"""What can be wrong with a store, as values."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from wheelcache.digest import Digest

Kind = Literal[
    "rot",  # bytes are not those that a digest or a journal vouches for
    "changed",  # a blob's stat is another than when its bytes were last read
    "unreadable",  # the disk or the permissions do not give a file
    "wrong-name",  # below blobs/, but no blob by its name and place
    "stray",  # nothing of ours
    "partial",  # nobody goes on with it, or nobody can
    "journal",  # a partial's journal is damaged
    "lock",  # held by nobody, for nothing
    "temporary",  # what a killed process left
    "catalog",  # the catalog is damaged, or says what is not so
    "root",  # a project's or a command's needs cannot be read
    "open-folder",  # anybody may change what is in it
]


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

    def as_json(self) -> dict[str, object]:
        """Returns it as JSON values."""
        return {
            "kind": self.kind,
            "path": str(self.path),
            "digest": self.digest,
            "expected": self.expected,
            "found": self.found,
            "hint": self.hint,
        }


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
