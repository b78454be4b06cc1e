"""GSSAPI, with the Kerberos library's answers given by hand: which messages log in, and what is said of the others."""

import base64
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mongoguard.authn.authentication_session import AuthenticationSession
from mongoguard.authn.channel import Channel
from mongoguard.authn.conversation import Expiry
from mongoguard.authn.gssapi import GssapiServerConversation, gssapi_logins
from mongoguard.authn.logins import Logins
from mongoguard.authn.throttle import LoginLimits, LoginThrottle
from mongoguard.effects import (
    AcceptGssToken,
    Emit,
    FetchUser,
    GssContext,
    GssMessage,
    GssRefusal,
    Now,
    UnwrapGssMessage,
    WrapGssMessage,
)
from mongoguard.errors import CommandError, DirectoryUnavailable
from mongoguard.model.names import UserName
from mongoguard.model.restriction import Peer
from mongoguard.model.user import User, UserRequest
from mongoguard.wire.document import Document, encode
from tests.unit.authn.driving import drive

PEER = Peer(ip_address("10.0.0.1"), 1000, ip_address("10.0.0.2"), 27017)
ALICE = UserName("alice@EXAMPLE.TEST", "$external")
TICKET, PROOF = b"AP-REQ", b"AP-REP"
END = 1_000.0


class Library:
    """Stands for the Kerberos library and the directory. `choice` is what the client's last message holds."""

    def __init__(self, initiator=b"alice@EXAMPLE.TEST", choice=b"\1\0\0\0", users=(ALICE,), **context):
        self.context = GssContext(
            "the handle",
            **{"answer": PROOF, "initiator": initiator, "is_mutual": True, "expires_at": END} | context,
        )
        self.choice = choice if isinstance(choice, GssMessage | GssRefusal) else GssMessage(choice, False)
        self.users = {name: User(name) for name in users}
        self.error = None
        self.now = 0.0
        self.asked = []
        self.wrapped = []
        self.events = []

    def run(self, flow):
        return drive(flow, self.answer)

    def answer(self, effect):
        self.asked.append(type(effect))
        match effect:
            case AcceptGssToken() | WrapGssMessage() | UnwrapGssMessage():
                return self.kerberos(effect)
            case FetchUser(UserRequest(name, None)):
                return self.users.get(name)
            case Now():
                return self.now
            case Emit(event):
                self.events.append(event)
                return None
        raise AssertionError(effect)

    def kerberos(self, effect):
        match effect:
            case AcceptGssToken(token):
                if self.error is not None:
                    raise self.error
                return self.context if token == TICKET else GssRefusal("Invalid token was supplied")
            case WrapGssMessage("the handle", content):
                self.wrapped.append(content)
                return b"wrapped:" + content
            case UnwrapGssMessage("the handle", b"wrapped by the client"):
                return self.choice
            case UnwrapGssMessage("the handle", _):
                return GssRefusal("A token had an invalid Message Integrity Check (MIC)")
        raise AssertionError(effect)


class Client:
    """One connection's messages."""

    def __init__(self, library, *, in_text=False, logins=None):
        self.library = library
        self.in_text = in_text
        logins = logins or Logins(sasl=gssapi_logins())
        self.session = AuthenticationSession(logins, PEER, Channel())

    def _payload(self, content):
        return base64.b64encode(content).decode() if self.in_text else content

    def start(self, token=TICKET, db="$external"):
        body = {"saslStart": 1, "mechanism": "GSSAPI", "payload": self._payload(token), "autoAuthorize": 1}
        return self.library.run(self.session.sasl_start(db, Document(encode(body))))

    def go_on(self, payload):
        body = {"saslContinue": 1, "conversationId": 1, "payload": self._payload(payload)}
        return self.library.run(self.session.sasl_continue("$external", Document(encode(body))))

    def log_in(self):
        self.start()
        self.go_on(b"")
        return self.go_on(b"wrapped by the client")


def refusal(library, act=Client.log_in, **more):
    """The reason in the audit event; the client is told nothing of it."""
    client = Client(library, **more)
    with pytest.raises(CommandError) as caught:
        act(client)
    assert (caught.value.code, caught.value.errmsg) == (18, "Authentication failed.")
    assert client.session.user is None
    assert not client.session.login_under_way
    (event,) = library.events
    assert event.result == 18
    return event.param["reason"]


