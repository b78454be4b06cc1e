"""authn against a real mongod: our client logs in there, our server accepts the credentials stored there, and the SASL
state machine answers the same commands with the same codes and texts."""

from __future__ import annotations

import base64
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

from mongoguard.authn.authentication_session import AuthenticationSession
from mongoguard.authn.channel import Channel
from mongoguard.authn.conversation import AuthenticationFailure
from mongoguard.authn.logins import Logins, scram_logins
from mongoguard.authn.scram import SCRAM_MECHANISMS, ScramServerConversation, derive_credentials
from mongoguard.authn.upstream_login import UpstreamCredential, UpstreamLoginError, upstream_login
from mongoguard.errors import CommandError
from mongoguard.model.names import UserName
from mongoguard.model.restriction import Peer
from mongoguard.model.user import ScramCredentials, User
from mongoguard.wire.document import Document
from tests.servers import Mongod
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
def uri(standalone: Mongod) -> str:
    """The root user's, on the test run's own mongod."""
    return standalone.uri()


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


FIRST = b"n,,n=plain,r=client-nonce"
SHA256 = "SCRAM-SHA-256"

SEQUENCES: dict[str, list[dict[str, Any]]] = {
    "continue without a conversation": [{"saslContinue": 1, "conversationId": 1, "payload": b""}],
    "a wrong conversation id": [
        {"saslStart": 1, "mechanism": SHA256, "payload": FIRST},
        {"saslContinue": 1, "conversationId": 2, "payload": b"x"},
        {"saslContinue": 1, "conversationId": 1, "payload": b"x"},
    ],
    "ill-formed commands leave the conversation": [
        {"saslStart": 1, "mechanism": SHA256, "payload": FIRST},
        {"saslStart": 1, "mechanism": SHA256},
        {"saslContinue": 1, "conversationId": 1, "payload": 5},
        {"saslContinue": 1, "conversationId": 1.0, "payload": b"x"},
        {"saslContinue": 1, "conversationId": 1, "payload": b"x", "bogus": 1},
        {"saslContinue": 1, "conversationId": 1, "payload": b"x"},
        {"saslContinue": 1, "conversationId": 1, "payload": b"x"},
    ],
    "a failed start ends the conversation": [
        {"saslStart": 1, "mechanism": SHA256, "payload": FIRST},
        {"saslStart": 1, "mechanism": "FOO", "payload": FIRST},
        {"saslContinue": 1, "conversationId": 1, "payload": b"x"},
    ],
    "a payload in base64": [
        {"saslStart": 1, "mechanism": SHA256, "payload": base64.b64encode(FIRST).decode()},
        {"saslContinue": 1, "conversationId": 1, "payload": "eA=="},
    ],
    "wrong types and values": [
        {"saslStart": 1},
        {"saslStart": 1, "payload": FIRST},
        {"saslStart": 1, "mechanism": None, "payload": FIRST},
        {"saslStart": 1, "mechanism": 5, "payload": FIRST},
        {"saslStart": 1, "mechanism": SHA256, "payload": None},
        {"saslStart": 1, "mechanism": SHA256, "payload": bson.Binary(FIRST, 128)},
        {"saslStart": 1, "mechanism": SHA256, "payload": "abc"},
        {"saslStart": 1, "mechanism": SHA256, "payload": "ab!d"},
        {"saslStart": 1, "mechanism": SHA256, "payload": ""},
        {"saslStart": 1, "mechanism": SHA256, "payload": FIRST, "options": {"skipEmptyExchange": 1}},
        {"saslStart": 1, "mechanism": SHA256, "payload": FIRST, "options": 1},
        {"saslStart": 1, "mechanism": SHA256, "payload": FIRST, "autoAuthorize": "x"},
        {"saslStart": 1, "mechanism": SHA256, "payload": FIRST, "writeConcern": {}},
        {"saslStart": 1, "mechanism": SHA256, "payload": FIRST, "comment": "x", "maxTimeMS": 1000},
        {"saslStart": 1, "mechanism": "", "payload": FIRST},
        {"saslStart": 1, "mechanism": "PLAIN", "payload": FIRST},
        {"saslStart": 1, "mechanism": SHA256, "payload": FIRST, "$db": "$external"},
        {"authenticate": 1},
        {"authenticate": 1, "mechanism": ""},
        {"authenticate": 1, "mechanism": "PLAIN"},
        {"authenticate": 1, "mechanism": SHA256},
        {"authenticate": 1, "mechanism": "MONGODB-X509", "db": "x"},
    ],
    "first messages": [
        {"saslStart": 1, "mechanism": SHA256, "payload": payload}
        for payload in (
            b"",
            b"y,,n=plain,r=abcd",
            b"n,a=plain,n=plain,r=abcd",
            b"n,a=,n=plain,r=abcd",
            b"n,a=other,n=plain,r=abcd",
            b"n,x,n=plain,r=abcd",
            b"p=tls-unique,,n=plain,r=abcd",
            b"Y,,n=plain,r=abcd",
            b"n,,m=x,n=plain,r=abcd",
            b"n,,n=plain,r=abc",
            b"n,,n=plain",
            b"n,,n=,r=abcd",
            b"n,,r=abcd,n=plain",
            b"n,,n=plain,r=abcd,x=1",
            b"n,,n=plain,r=abcd,",
            b"n,,n=comma=2Cand=3Dequals,r=abcd",
            b"n,,n==3D2C,r=abcd",
            b"n,,n=pl\xff,r=abcd",
        )
    ],
}


