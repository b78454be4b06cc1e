"""Refusals of the upstream: their codes reach the client, what the relay added to the command does not."""

from __future__ import annotations

from typing import Any

import pytest
from bson import Binary, Int64, Timestamp

from mongoguard.effects import Relay
from mongoguard.errors import UpstreamUnavailable
from mongoguard.model.names import UserName
from mongoguard.model.resource_pattern import ResourcePattern
from mongoguard.proxy.deployment import Impersonation
from mongoguard.proxy.identity import session_digest
from tests.playbook import Play, make_session, reply_of, user_with
from tests.rawwire import op_msg

ROOT = user_with({ResourcePattern.for_any_resource(): frozenset({"anyAction"})}, UserName("root", "admin"))
DIGEST = session_digest(ROOT.name).hex().upper()
ADDED = (
    '$audit: { $impersonatedUsers: [ { user: "root", db: "admin" } ], '
    '$impersonatedRoles: [ { role: "clerk", db: "shop" } ] }'
)
FIND = {"find": "orders", "lsid": {"id": Binary(b"s" * 16, 4)}, "$db": "shop"}
NOT_AUTHORIZED = (
    'not authorized on shop to execute command { find: "orders", '
    'lsid: { id: UUID("73737373-7373-7373-7373-737373737373") }, $db: "shop" }'
)
TIMES = {"operationTime": Timestamp(5, 1), "$clusterTime": {"clusterTime": Timestamp(5, 1)}}


def asked(**settings: Any) -> Play:
    """A find under way."""
    return Play(make_session(ROOT, **settings)).send(op_msg(FIND))


def failure(code: int, errmsg: str, **more: Any) -> dict[str, Any]:
    return {"ok": 0.0, "errmsg": errmsg, "code": code, "codeName": "Name", **more}


@pytest.mark.parametrize(
    "errmsg",
    [
        f'not authorized on shop to execute command {{ find: "orders", {ADDED} }}',
        f"not authorized on shop to execute command {{ lsid: {{ uid: BinData(0, {DIGEST}) }} }}",
        "Unauthorized use of impersonation metadata.",
    ],
)
@pytest.mark.parametrize("impersonation", list(Impersonation))
def test_a_refusal_of_the_upstream_is_reworded_and_audited(errmsg: str, impersonation: Impersonation):
    play = asked(impersonation=impersonation).expect(Relay).answer(reply_of(failure(13, errmsg)))
    event = play.emitted()
    assert (event.atype, event.result) == ("authCheck", 13)
    assert "service user" in str(event.param)
    assert play.reply() == failure(13, NOT_AUTHORIZED)


def test_a_reworded_reply_keeps_what_drivers_go_by_and_nothing_else():
    told = failure(13, ADDED, errorLabels=["RetryableWriteError"], **TIMES)
    play = asked().expect(Relay).answer(reply_of({**told, "errInfo": {"command": ADDED}}, 1))
    play.emitted()
    assert play.reply() == {**told, "errmsg": NOT_AUTHORIZED}
    assert play.raw is not None
    assert int.from_bytes(play.raw[8:12], "little") == 1, "the request that it answers"


@pytest.mark.parametrize("errmsg", [f"cannot parse {{ find: 1, {ADDED} }}", f"uid: BinData(0, {DIGEST})"])
@pytest.mark.parametrize("where", ["errmsg", "errInfo"])
def test_any_other_error_that_tells_what_was_added_is_reworded(errmsg: str, where: str):
    reply = failure(9, "no", **TIMES)
    reply |= {"errmsg": errmsg} if where == "errmsg" else {"errInfo": {"command": errmsg}}
    play = asked().expect(Relay).answer(reply_of(reply))
    assert play.reply() == failure(9, "find failed on the upstream server", **TIMES)


@pytest.mark.parametrize("code", [9, 11000, 26])
def test_an_error_that_does_not_is_relayed_as_it_is(code: int):
    reply = reply_of(failure(code, "ns not found", errInfo={"a": 1}, **TIMES))
    play = asked().expect(Relay).answer(reply)
    assert play.raw == reply.message


def test_what_succeeded_is_not_looked_at():
    """Operations and profiles do tell whom a command was for."""
    reply = reply_of({"inprog": [{"command": {"$audit": {"$impersonatedUsers": []}}}], "ok": 1.0})
    data = op_msg({"currentOp": 1, "$db": "admin"})
    assert Play(make_session(ROOT)).send(data).expect(Relay).answer(reply).raw == reply.message


@pytest.mark.parametrize("name", ["getMore", "killCursors"])
def test_refusals_of_cursor_commands_are_reworded_too(name: str):
    session = make_session(ROOT)
    opened = {"cursor": {"firstBatch": [], "id": Int64(5), "ns": "shop.orders"}, "ok": 1.0}
    Play(session).send(op_msg({"find": "orders", "$db": "shop"})).expect(Relay).answer(reply_of(opened))
    body = {"getMore": Int64(5), "collection": "orders"}
    if name == "killCursors":
        body = {"killCursors": "orders", "cursors": [Int64(5)]}
    play = Play(session).send(op_msg({**body, "$db": "shop"}))
    play = play.expect(Relay).answer(reply_of(failure(13, f"not authorized {{ {ADDED} }}")))
    play.emitted()
    assert play.reply()["code"] == 13
    assert "$audit" not in play.reply()["errmsg"]


TRANSACTION = {"lsid": FIND["lsid"], "txnNumber": Int64(1), "autocommit": False}


@pytest.mark.parametrize(
    ("body", "labels"),
    [
        ({"find": "orders", **TRANSACTION, "$db": "shop"}, ["TransientTransactionError"]),
        ({"commitTransaction": 1, **TRANSACTION, "$db": "admin"}, ["RetryableWriteError"]),
        ({"abortTransaction": 1, **TRANSACTION, "$db": "admin"}, ["RetryableWriteError"]),
    ],
)
def test_who_could_not_end_a_transaction_is_not_told_that_it_is_undone(
    body: dict[str, Any], labels: list[str]
):
    play = Play(make_session(ROOT)).send(op_msg(body)).expect(Relay).fail(UpstreamUnavailable("away"))
    reply = play.reply()
    assert (reply["code"], reply["errorLabels"]) == (6, labels)


def test_a_change_stream_may_be_resumed_when_its_server_is_gone():
    session = make_session(ROOT)
    opened = {"cursor": {"firstBatch": [], "id": Int64(7), "ns": "shop.orders"}, "ok": 1.0}
    watch = {"aggregate": "orders", "pipeline": [{"$changeStream": {}}], "cursor": {}, "$db": "shop"}
    Play(session).send(op_msg(watch)).expect(Relay).answer(reply_of(opened)).reply()
    more = op_msg({"getMore": Int64(7), "collection": "orders", "$db": "shop"})
    reply = Play(session).send(more).expect(Relay).fail(UpstreamUnavailable("away")).reply()
    assert (reply["code"], reply["errorLabels"]) == (6, ["ResumableChangeStreamError"])
