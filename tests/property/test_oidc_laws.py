"""Laws of MONGODB-OIDC: whatever a client sends, it gets in by a token that was signed for it, or is refused."""

import json

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mongoguard.authn.oidc import OidcServerConversation
from mongoguard.authn.oidc_keys import parse_key_set
from mongoguard.authn.oidc_provider import IdentityProvider
from mongoguard.authn.oidc_token import Token, TokenRefused
from mongoguard.effects import FetchSigningKey, FetchUser, Now
from mongoguard.errors import CommandError
from mongoguard.model.user import User
from tests.unit.authn.oidc_tokens import (
    AUDIENCE,
    ISSUER,
    base64url,
    claims,
    joined,
    jwk_of,
    rsa_key,
    signing_key,
    token,
)

NOW = 1_700_000_000.0
HEADER = json.dumps({"alg": "RS256", "kid": "k1"}).encode()
PROVIDERS = (IdentityProvider(ISSUER, AUDIENCE, "idp", authorization_claim="groups", client_id="c"),)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)
CLAIM_NAMES = st.sampled_from(["iss", "aud", "sub", "groups", "exp", "nbf", "iat", "auth_time"])


def outcome(payload):
    """The step that a payload ends in; None when it is refused as a login is."""
    flow = OidcServerConversation(PROVIDERS).step(payload)
    answer = None
    try:
        while True:
            match flow.send(answer):
                case FetchSigningKey(_, key_id):
                    answer = signing_key() if key_id == "k1" else None
                case FetchUser(request):
                    answer = User(request.name, asserted_roles=request.roles)
                case Now():
                    answer = NOW
    except StopIteration as stop:
        return stop.value
    except CommandError as error:
        assert (error.code, error.errmsg) == (18, "Authentication failed.")
        assert error.reason
        return None


@given(st.binary(max_size=200))
def test_octets_are_refused_or_ask_where_to_get_a_token(payload):
    step = outcome(payload)
    assert step is None or step.user is None


@given(st.dictionaries(st.sampled_from(["jwt", "n", "x"]), st.none() | st.text() | st.integers(-9, 9)))
def test_documents_without_a_signed_token_let_nobody_in(document):
    step = outcome(bson.encode(document))
    assert step is None or (step.user is None and set(document) <= {"n"})


@given(st.text(max_size=300), st.sampled_from([".", "..", "e30.e30.", ""]))
def test_texts_are_no_tokens(text, more):
    with pytest.raises(TokenRefused):
        Token.parse(text + more).proven(signing_key())


@given(st.dictionaries(CLAIM_NAMES, JSON, max_size=4))
def test_a_signed_token_lets_in_whom_its_claims_name_and_nobody_else(changed):
    body = {**claims(NOW), **changed}
    step = outcome(bson.encode({"jwt": joined(HEADER, json.dumps(body).encode())}))
    if step is not None:
        assert step.user.name == (f"idp/{body['sub']}", "$external")
        assert step.expiry.at == body["exp"] > NOW
        assert body["iss"] == ISSUER
        assert body["aud"] in (AUDIENCE, [AUDIENCE])
        groups = [body["groups"]] if isinstance(body["groups"], str) else body["groups"]
        assert {role.role for role in step.user.asserted_roles} == {f"idp/{group}" for group in groups}


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_a_signature_over_anything_else_than_a_token_lets_nobody_in(header, payload):
    assert outcome(bson.encode({"jwt": joined(header, payload)})) is None


@given(st.data())
def test_a_token_with_one_character_changed_lets_nobody_in(data):
    text = token(claims(NOW))
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters(codec="ascii").filter(lambda c: c != text[at]))
    assert outcome(bson.encode({"jwt": text[:at] + other + text[at + 1 :]})) is None


@given(st.dictionaries(st.sampled_from(["alg", "typ", "kid", "crit", "b64", "jwk", "x5c"]), JSON))
def test_a_header_chooses_no_other_check_than_the_keys_own(changed):
    header = json.dumps({"alg": "RS256", "kid": "k1", **changed}).encode()
    forged = f"{base64url(header)}.{base64url(json.dumps(claims(NOW)).encode())}."
    assert outcome(bson.encode({"jwt": forged})) is None
    assert outcome(bson.encode({"jwt": joined(header, b"{}", rsa_key(name="impostor"))})) is None


@given(
    st.lists(
        st.dictionaries(st.sampled_from(["kty", "crv", "alg", "use", "kid", "n", "e", "d"]), JSON), max_size=3
    )
)
def test_published_keys_are_read_or_the_set_is_refused(changes):
    keys = [jwk_of(rsa_key()) | change for change in changes]
    try:
        found = parse_key_set(json.dumps({"keys": keys}).encode())
    except TokenRefused:
        return
    assert all(key.public.key_size >= 2048 for key in found.keys.values())
    assert len(found.keys) + len(found.passed_over) == len(keys)


@given(st.binary(max_size=100))
def test_octets_are_no_key_set(octets):
    with pytest.raises(TokenRefused):
        parse_key_set(octets)
