"""Open transactions, as the end of a process sees them."""

import bson
import pytest
from bson import Binary, Int64

from mongoguard.effects import Relay
from mongoguard.model.names import UserName
from mongoguard.model.resource_pattern import ResourcePattern
from mongoguard.proxy import transactions as module
from mongoguard.proxy.identity import session_digest
from mongoguard.proxy.transactions import CarriedTransactions, OpenTransactions
from mongoguard.wire.message import parse_message
from tests.playbook import Play, make_session, reply_of, user_with
from tests.rawwire import op_msg

ALL = {ResourcePattern.for_any_resource(): frozenset({"anyAction"})}
ROOT = user_with(ALL)
INSERT = {"insert": "orders", "documents": [{"a": 1}]}


def session_of(opened, user=ROOT):
    session = make_session(user)
    session.transactions = CarriedTransactions(opened)
    return session


def run(session, command, db="shop", reply=None, lsid=b"s" * 16, **more):
    fields = {"lsid": {"id": Binary(lsid, 4)}, "txnNumber": Int64(1), "autocommit": False}
    play = Play(session).send(op_msg({**command, **fields, **more, "$db": db}))
    return play.expect(Relay).answer(reply_of({"ok": 1.0} if reply is None else reply)).reply()


def test_a_transaction_is_open_from_its_first_command_to_its_end():
    session = session_of(OpenTransactions())
    assert not session.transactions.any_open()
    run(session, INSERT, startTransaction=True)
    run(session, INSERT)
    assert session.transactions.any_open()
    run(session, {"commitTransaction": 1}, db="admin")
    assert not session.transactions.any_open()


@pytest.mark.parametrize(
    ("command", "db", "reply"),
    [
        ({"abortTransaction": 1}, "admin", {"ok": 1.0}),
        (INSERT, "shop", {"ok": 0.0, "code": 112, "errmsg": "WriteConflict"}),
        ({"commitTransaction": 1}, "admin", {"ok": 0.0, "code": 251, "errmsg": "NoSuchTransaction"}),
    ],
)
def test_an_abort_or_an_error_ends_it(command, db, reply):
    session = session_of(OpenTransactions())
    run(session, INSERT, startTransaction=True)
    run(session, command, db=db, reply=reply)
    assert not session.transactions.any_open()


def test_it_may_end_on_another_connection_of_the_same_user_and_no_others():
    opened = OpenTransactions()
    first, second = session_of(opened), session_of(opened)
    stranger = session_of(opened, user_with(ALL, UserName("mallory", "shop")))
    run(first, INSERT, startTransaction=True)
    run(stranger, {"abortTransaction": 1}, db="admin")
    run(second, {"abortTransaction": 1}, db="admin", lsid=b"t" * 16)
    assert first.transactions.any_open()
    run(second, {"commitTransaction": 1}, db="admin")
    assert not first.transactions.any_open()
    assert not opened.sessions


def test_a_command_that_is_refused_opens_none():
    session = session_of(OpenTransactions(), user_with({}))
    fields = {"lsid": {"id": Binary(b"s" * 16, 4)}, "txnNumber": Int64(1), "autocommit": False}
    Play(session).send(op_msg({**INSERT, **fields, "startTransaction": True, "$db": "shop"})).emitted()
    assert not session.transactions.any_open()


def test_a_retryable_write_is_no_transaction():
    session = session_of(OpenTransactions())
    fields = {"lsid": {"id": Binary(b"s" * 16, 4)}, "txnNumber": Int64(1)}
    play = Play(session).send(op_msg({**INSERT, **fields, "$db": "shop"}))
    play.expect(Relay).answer(reply_of({"ok": 1.0})).reply()
    assert not session.transactions.any_open()


def test_what_is_kept_is_bounded_and_a_connection_that_ends_leaves_nothing(monkeypatch):
    monkeypatch.setattr(module, "MAX_OPEN", 3)
    monkeypatch.setattr(module, "MAX_CARRIED", 4)
    opened = OpenTransactions()
    session = session_of(opened)
    for number in range(10):
        run(session, INSERT, lsid=bytes([number]) * 16, startTransaction=True)
    assert len(opened.sessions) == 3
    assert len(session.transactions._own) <= 4
    session.transactions.forget()
    other = session_of(opened)
    run(other, INSERT, startTransaction=True)
    other.transactions.forget()
    assert not other.transactions.any_open()


def aborts_of(opened):
    """The bodies of what aborts them."""
    return [bson.decode(parse_message(abort.message).body.raw) for abort in opened.aborts]


def test_an_open_transaction_is_aborted_as_the_one_who_opened_it():
    opened = OpenTransactions()
    session = session_of(opened)
    run(session, INSERT, startTransaction=True)
    run(session, INSERT)
    (body,) = aborts_of(opened)
    assert list(body) == ["abortTransaction", "lsid", "txnNumber", "autocommit", "$db", "$audit"]
    assert body["lsid"] == {"id": Binary(b"s" * 16, 4), "uid": session_digest(ROOT.name)}
    assert body["txnNumber"] == Int64(1)
    assert body["autocommit"] is False
    assert body["$db"] == "admin"
    assert [abort.transaction for abort in opened.aborts] == [b"s" * 16]


def test_the_next_transaction_of_a_session_is_aborted_by_its_own_number():
    opened = OpenTransactions()
    session = session_of(opened)
    run(session, INSERT, startTransaction=True)
    run(session, INSERT, startTransaction=True, txnNumber=Int64(2))
    assert [body["txnNumber"] for body in aborts_of(opened)] == [2]
    run(session, {"commitTransaction": 1}, db="admin", txnNumber=Int64(2))
    assert not opened.aborts


def test_an_abort_names_the_version_of_the_api_that_the_transaction_was_begun_with():
    """A server refuses another one in the middle of a transaction."""
    opened = OpenTransactions()
    run(session_of(opened), INSERT, startTransaction=True, apiVersion="1", apiStrict=True)
    (body,) = aborts_of(opened)
    assert (body["apiVersion"], body["apiStrict"]) == ("1", True)
