"""hello: who this server says it is, and when it says it."""

import dataclasses
from datetime import UTC, datetime
from typing import Any

import bson
import pytest
from bson import Decimal128, Int64, ObjectId, Timestamp

from mongoguard.effects import AwaitTopologyChange, Now
from mongoguard.proxy.client_session import ClientSession
from mongoguard.proxy.deployment import PresentAs
from mongoguard.proxy.replica_set import Advertised
from mongoguard.proxy.settings import SessionSettings
from mongoguard.proxy.topology_version import MAX_AWAIT_SECS, MIN_STREAM_SECS
from tests.playbook import HELLO, NOW, Asked, Play, make_session
from tests.rawwire import EXHAUST_ALLOWED, MORE_TO_COME, op_msg
from tests.rawwire import op_query as query

GUARD = "guard.example:27017"
PRIMARY = {
    "setName": "rs0",
    "setVersion": 3,
    "hosts": ["a.internal:27017", "b.internal:27017", "c.internal:27017"],
    "passives": ["p.internal:27017"],
    "isWritablePrimary": True,
    "secondary": False,
    "primary": "a.internal:27017",
    "me": "a.internal:27017",
    "electionId": ObjectId("7fffffff0000000000000002"),
    "lastWrite": {"lastWriteDate": datetime(2026, 1, 1, tzinfo=UTC)},
    **HELLO,
}
SECONDARY = {
    **{name: value for name, value in PRIMARY.items() if name != "electionId"},
    "isWritablePrimary": False,
    "secondary": True,
    "me": "b.internal:27017",
    "tags": {"dc": "west"},
    "lastWrite": {"lastWriteDate": datetime(2025, 12, 31, tzinfo=UTC)},
}
OWN = Advertised(own=GUARD)
MAPPED = Advertised(
    members={
        "a.internal:27017": "guard-a.example:1",
        "b.internal:27017": "guard-b.example:1",
        "p.internal:27017": "guard-p.example:1",
    }
)


def ask(session: ClientSession, flags: int = 0, **body: Any) -> Play:
    """A hello; the clock is answered when it is asked for."""
    name = {} if {"isMaster", "ismaster"} & set(body) else {"hello": 1}
    play = Play(session).send(op_msg({**name, **body, "$db": "admin"}, flags=flags, request_id=7))
    return told(play)


def told(play: Play) -> Play:
    return play.expect(Now).answer(NOW) if isinstance(play.effect, Now) else play


def hello(session: ClientSession, **body: Any) -> dict[str, Any]:
    return ask(session, **body).reply()


def set_session(advertised: Advertised = OWN, *members: dict[str, Any]) -> ClientSession:
    """A session of a mongoguard that is presented as a replica set, and the servers that answer."""
    session = make_session(present_as=PresentAs.REPLICA_SET, hello=PRIMARY)
    members_by_name = {member["me"]: member for member in members}
    view = session.deployment
    view.advertised = advertised
    view.members = members_by_name
    return session


def seen(session: ClientSession, counter: int | None = None) -> dict[str, Any]:
    """The topologyVersion of a client that has seen what is said now (or as of `counter`)."""
    view = session.deployment
    return {"processId": view.process_id, "counter": Int64(view.counter if counter is None else counter)}


# ---- who ------------------------------------------------------------------------------------------------------------


def test_a_standalone_names_no_host_and_no_set():
    reply = hello(make_session())
    assert reply["isWritablePrimary"] is True
    assert reply["connectionId"] == 7
    assert not {"msg", "hosts", "me", "setName", "primary", "serviceId"} & set(reply)


def test_a_mongos_says_isdbgrid():
    reply = hello(make_session(present_as=PresentAs.MONGOS, hello=PRIMARY))
    assert reply["msg"] == "isdbgrid"
    assert not {"hosts", "me", "setName", "primary", "electionId"} & set(reply)


