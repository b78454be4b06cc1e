import base64
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network

import pytest

from mongoguard.authn.authentication_session import AuthenticationSession
from mongoguard.authn.channel import Channel
from mongoguard.authn.logins import Logins, scram_logins
from mongoguard.errors import CommandError
from mongoguard.model.names import RoleName, UserName
from mongoguard.model.restriction import AuthenticationRestriction, Peer
from tests.unit.authn.driving import NOW, Shell, body, client, make_user

KEY = b"0123456789abcdef"
PEER = Peer(ip_address("192.0.2.1"), ip_address("192.0.2.2"), 40000, 27017)
MECHANISMS = ("SCRAM-SHA-1", "SCRAM-SHA-256")
SHA256 = "SCRAM-SHA-256"


class Connection:
    """A client connection whose session and shell a test drives command by command."""

    def __init__(self, *users, mechanisms=MECHANISMS, peer=PEER):
        self.shell = Shell()
        for user in users:
            self.shell.add(user)
        self.session = AuthenticationSession(Logins(scram_logins(mechanisms, KEY)), peer, Channel())

    def start(self, payload, db="shop", mechanism=SHA256, **fields):
        request = body(saslStart=1, mechanism=mechanism, payload=payload, **fields)
        return self.shell.run(self.session.sasl_start(db, request))

    def go_on(self, payload, db="shop", conversation_id=1, **fields):
        request = body(saslContinue=1, conversationId=conversation_id, payload=payload, **fields)
        return self.shell.run(self.session.sasl_continue(db, request))

    def log_in(self, user, password="pencil", db="shop", mechanism=SHA256, skip=False, continue_db=None):
        twin = client(user, password, mechanism)
        reply = self.start(twin.first(), db, mechanism, options={"skipEmptyExchange": skip})
        reply = self.go_on(twin.final(reply["payload"]), continue_db or db)
        twin.verify(reply["payload"])
        return reply if skip else self.go_on(b"", continue_db or db)

    def logout(self, db="shop"):
        return self.shell.run(self.session.logout(db, body(logout=1)))

    def hello(self, supported=None, **fields):
        return self.shell.run(self.session.speculative(body(hello=1, **fields), supported))

    def mechs(self, value):
        return self.shell.run(self.session.sasl_supported_mechs(body(hello=1, saslSupportedMechs=value)))

    @property
    def user(self):
        return self.session.user and self.session.user.name


def refused(call, *args, **kwargs):
    with pytest.raises(CommandError) as error:
        call(*args, **kwargs)
    return error.value


def code(call, *args, **kwargs):
    return refused(call, *args, **kwargs).code


ALICE, BOB = make_user("alice"), make_user("bob")
ADMIN_CARL = make_user("carl", "admin")


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("skip", [False, True])
def test_a_user_logs_in_with_either_mechanism_with_and_without_the_empty_exchange(mechanism, skip):
    connection = Connection(ALICE)
    assert connection.user is None
    reply = connection.log_in("alice", mechanism=mechanism, skip=skip)
    assert (reply["conversationId"], reply["done"]) == (1, True)
    assert connection.session.user is ALICE
    assert connection.shell.fetched == [ALICE.name]


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_wrong_password_is_18_and_logs_nobody_in(mechanism):
    connection = Connection(ALICE)
    error = refused(connection.log_in, "alice", "pen", mechanism=mechanism)
    assert (error.code, error.errmsg) == (18, "Authentication failed.")
    assert "proof" in error.reason
    assert connection.user is None


def test_after_the_proof_and_before_the_empty_exchange_nobody_is_logged_in():
    connection = Connection(ALICE)
    twin = client("alice")
    reply = connection.go_on(twin.final(connection.start(twin.first())["payload"]))
    assert reply["done"] is False
    assert connection.user is None
    assert connection.shell.events == []
    assert connection.go_on(b"ignored") == {"conversationId": 1, "done": True, "payload": b""}
    assert connection.user == ALICE.name


def test_the_reply_to_a_start_has_the_three_fields_that_drivers_read():
    reply = Connection(ALICE).start(client("alice").first())
    assert set(reply) == {"conversationId", "done", "payload"}
    assert (reply["conversationId"], reply["done"]) == (1, False)


