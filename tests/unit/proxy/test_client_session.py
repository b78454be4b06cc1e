"""ClientSession: the page a request travels down, each station with its refusal."""

import dataclasses
from typing import Any

import pytest
from bson import Binary, Int64

from mongoguard.authn.scram import SCRAM_SHA_256, derive_credentials
from mongoguard.authn.scram_client import ScramClientConversation, ScramPassword
from mongoguard.effects import AskUpstream, Emit, FetchUser, Now, RandomBytes, Relay
from mongoguard.errors import (
    NoServerForReadPreference,
    ProtocolError,
    UpstreamConnectionLost,
    UpstreamUnavailable,
)
from mongoguard.model.names import RoleName, UserName
from mongoguard.model.resource_pattern import CLUSTER, ResourcePattern
from mongoguard.proxy.client_session import ClientSession
from mongoguard.proxy.deployment import Impersonation
from mongoguard.proxy.identity import session_digest
from mongoguard.proxy.settings import SessionSettings
from tests.playbook import NOW, Play, Recorder, logged_in, make_session, relayed, reply_of, user_with
from tests.rawwire import EXHAUST_ALLOWED, MORE_TO_COME, message, op_msg, sequence_section
from tests.unit.wire.cases import CASES, CLOSED, Case, document_of, element

SHOP = ResourcePattern.for_database("shop")
ALICE = user_with({SHOP: frozenset({"find", "insert"})})
ROOT = user_with({ResourcePattern.for_any_resource(): frozenset({"anyAction"})}, UserName("root", "admin"))
IMPERSONATOR = user_with({SHOP: frozenset({"find"}), CLUSTER: frozenset({"impersonate"})})
FIND = {"find": "orders", "$db": "shop"}
LSID = {"id": Binary(b"s" * 16, 4)}
OK = {"ok": 1.0}


def refused(session: ClientSession, data: bytes) -> dict[str, Any]:
    """A refusal of rights: audited exactly once, relayed never."""
    play = Play(session).send(data)
    event = play.emitted()
    assert (event.atype, event.result) == ("authCheck", play.reply()["code"])
    return play.reply()


def answered(session: ClientSession, data: bytes) -> dict[str, Any]:
    """A refusal that nobody need know of."""
    return Play(session).send(data).reply()


# ---- bytes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_message_is_answered_or_closed_as_its_case_says(case: Case):
    recorder = Recorder()
    if case.answer == CLOSED and case.data[12:16] != b"\xd5\7\0\0":
        with pytest.raises(ProtocolError):
            recorder.run(make_session(ROOT).handle(case.data))
    elif isinstance(case.answer, int):
        reply = Play(make_session(ROOT)).send(case.data).reply()
        assert (reply["ok"], reply["code"]) == (0.0, case.answer)
    else:
        recorder.run(make_session(ROOT).handle(case.data))


def test_a_damaged_message_that_wants_no_reply_gets_none():
    damaged = document_of(element(0x20, b"a", b""), base=FIND)
    Play(make_session(ALICE)).send(op_msg(damaged, flags=MORE_TO_COME)).silence()
    assert answered(make_session(ALICE), op_msg(damaged))["code"] == 22


def test_a_reply_names_its_request_and_has_an_id_of_its_own():
    session = make_session()
    ids = set()
    for request_id in (5, 6):
        play = Play(session).send(op_msg({"ping": 1, "$db": "admin"}, request_id=request_id))
        assert play.raw is not None
        assert int.from_bytes(play.raw[8:12], "little") == request_id
        ids.add(play.raw[4:8])
    assert len(ids) == 2


def test_the_ids_of_replies_start_again_before_they_are_negative():
    session = make_session()
    session._next_request_id = 0x7FFFFFFE
    assert [session.request_id(), session.request_id()] == [0x7FFFFFFF, 1]


# ---- command --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"find": "orders"}, 40571),
        ({"find": "orders", "$db": 5}, 13111),
        ({"find": "orders", "$db": ""}, 73),
        ({"find": "orders", "$db": "a.b"}, 73),
        ({"find": "orders", "$db": "a\0b"}, 73),
        ({"find": "orders", "$db": "a/b"}, 73),
        ({"find": "orders", "$db": "é" * 32}, 73),
        ({"nonsense": 1, "$db": "shop"}, 59),
        ({"FIND": "orders", "$db": "shop"}, 59),
        ({"$db": "shop", "find": "orders"}, 59),
        ({"comment": 1, "find": "orders", "$db": "shop"}, 59),
        ({**FIND, "apiVersion": "2"}, 322),
    ],
)
@pytest.mark.parametrize("user", [None, ROOT], ids=["nobody", "root"])
def test_what_is_no_command_is_refused_whoever_asks(user: Any, body: dict[str, Any], code: int):
    assert answered(make_session(user), op_msg(body))["code"] == code


