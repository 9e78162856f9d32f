"""Credentials from the keyring's own program: asked for when a server wants some, and given to that server alone."""

from __future__ import annotations

import base64
from contextlib import closing

import pytest
from support.server import Respond, Serve, Server, redirect, when

from wheelcache.credentials import Keyring
from wheelcache.transport import Transport

CONTENT = b"PK\x03\x04 and more"


@pytest.fixture
def server():
    with Server() as server:
        server.put("/file", CONTENT)
        yield server


@pytest.fixture
def program(tmp_path):
    """A keyring that knows one password, and writes down what it is asked."""
    script = tmp_path / "keyring"
    script.write_text(
        "#!/bin/sh\n"
        f'echo "$@" >> {tmp_path}/asked\n'
        'case "$*" in\n'
        '  "--mode creds get http://127.0.0.1:"*) printf "ada\\nsesame\\n";;\n'
        '  "get http://127.0.0.1:"*" bob") echo opens;;\n'
        "  *) exit 1;;\n"
        "esac\n"
    )
    script.chmod(0o755)
    return script


def asked(program) -> list[str]:
    file = program.with_name("asked")
    return file.read_text().splitlines() if file.exists() else []


def guarded(user: str, password: str):
    """Serves who says the right words; 401 to all others."""
    right = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    return when(lambda exchange: exchange.request.headers.get("authorization") == right, Serve(), Respond(status=401))


def fetch(url: str, keyring: Keyring) -> tuple[int, bytes]:
    with closing(Transport(timeout=5, credentials=keyring.ask)) as transport, transport.open(url) as answer:
        return answer.status, answer.read(100)


def test_are_asked_for_once_the_server_wants_some(server, program):
    server.script("/file", then=guarded("ada", "sesame"))
    assert fetch(server.url + "/file", Keyring(find=lambda _: str(program))) == (200, CONTENT)
    assert asked(program) == [f"--mode creds get {server.url}"]


def test_are_not_asked_for_while_the_server_wants_none(server, program):
    assert fetch(server.url + "/file", Keyring(find=lambda _: str(program))) == (200, CONTENT)
    assert asked(program) == []


def test_are_asked_for_once_per_host(server, program):
    server.script("/file", then=guarded("ada", "sesame"))
    keyring = Keyring(find=lambda _: str(program))
    assert [fetch(server.url + "/file", keyring)[0] for _ in range(3)] == [200, 200, 200]
    assert len(asked(program)) == 1


def test_are_sent_at_once_once_the_server_took_them(server, program):
    server.script("/file", then=guarded("ada", "sesame"))
    with closing(Transport(timeout=5, credentials=Keyring(find=lambda _: str(program)).ask)) as transport:
        for _ in range(3):
            with transport.open(server.url + "/file") as answer:
                assert answer.status == 200
    assert [request.status for request in server.asked("/file")] == [401, 200, 200, 200]


def test_of_a_user_are_that_users(program):
    keyring = Keyring(find=lambda _: str(program))
    assert keyring.ask("http://127.0.0.1:1/file?token=secret", "bob") == ("bob", "opens")
    assert asked(program) == ["get http://127.0.0.1:1 bob"]


def test_never_cross_to_another_host(server, program):
    server.script("/file", then=guarded("ada", "sesame"))
    with Server() as other:
        other.put("/elsewhere", CONTENT)
        server.put("/moved", b"")
        server.script(
            "/moved",
            then=when(
                lambda exchange: "authorization" in exchange.request.headers,
                redirect(other.url.replace("127.0.0.1", "localhost") + "/elsewhere"),
                Respond(status=401),
            ),
        )
        assert fetch(server.url + "/moved", Keyring(find=lambda _: str(program))) == (200, CONTENT)
        assert "authorization" not in other.asked("/elsewhere")[0].headers


def test_that_are_wrong_end_in_the_servers_refusal(server, program):
    server.script("/file", then=guarded("ada", "another"))
    assert fetch(server.url + "/file", Keyring(find=lambda _: str(program)))[0] == 401
    assert len(server.asked("/file")) == 2


@pytest.mark.parametrize("find", [lambda _: None, lambda _: "/does/not/exist", lambda _: "/bin/false"])
def test_of_a_keyring_that_is_missing_or_broken_are_none(find):
    assert Keyring(find=find).ask("https://index.test/simple") is None