def test_each_answer_takes_the_form_of_its_own_message_binary_or_base64():
    connection = Connection(ALICE)
    twin = client("alice")
    reply = connection.start(base64.b64encode(twin.first()).decode())
    proof = twin.final(base64.b64decode(reply["payload"]))
    assert isinstance(connection.go_on(proof)["payload"], bytes)
    assert connection.go_on("")["payload"] == ""
    assert connection.user == ALICE.name


def _walk(user, password="wrong"):
    """The shapes of all replies of a failing login: what a stranger can see."""
    connection = Connection(ALICE, make_user("old", mechanisms=("SCRAM-SHA-1",)))
    twin = client(user, password)
    reply = connection.start(twin.first())
    nonce, salt, _iterations = reply["payload"].split(b",")
    error = refused(connection.go_on, twin.final(reply["payload"]))
    after = refused(connection.go_on, b"")
    return (
        sorted(reply),
        reply["conversationId"],
        reply["done"],
        len(nonce),
        len(salt),
        error.code,
        error.errmsg,
        error.labels,
        after.code,
        after.errmsg,
        connection.shell.results,
    )


@pytest.mark.parametrize("stranger", ["nobody", "old"])
def test_an_unknown_user_and_one_without_the_mechanism_walk_the_steps_of_a_wrong_password(stranger):
    assert _walk(stranger) == _walk("alice")
    assert _walk(stranger, "pencil") == _walk("alice")


def test_an_unknown_users_salt_is_stable_across_connections_and_differs_between_users():
    def salt(user, db="shop"):
        return Connection(ALICE).start(client(user).first(), db)["payload"].split(b",")[1]

    assert salt("nobody") == salt("nobody")
    assert len({salt("nobody"), salt("nobody", "other"), salt("somebody"), salt("alice")}) == 4


def test_the_true_reason_is_in_the_audit_stream_and_not_in_the_reply():
    connection = Connection(ALICE)
    error = refused(connection.log_in, "nobody")
    (event,) = connection.shell.events
    assert event.param["reason"] == error.reason
    assert "no such user" in error.reason
    assert "user" not in error.errmsg


def test_a_login_again_as_the_same_user_is_accepted_and_takes_the_fresh_record():
    connection = Connection(ALICE)
    connection.log_in("alice")
    fresh = connection.shell.add(replace(ALICE, roles=(RoleName("read", "shop"),)))
    connection.log_in("alice", skip=True)
    assert connection.session.user is fresh


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize(
    ("other", "number", "errmsg"),
    [
        (
            BOB,
            5626702,
            "Client has attempted to authenticate on multiple databases.Already authenticated as: alice@shop",
        ),
        (
            ADMIN_CARL,
            5626701,
            "Each client connection may only be authenticated once. Previously authenticated as: alice@shop",
        ),
    ],
)
def test_another_identity_is_refused_at_the_end_and_the_first_login_survives(other, number, errmsg, skip):
    connection = Connection(ALICE, other)
    connection.log_in("alice")
    twin = client(other.name.user)
    reply = connection.start(twin.first(), other.name.db, options={"skipEmptyExchange": skip})
    proof = twin.final(reply["payload"])
    if not skip:
        connection.go_on(proof)
    error = refused(connection.go_on, proof)
    assert (error.code, error.errmsg) == (number, errmsg)
    assert connection.user == ALICE.name
    assert connection.shell.results == [("authenticate", 0), ("authenticate", number)]


@pytest.mark.parametrize("user", ["alice", "bob"])
def test_a_failed_attempt_leaves_the_first_login(user):
    connection = Connection(ALICE, BOB)
    connection.log_in("alice")
    assert code(connection.log_in, user, "wrong") == 18
    assert connection.user == ALICE.name
    assert connection.shell.events[-1].users == (ALICE.name,)


def test_after_logout_another_user_may_log_in():
    connection = Connection(ALICE, BOB)
    connection.log_in("alice")
    assert connection.logout("shop") == {}
    assert connection.user is None
    connection.log_in("bob")
    assert connection.user == BOB.name


def test_logout_on_another_database_does_nothing():
    connection = Connection(ALICE)
    connection.log_in("alice")
    assert connection.logout("admin") == {}
    assert connection.user == ALICE.name
    assert connection.shell.results == [("authenticate", 0)]


def test_logout_takes_no_arguments():
    connection = Connection(ALICE)
    connection.log_in("alice")
    error = refused(connection.shell.run, connection.session.logout("shop", body(logout=1, bogus=1)))
    assert (error.code, error.errmsg) == (40415, "BSON field 'logout.bogus' is an unknown field.")
    assert connection.user == ALICE.name


