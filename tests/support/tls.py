"""Certificates for servers on loopback, made by openssl and trusted by nobody."""

from __future__ import annotations

import subprocess
from pathlib import Path


def make_certificate(folder: Path) -> Path:
    """Makes a key and a certificate for 127.0.0.1 that is its own authority; returns the PEM file with both."""
    file = folder / "server.pem"
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*request, *names, "-keyout", file, "-out", folder / "only.pem"], check=True, capture_output=True)
    file.write_bytes(file.read_bytes() + (folder / "only.pem").read_bytes())
    return file
