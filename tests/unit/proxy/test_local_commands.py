"""Commands answered here: what a client hears from the proxy itself."""

import dataclasses
import uuid
from typing import Any

import pytest

from mongoguard.command.catalog import COMMANDS
from mongoguard.command.spec import Handling
from mongoguard.effects import AskUpstream, FetchUser, Now, RandomBytes, Relay
from mongoguard.errors import UpstreamUnavailable
from mongoguard.model.names import RoleName, UserName
from mongoguard.model.resource_pattern import ResourcePattern
from mongoguard.model.restriction import Peer
from mongoguard.proxy.deployment import MAX_WIRE_VERSION
from mongoguard.proxy.local_commands import LOCAL_COMMANDS, LOCAL_FOR_STRANGERS, NEVER_COMPRESSED
from mongoguard.proxy.settings import SessionSettings
from tests.playbook import HELLO, NOW, Play, make_session, user_with
from tests.rawwire import op_msg

CLIENT = {"driver": {"name": "x", "version": "1"}, "os": {"type": "Linux"}}
ALICE = user_with({ResourcePattern.for_database("shop"): frozenset({"find", "insert"})})


def run(session: Any, **body: Any) -> dict[str, Any]:
    return Play(session).send(op_msg({**body, "$db": "admin"})).reply()


def hello(session: Any, **body: Any) -> dict[str, Any]:
    first = {"hello": 1} if "isMaster" not in body else {}
    play = Play(session).send(op_msg({**first, **body, "$db": "admin"}))
    return play.expect(Now).answer(NOW).reply() if isinstance(play.effect, Now) else play.reply()


def test_every_row_answered_here_has_its_answer():
    rows = {row.name for row in COMMANDS.values() if row.handling is Handling.LOCAL}
    assert set(LOCAL_COMMANDS) == rows | LOCAL_FOR_STRANGERS


def test_nobody_reaches_the_upstream_with_the_handshake():
    assert hello(make_session())["ok"] == 1.0
    assert run(make_session(), ping=1) == {"ok": 1.0}


@pytest.mark.parametrize("name", ["isMaster", "ismaster"])
def test_the_old_hello_says_ismaster(name: str):
    play = Play(make_session()).send(op_msg({name: 1, "helloOk": True, "$db": "admin"}))
    reply = play.expect(Now).answer(NOW).reply()
    assert reply["ismaster"] is True
    assert reply["helloOk"] is True
    assert "isWritablePrimary" not in reply


def test_hello_ignores_fields_that_it_does_not_know():
    assert hello(make_session(), backpressure=True)["ok"] == 1.0


def test_wire_versions_are_the_intersection_with_the_upstreams():
    assert hello(make_session(hello={**HELLO, "maxWireVersion": 99}))["maxWireVersion"] == MAX_WIRE_VERSION
    assert hello(make_session(hello={**HELLO, "maxWireVersion": 13}))["maxWireVersion"] == 13
    assert hello(make_session(hello={**HELLO, "minWireVersion": 6}))["minWireVersion"] == 6
    assert hello(make_session(hello={}))["maxWireVersion"] == 0


def test_the_session_timeout_is_the_upstreams_or_the_default():
    assert hello(make_session())["logicalSessionTimeoutMinutes"] == 30
    assert hello(make_session(hello={"logicalSessionTimeoutMinutes": 5}))["logicalSessionTimeoutMinutes"] == 5


def test_client_metadata_may_be_sent_once():
    session = make_session()
    assert hello(session, client=CLIENT)["ok"] == 1.0
    assert hello(session)["ok"] == 1.0
    assert hello(session, client=CLIENT)["code"] == 186
    assert hello(session, client="x")["code"] == 186


def test_client_metadata_may_be_sent_in_the_first_hello_only():
    session = make_session()
    assert hello(session)["ok"] == 1.0
    assert hello(session, client=CLIENT)["code"] == 186


