"""Adds to a Dockerfile's pip and uv commands what lets them find their wheels, and changes nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from builders.dockerfile import Dockerfile
from builders.installs import Install
from builders.instructions import Instruction
from builders.mounts import mount_options
from builders.pipconf import PIP_CONF, UV_TOML, WHEELS
from builders.seals import mounts_configuration
from builders.uvproject import lock_source


@dataclass(frozen=True, kw_only=True, slots=True)
class Insertion:
    """Words that were put in.

    Attributes:
        instruction: the RUN's index.
        line: its first line.
        offset: where they stand in the original text.
        words: with the blank before each.
        sealed: True when they include `--network=none`.
    """

    instruction: int
    line: int
    offset: int
    words: str
    sealed: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Rewritten:
    """A Dockerfile's copy for the build.

    Attributes:
        text: the copy.
        insertions: in the file's order.
        untouched: lines of RUNs that mount the wheels themselves.
        dropped: the part of the original text that was left out (its `# syntax=` line); empty where there is none.
    """

    text: str
    insertions: tuple[Insertion, ...]
    untouched: tuple[int, ...] = ()
    dropped: str = ""


def rewrite_dockerfile(
    dockerfile: Dockerfile,
    installs: Iterable[Install],
    *,
    wheels_context: str,
    source_of: Callable[[Install], str],
    sealed: bool = True,
    secret_ids: tuple[str, str] = ("wheelcache-pip", "wheelcache-uv"),
    offline: bool = False,
    drop_syntax: bool = False,
) -> Rewritten:
    """Returns the copy of *dockerfile* whose installs see the mounted wheels and configuration.

    The words go right after `RUN`, or after its flags, so that every other byte stays, the user's own flags and
    heredocs included.

    Args:
        dockerfile: as parsed.
        installs: its installs; a RUN without one stays as it is, and so do triggers.
        wheels_context: the named context (an image) that holds the wheels.
        source_of: the folder in that context for an install; those of one RUN must agree.
        sealed: True to give these RUNs no network, unless they need it for something else.
        secret_ids: of pip's and uv's configuration files in an online build.
        offline: True to take the network from these RUNs even if something else in them wants it.
        drop_syntax: True to leave the `# syntax=` line out, where the frontend it names cannot be had.

    Raises:
        ValueError: two installs of one RUN want different folders, or a stage has the context's name: BuildKit would
            take the one for the other.
    """
    if any(
        wheels_context in each.body.lower().split()[2:] for each in dockerfile.instructions if each.keyword == "FROM"
    ):
        msg = f"wheels_context: expected a name that no stage has, found {wheels_context!r}"
        raise ValueError(msg)
    by_instruction: dict[int, list[Install]] = {}
    for install in installs:
        by_instruction.setdefault(install.instruction, []).append(install)
    insertions: list[Insertion] = []
    untouched: list[int] = []
    for index, group in sorted(by_instruction.items()):
        instruction = dockerfile.instructions[index]
        if instruction.keyword != "RUN":  # a trigger, into which BuildKit mounts no image
            continue
        if mounts_wheels(instruction):
            untouched.append(instruction.line)
            continue
        closes = (sealed and not any(install.needs_network for install in group)) or offline
        network = ["--network=none"] if closes and not instruction.values("network") else []
        sources = {source_of(install) for install in group}
        if len(sources) != 1:
            msg = f"line {instruction.line}: expected one folder of wheels for a RUN, found {sorted(sources)}"
            raise ValueError(msg)
        mount = f"--mount=type=bind,from={wheels_context},source={sources.pop()},target={WHEELS}"
        tools = [tool for tool in ("pip", "uv") if any(each.tool == tool for each in group)]
        own = {each.tool for each in group if each.writes_configuration}
        configurations = [
            _from_wheels(tool, wheels_context) if sealed or offline else _secret(tool, secret_ids)
            for tool in tools
            if tool not in own and not mounts_configuration(tool, instruction)
        ]
        projects = [each.uv_project for each in group if each.uv_project is not None and (sealed or offline)]
        locks = dict.fromkeys(
            f"--mount=type=bind,from={wheels_context},source={lock_source(project)},target={project.lock_path}"
            for project in projects
        )
        words = "".join(f" {word}" for word in (*network, mount, *configurations, *locks))
        insertions.append(
            Insertion(
                instruction=index,
                line=instruction.line,
                # Of two mounts at one place the later one counts, and many mount their own uv.lock.
                offset=instruction.flags_end if locks else instruction.keyword_end,
                words=words,
                sealed=bool(network) or "none" in instruction.values("network"),
            )
        )
    syntax = dockerfile.directive("syntax") if drop_syntax else None
    cut = (syntax.start, syntax.end) if syntax else (0, 0)
    return Rewritten(
        text=_woven(dockerfile.text, insertions, cut),
        insertions=tuple(insertions),
        untouched=tuple(untouched),
        dropped=dockerfile.text[slice(*cut)],
    )


def mounts_wheels(instruction: Instruction) -> bool:
    """True when a RUN mounts something at /wheelcache by itself."""
    targets = (mount_options(mount).get("target", "") for mount in instruction.values("mount"))
    return any(target.rstrip("/") == WHEELS for target in targets)


def _from_wheels(tool: str, wheels_context: str) -> str:
    """Returns the mount of a sealed build's configuration, which lies beside its wheels.

    It holds no secret and no timeout that matters; and a secret would make BuildKit read through the whole file system
    of the step's image first, 20 s for one with torch in it (BuildKit 0.13).
    """
    target = PIP_CONF if tool == "pip" else UV_TOML
    return f"--mount=type=bind,from={wheels_context},source={target},target={target}"


def _secret(tool: str, ids: tuple[str, str]) -> str:
    """Returns the mount of an online build's configuration, which may hold an index's credentials.

    Without `mode` a user other than root would silently lack it.
    """
    identity, target = (ids[0], PIP_CONF) if tool == "pip" else (ids[1], UV_TOML)
    return f"--mount=type=secret,id={identity},target={target},required=true,mode=0444"


def _woven(text: str, insertions: Iterable[Insertion], cut: tuple[int, int]) -> str:
    pieces, at = [text[: cut[0]]], cut[1]
    for insertion in insertions:
        pieces += [text[at : insertion.offset], insertion.words]
        at = insertion.offset
    return "".join([*pieces, text[at:]])
