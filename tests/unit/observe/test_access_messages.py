"""authenticate, logout and authCheck messages: who, what, why, and none of the data."""

import hashlib
import json
from ipaddress import IPv4Address

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mongoguard.model.names import RoleName, UserName
from mongoguard.model.privilege import Privilege
from mongoguard.model.resource_pattern import ResourcePattern
from mongoguard.model.restriction import Peer
from mongoguard.observe.access_messages import auth_check, authenticate, connection_refused, logout
from mongoguard.observe.command_shape import shape
from mongoguard.observe.event import to_json
from mongoguard.wire.document import Document

PEER = Peer(IPv4Address("10.0.0.7"), IPv4Address("10.0.0.1"), 50123, 27017)
ALICE = UserName("alice", "admin")
READ = RoleName("read", "shop")
CANARY = "c4n4ry"


def body(document) -> Document:
    return Document(bson.encode(document))


def check(document, **kwargs):
    command = next(iter(document))
    kwargs.setdefault("result", 13)
    return auth_check(PEER, [ALICE], [READ], command, "shop.orders", body=body(document), **kwargs)


def test_a_denial_names_the_command_and_what_was_missing():
    missing = Privilege(
        ResourcePattern.for_exact_namespace("shop", "orders"), frozenset({"update", "insert"})
    )
    event = check({"update": "orders", "$db": "shop"}, missing=[missing], reason="not granted")
    assert event.atype == "authCheck"
    assert event.result == 13
    assert event.users == (ALICE,)
    assert event.roles == (READ,)
    assert event.param["command"] == "update"
    assert event.param["ns"] == "shop.orders"
    assert event.param["missing"] == [
        {"resource": {"db": "shop", "collection": "orders"}, "actions": ["insert", "update"]}
    ]
    assert event.param["reason"] == "not granted"


def test_an_allowed_check_has_result_0_and_nothing_missing():
    event = check({"find": "orders"}, result=0)
    assert event.result == 0
    assert "missing" not in event.param
    assert "reason" not in event.param


def test_a_thousand_missing_privileges_are_counted_after_the_first():
    one = Privilege(ResourcePattern.for_database("shop"), frozenset({"find"}))
    param = check({"aggregate": 1}, missing=[one] * 1000).param
    assert len(param["missing"]) == 32
    assert param["missingOmitted"] == 968


def test_arguments_keep_names_and_switches_and_lose_values():
    document = {
        "find": "orders",
        "filter": {"ssn": CANARY, "total": {"$gt": 10}, "tags": [CANARY, 1]},
        "limit": 5,
        "singleBatch": True,
        "comment": CANARY,
        "$db": "shop",
    }
    assert check(document).param["args"] == {
        "find": "orders",
        "filter": {"ssn": "<string>", "total": {"$gt": "<int>"}, "tags": ["<string>", "<int>"]},
        "limit": 5,
        "singleBatch": True,
        "comment": "<string>",
        "$db": "shop",
    }


def test_the_hash_and_the_size_are_those_of_the_whole_body():
    raw = bson.encode({"find": "orders", "filter": {"a": "x" * 10_000}})
    param = auth_check(PEER, [], [], "find", "shop.orders", body=Document(raw), result=0).param
    assert param["argsHash"] == hashlib.sha256(raw).hexdigest()
    assert param["argsBytes"] == len(raw)


def test_a_body_that_could_not_be_read_has_empty_arguments():
    param = auth_check(PEER, [], [], "", "", body=None, result=22).param
    assert param == {"command": "", "ns": "", "args": {}}


@pytest.mark.parametrize(
    "document",
    [
        {"createUser": "bob", "pwd": CANARY, "roles": []},
        {"updateUser": "bob", "pwd": CANARY},
        {"saslStart": 1, "mechanism": "PLAIN", "payload": CANARY.encode()},
        {"saslContinue": 1, "payload": CANARY.encode()},
        {"hello": 1, "speculativeAuthenticate": {"saslStart": 1, "payload": CANARY}},
        {"logApplicationMessage": CANARY},
        {"find": "users", "filter": {"password": CANARY}},
        {"insert": "users", "documents": [{"credentials": {"SCRAM-SHA-1": {"storedKey": CANARY}}}]},
        {"update": "c", "updates": [{"q": {"_id": CANARY}, "u": {"$set": {"a": CANARY}}}]},
        {"aggregate": "c", "pipeline": [{"$match": {"a": {"$in": [CANARY]}}}], "let": {"x": CANARY}},
        {"collMod": "c", "validator": CANARY, "user": {"a": CANARY}},
    ],
)
def test_no_value_of_a_client_reaches_the_message(document):
    assert CANARY not in to_json(check(document), 0)