def test_a_continuation_without_a_conversation_is_17():
    error = refused(Connection(ALICE).go_on, b"")
    assert (error.code, error.errmsg) == (17, "No SASL session state found")


@pytest.mark.parametrize("conversation_id", [0, 2, -1])
def test_a_wrong_conversation_id_is_17_and_ends_the_conversation(conversation_id):
    connection = Connection(ALICE)
    twin = client("alice")
    proof = twin.final(connection.start(twin.first())["payload"])
    error = refused(connection.go_on, proof, conversation_id=conversation_id)
    assert (error.code, error.errmsg) == (17, "sasl: Mismatched conversation id")
    assert refused(connection.go_on, proof).errmsg == "No SASL session state found"
    assert connection.shell.results == [("authenticate", 17)]


def test_a_continuation_after_a_failure_is_17():
    connection = Connection(ALICE)
    refused(connection.log_in, "alice", "wrong")
    assert code(connection.go_on, b"") == 17


def test_a_continuation_after_a_login_is_17():
    connection = Connection(ALICE)
    connection.log_in("alice")
    assert code(connection.go_on, b"") == 17
    assert connection.user == ALICE.name


def test_a_new_start_replaces_a_running_conversation():
    connection = Connection(ALICE, BOB)
    alice, bob = client("alice"), client("bob")
    old = connection.start(alice.first())["payload"]
    new = connection.start(bob.first())["payload"]
    assert code(connection.go_on, alice.final(old)) == 18
    assert code(connection.go_on, bob.final(new)) == 17
    assert connection.user is None


def test_the_identity_is_the_one_of_the_last_start():
    connection = Connection(ALICE, BOB)
    connection.start(client("alice").first())
    connection.log_in("bob")
    assert connection.user == BOB.name


@pytest.mark.parametrize(
    ("fields", "number"),
    [
        ({"mechanism": "FOO", "payload": b"x"}, 334),
        ({"mechanism": SHA256, "payload": b"x"}, 18),
        ({"mechanism": SHA256, "payload": b"x", "options": {"skipEmptyExchange": 1}}, 2),
    ],
)
def test_a_start_that_fails_ends_a_running_conversation(fields, number):
    connection = Connection(ALICE)
    twin = client("alice")
    proof = twin.final(connection.start(twin.first())["payload"])
    assert code(connection.start, **fields) == number
    assert code(connection.go_on, proof) == 17


def test_ill_formed_arguments_leave_a_running_conversation_alone():
    connection = Connection(ALICE)
    twin = client("alice")
    proof = twin.final(connection.start(twin.first())["payload"])
    assert code(connection.start, b"x", bogus=1) == 40415
    assert code(connection.go_on, proof, bogus=1) == 40415
    assert code(connection.go_on, 5) == 2
    assert connection.go_on(proof)["done"] is False


def test_the_database_of_a_continuation_is_ignored():
    connection = Connection(ALICE)
    connection.log_in("alice", continue_db="elsewhere")
    assert connection.user == UserName("alice", "shop")


def test_the_same_user_name_on_another_database_is_another_user():
    connection = Connection(ALICE)
    assert code(connection.log_in, "alice", db="admin") == 18


def test_a_user_name_in_a_continuation_changes_nothing_because_it_is_refused():
    connection = Connection(ALICE, BOB)
    twin = client("alice")
    proof = twin.final(connection.start(twin.first())["payload"])
    assert code(connection.go_on, proof, user="bob") == 40415


def test_the_user_fetched_at_the_start_is_used_to_the_end():
    connection = Connection(ALICE)
    twin = client("alice")
    reply = connection.start(twin.first())
    connection.shell.add(make_user("alice", password="changed"))
    connection.go_on(twin.final(reply["payload"]))
    connection.go_on(b"")
    assert connection.session.user is ALICE
    assert connection.shell.fetched == [ALICE.name]


@pytest.mark.parametrize("mechanism", ["", "PLAIN", "FOO", "GSSAPI", "MONGODB-X509", "scram-sha-256"])
def test_a_mechanism_that_is_not_enabled_is_334(mechanism):
    connection = Connection(ALICE)
    error = refused(connection.start, client("alice").first(), mechanism=mechanism)
    assert error.code == 334
    assert error.errmsg == f"Received authentication for mechanism {mechanism} which is not enabled"
    assert connection.shell.results == [("authenticate", 334)]