def test_one_proxy_in_front_of_a_set_is_its_only_host_and_its_primary():
    reply = hello(set_session(OWN, PRIMARY, SECONDARY))
    assert reply["hosts"] == [GUARD]
    assert (reply["me"], reply["primary"], reply["setName"]) == (GUARD, GUARD, "rs0")
    assert (reply["isWritablePrimary"], reply["secondary"]) == (True, False)
    assert reply["lastWrite"] == {"lastWriteDate": datetime(2026, 1, 1)}  # noqa: DTZ001  (as bson decodes it)
    assert not {"electionId", "setVersion", "passives", "msg"} & set(reply), "one host has nothing to order"


@pytest.mark.parametrize(
    ("members", "is_secondary"),
    [((SECONDARY,), True), ((), False), (({**SECONDARY, "setName": "another"},), False)],
    ids=["a secondary answers", "nobody answers", "a stranger answers"],
)
def test_without_a_primary_writes_wait_and_reads_of_secondaries_go_on(members, is_secondary):
    reply = hello(set_session(OWN, *members))
    assert (reply["isWritablePrimary"], reply["secondary"]) == (False, is_secondary)
    assert (reply["hosts"], reply["me"], reply["setName"]) == ([GUARD], GUARD, "rs0")
    assert "primary" not in reply


@pytest.mark.parametrize("advertised", [OWN, MAPPED])
def test_a_primary_that_was_asked_by_the_old_name_is_one(advertised):
    primary = {"ismaster" if name == "isWritablePrimary" else name: value for name, value in PRIMARY.items()}
    assert hello(set_session(advertised, primary))["isWritablePrimary"] is True
    secondary = {**{k: v for k, v in SECONDARY.items() if k != "isWritablePrimary"}, "ismaster": False}
    assert hello(set_session(advertised, secondary))["isWritablePrimary"] is False


def test_a_stranger_that_calls_itself_primary_makes_no_primary():
    reply = hello(set_session(OWN, SECONDARY, {**PRIMARY, "setName": "another"}))
    assert reply["isWritablePrimary"] is False


def test_a_proxy_per_member_says_that_members_own_role():
    reply = hello(set_session(MAPPED, PRIMARY))
    assert reply["hosts"] == ["guard-a.example:1", "guard-b.example:1"], "c has no proxy"
    assert reply["passives"] == ["guard-p.example:1"]
    assert (reply["me"], reply["primary"]) == ("guard-a.example:1",) * 2
    assert (reply["setVersion"], reply["electionId"]) == (3, PRIMARY["electionId"])
    assert (reply["isWritablePrimary"], reply["secondary"]) == (True, False)


def test_a_proxy_of_a_secondary_says_who_is_primary_and_passes_on_tags():
    reply = hello(set_session(MAPPED, SECONDARY))
    assert (reply["isWritablePrimary"], reply["secondary"]) == (False, True)
    assert (reply["me"], reply["primary"]) == ("guard-b.example:1", "guard-a.example:1")
    assert reply["tags"] == {"dc": "west"}
    assert "electionId" not in reply


def test_a_proxy_whose_member_does_not_answer_is_neither_primary_nor_secondary():
    reply = hello(set_session(MAPPED))
    assert (reply["isWritablePrimary"], reply["secondary"]) == (False, False)
    assert (reply["setName"], reply["me"]) == ("rs0", "guard-a.example:1")
    assert not {"primary", "electionId", "lastWrite"} & set(reply)


@pytest.mark.parametrize("advertised", [OWN, MAPPED, Advertised(members={"a.internal:27017": "g:1"})])
@pytest.mark.parametrize("members", [(), (PRIMARY,), (SECONDARY,)])
@pytest.mark.parametrize("present_as", list(PresentAs))
@pytest.mark.parametrize("load_balanced", [False, True])
def test_no_upstream_host_is_ever_named(advertised, members, present_as, load_balanced):
    session = set_session(advertised, *members)
    session.deployment.current = dataclasses.replace(session.deployment.current, present_as=present_as)
    play = ask(session, loadBalanced=load_balanced)
    assert play.raw is not None
    assert b".internal" not in play.raw


