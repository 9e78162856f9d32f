"""Connects to the very engine that the docker client would use, whatever made it choose that one."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from builders.background import in_background
from builders.buildx import THROUGH_DOCKER
from builders.errors import EngineError
from builders.failures import plain
from builders.tunnel import Tunnel
from wheelcache.programs import Completed, ProgramMissingError, ProgramTimeoutError, Runner

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.tls import TLSConfig

ANSWER: Final = 60
"""Seconds that the engine may take for an answer."""

_DEFAULT: Final = "default"
"""The context that stands for the environment, and for the machine's own engine."""

_START_HINT: Final = (
    "start Docker (systemctl start docker, Docker Desktop), check DOCKER_HOST and `docker context ls`, "
    "or on a fresh Debian machine run Dockerfiles/quickstart.sh"
)


_BUILDER: Final = (*THROUGH_DOCKER, "inspect")
_BUILDER_HINT: Final = (
    "name it to build there all the same (wheelcache build --builder NAME), or docker buildx use default and unset "
    "BUILDX_BUILDER; docker buildx ls shows what is chosen"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint:
    """Where an engine answers.

    Attributes:
        host: such as `unix:///var/run/docker.sock`, `tcp://…` or `ssh://…`.
        context: the docker context that says so; `default` where the environment does, TLS included.
        certificates: the context's folder with `ca.pem`, `cert.pem` and `key.pem`; None where it has none.
        is_verified: True where the engine's own certificate is checked.
    """

    host: str
    context: str = _DEFAULT
    certificates: Path | None = None
    is_verified: bool = True

    @property
    def where(self) -> str:
        """The same for people."""
        host = plain(self.host)
        return host if self.context == _DEFAULT else f"{host} (docker context {self.context})"


@dataclass(frozen=True, kw_only=True, slots=True)
class Connection:
    """A connection to an engine that answers.

    Attributes:
        client: the SDK's own.
        tunnel: that it goes through; None where it needs none.
    """

    client: DockerClient
    tunnel: Tunnel | None = None

    def close(self) -> None:
        """Closes it."""
        self.client.close()
        if self.tunnel is not None:
            self.tunnel.close()


def open_connection(*, run: Runner, environ: Mapping[str, str] | None = None) -> Connection:
    """Returns a connection to the engine that the docker client would use, which answers.

    Args:
        run: runs programs; asks the client for its choice and for its builder.
        environ: the environment; None for this process's own.

    Raises:
        EngineError: no engine answers, or builds would go elsewhere, or the docker client or its buildx plugin is
            missing.
    """
    environ = os.environ if environ is None else environ
    builder = in_background(lambda: _ask(run, _BUILDER, environ), name="builder")
    from docker.errors import DockerException  # noqa: PLC0415 - 150 ms, and most commands need no engine

    endpoint = find_endpoint(run=run, environ=environ)
    with ExitStack() as undone:
        try:
            connection = _connect(endpoint, environ, undone)
            connection.client.ping()
        except (DockerException, OSError, ValueError) as error:
            raise EngineError(
                f"expected a Docker engine at {endpoint.where}, found none: {reason_of(error)}", hint=_START_HINT
            ) from error
        _check_builder(builder.result(), endpoint)
        undone.pop_all()
    return connection


def _connect(endpoint: Endpoint, environ: Mapping[str, str], undone: ExitStack) -> Connection:
    import docker  # noqa: PLC0415 - see above

    if not endpoint.host.startswith("ssh://"):
        client = docker.DockerClient(base_url=endpoint.host, tls=_tls(endpoint, environ), timeout=ANSWER)
        undone.callback(client.close)
        client.api.trust_env = not endpoint.host.startswith("unix://")  # a proxy and a netrc are looked for each time
        return Connection(client=client)
    tunnel = Tunnel(environ)
    undone.callback(tunnel.close)
    client = docker.DockerClient(base_url=tunnel.url, timeout=ANSWER)
    undone.callback(client.close)
    return Connection(client=client, tunnel=tunnel)


def find_endpoint(*, run: Runner, environ: Mapping[str, str]) -> Endpoint:
    """Returns where the docker client finds its engine: `DOCKER_HOST`, `DOCKER_CONTEXT`, its current context.

    The client is asked itself. The SDK would take the default engine for a context that does not exist, and for any
    where the client has no configuration file.

    Args:
        run: runs programs.
        environ: the environment.

    Raises:
        EngineError: there is no docker client, or it knows no such context.
    """
    if host := environ.get("DOCKER_HOST"):
        return Endpoint(host=host)
    asked = _ask(run, ["docker", "context", "inspect"], environ)
    if not asked.is_done:
        raise EngineError(
            f"expected a docker context, found none: {asked.reason()}",
            hint="docker context ls lists them; docker context use NAME, or DOCKER_CONTEXT, chooses one",
        )
    try:
        (context,) = json.loads(asked.stdout)
        name, place = str(context["Name"]), context["Endpoints"]["docker"]
        host = str(place["Host"])
    except (ValueError, KeyError, TypeError) as error:
        raise EngineError(
            "expected a docker context with an engine, found something else: docker context inspect",
            hint="docker context use default goes back to this machine's own engine",
        ) from error
    certificates = _certificates(context) if name != _DEFAULT else None
    return Endpoint(
        host=host, context=name, certificates=certificates, is_verified=not place.get("SkipTLSVerify", False)
    )


def _certificates(context: Mapping[str, Any]) -> Path | None:
    has_any = (context.get("TLSMaterial") or {}).get("docker")
    return Path(context["Storage"]["TLSPath"]) / "docker" if has_any else None


def _tls(endpoint: Endpoint, environ: Mapping[str, str]) -> TLSConfig | bool:
    """Returns how the connection is kept from others' eyes; False for not at all."""
    from docker.tls import TLSConfig  # noqa: PLC0415 - see above
    from docker.utils import kwargs_from_env  # noqa: PLC0415

    folder = endpoint.certificates
    if endpoint.context == _DEFAULT:
        kept: TLSConfig | bool = kwargs_from_env(environment=dict(environ)).get("tls", False)
        return kept
    if folder is None:
        return False
    pair = (str(folder / "cert.pem"), str(folder / "key.pem"))
    authority = folder / "ca.pem"
    return TLSConfig(
        client_cert=pair if Path(pair[0]).is_file() else None,
        ca_cert=str(authority) if authority.is_file() else None,
        verify=endpoint.is_verified,
    )


def reason_of(error: Exception) -> str:
    """Returns what the engine itself said, without the request around it, else the exception's own words."""
    return plain(str(getattr(error, "explanation", None) or error)).strip()


def _check_builder(asked: Completed, endpoint: Endpoint) -> None:
    """Refuses a builder that builds elsewhere than in the engine.

    Args:
        asked: what buildx said of the builder that it would take.
        endpoint: the engine.

    Raises:
        EngineError: it does, or there is no buildx plugin.
    """
    found = dict(
        re.findall(r"^(Name|Driver):\s*(\S+)", asked.stdout.decode(errors="replace").partition("\n\n")[0], re.MULTILINE)
    )
    if not asked.is_done and "no builder" in asked.reason():
        raise EngineError(f"docker buildx: {asked.reason()}", hint=_BUILDER_HINT)
    if not asked.is_done or not found:
        raise EngineError(
            "expected docker's buildx plugin, found a docker client without it: builds need BuildKit",
            hint="install docker-buildx-plugin (Debian: docker-buildx), until `docker buildx version` works",
        )
    name, driver = found.get("Name", ""), found.get("Driver", "")
    if driver != "docker":
        raise EngineError(
            f"expected a builder that is the engine itself, found {name!r} of the driver {driver}: it does not see the "
            "engine's images, and so neither shared bases nor wheels",
            hint=_BUILDER_HINT,
        )
    if name != endpoint.context:
        raise EngineError(
            f"expected a builder of the engine at {endpoint.where}, found the one of the docker context {name!r}",
            hint=_BUILDER_HINT,
        )


def _ask(run: Runner, argv: Sequence[str], environ: Mapping[str, str]) -> Completed:
    try:
        return run(argv, env=environ, timeout=ANSWER)
    except ProgramMissingError as error:
        raise EngineError(
            "expected a docker client on PATH, found none",
            hint="install the docker client (Debian: docker-cli) and its buildx plugin",
        ) from error
    except ProgramTimeoutError as error:
        raise EngineError(f"{' '.join(argv)} did not answer within {ANSWER} s", hint=_START_HINT) from error
