import pytest

from mongoguard.authn.scram import SCRAM_MECHANISMS, ScramServerConversation
from mongoguard.authn.upstream_login import UpstreamCredential, UpstreamLoginError, upstream_login
from mongoguard.errors import UpstreamError
from tests.unit.authn.driving import Shell, make_user

NONCE = bytes(range(24))
SHA1, SHA256 = "SCRAM-SHA-1", "SCRAM-SHA-256"


class Upstream:
    """A server that answers login commands with the server twin, and keeps what it was sent."""

    def __init__(self, *, mechs=(SHA256, SHA1), knows_skip=True):
        self.shell = Shell()
        self.shell.add(make_user("guard", "admin"))
        self.mechs = mechs
        self.knows_skip = knows_skip
        self.commands = []
        self.conversation = None

    def answer(self, command):
        self.commands.append(command)
        match next(iter(command)):
            case "hello":
                return (
                    {"ok": 1.0} if self.mechs is None else {"ok": 1.0, "saslSupportedMechs": list(self.mechs)}
                )
            case "saslStart":
                skip = self.knows_skip and command["options"]["skipEmptyExchange"]
                mechanism = SCRAM_MECHANISMS[command["mechanism"]]
                self.conversation = ScramServerConversation(
                    mechanism, command["$db"], b"k" * 16, skip_empty_exchange=skip
                )
            case "authenticate":
                return {"ok": 1.0, "dbname": "$external"}
        step = self.shell.run(self.conversation.step(command["payload"]))
        return {"ok": 1.0, "conversationId": 1, "done": step.user is not None, "payload": step.answer}

    def log_in(self, credential, tamper=lambda reply: reply):
        login = upstream_login(credential, NONCE)
        command = next(login)
        try:
            while True:
                command = login.send(tamper(self.answer(command)))
        except StopIteration:
            return [next(iter(c)) for c in self.commands]


def _credential(mechanism=None, password="pencil"):
    return UpstreamCredential(mechanism, "guard", password, "admin")


def test_without_a_mechanism_the_server_is_asked_and_sha_256_is_preferred():
    upstream = Upstream(mechs=(SHA1, SHA256))
    assert upstream.log_in(_credential()) == ["hello", "saslStart", "saslContinue"]
    assert upstream.commands[0] == {"hello": 1, "saslSupportedMechs": "admin.guard", "$db": "admin"}
    assert upstream.commands[1]["mechanism"] == SHA256
    assert [c["$db"] for c in upstream.commands] == ["admin"] * 3


def test_sha_1_is_taken_when_the_user_has_nothing_better():
    upstream = Upstream(mechs=(SHA1,))
    upstream.log_in(_credential())
    assert upstream.commands[1]["mechanism"] == SHA1


def test_a_server_that_offers_no_list_gets_the_strongest_mechanism():
    upstream = Upstream(mechs=None)
    upstream.log_in(_credential())
    assert upstream.commands[1]["mechanism"] == SHA256


@pytest.mark.parametrize("mechs", [(), ("PLAIN",)])
def test_a_user_without_a_scram_mechanism_is_refused_by_name(mechs):
    with pytest.raises(UpstreamLoginError, match="guard@admin.*offers no SCRAM"):
        Upstream(mechs=mechs).log_in(_credential())


@pytest.mark.parametrize("mechanism", [SHA1, SHA256])
def test_a_given_mechanism_is_used_without_asking(mechanism):
    upstream = Upstream()
    assert upstream.log_in(_credential(mechanism)) == ["saslStart", "saslContinue"]
    assert upstream.commands[0]["mechanism"] == mechanism


def test_a_server_that_does_not_skip_the_empty_exchange_gets_it():
    upstream = Upstream(knows_skip=False)
    assert upstream.log_in(_credential(SHA256)) == ["saslStart", "saslContinue", "saslContinue"]
    assert upstream.commands[2]["payload"] == b""


def test_a_server_that_never_ends_the_conversation_is_refused():
    with pytest.raises(UpstreamLoginError, match="does not end"):
        Upstream(knows_skip=False).log_in(_credential(SHA256), lambda reply: {**reply, "done": False})


def test_a_refusal_is_an_upstream_error_with_the_servers_words_and_no_secret():
    def refuse(_reply):
        return {"ok": 0.0, "code": 18, "errmsg": "Authentication failed."}

    with pytest.raises(UpstreamError, match=r"guard@admin.*\(18\) Authentication failed\.") as refused:
        Upstream().log_in(_credential(SHA256, "sesame"), refuse)
    assert "sesame" not in str(refused.value)


@pytest.mark.parametrize(
    ("payload", "what"),
    [
        (None, "no payload"),
        ("text", "no payload"),
        (b"garbage", "malformed"),
        (b"r=x,s=c2FsdA==,i=4096", "nonce"),
    ],
)
def test_a_server_that_answers_nonsense_is_refused(payload, what):
    with pytest.raises(UpstreamLoginError, match=what):
        Upstream().log_in(_credential(SHA256), lambda reply: {**reply, "payload": payload})


def test_a_server_that_accepts_any_proof_without_knowing_the_password_is_refused():
    def pretend(reply):
        return {**reply, "payload": b"v=" + b"A" * 43 + b"="} if reply["payload"].startswith(b"v=") else reply

    with pytest.raises(UpstreamLoginError, match="signature"):
        Upstream().log_in(_credential(SHA256), pretend)


def test_x509_is_one_command_on_external_and_names_the_user_only_when_given():
    upstream = Upstream()
    upstream.log_in(UpstreamCredential("MONGODB-X509", None, None, "$external"))
    upstream.log_in(UpstreamCredential("MONGODB-X509", "CN=guard", None, "$external"))
    assert upstream.commands == [
        {"authenticate": 1, "mechanism": "MONGODB-X509", "$db": "$external"},
        {"authenticate": 1, "mechanism": "MONGODB-X509", "user": "CN=guard", "$db": "$external"},
    ]


def test_a_refused_certificate_is_an_upstream_login_error():
    login = upstream_login(UpstreamCredential("MONGODB-X509", None, None, "$external"), NONCE)
    next(login)
    with pytest.raises(UpstreamLoginError, match="18"):
        login.send({"ok": 0.0, "code": 18, "errmsg": "No verified subject name available from client"})


def test_a_credential_without_a_password_or_with_an_unknown_mechanism_can_not_be_made():
    for user, password in (("guard", ""), ("guard", None), ("", "pencil"), (None, None)):
        with pytest.raises(ValueError, match="user and a password"):
            UpstreamCredential(None, user, password, "admin")
    with pytest.raises(ValueError, match="GSSAPI"):
        UpstreamCredential("GSSAPI", "guard", "pencil", "admin")


def test_a_short_nonce_is_refused_before_anything_is_sent():
    with pytest.raises(ValueError, match="18"):
        next(upstream_login(_credential(SHA256), b"x" * 17))
    assert next(upstream_login(_credential(SHA256), b"x" * 18))


def test_the_repr_of_a_credential_shows_the_name_and_not_the_password():
    credential = _credential(password="sesame")
    assert "guard@admin" in repr(credential)
    assert "sesame" not in repr(credential)