def test_a_hello_that_was_refused_was_not_the_first():
    session = make_session()
    assert hello(session, client="x")["code"] == 14
    assert hello(session, client=CLIENT, hostInfo=5)["code"] == 14
    assert hello(session, client=CLIENT)["ok"] == 1.0


def test_compressors_are_agreed_on_in_the_clients_order():
    session = make_session(settings=SessionSettings(compressors=("snappy", "zlib")))
    assert hello(session, compression=["zlib", "zstd", "snappy"])["compression"] == ["zlib", "snappy"]
    assert "compression" not in hello(session, compression=["zstd"])
    assert hello(session, compression=[None, "zlib", "zlib"])["compression"] == ["zlib", "zlib"]
    for nothing in ([], [None], ["noop"], ["ZLIB"], [""]):
        assert "compression" not in hello(session, compression=nothing)
    assert "compression" not in hello(session)


def test_hello_asks_the_directory_for_mechanisms():
    play = Play(make_session()).send(op_msg({"hello": 1, "saslSupportedMechs": "shop.alice", "$db": "admin"}))
    asked = play.expect(Now).answer(NOW).expect(FetchUser)
    assert asked.effect.request.name == UserName("alice", "shop")
    assert asked.answer(None).reply()["saslSupportedMechs"] == ["SCRAM-SHA-1", "SCRAM-SHA-256"][-1:]


def test_build_info_is_the_upstreams_without_its_cluster_time():
    assert run(make_session(), buildInfo=1) == {"version": "6.0.5", "maxBsonObjectSize": 16777216, "ok": 1.0}


def test_whatsmyuri_is_the_clients_own_address():
    assert run(make_session(), whatsmyuri=1)["you"] == "192.0.2.7:40001"
    session = make_session()
    session.peer = Peer(None, None)
    assert run(session, whatsmyuri=1)["you"] == "anonymous unix socket"


def test_a_session_id_is_a_random_uuid():
    play = Play(make_session(ALICE)).send(op_msg({"startSession": 1, "$db": "admin"}))
    asked = play.expect(RandomBytes)
    assert asked.effect.count == 16
    reply = asked.answer(b"\xff" * 16).reply()
    found = uuid.UUID(bytes=bytes(reply["id"]["id"]))
    assert (found.version, found.variant, reply["id"]["id"].subtype) == (4, uuid.RFC_4122, 4)
    assert reply["timeoutMinutes"] == 30


def test_a_session_needs_a_login():
    play = Play(make_session()).send(op_msg({"startSession": 1, "$db": "admin"}))
    assert play.emitted().result == 13
    assert play.reply()["errmsg"] == "command startSession requires authentication"


def test_connection_status_tells_who_one_is():
    status = run(make_session(ALICE), connectionStatus=1)["authInfo"]
    assert status == {
        "authenticatedUsers": [{"user": "alice", "db": "shop"}],
        "authenticatedUserRoles": [{"role": "clerk", "db": "shop"}],
    }


def test_connection_status_shows_privileges_when_asked():
    status = run(make_session(ALICE), connectionStatus=1, showPrivileges=True)["authInfo"]
    assert status["authenticatedUserPrivileges"] == [
        {"resource": {"db": "shop", "collection": ""}, "actions": ["find", "insert"]}
    ]


def test_connection_status_of_nobody_is_empty():
    status = run(make_session(), connectionStatus=1, showPrivileges=True)["authInfo"]
    assert status == {
        "authenticatedUsers": [],
        "authenticatedUserRoles": [],
        "authenticatedUserPrivileges": [],
    }


def test_roles_are_the_direct_ones_where_no_others_are_known():
    user = user_with(roles=(RoleName("read", "shop"),))
    assert run(make_session(user), connectionStatus=1)["authInfo"]["authenticatedUserRoles"] == [
        {"role": "read", "db": "shop"}
    ]


def test_get_last_error_is_gone():
    assert run(make_session(ALICE), getLastError=1)["code"] == 5739000


def test_is_self_answers_with_the_id_of_this_instance():
    session = make_session()
    assert run(session, _isSelf=1)["id"] == session.deployment.current.instance_id


