"""Sessions whose proof has expired: what is still served, and how often a client is asked for a newer proof."""

import pytest
from bson import Int64

from mongoguard.authn.conversation import Expiry
from mongoguard.command.catalog import find_row
from mongoguard.effects import Now, Relay
from mongoguard.errors import CommandError, ProtocolError
from mongoguard.model.resource_pattern import ResourcePattern
from mongoguard.proxy.reauthentication import FINISHING, GRACE_SECS, MAX_REQUESTS, Reauthentication
from tests.playbook import NOW, Play, make_session, reply_of, user_with
from tests.rawwire import op_msg

TOKEN = Expiry(NOW, reauthenticates=True)
CERTIFICATE = Expiry(NOW)
READER = user_with({ResourcePattern.for_database("shop"): frozenset({"find"})})
FIND = op_msg({"find": "orders", "$db": "shop"})


def row(name):
    found = find_row(name)
    assert found is not None
    return found


def asked(state, name="find", now=NOW):
    """Whether the client is asked for a newer proof."""
    try:
        state.check(TOKEN, row(name), now)
    except CommandError as error:
        assert (error.code, error.labels) == (391, ())
        return True
    return False


def test_the_instant_of_expiry_is_past_it():
    assert not asked(Reauthentication(), now=NOW - 0.001)
    assert asked(Reauthentication(), now=NOW)


@pytest.mark.parametrize(
    "name", ["saslStart", "saslContinue", "hello", "isMaster", "ping", "buildInfo", "connectionStatus"]
)
def test_what_needs_no_login_is_answered_for_ever_so_that_the_client_can_log_in_again(name):
    assert not asked(Reauthentication(), name, NOW + 10 * GRACE_SECS)


@pytest.mark.parametrize("name", sorted(FINISHING))
def test_what_was_begun_may_be_ended_within_the_grace_and_not_after_it(name):
    assert not asked(Reauthentication(), name, NOW + GRACE_SECS - 0.001)
    assert asked(Reauthentication(), name, NOW + GRACE_SECS)


@pytest.mark.parametrize(
    "name", ["find", "insert", "aggregate", "killOp", "killSessions", "createUser", "explain"]
)
def test_nothing_new_is_begun_in_the_grace(name):
    assert asked(Reauthentication(), name, NOW + 1)


def test_a_client_that_is_asked_again_and_again_is_sent_away():
    state = Reauthentication()
    assert [asked(state) for _ in range(MAX_REQUESTS)] == [True] * MAX_REQUESTS
    with pytest.raises(ProtocolError, match="again and again"):
        asked(state)


@pytest.mark.parametrize("name", ["saslStart", "hello"])
def test_what_needs_no_login_in_between_does_not_count_as_a_newer_proof(name):
    state = Reauthentication()
    for _ in range(MAX_REQUESTS):
        assert asked(state)
        state.check(Expiry(NOW + 1, reauthenticates=True), row(name), NOW)
    with pytest.raises(ProtocolError):
        asked(state)


def test_a_command_that_was_served_in_between_begins_the_count_anew():
    state = Reauthentication()
    for _ in range(3 * MAX_REQUESTS):
        assert asked(state)
        state.check(Expiry(NOW + 1, reauthenticates=True), row("find"), NOW)


@pytest.mark.parametrize("name", ["find", "getMore", "hello", "saslStart"])
def test_a_proof_that_can_not_be_renewed_ends_the_connection(name):
    Reauthentication().check(CERTIFICATE, row(name), NOW - 1)
    with pytest.raises(ProtocolError, match="expired"):
        Reauthentication().check(CERTIFICATE, row(name), NOW)


# ---- on a connection ------------------------------------------------------------------------------------------------


def session_until(at):
    session = make_session(READER)
    session.authentication._expiry = Expiry(at, reauthenticates=True)
    return session


def test_an_expired_session_relays_nothing_and_says_so_in_code_391():
    play = Play(session_until(NOW - 1)).send(FIND)
    play.expect(Now).answer(NOW)
    reply = play.reply()
    assert (reply["code"], reply["codeName"]) == (391, "ReauthenticationRequired")
    assert "errorLabels" not in reply


def test_a_session_that_holds_is_served():
    play = Play(session_until(NOW + 1)).send(FIND)
    play.expect(Now).answer(NOW)
    play.expect(Relay)


def test_a_cursor_goes_on_within_the_grace_on_the_same_connection():
    session = session_until(NOW + 1)
    opening = Play(session).send(FIND)
    opening.expect(Now).answer(NOW)
    cursor = {"id": Int64(77), "ns": "shop.orders", "firstBatch": [{}]}
    opening.expect(Relay).answer(reply_of({"cursor": cursor, "ok": 1.0})).reply()
    get_more = op_msg({"getMore": Int64(77), "collection": "orders", "$db": "shop"})
    within = Play(session).send(get_more)
    within.expect(Now).answer(NOW + GRACE_SECS)
    within.expect(Relay)
    beyond = Play(session).send(get_more)
    beyond.expect(Now).answer(NOW + 1 + GRACE_SECS)
    assert beyond.reply()["code"] == 391


def test_a_write_that_wants_no_reply_is_not_done_and_ends_the_connection_when_repeated():
    session = session_until(NOW - 1)
    insert = op_msg({"insert": "orders", "documents": [{}], "$db": "shop"}, flags=2)
    for _ in range(MAX_REQUESTS):
        play = Play(session).send(insert)
        play.expect(Now).answer(NOW)
        play.silence()
    flow = session.handle(insert)
    assert isinstance(next(flow), Now)
    with pytest.raises(ProtocolError):
        flow.send(NOW)