def test_the_longest_database_name_is_a_name():
    Play(make_session(ROOT)).send(op_msg({"find": "c", "$db": "x" * 63})).expect(Relay)


def test_an_unknown_command_is_named():
    assert answered(make_session(), op_msg({"x": 1, "$db": "a"}))["errmsg"] == "no such command: 'x'"


def test_an_admin_command_elsewhere_is_refused_before_any_login():
    reply = refused(make_session(), op_msg({"shutdown": 1, "$db": "shop"}))
    assert (reply["code"], reply["errmsg"]) == (13, "shutdown may only be run against the admin database.")


def test_a_command_needs_a_login():
    reply = refused(make_session(), op_msg(FIND))
    assert (reply["code"], reply["codeName"], reply["errmsg"]) == (
        13,
        "Unauthorized",
        "command find requires authentication",
    )
    alias = refused(make_session(), op_msg({"findandmodify": "c", "$db": "shop"}))
    assert alias["errmsg"] == "command findAndModify requires authentication"


def test_a_transaction_of_nobody_is_refused():
    assert (
        answered(make_session(), op_msg({"ping": 1, "txnNumber": Int64(1), "$db": "admin"}))["code"] == 50889
    )


@pytest.mark.parametrize("name", ["hello", "isMaster", "ismaster", "authenticate"])
def test_what_must_not_be_compressed_closes_the_connection_when_it_is(name: str):
    data = op_msg({name: 1, "$db": "admin"})
    with pytest.raises(ProtocolError):
        Play(make_session()).send(data, compressed=True)
    Play(make_session()).send(op_msg({"ping": 1, "$db": "admin"}), compressed=True).reply()


@pytest.mark.parametrize("name", ["saslStart", "saslContinue"])
def test_a_compressed_login_is_checked_as_any_other(name: str):
    """Perl's driver compresses them; neither of these is more than a name."""
    data = op_msg({name: 1, "$db": "admin"})
    replies = [Play(make_session()).send(data, compressed=compressed).reply() for compressed in (True, False)]
    assert replies[0] == replies[1]
    assert replies[0]["ok"] == 0.0


# ---- decision -------------------------------------------------------------------------------------------------------


def test_what_the_privileges_allow_is_relayed_and_the_reply_comes_back_as_it_is():
    answer = reply_of(
        {"cursor": {"firstBatch": [{"_id": 1}], "id": Int64(0), "ns": "shop.orders"}, "ok": 1.0}
    )
    play = Play(make_session(ALICE)).send(op_msg(FIND)).expect(Relay).answer(answer)
    assert play.raw == answer.message


def test_what_they_do_not_allow_is_refused_with_the_command_in_the_text():
    reply = refused(make_session(ALICE), op_msg({"find": "orders", "filter": {"a": 1}, "$db": "other"}))
    assert reply["errmsg"] == (
        'not authorized on other to execute command { find: "orders", filter: { a: 1 }, $db: "other" }'
    )
    assert "errInfo" not in reply


def test_a_refusal_that_wants_no_reply_is_audited_and_silent():
    play = Play(make_session(ALICE)).send(op_msg({"find": "o", "$db": "other"}, flags=MORE_TO_COME))
    assert play.emitted().result == 13
    play.silence()


def test_an_allowed_command_that_wants_no_reply_is_relayed_and_silent():
    data = op_msg(
        {"insert": "orders", "$db": "shop"}, sequence_section("documents", [{}]), flags=MORE_TO_COME
    )
    asked = Play(make_session(ALICE)).send(data).expect(Relay)
    assert asked.effect.message[16:20] == bytes(4)
    asked.answer(reply_of(OK)).silence()


def test_exhaust_is_never_relayed():
    asked = Play(make_session(ALICE)).send(op_msg(FIND, flags=EXHAUST_ALLOWED)).expect(Relay)
    assert asked.effect.message[16:20] == bytes(4)


