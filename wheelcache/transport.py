"""The one place that talks HTTP: opens a URL at an offset and tells every failure by its class."""

from __future__ import annotations

import os
import re
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Protocol, Self
from urllib.parse import urljoin, urlsplit
from urllib.request import url2pathname

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError, IncompleteRead, ReadTimeoutError

from wheelcache import __version__
from wheelcache.answers import LARGEST_FILE, refusal
from wheelcache.faults import Fault, SourceFault, public_url
from wheelcache.redaction import without_userinfo

CONNECT_SECONDS: Final = 15.0
"""The longest that a connection may take to come about."""

_TLS_HINT: Final = (
    "check this machine's clock; behind a proxy that inspects TLS, name its CA bundle in REQUESTS_CA_BUNDLE "
    "or SSL_CERT_FILE"
)


class Answer(Protocol):
    """An answer whose body has not been read yet.

    Attributes:
        url: where it came from in the end, without credentials.
        status: HTTP's.
        headers: names in lower case.
    """

    url: str
    status: int
    headers: Mapping[str, str]

    def read(self, size: int) -> bytes:
        """Returns up to *size* bytes as they were sent; empty at the end.

        Raises:
            SourceFault: the connection broke or fell silent.
        """
        ...

    def abort(self) -> None:
        """Ends a `read` that another thread is in; what it returns is to be thrown away."""
        ...

    def close(self) -> None:
        """Gives the connection back, or closes it when bytes of the body are left on it."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


class Transport:
    """A pool of connections, with the proxies, credentials and CA bundle that the environment names.

    Args:
        timeout: seconds without a byte.
        connections: at most, per host.
        environ: the environment's variables; requests reads proxies, bundles and ~/.netrc by the process's own besides.
        credentials: returns user and password for a URL and the user that it names, if any, once its server wants some
            that neither the URL nor ~/.netrc has; None where there are none.
    """

    def __init__(
        self,
        *,
        timeout: float = 60.0,
        connections: int = 4,
        environ: Mapping[str, str] | None = None,
        credentials: Callable[[str, str], tuple[str, str] | None] = lambda _url, _user: None,
    ) -> None:
        self.timeout = timeout
        self.session: requests.Session = _Session()
        """For libraries that bring their own requests (pypi-simple); use within `faults_of`."""
        self._credentials = credentials
        self._pairs: dict[str, tuple[str, str]] = {}
        """By origin, what a server took: asked at once from then on."""
        self.session.hooks["response"].append(self._with_credentials)
        adapter = HTTPAdapter(pool_connections=64, pool_maxsize=max(connections, 10))
        self.session.mount("https://", adapter)
        self.session.mount("http://", adapter)
        self.session.headers["User-Agent"] = f"wheelcache/{__version__} {requests.utils.default_user_agent()}"
        self._timeouts = (min(timeout, CONNECT_SECONDS), timeout)
        variables = os.environ if environ is None else environ
        if not variables.get("REQUESTS_CA_BUNDLE") and not variables.get("CURL_CA_BUNDLE"):
            self.session.verify = variables.get("SSL_CERT_FILE") or True

    def open(self, url: str, *, offset: int = 0, end: int | None = None) -> Answer:
        """Asks for a file's bytes from *offset* up to, not including, *end*.

        Args:
            url: `https:`, `http:` or `file:`.
            offset: in bytes; 0 without an end asks for the whole file, without a range.
            end: in bytes; None for the file's own.

        Raises:
            SourceFault: no answer came. Any status is an answer.
        """
        if url.startswith("file:"):
            return _FileAnswer(url, offset)
        headers = {"Accept-Encoding": "identity"}
        if offset or end is not None:
            headers["Range"] = f"bytes={offset}-{'' if end is None else end - 1}"
        with faults_of():
            response = self.session.get(
                url, headers=headers, stream=True, timeout=self._timeouts, auth=self._pairs.get(_origin(url))
            )
        return _HttpAnswer(response)

    def head_size(self, url: str) -> int | None:
        """Returns the size of the file at *url* in bytes; None where its server does not say.

        Raises:
            SourceFault: no answer came.
        """
        if url.startswith("file:"):
            return _local_file(url).stat().st_size
        with faults_of():
            response = self.session.head(
                url, headers={"Accept-Encoding": "identity"}, allow_redirects=True, timeout=self._timeouts
            )
        length = response.headers.get("Content-Length", "")
        if response.status_code != requests.codes.ok or "html" in response.headers.get("Content-Type", ""):
            return None
        is_sound = re.fullmatch(r"[0-9]{1,19}", length) and 0 < int(length) < LARGEST_FILE
        return int(length) if is_sound else None

    def close(self) -> None:
        """Closes all connections that are idle."""
        self.session.close()

    def _with_credentials(self, response: requests.Response, **arguments: Any) -> requests.Response:  # noqa: ANN401
        """Asks again with credentials where a server wants some and got none (RFC 9110, section 15.5.2).

        They go to the host that asked, and to no other: a redirect's next request is made without them.
        """
        request = response.request
        if response.status_code != requests.codes.unauthorized or "Authorization" in request.headers:
            return response
        url = str(request.url)
        pair = self._credentials(url, urlsplit(url).username or "")
        if pair is None:
            return response
        response.close()
        again = request.copy()
        again.hooks = requests.hooks.default_hooks()
        answer: requests.Response = response.connection.send(requests.auth.HTTPBasicAuth(*pair)(again), **arguments)
        if answer.ok:
            self._pairs[_origin(url)] = pair
        answer.history.append(response)
        answer.request = again
        return answer


class _Session(requests.Session):
    """A session that never leaves https for http; requests itself keeps credentials from other hosts."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        target = super().get_redirect_target(resp)
        if target is not None:
            there = urljoin(resp.url, target)
            expected = "https" if urlsplit(resp.url).scheme == "https" else "http or https"
            if urlsplit(there).scheme not in expected.split(" or "):
                resp.close()
                raise SourceFault(
                    Fault.REDIRECT,
                    f"expected {expected}, found a redirect to {public_url(there)}",
                    hint="correct the server, or use another mirror",
                )
        return target


