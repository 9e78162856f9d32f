"""Pages of a Simple API: PEP 503 HTML and PEP 691 JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

HTML = "text/html"
JSON = "application/vnd.pypi.simple.v1+json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    """A file as an index lists it; *sha256* in hex, or empty."""

    filename: str
    version: str
    url: str
    sha256: str
    size: int


def html_page(name: str, files: Sequence[Listed]) -> bytes:
    links = "".join(
        f'<a href="{file.url}{f"#sha256={file.sha256}" if file.sha256 else ""}">{file.filename}</a><br>\n'
        for file in files
    )
    return f"<!DOCTYPE html><html><head><title>{name}</title></head><body>{links}</body></html>".encode()


def json_page(name: str, files: Sequence[Listed]) -> bytes:
    page = {
        "meta": {"api-version": "1.1"},
        "name": name,
        "versions": sorted({file.version for file in files}),
        "files": [
            {
                "filename": file.filename,
                "url": file.url,
                "hashes": {"sha256": file.sha256} if file.sha256 else {},
                "size": file.size,
            }
            for file in files
        ],
    }
    return json.dumps(page).encode()


def json_root(names: Sequence[str]) -> bytes:
    return json.dumps({"meta": {"api-version": "1.1"}, "projects": [{"name": name} for name in names]}).encode()
