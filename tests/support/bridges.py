"""A bridge for an engine of a test's own: one that has none, or that has the default one, takes the machine's away."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def own_bridge() -> Iterator[str]:
    """Makes a bridge that leads nowhere, and returns its name."""
    token = uuid.uuid4()
    name, network = f"wc{token.hex[:10]}", f"10.214.{token.bytes[0]}.1/24"
    subprocess.run(["ip", "link", "add", name, "type", "bridge"], check=True)
    try:
        subprocess.run(["ip", "addr", "add", network, "dev", name], check=True)
        yield name
    finally:
        subprocess.run(["ip", "link", "delete", name], check=True)
