"""Logins while too many have failed: what the client sees, what the auditor sees, what is not asked any more."""

from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network

import pytest

from mongoguard.authn.authentication_session import AuthenticationSession
from mongoguard.authn.channel import Channel
from mongoguard.authn.conversation import AuthenticationFailure, Step
from mongoguard.authn.logins import Logins, scram_logins
from mongoguard.authn.throttle import LoginLimits, LoginThrottle
from mongoguard.effects import Effect, FetchUser, perform
from mongoguard.errors import CommandError, DirectoryUnavailable, UpstreamError
from mongoguard.model.names import UserName
from mongoguard.model.restriction import AuthenticationRestriction, Peer
from mongoguard.model.user import UserRequest
from tests.unit.authn.driving import Shell, body, client, make_user

KEY = b"0123456789abcdef"
PEER = Peer(ip_address("192.0.2.1"), ip_address("192.0.2.2"), 40000, 27017)
MECHANISMS = ("SCRAM-SHA-1", "SCRAM-SHA-256")
SHA256 = "SCRAM-SHA-256"
LIMITS = LoginLimits(per_user_and_address=3, per_address=6, per_user=8, window_secs=60, block_secs=100)
ALICE, BOB = make_user("alice"), make_user("bob")


@dataclass(frozen=True, slots=True)
class AskOutside(Effect[bool]):
    """Whether a directory elsewhere takes a password."""

    password: bytes


class PlainConversation:
    """A mechanism of one message, which asks a directory outside: user NUL password."""

    is_guessable = True

    def __init__(self, db):
        self.db, self.name = db, None

    def step(self, payload):
        user, _, password = payload.partition(b"\0")
        self.name = UserName(user.decode(), self.db)
        if not (yield from perform(AskOutside(password))):
            raise AuthenticationFailure("the directory refuses the password")
        found = yield from perform(FetchUser(UserRequest(self.name)))
        return Step(b"", found)


class TicketConversation(PlainConversation):
    """The same with a proof that can't be guessed."""

    is_guessable = False


class AskingShell(Shell):
    """Also answers for the directory outside; `outage` is raised instead."""

    def __init__(self):
        super().__init__()
        self.asked = []
        self.outage = None

    def run(self, flow):
        def answered():
            answer = throw = None
            while True:
                try:
                    effect = flow.send(answer) if throw is None else flow.throw(throw)
                except StopIteration as stop:
                    return stop.value
                throw = None
                if isinstance(effect, AskOutside):
                    self.asked.append(effect.password)
                    answer, throw = effect.password == b"pencil", self.outage
                else:
                    try:
                        answer = yield effect
                    except UpstreamError as error:
                        throw = error

        return super().run(answered())


class House:
    """What the connections of a process share."""

    def __init__(self, *users, limits=LIMITS):
        self.shell = AskingShell()
        for user in users:
            self.shell.add(user)
        mechanisms = {
            **scram_logins(MECHANISMS, KEY),
            "PLAIN": lambda attempt: PlainConversation(attempt.db),
            "TICKET": lambda attempt: TicketConversation(attempt.db),
        }
        self.logins = Logins(mechanisms, LoginThrottle(limits))

    def connection(self, peer=PEER):
        return Connection(self, peer)

    def fails(self, user, times, peer=PEER, mechanism=SHA256):
        for _ in range(times):
            with pytest.raises(CommandError) as error:
                self.connection(peer).log_in(user, "wrong", mechanism)
            assert error.value.code == 18

    @property
    def last_reason(self):
        return self.shell.events[-1].param.get("reason")


class Connection:
    def __init__(self, house, peer):
        self.shell = house.shell
        self.session = AuthenticationSession(house.logins, peer, Channel())

    def start(self, payload, mechanism=SHA256):
        request = body(saslStart=1, mechanism=mechanism, payload=payload, options={"skipEmptyExchange": True})
        return self.shell.run(self.session.sasl_start("shop", request))

    def go_on(self, payload):
        request = body(saslContinue=1, conversationId=1, payload=payload)
        return self.shell.run(self.session.sasl_continue("shop", request))

    def log_in(self, user, password="pencil", mechanism=SHA256):
        if mechanism in ("PLAIN", "TICKET"):
            return self.start(f"{user}\0{password}".encode(), mechanism)
        twin = client(user, password, mechanism)
        reply = self.start(twin.first(), mechanism)
        return self.go_on(twin.final(reply["payload"]))

    def hello(self, user, password="pencil"):
        """A speculative login, finished by saslContinue."""
        twin = client(user, password)
        attempt = {"saslStart": 1, "mechanism": SHA256, "payload": twin.first(), "db": "shop"}
        reply = self.shell.run(self.session.speculative(body(hello=1, speculativeAuthenticate=attempt)))
        return self.go_on(twin.final(reply["payload"]))