def test_explained_denials_name_what_is_missing():
    session = make_session(ALICE, settings=SessionSettings(explain_denials=True))
    reply = refused(session, op_msg({"find": "orders", "$db": "other"}))
    assert reply["errInfo"] == {
        "missing": [{"resource": {"db": "other", "collection": "orders"}, "actions": ["find"]}]
    }


def test_explained_denials_name_what_is_too_much():
    view = ResourcePattern.for_exact_namespace("shop", "v")
    user = user_with({SHOP: frozenset({"createCollection"}), view: frozenset({"find"})})
    session = make_session(user, settings=SessionSettings(explain_denials=True))
    reply = refused(session, op_msg({"create": "v", "viewOn": "secrets", "pipeline": [], "$db": "shop"}))
    assert reply["errInfo"]["missing"] or reply["errInfo"]["excess"]
    blind = make_session(user_with({SHOP: frozenset({"createCollection"})}))
    Play(blind).send(op_msg({"create": "v", "viewOn": "secrets", "pipeline": [], "$db": "shop"})).expect(
        Relay
    )


def test_an_audited_refusal_tells_who_what_and_what_is_missing():
    play = Play(make_session(ALICE)).send(op_msg({"find": "orders", "filter": {"ssn": "1"}, "$db": "other"}))
    event = play.emitted()
    assert (event.users, event.roles) == ((ALICE.name,), (RoleName("clerk", "shop"),))
    assert (event.param["command"], event.param["ns"]) == ("find", "other.orders")
    assert event.param["missing"] == [
        {"resource": {"db": "other", "collection": "orders"}, "actions": ["find"]}
    ]
    assert "'1'" not in repr(event.param["args"])


def test_allowed_commands_are_audited_when_that_is_configured():
    session = make_session(ALICE, settings=SessionSettings(audit_authorization_success=True))
    play = Play(session).send(op_msg(FIND))
    assert play.emitted().result == 0
    play.expect(Relay)
    Play(make_session(ALICE)).send(op_msg(FIND)).expect(Relay)


@pytest.mark.parametrize("user", [None, ALICE, ROOT], ids=["nobody", "alice", "root"])
def test_a_refusal_of_a_name_that_is_no_utf8_is_audited_too(user: Any):
    data = op_msg(document_of(element(2, b"find", b"\2\0\0\0\xff\0"), element(2, b"$db", b"\2\0\0\0x\0")))
    play = Play(make_session(user)).send(data)
    if user is None:
        event = play.emitted()
        assert (event.result, event.param["ns"]) == (13, "x")
        assert play.reply()["code"] == 13
    else:
        assert play.reply()["code"] == 22


@pytest.mark.parametrize("name", ["mayBypassWriteBlocking", "maxTimeMSOpOnly", "$configTime"])
def test_an_argument_between_servers_is_refused_and_audited(name: str):
    data = op_msg({**FIND, name: True})
    assert refused(make_session(ALICE), data)["ok"] == 0.0
    Play(make_session(ROOT)).send(data).expect(Relay)


def test_a_command_that_is_never_done_is_refused_to_root_and_audited():
    play = Play(make_session(ROOT)).send(op_msg({"replSetHeartbeat": "x", "$db": "admin"}))
    assert play.emitted().param["reason"]
    assert play.reply()["ok"] == 0.0


def test_users_cannot_be_managed_where_they_come_from_a_file():
    data = op_msg({"dropUser": "bob", "$db": "shop"})
    session = make_session(ROOT, settings=SessionSettings(relays_user_management=False))
    assert answered(session, data)["code"] == 115
    Play(make_session(ROOT)).send(data).expect(Relay)


def test_without_authorization_nobody_may_do_everything():
    session = make_session(settings=SessionSettings(authorization_enabled=False))
    assert relayed(Play(session).send(op_msg(FIND)).expect(Relay).effect) == FIND


# ---- relay ----------------------------------------------------------------------------------------------------------


def test_the_upstream_is_told_who_asks_and_whose_session_it_is():
    document = relayed(Play(make_session(ALICE)).send(op_msg({**FIND, "lsid": LSID})).expect(Relay).effect)
    assert document == {
        **FIND,
        "lsid": {**LSID, "uid": session_digest(ALICE.name)},
        "$audit": {
            "$impersonatedUsers": [{"user": "alice", "db": "shop"}],
            "$impersonatedRoles": [{"role": "clerk", "db": "shop"}],
        },
    }