def test_what_must_not_be_compressed_is_answered_here():
    assert set(LOCAL_COMMANDS) > NEVER_COMPRESSED


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"saslStart": 1, "mechanism": "PLAIN", "payload": b"x"}, 334),
        ({"saslContinue": 1, "conversationId": 1, "payload": b"x"}, 17),
        ({"authenticate": 1, "mechanism": "MONGODB-X509"}, 334),
    ],
)
def test_logins_are_the_authentication_sessions(body: dict[str, Any], code: int):
    play = Play(make_session()).send(op_msg({**body, "$db": "admin"}))
    if play.effect is not None:
        assert play.emitted().atype == "authenticate"
    assert play.reply()["code"] == code


def test_a_login_that_goes_on_asks_for_the_next_message():
    first = b"n,,n=alice,r=clientnonce"
    play = Play(make_session()).send(
        op_msg({"saslStart": 1, "mechanism": "SCRAM-SHA-256", "payload": first, "$db": "shop"})
    )
    while play.effect is not None:
        match play.effect:
            case FetchUser():
                play.expect(FetchUser).answer(None)
            case _:
                count = play.expect(RandomBytes).effect.count
                play.expect(RandomBytes).answer(b"r" * count)
    reply = play.reply()
    assert (reply["ok"], reply["conversationId"], reply["done"]) == (1.0, 1, False)


def test_a_speculative_login_comes_back_in_hello():
    attempt = {"saslStart": 1, "mechanism": "PLAIN", "payload": b"x", "db": "shop"}
    play = Play(make_session()).send(op_msg({"hello": 1, "speculativeAuthenticate": attempt, "$db": "admin"}))
    play.expect(Now).answer(NOW)
    play.emitted()
    assert "speculativeAuthenticate" not in play.reply()


# ---- listCommands ---------------------------------------------------------------------------------------------------

LIST = op_msg({"listCommands": 1, "$db": "shop"})
UPSTREAM_COMMANDS = {
    "find": {"help": "query for documents", "requiresAuth": True},
    "ping": {"requiresAuth": False},
}
LISTED = {"commands": UPSTREAM_COMMANDS, "ok": 1.0, "$clusterTime": {"clusterTime": 1}, "operationTime": 1}


def test_the_upstream_is_asked_once_for_all_strangers_which_commands_it_has():
    first, second = make_session(), make_session()
    second.deployment = first.deployment
    asked = Play(first).send(LIST).expect(AskUpstream)
    assert asked.answer(LISTED).reply() == {"commands": UPSTREAM_COMMANDS, "ok": 1.0}
    for session in (first, second):
        assert Play(session).send(LIST).reply() == {"commands": UPSTREAM_COMMANDS, "ok": 1.0}


def test_another_upstream_is_asked_anew_and_an_answer_of_the_former_is_not_kept():
    session = make_session()
    asked = Play(session).send(LIST).expect(AskUpstream)
    view = session.deployment
    view.current = dataclasses.replace(view.current, build_info={})
    assert asked.answer(LISTED).reply()["commands"] == UPSTREAM_COMMANDS
    Play(session).send(LIST).expect(AskUpstream)


def test_an_upstream_that_refuses_or_is_away_is_asked_again():
    session = make_session()
    refusal = {"ok": 0.0, "code": 91, "codeName": "ShutdownInProgress", "errmsg": "no", "$clusterTime": 1}
    reply = Play(session).send(LIST).expect(AskUpstream).answer(refusal).reply()
    assert (reply["ok"], reply["code"], reply["errmsg"]) == (0.0, 91, "no")
    away = (
        Play(session).send(LIST).expect(AskUpstream).fail(UpstreamUnavailable("db7:27017: refused")).reply()
    )
    assert (away["ok"], away["code"]) == (0.0, 6)
    assert "db7" not in away["errmsg"]  # strangers are not told where the upstream is
    Play(session).send(LIST).expect(AskUpstream)


def test_who_is_logged_in_asks_the_upstream_itself():
    Play(make_session(ALICE)).send(LIST).expect(Relay)
