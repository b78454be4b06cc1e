"""Client metadata: what mongod refuses in it, and what the upstream is told of it."""

from __future__ import annotations

from typing import Any

import bson
import pytest

from mongoguard.effects import Now, Relay
from mongoguard.errors import CommandError
from mongoguard.model.resource_pattern import ResourcePattern
from mongoguard.proxy.client_metadata import check_client_metadata, client_element
from mongoguard.proxy.client_session import ClientSession
from mongoguard.proxy.deployment import Impersonation
from mongoguard.proxy.settings import SessionSettings
from mongoguard.wire.document import BSONError, Document
from tests.playbook import NOW, Play, logged_in, make_session, relayed, reply_of, user_with
from tests.rawwire import op_msg

DRIVER = {"name": "x", "version": "1"}
OS = {"type": "Linux"}
NAMED = {"application": {"name": "till"}, "driver": DRIVER, "os": OS}
ALICE = user_with({ResourcePattern.for_database("shop"): frozenset({"find", "insert"})})
SUPERUSER = user_with(
    {
        ResourcePattern.for_cluster(): frozenset({"internal", "impersonate"}),
        ResourcePattern.for_database("shop"): frozenset({"find"}),
    }
)
FIND = {"find": "orders", "$db": "shop"}


def body(client: object) -> Document:
    return Document(bson.encode({"hello": 1, "client": client}))


def element(client: object) -> bytes:
    return client_element(check_client_metadata(body(client)))


def relayed_of(session: ClientSession, command: dict[str, Any]) -> dict[str, Any]:
    asked = Play(session).send(op_msg(command)).expect(Relay)
    document = relayed(asked.effect)
    asked.answer(reply_of({"ok": 1.0}))
    return document


def introduced(session: ClientSession, client: object = NAMED) -> ClientSession:
    reply = Play(session).send(op_msg({"hello": 1, "client": client, "$db": "admin"}))
    assert reply.expect(Now).answer(NOW).reply()["ok"] == 1.0
    return session


@pytest.mark.parametrize(
    ("client", "code", "text"),
    [
        (5, 14, "The client metadata document must be a document"),
        (None, 14, "The client metadata document must be a document"),
        ({}, 183, "Missing required sub-document 'driver' in"),
        ([], 183, "Missing required sub-document 'driver' in"),
        ({"driver": DRIVER}, 183, "Missing required sub-document 'os' in"),
        ({"driver": 1, "os": OS}, 14, "The 'driver' field is required to be a BSON document in"),
        ({"driver": DRIVER, "os": None}, 14, "The 'os' field is required to be a BSON document in"),
        ({"driver": {}, "os": OS}, 183, "Missing required field 'driver.name' in"),
        ({"driver": [DRIVER], "os": OS}, 183, "Missing required field 'driver.name' in"),
        ({"driver": {"name": "x"}, "os": OS}, 183, "Missing required field 'driver.version' in"),
        (
            {"driver": {"name": "x", "version": 1}, "os": OS},
            14,
            "The 'driver.version' field must be a string",
        ),
        ({"driver": DRIVER, "os": {"type": 1}}, 14, "The 'os.type' field must be a string in"),
        ({**NAMED, "application": None}, 14, "The 'application' field is required to be a BSON document"),
        ({**NAMED, "application": {"name": 1}}, 14, "The 'application.name' field must be a string in"),
        ({**NAMED, "application": {"name": "é" * 65}}, 184, "must be less then or equal to 128 bytes in"),
        ({"application": {"name": "x" * 129}, "driver": 1}, 184, "less then or equal to 128 bytes"),
        ({**NAMED, "x": "x" * 1024}, 185, "must be less then or equal to 1024bytes"),
    ],
)
def test_metadata_is_refused_as_mongod_refuses_it(client: object, code: int, text: str) -> None:
    with pytest.raises(CommandError) as refused:
        check_client_metadata(body(client))
    assert refused.value.code == code
    assert text in str(refused.value)