def test_later_servers_are_told_with_one_user():
    session = make_session(ALICE, impersonation=Impersonation.USER)
    document = relayed(Play(session).send(op_msg(FIND)).expect(Relay).effect)
    assert document["$audit"]["$impersonatedUser"] == {"user": "alice", "db": "shop"}


def test_a_server_without_impersonation_is_told_nothing():
    session = make_session(ALICE, impersonation=Impersonation.NONE)
    document = relayed(Play(session).send(op_msg({**FIND, "lsid": LSID})).expect(Relay).effect)
    assert "$audit" not in document
    assert set(document["lsid"]) == {"id"}
    assert document["lsid"] != LSID
    again = relayed(Play(session).send(op_msg({**FIND, "lsid": LSID})).expect(Relay).effect)
    assert again == document


@pytest.mark.parametrize(
    "lsid", [5, {}, {"id": 5}, {"id": Binary(b"short", 4)}, {"id": Binary(b"s" * 16, 3)}, []]
)
@pytest.mark.parametrize("impersonation", [Impersonation.USERS, Impersonation.NONE])
def test_an_lsid_that_is_none_is_refused(lsid: Any, impersonation: Impersonation):
    session = make_session(ALICE, impersonation=impersonation)
    assert answered(session, op_msg({**FIND, "lsid": lsid}))["ok"] == 0.0


def test_a_null_lsid_is_no_session():
    opened = {"cursor": {"firstBatch": [], "id": Int64(5), "ns": "shop.orders"}, "ok": 1.0}
    play = (
        Play(make_session(ALICE)).send(op_msg({**FIND, "lsid": None})).expect(Relay).answer(reply_of(opened))
    )
    assert play.reply() == opened


@pytest.mark.parametrize("uid", [None, session_digest(ALICE.name)])
def test_a_session_is_the_users_own_also_when_its_owner_is_null(uid: bytes | None):
    document = relayed(
        Play(make_session(ALICE)).send(op_msg({**FIND, "lsid": {**LSID, "uid": uid}})).expect(Relay).effect
    )
    assert document["lsid"] == {**LSID, "uid": session_digest(ALICE.name)}


def test_another_users_session_needs_impersonate():
    foreign = {**LSID, "uid": session_digest(ROOT.name)}
    data = op_msg({**FIND, "lsid": foreign})
    assert refused(make_session(ALICE), data)["code"] == 13
    assert relayed(Play(make_session(IMPERSONATOR)).send(data).expect(Relay).effect)["lsid"] == foreign


def test_an_audit_document_of_ones_own_needs_impersonate():
    own = {"$impersonatedUsers": [{"user": "root", "db": "admin"}], "$impersonatedRoles": []}
    data = op_msg({**FIND, "$audit": own})
    assert refused(make_session(ALICE), data)["errmsg"] == "Unauthorized use of impersonation metadata."
    assert relayed(Play(make_session(IMPERSONATOR)).send(data).expect(Relay).effect)["$audit"] == own


def test_no_upstream_is_a_retryable_error():
    transaction = {**FIND, "lsid": LSID, "txnNumber": Int64(1)}
    for body, labels in (
        (FIND, None),
        (transaction, ["RetryableWriteError"]),
        ({**transaction, "autocommit": False}, ["TransientTransactionError"]),
    ):
        play = Play(make_session(ALICE)).send(op_msg(body)).expect(Relay).fail(UpstreamUnavailable("away"))
        reply = play.reply()
        assert (reply["code"], reply["codeName"], reply.get("errorLabels")) == (6, "HostUnreachable", labels)


@pytest.mark.parametrize(
    "command", [FIND, {"ping": 1, "$db": "admin"}, {**FIND, "$readPreference": {"mode": "nearest"}}]
)
def test_what_a_client_is_told_of_the_upstream_names_no_server(command):
    """The reason names servers of the network behind; it is for mongoguard's log."""
    reason = UpstreamUnavailable("mongod7.internal:27017: [Errno 111] Connection refused")
    reply = Play(make_session(ALICE)).send(op_msg(command)).expect(Relay).fail(reason).reply()
    assert reply["errmsg"] == (
        "mongoguard cannot reach the upstream: no server could be used; mongoguard's log says why"
    )
    told = UpstreamUnavailable("all 5 connections to mongod7.internal:27017 are busy", told="busy")
    reply = Play(make_session(ALICE)).send(op_msg(command)).expect(Relay).fail(told).reply()
    assert reply["errmsg"] == "mongoguard cannot reach the upstream: busy"


