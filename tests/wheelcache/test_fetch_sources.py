"""Syncs whose sources refuse, or whose mirrors are asked: who is asked next, and what is said."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from support.server import Respond, Serve, redirect
from support.syncs import MB, QUICK, Syncs
from support.wheels import make_wheel

from wheelcache.errors import NetworkError
from wheelcache.events import (
    Waiting,
)

WHEEL = make_wheel("big", size=3 * MB)
PATH = f"/files/{WHEEL.filename}"
ALONE = replace(QUICK, connections=1)


@pytest.fixture
def sync(tmp_path):
    return Syncs(tmp_path / "cache")


@pytest.fixture
def url(server):
    return server.put_wheel(WHEEL)


class TestRefusals:
    @pytest.mark.parametrize("status", [401, 403, 404, 410])
    def test_lead_to_the_next_source_at_once(self, sync, server, other, url, status):
        server.script(PATH, then=Respond(status=status))
        good = other.put_wheel(WHEEL)
        [result] = sync(WHEEL.locked(url, good), settings=replace(QUICK, backoff=5.0, longest_pause=9.0))
        assert (result.state, result.source) == ("downloaded", good)
        assert len(server.asked(PATH)) == 1

    def test_by_all_are_a_network_error_that_names_each(self, sync, server, other, url):
        [result] = sync(WHEEL.locked(server.url + "/gone", f"http://user:secret@{other.host}/gone?sig=secret"))
        assert result.state == "failed"
        assert isinstance(result.failure, NetworkError)
        assert result.error == (
            f"{WHEEL.filename}: every source failed\n"
            f"  {server.url}/gone: refused: expected the file, found HTTP status 404\n"
            f"  {other.url}/gone: refused: expected the file, found HTTP status 404"
        )
        assert "secret" not in str([event.as_json() for event in sync.events])

    def test_retry_after_is_obeyed(self, sync, server, url):
        server.script(PATH, Respond(status=429, headers={"Retry-After": "1"}))
        began = time.monotonic()
        assert sync(WHEEL.locked(url))[0].state == "downloaded"
        assert time.monotonic() - began >= 1
        assert sync.seen(Waiting)[0].reason == "busy (HTTP status 429)"
        assert sync.seen(Waiting)[0].host == server.host

    def test_a_busy_host_is_left_for_another_meanwhile(self, sync, server, other, url):
        server.script(PATH, then=Respond(status=503, headers={"Retry-After": "30"}))
        began = time.monotonic()
        [result] = sync(WHEEL.locked(url, other.put_wheel(WHEEL)))
        assert result.state == "downloaded"
        assert time.monotonic() - began < 5

    def test_a_reset_connection_is_tried_again(self, sync, server, url):
        server.script(PATH, Serve(cut_after=0, reset=True), Serve(cut_after=MB, reset=True))
        assert sync(WHEEL.locked(url))[0].state == "downloaded"
        assert sync.holds(WHEEL)

    def test_a_closed_port_leads_to_the_next_source(self, sync, url):
        [result] = sync(WHEEL.locked("http://127.0.0.1:1/x.whl", url))
        assert (result.state, result.source) == ("downloaded", url)

    def test_a_redirect_is_followed(self, sync, server, other):
        server.script("/moved", then=redirect(other.put_wheel(WHEEL)))
        [result] = sync(WHEEL.locked(server.url + "/moved"))
        assert result.state == "downloaded"

    @pytest.mark.parametrize("bad", ["ftp://127.0.0.1/x", "nonsense", "http://[bad"])
    def test_a_url_that_is_none_is_a_failure_like_any_other(self, sync, url, bad):
        assert sync(WHEEL.locked(bad, url))[0].state == "downloaded"
        assert sync(make_wheel("none").locked(bad))[0].state == "failed"

    def test_a_wheel_without_a_source_says_so(self, sync):
        [result] = sync(WHEEL.locked())
        assert "gives no URL" in result.error
        assert "mirror" in result.failure.hint


class TestMirrors:
    @pytest.mark.parametrize("json_api", [False, True], ids=["html", "json"])
    def test_are_asked_for_the_file_of_the_same_name(self, sync, server, other, json_api):
        root = other.put_index([WHEEL], json_api=json_api)
        [result] = sync(WHEEL.locked(server.url + "/gone"), mirrors=[root])
        assert result.state == "downloaded"
        assert result.source.startswith(other.url)

    def test_are_not_asked_while_the_lockfiles_url_serves(self, sync, other, url):
        sync(WHEEL.locked(url), mirrors=[other.put_index([WHEEL])])
        assert not other.requests

    def test_continue_what_the_lockfiles_url_began(self, sync, server, other, url):
        server.script(PATH, Serve(cut_after=2 * MB), then=Respond(status=410))
        [result] = sync(WHEEL.locked(url), mirrors=[other.put_index([WHEEL])])
        assert result.state == "downloaded"
        assert result.bytes_fetched == WHEEL.size

    def test_that_list_other_bytes_under_the_name_are_no_source(self, sync, server, other):
        root = other.put_index([WHEEL], claimed={WHEEL.filename: "0" * 64})
        [result] = sync(WHEEL.locked(server.url + "/gone"), mirrors=[root])
        assert result.state == "failed"
        assert "found no such file of that digest" in result.error
        assert not other.asked(f"/simple-files/{WHEEL.filename}")

    def test_that_list_no_digest_may_have_it(self, sync, server, other):
        root = other.put_index([WHEEL], digests=False)
        assert sync(WHEEL.locked(server.url + "/gone"), mirrors=[root])[0].state == "downloaded"

    def test_that_do_not_know_the_project_are_passed_over(self, sync, server, other):
        empty = server.url + "/simple/"
        [result] = sync(WHEEL.locked(server.url + "/gone"), mirrors=[empty, other.put_index([WHEEL])])
        assert result.state == "downloaded"

    def test_are_asked_again_when_a_signed_url_expires_on_the_way(self, sync, server, other):
        root = other.put_index([WHEEL])
        renewed = other.put_wheel(WHEEL, under="/renewed")
        page = f'<a href="{renewed}#{WHEEL.digest.replace(":", "=")}">{WHEEL.filename}</a>'.encode()
        html = {"Content-Type": "text/html"}
        first = Serve(headers=html)
        other.script("/simple/big/", first, then=Respond(status=200, headers=html, body=page))
        other.script(f"/simple-files/{WHEEL.filename}", Serve(cut_after=MB), then=Respond(status=403))
        [result] = sync(WHEEL.locked(server.url + "/gone"), mirrors=[root])
        assert (result.state, result.source, result.bytes_fetched) == ("downloaded", renewed, WHEEL.size)

    def test_that_refuse_a_url_at_once_are_not_asked_for_ever(self, sync, server, other):
        root = other.put_index([WHEEL])
        other.script(f"/simple-files/{WHEEL.filename}", Serve(cut_after=MB), then=Respond(status=403))
        [result] = sync(WHEEL.locked(server.url + "/gone"), mirrors=[root])
        assert result.state == "failed"
        assert len(other.asked("/simple/big/")) == 2

    def test_that_fail_once_are_asked_again(self, sync, server, other):
        root = other.put_index([WHEEL])
        other.script("/simple/big/", Respond(status=502), then=Serve(headers={"Content-Type": "text/html"}))
        assert sync(WHEEL.locked(server.url + "/gone"), mirrors=[root])[0].state == "downloaded"
