"""The localhost exception: who has it, until when, and what it grants."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from mongoguard.effects import AskUpstream, Relay
from mongoguard.errors import UpstreamUnavailable
from mongoguard.model.names import UserName
from mongoguard.model.restriction import Peer
from mongoguard.proxy.client_session import ClientSession
from mongoguard.proxy.localhost_exception import LocalhostException
from mongoguard.proxy.settings import SessionSettings
from tests.playbook import Play, Recorder, decoded, logged_in, make_session, relayed, reply_of, user_with
from tests.rawwire import op_msg

LOOPBACK = Peer(ip_address("127.0.0.1"), ip_address("127.0.0.1"), 40001, 27017)
SERVICE = UserName("svc", "admin")
CREATE = {
    "createUser": "boss",
    "pwd": "x",
    "roles": [{"role": "root", "db": "admin"}, "readWrite"],
    "$db": "admin",
}
NONE: dict[str, Any] = {"cursor": {"firstBatch": [], "id": 0, "ns": ""}, "ok": 1.0}
SOME: dict[str, Any] = {"cursor": {"firstBatch": [{"_id": "shop.alice"}], "id": 0, "ns": ""}, "ok": 1.0}
SERVICE_INFO = {
    "users": [{"user": "svc", "db": "admin", "roles": [{"role": "svcRole", "db": "admin"}]}],
    "ok": 1.0,
}


def local_session(
    peer: Peer = LOOPBACK, *, exception: LocalhostException | None = None, enabled: bool = True
) -> ClientSession:
    """A session of nobody, from `peer`."""
    session = make_session(localhost_exception=enabled)
    session.peer = peer
    if exception is not None:
        session._localhost_exception = exception
    return session


def allowed(session: ClientSession, body: dict[str, Any]) -> bool:
    """Whether it is relayed while the upstream has no users; every refusal is code 13."""
    recorder = Recorder()
    reply = recorder.run(session.handle(op_msg(body)))
    assert reply is not None
    return bool(recorder.relays)


def refusal(session: ClientSession, body: dict[str, Any]) -> dict[str, Any]:
    """The reply to what is refused while the upstream has no users."""
    recorder = Recorder()
    reply = recorder.run(session.handle(op_msg(body)))
    assert reply is not None
    assert not recorder.relays
    return decoded(reply)


# ---- who has it -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("client", ["127.0.0.1", "127.0.0.2", "127.255.255.254", "::1", None])
def test_a_local_peer_makes_the_first_user(client: str | None):
    address = None if client is None else ip_address(client)
    assert allowed(local_session(Peer(address, address)), CREATE)


@pytest.mark.parametrize(
    "client",
    [
        "128.0.0.1",
        "10.0.0.1",
        "192.0.2.7",
        "0.0.0.0",
        "::",
        "::2",
        "fe80::1",
        "2001:db8::1",
        "::ffff:127.0.0.1",
    ],
)
def test_a_remote_peer_does_not_and_the_upstream_is_not_even_asked(client: str):
    session = local_session(Peer(ip_address(client), ip_address("127.0.0.1")))
    play = Play(session).send(op_msg(CREATE))
    assert play.emitted().result == 13
    assert play.reply()["errmsg"] == "command createUser requires authentication"


@pytest.mark.parametrize("client", ["127.0.0.1", "::1", "192.0.2.7", None])
def test_a_peer_behind_a_balancer_is_never_local_whatever_the_balancer_says(client: str | None):
    address = None if client is None else ip_address(client)
    play = Play(local_session(Peer(address, address, is_proxied=True))).send(op_msg(CREATE))
    assert play.emitted().result == 13
    assert play.reply()["errmsg"] == "command createUser requires authentication"


def test_switched_off_it_grants_nothing_and_nobody_is_asked():
    play = Play(local_session(enabled=False)).send(op_msg(CREATE))
    assert play.emitted().result == 13
    assert play.reply()["errmsg"] == "command createUser requires authentication"


def test_who_is_logged_in_has_no_more_than_his_own_rights():
    session = logged_in(local_session(), user_with())
    play = Play(session).send(op_msg(CREATE))
    assert play.emitted().result == 13
    assert play.reply()["errmsg"].startswith("not authorized on admin to execute command { createUser:")


def test_after_a_logout_it_is_there_again_while_there_are_no_users():
    session = logged_in(local_session(), user_with())
    Play(session).send(op_msg({"listCommands": 1, "$db": "admin"}))
    assert allowed(logged_in(session, None), CREATE)


def test_without_authorization_nobody_is_asked():
    session = make_session(settings=SessionSettings(authorization_enabled=False), localhost_exception=True)
    session.peer = LOOPBACK
    Play(session).send(op_msg(CREATE)).expect(Relay)


# ---- until when -----------------------------------------------------------------------------------------------------


def test_users_and_roles_are_looked_for_without_the_services_own():
    play = Play(local_session()).send(op_msg(CREATE))
    asked = play.expect(AskUpstream)
    assert asked.effect.command == {"usersInfo": {"user": "svc", "db": "admin"}}
    asked = asked.answer(SERVICE_INFO).expect(AskUpstream)
    assert (asked.effect.db, asked.effect.command["find"]) == ("admin", "system.users")
    assert asked.effect.command["filter"] == {"_id": {"$nin": ["admin.svc"]}}
    asked = asked.answer(NONE).expect(AskUpstream)
    assert (asked.effect.db, asked.effect.command["find"]) == ("admin", "system.roles")
    assert asked.effect.command["filter"] == {"_id": {"$nin": ["admin.svcRole"]}}
    asked.answer(NONE).expect(Relay)


def test_without_a_service_user_every_user_and_role_counts():
    exception = LocalhostException(enabled=True, service=None)
    asked = Play(local_session(exception=exception)).send(op_msg(CREATE)).expect(AskUpstream)
    assert asked.effect.command["find"] == "system.users"
    asked = asked.answer(NONE).expect(AskUpstream)
    assert asked.effect.command["filter"] == {"_id": {"$nin": []}}
    asked.answer(NONE).expect(Relay)


@pytest.mark.parametrize("answers", [[SERVICE_INFO, SOME], [SERVICE_INFO, NONE, SOME]], ids=["user", "role"])
def test_a_user_or_a_role_closes_it_for_ever_and_for_every_connection(answers: list[dict[str, Any]]):
    exception = LocalhostException(enabled=True, service=SERVICE)
    play = Play(local_session(exception=exception)).send(op_msg(CREATE))
    for answer in answers:
        play = play.expect(AskUpstream).answer(answer)
    assert play.emitted().result == 13
    assert play.reply()["errmsg"] == "command createUser requires authentication"
    # Not asked again, although the upstream would now say that there are none.
    assert not allowed(local_session(exception=exception), CREATE)
    again = Play(local_session(exception=exception)).send(op_msg({"features": 1, "$db": "admin"}))
    assert again.emitted().result == 13


def test_it_ends_on_a_connection_that_had_it():
    session = local_session(exception=LocalhostException(enabled=True, service=SERVICE))
    assert allowed(session, CREATE)
    play = Play(session).send(op_msg(CREATE)).expect(AskUpstream).answer(SERVICE_INFO)
    play = play.expect(AskUpstream).answer(SOME)
    assert play.emitted().result == 13
    assert session.authorization.user is None


@pytest.mark.parametrize("number", [0, 1, 2], ids=["usersInfo", "users", "roles"])
def test_an_upstream_that_does_not_answer_closes_it_for_that_command_only(number: int):
    session = local_session(exception=LocalhostException(enabled=True, service=SERVICE))
    play = Play(session).send(op_msg(CREATE))
    for answer in (SERVICE_INFO, NONE)[:number]:
        play = play.expect(AskUpstream).answer(answer)
    play = play.expect(AskUpstream).fail(UpstreamUnavailable("away"))
    assert play.emitted().result == 13
    assert play.reply()["errmsg"] == "command createUser requires authentication"
    assert allowed(session, CREATE)


@pytest.mark.parametrize("number", [0, 1, 2], ids=["usersInfo", "users", "roles"])
def test_an_upstream_that_may_not_say_closes_it_for_that_command_only(number: int):
    session = local_session(exception=LocalhostException(enabled=True, service=SERVICE))
    play = Play(session).send(op_msg(CREATE))
    for answer in (SERVICE_INFO, NONE)[:number]:
        play = play.expect(AskUpstream).answer(answer)
    play = play.expect(AskUpstream).answer({"ok": 0.0, "code": 13, "errmsg": "not authorized"})
    assert play.emitted().result == 13
    assert play.reply()["errmsg"] == "command createUser requires authentication"
    assert allowed(session, CREATE)


# ---- what it grants -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        CREATE,
        {"createUser": "CN=boss", "roles": [{"role": "root", "db": "admin"}], "$db": "$external"},
        {"createUser": "locked-out", "pwd": "x", "roles": [], "$db": "admin"},
        {"grantRolesToUser": "boss", "roles": ["root"], "$db": "admin"},
        {"replSetInitiate": {}, "$db": "admin"},
        {"replSetGetStatus": 1, "$db": "admin"},
        {"addShard": "h", "$db": "admin"},
        {"listDatabases": 1, "$db": "admin"},
        {"features": 1, "$db": "admin"},
    ],
    ids=lambda body: next(iter(body)) + "@" + body["$db"],
)
def test_it_grants_the_first_user_and_what_a_new_set_needs(body: dict[str, Any]):
    assert allowed(local_session(), body)


@pytest.mark.parametrize(
    "body",
    [
        {**CREATE, "$db": "shop", "roles": []},
        {**CREATE, "roles": [{"role": "read", "db": "shop"}]},
        {**CREATE, "roles": ["root", {"role": "read", "db": "shop"}]},
        {**CREATE, "authenticationRestrictions": []},
        {"createUser": "CN=b", "roles": [{"role": "read", "db": "shop"}], "$db": "$external"},
        {"createUser": "CN=b", "roles": ["read"], "$db": "$external"},
        {"grantRolesToUser": "boss", "roles": [{"role": "read", "db": "shop"}], "$db": "admin"},
        {"createRole": "r", "privileges": [], "roles": [], "$db": "admin"},
        {"updateUser": "boss", "pwd": "x", "$db": "admin"},
        {"updateUser": "boss", "roles": [], "$db": "admin"},
        {"dropUser": "boss", "$db": "admin"},
        {"revokeRolesFromUser": "boss", "roles": ["root"], "$db": "admin"},
        {"usersInfo": 1, "$db": "admin"},
        {"insert": "c", "documents": [{}], "$db": "admin"},
        {"insert": "system.users", "documents": [{}], "$db": "admin"},
        {"find": "system.users", "$db": "admin"},
        {"find": "orders", "$db": "shop"},
        {"serverStatus": 1, "$db": "admin"},
        {"getCmdLineOpts": 1, "$db": "admin"},
        {"getParameter": 1, "$db": "admin"},
        {"shutdown": 1, "$db": "admin"},
        {"replSetGetConfig": 1, "$db": "admin"},
        {"replSetStepDown": 1, "$db": "admin"},
        {"currentOp": 1, "$db": "admin"},
        {"currentOp": 1, "$ownOps": True, "$db": "admin"},
        *(
            {"aggregate": 1, "pipeline": pipeline, "cursor": {}, **more, "$db": "admin"}
            for pipeline, more in (
                ([], {}),
                ([{"$currentOp": {"allUsers": True}}], {}),
                ([{"$currentOp": {}}], {"explain": True}),
                ([{"$currentOp": {}}, {"$unionWith": {"coll": "x", "pipeline": []}}], {}),
                ([{"$currentOp": {}}, {"$out": "x"}], {}),
            )
        ),
        {"explain": {"aggregate": 1, "pipeline": [{"$currentOp": {}}], "cursor": {}}, "$db": "admin"},
        {"aggregate": 1, "pipeline": [{"$listLocalSessions": {}}], "cursor": {}, "$db": "admin"},
        {"killOp": 1, "op": 1, "$db": "admin"},
        {"startSession": 1, "$db": "admin"},
        {"endSessions": [], "$db": "admin"},
        {"refreshSessions": [], "$db": "admin"},
        {"killSessions": [], "$db": "admin"},
        {"listCollections": 1, "nameOnly": True, "authorizedCollections": True, "$db": "admin"},
    ],
    ids=lambda body: next(iter(body)) + "@" + body["$db"],
)
def test_it_grants_nothing_else(body: dict[str, Any]):
    reply = refusal(local_session(), body)
    assert reply["code"] == 13
    assert reply["errmsg"].lower().startswith(("not authorized ", "unauthorized "))


def test_nobody_has_operations_of_ones_own():
    """Upstream they would be the service user's; mongod answers with an empty list."""
    body = {"aggregate": 1, "pipeline": [{"$currentOp": {}}, {"$count": "n"}], "cursor": {}, "$db": "admin"}
    recorder = Recorder()
    recorder.run(local_session().handle(op_msg(body)))
    assert relayed(recorder.relays[0])["pipeline"] == [
        {"$currentOp": {}},
        {"$match": {"$expr": False}},
        {"$count": "n"},
    ]


