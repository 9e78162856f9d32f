"""A socket on this machine behind which an engine is that only the docker client can reach, such as one over ssh."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from threading import Thread
from typing import Final

_PATIENCE: Final = 5.0
"""Seconds that a client may take to end once its connection is closed."""


class Tunnel:
    """A Unix socket, each of whose connections a `docker system dial-stdio` carries on to the engine.

    So ssh, its keys, its configuration and its jump hosts are those of the docker client, which the SDK would need a
    second implementation of ssh for.

    Args:
        environ: the environment, in which the docker client chooses the engine.

    Raises:
        OSError: the socket cannot be made.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = dict(environ)
        self._folder = Path(tempfile.mkdtemp(prefix="wheelcache-"))
        self._clients: list[subprocess.Popen[bytes]] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._path))
        self._listener.listen()
        self._thread = Thread(target=self._serve, name="wheelcache-tunnel", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """The socket, as a docker host."""
        return f"unix://{self._path}"

    @property
    def _path(self) -> Path:
        return self._folder / "docker.sock"

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with connection:
                if not self._path.exists():  # the connection with which the end is told
                    return
                client = subprocess.Popen(
                    ["docker", "system", "dial-stdio"],
                    stdin=connection.fileno(),
                    stdout=connection.fileno(),
                    env=self._environ,
                    start_new_session=True,  # a terminal's Ctrl-C is for us, who still tidy up in the engine
                )
                self._clients.append(client)

    def close(self) -> None:
        """Ends what still runs, and takes the socket away."""
        hidden = self._path.rename(self._folder / "closing.sock")
        with socket.socket(socket.AF_UNIX) as last:
            last.connect(str(hidden))
            self._thread.join()
        self._listener.close()
        for client in self._clients:
            try:
                client.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                client.kill()
                client.wait()
        shutil.rmtree(self._folder, ignore_errors=True)
