"""Repeats: what was allowed is asked again with other values; every change of rights or of the rest ends that."""

from __future__ import annotations

import dataclasses
from typing import Any

import bson
import pytest
from bson import Binary, Int64

from mongoguard.authn.conversation import Expiry
from mongoguard.command.catalog import COMMANDS, find_row
from mongoguard.command.requirement import requirement_of
from mongoguard.command.spec import Asker
from mongoguard.effects import Emit, FetchUser, Now, Relay, RelayedReply, StateChanged
from mongoguard.errors import ProtocolError, UpstreamUnavailable
from mongoguard.model.names import UserName
from mongoguard.model.resource_pattern import ResourcePattern
from mongoguard.proxy import repeats
from mongoguard.proxy.client_session import ClientSession
from mongoguard.proxy.deployment import Impersonation
from mongoguard.proxy.reading import read_command
from mongoguard.proxy.replies import parse_reply
from mongoguard.proxy.settings import SessionSettings
from mongoguard.wire import native
from mongoguard.wire.message import encode_op_msg
from tests.playbook import NOW, Play, logged_in, make_session, relayed, reply_of, user_with
from tests.rawwire import op_msg, sequence_section

pytestmark = pytest.mark.skipif(native.native_outline is None, reason="repeats are known by the part in C")

ORDERS = ResourcePattern.for_exact_namespace("shop", "orders")
ALICE = user_with({ORDERS: frozenset({"find", "insert"})})
LSID = {"id": Binary(b"s" * 16, 4)}
EMPTY = {"cursor": {"firstBatch": [], "id": Int64(0), "ns": "shop.orders"}, "ok": 1.0}


def find(wanted: object, collection: str = "orders", **more: Any) -> bytes:
    return op_msg({"find": collection, "filter": {"a": wanted}, **more, "lsid": LSID, "$db": "shop"})


def insert(count: int, collection: str = "orders") -> bytes:
    sequence = sequence_section("documents", [{"_id": i} for i in range(count)])
    return op_msg({"insert": collection, "lsid": LSID, "$db": "shop"}, sequence)


def asked(session: ClientSession, data: bytes, reply: dict[str, Any] = EMPTY) -> Play:
    """The message is relayed and answered."""
    return Play(session).send(data).expect(Relay).answer(reply_of(reply))


def having_asked(data: bytes, session: ClientSession | None = None) -> ClientSession:
    session = make_session(ALICE) if session is None else session
    asked(session, data)
    return session


def is_repeat(session: ClientSession, data: bytes) -> bool:
    return repeats.find_repeat(session, data) is not None


# ---- what is one ----------------------------------------------------------------------------------------------------


def test_a_read_with_other_values_is_a_repeat_and_relayed_with_the_users_name():
    session = having_asked(find(1))
    assert is_repeat(session, find(2))
    play = Play(session).send(find(2))
    body = relayed(play.expect(Relay).effect)
    assert body["filter"] == {"a": 2}
    assert body["$audit"]["$impersonatedUsers"] == [{"user": "alice", "db": "shop"}]
    assert len(body["lsid"]["uid"]) == 32
    assert play.expect(Relay).answer(reply_of(EMPTY)).reply() == EMPTY


@pytest.mark.parametrize(
    "other",
    [
        find(2, "others"),
        find(2, "orders2"),
        find(2, limit=1),
        find(2, term=Int64(1)),
        find([2], unknown=1),
        op_msg({"find": "orders", "filter": {}, "lsid": LSID, "$db": "admin"}),
        op_msg({"find": "orders", "filter": [], "lsid": LSID, "$db": "shop"}),
        op_msg({"find": "orders", "filter": {}, "lsid": {**LSID, "uid": bytes(32)}, "$db": "shop"}),
        op_msg({"find": "orders", "filter": {}, "lsid": LSID, "$db": "shop", "$audit": {}}),
        op_msg({"count": "orders", "filter": {}, "lsid": LSID, "$db": "shop"}),
        op_msg({"find": "orders", "filter": {}, "lsid": LSID, "$db": "shop"}, flags=1 << 16),
        op_msg(
            {"find": "orders", "filter": {}, "lsid": LSID, "$db": "shop"}, sequence_section("documents", [{}])
        ),
    ],
)
def test_what_differs_in_what_is_read_is_decided(other: bytes):
    assert not is_repeat(having_asked(find(1)), other)


def test_another_collection_is_refused_after_any_number_of_reads():
    session = having_asked(find(1))
    play = Play(session).send(find(1, "others"))
    assert play.emitted().result == 13
    assert play.reply()["code"] == 13