def test_a_mechanism_that_the_configuration_leaves_out_is_334_and_the_other_works():
    connection = Connection(ALICE, mechanisms=(SHA256,))
    assert code(connection.log_in, "alice", mechanism="SCRAM-SHA-1") == 334
    connection.log_in("alice")
    assert connection.user == ALICE.name


def test_scram_on_external_is_334_as_its_users_have_no_password():
    error = refused(Connection().start, client("CN=x").first(), db="$external")
    assert error.code == 334
    assert error.errmsg == "Unsupported mechanism 'SCRAM-SHA-256' on authentication database '$external'"


def test_scram_can_not_be_offered_by_an_unknown_name_or_with_a_short_key():
    with pytest.raises(ValueError, match="PLAIN"):
        scram_logins([SHA256, "PLAIN"], KEY)
    with pytest.raises(ValueError, match="16"):
        scram_logins(MECHANISMS, KEY[:15])


def test_a_payload_that_is_too_long_is_refused_before_anything_is_fetched():
    connection = Connection(ALICE)
    assert code(connection.start, b"n,,n=alice,r=" + b"x" * 20_000) == 2
    assert connection.shell.fetched == []


@pytest.mark.parametrize("payload", [b"", b"zz", b"p=x,,n=alice,r=nonce", b"n,a=bob,n=alice,r=nonce"])
def test_a_malformed_first_message_is_18(payload):
    assert code(Connection(ALICE).start, payload) == 18


# --- restrictions ------------------------------------------------------------------------------------------------------

HERE = AuthenticationRestriction(client_source=(ip_network("192.0.2.0/24"),))
ELSEWHERE = AuthenticationRestriction(client_source=(ip_network("198.51.100.0/24"),))


@pytest.mark.parametrize("restrictions", [(), ((HERE,),), ((ELSEWHERE, HERE),), ((HERE,), (HERE,))])
def test_a_user_whose_restrictions_are_met_logs_in(restrictions):
    connection = Connection(make_user("alice", restrictions=restrictions))
    connection.log_in("alice")
    assert connection.user == ALICE.name


@pytest.mark.parametrize("restrictions", [((ELSEWHERE,),), ((HERE,), (ELSEWHERE,))])
def test_a_user_whose_restrictions_are_not_met_fails_after_the_proof_as_any_other_failure(restrictions):
    connection = Connection(make_user("alice", restrictions=restrictions))
    twin = client("alice")
    reply = connection.go_on(twin.final(connection.start(twin.first())["payload"]))
    twin.verify(reply["payload"])
    error = refused(connection.go_on, b"")
    assert (error.code, error.errmsg) == (18, "Authentication failed.")
    assert "restrictions" in error.reason
    assert connection.user is None


def test_a_wrong_password_from_a_wrong_address_fails_as_a_wrong_password():
    connection = Connection(make_user("alice", restrictions=((ELSEWHERE,),)))
    assert "proof" in refused(connection.log_in, "alice", "wrong").reason


def test_a_unix_socket_peer_meets_no_restriction():
    user = make_user("alice", restrictions=((AuthenticationRestriction((ip_network("0.0.0.0/0"),)),),))
    assert code(Connection(user, peer=Peer(None, None)).log_in, "alice") == 18
    assert Connection(user).log_in("alice")["done"]


# --- the audit stream --------------------------------------------------------------------------------------------------


def test_a_login_is_one_event_with_user_database_mechanism_and_roles():
    user = replace(ALICE, roles=(RoleName("read", "shop"),))
    connection = Connection(user)
    connection.log_in("alice")
    (event,) = connection.shell.events
    assert (event.atype, event.result, event.peer) == ("authenticate", 0, PEER)
    assert event.param == {"user": "alice", "db": "shop", "mechanism": SHA256}
    assert (event.users, event.roles) == ((user.name,), user.roles)


def test_a_failed_login_is_one_event_with_who_was_claimed():
    connection = Connection(ALICE)
    refused(connection.log_in, "eve")
    (event,) = connection.shell.events
    assert (event.atype, event.result, event.users) == ("authenticate", 18, ())
    assert (event.param["user"], event.param["db"], event.param["mechanism"]) == ("eve", "shop", SHA256)


def test_an_abandoned_conversation_is_no_event():
    connection = Connection(ALICE)
    connection.start(client("alice").first())
    connection.start(client("alice").first())
    assert connection.shell.events == []