@pytest.mark.parametrize(
    "document",
    [{"createUser": "bob", "pwd": CANARY}, {"saslStart": 1, "payload": b"x"}, {"x": 1, "credentials": {}}],
)
def test_a_body_with_a_password_has_no_hash_to_guess_it_from(document):
    param = check(document).param
    assert "argsHash" not in param
    assert param["argsBytes"] > 0


def test_a_long_name_is_cut():
    assert check({"find": "x" * 500}).param["args"]["find"] == "x" * 120 + "..."


def test_of_a_large_array_the_first_elements_are_shown():
    args = shape(body({"insert": "c", "documents": [{"a": 1}] * 1000}), 4096)
    assert args["documents"] == [{"a": "<int>"}] * 8 + ["<992 more>"]


def test_nesting_is_opened_five_levels_deep():
    assert shape(body({"x": 1, "a": {"b": {"c": {"d": {"e": {"f": 1}}}}}}), 4096)["a"] == {
        "b": {"c": {"d": {"e": "<object>"}}}
    }


def test_numbers_that_json_can_not_hold_are_not_shown():
    args = shape(body({"find": "c", "limit": float("nan"), "skip": float("inf")}), 4096)
    assert args == {"find": "c", "limit": "<double>", "skip": "<double>"}


def test_a_nested_value_that_is_no_bson_is_marked():
    raw = bson.encode({"find": "c", "filter": {"a": "x"}}).replace(b"\x02a\x00\x02", b"\x02a\x00\x09")
    assert shape(Document(raw), 4096) == {"find": "c", "filter": "<invalid>"}
    raw = bson.encode({"find": "cccc"}).replace(b"cccc", b"\xff\xff\xff\xff")
    assert shape(Document(raw), 4096) == {"find": "<invalid>"}


names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | names
    | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=12) | st.dictionaries(names, inner, max_size=12),
    max_leaves=60,
)


@given(st.dictionaries(names, values, max_size=20), st.integers(256, 2048))
def test_arguments_never_exceed_the_bytes_given_to_them(document, max_bytes):
    assert (
        len(json.dumps(shape(body(document), max_bytes), separators=(",", ":"), allow_nan=False)) <= max_bytes
    )


@pytest.mark.parametrize("width", [1, 12])
def test_a_document_of_many_fields_at_every_level_stays_within_its_bytes(width):
    inner: object = 1
    for level in range(6):
        inner = {f"{level}{i}{'x' * 30}": inner for i in range(width)} if level % 2 else [inner] * width
    text = json.dumps(shape(body({"find": "c", "filter": inner}), 256))
    assert len(json.dumps(json.loads(text), separators=(",", ":"))) <= 256
    assert width == 1 or "<cut>" in text or '"filter": "<object>"' in text  # too long to be opened


def test_a_login_names_the_user_only_once_it_succeeded():
    good = authenticate(PEER, ALICE, "SCRAM-SHA-256", result=0, roles=[READ])
    assert good.users == (ALICE,)
    assert good.roles == (READ,)
    assert good.param == {"user": "alice", "db": "admin", "mechanism": "SCRAM-SHA-256"}
    bad = authenticate(PEER, ALICE, "SCRAM-SHA-256", result=18, reason="wrong password")
    assert bad.users == ()
    assert bad.result == 18
    assert bad.param["reason"] == "wrong password"


def test_a_refused_connection_says_whose_and_why():
    document = json.loads(to_json(connection_refused(PEER, reason="no header"), 0.0))
    assert (document["atype"], document["param"], document["result"]) == (
        "connectionRefused",
        {"reason": "no header"},
        17,
    )
    assert document["remote"]["ip"] == str(PEER.client)


def test_a_logout_says_who_and_since_when():
    event = logout(PEER, ALICE, 0.0, reason="Client has disconnected")
    assert event.param == {
        "reason": "Client has disconnected",
        "initialUsers": [{"user": "alice", "db": "admin"}],
        "updatedUsers": [],
        "loginTime": {"$date": "1970-01-01T00:00:00.000+00:00"},
    }