@pytest.fixture
def house():
    return House(ALICE, BOB)


def refused(call, *args):
    with pytest.raises(CommandError) as error:
        call(*args)
    return error.value


@pytest.mark.parametrize("mechanism", [*MECHANISMS, "PLAIN"])
def test_the_right_password_is_refused_while_blocked_and_accepted_just_before(house, mechanism):
    house.fails("alice", 2, mechanism=mechanism)
    house.connection().log_in("alice", mechanism=mechanism)
    house.fails("alice", 3, mechanism=mechanism)
    blocked = house.connection()
    error = refused(blocked.log_in, "alice", "pencil", mechanism)
    assert (error.code, error.errmsg) == (18, "Authentication failed.")
    assert blocked.session.user is None
    assert house.last_reason == "too many failed logins: blocked for 100 s (this user from this address)"
    assert house.shell.events[-1].result == 18


def test_a_speculative_login_is_refused_while_blocked(house):
    house.connection().hello("alice")
    house.fails("alice", 3)
    assert refused(house.connection().hello, "alice").code == 18
    assert "too many failed logins" in house.last_reason


def test_failures_of_speculative_logins_count(house):
    for _ in range(3):
        refused(house.connection().hello, "alice", "wrong")
    assert refused(house.connection().log_in, "alice").code == 18
    house.connection().log_in("bob")


def _seen(house, user, password):
    """Everything that a client sees of a login: shapes, and codes and texts of the errors."""
    connection, twin = house.connection(), client(user, password)
    reply = connection.start(twin.first())
    nonce, salt, _count = reply["payload"].split(b",")
    error = refused(connection.go_on, twin.final(reply["payload"]))
    after = refused(connection.go_on, b"")
    shapes = (tuple(sorted(reply)), reply["done"], reply["conversationId"], len(nonce), len(salt))
    return (*shapes, error.code, error.errmsg, error.labels, error.err_info, after.code, after.errmsg)


def test_a_block_looks_like_a_wrong_password_whoever_is_blocked_and_whatever_the_password(house):
    before = _seen(house, "alice", "wrong"), _seen(house, "nobody", "wrong")
    house.fails("alice", 2)
    house.fails("nobody", 2)
    known = _seen(house, "alice", "wrong"), _seen(house, "alice", "pencil")
    unknown = _seen(house, "nobody", "wrong"), _seen(house, "nobody", "pencil")
    assert {*before, *known, *unknown} == {before[0]}


def test_the_salt_of_a_blocked_user_is_the_one_it_has_otherwise(house):
    def salt():
        return house.connection().start(client("alice").first())["payload"].split(b",")[1]

    free = salt()
    house.fails("alice", 3)
    assert salt() == free


def test_users_that_do_not_exist_are_counted_and_blocked_like_others(house):
    house.fails("nobody", 4)
    assert "too many failed logins" in house.last_reason


def test_a_directory_outside_is_not_asked_while_blocked(house):
    house.fails("alice", 3, mechanism="PLAIN")
    assert house.shell.asked == [b"wrong"] * 3
    refused(house.connection().log_in, "alice", "pencil", "PLAIN")
    assert len(house.shell.asked) == 3
    house.connection().log_in("bob", "pencil", "PLAIN")
    assert len(house.shell.asked) == 4


def test_mechanisms_share_the_counts(house):
    house.fails("alice", 1)
    house.fails("alice", 1, mechanism="SCRAM-SHA-1")
    house.fails("alice", 1, mechanism="PLAIN")
    assert refused(house.connection().log_in, "alice").code == 18


def test_passwords_guessed_under_a_name_keep_nobody_out_whose_proof_is_no_password(house):
    house.fails("alice", 3, mechanism="PLAIN")
    house.connection().log_in("alice", mechanism="TICKET")
    refused(house.connection().log_in, "alice", "pencil", "PLAIN")
    assert "too many failed logins" in house.last_reason, "and such a login buys no guesses"


def test_a_proof_that_is_no_password_counts_nowhere_when_it_fails(house):
    house.fails("alice", 20, mechanism="TICKET")
    assert house.last_reason == "the directory refuses the password"
    for mechanism in (SHA256, "PLAIN", "TICKET"):
        house.connection().log_in("alice", mechanism=mechanism)


def test_a_ticket_that_is_taken_makes_the_address_known_to_no_guesser(house):
    house.connection().log_in("alice", mechanism="TICKET")
    for number in range(10, 18):
        house.fails("alice", 1, replace(PEER, client=ip_address(f"203.0.113.{number}")))
    refused(house.connection().log_in, "alice")
    assert house.last_reason == "too many failed logins: blocked for 100 s (this user)"