@pytest.mark.parametrize(
    "pipeline", [5, [5], [None], [{}], [{"$currentOp": {}, "$match": {}}], [{"$currentOp": 5}]]
)
def test_what_is_no_pipeline_over_own_operations_is_not_relayed(pipeline: Any):
    recorder = Recorder()
    body = {"aggregate": 1, "pipeline": pipeline, "cursor": {}, "$db": "admin"}
    recorder.run(local_session().handle(op_msg(body)))
    assert not recorder.relays


def test_it_does_not_list_all_databases():
    reply = refusal(local_session(), {"listDatabases": 1, "authorizedDatabases": False, "$db": "admin"})
    assert (reply["code"], reply["errmsg"]) == (13, "Insufficient permissions to list all databases")


def test_what_is_malformed_is_told_so_before_anything_is_authorized():
    assert refusal(local_session(), {"createUser": "boss", "pwd": "x", "$db": "admin"})["code"] == 40414
    assert refusal(make_session(), {"createUser": "boss", "pwd": "x", "$db": "admin"})["code"] == 13


def test_its_commands_carry_nobodys_name_and_no_session():
    recorder = Recorder()
    recorder.run(local_session().handle(op_msg({**CREATE, "lsid": {"id": b"x" * 16}})))
    assert not recorder.relays, "an lsid of nobody must be well-formed"
    recorder.run(local_session().handle(op_msg(CREATE)))
    body = relayed(recorder.relays[0])
    assert "$audit" not in body
    assert body["createUser"] == "boss"


