"""PLAIN: what is a message, where it is taken, and what is said of it."""

from ipaddress import IPv4Address

import pytest

from mongoguard.authn.authentication_session import AuthenticationSession
from mongoguard.authn.channel import Channel
from mongoguard.authn.logins import Logins
from mongoguard.authn.plain import PlainServerConversation, plain_logins
from mongoguard.authn.throttle import LoginLimits, LoginThrottle
from mongoguard.effects import CheckPassword, Emit, FetchUser, Now, PasswordCheck
from mongoguard.errors import CommandError, DirectoryUnavailable
from mongoguard.model.names import UserName
from mongoguard.model.restriction import Peer
from mongoguard.model.user import User, UserRequest
from mongoguard.wire.document import Document, encode
from tests.unit.authn.driving import drive

PEER = Peer(IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2"), 1000, 27017)
ANN = UserName("ann", "$external")
CANARY = "canary-pass"


class Shell:
    """Answers a flow's effects: `passwords` by name, `users` by name; `error` is thrown for a password."""

    def __init__(self, passwords=None, users=(), error=None):
        self.passwords = {"ann": CANARY} if passwords is None else passwords
        self.users = {user.name: user for user in users} or {ANN: User(ANN)}
        self.error = error
        self.asked = []
        self.events = []

    def run(self, flow):
        return drive(flow, self.answer)

    def answer(self, effect):
        match effect:
            case CheckPassword(name, password):
                self.asked.append(name)
                assert CANARY not in repr(effect)
                if self.error is not None:
                    raise self.error
                right = self.passwords.get(name) == password
                return PasswordCheck(right, "" if right else "wrong password (data 52e)")
            case FetchUser(UserRequest(name, None)):
                return self.users.get(name)
            case Emit(event):
                self.events.append(event)
                return None
            case Now():
                return 0.0
        raise AssertionError(effect)


def start(shell, payload, *, db="$external", private=True, logins=None):
    logins = logins or Logins(sasl=plain_logins())
    session = AuthenticationSession(logins, PEER, Channel(is_private=private))
    body = {"saslStart": 1, "mechanism": "PLAIN", "payload": payload, "autoAuthorize": 1, "$db": db}
    reply = shell.run(session.sasl_start(db, Document(encode(body))))
    return session, reply


def refused(shell, payload, **more):
    with pytest.raises(CommandError) as caught:
        start(shell, payload, **more)
    error = caught.value
    assert CANARY not in f"{error!r}{error.errmsg}{error.reason}{shell.events!r}"
    (event,) = shell.events
    assert event.result == error.code
    return error, event


@pytest.mark.parametrize("authzid", [b"", b"ann"])
def test_a_right_password_logs_in_in_one_step(authzid):
    shell = Shell()
    session, reply = start(shell, authzid + b"\0ann\0" + CANARY.encode())
    assert reply == {"conversationId": 1, "done": True, "payload": b""}
    assert session.user == User(ANN)
    (event,) = shell.events
    assert (event.param["user"], event.param["mechanism"], event.result) == ("ann", "PLAIN", 0)


def test_a_wrong_password_is_told_to_the_auditor_alone():
    error, event = refused(Shell(), b"\0ann\0wrong")
    assert (error.code, error.errmsg) == (18, "Authentication failed.")
    assert event.param["reason"] == "wrong password (data 52e)"
    assert event.param["user"] == "ann"


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "exactly two NULs"),
        (b"ann\0" + CANARY.encode(), "exactly two NULs"),
        (b"\0ann\0" + CANARY.encode() + b"\0", "exactly two NULs"),
        (b"\0ann\0x\0y", "exactly two NULs"),
        (b"\0\0" + CANARY.encode(), "the user name is empty"),
        (b"\0ann\0", "the password is empty"),
        (b"\0\0", "the user name is empty"),
        (b"root\0ann\0" + CANARY.encode(), "another user"),
        (b"Ann\0ann\0" + CANARY.encode(), "another user"),
        (b"\0a\xff\0" + CANARY.encode(), "the user name is not UTF-8"),
        (b"\0a\xed\xa0\x80\0x", "the user name is not UTF-8"),
        (b"\0ann\0" + CANARY.encode() + b"\xff", "the password is not UTF-8"),
        (b"\0" + b"a" * 10_001 + b"\0x", "longer than 10000 bytes"),
        (b"\0ann\0" + CANARY.encode() * 400, "longer than 4096 bytes"),
    ],
)
def test_what_is_no_plain_message_is_refused_before_anybody_is_asked(payload, reason):
    shell = Shell(passwords={"ann": CANARY, "": CANARY})
    error, event = refused(shell, payload)
    assert (error.code, error.errmsg) == (18, "Authentication failed.")
    assert reason in event.param["reason"]
    assert shell.asked == []


