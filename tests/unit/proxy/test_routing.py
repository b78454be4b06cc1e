"""Which server a request asks for."""

import uuid

import pytest
from bson import Binary, Int64

from mongoguard.command.read_preference import ReadPreference, ReadPreferenceMode
from mongoguard.errors import CommandError
from mongoguard.proxy.relaying import Narrowing
from mongoguard.proxy.routing import PRIMARY_ROUTE, Route, route_of
from mongoguard.wire.document import encode_element
from mongoguard.wire.message import parse_message
from tests.rawwire import op_msg

SECONDARY = ReadPreference(ReadPreferenceMode.SECONDARY)
NEAR_EAST = ReadPreference(ReadPreferenceMode.NEAREST, ((("dc", "east"),), ()), 120)
FIND = {"find": "orders", "$db": "shop"}
INSERT = {"insert": "orders", "documents": [{}], "$db": "shop"}
SESSION = uuid.UUID(int=7).bytes


def route(document, default=None):
    return route_of(parse_message(op_msg(document)), default)


def test_a_read_goes_where_its_client_says():
    assert route({**FIND, "$readPreference": {"mode": "secondary"}}) == Route(SECONDARY)
    assert route({**FIND, "$readPreference": {"mode": "primary"}}) is PRIMARY_ROUTE
    assert route(FIND) is PRIMARY_ROUTE


def test_a_write_goes_to_the_primary_whatever_its_client_says():
    assert route({**INSERT, "$readPreference": {"mode": "secondary"}}) is PRIMARY_ROUTE
    assert route(INSERT, SECONDARY) is PRIMARY_ROUTE


@pytest.mark.parametrize("document", [FIND, INSERT, {"ping": 1, "$db": "admin"}])
def test_a_malformed_preference_is_refused_on_every_command(document):
    with pytest.raises(CommandError, match="Missing expected field"):
        route({**document, "$readPreference": {}})


def test_the_default_is_for_reads_that_say_nothing_and_is_told_to_the_server():
    told = encode_element(
        "$readPreference", {"mode": "nearest", "tags": [{"dc": "east"}, {}], "maxStalenessSeconds": 120}
    )
    assert route(FIND, NEAR_EAST) == Route(NEAR_EAST, appended=told)
    assert route({**FIND, "$readPreference": {"mode": "primary"}}, NEAR_EAST) is PRIMARY_ROUTE
    assert route({**FIND, "$readPreference": {"mode": "secondary"}}, NEAR_EAST) == Route(SECONDARY)


def test_a_transaction_goes_by_its_session_and_never_by_a_preference():
    inside = {"lsid": {"id": Binary(SESSION, 4)}, "txnNumber": Int64(1), "autocommit": False}
    for preference in ({}, {"$readPreference": {"mode": "secondary"}}):
        assert route({**FIND, **inside, **preference}, NEAR_EAST) == Route(transaction=SESSION)
    assert route({**FIND, **inside, "autocommit": True}) is PRIMARY_ROUTE


def test_what_a_route_appends_comes_after_what_narrowing_appends():
    narrowed = Narrowing(((1, 2, b"x"),), b"a")
    assert PRIMARY_ROUTE.onto(narrowed) is narrowed
    assert PRIMARY_ROUTE.onto(None) is None
    assert Route(appended=b"b").onto(None) == Narrowing(appended=b"b")
    assert Route(appended=b"b").onto(narrowed) == Narrowing(((1, 2, b"x"),), b"ab")
