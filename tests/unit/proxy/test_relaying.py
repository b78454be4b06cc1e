"""The splices by themselves: they refuse what they cannot make certain, also without the catalogue before them."""

from typing import Any

import bson
import pytest
from bson import Binary

from mongoguard.command.command import Command
from mongoguard.errors import CommandError
from mongoguard.model.names import UserName
from mongoguard.model.user import User
from mongoguard.proxy.deployment import Impersonation
from mongoguard.proxy.identity import Identity, session_digest
from mongoguard.proxy.narrowing import narrow
from mongoguard.proxy.relaying import message_for_upstream, own_session_splice, session_id
from mongoguard.wire.document import Document
from mongoguard.wire.message import OpMsg, parse_message
from tests.playbook import decoded
from tests.rawwire import op_msg, sequence_section

ALICE = Identity(User(UserName("alice", "shop")), Impersonation.USERS)
ALONE = Identity(User(UserName("alice", "shop")), Impersonation.NONE)
NOBODY = Identity(None, Impersonation.USERS)
ID = Binary(b"s" * 16, 4)


def document(**fields: Any) -> Document:
    return Document(bson.encode(fields))


def parsed(data: bytes) -> OpMsg:
    message = parse_message(data)
    assert isinstance(message, OpMsg)
    return message


def test_a_session_id_is_the_uuid_of_the_lsid():
    assert session_id(document(lsid={"id": ID})) == bytes(ID)
    assert session_id(document()) is None
    assert session_id(document(lsid=None)) is None


@pytest.mark.parametrize("lsid", [5, {}, {"id": b"s" * 16}, {"id": Binary(b"short", 4)}, {"id": "s"}])
def test_an_lsid_that_is_none_has_no_session_id(lsid: Any):
    with pytest.raises(CommandError):
        session_id(document(lsid=lsid))


@pytest.mark.parametrize(
    "lsid", [{}, {"id": b"s" * 16}, {"id": Binary(b"x", 4)}, {"id": ID, "uid": b"u" * 32}]
)
def test_a_session_is_made_the_users_own_only_if_it_is_nothing_but_a_uuid(lsid: dict[str, Any]):
    with pytest.raises(CommandError):
        own_session_splice(document(**lsid), ALONE)
    assert own_session_splice(document(id=ID), ALONE)[2] == ALONE.own_session_id(bytes(ID))


def test_ids_of_two_users_never_meet():
    bob = Identity(User(UserName("bob", "shop")), Impersonation.NONE)
    other = Identity(User(UserName("alice", "admin")), Impersonation.NONE)
    ids = {identity.own_session_id(bytes(ID)) for identity in (ALONE, bob, other, NOBODY)}
    assert len(ids) == 4
    assert all(len(one) == 16 for one in ids)


def test_the_digest_of_nobody_is_that_of_nothing():
    assert session_digest(None).hex().startswith("e3b0c44298fc1c14")
    assert NOBODY.audit_element == b""


@pytest.mark.parametrize(
    "lsid",
    [
        {"id": ID},
        {"id": ID, "uid": None},
        {"uid": None, "id": ID},
        {"uid": session_digest(ALICE.name), "id": ID},
    ],
)
def test_every_relayed_session_names_its_owner(lsid: dict[str, Any]):
    data = op_msg({"find": "c", "lsid": lsid, "x": 1, "$db": "d"}, sequence_section("rows", [{"a": 1}]))
    sent = decoded(message_for_upstream(parsed(data), ALICE))
    assert sent["lsid"] == {"id": ID, "uid": session_digest(ALICE.name)}
    assert list(sent) == ["find", "lsid", "x", "$db", "$audit"]


def test_an_lsid_that_is_no_document_is_left_to_the_upstream_to_refuse():
    data = op_msg({"find": "c", "lsid": None, "$db": "d"})
    assert message_for_upstream(parsed(data), NOBODY) == data


@pytest.mark.parametrize("name", ["endSessions", "refreshSessions", "killSessions"])
@pytest.mark.parametrize("sessions", [5, [5], [{"id": ID, "x": 1}]])
def test_sessions_that_cannot_be_narrowed_are_refused(name: str, sessions: Any):
    with pytest.raises(CommandError):
        narrow(Command(document(**{name: sessions}), "admin"), name, ALICE)


@pytest.mark.parametrize(
    "pipeline", [5, [], [5], [{}], [{"$currentOp": {}, "$limit": 1}], [{"$currentOp": 5}]]
)
def test_a_pipeline_that_does_not_begin_with_one_stage_is_not_narrowed(pipeline: Any):
    assert narrow(Command(document(aggregate=1, pipeline=pipeline), "admin"), "aggregate", ALONE) is None