def test_a_connection_that_can_be_read_on_the_way_is_refused_before_the_password_is_looked_at():
    shell = Shell()
    error, event = refused(shell, b"\0ann\0" + CANARY.encode(), private=False)
    assert (error.code, error.errmsg) == (18, "Authentication failed.")
    assert "neither TLS nor a Unix socket" in event.param["reason"]
    assert shell.asked == []


@pytest.mark.parametrize("db", ["admin", "shop", "local"])
def test_only_external_users_log_in_by_plain(db):
    shell = Shell()
    error, _ = refused(shell, b"\0ann\0" + CANARY.encode(), db=db)
    assert (error.code, error.errmsg) == (
        334,
        f"Unsupported mechanism 'PLAIN' on authentication database '{db}'",
    )
    assert shell.asked == []


def test_a_directory_that_is_away_is_no_wrong_password():
    error, event = refused(
        Shell(error=DirectoryUnavailable("ldap1:636: refused")), b"\0ann\0" + CANARY.encode()
    )
    assert error.code == 6
    assert event.param["reason"] == "ldap1:636: refused"
    assert "ldap1" not in error.errmsg


def test_a_right_password_without_a_user_is_refused():
    shell = Shell(passwords={"bob": CANARY})
    error, event = refused(shell, b"\0bob\0" + CANARY.encode())
    assert error.code == 18
    assert "no such user on $external" in event.param["reason"]


def test_nobody_is_a_user_of_an_identity_provider_by_a_password():
    """Such a name may be somebody's to choose in the directory; its sessions and cursors would be another's."""
    name = UserName("idp/bob", "$external")
    throttle = LoginThrottle(LoginLimits(per_user_and_address=1))
    logins = Logins(sasl=plain_logins(("idp/", "other/")), throttle=throttle)
    shell = Shell(passwords={"idp/bob": CANARY, "idpbob": CANARY}, users=[User(name)])
    error, event = refused(shell, b"\0idp/bob\0" + CANARY.encode(), logins=logins)
    assert (error.code, error.errmsg) == (18, "Authentication failed.")
    assert "identity provider" in event.param["reason"]
    assert shell.asked == []
    assert throttle.block(name, PEER.client, 0.0) is None  # or the token's owner would be kept out


def test_other_names_with_a_slash_are_anybodys():
    shell = Shell(passwords={"corp/ann": CANARY}, users=[User(UserName("corp/ann", "$external"))])
    session, _ = start(shell, b"\0corp/ann\0" + CANARY.encode(), logins=Logins(sasl=plain_logins(("idp/",))))
    assert session.user is not None


def test_a_name_of_ten_kilobytes_is_asked_about_and_one_more_byte_is_not():
    shell = Shell(passwords={})
    refused(shell, b"\0" + b"a" * 10_000 + b"\0x")
    assert shell.asked == ["a" * 10_000]


def test_the_conversation_and_the_effect_do_not_print_the_password():
    conversation = PlainServerConversation()
    flow = conversation.step(b"\0ann\0" + CANARY.encode())
    effect = next(flow)
    assert CANARY not in f"{effect!r}{conversation!r}{flow!r}"
    flow.close()
