"""killOp without the action killop: for operations of the user who asks, and for no others."""

from __future__ import annotations

from typing import Any

import pytest
from bson import Decimal128, Int64

from mongoguard.command.command import Command
from mongoguard.effects import AskUpstream, Relay
from mongoguard.errors import UpstreamUnavailable
from mongoguard.model.names import UserName
from mongoguard.model.resource_pattern import CLUSTER
from mongoguard.proxy.deployment import Impersonation
from mongoguard.proxy.identity import Identity
from mongoguard.proxy.own_operations import is_own_operation
from mongoguard.wire.document import Document, encode
from tests.playbook import Play, Recorder, decoded, make_session, user_with
from tests.rawwire import op_msg

ALICE = user_with()
KILLER = user_with({CLUSTER: frozenset({"killop"})})
KILL: dict[str, Any] = {"killOp": 1, "op": 7, "$db": "admin"}
NONE: dict[str, Any] = {"cursor": {"firstBatch": [], "id": 0, "ns": ""}, "ok": 1.0}
OWN: dict[str, Any] = {"cursor": {"firstBatch": [{"opid": 7}], "id": 0, "ns": ""}, "ok": 1.0}


def asked(identity: Identity, body: dict[str, Any]) -> tuple[bool, Recorder]:
    """The answer when the upstream finds the operation, and what was asked."""
    recorder = Recorder(found=[{"opid": 7}])
    return recorder.run(is_own_operation(Command(Document(encode(body)), "admin"), identity)), recorder


@pytest.mark.parametrize(
    "op",
    [
        7,
        Int64(7),
        7.0,
        *map(Decimal128, ("7", "7.0", "0.7E+1", "7.0000000000000000001", "6.9999999999999999999")),
    ],
)
def test_an_operation_that_the_upstream_shows_to_its_user_is_own(op: Any):
    own, recorder = asked(Identity(ALICE, Impersonation.USERS), {**KILL, "op": op})
    assert own
    (question,) = recorder.questions
    assert question.db == "admin"
    first, match, limit = question.command["pipeline"]
    assert first == {"$currentOp": {}}, "never allUsers"
    assert match == {"$match": {"opid": 7}}
    assert limit == {"$limit": 1}
    assert question.command["$audit"]["$impersonatedUsers"] == [{"user": "alice", "db": "shop"}]


def test_a_later_upstream_is_told_one_user():
    _own, recorder = asked(Identity(ALICE, Impersonation.USER), KILL)
    assert recorder.questions[0].command["$audit"]["$impersonatedUser"] == {"user": "alice", "db": "shop"}


@pytest.mark.parametrize("op", ["7", None, True, {"$gt": 0}, [7]], ids=repr)
def test_what_is_no_number_is_nobodys_and_the_upstream_is_not_asked(op: Any):
    own, recorder = asked(Identity(ALICE, Impersonation.USERS), {**KILL, "op": op})
    assert not own
    assert recorder.questions == []


@pytest.mark.parametrize(
    ("op", "code"),
    [
        (1.5, 2),
        (float("nan"), 2),
        (float("inf"), 2),
        (1e300, 2),
        (Int64(2**31), 26823),
        (Int64(-(2**31) - 1), 26823),
        (4e9, 26823),
        (2**31 - 1, 13),
        (-(2**31), 13),
        (2.0**63, 26823),
        (-(2.0**63), 26823),
        *((Decimal128(text), 2) for text in ("1.5", "NaN", "sNaN", "-Infinity", "1E+19", "1E-3", "1E+6144")),
        *(
            (Decimal128(text), 26823)
            for text in ("2147483648", "9223372036854775809", "4611686018427387904.5")
        ),
        *((Decimal128(text), 13) for text in ("-0", "1E+3", "-2147483648", "1E-6176")),
    ],
)
def test_a_number_that_no_operation_has_is_refused_as_such_to_who_lacks_killop(op: Any, code: int):
    recorder = Recorder()
    reply = recorder.run(make_session(ALICE).handle(op_msg({**KILL, "op": op})))
    assert reply is not None
    assert decoded(reply)["code"] == code
    assert recorder.relays == []
    assert bool(recorder.questions) is (code == 13)
    Play(make_session(KILLER)).send(op_msg({**KILL, "op": op})).expect(Relay)


@pytest.mark.parametrize(
    ("op", "text"),
    [
        (1.5, "found op: 1.5"),
        (float("nan"), "found op: nan.0"),
        (1e300, "found op: 1e+300.0"),
        (Decimal128("1.50"), "found op: 1.50"),
        (Decimal128("9223372036854775808"), "invalid op : 9223372036854775807. "),
        (Decimal128("9223372036854775807.5"), "invalid op : 9223372036854775807. "),
        (Decimal128("-9223372036854775809"), "invalid op : -9223372036854775808. "),
        (Decimal128("3000000000.99999999999999999"), "invalid op : 3000000001. "),
    ],
)
def test_it_is_told_in_mongods_words(op: Any, text: str):
    reply = Recorder().run(make_session(ALICE).handle(op_msg({**KILL, "op": op})))
    assert reply is not None
    assert text in decoded(reply)["errmsg"]


def test_without_a_number_there_is_nothing_to_ask():
    own, recorder = asked(Identity(ALICE, Impersonation.USERS), {"killOp": 1, "$db": "admin"})
    assert not own
    assert recorder.questions == []


@pytest.mark.parametrize(
    "identity",
    [Identity(ALICE, Impersonation.NONE), Identity(None, Impersonation.USERS)],
    ids=["none", "nobody"],
)
def test_an_upstream_that_cannot_tell_users_apart_is_not_asked(identity: Identity):
    """Without impersonation, or of nobody, it would show the service user's own operations."""
    own, recorder = asked(identity, KILL)
    assert not own
    assert recorder.questions == []


def killing(user: Any = ALICE) -> Play:
    """A killOp under way."""
    return Play(make_session(user)).send(op_msg(KILL))


def test_an_own_operation_is_ended():
    killing().expect(AskUpstream).answer(OWN).expect(Relay)


def test_no_other_is():
    play = killing().expect(AskUpstream).answer(NONE)
    assert play.emitted().result == 13
    assert play.reply()["errmsg"].startswith("not authorized on admin to execute command { killOp: 1, op: 7")


def test_with_killop_nobody_is_asked():
    killing(KILLER).expect(Relay)


@pytest.mark.parametrize(
    "answer", [{"ok": 0.0, "code": 13, "errmsg": "no"}, UpstreamUnavailable("away")], ids=str
)
def test_an_upstream_that_does_not_say_denies(answer: Any):
    waiting = killing().expect(AskUpstream)
    play = waiting.fail(answer) if isinstance(answer, Exception) else waiting.answer(answer)
    assert play.emitted().result == 13
    assert play.reply()["code"] == 13


def test_the_question_is_asked_in_the_name_of_who_asks():
    bob = user_with(name=UserName("bob", "admin"))
    question = killing(bob).expect(AskUpstream).effect
    assert question.command["$audit"]["$impersonatedUsers"] == [{"user": "bob", "db": "admin"}]