def test_a_logout_is_one_event_with_who_it_was_and_since_when():
    connection = Connection(ALICE)
    connection.log_in("alice")
    connection.logout()
    event = connection.shell.events[-1]
    assert (event.atype, event.result, event.users) == ("logout", 0, (ALICE.name,))
    assert event.param == {
        "reason": "Logging out on user request",
        "initialUsers": [{"user": "alice", "db": "shop"}],
        "updatedUsers": [],
        "loginTime": datetime.fromtimestamp(NOW, UTC),
    }


def test_logging_out_nobody_is_no_event():
    connection = Connection(ALICE)
    connection.shell.run(connection.session.log_out("Client has disconnected"))
    assert connection.shell.events == []


def test_no_event_and_no_error_shows_a_payload_or_a_key():
    connection = Connection(ALICE)
    twin = client("alice", "wrong")
    reply = connection.start(twin.first())
    proof = twin.final(reply["payload"])
    error = refused(connection.go_on, proof)
    shown = f"{connection.shell.events!r} {error!r} {error.reason} {error.errmsg}"
    for secret in (proof.rpartition(b"p=")[2].decode(), reply["payload"].decode(), "0123456789abcdef"):
        assert secret not in shown


# --- the directory is away ---------------------------------------------------------------------------------------------


def test_a_directory_that_does_not_answer_is_not_a_failed_credential():
    connection = Connection(ALICE)
    connection.shell.directory_is_away = True
    error = refused(connection.start, client("alice").first())
    assert (error.code, error.errmsg) == (6, "the user directory does not answer")
    assert "mongod.internal" not in error.errmsg
    assert connection.shell.results == [("authenticate", 6)]
    assert code(connection.go_on, b"") == 17


# --- hello -------------------------------------------------------------------------------------------------------------


def _speculation(user="alice", db="shop", **fields):
    start = {"saslStart": 1, "mechanism": SHA256, "payload": client(user).first(), "db": db, **fields}
    return {"speculativeAuthenticate": {k: v for k, v in start.items() if v is not None}}


@pytest.mark.parametrize("skip", [False, True])
def test_a_login_begun_in_hello_goes_on_with_sasl_continue(skip):
    connection = Connection(ALICE)
    twin = client("alice")
    reply = connection.hello(**_speculation(options={"skipEmptyExchange": skip}))
    assert set(reply) == {"conversationId", "done", "payload"}
    answer = connection.go_on(twin.final(reply["payload"]))
    assert answer["done"] is skip
    twin.verify(answer["payload"])
    assert (connection.user is not None) is skip


def test_a_wrong_password_after_a_speculative_start_is_18():
    connection = Connection(ALICE)
    reply = connection.hello(**_speculation())
    assert code(connection.go_on, client("alice", "wrong").final(reply["payload"])) == 18


@pytest.mark.parametrize(
    "fields",
    [
        {"mechanism": "FOO"},
        {"mechanism": 5},
        {"mechanism": None},
        {"payload": b"x"},
        {"payload": None},
        {"db": None},
        {"db": 5},
        {"db": ""},
        {"bogus": 1},
        {"options": {"skipEmptyExchange": 1}},
        {"db": "$external"},
    ],
)
def test_a_speculative_start_that_fails_in_any_way_is_left_out_of_hello(fields):
    connection = Connection(ALICE)
    assert connection.hello(**_speculation(**fields)) is None
    assert code(connection.go_on, b"") == 17


def test_a_speculative_start_while_the_directory_is_away_is_left_out_of_hello():
    connection = Connection(ALICE)
    connection.shell.directory_is_away = True
    assert connection.hello(**_speculation()) is None


def test_a_speculative_start_of_an_unknown_user_is_answered_like_any_other():
    connection = Connection(ALICE)
    assert set(connection.hello(**_speculation("nobody"))) == set(connection.hello(**_speculation("alice")))


@pytest.mark.parametrize("supported", [["SCRAM-SHA-1"], []])
def test_a_guessed_mechanism_that_the_user_is_told_not_to_have_is_left_out_of_hello(supported):
    """By an answer the client would take its guess for right."""
    connection = Connection(ALICE)
    assert connection.hello(supported, **_speculation()) is None
    assert code(connection.go_on, b"") == 17
    assert connection.hello(["SCRAM-SHA-1", SHA256], **_speculation())["done"] is False


