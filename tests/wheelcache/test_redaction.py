"""Credentials in URLs."""

from __future__ import annotations

import pytest

from wheelcache.redaction import without_userinfo


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://u:pw@index.example/simple", "https://index.example/simple"),
        ("https://u:p@ss@index.example/simple", "https://index.example/simple"),
        ("https://u:p#s?s'\"@index.example/simple", "https://index.example/simple"),
        ("https://token@index.example", "https://index.example"),
        (
            "RUN pip install --index-url 'https://u:pw@a.example/x' -f https://t@b.example x@1",
            "RUN pip install --index-url 'https://a.example/x' -f https://b.example x@1",
        ),
        ('["pip", "https://u:pw@a.example/x","me@b.example"]', '["pip", "https://a.example/x","me@b.example"]'),
        ("git+ssh://git@code.example/tool.git@v1", "git+ssh://code.example/tool.git@v1"),
        ("https://a.example/@scope/pkg@1", "https://a.example/@scope/pkg@1"),
        ("file:///home/me@work/x", "file:///home/me@work/x"),
        ("docker-image://python@sha256:00ff", "docker-image://python@sha256:00ff"),
        ("name @ https://u:pw@a.example/x.whl", "name @ https://a.example/x.whl"),
        ("write to me@a.example", "write to me@a.example"),
    ],
)
def test_urls_lose_their_user_part_and_nothing_else(text: str, shown: str) -> None:
    assert without_userinfo(text) == shown
