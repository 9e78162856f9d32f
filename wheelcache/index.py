"""What indexes and mirrors know of wheels: sizes, other places to have them from, the file that a pin means."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from threading import Thread
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urlsplit, urlunsplit

from packaging.utils import (
    BuildTag,
    InvalidWheelFilename,
    NormalizedName,
    canonicalize_version,
    parse_wheel_filename,
)

from wheelcache.digest import Digest, hex_of, parse_digest
from wheelcache.errors import LockError, NetworkError
from wheelcache.faults import FATAL, Fault, SourceFault, public_url
from wheelcache.lock import LockedWheel
from wheelcache.pins import Pin
from wheelcache.target import Target

if TYPE_CHECKING:
    from pypi_simple import DistributionPackage

    from wheelcache.transport import Transport

_PARALLEL: Final = 8
_ATTEMPTS: Final = 4
_NO_PAGE: Final = frozenset({403, 410})
"""Besides 404, which is no fault: some servers say these of what they do not have."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """What a mirror says of one file. Without URLs and digests it does not list the file.

    Attributes:
        urls: where it has the file; with the mirror's credentials.
        other_digests: of other bytes that it lists under the file's name: no source, and worth a report.
        is_guess: it does not list the file; the *urls* are where a mirror of the files alone would have it.
    """

    urls: tuple[str, ...] = ()
    other_digests: tuple[Digest, ...] = ()
    is_guess: bool = False


def named_index(environ: Mapping[str, str]) -> str | None:
    """Returns the root of the index that the environment names for uv or pip; None where it names none.

    Args:
        environ: the environment's variables.
    """
    for variable in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"):
        text = environ.get(variable, "").strip()
        if text:
            name, separator, url = text.partition("=")  # uv: `name=url`; a URL's own `=` comes after its `://`
            return url if separator and "://" not in name else text
    return None


def default_index(environ: Mapping[str, str]) -> str:
    """Returns the root of the index that uv and pip would ask, from their environment variables or their default.

    Args:
        environ: the environment's variables.
    """
    if named := named_index(environ):
        return named
    from pypi_simple import PYPI_SIMPLE_ENDPOINT  # noqa: PLC0415 - imports requests

    return str(PYPI_SIMPLE_ENDPOINT)


def wheel_sizes(
    wheels: Sequence[LockedWheel],
    *,
    transport: Transport,
    attempts: int = _ATTEMPTS,
    parallel: int = _PARALLEL,
    give_up: Callable[[], bool] = lambda: False,
) -> dict[Digest, int]:
    """Returns the wheels' sizes in bytes: those known already, others as their servers tell by HEAD, several at once.

    Args:
        wheels: any.
        transport: for those whose size is not known.
        attempts: per URL. A wheel whose servers do not say is left out.
        parallel: requests at once.
        give_up: asked every moment; once true, what is known by then is returned.
    """
    sizes = {wheel.digest: wheel.size for wheel in wheels if wheel.size is not None}
    unknown = deque({wheel.digest: wheel for wheel in wheels if wheel.digest not in sizes}.values())
    found: dict[Digest, int] = {}

    def ask() -> None:
        while not give_up():
            try:
                wheel = unknown.popleft()
            except IndexError:
                return
            size = _size_of(wheel, transport, attempts)
            if size is not None:
                found[wheel.digest] = size

    threads = [Thread(target=ask, daemon=True) for _ in range(min(parallel, len(unknown)))]
    for thread in threads:
        thread.start()
    while (alive := [thread for thread in threads if thread.is_alive()]) and not give_up():
        alive[0].join(timeout=0.05)
    return sizes | found.copy()


def _size_of(wheel: LockedWheel, transport: Transport, attempts: int) -> int | None:
    for url in wheel.urls:
        try:
            size = _patiently(partial(transport.head_size, url), attempts=attempts)
        except SourceFault:
            continue  # only asked for convenience: whoever needs the wheel will say what is wrong
        if size is not None:
            return size
    return None


def with_credentials(wheels: Sequence[LockedWheel], indexes: Sequence[str]) -> list[LockedWheel]:
    """Returns *wheels* with the user and password that an index's URL holds, where a wheel is of that index's origin.

    A lockfile never holds them; they are put in when a server is to be asked, and nowhere else.

    Args:
        wheels: as locked.
        indexes: roots of Simple APIs, as the user's configuration has them.
    """
    rooted = [index for index in indexes if "@" in urlsplit(index).netloc]
    return [replace(wheel, urls=tuple(_known_to(rooted, url) for url in wheel.urls)) for wheel in wheels]


def _known_to(indexes: Sequence[str], url: str) -> str:
    return next((found for index in indexes if (found := _with_credentials_of(index, url)) != url), url)


def mirror_urls(
    project: NormalizedName,
    filename: str,
    digest: Digest,
    mirror: str,
    *,
    transport: Transport,
    known: Sequence[str] = (),
    guess: bool = True,
) -> Offer:
    """Returns what *mirror* offers under the file's name: the file, other bytes, or nothing.

    Some mirrors serve an index's files and only rewrite their URLs, or have no pages at all. Where a mirror does not
    list the file, it may have it all the same at the path that the lockfile gives.

    Args:
        project: normalised (PEP 503).
        filename: the wheel's.
        digest: what its bytes must be. A mirror that lists none may have them: the transfer will tell.
        mirror: the root of the Simple API to ask; may hold credentials.
        transport: how.
        known: the file's URLs elsewhere, as locked.
        guess: offer rewritten URLs where the file is not listed. An index that is asked where its own file moved to
            has no use for them.

    Raises:
        SourceFault: it cannot be asked, or refuses and there is nothing to guess.
    """
    guesses = _guesses(mirror, known) if guess else Offer()
    try:
        files = _project_files(mirror, project, transport=transport)
    except SourceFault as fault:
        if guesses.urls and _says_no_page(fault):
            return guesses
        raise
    named = [file for file in files if file.filename == filename]
    listed = [(_digest_of(file), _with_credentials_of(mirror, file.url)) for file in named]
    if not listed:
        return guesses
    return Offer(
        urls=tuple(dict.fromkeys(url for found, url in listed if found in (None, digest))),
        other_digests=tuple(dict.fromkeys(found for found, _ in listed if found not in (None, digest))),
    )


def rewritten_urls(mirror: str, url: str) -> tuple[str, ...]:
    """Returns where *mirror* would have the file of *url* if it served the same paths, likeliest first.

    These are the path at the mirror's origin, and under the mirror's root without its `/simple`. Query and fragment are
    dropped: a signature is good for one host.

    Args:
        mirror: the root of a Simple API; the URLs get its user and password.
        url: `https:` or `http:`; there is none for another.
    """
    try:
        root, file = urlsplit(mirror), urlsplit(url)
    except ValueError:
        return ()
    if not {root.scheme, file.scheme} <= {"https", "http"} or not root.netloc or not file.path.strip("/"):
        return ()
    folder = root.path.rstrip("/").removesuffix("/simple").rstrip("/")
    paths = dict.fromkeys((file.path, folder + file.path))
    return tuple(urlunsplit((root.scheme, root.netloc, path, "", "")) for path in paths)


def _guesses(mirror: str, known: Sequence[str]) -> Offer:
    urls = tuple(dict.fromkeys(found for url in known for found in rewritten_urls(mirror, url) if found not in known))
    return Offer(urls=urls, is_guess=bool(urls))


def _says_no_page(fault: SourceFault) -> bool:
    """True when a server answered that it has no such page."""
    response = getattr(fault.__cause__, "response", None)
    return getattr(response, "status_code", None) in _NO_PAGE


def _digest_of(file: DistributionPackage) -> Digest | None:
    """Returns the digest that an index lists for a file; None where it lists none, or what is no digest."""
    try:
        return parse_digest(f"sha256:{file.digests.get('sha256')}")
    except ValueError:
        return None


def wheels_of_requirements(
    pins: Sequence[Pin], indexes: Sequence[str], target: Target, *, transport: Transport, attempts: int = _ATTEMPTS
) -> tuple[LockedWheel, ...]:
    """Returns the wheel that each pin means for *target*: the best by its tags among the files with an allowed digest.

    Args:
        pins: of one requirements file.
        indexes: roots of Simple APIs, best first; each file may come from any of them.
        target: what wheels must fit.
        transport: how to ask.
        attempts: per project and index.

    Raises:
        LockError: an index was asked and no file fits.
        NetworkError: no index could be asked.
    """
    with ThreadPoolExecutor(_PARALLEL) as pool:
        return tuple(pool.map(lambda pin: _wheel_of_pin(pin, indexes, target, transport, attempts), pins))


def _wheel_of_pin(pin: Pin, indexes: Sequence[str], target: Target, transport: Transport, attempts: int) -> LockedWheel:
    files: list[DistributionPackage] = []
    faults: list[str] = []
    for index in indexes:
        try:
            found = _patiently(partial(_project_files, index, pin.name, transport=transport), attempts=attempts)
        except SourceFault as fault:
            if fault.fault is not Fault.REFUSED:  # some indexes say 403 where others say 404
                faults.append(f"{public_url(index)}: {fault.fault}: {fault.message}")
            continue
        files += [replace(file, url=_with_credentials_of(index, file.url)) for file in found]
    fitting = sorted(_fitting(pin, files, target), key=lambda candidate: candidate[0])
    if fitting:
        best = fitting[0][1]
        digest = parse_digest(f"sha256:{best.digests['sha256']}")
        same = [file for _, file in fitting if file.digests["sha256"].lower() == hex_of(digest)]
        return LockedWheel(
            name=pin.name,
            version=pin.version,
            filename=best.filename,
            digest=digest,
            size=next((file.size for file in same if file.size is not None), None),
            urls=tuple(dict.fromkeys(file.url for file in same)),
        )
    if faults:
        raise NetworkError(
            f"{pin.name}=={pin.version}: " + "; ".join(faults),
            hint="check the network, then run the same command again",
        )
    asked = ", ".join(public_url(index) for index in indexes)
    raise LockError(
        f"{pin.name}=={pin.version}: expected a wheel for {target.describe()} "
        f"with one of the {len(pin.digests)} hashes given, found none at {asked}",
        hint="make the hashes anew for this target (uv pip compile --generate-hashes), or use a lockfile",
        project=pin.name,
    )


def _fitting(
    pin: Pin, files: Sequence[DistributionPackage], target: Target
) -> Iterator[tuple[tuple[int, int, str], DistributionPackage]]:
    """Yields the wheels that *pin* allows and *target* accepts, each with its rank: best tag, highest build tag."""
    order = {tag: rank for rank, tag in reversed(list(enumerate(target.tags)))}
    for file in files:
        try:
            if parse_digest(f"sha256:{file.digests.get('sha256')}") not in pin.digests:
                continue
            _, version, build, tags = parse_wheel_filename(file.filename)
        except (ValueError, InvalidWheelFilename):  # a source distribution, or a file without a sha256 digest
            continue
        ranks = [order[tag] for tag in tags if tag in order]
        if ranks and canonicalize_version(version) == canonicalize_version(pin.version):
            yield (min(ranks), *_build_rank(build)), file


def _build_rank(build: BuildTag) -> tuple[int, str]:
    return (-build[0], build[1]) if build else (0, "")


def _project_files(index: str, project: str, *, transport: Transport) -> list[DistributionPackage]:
    """Returns the files of *project* that the index lists, from PEP 503 HTML or PEP 691 JSON."""
    from pypi_simple import NoSuchProjectError, PyPISimple, UnsupportedRepoVersionError  # noqa: PLC0415 - 100 ms

    from wheelcache.transport import faults_of  # noqa: PLC0415 - imports requests

    client = PyPISimple(index, session=transport.session)
    with faults_of():
        try:
            files = client.get_project_page(project, timeout=transport.timeout).packages
        except NoSuchProjectError:
            return []
        except UnsupportedRepoVersionError as error:
            raise SourceFault(Fault.REFUSED, str(error)) from error
    if not files:
        raise SourceFault(
            Fault.FOREIGN,
            f"expected the files of {project}, found a page without any",
            hint="a proxy or a login page may answer in the index's place: open its URL in a browser",
        )
    return files


def _patiently(work: Callable[[], T], *, attempts: int) -> T:
    """Does *work*, again after a fault that may pass."""
    from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential  # noqa: PLC0415

    retrying = Retrying(
        stop=stop_after_attempt(attempts),
        wait=wait_random_exponential(multiplier=0.5, max=8),
        retry=retry_if_exception(lambda error: isinstance(error, SourceFault) and error.fault not in FATAL),
        reraise=True,
    )
    return retrying(work)


def _with_credentials_of(index: str, url: str) -> str:
    """Returns *url* with the index's user and password where both are of one origin, as pip and uv do."""
    root, parts = urlsplit(index), urlsplit(url)
    userinfo, at, host = root.netloc.rpartition("@")
    if not at or parts.scheme != root.scheme or parts.netloc != host:
        return url
    return urlunsplit(parts._replace(netloc=f"{userinfo}@{host}"))
