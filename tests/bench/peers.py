"""The programs that are compared: how each is installed, started, and how what it left on disk is judged.

Each gets the same wheels from the same URLs, with their sha256. uv has no download command: it installs into a folder,
which unpacks as well; its times say so much and no more.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import tomli_w
from offers import Offer, sha256_of, write_lockfile, write_requirements, wrong_files

from wheelcache.target import declared_target

PROVISION = Path(__file__).resolve().parents[2] / "Dockerfiles" / "provision.sh"
PYTHON = "3.11"
PLATFORM = "manylinux_2_28_x86_64"
UV_PLATFORM = "x86_64-manylinux_2_28"
LOCAL = "127.0.0.1,localhost"


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A command that is ready to run in a folder of its own."""

    argv: tuple[str, ...]
    env: Mapping[str, str]


class Client(Protocol):
    """One of the programs."""

    @property
    def name(self) -> str:
        """What the table calls it: its command."""
        ...

    def prepare(self, offer: Offer, folder: Path) -> Job:
        """Writes what it needs into *folder*."""
        ...

    def wrong(self, offer: Offer, folder: Path) -> list[str]:
        """Returns what is missing in *folder*, or has other bytes than it should, after a run."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Wheelcache:
    """The program measured: the one beside this interpreter.

    Attributes:
        download: the project file's `[download]`.
        arguments: of `sync`.
    """

    download: Mapping[str, object]
    arguments: tuple[str, ...] = ("-q",)

    @property
    def name(self) -> str:
        settings = ", ".join(f"{key} = {value}" for key, value in self.download.items())
        return f"wheelcache sync ({settings})" if settings else "wheelcache sync"

    def prepare(self, offer: Offer, folder: Path) -> Job:
        # Always a project file: none of a folder further up is to be found.
        (folder / "wheelcache.toml").write_text(tomli_w.dumps({"download": self.download} if self.download else {}))
        lockfile = offer.lockfile or write_lockfile(folder / "pylock.toml", offer.wheels)
        mirrors = [word for mirror in offer.mirrors for word in ("--mirror", mirror)]
        target = ("--python", PYTHON, "--platform", PLATFORM)
        program = str(Path(sys.executable).with_name("wheelcache"))
        argv = (program, "sync", str(lockfile), *target, "--cache-dir", str(folder / "cache"), *mirrors)
        return Job(argv=(*argv, *self.arguments), env=clean_environ(folder))

    def wrong(self, offer: Offer, folder: Path) -> list[str]:
        blobs = folder / "cache" / "v1" / "blobs" / "sha256"
        wanted = {wheel.sha256: wheel.filename for wheel in offer.wheels}
        there = {blob.name: sha256_of(blob) for blob in blobs.glob("*/*")}
        others = [f"{name}: wrong bytes" for name, found in there.items() if found != name]
        return others + [f"{filename}: missing" for digest, filename in wanted.items() if digest not in there]


@dataclass(frozen=True, kw_only=True, slots=True)
class Aria2:
    """aria2c with an input file."""

    options: tuple[str, ...]
    verify: bool = True

    @property
    def name(self) -> str:
        return " ".join(["aria2c", *self.options, "verifying" if self.verify else "not verifying"])

    def prepare(self, offer: Offer, folder: Path) -> Job:
        lines = []
        for wheel in offer.wheels:
            lines += ["\t".join(wheel.urls), f"  out={wheel.filename}"]
            lines += [f"  checksum=sha-256={wheel.sha256}"] if self.verify else []
        (folder / "input").write_text("\n".join(lines) + "\n")
        argv = ("aria2c", "--no-conf", *self.options, "-q", "-i", str(folder / "input"), "-d", str(folder / "out"))
        return Job(argv=argv, env=clean_environ(folder))

    def wrong(self, offer: Offer, folder: Path) -> list[str]:
        return wrong_files(offer, folder / "out")


@dataclass(frozen=True, kw_only=True, slots=True)
class Uv:
    """uv, which can only install."""

    name: str = "uv pip install --target --no-deps --no-cache"

    def prepare(self, offer: Offer, folder: Path) -> Job:
        hashes = write_requirements(folder, offer.wheels)
        program = str(Path(sys.executable).with_name("uv"))
        target = ("--python", sys.executable, "--python-version", PYTHON, "--python-platform", UV_PLATFORM)
        argv = (program, "pip", "install", "-q", "--target", str(folder / "out"), *target, "--no-deps", "--no-cache")
        return Job(
            argv=(*argv, "--index-url", offer.index, "--require-hashes", "-r", str(hashes)), env=clean_environ(folder)
        )

    def wrong(self, offer: Offer, folder: Path) -> list[str]:
        # It has checked the hashes itself before it unpacked.
        stems = ["-".join(wheel.filename.split("-")[:2]) for wheel in offer.wheels]
        return [f"{stem}: missing" for stem in stems if not (folder / "out" / f"{stem}.dist-info").is_dir()]


@dataclass(frozen=True, kw_only=True, slots=True)
class Pip:
    """pip, from a folder of its own.

    Attributes:
        packages: the folder that it was installed into.
    """

    packages: Path

    @property
    def name(self) -> str:
        return "pip download --no-deps --require-hashes"

    def prepare(self, offer: Offer, folder: Path) -> Job:
        hashes = write_requirements(folder, offer.wheels)
        # pip takes a platform tag as it is: what a newer glibc also runs must be named one by one.
        platforms = dict.fromkeys(
            tag.platform for tag in declared_target(PYTHON, PLATFORM).tags if tag.platform != "any"
        )
        target = [word for platform in platforms for word in ("--platform", platform)]
        target += ["--python-version", PYTHON, "--only-binary", ":all:"]
        quiet = ("-q", "--progress-bar", "off", "--disable-pip-version-check", "--no-cache-dir", "--no-input")
        argv = (sys.executable, "-m", "pip", "download", *quiet, "-d", str(folder / "out"), *target, "--no-deps")
        env = {**clean_environ(folder), "PYTHONPATH": str(self.packages), "PIP_CONFIG_FILE": os.devnull}
        return Job(argv=(*argv, "--index-url", offer.index, "--require-hashes", "-r", str(hashes)), env=env)

    def wrong(self, offer: Offer, folder: Path) -> list[str]:
        return wrong_files(offer, folder / "out")


def newest_pip(folder: Path) -> Pip:
    """Installs the newest pip into *folder*: the one of a virtual environment may be years old."""
    argv = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--upgrade", "--target"]
    try:
        subprocess.run([*argv, str(folder), "pip"], check=True, stdin=subprocess.DEVNULL)
    except subprocess.CalledProcessError as error:
        raise SystemExit(
            f"pip: could not be installed into {folder} (exit {error.returncode})\n"
            "  next step: see pip's words above; check the package index and the CA bundle"
        ) from error
    return Pip(packages=folder)


def ensure_aria2() -> None:
    """Installs aria2 as the rest of the repository installs packages; ends the program where it cannot."""
    result = subprocess.run(
        ["bash", "-c", '. "$1"; command -v aria2c >/dev/null || ensure_tools aria2', "bash", str(PROVISION)],
        stdin=subprocess.DEVNULL,
        check=False,
    )
    if result.returncode or not shutil.which("aria2c"):
        raise SystemExit("aria2c: expected it on PATH, found none\n  next step: install aria2 (apt-get install aria2)")


def versions(pip: Pip) -> str:
    """Returns which versions are compared, in one line."""
    env = {**os.environ, "PYTHONPATH": str(pip.packages)}
    asked = {
        "aria2c": ["aria2c", "--version"],
        "uv": [str(Path(sys.executable).with_name("uv")), "--version"],
        "pip": [sys.executable, "-m", "pip", "--version"],
        "wheelcache": [str(Path(sys.executable).with_name("wheelcache")), "--version"],
    }
    said = (subprocess.run(argv, env=env, capture_output=True, text=True, check=False) for argv in asked.values())
    words = [result.stdout.partition("\n")[0].partition(" from ")[0].partition(" (")[0] for result in said]
    return ", ".join(f"{name}: {word or 'none'}" for name, word in zip(asked, words, strict=True))


def clean_environ(folder: Path) -> dict[str, str]:
    """Returns the environment without settings of the programs compared; temporary files go below *folder*."""
    kept = ("PIP_CERT", "PIP_PROXY", "PIP_CLIENT_CERT", "UV_NATIVE_TLS", "UV_SYSTEM_CERTS")
    own = ("WHEELCACHE_", "PIP_", "UV_", "PYTHONPATH")
    env = {name: value for name, value in os.environ.items() if name in kept or not name.startswith(own)}
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    direct = ",".join(filter(None, [env.get("NO_PROXY") or env.get("no_proxy"), LOCAL]))
    return {**env, "TMPDIR": str(temporary), "NO_PROXY": direct, "no_proxy": direct}