@pytest.mark.parametrize("mechanism", ["MONGODB-X509", SHA256, ""])
def test_a_speculative_authenticate_is_left_out_of_hello(mechanism):
    attempt = {"authenticate": 1, "mechanism": mechanism, "db": "$external"}
    assert Connection().hello(speculativeAuthenticate=attempt) is None


def test_a_hello_without_an_attempt_has_no_answer_and_asks_nothing():
    connection = Connection(ALICE)
    assert connection.hello() is None
    assert connection.shell.fetched == []


@pytest.mark.parametrize(("value", "number"), [(5, 14), ({}, 2), ({"saslContinue": 1}, 51769)])
def test_an_attempt_that_is_no_login_command_fails_hello(value, number):
    assert code(Connection(ALICE).hello, speculativeAuthenticate=value) == number


def test_the_mechanisms_of_a_user_are_listed_the_strongest_first():
    connection = Connection(ALICE, make_user("old", mechanisms=("SCRAM-SHA-1",)))
    assert connection.mechs("shop.alice") == ["SCRAM-SHA-256", "SCRAM-SHA-1"]
    assert connection.mechs("shop.old") == ["SCRAM-SHA-1"]
    assert Connection(ALICE, mechanisms=(SHA256,)).mechs("shop.alice") == [SHA256]


def test_an_unknown_user_has_the_mechanisms_that_a_user_has_by_default():
    connection = Connection(ALICE)
    assert connection.mechs("shop.nobody") == connection.mechs("shop.alice")
    assert connection.mechs({"user": "nobody", "db": "shop"}) == connection.mechs("shop.alice")


def test_an_external_user_has_no_scram_mechanism_whether_or_not_it_exists():
    connection = Connection(replace(ALICE, name=UserName("CN=x", "$external"), credentials={}))
    assert connection.mechs("$external.CN=x") == connection.mechs("$external.CN=y") == []


def test_a_directory_that_is_away_does_not_fail_hello():
    connection = Connection(ALICE)
    connection.shell.directory_is_away = True
    assert connection.mechs("shop.alice") == ["SCRAM-SHA-256", "SCRAM-SHA-1"]


def test_a_hello_that_asks_about_nobody_gets_no_mechanisms():
    connection = Connection(ALICE)
    assert connection.shell.run(connection.session.sasl_supported_mechs(body(hello=1))) is None
    assert code(connection.mechs, "alice") == 2


# --- authenticate ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mechanism", "number", "errmsg"),
    [
        ("MONGODB-X509", 334, "Received authentication for mechanism MONGODB-X509 which is not enabled"),
        ("FOO", 334, "Received authentication for mechanism FOO which is not enabled"),
        (SHA256, 2, "Unsupported mechanism: SCRAM-SHA-256"),
        ("", 2, "Auth mechanism not specified"),
    ],
)
def test_authenticate_refuses_every_mechanism_in_mongods_words(mechanism, number, errmsg):
    connection = Connection(ALICE)
    request = body(authenticate=1, mechanism=mechanism, user="CN=x")
    error = refused(connection.shell.run, connection.session.authenticate("$external", request))
    assert (error.code, error.errmsg) == (number, errmsg)
    assert connection.user is None


# --- the user changes while logged in ----------------------------------------------------------------------------------


def _refreshed(fresh):
    connection = Connection(ALICE)
    connection.log_in("alice")
    answer = connection.shell.run(connection.session.refresh(fresh))
    assert answer is connection.session.user
    return connection


def test_a_changed_user_keeps_the_login_with_the_new_record():
    fresh = replace(ALICE, roles=(RoleName("read", "shop"),))
    connection = _refreshed(fresh)
    assert connection.session.user is fresh
    assert connection.shell.results == [("authenticate", 0)]


@pytest.mark.parametrize(
    "fresh",
    [None, replace(ALICE, user_id=b"made again"), BOB, replace(ALICE, restrictions=((ELSEWHERE,),))],
    ids=["dropped", "dropped and made again", "somebody else", "restricted"],
)
def test_a_user_that_is_gone_or_may_not_be_here_is_logged_out(fresh):
    connection = _refreshed(fresh)
    assert connection.user is None
    assert connection.shell.results == [("authenticate", 0), ("logout", 0)]


def test_a_refresh_while_nobody_is_logged_in_logs_nobody_in():
    connection = Connection(ALICE)
    assert connection.shell.run(connection.session.refresh(ALICE)) is None
    assert connection.user is None
