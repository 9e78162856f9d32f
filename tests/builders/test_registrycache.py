"""Where builds keep their cache in a registry."""

from __future__ import annotations

import pytest

from builders.registrycache import read_cache
from wheelcache.errors import UsageError


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("r.example/shop/cache", "type=registry,ref=r.example/shop/cache:ml-gpu"),
        ("localhost:5000/cache", "type=registry,ref=localhost:5000/cache:ml-gpu"),
        ("localhost:5000/cache:v1.2", "type=registry,ref=localhost:5000/cache:v1.2-ml-gpu"),
        ("type=registry,mode=max,ref=r/c:main", "type=registry,ref=r/c:main-ml-gpu,mode=max"),
    ],
)
def test_every_image_has_a_tag_of_its_own(text: str, told: str) -> None:
    cache = read_cache([text], [text])
    assert cache.sources_of("ml.gpu") == cache.targets_of("ml.gpu") == (told,)


@pytest.mark.parametrize("text", ["", "type=local,dest=x", "type=registry", "ref=r/c", "r/c@sha256:0", "a b"])
def test_what_is_no_cache_in_a_registry_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"^--cache-to: expected a repository such as"):
        read_cache([], [text])