def test_a_directory_that_does_not_answer_is_nobodys_failure(house):
    house.shell.outage = DirectoryUnavailable("no server answers")
    for _ in range(10):
        assert refused(house.connection().log_in, "alice", "pencil", "PLAIN").code == 6
    house.shell.outage = None
    house.shell.directory_is_away = True
    for _ in range(10):
        assert refused(house.connection().log_in, "alice").code == 6
    house.shell.directory_is_away = False
    house.connection().log_in("alice")


def test_mechanisms_that_are_not_enabled_and_wrong_conversation_ids_are_nobodys_failure(house):
    for _ in range(10):
        assert refused(house.connection().start, b"x", "GSSAPI").code == 334
    connection = house.connection()
    for _ in range(10):
        connection.start(client("alice").first())
        request = body(saslContinue=1, conversationId=2, payload=b"")
        assert refused(house.shell.run, connection.session.sasl_continue("shop", request)).code == 17
    connection.log_in("alice")


def test_a_login_that_is_begun_and_left_is_no_failure(house):
    for _ in range(20):
        house.connection().start(client("alice").first())
    house.connection().log_in("alice")


def test_messages_that_are_no_scram_count_for_the_address(house):
    for _ in range(6):
        assert refused(house.connection().start, b"garbage").code == 18
    refused(house.connection().log_in, "bob")
    assert house.last_reason == "too many failed logins: blocked for 100 s (this address)"
    house.connection(replace(PEER, client=ip_address("192.0.2.9"))).log_in("bob")


def test_a_right_password_from_a_place_that_is_not_allowed_counts_like_a_wrong_one():
    elsewhere = ((AuthenticationRestriction(client_source=(ip_network("10.0.0.0/8"),)),),)
    house = House(make_user("carl", restrictions=elsewhere))
    for _ in range(3):
        refused(house.connection().log_in, "carl")
        assert house.last_reason == "authentication restrictions are not met"
    refused(house.connection().log_in, "carl")
    assert "too many failed logins" in house.last_reason


def test_logins_that_were_begun_before_the_block_are_refused_by_it(house):
    """A thousand connections that all begin first, and then all guess, have no more guesses than one."""
    twins = [client("alice", "wrong") for _ in range(4)]
    begun = [(house.connection(), twin) for twin in [*twins, client("alice")]]
    proofs = [(one, twin.final(one.start(twin.first())["payload"])) for one, twin in begun]
    reasons = []
    for connection, proof in proofs:
        assert refused(connection.go_on, proof).code == 18
        reasons.append(house.last_reason)
    assert ["too many" in reason for reason in reasons] == [False, False, False, True, True]


def test_a_directorys_yes_that_comes_after_the_block_is_refused(house):
    """Many questions at once: the failures come back while the right password's answer is still on its way."""
    connection = house.connection()
    request = body(saslStart=1, mechanism="PLAIN", payload=b"alice\0pencil")
    flow = connection.session.sasl_start("shop", request)
    effect = flow.send(None)
    while not isinstance(effect, AskOutside):
        effect = flow.send(1_700_000_000.5)
    house.fails("alice", 3, mechanism="PLAIN")
    late = iter([True])

    def rest():
        answer = next(late)
        while True:
            try:
                answer = yield flow.send(answer)
            except StopIteration as stop:
                return stop.value

    assert refused(house.shell.run, rest()).code == 18
    assert "too many failed logins" in house.last_reason
    assert connection.session.user is None


def test_a_block_does_not_log_out_who_is_logged_in(house):
    connection = house.connection()
    connection.log_in("alice")
    house.fails("alice", 3)
    assert connection.session.user is ALICE


def test_a_user_keeps_logging_in_from_home_while_guessed_at_from_everywhere(house):
    home, other = PEER, replace(PEER, client=ip_address("198.51.100.1"))
    house.connection(home).log_in("alice")
    for number in range(10, 18):
        house.fails("alice", 1, replace(PEER, client=ip_address(f"203.0.113.{number}")))
    house.connection(home).log_in("alice")
    refused(house.connection(other).log_in, "alice")
    assert house.last_reason == "too many failed logins: blocked for 100 s (this user)"


@pytest.mark.parametrize("failures", [16, 32])
def test_by_default_one_mistyped_password_locks_nobody_out_however_often_the_driver_tries_it(failures):
    house = House(ALICE, limits=LoginLimits())
    house.fails("alice", failures)
    house.connection().log_in("alice")
    house.fails("alice", failures)
    house.connection().log_in("alice")


def test_by_default_guessing_ends():
    house = House(ALICE, limits=LoginLimits())
    house.fails("alice", 51)
    assert "too many failed logins" in house.last_reason