@pytest.mark.parametrize("present_as", list(PresentAs))
def test_the_time_of_the_cluster_is_that_of_the_heartbeats(present_as):
    session = make_session(present_as=present_as, hello=PRIMARY)
    session.deployment.advertised = OWN
    assert "$clusterTime" not in hello(session), "no server has said one"
    time = {"clusterTime": Timestamp(5, 1), "signature": {"hash": b"h" * 20, "keyId": Int64(3)}}
    session.deployment.members = {"a": {**PRIMARY, "$clusterTime": time, "operationTime": Timestamp(5, 1)}}
    reply = hello(session)
    assert reply["$clusterTime"] == time
    assert "operationTime" not in reply


def test_ismaster_of_a_set_says_ismaster():
    reply = hello(set_session(OWN, PRIMARY), isMaster=1)
    assert reply["ismaster"] is True
    assert "isWritablePrimary" not in reply


def test_fields_come_in_the_order_of_mongod():
    expected = [
        "helloOk",
        "topologyVersion",
        "hosts",
        "setName",
        "isWritablePrimary",
        "secondary",
        "primary",
        "me",
    ]
    assert list(hello(set_session(OWN, PRIMARY), helloOk=True))[:8] == expected
    assert list(hello(make_session()))[:2] == ["isWritablePrimary", "topologyVersion"]
    assert list(hello(make_session(present_as=PresentAs.MONGOS)))[:3] == [
        "isWritablePrimary",
        "msg",
        "topologyVersion",
    ]


# ---- load balanced --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("present_as", list(PresentAs))
def test_a_client_behind_a_balancer_finds_a_mongos_with_a_service_id(present_as):
    session = set_session(OWN, SECONDARY)
    session.deployment.current = dataclasses.replace(session.deployment.current, present_as=present_as)
    reply = hello(session, loadBalanced=True)
    assert reply["serviceId"] == session.deployment.service_id
    assert (reply["msg"], reply["isWritablePrimary"]) == ("isdbgrid", True)
    assert "setName" not in reply
    assert "serviceId" not in hello(session, loadBalanced=False)
    assert "serviceId" not in hello(session, loadBalanced=None)


def test_the_service_id_is_the_same_whatever_happens_upstream():
    session = set_session(OWN, PRIMARY)
    before = hello(session, loadBalanced=True)["serviceId"]
    session.deployment.members = {}
    assert hello(session, loadBalanced=True)["serviceId"] == before


@pytest.mark.parametrize(
    ("field", "value", "errmsg"),
    [
        ("loadBalanced", 1, "BSON field 'hello.loadBalanced' is the wrong type 'int', expected type 'bool'"),
        (
            "helloOk",
            "x",
            "BSON field 'hello.helloOk' is the wrong type 'string', "
            "expected types '[bool, long, int, decimal, double']",
        ),
    ],
)
def test_a_field_of_another_type_is_refused(field, value, errmsg):
    reply = hello(make_session(), **{field: value})
    assert (reply["code"], reply["errmsg"]) == (14, errmsg)


# ---- waiting --------------------------------------------------------------------------------------------------------

VERSION = {"processId": ObjectId(b"p" * 12), "counter": Int64(0)}
NEEDS_MAX = "A request with a 'topologyVersion' must include 'maxAwaitTimeMS'"
NEEDS_VERSION = "A request with 'maxAwaitTimeMS' must include a 'topologyVersion'"
WRONG_TYPE = "BSON field 'hello.{}' is the wrong type '{}', expected {}"
NUMBERS = "types '[long, int, decimal, double']"
OVERFLOW = "Overflow casting from a lower-precision duration to a higher-precision duration"


