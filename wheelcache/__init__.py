"""Fetches each locked wheel once, from any mirror, into a content-addressed store."""

__version__ = "0.1.0"
