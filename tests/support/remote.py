"""Another engine's BuildKit behind a socket, as buildx' driver `remote` wants it."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def buildkit_socket(path: Path, *, environ: Mapping[str, str]) -> Iterator[str]:
    """Lets clients of a socket talk to the BuildKit of the engine that *environ* leads to; returns its address."""
    dialling: list[subprocess.Popen[bytes]] = []
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def accept() -> None:
            while True:
                try:
                    client, _ = listening.accept()
                except OSError:  # closed
                    return
                with client:
                    argv = ["docker", "buildx", "dial-stdio", "--builder", "default"]
                    dialling.append(subprocess.Popen(argv, env=environ, stdin=client, stdout=client))

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield f"unix://{path}"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            for each in dialling:
                each.kill()
                each.wait()
