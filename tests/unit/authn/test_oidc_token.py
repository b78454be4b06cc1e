"""Tokens: what is read, what is believed, and that nothing of them is repeated."""

import base64
import hashlib
import hmac
import json

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mongoguard.authn.oidc_token import CLOCK_SKEW_SECS, Claims, Token, TokenRefused, strict_json
from mongoguard.effects import SigningKey
from tests.unit.authn.oidc_tokens import (
    AUDIENCE,
    ISSUER,
    base64url,
    claims,
    ec_key,
    joined,
    rsa_key,
    signing_key,
    token,
)

NOW = 1_700_000_000.0
HEADER = {"alg": "RS256", "kid": "k1"}


def refused(work):
    with pytest.raises(TokenRefused) as caught:
        work()
    assert caught.value.__cause__ is None
    return str(caught.value)


def by_hand(header, payload=None, signature=b"x"):
    body = claims(NOW) if payload is None else payload
    parts = [json.dumps(header).encode(), json.dumps(body).encode(), signature]
    return ".".join(base64url(part) for part in parts)


def test_a_right_token_says_who_it_is_about():
    read = Token.parse(token(claims(NOW, aud=[AUDIENCE, "another"])))
    assert (read.key_id, read.algorithm, read.issuer, read.audiences) == (
        "k1",
        "RS256",
        ISSUER,
        (AUDIENCE, "another"),
    )
    assert read.proven(signing_key()).text("sub", 100) == "alice"


@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "RS512"])
def test_rsa_signs_with_each_of_its_algorithms(algorithm):
    assert Token.parse(token(claims(NOW), algorithm=algorithm)).proven(signing_key())


@pytest.mark.parametrize(("curve", "algorithm"), [("P-256", "ES256"), ("P-384", "ES384")])
def test_an_elliptic_curve_signs_with_the_algorithm_of_its_curve(curve, algorithm):
    key = SigningKey(ec_key(curve).public_key(), frozenset({algorithm}))
    assert Token.parse(token(claims(NOW), ec_key(curve), algorithm)).proven(key)


@pytest.mark.parametrize(
    ("key", "algorithm"), [(rsa_key(), "PS256"), (ec_key(), "ES256"), (ec_key("P-384"), "ES384")]
)
def test_an_algorithm_that_the_key_is_not_for_is_refused(key, algorithm):
    read = Token.parse(token(claims(NOW), key, algorithm))
    assert "alg is none that the key k1 is for" in refused(lambda: read.proven(signing_key()))


def test_a_key_for_one_algorithm_is_for_no_other():
    read = Token.parse(token(claims(NOW), algorithm="RS512"))
    only = SigningKey(rsa_key().public_key(), frozenset({"RS256"}))
    assert "alg is none" in refused(lambda: read.proven(only))


@pytest.mark.parametrize("algorithm", ["none", "None", "nOnE"])
def test_a_token_without_a_signature_proves_nothing(algorithm):
    for signature in (b"", b"x"):
        read = Token.parse(by_hand({**HEADER, "alg": algorithm}, signature=signature))
        assert "alg is none" in refused(lambda read=read: read.proven(signing_key()))


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
def test_the_public_key_is_no_hmac_secret(encoding):
    secret = rsa_key().public_key().public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)
    signed = by_hand({**HEADER, "alg": "HS256"}).rpartition(".")[0]
    forged = f"{signed}.{base64url(hmac.digest(secret, signed.encode(), hashlib.sha256))}"
    assert "alg is none" in refused(lambda: Token.parse(forged).proven(signing_key()))


def test_another_key_proves_nothing():
    read = Token.parse(token(claims(NOW), rsa_key(name="impostor")))
    assert "the signature does not hold" in refused(lambda: read.proven(signing_key()))


def test_a_changed_claim_proves_nothing():
    header, _, signature = token(claims(NOW)).split(".")
    forged = f"{header}.{base64url(json.dumps(claims(NOW, sub='root')).encode())}.{signature}"
    assert "the signature does not hold" in refused(lambda: Token.parse(forged).proven(signing_key()))


@pytest.mark.parametrize("kind", ["JWT", "jwt", "at+jwt", "application/at+jwt", None])
def test_the_types_of_access_tokens_are_taken(kind):
    assert Token.parse(token(claims(NOW), header={"typ": kind}))


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"typ": "secevent+jwt"}, "typ is not JWT"),
        ({"typ": 5}, "typ is not JWT"),
        ({"kid": None}, "kid is missing"),
        ({"kid": ""}, "kid is missing"),
        ({"kid": 5}, "kid is missing"),
        ({"kid": "k" * 513}, "kid is longer"),
        ({"kid": "k\0"}, "kid holds a NUL"),
        ({"alg": None}, "alg is missing"),
        ({"alg": ["RS256"]}, "alg is missing"),
        ({"alg": "R" * 17}, "alg is longer"),
        ({"crit": ["exp"]}, "header has crit"),
        ({"crit": []}, "header has crit"),
        ({"b64": False}, "header has b64"),
    ],
)
def test_a_header_that_is_not_understood_is_refused(header, reason):
    assert reason in refused(lambda: Token.parse(by_hand({**HEADER, **header})))


@pytest.mark.parametrize(
    "text", ["", ".", "..", "a.b", "a.b.c.d", "a.b.c.d.e", "....", "\N{SNOWMAN}.e30.x", "é.é.é"]
)
def test_what_is_no_token_is_refused(text):
    assert refused(lambda: Token.parse(text))