@pytest.mark.parametrize(
    "client",
    [
        {"driver": DRIVER, "os": OS},
        {**NAMED, "application": {}},
        {**NAMED, "application": [1]},
        {**NAMED, "application": {"name": "x" * 128}},
        {**NAMED, "platform": 1, "env": {"name": 5}, "mongos": 1},
    ],
)
def test_metadata_that_mongod_takes_is_taken(client: object) -> None:
    check_client_metadata(body(client))


def test_only_a_client_that_names_its_application_is_named_upstream() -> None:
    assert element(NAMED) == bson.encode({"$client": NAMED})[4:-1]
    for client in (
        {"driver": DRIVER, "os": OS},
        {**NAMED, "application": {"name": ""}},
        {**NAMED, "application": ["till"]},
        {**NAMED, "mongos": {"host": "h", "client": "192.0.2.1", "version": "6"}},
        {**NAMED, "x": "x" * 512},
    ):
        assert element(client) == b""


def test_metadata_that_the_upstream_could_not_read_is_refused_at_once() -> None:
    broken = bson.encode({**NAMED, "platform": "text"}).replace(b"text", b"te\xfft")
    whole = b"\x03client\0" + broken
    with pytest.raises(BSONError):
        client_element(
            check_client_metadata(Document((len(whole) + 5).to_bytes(4, "little") + whole + b"\0"))
        )


def test_each_command_of_a_named_application_says_so() -> None:
    session = introduced(logged_in(make_session(), ALICE))
    for _ in range(3):  # the first is decided, the others may be known from it
        assert relayed_of(session, FIND)["$client"] == NAMED
    assert "$audit" in relayed_of(session, FIND)
    assert "$client" not in relayed_of(introduced(make_session(ALICE), {"driver": DRIVER, "os": OS}), FIND)


def test_the_name_outlasts_a_login_and_a_stranger_has_none() -> None:
    session = introduced(make_session())
    assert Play(session).send(op_msg(FIND)).emitted().result == 13
    assert session.identity.appended == b""
    assert relayed_of(logged_in(session, ALICE), FIND)["$client"] == NAMED


def test_without_access_control_everybody_is_named() -> None:
    session = introduced(make_session(settings=SessionSettings(authorization_enabled=False)))
    assert relayed_of(session, FIND)["$client"] == NAMED


def test_an_upstream_that_keeps_it_for_servers_is_told_nothing() -> None:
    session = make_session(ALICE, takes_client_metadata=False)
    assert "$client" not in relayed_of(introduced(session), FIND)
    refusing = make_session(ALICE, impersonation=Impersonation.NONE, takes_client_metadata=False)
    assert "$client" not in relayed_of(introduced(refusing), FIND)


def test_a_client_cant_name_another_in_a_command() -> None:
    session = introduced(make_session(ALICE))
    other = {**NAMED, "application": {"name": "other"}}
    for _ in range(2):
        assert Play(session).send(op_msg({**FIND, "$client": other})).emitted().result == 13


def test_who_may_speak_for_others_names_one_client_only() -> None:
    session = introduced(make_session(SUPERUSER))
    other = {**NAMED, "application": {"name": "other"}}
    for _ in range(2):
        assert relayed_of(session, {**FIND, "$client": other})["$client"] == other
    audit = {"$impersonatedUsers": [{"user": "bob", "db": "shop"}], "$impersonatedRoles": []}
    both = relayed_of(session, {**FIND, "$audit": audit})
    assert (both["$client"], both["$audit"]["$impersonatedUsers"]) == (NAMED, audit["$impersonatedUsers"])
    neither = relayed_of(session, {**FIND, "$audit": audit, "$client": other})
    assert (neither["$client"], neither["$audit"]["$impersonatedUsers"]) == (
        other,
        audit["$impersonatedUsers"],
    )
    assert list(neither).count("$client") == 1