def _shape(reply: dict[str, Any]) -> dict[str, Any]:
    """A reply without what is random in it: the nonce's 32 characters, and the server's own fields."""
    shape = {k: v for k, v in reply.items() if k in ("conversationId", "done", "payload", "code", "errmsg")}
    payload = shape.get("payload")
    if isinstance(payload, str):
        shape["payload"] = ("base64", len(payload))
    elif payload:
        nonce, _, rest = payload.partition(b",")
        shape["payload"] = (nonce[:-32], rest)
    return shape


@pytest.mark.parametrize("sequence", SEQUENCES.values(), ids=SEQUENCES)
def test_the_session_answers_commands_as_mongod_does(uri, users, sequence):
    shell = Shell()
    for name in USERS:
        stored = {mechanism: _stored(users, name, mechanism) for mechanism in SCRAM_MECHANISMS}
        shell.add(User(UserName(name, DB), credentials=stored))
    session = AuthenticationSession(
        Logins(scram_logins(tuple(SCRAM_MECHANISMS), b"k" * 16)), Peer(None, None), Channel()
    )
    answers = {"saslStart": session.sasl_start, "saslContinue": session.sasl_continue}
    with connect(uri) as wire:
        for fields in sequence:
            command = {**fields, "$db": fields.get("$db", DB)}
            answer = answers.get(next(iter(command)), session.authenticate)
            try:
                ours = shell.run(answer(command["$db"], Document(bson.encode(command))))
            except CommandError as error:
                ours = {"code": error.code, "errmsg": error.errmsg}
            assert _shape(ours) == _shape(wire.command(command)), command


HELLOS: list[dict[str, Any]] = [
    {"saslSupportedMechs": value}
    for value in (
        f"{DB}.plain",
        {"user": "plain", "db": DB},
        "plain",
        "",
        5,
        None,
        ["x"],
        {"user": "plain"},
        {"user": 5, "db": DB},
        {"user": "plain", "db": DB, "x": 1},
    )
] + [
    {"speculativeAuthenticate": value}
    for value in (
        None,
        5,
        [],
        {},
        {"saslContinue": 1},
        {"mechanism": SHA256, "saslStart": 1},
        {"saslStart": 1},
        {"saslStart": 1, "mechanism": SHA256, "payload": FIRST},
        {"saslStart": 1, "mechanism": SHA256, "payload": FIRST, "db": DB},
        {"saslStart": 1, "mechanism": SHA256, "payload": FIRST, "db": 5},
        {"saslStart": 1, "mechanism": SHA256, "payload": FIRST, "db": DB, "bogus": 1},
        {"saslStart": 1, "mechanism": SHA256, "payload": b"x", "db": DB},
        {"saslStart": 1, "mechanism": "FOO", "payload": FIRST, "db": DB},
        {"authenticate": 1},
        {"authenticate": 1, "mechanism": "MONGODB-X509", "db": "$external"},
    )
]


@pytest.mark.parametrize("fields", HELLOS, ids=repr)
def test_hello_is_answered_as_mongod_does(uri, users, fields):
    shell = Shell()
    stored = {mechanism: _stored(users, "plain", mechanism) for mechanism in SCRAM_MECHANISMS}
    shell.add(User(UserName("plain", DB), credentials=stored))
    session = AuthenticationSession(
        Logins(scram_logins(tuple(SCRAM_MECHANISMS), b"k" * 16)), Peer(None, None), Channel()
    )
    hello = Document(bson.encode({"hello": 1, **fields, "$db": "admin"}))
    ours: dict[str, Any] = {}
    try:
        ours["speculativeAuthenticate"] = shell.run(session.speculative(hello))
        ours["saslSupportedMechs"] = shell.run(session.sasl_supported_mechs(hello))
    except CommandError as error:
        ours = {"code": error.code, "errmsg": error.errmsg}
    with connect(uri) as wire:
        theirs = wire.command({"hello": 1, **fields, "$db": "admin"})
    for name in ("code", "errmsg"):
        assert ours.get(name) == theirs.get(name)
    # mongod's order is one of chance, fixed when it starts
    assert sorted(ours.get("saslSupportedMechs") or []) == sorted(theirs.get("saslSupportedMechs") or [])
    assert _shape(ours.get("speculativeAuthenticate") or {}) == _shape(
        theirs.get("speculativeAuthenticate") or {}
    )
