"""Failed builds are classified by what programs really print."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders.failures import classify

EXIT_1 = 'process "/bin/sh -c pip install -r requirements.txt" did not complete successfully: exit code: 1'

PIP_OFFLINE = """\
Looking in links: /wheelcache
WARNING: Retrying (Retry(total=4, connect=None, read=None, redirect=None, status=None)) after connection broken by \
'NewConnectionError('<pip._vendor.urllib3.connection.HTTPSConnection object at 0x7f>: Failed to establish a new \
connection: [Errno -3] Temporary failure in name resolution')': /simple/flask/
ERROR: Could not find a version that satisfies the requirement flask (from versions: none)
ERROR: No matching distribution found for flask
"""
PIP_READ_TIMEOUT = """\
     ━━━━━━━━━━━━ 532.1/888.1 MB 12.0 MB/s eta 0:00:30
ERROR: Exception:
Traceback (most recent call last):
pip._vendor.urllib3.exceptions.ReadTimeoutError: HTTPSConnectionPool(host='files.example', port=443): Read timed out.
"""
PIP_TLS = """\
WARNING: Retrying (Retry(total=0)) after connection broken by 'SSLError(SSLCertVerificationError(1, '[SSL: \
CERTIFICATE_VERIFY_FAILED] certificate verify failed: unable to get local issuer certificate (_ssl.c:1006)'))': /simple/
ERROR: No matching distribution found for flask
"""
PIP_SEALED = """\
Looking in links: /wheelcache
ERROR: Could not find a version that satisfies the requirement flask==3.1 (from versions: 3.0.0)
ERROR: No matching distribution found for flask==3.1
"""
PIP_HASHES = """\
ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE. If you have updated the package
    flask==3.0 from file:///wheelcache/flask-3.0-py3-none-any.whl:
        Expected sha256 00
"""
NO_CMAKE = """\
  Building wheel for dlib (pyproject.toml): finished with status 'error'
  ERROR: CMake must be installed to build dlib
  ERROR: Failed building wheel for dlib
"""
NO_NASM = """\
  Building wheel for x265 (pyproject.toml): started
  CMake Error at CMakeLists.txt:5 (project):
    No CMAKE_ASM_NASM_COMPILER could be found.
  ERROR: Failed building wheel for x265
"""
NO_GCC = """\
  building 'ujson' extension
  error: command 'x86_64-linux-gnu-gcc' failed: No such file or directory
  ERROR: Failed building wheel for ujson
"""
NO_RUST = """\
  x Preparing metadata (pyproject.toml) did not run successfully.
      error: can't find Rust compiler
  error: subprocess-exited-with-error
"""
NO_CARGO = """\
error: metadata-generation-failed
  Cargo, the Rust package manager, is not installed or is not on PATH.
"""
NO_HEADER = """\
  running build_ext
  psutil/_psutil_common.c:9:10: fatal error: Python.h: No such file or directory
  compilation terminated.
  error: command '/usr/bin/gcc' failed with exit code 1
"""
BAD_C = """\
  running build_ext
  src/x.c:12:3: error: unknown type name 'PyUnicode_Foo'
  error: command '/usr/bin/gcc' failed with exit code 1
  ERROR: Failed building wheel for x
"""
NO_BUILD_DEPENDENCY = """\
  error: subprocess-exited-with-error
  x pip subprocess to install build dependencies did not run successfully.
      ERROR: Could not find a version that satisfies the requirement setuptools>=61 (from versions: none)
      ERROR: No matching distribution found for setuptools>=61
"""
UV_UNRESOLVED = """\
  x No solution found when resolving dependencies:
  ╰─▶ Because flask was not found in the provided package locations and you require flask, we can conclude that your
      requirements are unsatisfiable.
