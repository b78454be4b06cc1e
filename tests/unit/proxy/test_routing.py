"""Which server a request asks for."""

import dataclasses
import uuid

import pytest
from bson import Binary, Int64

from mongoguard.command.read_preference import ReadPreference, ReadPreferenceMode
from mongoguard.effects import Relay, StateChanged
from mongoguard.errors import CommandError, NoServerForReadPreference
from mongoguard.model.resource_pattern import ResourcePattern
from mongoguard.proxy.deployment import PresentAs
from mongoguard.proxy.relaying import Narrowing
from mongoguard.proxy.replica_set import Advertised
from mongoguard.proxy.routing import PRIMARY_ROUTE, Route, route_of
from mongoguard.wire.document import encode_element
from mongoguard.wire.message import parse_message
from tests.playbook import Play, make_session, relayed, reply_of, user_with
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


# ---- on the page ----------------------------------------------------------------------------------------------------

READER = user_with({ResourcePattern.for_database("shop"): frozenset({"find", "insert"})})
NOBODY = user_with({})
NOT_PRIMARY = {"topologyVersion": {"counter": 3}, "ok": 0.0, "errmsg": "not primary", "code": 10107}


def with_default(session, preference):
    session.deployment.current = dataclasses.replace(
        session.deployment.current, default_read_preference=preference
    )
    return session


def test_a_preference_is_asked_of_the_shell_only_after_the_decision():
    read = op_msg({**FIND, "$readPreference": {"mode": "secondary"}})
    asked = Play(make_session(READER)).send(read).expect(Relay)
    assert asked.effect.read_preference == SECONDARY
    assert relayed(asked.effect)["$readPreference"] == {"mode": "secondary"}
    play = Play(make_session(NOBODY)).send(read)
    assert play.emitted().result == 13
    assert play.reply()["code"] == 13


def test_what_the_default_appends_is_relayed_behind_what_was_checked():
    session = with_default(make_session(READER), NEAR_EAST)
    sent = relayed(Play(session).send(op_msg(FIND)).expect(Relay).effect)
    assert sent["$readPreference"] == {
        "mode": "nearest",
        "tags": [{"dc": "east"}, {}],
        "maxStalenessSeconds": 120,
    }
    assert list(sent)[:2] == ["find", "$db"]
    asked = Play(session).send(op_msg(INSERT)).expect(Relay)
    assert asked.effect.read_preference is None
    assert "$readPreference" not in relayed(asked.effect)


def test_a_getmore_follows_its_cursor_and_no_preference():
    session = with_default(make_session(READER), SECONDARY)
    first = {"cursor": {"firstBatch": [], "id": Int64(5), "ns": "shop.orders"}, "ok": 1.0}
    Play(session).send(op_msg(FIND)).expect(Relay).answer(reply_of(first, server="b:2")).reply()
    more = op_msg({"getMore": Int64(5), "collection": "orders", "$db": "shop"})
    asked = Play(session).send(more).expect(Relay)
    assert asked.effect.server == "b:2"
    assert "$readPreference" not in relayed(asked.effect)


def test_no_server_for_a_preference_is_an_error_of_its_own():
    read = op_msg({**FIND, "$readPreference": {"mode": "secondary"}})
    error = NoServerForReadPreference("Could not find host matching read preference")
    reply = Play(make_session(READER)).send(read).expect(Relay).fail(error).reply()
    assert (reply["code"], reply["codeName"]) == (133, "FailedToSatisfyReadPreference")


ONE_FOR_ALL = Advertised("guard:1")
ONE_EACH = Advertised(members={"a:1": "guard:1"})


@pytest.mark.parametrize(
    ("present_as", "advertised", "code"),
    [
        (PresentAs.MONGOS, None, 6),
        (PresentAs.REPLICA_SET, ONE_FOR_ALL, 6),
        (PresentAs.REPLICA_SET, ONE_EACH, 10107),
        (PresentAs.STANDALONE, None, 10107),
    ],
)
def test_a_state_change_is_told_to_the_shell_and_to_the_client_as_what_this_is_presented_as(
    present_as, advertised, code
):
    session = make_session(READER, present_as=present_as)
    session.deployment.advertised = advertised
    play = Play(session).send(op_msg(FIND))
    play = play.expect(Relay).answer(reply_of(NOT_PRIMARY, server="a:1"))
    told = play.expect(StateChanged)
    assert told.effect == StateChanged("a:1", False, {"counter": 3})
    assert told.answer(None).reply()["code"] == code


LINEARIZABLE = {**FIND, "readConcern": {"level": "linearizable"}, "$readPreference": {"mode": "secondary"}}


def test_a_reader_cannot_have_a_secondary_doubted_by_asking_it_for_what_a_primary_does():
    session = make_session(READER, present_as=PresentAs.MONGOS)
    asked = Play(session).send(op_msg(LINEARIZABLE)).expect(Relay)
    assert asked.answer(reply_of(NOT_PRIMARY, server="b:2")).reply()["code"] == 6


@pytest.mark.parametrize("code", [91, 11602, 13436])
def test_a_secondary_that_ends_or_recovers_says_so_to_readers(code):
    session = make_session(READER)
    asked = Play(session).send(op_msg(LINEARIZABLE)).expect(Relay)
    told = asked.answer(reply_of({**NOT_PRIMARY, "code": code}, server="b:2")).expect(StateChanged)
    assert told.effect.server == "b:2"
