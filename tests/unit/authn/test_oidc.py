"""MONGODB-OIDC: the two flows, who they let in, and what is said of whom they don't."""

from dataclasses import replace
from ipaddress import IPv4Address

import bson
import pytest

from mongoguard.authn.authentication_session import AuthenticationSession
from mongoguard.authn.channel import Channel
from mongoguard.authn.conversation import Expiry
from mongoguard.authn.ldap.ecmascript_regex import EcmaScriptRegex
from mongoguard.authn.logins import Logins
from mongoguard.authn.oidc import MAX_GROUPS, MAX_HINT_BYTES, OIDC, oidc_logins
from mongoguard.authn.oidc_provider import IdentityProvider
from mongoguard.authn.throttle import LoginLimits, LoginThrottle
from mongoguard.effects import Emit, FetchSigningKey, FetchUser, Now, SigningKey
from mongoguard.errors import CommandError, DirectoryUnavailable
from mongoguard.model.names import RoleName, UserName
from mongoguard.model.restriction import Peer
from mongoguard.model.user import User, UserRequest
from mongoguard.wire.document import Document
from tests.unit.authn.driving import drive
from tests.unit.authn.oidc_tokens import (
    AUDIENCE,
    ISSUER,
    RSA_ALGORITHMS,
    claims,
    ec_key,
    rsa_key,
    signing_key,
    token,
)

