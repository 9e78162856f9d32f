"""The services of compose files, as compose itself reads them; what it prints holds secrets and is never shown."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from builders.commands import compose_config
from builders.errors import EngineError
from wheelcache.errors import ProjectFileError
from wheelcache.programs import Completed, ProgramMissingError, ProgramTimeoutError, Runner
from wheelcache.redaction import without_userinfo

_TIMEOUT: Final = 120.0
"""Seconds; compose needs 0.1 of them, and longer where a file includes another one from a network."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ComposeService:
    """One service with a build section; the fields are that section's keys (compose-spec, `build.md`).

    Attributes:
        name: the service.
        project: compose's name of the project.
        image: the reference that `up` expects: the service's own, else `<project>-<name>`.
        context: absolute.
        dockerfile: relative to the context, or absolute; None when the file holds the Dockerfile's text.
        dockerfile_inline: that text.
        target: the stage; None for the last.
        args: build arguments that have a value.
        secrets: as buildx takes them: `id=…,src=…` or `id=…,env=…`; never their values.
        ssh: as buildx takes them: `default` or `name=path`.
        ulimits: as buildx takes them: `nofile=1024:2048`.
        shm_size: bytes, as text.
        tags: further references.
        pull: whether newer base images are looked for.
        ignored: keys of the build section that a build of ours does not obey.
        started: what its containers start, no key of that section: command, entrypoint, health check.
    """

    name: str
    project: str
    image: str
    context: Path
    dockerfile: str | None
    dockerfile_inline: str | None = None
    target: str | None = None
    args: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    network: str | None = None
    additional_contexts: Mapping[str, str] = field(default_factory=dict)
    extra_hosts: tuple[str, ...] = ()
    shm_size: str | None = None
    ulimits: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    ssh: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ()
    cache_from: tuple[str, ...] = ()
    cache_to: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    pull: bool = False
    ignored: tuple[str, ...] = ()
    started: tuple[str, ...] = ()

    @property
    def build_identity(self) -> tuple[object, ...]:
        """Equal for two services whose build sections mean the same image: all but its names and what it starts."""
        own = ("name", "image", "started")
        values = (getattr(self, entry.name) for entry in fields(self) if entry.name not in own)
        return tuple(tuple(sorted(value.items())) if isinstance(value, Mapping) else value for value in values)


def read_compose(
    files: Sequence[Path],
    *,
    env_file: Path | None = None,
    profiles: Sequence[str] = (),
    run: Runner,
) -> tuple[ComposeService, ...]:
    """Returns the services with a build section, in the order in which the files name them.

    Args:
        files: compose files; later ones are merged over earlier ones.
        env_file: values for the files' variables, in place of the `.env` beside the first one.
        profiles: profiles to take in beside those of `COMPOSE_PROFILES`.
        run: runs programs.

    Raises:
        ProjectFileError: a file is missing, compose refuses it, or no service has a build section.
        EngineError: there is no docker client, or it has no compose plugin.
    """
    for file in (*files, *([env_file] if env_file else [])):
        if not file.is_file():
            key = "compose-env-file" if file == env_file else "compose"
            raise ProjectFileError(
                f"{file}: expected a file, found none", hint=f"correct `{key}` in the project file, or --file"
            )
    where = ", ".join(str(file) for file in files)
    model = _model(_ask(files, env_file, profiles, run), where)
    built = {name: service for name, service in model["services"].items() if service.get("build")}
    if not built:
        raise ProjectFileError(
            f"{where}: services: expected one with a build section, found none"
            + (f" among {', '.join(sorted(model['services']))}" if model["services"] else ""),
            hint="add `build:` to the services to build, name their profiles, or name another compose file",
        )
    order = _order(files)
    names = sorted(built, key=lambda name: (order.get(name, len(order)), name))
    return tuple(_service(name, built[name], model, where) for name in names)


def _ask(files: Sequence[Path], env_file: Path | None, profiles: Sequence[str], run: Runner) -> bytes:
    argv = compose_config(files, env_file=env_file, profiles=profiles)
    try:
        completed = run(argv, timeout=_TIMEOUT)
    except ProgramMissingError as error:
        raise EngineError(
            "expected the docker client with its compose plugin, found no docker on PATH",
            hint="install Docker with the compose plugin, or list the services in wheelcache.toml",
        ) from error
    except ProgramTimeoutError as error:
        raise EngineError(f"docker compose config did not answer within {_TIMEOUT:.0f} s", hint=error.hint) from error
    if not completed.is_done:
        raise _refusal(completed, files)
    return completed.stdout


def _refusal(completed: Completed, files: Sequence[Path]) -> Exception:
    reason = completed.reason()
    where = ", ".join(str(file) for file in files)
    if re.search(
        r"unknown (?:shorthand )?flag|unknown command: docker compose|'compose' is not a docker command", reason
    ):
        return EngineError(
            "expected docker's compose plugin, found a docker client without it",
            hint="install docker-compose-plugin (Debian: docker-compose), or list the services in wheelcache.toml",
        )
    # Compose quotes the value that it cannot interpolate, below this sentence; it may be a secret.
    reason = re.sub(r"(You may need to escape any \$ with another \$\.).*", r"\1", reason, flags=re.DOTALL)
    return ProjectFileError(
        f"{where}: compose cannot read it: {reason}",
        hint="correct it until `docker compose config --quiet` accepts it",
        reason=reason,
    )