"""
UV_FETCH = """\
error: Failed to fetch: `https://user:hunter2@index.example/simple/flask/`
  Caused by: error sending request for url (https://user:hunter2@index.example/simple/flask/)
  Caused by: dns error: failed to lookup address information: Temporary failure in name resolution
"""
APT_OFFLINE = """\
Err:1 http://archive.example bookworm InRelease
  Temporary failure resolving 'archive.example'
E: Unable to locate package gcc
"""
UV_STATUS = """\
error: Failed to fetch: `https://index.example/files/locked-1.0-py3-none-any.whl`
  Caused by: HTTP status client error ({status}) for url (https://index.example/files/locked-1.0-py3-none-any.whl)
"""
UV_CUT = """\
  x No solution found when resolving dependencies:
  ╰─▶ Because locked==1.0 has an invalid package format and only locked==1.0 is available, we can conclude that all
      versions of locked cannot be used.
hint: The structure of `locked` (v1.0) was invalid:
  Failed to read from zip file
"""
PIP_GONE = """\
ERROR: HTTP error 404 while getting https://index.example/files/locked-1.0-py3-none-any.whl
ERROR: Could not install requirement locked from https://index.example/files/locked-1.0-py3-none-any.whl because of \
HTTP error 404 Client Error: Not Found for url: https://index.example/files/locked-1.0-py3-none-any.whl
"""
APT_GONE = """\
Err:1 http://archive.example bookworm/main amd64 gcc amd64 1.0
  404  Not Found
E: Failed to fetch http://archive.example/pool/gcc_1.0_amd64.deb  404  Not Found
E: Unable to fetch some archives, maybe run apt-get update or try with --fix-missing?
"""
APT_UNKNOWN = "Reading package lists...\nE: Unable to locate package libfoo\n"
SOURCE = "ERROR: failed to solve: "
IMAGE = "registry.example/team/base:1"


@pytest.mark.parametrize(
    ("log", "trailer", "fault", "words"),
    [
        (PIP_READ_TIMEOUT, EXIT_1, "network", "Read timed out"),
        (UV_FETCH, EXIT_1, "network", "error sending request"),
        (APT_OFFLINE, EXIT_1, "network", "Temporary failure resolving"),
        ("curl: (56) Recv failure: Connection reset by peer", EXIT_1, "network", "Connection reset"),
        (PIP_TLS, EXIT_1, "tls", "CERTIFICATE_VERIFY_FAILED"),
        ("OSError: [Errno 28] No space left on device", EXIT_1, "disk", "No space left"),
        ("", f"{SOURCE}write /var/lib/docker/x: no space left on device", "disk", "no space left"),
        ("Killed\n", "exit code: 137", "memory", "Killed"),
        ("Collecting torch", EXIT_1.replace("code: 1", "code: 137"), "memory", "137"),
        ("c++: fatal error: Killed signal terminated program cc1plus", EXIT_1, "memory", "cc1plus"),
        (PIP_HASHES, EXIT_1, "digest", "DO NOT MATCH"),
        (NO_CMAKE, EXIT_1, "compile", "CMake is missing"),
        (NO_NASM, EXIT_1, "compile", "NASM is missing"),
        (NO_GCC, EXIT_1, "compile", "gcc is missing"),
        (NO_RUST, EXIT_1, "compile", "Rust is missing"),
        (NO_CARGO, EXIT_1, "compile", "Cargo is missing"),
        (NO_HEADER, EXIT_1, "compile", "Python.h is missing"),
        (BAD_C, EXIT_1, "compile", "Failed building wheel for x"),
        (PIP_SEALED, EXIT_1, "resolve", "flask==3.1"),
        (NO_BUILD_DEPENDENCY, EXIT_1, "resolve", "setuptools>=61"),
        (UV_UNRESOLVED, EXIT_1, "resolve", "flask was not found"),
        (APT_UNKNOWN, EXIT_1, "resolve", "libfoo"),
        (UV_CUT, EXIT_1, "network", "Failed to read from zip file"),
        (UV_STATUS.format(status="401 Unauthorized"), EXIT_1, "auth", "401 Unauthorized"),
        (UV_STATUS.format(status="403 Forbidden"), EXIT_1, "auth", "403 Forbidden"),
        (UV_STATUS.format(status="404 Not Found"), EXIT_1, "resolve", "404 Not Found"),
        (UV_STATUS.format(status="429 Too Many Requests"), EXIT_1, "network", "429 Too Many"),
        (PIP_GONE, EXIT_1, "resolve", "HTTP error 404"),
        (APT_GONE, EXIT_1, "resolve", "404"),
        ("curl: (22) The requested URL returned error: 404", EXIT_1, "resolve", "404"),
        ("curl: (22) The requested URL returned error: 401", EXIT_1, "auth", "401"),
        ("ERROR: 401 Client Error: Unauthorized for url: https://index.example/", EXIT_1, "auth", "401"),
        (
            "",
            f"{SOURCE}{IMAGE}: failed to resolve source metadata for {IMAGE}: {IMAGE}: not found",
            "missing-image",
            IMAGE,
        ),
        (
            "",
            (
                f"{SOURCE}x: failed to resolve source metadata for {IMAGE}: failed to do request: Head "
                '"https://registry.example/v2/team/base/manifests/1": dial tcp: lookup registry.example: no such host'
            ),
            "missing-image",
            "no such host",
        ),
        (
            "",
            (
                f"{SOURCE}x: failed to resolve source metadata for {IMAGE}: failed to do request: Head "
                '"https://registry.example/v2/": net/http: TLS handshake timeout'
            ),
            "network",
            "TLS handshake timeout",
        ),
        ("", f"{SOURCE}dockerfile parse error on line 3: unknown instruction: RNU", "syntax", "line 3"),
        ("", f'{SOURCE}failed to compute cache key: "/missing.txt": not found', "syntax", "missing.txt"),
        ("", "unknown flag: --nope\nSee 'docker buildx build --help'.", "syntax", "--nope"),
        ("", "ERROR: failed to solve: Canceled: context canceled", "interrupted", "context canceled"),
        ("Traceback\nValueError: odd\nERROR: app setup failed\nbye", EXIT_1, "unknown", "app setup failed"),
        ("", "", "unknown", "without a word"),
    ],
)
def test_a_fault_is_known_by_its_words(log: str, trailer: str, fault: str, words: str) -> None:
    failure = classify(log, trailer)
    assert (failure.fault, words in failure.message) == (fault, True), failure
    assert failure.hint
    assert failure.retry == (fault == "network")


@pytest.mark.parametrize(
    ("log", "brings"),
    [
        (NO_GCC, "build-essential"),
        (NO_HEADER, "python3-dev"),
        (NO_NASM, "nasm"),
        (NO_CMAKE, "cmake"),
        (NO_RUST, "cargo"),
    ],
)
def test_a_missing_tool_comes_with_what_brings_it(log: str, brings: str) -> None:
    assert f"install {brings} " in classify(log, EXIT_1).hint


def test_pip_without_a_network_is_a_network_fault_though_it_ends_in_no_matching_distribution() -> None:
    failure = classify(PIP_OFFLINE, EXIT_1)
    assert (failure.fault, failure.retry) == ("network", True)


def test_a_step_that_has_no_network_is_not_tried_again_and_names_what_it_asked_for() -> None:
    failure = classify(PIP_OFFLINE, EXIT_1, has_network=False)
    assert (failure.fault, failure.retry) == ("network", False)
    assert "flask" in failure.message
    assert "online" in failure.hint


def test_a_build_that_we_stopped_is_interrupted_whatever_it_said() -> None:
    assert classify(PIP_READ_TIMEOUT, EXIT_1, interrupted=True).fault == "interrupted"


def test_a_command_that_is_missing_outside_of_any_compilation_is_no_compile_fault() -> None:
    assert classify("/bin/sh: 1: foo: not found", EXIT_1).fault == "unknown"


def test_the_missing_image_is_named_in_the_hint() -> None:
    failure = classify("", f"{SOURCE}x: failed to resolve source metadata for {IMAGE}: not found")
    assert IMAGE in failure.hint


def test_credentials_and_colours_do_not_reach_people() -> None:
    failure = classify("\x1b[31m" + UV_FETCH + "\x1b[0m", EXIT_1)
    assert "hunter2" not in failure.message
    assert "\x1b" not in failure.message


@given(st.text(max_size=500), st.text(max_size=200))
def test_any_text_has_an_answer(log: str, trailer: str) -> None:
    failure = classify(log, trailer)
    assert failure.message
    assert len(failure.message) < 1000


def test_a_wheel_that_an_older_pip_found_cut_short_is_a_network_fault_where_there_is_a_network():
    log = "ERROR: Wheel 'torch' located at /tmp/pip-unpack-1/torch-2.8.0-cp311-cp311-linux_x86_64.whl is invalid.\n"
    assert (classify(log, EXIT_1).fault, classify(log, EXIT_1).retry) == ("network", True)
    assert classify(log, EXIT_1, has_network=False).fault == "unknown"
