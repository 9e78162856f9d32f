"""Why a service is built anew: what it is made from now, compared with what its image was made from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from wheelcache.runs import Basis

_SHOWN_ID: Final = len("sha256:") + 12
_NAMED: Final = 12
"""As many wheels as a sentence names."""


def changes(before: Basis, now: Basis, *, dockerfile: str = "Dockerfile") -> tuple[str, ...]:
    """Returns what differs, a sentence each; none where nothing that is known of does.

    Args:
        before: what the image was made from.
        now: what it is made from.
        dockerfile: what the service's Dockerfile is called.
    """
    return (
        *_sources(before, now, dockerfile),
        *_bases(before.bases, now.bases),
        *_arguments(before.arguments, now.arguments),
        *_shared(before, now),
        *_plain("mode", before.mode, now.mode),
        *_plain("stage", before.stage or "the last", now.stage or "the last"),
        *_plain("commit", before.revision[:12], now.revision[:12]),
    )


def wheel_changes(before: Mapping[str, tuple[str, str]], now: Mapping[str, tuple[str, str]]) -> tuple[str, ...]:
    """Returns what became of wheels: `+ httpx 0.28.1`, `~ numpy 2.1.0 → 2.2.0`, `- foo 1.0`.

    Args:
        before: version and digest by project.
        now: the same.
    """
    added = [f"+ {name} {now[name][0]}" for name in sorted(now.keys() - before.keys())]
    gone = [f"- {name} {before[name][0]}" for name in sorted(before.keys() - now.keys())]
    other = [
        f"~ {name} {before[name][0]} → {now[name][0]}"
        if before[name][0] != now[name][0]
        else f"~ {name} {now[name][0]} (another file)"
        for name in sorted(before.keys() & now.keys())
        if before[name] != now[name]
    ]
    return (*added, *other, *gone)


def _sources(before: Basis, now: Basis, dockerfile: str) -> Iterator[str]:
    """Yields what changed of the files that say what is installed, with the wheels that changed by it."""
    names = sorted(name for name, digest in now.files.items() if before.files.get(name) != digest)
    same = " (the same wheels)" if names else ""
    names += [dockerfile] if before.dockerfile != now.dockerfile else []
    wheels = wheel_changes(before.wheels, now.wheels)
    if not names and not wheels:
        return
    what = f"{_listed(names or ['lockfile'])} changed"
    yield f"{what}: {_cut(wheels)}" if wheels else f"{what}{same}"


def _bases(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    gone = sorted(before.keys() - now.keys())
    new = sorted(now.keys() - before.keys())
    if gone or new:
        yield f"base image changed: {_listed(gone) or 'none'} → {_listed(new) or 'none'}"
    for ref in sorted(before.keys() & now.keys()):
        if before[ref] != now[ref]:
            yield f"base image {ref} changed: {before[ref][:_SHOWN_ID]}… → {now[ref][:_SHOWN_ID]}…"


def _arguments(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    names = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    if names:
        yield f"build argument{'s' if len(names) > 1 else ''} changed: {', '.join(names)}"


def _shared(before: Basis, now: Basis) -> Iterator[str]:
    """Yields what comes with the shared base now, or no more, though it was locked before and still is."""
    locked = before.wheels.keys() & now.wheels.keys()
    came = sorted((set(now.shared) - set(before.shared)) & locked)
    left = sorted((set(before.shared) - set(now.shared)) & locked)
    if came:
        yield f"comes with the shared base now: {_cut(came)}"
    if left:
        yield f"comes with the shared base no more: {_cut(left)}"


def _plain(what: str, before: str, now: str) -> Iterator[str]:
    if before != now:
        yield f"{what}: {before or 'none'} → {now or 'none'}"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def _cut(words: Sequence[str]) -> str:
    more = f", and {len(words) - _NAMED} more" if len(words) > _NAMED else ""
    return ", ".join(words[:_NAMED]) + more