@pytest.mark.parametrize(
    ("body", "code", "errmsg"),
    [
        ({"topologyVersion": VERSION}, 31368, NEEDS_MAX),
        ({"topologyVersion": VERSION, "maxAwaitTimeMS": None}, 31368, NEEDS_MAX),
        ({"maxAwaitTimeMS": 5}, 31368, NEEDS_VERSION),
        ({"maxAwaitTimeMS": 5, "topologyVersion": None}, 31368, NEEDS_VERSION),
        (
            {"topologyVersion": VERSION, "maxAwaitTimeMS": -1},
            51024,
            "BSON field 'maxAwaitTimeMS' value must be >= 0, actual value '-1'",
        ),
        (
            {"topologyVersion": VERSION, "maxAwaitTimeMS": -1e300},
            51024,
            "BSON field 'maxAwaitTimeMS' value must be >= 0, actual value '-9223372036854775808'",
        ),
        ({"maxAwaitTimeMS": "5"}, 14, WRONG_TYPE.format("maxAwaitTimeMS", "string", NUMBERS)),
        ({"maxAwaitTimeMS": True}, 14, WRONG_TYPE.format("maxAwaitTimeMS", "bool", NUMBERS)),
        ({"topologyVersion": VERSION, "maxAwaitTimeMS": 2**62}, 159, OVERFLOW),
        ({"topologyVersion": VERSION, "maxAwaitTimeMS": 1e300}, 159, OVERFLOW),
        ({"topologyVersion": VERSION, "maxAwaitTimeMS": float("inf")}, 159, OVERFLOW),
        ({"topologyVersion": "x"}, 14, WRONG_TYPE.format("topologyVersion", "string", "type 'object'")),
        ({"topologyVersion": [1]}, 14, WRONG_TYPE.format("topologyVersion", "array", "type 'object'")),
        (
            {"topologyVersion": {**VERSION, "counter": 1}},
            14,
            WRONG_TYPE.format("topologyVersion.counter", "int", "type 'long'"),
        ),
        (
            {"topologyVersion": {**VERSION, "processId": "x"}},
            14,
            WRONG_TYPE.format("topologyVersion.processId", "string", "type 'objectId'"),
        ),
        (
            {"topologyVersion": {"counter": Int64(0)}},
            40414,
            "BSON field 'hello.topologyVersion.processId' is missing but a required field",
        ),
        (
            {"topologyVersion": {"processId": None, "counter": Int64(0)}},
            40414,
            "BSON field 'hello.topologyVersion.processId' is missing but a required field",
        ),
        (
            {"topologyVersion": {"processId": VERSION["processId"]}},
            40414,
            "BSON field 'hello.topologyVersion.counter' is missing but a required field",
        ),
        (
            {"topologyVersion": {**VERSION, "x": 1}},
            40415,
            "BSON field 'hello.topologyVersion.x' is an unknown field.",
        ),
        (
            {"topologyVersion": {**VERSION, "counter": Int64(-5)}, "maxAwaitTimeMS": 5},
            31372,
            "topologyVersion must have a non-negative counter",
        ),
    ],
)
@pytest.mark.parametrize("name", ["hello", "isMaster", "ismaster"])
def test_what_mongod_refuses_of_a_waiting_hello_is_refused(name, body, code, errmsg):
    reply = Play(make_session()).send(op_msg({name: 1, **body, "$db": "admin"})).reply()
    assert (reply["code"], reply["errmsg"]) == (code, errmsg)