@pytest.mark.parametrize("in_text", [False, True])
def test_a_ticket_logs_in_by_three_messages_answered_in_their_own_form(in_text):
    library = Library()
    client = Client(library, in_text=in_text)

    def form(content):
        return base64.b64encode(content).decode() if in_text else content

    assert client.start() == {"conversationId": 1, "done": False, "payload": form(PROOF)}
    assert client.session.user is None
    assert client.go_on(b"") == {"conversationId": 1, "done": False, "payload": form(b"wrapped:\1\0\0\0")}
    assert client.session.user is None
    assert client.go_on(b"wrapped by the client") == {"conversationId": 1, "done": True, "payload": form(b"")}
    assert client.session.user == User(ALICE)
    (event,) = library.events
    assert (event.result, event.param) == (
        0,
        {"user": "alice@EXAMPLE.TEST", "db": "$external", "mechanism": "GSSAPI"},
    )


def test_a_login_holds_until_the_ticket_ends_and_then_the_connection_closes():
    client = Client(Library())
    client.log_in()
    assert client.session.expiry == Expiry(END, reauthenticates=False)


@pytest.mark.parametrize("moment", [END, END + 1])
def test_a_ticket_that_ends_while_the_login_is_under_way_is_refused(moment):
    library = Library()
    library.now = moment
    assert "has expired" in refusal(library)


@pytest.mark.parametrize("choice", [b"\1\0\0\0alice@EXAMPLE.TEST", b"\1\1\0\0", b"\1\xff\xff\xff"])
def test_the_own_name_and_a_size_that_means_nothing_are_taken(choice):
    assert Client(Library(choice=choice)).log_in()["done"]


@pytest.mark.parametrize(
    "authzid",
    [
        b"bob@EXAMPLE.TEST",
        b"alice",
        b"ALICE@EXAMPLE.TEST",
        b"alice@EXAMPLE.TEST\0",
        b"alice@OTHER.TEST",
        b"\xff",
        b" ",
    ],
)
def test_another_name_than_the_tickets_is_refused(authzid):
    library = Library(choice=b"\1\0\0\0" + authzid, users=[ALICE, UserName("bob@EXAMPLE.TEST", "$external")])
    assert "another user" in refusal(library)
    assert FetchUser not in library.asked


@pytest.mark.parametrize("content", [b"", b"\1", b"\1\0\0"])
def test_a_choice_that_is_cut_short_is_refused(content):
    assert "shorter than 4 bytes" in refusal(Library(choice=content))


@pytest.mark.parametrize("layer", [0, 2, 3, 4, 5, 7, 0xFF])
def test_a_security_layer_is_refused(layer):
    assert "not offered" in refusal(Library(choice=bytes([layer, 0, 0, 0])))


def test_an_encrypted_choice_is_refused():
    assert "encrypted" in refusal(Library(choice=GssMessage(b"\1\0\0\0", is_encrypted=True)))


def test_a_choice_that_was_not_wrapped_in_this_context_is_refused():
    def act(client):
        client.start()
        client.go_on(b"")
        client.go_on(b"\1\0\0\0")

    assert "Message Integrity" in refusal(Library(), act)


def test_the_choice_can_not_come_before_the_offer():
    def act(client):
        client.start()
        client.go_on(b"wrapped by the client")

    library = Library()
    assert "second message is not empty" in refusal(library, act)
    assert library.wrapped == []


def test_an_unknown_ticket_is_refused_with_the_librarys_reason():
    assert refusal(Library(), lambda client: client.start(b"junk")) == "Invalid token was supplied"


def test_an_empty_first_message_is_refused_before_the_library_is_asked():
    library = Library()
    assert "empty" in refusal(library, lambda client: client.start(b""))
    assert AcceptGssToken not in library.asked


@pytest.mark.parametrize("context", [{"is_mutual": False}, {"answer": b""}])
def test_a_client_that_asks_for_no_proof_of_the_server_is_refused(context):
    """Its messages could be recorded, and said again to another server with the same keytab."""
    assert "mutual" in refusal(Library(**context), Client.start)


def test_a_ticket_of_a_user_that_is_not_on_external_is_refused():
    library = Library(users=[UserName(ALICE.user, "admin")])
    assert "no such user on $external" in refusal(library)
    assert library.events[0].param["user"] == ALICE.user


def test_nobody_is_a_user_of_an_identity_provider_by_a_ticket():
    library = Library(b"idp/bob@EXAMPLE.TEST", users=[UserName("idp/bob@EXAMPLE.TEST", "$external")])
    logins = Logins(sasl=gssapi_logins(("idp/",)))
    assert "identity provider" in refusal(library, Client.start, logins=logins)