NOW = 1_700_000_000.0
PEER = Peer(IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2"), 1000, 27017)
ALICE = UserName("idp/alice", "$external")
IDP = IdentityProvider(
    ISSUER, AUDIENCE, "idp", authorization_claim="groups", client_id="client", request_scopes=("openid",)
)
BY_DOCUMENT = IdentityProvider(ISSUER, "documents", "idp", supports_human_flows=False)


class Shell:
    """Answers a flow's effects; `keys` by kid, `documents`: users of $external that have one."""

    def __init__(self, keys=None, documents=(), error=None):
        self.keys = {"k1": signing_key()} if keys is None else keys
        self.documents = documents
        self.error = error
        self.requests = []
        self.key_ids = []
        self.events = []
        self.now = NOW

    def run(self, flow):
        return drive(flow, self.answer)

    def answer(self, effect):
        match effect:
            case FetchSigningKey(issuer, key_id):
                assert issuer == ISSUER
                self.key_ids.append(key_id)
                if self.error is not None:
                    raise self.error
                return self.keys.get(key_id)
            case FetchUser(request):
                self.requests.append(request)
                if request.roles is None and request.name.user not in self.documents:
                    return None
                return User(request.name, roles=request.roles or (), asserted_roles=request.roles)
            case Emit(event):
                self.events.append(event)
                return None
            case Now():
                return self.now
        raise AssertionError(effect)


class Client:
    """One connection."""

    def __init__(
        self, shell=None, providers=(IDP, BY_DOCUMENT), *, private=True, db="$external", throttle=None
    ):
        self.shell = shell or Shell()
        self.db = db
        logins = Logins(sasl=oidc_logins(providers))
        if throttle is not None:
            logins = Logins(sasl=oidc_logins(providers), throttle=throttle)
        self.session = AuthenticationSession(logins, PEER, Channel(is_private=private))

    def start(self, payload):
        body = {"saslStart": 1, "mechanism": OIDC, "payload": encoded(payload), "$db": self.db}
        return self.shell.run(self.session.sasl_start(self.db, Document(bson.encode(body))))

    def go_on(self, payload):
        body = {"saslContinue": 1, "conversationId": 1, "payload": encoded(payload), "$db": self.db}
        return self.shell.run(self.session.sasl_continue(self.db, Document(bson.encode(body))))

    def refused(self, work, *secrets):
        """The reason in the audit event of a login that ends in the general 18."""
        with pytest.raises(CommandError) as caught:
            work()
        error, event = caught.value, self.shell.events[-1]
        assert (error.code, error.errmsg, event.result) == (18, "Authentication failed.", 18)
        assert error.__cause__ is None
        shown = f"{error!r}{error.reason}{self.shell.events!r}"
        assert not any(part in shown for secret in secrets for part in secret.split(".") if part)
        assert self.session.user is None
        return event.param["reason"]


def encoded(payload):
    return payload if isinstance(payload, bytes) else bson.encode(payload)


def test_a_program_logs_in_with_one_message():
    client = Client()
    reply = client.start({"jwt": token(claims(NOW))})
    assert reply == {"conversationId": 1, "done": True, "payload": b""}
    assert client.shell.requests == [UserRequest(ALICE, (RoleName("idp/dba", "admin"),))]
    assert client.session.user.name == ALICE
    assert client.session.expiry == Expiry(NOW + 300, reauthenticates=True, key=signing_key())
    (event,) = client.shell.events
    assert (event.param["user"], event.param["mechanism"]) == ("idp/alice", OIDC)
    assert event.param["claims"] == {"iss": ISSUER, "sub": "alice"}


def test_a_login_lasts_no_longer_than_the_key_of_its_token():
    client = Client()
    client.start({"jwt": token(claims(NOW))})
    other = SigningKey(rsa_key(name="other").public_key(), RSA_ALGORITHMS)
    client.session.withdraw_keys([other], NOW + 10)
    assert client.session.expiry.at == NOW + 300
    client.session.withdraw_keys([other, signing_key()], NOW + 10)
    assert client.session.expiry == Expiry(NOW + 10, reauthenticates=True, key=signing_key())
    client.session.withdraw_keys([signing_key()], NOW + 20)
    assert client.session.expiry.at == NOW + 10, "it is not put off"


def test_who_is_not_logged_in_has_nothing_to_withdraw():
    client = Client()
    client.session.withdraw_keys([signing_key()], NOW)
    assert client.session.expiry is None


@pytest.mark.parametrize("name", [None, "alice"])
def test_a_person_is_told_where_to_get_a_token_and_then_logs_in(name):
    client = Client()
    reply = client.start({} if name is None else {"n": name})
    assert (reply["done"], client.shell.events) == (False, [])
    told = {"issuer": ISSUER, "clientId": "client", "requestScopes": ["openid"]}
    assert bson.decode(reply["payload"]) == told
    assert client.go_on({"jwt": token(claims(NOW))})["done"]
    assert client.session.user.name == ALICE


def test_scopes_that_are_not_configured_are_not_told():
    client = Client(providers=[IdentityProvider(ISSUER, AUDIENCE, "idp", client_id="c")])
    assert bson.decode(client.start({})["payload"]) == {"issuer": ISSUER, "clientId": "c"}


def test_a_person_who_asked_under_another_name_is_refused():
    client, text = Client(), token(claims(NOW, sub="mallory"))
    client.start({"n": "alice"})
    assert "not of the user who asked" in client.refused(lambda: client.go_on({"jwt": text}), text)
    assert client.shell.requests == []


def test_a_person_who_was_sent_to_one_provider_brings_no_token_of_another():
    client, text = Client(), token(claims(NOW, aud="documents"))
    client.start({})
    assert "another identity provider" in client.refused(lambda: client.go_on({"jwt": text}), text)


@pytest.mark.parametrize("payload", [{}, {"n": "alice"}])
def test_the_second_message_is_a_token(payload):
    client = Client()
    client.start({})
    assert "no token" in client.refused(lambda: client.go_on(payload))


def test_a_person_whom_no_provider_is_for_is_told_nothing():
    pattern = EcmaScriptRegex.parse(".*@corp")
    client = Client(providers=[IdentityProvider(ISSUER, AUDIENCE, "idp", match_pattern=pattern)])
    assert "no identity provider is configured" in client.refused(lambda: client.start({"n": "ann@shop"}))
    assert client.start({"n": "ann@corp"})["done"] is False


def test_a_long_name_is_matched_up_to_its_bound_and_not_beyond(monkeypatch):
    """A stranger chooses it, and while it is matched nobody else is served."""
    matched = []
    monkeypatch.setattr(EcmaScriptRegex, "match_whole", lambda _pattern, name: matched.append(name) or ())
    client = Client(providers=[replace(IDP, match_pattern=EcmaScriptRegex.parse(".*"))])
    longest = "a" * MAX_HINT_BYTES
    assert client.start({"n": longest})["done"] is False
    assert "longer than 256 bytes" in client.refused(lambda: client.start({"n": longest + "a"}))
    assert matched == [longest]


# ---- payloads -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\0",
        b"\5\0\0\0",
        bson.encode({}) + b"\0",
        bson.encode({"n": "a"})[:-1],
        bson.encode({"jwt": "a.b.c"}) + bson.encode({}),
        {"jwt": ""},
        {"jwt": 5},
        {"jwt": b"a.b.c"},
        {"jwt": None},
        {"jwt": {"a": 1}},
        {"jwt": "a.b.c", "n": "alice"},
        {"jwt": "a.b.c", "more": 1},
        {"n": ""},
        {"n": 5},
        {"n": None},
        {"n": "a\0b"},
        {"n": "a" * (MAX_HINT_BYTES + 1)},
        {"n": "é" * (MAX_HINT_BYTES // 2) + "a"},
        {"n": "a", "m": 1},
        {"N": "a"},
        b"\x15\0\0\0\2n\0\2\0\0\0a\0\2n\0\2\0\0\0b\0\0",
        b"\x0f\0\0\0\2n\0\3\0\0\0\xff\xff\0\0",
    ],
)
def test_what_is_no_payload_is_refused(payload):
    client = Client()
    assert client.refused(lambda: client.start(payload))
    assert client.shell.requests == client.shell.key_ids == []


# ---- tokens ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"exp": NOW}, "expired"),
        ({"exp": None}, "exp is missing"),
        ({"nbf": NOW + 61}, "nbf"),
        ({"iss": "https://other.test"}, "no identity provider, or more than one"),
        ({"iss": ISSUER + "/"}, "no identity provider, or more than one"),
        ({"iss": None}, "iss is missing"),
        ({"aud": "other"}, "no identity provider, or more than one"),
        ({"aud": [AUDIENCE, "documents"]}, "no identity provider, or more than one"),
        ({"aud": []}, "no identity provider, or more than one"),
        ({"aud": None}, "aud is missing"),
        ({"sub": None}, "sub is missing"),
        ({"sub": ""}, "sub is missing"),
        ({"sub": "a\0b"}, "sub holds a NUL"),
        ({"sub": "a" * 513}, "sub is longer"),
        ({"groups": None}, "groups is missing"),
        ({"groups": {"a": 1}}, "groups is missing, or neither"),
        ({"groups": ["g"] * (MAX_GROUPS + 1)}, "more than 512"),
    ],
)
def test_a_token_that_says_something_wrong_is_refused(fields, reason):
    client, text = Client(), token(claims(NOW, **fields))
    assert reason in client.refused(lambda: client.start({"jwt": text}), text)
    assert client.shell.requests == []


