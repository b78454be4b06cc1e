"""`authenticate` and the speculative one: the login by client certificate."""

from dataclasses import replace

import pytest

from mongoguard.authn.authentication_session import AuthenticationSession
from mongoguard.authn.channel import Channel, ClientCertificate
from mongoguard.authn.conversation import Expiry
from mongoguard.authn.logins import Logins, scram_logins
from mongoguard.authn.throttle import LoginLimits, LoginThrottle
from mongoguard.effects import FetchUser, Now
from mongoguard.errors import CommandError
from mongoguard.model.names import RoleName, UserName
from mongoguard.model.restriction import AuthenticationRestriction
from mongoguard.model.user import User, UserRequest
from tests.unit.authn.driving import NOW, Shell, body, client, make_user
from tests.unit.authn.test_authentication_session import KEY, PEER

NAME = "CN=alice,OU=clients"
ALICE = User(UserName(NAME, "$external"), b"id")
CERTIFICATE = ClientCertificate(NAME, NOW + 60)


class Connection:
    """A connection that has shown a certificate (None: none)."""

    def __init__(self, certificate=CERTIFICATE, users=(ALICE,), *, x509=True):
        self.shell = Shell()
        for user in users:
            self.shell.add(user)
        throttle = LoginThrottle(LoginLimits())
        logins = Logins(scram_logins(["SCRAM-SHA-256"], KEY), throttle=throttle, x509=x509)
        self.throttle = throttle
        self.session = AuthenticationSession(logins, PEER, Channel(True, certificate))

    def authenticate(self, db="$external", mechanism="MONGODB-X509", **fields):
        request = body(authenticate=1, mechanism=mechanism, **fields)
        return self.shell.run(self.session.authenticate(db, request))

    def refused(self, *args, **fields):
        with pytest.raises(CommandError) as error:
            self.authenticate(*args, **fields)
        assert self.session.user is None
        return error.value

    def speculate(self, **fields):
        attempt = {"authenticate": 1, "mechanism": "MONGODB-X509", "db": "$external", **fields}
        return self.shell.run(self.session.speculative(body(hello=1, speculativeAuthenticate=attempt)))


@pytest.mark.parametrize("fields", [{}, {"user": ""}, {"user": None}, {"user": NAME}])
def test_the_owner_of_a_certificate_logs_in(fields):
    connection = Connection()
    assert connection.authenticate(**fields) == {"dbname": "$external", "user": NAME}
    assert connection.session.user is ALICE
    assert connection.shell.results == [("authenticate", 0)]
    assert connection.shell.events[0].param["mechanism"] == "MONGODB-X509"


def test_the_login_holds_until_the_certificate_ends_and_is_not_renewed():
    connection = Connection()
    connection.authenticate()
    assert connection.session.expiry == Expiry(NOW + 60, reauthenticates=False)


def test_the_owner_logs_in_within_hello():
    connection = Connection()
    assert connection.speculate() == {"dbname": "$external", "user": NAME}
    assert connection.session.user is ALICE


def test_the_database_is_external_unless_hello_says_another():
    assert Connection().speculate(db=None) == {"dbname": "$external", "user": NAME}


@pytest.mark.parametrize("fields", [{"db": "admin"}, {"db": ""}, {"user": "CN=bob"}])
def test_a_login_within_hello_that_fails_is_passed_over(fields):
    connection = Connection()
    assert connection.speculate(**fields) is None
    assert connection.session.user is None


@pytest.mark.parametrize(
    ("certificate", "db", "fields", "code", "text"),
    [
        (None, "$external", {}, 18, "No verified subject name available from client"),
        (None, "admin", {}, 18, "No verified subject name available from client"),
        (CERTIFICATE, "admin", {}, 17, "X.509 authentication must always use the $external database."),
        (
            CERTIFICATE,
            "$external",
            {"user": "CN=bob"},
            18,
            "There is no x.509 client certificate matching the user.",
        ),
        (
            CERTIFICATE,
            "admin",
            {"user": NAME.lower()},
            18,
            "There is no x.509 client certificate matching the user.",
        ),
    ],
)
def test_a_wrong_request_is_answered_as_mongod_answers_it(certificate, db, fields, code, text):
    connection = Connection(certificate)
    error = connection.refused(db, **fields)
    assert (error.code, error.errmsg) == (code, text)
    assert connection.shell.fetched == []


@pytest.mark.parametrize(
    ("certificate", "users", "reason"),
    [
        (CERTIFICATE, (), "no such user"),
        (replace(CERTIFICATE, refusal="looks like a server's"), (ALICE,), "looks like a server's"),
        (replace(CERTIFICATE, not_after=NOW), (ALICE,), "the certificate has expired"),
        (replace(CERTIFICATE, subject=""), (ALICE,), "no such user"),
    ],
)
def test_a_certificate_that_is_nobodys_is_refused_without_a_reason(certificate, users, reason):
    connection = Connection(certificate, users)
    error = connection.refused()
    assert (error.code, error.errmsg) == (18, "Authentication failed.")
    (event,) = connection.shell.events
    assert (event.param["reason"], event.param["user"], event.result) == (reason, certificate.subject, 18)


def test_a_restriction_of_the_user_holds_here_too():
    nowhere = ((AuthenticationRestriction(client_source=()),),)
    connection = Connection(users=[replace(ALICE, restrictions=nowhere)])
    assert connection.refused().reason == "authentication restrictions are not met"


def test_a_certificates_roles_are_asked_for_with_its_name():
    roles = (RoleName("read", "shop"),)
    connection = Connection(replace(CERTIFICATE, roles=roles))
    request = body(authenticate=1, mechanism="MONGODB-X509")
    flow = connection.session.authenticate("$external", request)
    assert isinstance(next(flow), Now)
    assert flow.send(NOW) == FetchUser(UserRequest(UserName(NAME, "$external"), roles))


def test_a_directory_that_is_away_lets_nobody_in():
    connection = Connection()
    connection.shell.directory_is_away = True
    assert connection.refused().code == 6


def test_a_mechanism_that_is_off_is_not_served():
    error = Connection(x509=False).refused()
    assert (error.code, error.errmsg) == (
        334,
        "Received authentication for mechanism MONGODB-X509 which is not enabled",
    )
    assert Connection().refused(mechanism="mongodb-x509").code == 334
    assert Connection().refused(mechanism="SCRAM-SHA-256").code == 2


def test_it_ends_a_conversation_that_is_under_way():
    connection = Connection(users=[make_user("carl"), ALICE])
    first = body(saslStart=1, mechanism="SCRAM-SHA-256", payload=client("carl").first())
    connection.shell.run(connection.session.sasl_start("shop", first))
    assert connection.session.login_under_way
    connection.authenticate()
    assert not connection.session.login_under_way


def test_a_second_login_by_the_same_certificate_changes_nothing_and_another_user_keeps_the_connection():
    connection = Connection(users=[make_user("carl", "$external"), ALICE])
    connection.authenticate()
    assert connection.authenticate()["user"] == NAME
    assert connection.session.user is ALICE
    connection.session._user = make_user("carl")
    with pytest.raises(CommandError) as error:
        connection.authenticate()
    assert error.value.code == 5626701


def test_failures_under_the_owners_name_do_not_keep_the_owner_out():
    connection = Connection()
    for _ in range(10_000):
        connection.throttle.failed(ALICE.name, PEER.client, NOW)
    assert connection.throttle.block(ALICE.name, PEER.client, NOW) is not None
    connection.authenticate()
    assert connection.session.user is ALICE
