"""URLs fit for people, hosts told apart, faults with their words."""

from __future__ import annotations

import pytest

from wheelcache.faults import Fault, SourceFault, host_of, public_url


@pytest.mark.parametrize(
    ("url", "public"),
    [
        ("https://user:secret@host.test:8443/a/b.whl?X-Signature=abc#sha256=1", "https://host.test:8443/a/b.whl"),
        ("https://host.test/a%20b.whl", "https://host.test/a%20b.whl"),
        ("https://us@er:p@host.test/a", "https://host.test/a"),
        ("https://user:p#ss@host.test/a", "https://host.test/a"),
        ("file:///srv/a.whl", "file:///srv/a.whl"),
    ],
)
def test_a_url_is_shown_without_what_is_secret_in_it(url, public):
    assert public_url(url) == public


def test_hosts_are_told_apart_by_port_and_not_by_user():
    assert host_of("https://u:p@Host.test:8443/x") == host_of("https://host.test:8443/y") == "host.test:8443"
    assert host_of("file:///srv/a.whl") == ""


@pytest.mark.parametrize("url", ["http://[bad/x", "nonsense", ""])
def test_what_is_no_url_has_no_host(url):
    assert host_of(url) == ""


class TestAReason:
    def test_is_the_faults_word(self):
        assert SourceFault(Fault.SILENT, "no byte in 60 s").reason == "silent"

    def test_names_the_status_where_there_was_one(self):
        assert SourceFault(Fault.BUSY, "expected the file, found HTTP status 429").reason == "busy (HTTP status 429)"