@pytest.mark.parametrize(
    "octets",
    [
        b'{"kid":"a","kid":"b"}',
        b'{"alg":"RS256","kid":"k1","x":{"y":1,"y":2}}',
        b'{"alg":"RS256","kid":"k1","x":NaN}',
        b'{"alg":"RS256","kid":"k1","x":-Infinity}',
        b"[]",
        b'"text"',
        b"5",
        b"",
        b"\xff",
        b"{",
        b'{"x":' + b"9" * 5000 + b"}",
        b"[" * 10_000,
        b'{"x":' * 3000,
    ],
)
def test_a_part_that_two_readers_could_read_differently_is_refused(octets):
    assert refused(lambda: Token.parse(f"{base64url(octets)}.{base64url(b'{}')}.x"))
    payload = joined(json.dumps(HEADER).encode(), octets)
    assert refused(lambda: Token.parse(payload))


def test_a_claim_that_comes_twice_is_refused_although_the_signature_holds():
    body = json.dumps(claims(NOW))[:-1] + ', "sub": "root"}'
    forged = joined(json.dumps(HEADER).encode(), body.encode())
    assert "a name comes twice" in refused(lambda: Token.parse(forged))


@pytest.mark.parametrize(
    "damage", [lambda p: p + "=", lambda p: p + "\n", lambda p: " " + p, lambda p: p + "A"]
)
def test_there_is_one_way_to_write_a_part(damage):
    header, payload, signature = token(claims(NOW)).split(".")
    assert refused(lambda: Token.parse(f"{damage(header)}.{payload}.{signature}"))
    assert refused(lambda: Token.parse(f"{header}.{damage(payload)}.{signature}"))


def test_a_signature_is_written_in_one_way():
    head, _, signature = token(claims(NOW)).rpartition(".")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = signature[:-1] + alphabet[alphabet.index(signature[-1]) + 1]
    assert base64.urlsafe_b64decode(other + "==") == base64.urlsafe_b64decode(signature + "==")
    assert "as RFC 7515 writes it" in refused(lambda: Token.parse(f"{head}.{other}"))


def test_the_unused_bits_of_a_part_are_zero():
    octets = json.dumps(HEADER).encode()
    assert len(octets) % 3
    part = base64url(octets)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = part[:-1] + alphabet[alphabet.index(part[-1]) + 1]
    assert base64.urlsafe_b64decode(other + "==") == octets
    assert "as RFC 7515 writes it" in refused(lambda: Token.parse(f"{other}.e30.eA"))


# ---- claims ---------------------------------------------------------------------------------------------------------


def test_a_token_holds_until_it_says():
    assert Claims(claims(NOW, exp=NOW + 1)).check_dates(NOW + 0.999) == NOW + 1
    assert "expired 0 s ago" in refused(lambda: Claims(claims(NOW, exp=NOW + 1)).check_dates(NOW + 1))


@pytest.mark.parametrize("claim", ["nbf", "iat", "auth_time"])
def test_a_provider_whose_clock_is_a_minute_ahead_is_borne(claim):
    ahead = {"iat": NOW + CLOCK_SKEW_SECS, claim: NOW + CLOCK_SKEW_SECS}
    assert Claims(claims(NOW, **ahead)).check_dates(NOW)
    more = {"iat": NOW, claim: NOW + CLOCK_SKEW_SECS + 1}
    assert f"the claim {claim} is 61 s in the future" in refused(
        lambda: Claims(claims(NOW, **more)).check_dates(NOW)
    )


def test_nobody_authenticates_after_the_token_was_issued():
    assert Claims(claims(NOW, auth_time=NOW)).check_dates(NOW)
    assert "auth_time" in refused(lambda: Claims(claims(NOW, auth_time=NOW + 1)).check_dates(NOW))


@pytest.mark.parametrize("claim", ["exp", "nbf", "iat", "auth_time"])
@pytest.mark.parametrize("value", ["soon", True, [], 1e400, -1e400, 10**400, {}])
def test_a_date_is_a_number_of_seconds(claim, value):
    assert "is no date" in refused(lambda: Claims(claims(NOW, **{claim: value})).check_dates(NOW))


def test_a_token_without_an_end_is_refused():
    assert "exp is missing" in refused(lambda: Claims(claims(NOW, exp=None)).check_dates(NOW))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "missing"),
        ("", "missing"),
        (5, "missing, or no text"),
        (["alice"], "missing, or no text"),
        ("a\0b", "holds a NUL"),
        ("\ud800", "no Unicode text"),
        ("é" * 6, "longer than 10 bytes"),
    ],
)
def test_a_name_is_a_text_that_everybody_reads_alike(value, reason):
    assert reason in refused(lambda: Claims({"sub": value}).text("sub", 10))


@pytest.mark.parametrize(
    ("value", "found"), [("a", ("a",)), (["a", "b"], ("a", "b")), ([], ()), (["é" * 5], ("é" * 5,))]
)
def test_groups_are_a_text_or_a_list_of_texts(value, found):
    assert Claims({"groups": value}).texts("groups", 2, 10) == found


@pytest.mark.parametrize(
    "value", [None, 5, {"a": 1}, ["a", "b", "c"], [""], ["a", None], [["a"]], ["x" * 11]]
)
def test_groups_of_another_form_are_refused_whole(value):
    refused(lambda: Claims({"groups": value}).texts("groups", 2, 10))
    refused(lambda: Claims({}).texts("groups", 2, 10))


def test_no_representation_holds_the_token_or_its_claims():
    text = token(claims(NOW, canary="c4n4ry"))
    read = Token.parse(text)
    shown = repr(read) + repr(read.proven(signing_key()))
    assert "c4n4ry" not in shown
    assert not any(part in shown for part in text.split("."))


def test_json_that_is_refused_is_not_repeated():
    assert refused(lambda: strict_json(b'{"c4n4ry": 1, "c4n4ry": 2}', "it")).count("c4n4ry") == 0