def _model(output: bytes, where: str) -> dict[str, Any]:
    try:
        model = json.loads(output.replace(b"$$", b"$"))  # it prints what it would read again
        return {
            "name": str(model["name"]),
            "services": dict(model.get("services") or {}),
            "secrets": dict(model.get("secrets") or {}),
        }
    except (ValueError, KeyError, TypeError) as error:
        raise EngineError(
            f"{where}: docker compose config printed something else than its JSON form",
            hint="wheelcache needs compose 2.20 or newer: docker compose version",
        ) from error


def _service(name: str, service: Mapping[str, Any], model: Mapping[str, Any], where: str) -> ComposeService:
    build: Mapping[str, Any] = service["build"]
    key = f"{where}: services.{name}.build"
    context = str(build.get("context") or "")
    if not Path(context).is_absolute():
        raise ProjectFileError(
            f"{key}.context: expected a folder, found {without_userinfo(context)!r}",
            hint="clone it and name the folder: what a remote Dockerfile installs cannot be locked",
        )
    inline = build.get("dockerfile_inline")
    contexts = {str(a): str(b) for a, b in (build.get("additional_contexts") or {}).items()}
    by_service = [name for name, value in contexts.items() if value.startswith("service:")]
    carried = {entry.name for entry in fields(ComposeService)}
    return ComposeService(
        name=name,
        project=model["name"],
        image=str(service.get("image") or f"{model['name']}-{name}"),
        context=Path(context),
        dockerfile=None if inline else str(build.get("dockerfile") or "Dockerfile"),
        dockerfile_inline=inline or None,
        target=build.get("target") or None,
        args=_texts(build.get("args")),
        labels=_texts(build.get("labels")),
        network=build.get("network") or None,
        additional_contexts={a: b for a, b in contexts.items() if a not in by_service},
        extra_hosts=_hosts(build.get("extra_hosts")),
        shm_size=str(build["shm_size"]) if build.get("shm_size") else None,
        ulimits=tuple(_ulimit(name, limit) for name, limit in (build.get("ulimits") or {}).items()),
        secrets=tuple(_secret(secret, model["secrets"], key) for secret in build.get("secrets") or ()),
        ssh=_strings(build.get("ssh")),
        platforms=_strings(build.get("platforms")),
        cache_from=_strings(build.get("cache_from")),
        cache_to=_strings(build.get("cache_to")),
        tags=_strings(build.get("tags")),
        pull=build.get("pull") is True,
        ignored=(
            *sorted(entry for entry, value in build.items() if entry not in carried and value),
            *(f"additional_contexts.{entry}" for entry in by_service),
        ),
        started=(
            *_strings(service.get("entrypoint")),
            *_strings(service.get("command")),
            *_strings((service.get("healthcheck") or {}).get("test")),
        ),
    )


def _texts(values: Mapping[str, Any] | None) -> dict[str, str]:
    """Returns a mapping's entries that have a value; compose leaves the others to the environment, where none is."""
    return {str(name): str(value) for name, value in (values or {}).items() if value is not None}


def _strings(values: Sequence[Any] | None) -> tuple[str, ...]:
    return tuple(str(value) for value in values or ())


def _hosts(values: Mapping[str, Any] | Sequence[Any] | None) -> tuple[str, ...]:
    """Returns `name=address` lines; compose prints a list of them, or lists of addresses by name."""
    if not isinstance(values, Mapping):
        return _strings(values)
    return tuple(
        f"{name}={address}"
        for name, addresses in values.items()
        for address in (addresses if isinstance(addresses, list) else [addresses])
    )


def _ulimit(name: str, limit: object) -> str:
    if isinstance(limit, Mapping):
        return f"{name}={limit.get('soft')}:{limit.get('hard')}"
    return f"{name}={limit}"


def _secret(secret: Mapping[str, Any], known: Mapping[str, Any], key: str) -> str:
    source = str(secret["source"])
    identity = str(secret.get("target") or source)
    config = known.get(source) or {}
    if config.get("file"):
        path = str(config["file"])
        return f'id={identity},"src={path}"' if "," in path else f"id={identity},src={path}"
    if config.get("environment"):
        return f"id={identity},env={config['environment']}"
    raise ProjectFileError(
        f"{key}.secrets: {source}: expected a secret with `file` or `environment`, found another kind",
        hint="builds can take secrets from a file or the environment only",
    )


def _order(files: Sequence[Path]) -> dict[str, int]:
    """Returns where each key stands in the files: compose sorts services by name, people order them by meaning."""
    found: dict[str, int] = {}
    for file in files:
        text = file.read_text(encoding="utf-8", errors="replace")
        after = re.search(r"^[\"']?services[\"']?\s*:", text, re.MULTILINE)
        start = after.end() if after else 0
        indent = re.search(r"^([ \t]+)[^\s#]", text[start:], re.MULTILINE)
        if indent is None:
            continue
        keys = re.finditer(rf"^{indent[1]}[\"']?([\w.-]+)[\"']?[ \t]*:", text[start:], re.MULTILINE)
        for key in keys:
            found.setdefault(key[1], len(found))
    return found
