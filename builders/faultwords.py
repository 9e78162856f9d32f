"""What pip, uv, apt, npm, git, curl, compilers, BuildKit and kernels say of each kind of fault, as patterns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final


def _any(patterns: Sequence[str]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns), re.MULTILINE)


TLS: Final = _any([
    r"CERTIFICATE_VERIFY_FAILED",
    r"SSLCertVerificationError",
    r"certificate verify failed",
    r"server certificate verification failed",
    r"[Ii]nvalid peer certificate",
    r"\bx509: ",
    r"[Ss]elf[- ]signed certificate",
    r"certificate has expired",
    r"SELF_SIGNED_CERT_IN_CHAIN",
    r"UNABLE_TO_GET_ISSUER_CERT",
    r"curl: \((?:35|51|60|77)\)",
])  # fmt: skip

DISK: Final = _any([
    r"[Nn]o space left on device",
    r"\bENOSPC\b",
    r"Errno 28\b",
    r"[Dd]isk quota exceeded",
    r"You don't have enough free space",
])  # fmt: skip

MEMORY: Final = _any([
    r"[Cc]annot allocate memory",
    r"\bMemoryError\b",
    r"[Oo]ut of memory",
    r"Killed signal terminated program",
    r"JavaScript heap out of memory",
    r"std::bad_alloc",
    r"did not complete successfully: exit code: 137",
    r"^Killed$",
])  # fmt: skip

DIGEST: Final = _any([
    r"THESE PACKAGES DO NOT MATCH THE HASHES",
    r"[Hh]ash mismatch",
    r"Hash Sum mismatch",
    r"Hashes are required in --require-hashes",
    r"(?:digest|checksum) mismatch",
    r"unexpected commit digest",
    r"failed size validation",
    r"\bEINTEGRITY\b",
])  # fmt: skip

NO_WAY: Final = _any([
    r"[Tt]emporary failure (?:in name resolution|resolving)",
    r"[Nn]ame or service not known",
    r"[Nn]ame does not resolve",
    r"[Cc]ould not resolve",
    r"nodename nor servname",
    r"NameResolutionError",
    r"no such host",
    r"server misbehaving",
    r"\bbad address\b",
    r"\bdns error\b",
    r"\bEAI_AGAIN\b|\bENOTFOUND\b",
    r"[Nn]etwork (?:is )?unreachable",
    r"[Nn]o route to host",
    r"[Cc]onnection refused|\bECONNREFUSED\b",
])  # fmt: skip
"""There is no way to the other side at all."""

BROKEN_WAY: Final = _any([
    r"after connection broken by|Max retries exceeded",
    r"[Rr]ead timed out|ReadTimeout|ConnectTimeout",
    r"[Cc]onnection (?:timed out|reset|aborted)",
    r"Connection broken|IncompleteRead|ChunkedEncodingError|RemoteDisconnected",
    r"\bECONNRESET\b|\bETIMEDOUT\b|socket hang up",
    r"i/o timeout|TLS handshake timeout|operation timed out",
    r"unexpected EOF|early EOF|RPC failed",
    r"net/http: request canceled",
    r"error sending request|error decoding response body",
    r"Failed to fetch\b",
    r"\b50[0234] (?:Server Error|Service Unavailable|Bad Gateway|Gateway Time|Internal Server)",
    r"returned error: 5\d\d",
    r"429 Too Many|toomanyrequests",
    r"curl: \((?:5|6|7|18|28|52|55|56|92)\)",
])  # fmt: skip
"""There is a way, and it failed."""

CUT_SHORT: Final = _any([
    r"Wheel '[^']*' located at \S+ is invalid",
    r"zipfile\.BadZipFile|File is not a zip file|Failed to read from zip file",
])  # fmt: skip
"""What uv and older pips make of a download that ended early: they compare no lengths."""

REGISTRY: Final = _any([
    r"failed to resolve source metadata",
    r"failed to do request",
    r"failed to authorize",
    r"pull access denied",
    r"repository does not exist",
    r"manifest (?:for .* )?(?:unknown|not found)",
    r"no match for platform in manifest",
])  # fmt: skip
"""An image that is not in the engine was asked of its registry."""

AUTH: Final = _any([
    r"\b401\b.{0,20}(?:Unauthorized|Error)",
    r"\b403\b.{0,20}(?:Forbidden|Error)",
    r"authentication required",
    r"no basic auth credentials",
    r"denied: requested access",
    r"returned error: 40[13]\b",
    r"[Ii]nvalid (?:username|credentials)",
    r"could not read Username",
    r"Permission denied \(publickey",
])  # fmt: skip

GONE: Final = _any([
    r"HTTP status client error \(4(?:04|10)\b",
    r"HTTP error 4(?:04|10)\b",
    r"returned error: 4(?:04|10)\b",
    r"E: Failed to fetch \S+\s+404\b",
    r"npm (?:ERR!|error) (?:code E)?404\b",
])  # fmt: skip
"""A server answered that it does not have what was asked for."""

RESOLVE: Final = _any([
    r"ResolutionImpossible",
    r"No matching distribution found",
    r"Could not find a version that satisfies",
    r"No solution found",
    r"Because .* (?:was not found|there (?:is|are) no)",
    r"conflicting dependencies",
    r"requires a different Python",
    r"\bERESOLVE\b",
    r"Unable to locate package",
    r"has no installation candidate",
    r"unmet dependencies",
])  # fmt: skip

SYNTAX: Final = _any([
    r"dockerfile parse error",
    r"file with no instructions",
    r"unknown instruction",
    r"failed to read dockerfile",
    r"unknown flag",
    r"requires exactly \d+ argument",
    r"invalid reference format",
    r"failed to parse",
    r"target stage .* could not be found",
    r"failed to (?:compute cache key|calculate checksum)",
    r"not found in build context",
    r"secret \S+: not found|secret .* not found",
])  # fmt: skip

BUILDING: Final = _any([
    r"Building wheel",
    r"Failed building wheel|Failed to build",
    r"subprocess-exited-with-error|metadata-generation-failed",
    r"Preparing metadata",
    r"\bbuild_ext\b",
    r"CMake Error",
    r"error: command",
    r"compilation terminated",
    r"Call to `[\w.:-]+` failed",
    r"build backend returned an error",
])  # fmt: skip
"""Something was being compiled."""

COMPILE: Final = _any([
    r"error: command .* failed",
    r"Failed building wheel for",
    r"Failed to build\b",
    r"CMake Error",
    r"metadata-generation-failed",
    r"compilation terminated",
    r"make: \*\*\* ",
    r"error: subprocess-exited-with-error",
])  # fmt: skip

_COMPILER: Final = r"['\"]?(?:[\w-]+-)?(gcc|g\+\+|cc|c\+\+|clang)(?:-\d+)?['\"]?"
_PROGRAM: Final = r"[`'\"]?(cmake|ninja|nasm|yasm|make|cargo|rustc|git|pkg-config|nvcc|swig|protoc)\b[`'\"]?"

MISSING_TOOLS: Final = tuple(
    re.compile(pattern)
    for pattern in (
        rf"command {_COMPILER} failed: No such file",
        rf"(?:[Uu]nable to (?:execute|find)|No such file or directory:) {_COMPILER}",
        r"No CMAKE_(?:ASM_)?(NASM|C|CXX|CUDA|Fortran)_COMPILER could be found",
        r"(CMake) (?:must be|is not) (?:installed|found)",
        rf"(?:No such file or directory|FileNotFoundError):.* {_PROGRAM}",
        rf"(?:[Cc]ould not find|Did not find|[Uu]nable to find|Failed to (?:spawn|execute)(?: command)?:?) {_PROGRAM}",
        r"can't find (Rust) compiler|(Rust) (?:toolchain )?(?:is )?not (?:installed|found)",
        r"(Cargo), the Rust package manager, is not installed",
        r"(pg_config|mysql_config|llvm-config) (?:executable )?(?:not found|is required|is missing)",
        rf"(?:Program )?{_PROGRAM}[^\n]{{0,30}} (?:not found|NOT FOUND|NO\b|is missing|must be installed)",
        r"(?:^|\s)([a-z][\w.+-]*): (?:command )?not found",
        r"fatal error: ([\w/.+-]+\.h(?:pp)?): No such file",
        r"ld: cannot find (-l[\w.+-]+)",
    )
)
"""A tool that is not there; the group is its name."""

PACKAGE_OF: Final = {
    "gcc": "build-essential",
    "cc": "build-essential",
    "g++": "build-essential",
    "c++": "build-essential",
    "c": "build-essential",
    "cxx": "build-essential",
    "make": "build-essential",
    "rust": "cargo",
    "rustc": "cargo",
    "fortran": "gfortran",
    "ninja": "ninja-build",
    "protoc": "protobuf-compiler",
    "pg_config": "libpq-dev",
    "mysql_config": "default-libmysqlclient-dev",
    "llvm-config": "llvm-dev",
    "python.h": "python3-dev",
    "nvcc": "the CUDA toolkit (a devel base image)",
    "cuda": "the CUDA toolkit (a devel base image)",
}
"""What brings a tool on Debian, by its name in lower case, where the package is called otherwise."""
