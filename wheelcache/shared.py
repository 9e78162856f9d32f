"""What the downloads of one sync have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wheelcache.events import Sink
from wheelcache.hosts import Hosts
from wheelcache.pace import FetchSettings, Watch
from wheelcache.store import Store

if TYPE_CHECKING:
    from wheelcache.transport import Transport


@dataclass(frozen=True, kw_only=True, slots=True)
class Shared:
    """What the downloads of one sync have in common.

    Attributes:
        store: where to.
        transport: makes, or gives, the connections.
        mirrors: roots of Simple APIs that serve the same files.
        indexes: roots to ask where a wheel is now whose own URL is refused.
        settings: limits.
        emit: takes events.
        watch: ends what stalls.
        hosts: how they do.
        offline: nothing but files of this machine is read.
        pause: returns the seconds to wait after so many failures in a row.
    """

    store: Store
    transport: Callable[[], Transport]
    mirrors: Sequence[str]
    indexes: Sequence[str]
    settings: FetchSettings
    emit: Sink
    watch: Watch
    hosts: Hosts
    offline: bool
    pause: Callable[[int], float]