@pytest.mark.parametrize(
    ("present_as", "code"),
    [(PresentAs.REPLICA_SET, 31382), (PresentAs.MONGOS, 51764), (PresentAs.STANDALONE, 51764)],
)
def test_a_counter_from_the_future_is_refused(present_as, code):
    session = make_session(present_as=present_as, hello=PRIMARY)
    reply = hello(session, topologyVersion=seen(session, 3), maxAwaitTimeMS=5)
    assert (reply["code"], reply["errmsg"]) == (
        code,
        "Received a topology version with counter: 3 which is greater than the server topology version counter: 0",
    )


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (300, 0.3),
        (Int64(300), 0.3),
        (300.9, 0.3),
        (Decimal128("300"), 0.3),
        (10_000, 10.0),
        (86_400_000, MAX_AWAIT_SECS),
        (9 * 10**12, MAX_AWAIT_SECS),
    ],
)
def test_a_client_that_knows_everything_waits_for_news_within_a_bound(given, seconds):
    session = make_session()
    asked = ask(session, topologyVersion=seen(session), maxAwaitTimeMS=given).expect(AwaitTopologyChange)
    assert (asked.effect.counter, asked.effect.within_secs) == (0, seconds)
    reply = told(asked.answer(None)).reply()
    assert (reply["ok"], reply["topologyVersion"]) == (1.0, seen(session))


@pytest.mark.parametrize("given", [0, -0.5, float("nan")])
def test_a_wait_of_no_time_is_none(given):
    session = make_session()
    assert hello(session, topologyVersion=seen(session), maxAwaitTimeMS=given)["ok"] == 1.0


def test_what_another_process_said_is_answered_at_once():
    version = {"processId": ObjectId(), "counter": Int64(1000)}
    assert hello(make_session(), topologyVersion=version, maxAwaitTimeMS=5000)["ok"] == 1.0


def test_a_client_that_has_missed_something_is_answered_at_once():
    session = set_session(OWN, PRIMARY)
    assert session.deployment.counter > 0
    reply = hello(session, topologyVersion=seen(session, 0), maxAwaitTimeMS=5000)
    assert reply["topologyVersion"] == seen(session)


def test_the_answer_is_what_is_true_after_the_wait():
    session = set_session(OWN, SECONDARY)
    play = ask(session, topologyVersion=seen(session), maxAwaitTimeMS=5000).expect(AwaitTopologyChange)
    session.deployment.members = {"a": PRIMARY}
    reply = told(play.answer(None)).reply()
    assert (reply["isWritablePrimary"], reply["topologyVersion"]) == (True, seen(session))


def test_old_drivers_wait_with_op_query_too():
    session = make_session()
    sent = query({"isMaster": 1, "topologyVersion": seen(session), "maxAwaitTimeMS": 300})
    play = Play(session).send(sent).expect(AwaitTopologyChange)
    assert told(play.answer(None)).reply()["ok"] == 1.0
    assert session.streaming.next_request is None


# ---- streams --------------------------------------------------------------------------------------------------------


def stream(session: ClientSession, milliseconds: int = 10_000, **body: Any) -> Asked[AwaitTopologyChange]:
    arguments = {"topologyVersion": seen(session), "maxAwaitTimeMS": milliseconds, **body}
    return ask(session, EXHAUST_ALLOWED, **arguments).expect(AwaitTopologyChange)


def head(raw: bytes | None) -> tuple[int, int, int]:
    """(request id, response to, flags)"""
    assert raw is not None
    return tuple(int.from_bytes(raw[i : i + 4], "little") for i in (4, 8, 16))  # type: ignore[return-value]


def test_a_stream_goes_on_from_reply_to_reply():
    session = make_session()
    play = told(stream(session).answer(None))
    first = head(play.raw)
    assert first[1:] == (7, MORE_TO_COME)
    assert session.streaming.next_request is not None
    play = told(Play(session).send(session.streaming.next_request).expect(AwaitTopologyChange).answer(None))
    assert head(play.raw)[1:] == (first[0], MORE_TO_COME)


def test_a_stream_asks_for_what_comes_after_the_news():
    session = set_session(OWN, SECONDARY)
    play = stream(session, comment="kept")
    session.deployment.members = {"a": PRIMARY}
    told(play.answer(None))
    following = session.streaming.next_request
    assert following is not None
    assert len(following) == int.from_bytes(following[:4], "little")
    assert head(following)[2] == EXHAUST_ALLOWED
    body = bson.decode(following[21:])
    assert body == {
        "hello": 1,
        "topologyVersion": seen(session),
        "maxAwaitTimeMS": 10_000,
        "comment": "kept",
        "$db": "admin",
    }


