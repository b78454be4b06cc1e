"""The SCRAM twins against a real mongod: our client logs in there, our server accepts the credentials stored there."""

from __future__ import annotations

import base64
import os
import secrets
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import bson
import pymongo
import pytest
from pymongo.uri_parser import parse_uri

from mongoguard.authn.conversation import AuthenticationFailure
from mongoguard.authn.scram import SCRAM_MECHANISMS, ScramServerConversation, derive_credentials
from mongoguard.authn.upstream_login import UpstreamCredential, UpstreamLoginError, upstream_login
from mongoguard.model.names import UserName
from mongoguard.model.user import ScramCredentials, User
from tests.unit.authn.driving import Shell, client

DB = "mongoguard_scram_twins"
OP_MSG = 2013

USERS = {
    "plain": "pencil",
    "comma,and=equals": "a,b=c",
    "=2C": "=3D",
    "jürgen": "pässwörd",
    "roman": "\u2168\u00a0\u00aa",
    "zero-width": "a\u200bb",
    "long": "x" * 300,
}


@pytest.fixture(scope="module")
def uri(request: pytest.FixtureRequest) -> str:
    """MONGOGUARD_TEST_MONGOD_URI (a root user's) or a mongod of the test run's own; skipped by name without either."""
    given = os.environ.get("MONGOGUARD_TEST_MONGOD_URI")
    return given or request.getfixturevalue("standalone").uri()


@pytest.fixture(scope="module")
def users(uri: str) -> Iterator[pymongo.MongoClient[dict[str, Any]]]:
    """`USERS` on the database DB of that mongod; dropped afterwards."""
    with pymongo.MongoClient(uri, directConnection=True) as admin:
        admin[DB].command("dropAllUsersFromDatabase", 1)
        for name, password in USERS.items():
            admin[DB].command("createUser", name, pwd=password, roles=[])
        yield admin
        admin[DB].command("dropAllUsersFromDatabase", 1)


class Wire:
    """A blocking connection that speaks just enough OP_MSG."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected

    def command(self, command: dict[str, Any]) -> dict[str, Any]:
        document = bson.encode(command)
        self._socket.sendall(struct.pack("<iiiiIB", 21 + len(document), 1, 0, OP_MSG, 0, 0) + document)
        (length,) = struct.unpack("<i", self._read(4))
        return bson.decode(self._read(length - 4)[17:])

    def _read(self, count: int) -> bytes:
        read = b""
        while len(read) < count:
            chunk = self._socket.recv(count - len(read))
            assert chunk, "mongod closed the connection"
            read += chunk
        return read


@contextmanager
def connect(uri: str) -> Iterator[Wire]:
    with socket.create_connection(parse_uri(uri)["nodelist"][0], timeout=10) as connected:
        yield Wire(connected)


def log_in(wire: Wire, credential: UpstreamCredential) -> list[str]:
    """Drive the login; the names of the commands it took."""
    login = upstream_login(credential, secrets.token_bytes(24))
    sent = []
    command = next(login)
    try:
        while True:
            sent.append(next(iter(command)))
            command = login.send(wire.command(command))
    except StopIteration:
        return sent


@pytest.mark.parametrize("mechanism", [None, "SCRAM-SHA-1", "SCRAM-SHA-256"])
@pytest.mark.parametrize("name", USERS)
def test_the_client_twin_logs_in_to_mongod(uri, users, name, mechanism):
    with connect(uri) as wire:
        sent = log_in(wire, UpstreamCredential(mechanism, name, USERS[name], DB))
        status = wire.command({"connectionStatus": 1, "$db": "admin"})
    assert status["authInfo"]["authenticatedUsers"] == [{"user": name, "db": DB}]
    assert sent == ([] if mechanism else ["hello"]) + ["saslStart", "saslContinue"]


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-1", "SCRAM-SHA-256"])
def test_mongod_refuses_the_client_twin_with_a_wrong_password(uri, users, mechanism):
    with connect(uri) as wire:
        with pytest.raises(UpstreamLoginError, match=r"\(18\) Authentication failed"):
            log_in(wire, UpstreamCredential(mechanism, "plain", "pen", DB))
        status = wire.command({"connectionStatus": 1, "$db": "admin"})
    assert status["authInfo"]["authenticatedUsers"] == []


def _stored(users, name, mechanism) -> ScramCredentials:
    (document,) = users[DB].command("usersInfo", name, showCredentials=True)["users"]
    stored = document["credentials"][mechanism]
    salt, stored_key, server_key = (
        base64.b64decode(stored[key]) for key in ("salt", "storedKey", "serverKey")
    )
    return ScramCredentials(stored["iterationCount"], salt, stored_key, server_key)


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-1", "SCRAM-SHA-256"])
@pytest.mark.parametrize("name", USERS)
def test_the_server_twin_accepts_the_credentials_that_mongod_stores(users, name, mechanism):
    stored = _stored(users, name, mechanism)
    row = SCRAM_MECHANISMS[mechanism]
    assert derive_credentials(row, name, USERS[name], stored.salt, stored.iteration_count) == stored
    shell = Shell()
    user = shell.add(User(UserName(name, DB), credentials={mechanism: stored}))
    for password, accepted in ((USERS[name], True), (USERS[name] + "x", False)):
        server = ScramServerConversation(row, DB, b"k" * 16, skip_empty_exchange=True)
        twin = client(name, password, mechanism)
        proof = twin.final(shell.run(server.step(twin.first())).answer)
        if accepted:
            last = shell.run(server.step(proof))
            twin.verify(last.answer)
            assert last.user is user
        else:
            with pytest.raises(AuthenticationFailure):
                shell.run(server.step(proof))


def test_a_decoys_defaults_are_those_of_mongods_new_users(users):
    for name, mechanism in SCRAM_MECHANISMS.items():
        stored = _stored(users, "plain", name)
        assert stored.iteration_count == mechanism.default_iterations
        assert len(stored.salt) == mechanism.salt_bytes