def test_no_database_is_listed_for_it():
    recorder = Recorder(reply={"databases": [{"name": "admin"}, {"name": "shop"}], "ok": 1.0})
    reply = recorder.run(
        local_session().handle(op_msg({"listDatabases": 1, "nameOnly": True, "$db": "admin"}))
    )
    assert reply is not None
    assert decoded(reply)["databases"] == []


def test_a_logout_of_nobody_is_answered_while_it_holds():
    logout = {"logout": 1, "$db": "admin"}
    recorder = Recorder()
    reply = recorder.run(local_session().handle(op_msg(logout)))
    assert reply is not None
    assert decoded(reply)["ok"] == 1
    assert refusal(local_session(enabled=False), logout)["errmsg"] == "command logout requires authentication"


# ---- without authorization ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("user", [None, user_with()], ids=["nobody", "somebody"])
@pytest.mark.parametrize(("client", "told"), [("127.0.0.1", None), ("192.0.2.7", "must run from localhost")])
def test_without_authorization_only_a_local_peer_shuts_the_upstream_down(
    client: str, told: str | None, user: Any
):
    session = make_session(user, settings=SessionSettings(authorization_enabled=False))
    session.peer = Peer(ip_address(client), ip_address("127.0.0.1"))
    body = {"shutdown": 1, "$db": "admin"}
    if told is None:
        assert allowed(session, body)
    else:
        reply = refusal(session, body)
        assert reply["code"] == 13
        assert told in reply["errmsg"]
        assert allowed(session, {"ping": 1, "$db": "admin"})


def test_its_privileges_are_not_shown():
    session = local_session()
    assert allowed(session, CREATE)
    reply = (
        Play(session).send(op_msg({"connectionStatus": 1, "showPrivileges": True, "$db": "admin"})).reply()
    )
    assert reply["authInfo"]["authenticatedUserPrivileges"] == []


def test_a_reply_comes_back_as_it_is():
    play = Play(local_session()).send(op_msg(CREATE)).expect(AskUpstream).answer(SERVICE_INFO)
    play = play.expect(AskUpstream).answer(NONE).expect(AskUpstream).answer(NONE)
    answer = reply_of({"ok": 1.0})
    play = play.expect(Relay).answer(answer)
    assert play.emitted().atype == "createUser"
    assert play.raw == answer.message
