"""Builds with a builder that is not the engine, and so does not see the engine's images: they are handed to it."""

from __future__ import annotations

import json
import shutil
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from builders.engine import Engine
from builders.errors import BuildError, EngineError
from builders.workspace import Dressing

_BUILT: Final = "wheelcache/built"


@dataclass(frozen=True, kw_only=True, slots=True)
class Elsewhere:
    """A builder apart from the engine, such as one of the driver docker-container.

    Images go to it as OCI layouts, of which it takes what it does not have; what it builds is loaded into the engine.

    Attributes:
        name: as `docker buildx ls` has it.
        folder: takes the layouts, for as long as this run lasts.
    """

    name: str
    folder: Path

    def dress(self, dressing: Dressing, engine: Engine) -> Dressing:
        """Returns the dressing of a build with this builder; the images that it needs are laid out.

        Args:
            dressing: of a build with the engine, which has all images by now.
            engine: has them.

        Raises:
            EngineError: the engine saves images in another form.
            BuildError: there is no room for them.
        """
        stages = dressing.reading.findings.stages
        bases = {stages.external_base(stage) for stage in stages.needed()} - {"scratch"}
        images = {ref: ref for ref in sorted(bases)} | dressing.images
        layouts = {}
        for name, ref in images.items():
            image_id = engine.image_id(ref)
            if image_id is not None:
                layouts[name] = self._layout(engine, ref, image_id)
        return replace(dressing, builder=self.name, layouts=layouts, mark=f"{_BUILT}:{uuid.uuid4().hex[:12]}")

    def _layout(self, engine: Engine, ref: str, image_id: str) -> str:
        """Returns the named context's value for an image, laid out on first use."""
        folder = self.folder / image_id.replace(":", "-")
        if not folder.exists():
            _lay_out(engine, ref, folder)
        try:
            manifest = json.loads((folder / "index.json").read_bytes())["manifests"][0]
            return f"oci-layout://{folder}@{manifest['digest']}"
        except (OSError, ValueError, LookupError) as error:
            raise EngineError(
                f"--builder: expected an engine that saves {ref} as an OCI layout, found one that does not",
                hint="Docker 25 or later does: docker version",
            ) from error


def _lay_out(engine: Engine, ref: str, folder: Path) -> None:
    try:
        for name, content in engine.save(ref):
            file = folder / name
            if not file.resolve().is_relative_to(folder.resolve()):
                raise BuildError(f"{ref}: saved as a file outside of it: {name}", hint="docker save shows the same")
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("wb") as copy:
                shutil.copyfileobj(content, copy)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise BuildError(
            f"{folder}: {ref} cannot be laid out for the builder: {error.strerror}",
            hint="set TMPDIR to a folder with room for the images that services are built on",
            fault="disk",
        ) from error
