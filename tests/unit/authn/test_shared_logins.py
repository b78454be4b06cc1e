"""Logins that are counted for several processes: the shell is asked, and what it does not answer is refused."""

from ipaddress import ip_address

import pytest

from mongoguard.authn.authentication_session import AuthenticationSession
from mongoguard.authn.channel import Channel
from mongoguard.authn.logins import Logins, scram_logins
from mongoguard.authn.scram import SCRAM_SHA_256, derive_credentials
from mongoguard.authn.scram_client import ScramClientConversation, ScramPassword
from mongoguard.effects import (
    CountLogin,
    Emit,
    FetchUser,
    FindLoginBlock,
    GiveConnection,
    Now,
    RandomBytes,
    TakeConnection,
)
from mongoguard.errors import CommandError, UpstreamUnavailable
from mongoguard.model.names import UserName
from mongoguard.model.restriction import Peer
from mongoguard.model.user import User
from mongoguard.wire.document import Document, encode
from tests.playbook import NOW

ALICE = UserName("alice", "admin")
ADDRESS = ip_address("192.0.2.7")


class Shell:
    """Answers what a login asks, and keeps it."""

    def __init__(self):
        made = derive_credentials(SCRAM_SHA_256, "alice", "pencil", b"s" * SCRAM_SHA_256.salt_bytes, 5000)
        self.user = User(ALICE, credentials={"SCRAM-SHA-256": made})
        self.block = None
        self.places = 1
        self.fails = ()
        self.counted = []
        self.given = 0
        self.events = []

    def run(self, flow):
        answer = None
        error = None
        while True:
            try:
                effect = flow.send(answer) if error is None else flow.throw(error)
            except StopIteration as stop:
                return stop.value
            answer = error = None
            if isinstance(effect, self.fails):
                error = UpstreamUnavailable("no supervisor")
            else:
                answer = self.answer(effect)

    def answer(self, effect):
        match effect:
            case Now():
                return NOW
            case RandomBytes(count):
                return b"r" * count
            case FetchUser(request):
                return self.user if request.name == ALICE else None
            case FindLoginBlock(user, address):
                assert (user.db, address) == ("admin", ADDRESS)
                return self.block
            case CountLogin(user, address, is_failure):
                self.counted.append((user, address, is_failure))
            case TakeConnection(user):
                self.places -= 1
                return self.places >= 0
            case GiveConnection():
                self.given += 1
            case Emit(event):
                self.events.append(event)
            case _:
                raise AssertionError(effect)
        return None


def session_of(*, limits_connections=False):
    logins = Logins(
        scram_logins(["SCRAM-SHA-256"], b"k" * 32), throttle=None, limits_connections=limits_connections
    )
    return AuthenticationSession(logins, Peer(ADDRESS, ADDRESS, 1, 2), Channel())


def log_in(shell, session, password="pencil"):
    """A whole SCRAM login, by the project's own client."""
    client = ScramClientConversation(ScramPassword(SCRAM_SHA_256, "alice", password), b"n" * 24)
    start = {"saslStart": 1, "mechanism": "SCRAM-SHA-256", "payload": client.first()}
    options = {"skipEmptyExchange": True}
    reply = shell.run(session.sasl_start("admin", document({**start, "options": options})))
    final = {"saslContinue": 1, "conversationId": 1, "payload": client.final(bytes(reply["payload"]))}
    return shell.run(session.sasl_continue("admin", document(final)))


def document(fields):
    return Document(encode(fields))


def refusal(shell, session, password="pencil"):
    with pytest.raises(CommandError) as error:
        log_in(shell, session, password)
    assert session.user is None
    return error.value


def test_a_login_that_meets_no_block_is_counted_by_the_shell():
    shell, session = Shell(), session_of()
    assert log_in(shell, session)["done"]
    assert session.user is shell.user
    assert shell.counted == [(ALICE, ADDRESS, False)]


def test_a_wrong_password_is_counted_by_the_shell():
    shell = Shell()
    assert refusal(shell, session_of(), "wrong").code == 18
    assert shell.counted == [(ALICE, ADDRESS, True)]


def test_a_block_that_the_shell_knows_of_refuses_the_right_password_and_counts_nowhere():
    shell = Shell()
    shell.block = ("this user", 7.5)
    error = refusal(shell, session_of())
    assert (error.code, error.errmsg) == (18, "Authentication failed.")
    assert error.reason == "too many failed logins: blocked for 8 s (this user)"
    assert shell.counted == []


def test_a_login_whose_blocks_nobody_tells_is_refused_and_not_counted():
    shell = Shell()
    shell.fails = (FindLoginBlock,)
    assert refusal(shell, session_of()).code == 6
    assert shell.counted == []


def test_a_failure_that_nobody_counts_ends_the_connection():
    """Else whoever keeps the processes from talking would have as many guesses as there is time for."""
    shell = Shell()
    shell.fails = (CountLogin,)
    session = session_of()
    with pytest.raises(UpstreamUnavailable):
        log_in(shell, session, "wrong")
    assert session.user is None


# ---- connections per user -------------------------------------------------------------------------------------------


def test_a_user_with_too_many_connections_is_told_what_a_wrong_password_is_told():
    shell = Shell()
    first, second = session_of(limits_connections=True), session_of(limits_connections=True)
    log_in(shell, first)
    error = refusal(shell, second)
    assert (error.code, error.errmsg) == (18, "Authentication failed.")
    assert shell.events[-1].param["reason"] == "net.maxConnectionsPerUser is reached"
    assert shell.counted == [(ALICE, ADDRESS, False)], "no failed guess"
    assert first.user is shell.user


def test_a_wrong_password_takes_no_place_and_tells_of_none():
    shell = Shell()
    shell.places = 0
    assert refusal(shell, session_of(limits_connections=True), "wrong").code == 18
    assert shell.places == 0
    assert shell.events[-1].param["reason"] != "net.maxConnectionsPerUser is reached"


def test_a_logout_gives_the_place_back_and_a_second_login_on_a_connection_takes_none():
    shell, session = Shell(), session_of(limits_connections=True)
    log_in(shell, session)
    log_in(shell, session)
    assert shell.places == 0
    shell.run(session.logout("admin", document({"logout": 1})))
    assert shell.given == 1


def test_without_a_limit_nobody_is_asked_for_a_place():
    shell, session = Shell(), session_of()
    shell.places = 0
    log_in(shell, session)
    shell.run(session.logout("admin", document({"logout": 1})))
    assert shell.given == 0


def test_a_login_for_which_nobody_has_a_place_to_give_is_refused():
    shell = Shell()
    shell.fails = (TakeConnection,)
    assert refusal(shell, session_of(limits_connections=True)).code == 6
