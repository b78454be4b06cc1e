"""Replies of servers that step down, recover or shut down: what they tell, and what a mongos makes of them."""

import bson
import pytest
from bson import ObjectId

from mongoguard.effects import StateChanged
from mongoguard.proxy.state_change import SHORT_REPLY_BYTES, as_mongos, may_tell_state_change, state_change_in
from tests.rawwire import op_msg

VERSION = {"processId": ObjectId(), "counter": 7}
NOT_PRIMARY = {
    "topologyVersion": VERSION,
    "ok": 0.0,
    "errmsg": "not primary",
    "code": 10107,
    "codeName": "NotWritablePrimary",
}


def told(document):
    reply = op_msg(document)
    return state_change_in(reply, "h:1") if may_tell_state_change(reply) else None


def body(reply):
    return bson.decode(reply[21:])


@pytest.mark.parametrize("code", [91, 189, 10058, 10107, 11600, 11602, 13435, 13436])
def test_every_state_change_is_seen_in_an_error_and_in_a_write_concern_error(code):
    expected = StateChanged("h:1", code in {91, 11600}, VERSION)
    assert told({"topologyVersion": VERSION, "ok": 0.0, "code": code}) == expected
    assert told({"ok": 0.0, "code": code, "topologyVersion": VERSION}) == expected
    concern = {"n": 1, "writeConcernError": {"code": code}, "topologyVersion": VERSION, "ok": 1.0}
    assert told(concern) == expected


@pytest.mark.parametrize(
    "document",
    [
        {"ok": 1.0},
        {"ok": 0.0, "code": 13},
        {"ok": 0.0},
        {"n": 1, "writeConcernError": {"code": 64}, "ok": 1.0},
        {"n": 1, "writeConcernError": 64, "ok": 1.0},
        {"cursor": {"firstBatch": [{"writeConcernError": {"code": 91}}], "id": 0}, "ok": 1.0},
        {"value": "writeConcernError", "code": 91, "ok": 1.0},
    ],
)
def test_other_replies_tell_nothing(document):
    assert told(document) is None


def test_long_replies_that_succeed_are_not_searched():
    long = {"n": 1, "writeConcernError": {"code": 91, "errmsg": "x" * SHORT_REPLY_BYTES}, "ok": 1.0}
    assert not may_tell_state_change(op_msg(long))


@pytest.mark.parametrize("version", [1, {"counter": "x"}, {}])
def test_a_version_that_is_none_is_left_out(version):
    assert told({"ok": 0.0, "code": 91, "topologyVersion": version}) == StateChanged("h:1", True, None)


def test_a_mongos_says_that_the_host_is_unreachable_and_keeps_the_labels():
    reply = op_msg({**NOT_PRIMARY, "errorLabels": ["RetryableWriteError"]}, request_id=5)
    reply = reply[:8] + b"\x09\0\0\0" + reply[12:]
    rewritten = as_mongos(reply)
    assert body(rewritten) == {
        "ok": 0.0,
        "errmsg": "(NOT_PRIMARY)",
        "code": 6,
        "codeName": "HostUnreachable",
        "errorLabels": ["RetryableWriteError"],
    }
    assert rewritten[4:12] == reply[4:12]


def test_a_mongos_rewrites_the_errors_of_writes_too():
    errors = [{"index": 0, "code": 11602, "errmsg": "node is recovering"}, {"index": 1, "code": 11000}]
    concern = {"code": 91, "codeName": "ShutdownInProgress", "errmsg": "shutting down"}
    rewritten = body(
        as_mongos(op_msg({"n": 0, "writeErrors": errors, "writeConcernError": concern, "ok": 1.0}))
    )
    assert rewritten["writeErrors"] == [
        {"index": 0, "code": 6, "errmsg": "(NODE_IS_RECOVERING)"},
        {"index": 1, "code": 11000},
    ]
    assert rewritten["writeConcernError"] == {
        "code": 6,
        "codeName": "HostUnreachable",
        "errmsg": "shutting down",
    }


@pytest.mark.parametrize("document", [{"ok": 1.0, "n": 1}, {"ok": 0.0, "code": 13}, {"ok": 1.0, "code": 91}])
def test_a_mongos_leaves_other_replies_as_they_are(document):
    reply = op_msg(document)
    assert as_mongos(reply) is reply


def test_a_reply_that_is_none_is_left_as_it_is():
    damaged = op_msg({"ok": 0.0, "code": 91})[:-3]
    assert state_change_in(damaged, "h:1") is None
    assert as_mongos(damaged) is damaged
