import base64
import hashlib
import json
from pathlib import Path

import pytest

from mongoguard.authn.scram import SCRAM_MECHANISMS, SCRAM_SHA_256
from mongoguard.authn.scram_client import ScramClientConversation, ScramClientError, ScramPassword
from tests.unit.authn.driving import client

FIXTURES = Path(__file__).parents[3] / "fixtures" / "scram"
SALT = base64.b64encode(b"s" * 28)


def _rfc_7677():
    rfc = json.loads((FIXTURES / "rfc7677_sha256.json").read_text(encoding="utf-8"))
    password = ScramPassword(SCRAM_MECHANISMS[rfc["mechanism"]], rfc["user"], rfc["password"])
    return rfc, ScramClientConversation(password, rfc["client_nonce"].encode())


def test_the_client_sends_what_rfc_7677_prints_and_accepts_its_server():
    rfc, twin = _rfc_7677()
    assert twin.first().decode() == rfc["client_first"]
    assert twin.final(rfc["server_first"].encode()).decode() == rfc["client_final"]
    twin.verify(rfc["server_final"].encode())


def test_a_server_that_does_not_know_the_credentials_is_refused():
    rfc, twin = _rfc_7677()
    twin.final(rfc["server_first"].encode())
    for signature in (b"v=" + base64.b64encode(b"\0" * 32), b"v=", b"e=other-error", b""):
        with pytest.raises(ScramClientError):
            twin.verify(signature)


def test_a_signature_before_the_proof_is_refused():
    rfc, twin = _rfc_7677()
    with pytest.raises(ScramClientError):
        twin.verify(rfc["server_final"].encode())


@pytest.mark.parametrize(
    "nonce", [b"client-nonce", b"other-nonce-and-more", b"client-nonc", b"CLIENT-NONCEx"]
)
def test_a_server_nonce_that_does_not_extend_the_clients_is_refused(nonce):
    with pytest.raises(ScramClientError, match="nonce"):
        client("alice").final(b"r=%b,s=%b,i=4096" % (nonce, SALT))


def test_4096_iterations_are_done_and_4095_and_a_billion_are_refused():
    assert client("alice").final(b"r=client-nonceX,s=%b,i=4096" % SALT)
    for count in (4095, 1, 1_000_000_000):
        with pytest.raises(ScramClientError, match="iterations"):
            client("alice").final(b"r=client-nonceX,s=%b,i=%d" % (SALT, count))


def test_a_malformed_server_message_is_refused():
    with pytest.raises(ScramClientError, match="malformed"):
        client("alice").final(b"m=ext,r=client-nonceX,s=%b,i=4096" % SALT)


def test_a_password_that_saslprep_prohibits_is_refused_without_being_quoted():
    with pytest.raises(ScramClientError, match="prohibits") as refused:
        client("alice", "bell\x07").final(b"r=client-nonceX,s=%b,i=4096" % SALT)
    assert "bell" not in str(refused.value)


def test_the_iterations_run_once_for_a_salt_and_again_for_another(monkeypatch):
    calls = []
    original = hashlib.pbkdf2_hmac

    def counted(*args):
        calls.append(args)
        return original(*args)

    monkeypatch.setattr(hashlib, "pbkdf2_hmac", counted)
    password = ScramPassword(SCRAM_SHA_256, "alice", "pencil")
    first = password.keys(b"s" * 28, 4096)
    assert password.keys(b"s" * 28, 4096) is first
    assert len(calls) == 1
    assert password.keys(b"t" * 28, 4096) != first
    assert password.keys(b"s" * 28, 4097) != first
    assert len(calls) == 3


def test_no_repr_shows_a_secret():
    password = ScramPassword(SCRAM_SHA_256, "alice", "pencil")
    keys = password.keys(b"s" * 28, 4096)
    shown = repr([password, keys, ScramClientConversation(password, b"nonce")])
    assert "alice" in shown
    for secret in ("pencil", repr(keys.client_key), repr(keys.server_key)):
        assert secret not in shown