def test_a_stream_without_pauses_gets_some():
    for milliseconds in (0, 1, 499):
        assert stream(make_session(), milliseconds).effect.within_secs == MIN_STREAM_SECS


@pytest.mark.parametrize(
    ("body", "code"),
    [({}, 51756), ({"topologyVersion": VERSION}, 31368), ({"maxAwaitTimeMS": 5}, 31368)],
)
def test_there_is_no_stream_without_waiting(body, code):
    session = make_session()
    play = ask(session, EXHAUST_ALLOWED, **body)
    assert play.reply()["code"] == code
    assert head(play.raw)[2] == 0
    assert session.streaming.next_request is None


def test_an_error_ends_a_stream():
    session = make_session()
    told(stream(session).answer(None))
    following = session.streaming.next_request
    assert following is not None
    session.deployment.process_id = ObjectId()
    newer = following.replace(bytes(8) + b"\x10max", (9).to_bytes(8, "little") + b"\x10max")
    assert newer != following
    session.deployment.process_id = bson.decode(following[21:])["topologyVersion"]["processId"]
    play = told(Play(session).send(newer))
    assert play.reply()["code"] == 51764
    assert head(play.raw)[2] == 0
    assert session.streaming.next_request is None


def test_a_stream_that_wants_no_replies_is_none():
    session = make_session()
    play = ask(session, EXHAUST_ALLOWED | MORE_TO_COME, topologyVersion=seen(session), maxAwaitTimeMS=5)
    told(play.expect(AwaitTopologyChange).answer(None)).silence()
    assert session.streaming.next_request is None


WIRE_VERSIONS = {"minWireVersion": 0, "maxWireVersion": 17}


@pytest.mark.parametrize(
    ("argument", "code", "text"),
    [
        (
            {"compression": "snappy"},
            14,
            "hello.compression' is the wrong type 'string', expected type 'array'",
        ),
        ({"compression": {"0": "snappy"}}, 14, "wrong type 'object', expected type 'array'"),
        ({"compression": None}, 10065, "invalid parameter: expected an object (compression)"),
        (
            {"compression": ["snappy", 1]},
            14,
            "hello.compression.1' is the wrong type 'int', expected type 'string'",
        ),
        ({"compression": [["snappy"]]}, 14, "hello.compression.0' is the wrong type 'array'"),
        ({"hostInfo": 5}, 14, "hello.hostInfo' is the wrong type 'int', expected type 'string'"),
        (
            {"internalClient": "x"},
            14,
            "hello.internalClient' is the wrong type 'string', expected type 'object'",
        ),
        ({"internalClient": []}, 14, "wrong type 'array', expected type 'object'"),
        (
            {"internalClient": {}},
            40414,
            "hello.internalClient.maxWireVersion' is missing but a required field",
        ),
        ({"internalClient": {"maxWireVersion": None}}, 40414, "missing but a required field"),
        (
            {"internalClient": {**WIRE_VERSIONS, "x": 1}},
            40415,
            "hello.internalClient.x' is an unknown field.",
        ),
        (
            {"internalClient": {**WIRE_VERSIONS, "minWireVersion": True}},
            14,
            "minWireVersion' is the wrong type 'bool', expected types '[long, int, decimal, double']",
        ),
        ({"forShell": "x"}, 14, "hello.forShell' is the wrong type 'string', expected types '[bool, long"),
        (
            {"hangUpOnStepDown": []},
            14,
            "hello.hangUpOnStepDown' is the wrong type 'array', expected types '[bool",
        ),
        ({"hostInfo": 5, "compression": 5}, 14, "hello.hostInfo'"),
        ({"compression": 5, "hostInfo": 5}, 14, "hello.compression'"),
        ({"compression": 5, "client": 5}, 14, "client metadata"),
    ],
)
def test_an_argument_of_a_wrong_type_is_refused_as_mongod_refuses_it(argument, code, text):
    reply = hello(make_session(), **argument)
    assert (reply["ok"], reply["code"]) == (0.0, code)
    assert text in reply["errmsg"]