def test_an_insert_of_other_documents_is_a_repeat_but_not_one_of_none():
    session = having_asked(insert(1))
    assert is_repeat(session, insert(3))
    assert not is_repeat(session, insert(0))
    assert not is_repeat(session, insert(1, "others"))


def test_a_sequence_is_not_taken_for_a_field_of_its_name():
    session = having_asked(insert(1))
    as_field = op_msg({"insert": "orders", "lsid": LSID, "$db": "shop", "documents": 1.0})
    assert not is_repeat(session, as_field)
    assert Play(session).send(as_field).reply()["ok"] == 0.0


def test_reads_by_preference_and_in_transactions_are_never_repeats():
    for more in ({"$readPreference": {"mode": "primary"}}, {"autocommit": False, "txnNumber": Int64(1)}):
        assert not is_repeat(having_asked(find(1, **more)), find(1, **more))


def test_what_changes_users_is_never_a_repeat():
    root = user_with(
        {ResourcePattern.for_any_resource(): frozenset({"anyAction"})}, UserName("root", "admin")
    )
    data = op_msg(
        {"insert": "system.users", "lsid": LSID, "$db": "admin"}, sequence_section("documents", [{}])
    )
    play = Play(make_session(root)).send(data)
    assert play.expect(Relay).effect.changes_users
    play.expect(Relay).answer(reply_of({"n": 1, "ok": 1.0}))
    assert not is_repeat(play.session, data)


# ---- who ------------------------------------------------------------------------------------------------------------


def test_another_user_of_the_connection_is_decided_anew():
    session = having_asked(find(1))
    logged_in(session, user_with({}, UserName("bob", "shop")))
    play = Play(session).send(find(2))
    assert play.emitted().result == 13
    logged_in(session, None)
    play = Play(session).send(find(2))
    assert play.emitted().result == 13
    assert play.reply()["code"] == 13


def test_after_a_change_in_the_directory_the_user_is_looked_at_first():
    session = having_asked(find(1))
    session.invalidate()
    play = Play(session).send(find(2))
    play.expect(FetchUser).answer(user_with({ORDERS: frozenset({"insert"})}))
    while isinstance(play.effect, Emit):
        play.emitted()
    assert play.reply()["code"] == 13
    assert not is_repeat(session, find(2))


def with_expiry(expiry: Expiry) -> ClientSession:
    """A session whose login ends, and that has read once."""
    session = make_session(ALICE)
    session.authentication._expiry = expiry
    play = Play(session).send(find(1))
    play.expect(Now).answer(NOW).expect(Relay).answer(reply_of(EMPTY))
    return session


def test_a_login_that_ends_is_looked_at_before_each_repeat():
    session = with_expiry(Expiry(NOW + 10, reauthenticates=True))
    for now in (NOW, NOW + 9):
        play = Play(session).send(find(2))
        play.expect(Now).answer(now).expect(Relay).answer(reply_of(EMPTY))
    play = Play(session).send(find(2)).expect(Now).answer(NOW + 10)
    assert play.expect(Now).answer(NOW + 10).reply()["code"] == 391


def test_a_newer_proof_of_the_same_user_begins_anew():
    session = with_expiry(Expiry(NOW + 10, reauthenticates=True))
    session.authentication._expiry = Expiry(NOW + 10, reauthenticates=True)
    assert not is_repeat(session, find(2))


def test_a_certificate_that_ended_closes_the_connection():
    session = with_expiry(Expiry(NOW + 10))
    play = Play(session).send(find(2)).expect(Now).answer(NOW + 11)
    with pytest.raises(ProtocolError):
        play.expect(Now).answer(NOW + 11)


def test_everything_is_audited_where_that_is_asked_for():
    session = make_session(ALICE, settings=SessionSettings(audit_authorization_success=True))
    for _ in range(3):
        play = Play(session).send(find(1))
        assert play.emitted().result == 0
        play.expect(Relay).answer(reply_of(EMPTY))


def test_sessions_whose_ids_are_replaced_have_no_repeats():
    session = having_asked(find(1), make_session(ALICE, impersonation=Impersonation.NONE))
    assert session.repeats is None


def test_where_nobody_logs_in_there_are_no_repeats():
    session = having_asked(find(1), make_session(settings=SessionSettings(authorization_enabled=False)))
    assert session.repeats is None


def test_another_view_of_the_deployment_ends_them():
    session = having_asked(find(1))
    session.deployment.current = dataclasses.replace(session.deployment.current)
    assert not is_repeat(session, find(2))
    assert is_repeat(having_asked(find(1), session), find(2))


