"""What all commands share in one run: settings, the project, the store, where events go, and what is to be reported."""

from __future__ import annotations

import json
import os
import sys
import threading
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wheelcache.config import Project, load_project
from wheelcache.errors import Interrupted, WheelcacheError
from wheelcache.events import Note, Sink
from wheelcache.redaction import printable_lines

if TYPE_CHECKING:
    from wheelcache.locking import Locker
    from wheelcache.roots import Roots
    from wheelcache.store import Store
    from wheelcache.transport import Transport


@dataclass(kw_only=True)
class Session:
    """One run of one command.

    Attributes:
        command: the command's name, for the report.
        config: the project file as named by the user.
        cache_dir: the cache folder as named by the user.
        offline: True when this program must not use the network.
        json: True when stdout is to carry one JSON document.
        events: the file that takes events as JSON lines.
        verbosity: 0 normal, negative quieter, positive more.
        stop: set once a signal asked us to stop.
        signal_number: which one.
        document: what was done so far, as the JSON document says it.
    """

    command: str = ""
    config: Path | None = None
    cache_dir: Path | None = None
    offline: bool = False
    json: bool = False
    events: Path | None = None
    verbosity: int = 0
    stop: threading.Event = field(default_factory=threading.Event)
    signal_number: int = 0
    document: dict[str, Any] = field(default_factory=dict)
    resources: ExitStack = field(default_factory=ExitStack)

    @cached_property
    def project(self) -> Project:
        """The project file's content, or the defaults.

        Raises:
            ProjectFileError: it is missing or wrong.
        """
        return load_project(self.config, start=Path.cwd())

    @cached_property
    def cache_root(self) -> Path:
        """The cache folder: `--cache-dir`, `$WHEELCACHE_DIR`, the project file, the platform's own, in this order."""
        if self.cache_dir is not None:
            return self.cache_dir.absolute()
        if named := os.environ.get("WHEELCACHE_DIR"):
            return Path(named).expanduser().absolute()
        if self.project.cache.dir:
            return self.project.root / Path(self.project.cache.dir).expanduser()
        from platformdirs import user_cache_path  # noqa: PLC0415 - needed only when nothing else says where

        return user_cache_path("wheelcache", appauthor=False)

    @cached_property
    def store(self) -> Store:
        """The open store.

        Raises:
            StoreError: it cannot be used.
        """
        from wheelcache.store import Store  # noqa: PLC0415

        return Store.open(self.cache_root, command=f"wheelcache {self.command}")

    @cached_property
    def roots(self) -> Roots:
        """What the store must not lose.

        Raises:
            StoreError: the store cannot be used.
        """
        from wheelcache.roots import Roots  # noqa: PLC0415

        return Roots(self.store.root)

    @cached_property
    def emit(self) -> Sink:
        """Takes events: to the terminal, and to the events file when there is one.

        Raises:
            UsageError: the events file cannot be written.
        """
        from wheelcache.cli.progress import open_sink  # noqa: PLC0415 - tqdm, once something is to be shown

        return open_sink(self.resources, events=self.events, verbosity=self.verbosity, stream=sys.stderr)

    def note(self, level: Any, message: str) -> None:  # noqa: ANN401 - Note checks it
        """Says a sentence on stderr."""
        self.emit(Note(level=level, message=message))

    def checkpoint(self) -> None:
        """Raises Interrupted once a signal asked us to stop."""
        if self.stop.is_set():
            raise Interrupted(self.signal_number)

    def say(self, line: str = "") -> None:
        """Prints a result for people; nothing where JSON was asked for."""
        if not self.json:
            sys.stdout.write(f"{printable_lines(line)}\n")

    def report(self, failure: WheelcacheError | None) -> None:
        """Ends the run's output: the JSON document on stdout, or the error on stderr."""
        self.resources.close()
        if failure is not None:
            sys.stdout.flush()  # what was done, before why it ended
            hint = f"\nhint: {failure.hint}" if failure.hint else ""
            sys.stderr.write(printable_lines(f"error: {failure.message}{hint}") + "\n")
        if self.json:
            document = {"command": self.command, **self.document, "ok": failure is None}
            if failure is not None:
                document["error"] = {
                    "kind": failure.kind,
                    "message": failure.message,
                    "hint": failure.hint,
                    "exit_code": int(failure.exit_code),
                }
            sys.stdout.write(json.dumps(document, indent=2) + "\n")
        sys.stdout.flush()


def open_transport(project: Project) -> Transport:
    """Returns connections as the project's `[download]` wants them."""
    from wheelcache.credentials import Keyring  # noqa: PLC0415 - see below
    from wheelcache.transport import Transport  # noqa: PLC0415 - requests, once something is fetched

    download = project.download
    return Transport(timeout=download.timeout, connections=download.per_host, credentials=Keyring().ask)


def make_locker(session: Session, project: Project) -> Locker:
    """Returns the locker of this run."""
    from wheelcache.locking import Locker  # noqa: PLC0415
    from wheelcache.resolve import Resolver, uv_program  # noqa: PLC0415

    resolver = Resolver(
        uv=uv_program(),
        indexes=tuple(project.indexes),
        torch_backend=project.target.torch_backend,
        environ=dict(os.environ),
        timeout=project.download.timeout,
        stop=session.stop,
    )
    return Locker(resolver=resolver, transport=lambda: open_transport(project), emit=session.emit)


def describe_wheels(count: int) -> str:
    """Returns `1 wheel`, `2 wheels`."""
    return f"{count} wheel" if count == 1 else f"{count} wheels"


def describe_bytes(count: float) -> str:
    """Returns bytes as people read them, in powers of 1000: `3.92 GB`."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if abs(value) < 1000:  # noqa: PLR2004 - the step between the units above
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"