@pytest.mark.parametrize(
    "argument",
    [
        {"hostInfo": "app7.example"},
        {"hostInfo": None},
        {"internalClient": None},
        {"internalClient": WIRE_VERSIONS},
        {"internalClient": {"maxWireVersion": 17.5, "minWireVersion": None}},
        {"forShell": Decimal128("1"), "hangUpOnStepDown": False},
        {"backpressure": True, "nobody knows": [{}]},
    ],
)
def test_what_is_no_more_than_said_changes_nothing(argument):
    """Not even that a client calls itself a server."""
    session = make_session()
    assert hello(session, **argument) == {**hello(session), "topologyVersion": seen(session)}


ALL_COMPRESSORS = SessionSettings(compressors=("snappy", "zlib", "zstd"))


def with_array(name: str, *elements: tuple[str, str]) -> bytes:
    """A hello with an array of these keys, as no driver writes them."""
    inside = b"".join(b"\x02" + key.encode() + b"\0" + bson.encode({"": v})[6:-1] for key, v in elements)
    array = (len(inside) + 5).to_bytes(4, "little") + inside + b"\0"
    body = bson.encode({"hello": 1, "$db": "admin"})[4:-1] + b"\x04" + name.encode() + b"\0" + array
    return (len(body) + 5).to_bytes(4, "little") + body + b"\0"


@pytest.mark.parametrize(
    ("elements", "code", "text"),
    [
        ([("a", "zlib")], 40422, "has an invalid value 'a' for an array field name."),
        ([("", "zlib")], 40422, "has an invalid value '' for an array field name."),
        ([("1", "zlib")], 40423, "non-sequential value '1' for an array field name, expected value '0'."),
        ([("0", "zlib"), ("2", "zstd")], 40423, "non-sequential value '2' for an array field name, expected"),
    ],
)
def test_compressors_are_counted_from_zero(elements, code, text):
    reply = Play(make_session()).send(op_msg(with_array("compression", *elements))).reply()
    assert (reply["ok"], reply["code"]) == (0.0, code)
    assert reply["errmsg"].startswith("BSON array field 'hello.compression' has a")
    assert text in reply["errmsg"]
    counted = op_msg(with_array("compression", ("00", "zlib"), ("1", "zstd")))
    reply = Play(make_session(settings=ALL_COMPRESSORS)).send(counted).expect(Now).answer(NOW).reply()
    assert reply["compression"] == ["zlib", "zstd"]


def test_a_hello_that_does_not_speak_of_compression_is_told_what_was_agreed():
    session = make_session(settings=ALL_COMPRESSORS)
    assert "compression" not in hello(session)
    assert hello(session, compression=["zlib", "lzma"])["compression"] == ["zlib"]
    assert hello(session)["compression"] == ["zlib"]
    assert hello(session, compression=["zstd"], loadBalanced=1)["code"] == 14
    assert hello(session)["compression"] == ["zlib"], "what is refused agrees on nothing"
    assert "compression" not in hello(session, compression=[])
    assert "compression" not in hello(session)


@pytest.mark.parametrize(
    "wrong", [{"topologyVersion": 1}, {"saslSupportedMechs": 1}, {"speculativeAuthenticate": 1}]
)
def test_a_hello_with_an_argument_of_a_wrong_type_is_not_the_first(wrong):
    session = make_session()
    client = {"driver": {"name": "x", "version": "1"}, "os": {"type": "Linux"}}
    assert hello(session, client=client, **wrong)["code"] == 14
    assert hello(session, client=client)["ok"] == 1.0
    assert hello(session, client=client)["code"] == 186
