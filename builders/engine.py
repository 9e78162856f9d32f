"""The one door to the Docker engine: images, containers and disk usage, through its SDK."""

from __future__ import annotations

import socket
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Final, Self

from builders.chunks import Chunks
from builders.connecting import ANSWER, Connection, open_connection
from builders.door import door
from builders.enginevalues import (
    DiskUsage,
    EngineImage,
    ImageConfig,
    Ran,
    data_folder,
    disk_usage,
    engine_image,
    image_config,
    is_containerd,
    split_reference,
)
from builders.errors import BuildError, EngineError
from builders.layers import ImageLayer, image_layers
from builders.registries import SILENCE, Line, missing_image, pull_image, push_image
from wheelcache.events import Sink, ignore
from wheelcache.programs import Runner

if TYPE_CHECKING:
    from docker.models.containers import Container

_PAUSE: Final = 0.1
"""Seconds between two looks."""

_LOCAL: Final = "http+docker://localhost"
"""What the SDK calls an engine behind a UNIX socket."""


class EntrypointMissingError(BuildError):
    """An image does not hold the program that was to be run in it."""

    kind = "entrypoint-missing"


class Engine:
    """A Docker engine that answers; close it, or use it as a context.

    Every method raises EngineError when the engine fails or goes away.

    Args:
        connection: to the engine.
        emit: takes how far pulls are.
        stop: set when the user interrupts; ends a pull.
    """

    def __init__(self, connection: Connection, *, emit: Sink = ignore, stop: threading.Event | None = None) -> None:
        self._connection = connection
        self._client = connection.client
        self._emit = emit
        self._stop = stop or threading.Event()

    @classmethod
    def connect(
        cls,
        *,
        run: Runner,
        environ: Mapping[str, str] | None = None,
        emit: Sink = ignore,
        stop: threading.Event | None = None,
    ) -> Engine:
        """Connects to the engine that the docker client would use: `DOCKER_HOST`, else its current context.

        Args:
            run: runs programs; asks the client for its choice and for its builder.
            environ: the environment; None for this process's own.
            emit: takes how far pulls are.
            stop: set when the user interrupts; ends a pull.

        Raises:
            EngineError: no engine answers, or builds would go elsewhere, or the docker client or its buildx plugin is
                missing.
        """
        return cls(open_connection(run=run, environ=environ), emit=emit, stop=stop)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections to the engine."""
        self._connection.close()

    def image_id(self, ref: str) -> str | None:
        """Returns the id of the image *ref*; None when the engine does not have it."""
        config = self.image_config(ref)
        return None if config is None else config.image_id

    def image_config(self, ref: str) -> ImageConfig | None:
        """Returns what the image *ref* says of itself; None when the engine does not have it."""
        from docker.errors import ImageNotFound  # noqa: PLC0415

        with door(f"inspect {ref}"):
            try:
                image = self._client.images.get(ref)
            except ImageNotFound:
                return None
        return image_config(image.attrs)

    def image_size(self, ref: str) -> int | None:
        """Returns the bytes of the image *ref*, those of its base included; None when the engine does not have it."""
        config = self.image_config(ref)
        return None if config is None else config.size

    def layers(self, ref: str) -> tuple[ImageLayer, ...]:
        """Returns the layers of the image *ref*, the lowest first; none where they cannot be told apart."""
        from docker.errors import ImageNotFound  # noqa: PLC0415

        with door(f"read the history of {ref}"):
            try:
                image = self._client.images.get(ref)
                history = image.history()
            except ImageNotFound:
                return ()
        return image_layers((image.attrs.get("RootFS") or {}).get("Layers") or (), history)

    def images(self, repository: str) -> list[EngineImage]:
        """Returns the images of a repository, one for each tag, the oldest first."""
        from docker.errors import ImageNotFound  # noqa: PLC0415

        with door(f"list the images of {repository}"):
            try:
                found = self._client.images.list(name=repository)
            except ImageNotFound:  # one was removed while it was asked for all
                found = self._client.images.list(name=repository)
        tagged = [(image, ref) for image in found for ref in image.tags if ref.rpartition(":")[0] == repository]
        return sorted((engine_image(ref, image.attrs) for image, ref in tagged), key=lambda each: each.created_at)

    def pull(self, ref: str, *, platform: str | None = None, silence: float = SILENCE, retries: int = 3) -> ImageConfig:
        """Pulls *ref* from its registry; arguments and errors as `pull_image` has them."""
        line = Line(silence=silence, retries=retries, stop=self._stop, emit=self._emit)
        pull_image(self._client, ref, platform=platform, line=line)
        config = self.image_config(ref)
        if config is None:
            raise missing_image(ref, "not found after it was pulled")
        return config

    def push(self, ref: str, *, silence: float = SILENCE, retries: int = 3) -> str:
        """Pushes *ref* to its registry and returns its digest there; arguments and errors as `push_image` has them."""
        line = Line(silence=silence, retries=retries, stop=self._stop, emit=self._emit)
        told = push_image(self._client, ref, line=line)
        config = None if told else self.image_config(ref)  # containerd's store does not tell, but knows it
        return config.digest_in(ref) if config is not None else told

    def run(
        self,
        image: str,
        argv: Sequence[str],
        *,
        entrypoint: str,
        user: str | None = None,
        timeout: float = 60,
    ) -> Ran:
        """Runs a program in a container without a network, which is removed however this ends.

        Args:
            image: its reference or id; the engine must have it.
            argv: the program's arguments.
            entrypoint: the program, in place of the image's own entrypoint.
            user: as whom; None for the image's own user.
            timeout: seconds it may run.

        Raises:
            EntrypointMissingError: the image does not hold the program.
            BuildError: it ran longer than *timeout*.
        """
        from docker.types import LogConfig  # noqa: PLC0415

        options: dict[str, Any] = {} if user is None else {"user": user}
        with self._container(
            image,
            command=list(argv),
            entrypoint=[entrypoint],
            network_mode="none",
            # The engine's own default may be a driver that cannot be read back.
            log_config=LogConfig(type="json-file"),
            **options,
        ) as container:
            self._start(container, image, entrypoint)
            status = self._wait(container, image, entrypoint, timeout)
            with door(f"read what {entrypoint} printed in {image}"):
                return Ran(
                    status=status,
                    stdout=container.logs(stdout=True, stderr=False),
                    stderr=container.logs(stdout=False, stderr=True),
                )

    def files(self, image: str, *, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
        """Reads files out of an image without running anything in it; the whole image is read for it.

        Args:
            image: its reference or id.
            wanted: told each file's path, without a leading slash.
        """
        with (
            self._container(image, command=["unused"], network_mode="none") as container,
            door(f"export {image}"),
            tarfile.open(fileobj=Chunks(container.export()), mode="r|") as archive,  # type: ignore[arg-type, call-overload]
        ):
            for member in archive:
                content = archive.extractfile(member) if member.isfile() and wanted(member.name) else None
                if content is not None:
                    yield member.name, content.read()

    def save(self, image: str) -> Iterator[tuple[str, IO[bytes]]]:
        """Yields the files that *image* is saved as, by their paths: an OCI layout (image-spec) since Docker 25."""
        with (
            door(f"save {image}"),
            tarfile.open(fileobj=Chunks(self._client.images.get(image).save()), mode="r|") as archive,
        ):
            for member in archive:
                content = archive.extractfile(member) if member.isfile() else None
                if content is not None:
                    yield member.name, content

    def tag(self, image: str, ref: str) -> None:
        """Gives *image* the further reference *ref*, which is taken from any other image."""
        repository, tag = split_reference(ref)
        with door(f"tag {image} as {ref}"):
            found = self._client.images.get(image)
            if f"{repository}:{tag}" not in found.tags:
                found.tag(repository, tag=tag)

    def remove_image(self, ref: str) -> bool:
        """Takes the reference *ref* away, and the image when it was the last one; False when there is none."""
        from docker.errors import ImageNotFound  # noqa: PLC0415

        with door(f"remove {ref}"):
            try:
                self._client.images.remove(ref)
            except ImageNotFound:
                return False
        return True

    def discard(self, image_id: str) -> bool:
        """Removes an image that no reference names; False when one does, or the engine wants to keep it."""
        with suppress(EngineError), door(f"remove {image_id}"):
            if not self._client.images.get(image_id).tags:
                self._client.images.remove(image_id)
                return True
        return False

    def data_folder(self) -> Path | None:
        """Returns the folder of the engine's images and build cache; None where it is not known to be on this machine.

        The engine behind a socket of this machine may run on another one, or in a virtual machine: it has another name.
        """
        with door("tell where it keeps its data"):
            info = self._client.info()
        is_here = self._client.api.base_url == _LOCAL and info.get("Name") == socket.gethostname()
        return data_folder(info) if is_here else None

    def keeps_manifests(self) -> bool:
        """Tells whether images are in containerd's store, as registries have them, and not in the engine's own."""
        with door("tell where it keeps images"):
            return is_containerd(self._client.info())

    def disk_usage(self) -> DiskUsage:
        """Returns what `docker system df` says."""
        with door("ask for disk usage"):
            usage = self._client.df()
        return disk_usage(usage)

    def forget_context(self, name: str, *, timeout: float = 5) -> int:
        """Takes the engine's copy of a local context away, which would stay for days, and returns its bytes.

        What the engine refuses is left to its own garbage collection: nothing that was built is worse for it. So is all
        of an engine with containerd's store, where BuildKit (of Docker 26) forgets with any record that it prunes
        whatever it built on an image that was pulled or loaded: each step would run once more.

        Args:
            name: of a named context that no other build uses.
            timeout: seconds to wait for BuildKit, which lets go of a context a little after the build has ended.
        """
        deadline = time.monotonic() + timeout
        freed = 0
        with suppress(EngineError), door(f"forget the context {name}"):
            if self.keeps_manifests():
                return 0
            while copies := self._context_copies(name):
                # BuildKit compares no description when it prunes, so each copy is named by its id.
                filters: list[Any] = [{"id": copy} for copy in copies]
                freed += sum(self._client.api.prune_builds(filters=each)["SpaceReclaimed"] for each in filters)
                if time.monotonic() > deadline:
                    break
                time.sleep(_PAUSE)
        return freed

    def _context_copies(self, name: str) -> list[str]:
        # The SDK asks for all kinds, which adds up every image and volume; before API 1.42 the engine does so anyway.
        api = self._client.api
        url = f"{api.base_url}/v{api.api_version}/system/df"
        answer = api.get(url, params={"type": "build-cache"}, timeout=ANSWER)
        answer.raise_for_status()
        entries = answer.json().get("BuildCache") or ()
        return [entry["ID"] for entry in entries if entry.get("Description") == f"local source for {name}"]

    @contextmanager
    def _container(self, image: str, **options: Any) -> Iterator[Container]:  # noqa: ANN401 - the SDK's own words
        with door(f"create a container of {image}"):
            container = self._client.containers.create(image, **options)
        try:
            yield container
        finally:
            with door(f"remove a container of {image}"):
                container.remove(force=True, v=True)

    def _start(self, container: Container, image: str, entrypoint: str) -> None:
        try:
            with door(f"start {entrypoint} in {image}"):
                container.start()
        except EngineError as error:
            reason = str(error.facts.get("reason", ""))
            if "executable file not found" in reason or "no such file or directory" in reason:
                raise EntrypointMissingError(
                    f"{image}: expected the program {entrypoint}, found none", hint="use an image that holds it"
                ) from error
            raise

    def _wait(self, container: Container, image: str, entrypoint: str, timeout: float) -> int:
        from requests.exceptions import ConnectionError as Disconnected  # noqa: PLC0415
        from requests.exceptions import Timeout  # noqa: PLC0415

        with door(f"wait for {entrypoint} in {image}"):
            try:
                return int(container.wait(timeout=timeout)["StatusCode"])
            except (Timeout, Disconnected) as error:
                if isinstance(error, Disconnected) and "timed out" not in str(error).lower():
                    raise
                raise BuildError(
                    f"{image}: {entrypoint} did not end within {timeout:.0f} s",
                    hint="look whether the machine is overloaded, and run the same command again",
                ) from error