def test_a_reload_ends_them_so_that_an_audit_log_of_everything_has_everything():
    session = having_asked(find(1))
    session.settings = SessionSettings(audit_authorization_success=True)  # as `commit_reload` does
    for _ in range(2):
        play = Play(session).send(find(2))
        assert play.emitted().result == 0
        play.expect(Relay).answer(reply_of(EMPTY))
    session.settings = SessionSettings()
    assert not is_repeat(session, find(2))
    assert is_repeat(having_asked(find(1), session), find(2))


# ---- replies --------------------------------------------------------------------------------------------------------


def test_the_cursor_that_a_repeat_opens_is_its_users():
    session = having_asked(find(1))
    open_cursor = {"cursor": {"firstBatch": [], "id": Int64(77), "ns": "shop.orders"}, "ok": 1.0}
    assert asked(session, find(2), open_cursor).reply() == open_cursor
    entry = session.cursors.find(77)
    assert entry is not None
    assert (entry.owner, entry.namespace) == (ALICE.name, "shop.orders")


def test_a_cursor_that_does_not_come_first_in_the_reply_is_seen_too():
    session = having_asked(find(1))
    asked(session, find(2), {"ok": 1.0, "cursor": {"firstBatch": [], "id": Int64(78), "ns": "shop.orders"}})
    assert session.cursors.find(78) is not None


def test_a_failure_of_a_repeat_is_worded_as_any():
    session = having_asked(find(1))
    failure = {"ok": 0.0, "errmsg": "not primary", "code": 10107, "codeName": "NotWritablePrimary"}
    play = asked(session, find(2), failure)
    play.expect(StateChanged).answer(None)
    assert play.reply()["code"] == 10107


def test_a_repeat_that_cannot_be_relayed_is_answered_and_not_sent_twice():
    play = Play(having_asked(find(1))).send(find(2))
    play.expect(Relay).fail(UpstreamUnavailable("mongod.internal:27017: refused"))
    assert (play.reply()["code"], play.effect) == (6, None)


CURSOR = bson.encode({"cursor": {"firstBatch": [], "id": Int64(78), "ns": "shop.orders"}})[4:-1]


@pytest.mark.parametrize(
    "elements",
    [CURSOR * 2, CURSOR + b"\x99x\0", b"\x01ok\0" + bytes(8) + CURSOR * 2],
    ids=["twice", "type", "failure"],
)
def test_a_reply_that_cannot_be_read_is_answered_as_without_repeats(elements: bytes):
    body = (len(elements) + 5).to_bytes(4, "little") + elements + b"\0"
    unreadable = RelayedReply(encode_op_msg(1, 7, body), "h:1")
    answers = [
        Play(session).send(find(2)).expect(Relay).answer(unreadable).reply()
        for session in (make_session(ALICE), having_asked(find(1)))
    ]
    assert answers[0]["ok"] == 0.0
    assert answers[0] == answers[1]


# ---- bounds and soundness -------------------------------------------------------------------------------------------


def test_a_client_that_asks_in_ever_other_ways_is_not_remembered_without_end():
    session = make_session(ALICE)
    for number in range(3 * repeats.MAX_KNOWN):
        having_asked(find(1, batchSize=1, singleBatch=bool(number % 2), returnKey=number), session)
    assert session.repeats is not None
    assert len(session.repeats._known) <= repeats.MAX_KNOWN
    having_asked(find(1, returnKey="x" * 1000), session)
    assert not is_repeat(session, find(1, returnKey="x" * 1000))


VALUES = (
    None,
    True,
    0,
    -1,
    1.5,
    "",
    "orders",
    "$x",
    b"x",
    [],
    [{}],
    {},
    {"$where": "1"},
    {"a": {"$gt": 1}},
    Int64(9),
)
UNREAD = [(row.name, name) for row in COMMANDS.values() for name in sorted(row.unread)]


def test_some_commands_have_arguments_that_nobody_reads():
    assert {command for command, _ in UNREAD} == {"find", "count", "distinct", "insert"}


@pytest.mark.parametrize(("name", "unread"), UNREAD)
def test_no_requirement_depends_on_an_unread_value(name: str, unread: str):
    needed = set()
    row = find_row(name)
    assert row is not None
    for value in VALUES:
        if unread in row.sequences:
            sequence = sequence_section(unread, [{"a": value}])
            data = op_msg({name: "orders", "$db": "shop"}, sequence)
        else:
            more = {"documents": [{"_id": 1}]} if name == "insert" else {}
            data = op_msg({name: "orders", **more, unread: value, "$db": "shop"})
        needed.add(requirement_of(row, read_command(parse_reply(data)), Asker()))
    assert len(needed) == 1