@pytest.mark.parametrize(
    ("initiator", "reason"),
    [
        (b"", "anonymous"),
        (b"WELLKNOWN/ANONYMOUS@WELLKNOWN:ANONYMOUS", "anonymous"),
        (b"WELLKNOWN/ANONYMOUS@EXAMPLE.TEST", "anonymous"),
        (b"ali\xff@EXAMPLE.TEST", "not UTF-8"),
        (b"a" * 10_001, "longer than 10000 bytes"),
    ],
)
def test_a_ticket_of_nobody_is_refused(initiator, reason):
    users = [UserName(initiator.decode("latin-1"), "$external")]
    assert reason in refusal(Library(initiator, users=users), Client.start)


@pytest.mark.parametrize(
    "name",
    [
        "alice@OTHER.TEST",
        "alice/admin@EXAMPLE.TEST",
        "HTTP/host.example.test@EXAMPLE.TEST",
        r"ali\@ce@EXAMPLE.TEST",
        r"a\/b\\c\n\t@EXAMPLE.TEST",
        "zoë@EXAMPLE.TEST",
        "*)(uid=*@EXAMPLE.TEST",
    ],
)
def test_a_name_is_kept_whole_with_its_realm_and_its_escapes(name):
    user = UserName(name, "$external")
    client = Client(Library(name.encode(), users=[user]))
    client.log_in()
    assert client.session.user.name == user
    assert "no such user" in refusal(Library(name.encode()))


@pytest.mark.parametrize("db", ["admin", "shop", "EXAMPLE.TEST"])
def test_only_external_users_log_in_by_gssapi(db):
    library = Library()
    with pytest.raises(CommandError) as caught:
        Client(library).start(db=db)
    assert caught.value.code == 334
    assert AcceptGssToken not in library.asked


def test_a_library_that_hangs_is_no_bad_ticket():
    library = Library()
    library.error = DirectoryUnavailable("the Kerberos library gave no answer within 10 s")
    with pytest.raises(CommandError) as caught:
        Client(library).start()
    assert caught.value.code == 6
    assert "Kerberos" not in caught.value.errmsg


def test_a_conversation_that_is_over_can_not_be_gone_on_with():
    client = Client(Library())
    client.log_in()
    with pytest.raises(CommandError, match="No SASL session state found"):
        client.go_on(b"wrapped by the client")


def test_a_new_ticket_in_mid_conversation_begins_anew():
    client = Client(Library())
    client.start()
    client.go_on(b"")
    client.start()
    with pytest.raises(CommandError):
        client.go_on(b"wrapped by the client")
    assert client.session.user is None


def test_refused_tickets_lock_nobody_out():
    """A ticket can't be guessed; whoever replays one must not keep its owner out."""
    throttle = LoginThrottle(LoginLimits(per_user_and_address=1, per_address=1, per_user=1))
    logins = Logins(sasl=gssapi_logins(), throttle=throttle)
    refusal(Library(choice=b"\2\0\0\0"), logins=logins)
    refusal(Library(), lambda client: client.start(b"junk"), logins=logins)
    assert Client(Library(), logins=logins).log_in()["done"]


def test_passwords_guessed_under_the_principals_name_do_not_keep_its_owner_out():
    throttle = LoginThrottle(LoginLimits(per_user_and_address=1, per_address=1, per_user=1))
    throttle.failed(ALICE, PEER.client, 0.0)
    assert throttle.block(ALICE, PEER.client, 0.0) is not None
    assert Client(Library(), logins=Logins(sasl=gssapi_logins(), throttle=throttle)).log_in()["done"]


def test_a_login_has_no_more_steps_than_three():
    library = Library()
    conversation = GssapiServerConversation()
    answers = [library.run(conversation.step(payload)) for payload in (TICKET, b"", b"wrapped by the client")]
    assert [step.user is not None for step in answers] == [False, False, True]


@given(st.lists(st.one_of(st.binary(max_size=40), st.sampled_from([TICKET, b""])), max_size=6))
def test_no_other_messages_log_in(payloads):
    client = Client(Library())
    try:
        client.start(payloads[0] if payloads else b"")
        for payload in payloads[1:]:
            client.go_on(payload)
    except CommandError as error:
        assert error.code in (17, 18)
    assert client.session.user is None


def test_no_repr_shows_a_token():
    context = Library().context
    shown = f"{context!r}{AcceptGssToken(TICKET)!r}{UnwrapGssMessage('the handle', TICKET)!r}"
    assert "AP-RE" not in shown
    assert "handle" not in shown.replace("handle=", "")