def test_a_token_that_another_has_signed_is_refused_and_names_nobody():
    client, text = Client(), token(claims(NOW), rsa_key(name="impostor"))
    assert "signature" in client.refused(lambda: client.start({"jwt": text}), text)
    assert client.shell.events[-1].param["user"] == ""


def test_an_expired_token_names_its_user_to_the_auditor():
    client, text = Client(), token(claims(NOW, exp=NOW - 5))
    assert "expired 5 s ago" in client.refused(lambda: client.start({"jwt": text}), text)
    assert client.shell.events[-1].param["user"] == "idp/alice"


def test_a_key_that_is_not_published_is_refused():
    client, text = Client(Shell(keys={})), token(claims(NOW))
    assert "publishes no key 'k1'" in client.refused(lambda: client.start({"jwt": text}), text)


def test_a_provider_that_can_not_be_asked_is_no_wrong_token():
    client = Client(Shell(error=DirectoryUnavailable("it hangs")))
    with pytest.raises(CommandError) as caught:
        client.start({"jwt": token(claims(NOW))})
    assert (caught.value.code, client.shell.events[-1].param["reason"]) == (6, "it hangs")
    assert "hangs" not in caught.value.errmsg


def test_a_strangers_token_asks_for_no_key():
    client = Client()
    client.refused(lambda: client.start({"jwt": token(claims(NOW, iss="https://evil.test"))}))
    assert client.shell.key_ids == []


def test_a_token_signed_on_a_curve_logs_in():
    key = SigningKey(ec_key().public_key(), frozenset({"ES256"}))
    client = Client(Shell(keys={"k1": key}))
    assert client.start({"jwt": token(claims(NOW), ec_key(), "ES256")})["done"]