def test_who_finds_no_server_for_a_read_is_told_the_own_read_preference():
    text = 'Could not find host matching read preference { mode: "secondary" }'
    asked = (
        Play(make_session(ALICE))
        .send(op_msg({**FIND, "$readPreference": {"mode": "secondary"}}))
        .expect(Relay)
    )
    reply = asked.fail(NoServerForReadPreference(text)).reply()
    assert (reply["code"], reply["errmsg"]) == (133, text)


def test_an_upstream_lost_in_mid_command_ends_the_clients_connection():
    asked = Play(make_session(ALICE)).send(op_msg(FIND)).expect(Relay)
    with pytest.raises(UpstreamConnectionLost):
        asked.fail(UpstreamConnectionLost("a:1"))


def test_user_management_changes_users_and_is_audited_with_its_outcome():
    data = op_msg({"createUser": "carol", "pwd": "secret", "roles": [], "$db": "shop"})
    for reply, result in ((OK, 0), ({"ok": 0.0, "code": 51003}, 51003)):
        asked = Play(make_session(ROOT)).send(data).expect(Relay)
        assert asked.effect.changes_users
        play = asked.answer(reply_of(reply))
        event = play.emitted()
        assert (event.atype, event.result) == ("createUser", result)
        assert "secret" not in repr(event)
        play.reply()
    assert not Play(make_session(ROOT)).send(op_msg(FIND)).expect(Relay).effect.changes_users


def bulk_insert(namespace):
    ops = [{"insert": 0, "document": {"_id": 1}}]
    return {"bulkWrite": 1, "ops": ops, "nsInfo": [{"ns": namespace}], "$db": "admin"}


@pytest.mark.parametrize(
    ("command", "changes"),
    [
        ({"delete": "system.users", "deletes": [{"q": {}, "limit": 1}], "$db": "admin"}, True),
        (
            {"applyOps": [{"op": "d", "ns": "admin.system.users", "o": {"_id": "admin.a"}}], "$db": "admin"},
            True,
        ),
        (bulk_insert("admin.system.users"), True),
        (bulk_insert("shop.orders"), False),
        ({"delete": "orders", "deletes": [{"q": {}, "limit": 1}], "$db": "shop"}, False),
    ],
)
def test_what_may_write_to_the_collection_of_users_changes_users(command, changes):
    relay = Play(make_session(ROOT)).send(op_msg(command)).expect(Relay)
    assert relay.effect.changes_users is changes


# ---- who ------------------------------------------------------------------------------------------------------------


def test_a_message_before_login_is_small():
    settings = SessionSettings()
    assert make_session().max_message_bytes == settings.max_unauthenticated_bytes
    assert make_session(ALICE).max_message_bytes == settings.max_message_bytes
    open_to_all = make_session(settings=SessionSettings(authorization_enabled=False))
    assert open_to_all.max_message_bytes == settings.max_message_bytes


def stale(user: Any = ALICE) -> ClientSession:
    session = make_session(user)
    Play(session).send(op_msg(FIND)).expect(Relay)
    session.invalidate()
    return session


def test_changed_privileges_hold_for_the_next_command():
    asked = Play(stale()).send(op_msg(FIND)).expect(FetchUser)
    assert asked.effect.request.name == ALICE.name
    play = asked.answer(user_with({}))
    assert play.emitted().result == 13
    assert play.reply()["code"] == 13


def test_unchanged_privileges_are_asked_for_once():
    session = stale()
    Play(session).send(op_msg(FIND)).expect(FetchUser).answer(ALICE).expect(Relay)
    Play(session).send(op_msg(FIND)).expect(Relay)


@pytest.mark.parametrize("fresh", [None, user_with({}, user_id=b"another")])
def test_a_dropped_user_is_logged_out(fresh: Any):
    session = stale()
    play = Play(session).send(op_msg(FIND)).expect(FetchUser).answer(fresh)
    assert play.emitted().atype == "logout"
    assert play.emitted().result == 13
    assert play.reply()["errmsg"] == "command find requires authentication"
    assert session.user is None