class _HttpAnswer:
    def __init__(self, response: requests.Response) -> None:
        self._response = response
        self._raw = response.raw
        self.url = public_url(response.url)
        self.status = response.status_code
        self.headers: Mapping[str, str] = {name.lower(): value for name, value in response.headers.items()}

    def read(self, size: int) -> bytes:
        with faults_of():
            data: bytes = self._raw.read(size, decode_content=False)
        return data

    def abort(self) -> None:
        with suppress(OSError, ValueError, RuntimeError):  # it ended by itself a moment before
            self._raw.shutdown()

    def close(self) -> None:
        with suppress(OSError, HTTPError):  # nothing more is wanted of it
            if self._raw.length_remaining != 0:
                self._raw.close()  # closes the socket: draining a body nobody wants costs more than a connection
            self._response.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _FileAnswer:
    """A local file, answering as a server with ranges would."""

    def __init__(self, url: str, offset: int) -> None:
        self.url = public_url(url)
        path = _local_file(url)
        with faults_of():
            self._file: IO[bytes] = path.open("rb")
            size = path.stat().st_size
        self._file.seek(offset)
        self.headers: Mapping[str, str] = {"content-length": str(max(size - offset, 0))}
        self.status = 200
        if offset >= size and offset:
            self.status, self.headers = 416, {"content-range": f"bytes */{size}"}
        elif offset:
            self.status = 206
            self.headers = {**self.headers, "content-range": f"bytes {offset}-{size - 1}/{size}"}

    def read(self, size: int) -> bytes:
        with faults_of():
            return self._file.read(size)

    def abort(self) -> None:
        """A local read ends by itself."""

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def faults_of() -> Iterator[None]:
    """Turns what requests, urllib3 and the operating system raise into a `SourceFault`.

    Raises:
        SourceFault: in the place of theirs.
    """
    try:
        yield
    except SourceFault:
        raise
    except (requests.RequestException, HTTPError, OSError, ValueError, RecursionError) as error:
        raise _fault(error) from error


def _fault(error: Exception) -> SourceFault:
    """Classifies a library's exception."""
    reason = _reason(error)
    if isinstance(error, requests.HTTPError) and error.response is not None:  # pypi-simple's word for a bad status
        answer = error.response
        return refusal(answer.status_code, {k.lower(): v for k, v in answer.headers.items()}, now=time.time())
    unverified = any(isinstance(cause, ssl.SSLCertVerificationError) for cause in _causes(error))
    if unverified or "CA certificate bundle" in reason:  # the latter: requests', of a bundle that is not there
        return SourceFault(Fault.TLS, reason, hint=_TLS_HINT)
    fault = next(fault for kinds, fault in _FAULTS if isinstance(error, kinds))
    proxied = isinstance(error, requests.exceptions.ProxyError)
    return SourceFault(fault, reason, hint="check HTTPS_PROXY, HTTP_PROXY and NO_PROXY" if proxied else "")


_FAULTS: Final[tuple[tuple[tuple[type[Exception], ...], Fault], ...]] = (
    ((requests.TooManyRedirects,), Fault.REDIRECT),
    ((requests.JSONDecodeError,), Fault.FOREIGN),
    ((requests.exceptions.ReadTimeout, ReadTimeoutError, TimeoutError), Fault.SILENT),
    ((requests.ConnectionError, requests.Timeout), Fault.CONNECT),
    ((HTTPError,), Fault.CUT),
    ((requests.RequestException,), Fault.REFUSED),  # no URL, an unknown scheme
    ((ValueError, RecursionError), Fault.FOREIGN),  # a page that is none of the Simple API's
    ((OSError,), Fault.CUT),
)
"""The first that fits counts: requests' exceptions are OSErrors, and some are ValueErrors as well."""


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yields *error* and what lies under it, as causes and as urllib3's `reason` and arguments."""
    seen: list[BaseException] = []
    left: list[object] = [error]
    while left:
        cause = left.pop()
        if isinstance(cause, BaseException) and cause not in seen:
            seen.append(cause)
            yield cause
            left += [cause.__cause__, getattr(cause, "reason", None), *cause.args]


def _reason(error: BaseException) -> str:
    """Returns the innermost words of *error*: the outer ones repeat the URL."""
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, IncompleteRead) and isinstance(cause.partial, int) and cause.expected is not None:
            return f"the body ended after {cause.partial} of {cause.partial + cause.expected} bytes"
    system = [cause.strerror for cause in causes if isinstance(cause, OSError) and cause.strerror]
    words = system[-1] if system else str(causes[-1]).rpartition(">: ")[2]
    return re.sub(r"(://[^\s'\"?]*)\?[^\s'\"]*", r"\1", without_userinfo(words)) or type(error).__name__


def _origin(url: str) -> str:
    """Returns scheme, host and port of *url*; user and password, which it may hold, make another key."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.netloc}"


def _local_file(url: str) -> Path:
    path = Path(url2pathname(urlsplit(url).path))
    try:
        is_there = path.is_file()
    except OSError:  # a name that no file can have
        is_there = False
    if not is_there:
        raise SourceFault(Fault.REFUSED, f"expected the file {path}, found none")
    return path