# ---- roles ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("groups", "roles"),
    [
        ("dba", ["idp/dba"]),
        (["b", "a", "b"], ["idp/b", "idp/a"]),
        ([], []),
        (["root@admin"], ["idp/root@admin"]),
    ],
)
def test_groups_become_roles_on_admin(groups, roles):
    client = Client()
    client.start({"jwt": token(claims(NOW, groups=groups))})
    assert client.shell.requests[0].roles == tuple(RoleName(role, "admin") for role in roles)


def test_without_an_authorization_claim_the_directory_has_the_roles():
    text = token(claims(NOW, aud="documents"))
    client = Client(Shell(documents={"idp/alice"}))
    assert client.start({"jwt": text})["done"]
    assert client.shell.requests == [UserRequest(ALICE, None)]
    stranger = Client()
    assert "no such user" in stranger.refused(lambda: stranger.start({"jwt": text}), text)


def test_another_claim_may_be_the_name():
    client = Client(providers=[IdentityProvider(ISSUER, AUDIENCE, "idp", "email", "groups")])
    client.start({"jwt": token(claims(NOW, email="ann@example.test"))})
    assert client.session.user.name.user == "idp/ann@example.test"
    unnamed = Client(providers=[IdentityProvider(ISSUER, AUDIENCE, "idp", "email", "groups")])
    assert "email is missing" in unnamed.refused(lambda: unnamed.start({"jwt": token(claims(NOW))}))


@pytest.mark.parametrize(
    ("claim", "logged"), [("text", {"team": "text"}), ("t" * 257, {}), (5, {}), (["text"], {}), (None, {})]
)
def test_claims_that_are_short_texts_go_into_the_event_of_a_login_when_asked_for(claim, logged):
    provider = IdentityProvider(ISSUER, AUDIENCE, "idp", authorization_claim="groups", log_claims=("team",))
    client = Client(providers=[provider])
    client.start({"jwt": token(claims(NOW, team=claim))})
    assert client.shell.events[-1].param.get("claims", {}) == logged


# ---- connections ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("payload", [{"jwt": "a.b.c"}, {}])
def test_a_connection_that_can_be_read_is_refused_before_a_token_is_looked_at_or_asked_for(payload):
    client = Client(private=False)
    with pytest.raises(CommandError) as caught:
        client.start(payload)
    # Not 18: a driver would fetch the next token and send that one too.
    assert caught.value.code == 334
    assert "TLS" in client.shell.events[-1].param["reason"]


@pytest.mark.parametrize("db", ["admin", "shop"])
def test_only_external_users_log_in_by_tokens(db):
    client = Client(db=db)
    with pytest.raises(CommandError) as caught:
        client.start({"jwt": token(claims(NOW))})
    assert caught.value.code == 334


def test_a_newer_token_of_the_same_user_takes_the_place_of_the_old_one():
    client = Client()
    client.start({"jwt": token(claims(NOW, exp=NOW + 1))})
    client.shell.now = NOW + 2
    client.start({"jwt": token(claims(NOW, exp=NOW + 100, groups=["other"]))})
    assert client.session.expiry.at == NOW + 100
    assert client.session.user.roles == (RoleName("idp/other", "admin"),)


def test_a_newer_token_of_somebody_else_does_not():
    client = Client()
    client.start({"jwt": token(claims(NOW))})
    with pytest.raises(CommandError) as caught:
        client.start({"jwt": token(claims(NOW, sub="bob"))})
    assert caught.value.code == 5626702
    assert client.session.user.name == ALICE


def test_passwords_guessed_under_the_users_name_do_not_keep_the_tokens_owner_out():
    throttle = LoginThrottle(LoginLimits(per_user_and_address=1, per_address=1, per_user=1))
    throttle.failed(ALICE, PEER.client, NOW)
    assert throttle.block(ALICE, PEER.client, NOW) is not None
    assert Client(throttle=throttle).start({"jwt": token(claims(NOW))})["done"]


def test_whoever_replays_old_tokens_locks_nobody_out():
    throttle = LoginThrottle(LoginLimits(per_user_and_address=2, per_address=2, per_user=2))
    shell = Shell()
    for _ in range(5):
        replay = Client(shell, throttle=throttle)
        replay.refused(lambda replay=replay: replay.start({"jwt": token(claims(NOW, exp=NOW - 1))}))
    owner = Client(shell, throttle=throttle)
    assert owner.start({"jwt": token(claims(NOW))})["done"]