def test_a_directory_that_is_away_denies_and_is_asked_again():
    session = stale()
    reply = Play(session).send(op_msg(FIND)).expect(FetchUser).fail(UpstreamUnavailable("away")).effect
    assert reply is None or isinstance(reply, Emit)
    play = Play(session).send(op_msg(FIND))
    play.expect(FetchUser).answer(ALICE).expect(Relay)


def test_nobody_need_not_be_refreshed():
    session = make_session()
    session.invalidate()
    assert answered(session, op_msg({"ping": 1, "$db": "admin"})) == OK


@pytest.mark.parametrize("before", [None, ALICE], ids=["nobody", "the same user"])
def test_a_login_that_began_before_a_change_does_not_outlive_it(before: Any):
    """A conversation ends in the user as it was at its first message; a client may hold it open as long as it likes."""
    mechanism = SCRAM_SHA_256
    stored = derive_credentials(mechanism, "alice", "secret", b"s" * mechanism.salt_bytes, 4096)
    session = make_session(before)
    client = ScramClientConversation(ScramPassword(mechanism, "alice", "secret"), b"n" * 24)
    start = {"saslStart": 1, "mechanism": mechanism.name, "options": {"skipEmptyExchange": True}}
    asked = Play(session).send(op_msg({**start, "payload": client.first(), "$db": "shop"})).expect(FetchUser)
    trusted = dataclasses.replace(ALICE, credentials={mechanism.name: stored})
    answer = asked.answer(trusted).expect(RandomBytes).answer(b"r" * 24).reply()
    session.invalidate()
    if before is not None:
        lost = Play(session).send(op_msg(FIND)).expect(FetchUser).answer(user_with({}))
        assert lost.emitted().result == 13
    final = {
        "saslContinue": 1,
        "conversationId": 1,
        "payload": client.final(answer["payload"]),
        "$db": "shop",
    }
    play = Play(session).send(op_msg(final))
    if before is not None:
        play.expect(FetchUser).answer(user_with({}))
    play.expect(Now).answer(NOW).expect(Now).answer(NOW)  # is the name blocked, before the proof and after it
    assert play.emitted().result == 0
    assert play.reply()["done"] is True
    denied = Play(session).send(op_msg(FIND)).expect(FetchUser).answer(user_with({}))
    assert denied.emitted().result == 13
    assert denied.reply()["code"] == 13
    still_denied = Play(session).send(op_msg(FIND))
    assert still_denied.emitted().result == 13


def test_a_login_and_a_logout_hold_for_the_next_command():
    session = make_session()
    assert refused(session, op_msg(FIND))["code"] == 13
    Play(logged_in(session, ALICE)).send(op_msg(FIND)).expect(Relay)
    play = Play(session).send(op_msg({"logout": 1, "$db": "shop"}))
    assert play.emitted().atype == "logout"
    assert play.reply() == OK
    assert refused(session, op_msg(FIND))["code"] == 13


def test_ping_is_relayed_only_for_who_is_logged_in():
    data = op_msg({"ping": 1, "$db": "admin"})
    assert answered(make_session(), data) == OK
    Play(make_session(ALICE)).send(data).expect(Relay)


@pytest.mark.parametrize("lsid", [LSID, {**LSID, "uid": None}], ids=["plain", "with a null uid"])
def test_a_session_that_a_stranger_names_does_not_reach_the_upstream(lsid: dict[str, Any]):
    """As the service user's it would count, and a server has room for a million."""
    body = {"listCommands": 1, "lsid": lsid, "comment": "x", "$db": "admin"}
    asked = Play(make_session()).send(op_msg(body)).expect(AskUpstream).effect
    assert (asked.db, asked.command) == ("admin", {"listCommands": 1})
    assert "lsid" in relayed(Play(make_session(ALICE)).send(op_msg(body)).expect(Relay).effect)
    open_to_all = make_session(settings=SessionSettings(authorization_enabled=False))
    assert "lsid" in relayed(Play(open_to_all).send(op_msg(body)).expect(Relay).effect)


def test_hello_needs_no_login():
    Play(make_session()).send(op_msg({"hello": 1, "$db": "admin"})).expect(Now).answer(NOW).reply()


def test_an_old_opcode_closes_the_connection():
    with pytest.raises(ProtocolError):
        Play(make_session(ROOT)).send(message(2002, bytes(20)))
