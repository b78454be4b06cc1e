"""Key sets: which published keys check tokens, which are passed over, and which make the whole set unfit."""

import json

import jwt
import pytest

from mongoguard.authn.oidc_keys import MAX_KEYS, parse_key_set
from mongoguard.authn.oidc_token import TokenRefused
from tests.unit.authn.oidc_tokens import RSA_ALGORITHMS, ec_key, jwk_of, rsa_key


def parsed(*keys, **more):
    return parse_key_set(json.dumps({"keys": list(keys), **more}).encode())


def refused(*keys):
    with pytest.raises(TokenRefused) as caught:
        parsed(*keys)
    return str(caught.value)


def test_keys_are_found_by_their_kid_with_the_algorithms_that_they_are_for():
    found = parsed(
        jwk_of(rsa_key(), kid="any"),
        jwk_of(rsa_key(), kid="one", alg="RS384"),
        jwk_of(ec_key("P-256"), kid="p256"),
        jwk_of(ec_key("P-384"), kid="p384", use="sig"),
    )
    assert {kid: key.algorithms for kid, key in found.keys.items()} == {
        "any": RSA_ALGORITHMS,
        "one": {"RS384"},
        "p256": {"ES256"},
        "p384": {"ES384"},
    }
    assert found.keys["any"].public.public_numbers() == rsa_key().public_key().public_numbers()
    assert found.passed_over == ()


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ({"kty": "oct", "k": "c2VjcmV0", "kid": "o"}, "'oct'"),
        ({"kty": "OKP", "crv": "Ed25519", "x": "AA"}, "'OKP'"),
        ({"kid": "typeless"}, "the type ''"),
        ({"kty": ["RSA"], "kid": "k"}, "the type ''"),
        ({"kty": "EC", "crv": ["P-256"], "kid": "k"}, "the curve ''"),
        (jwk_of(rsa_key(), alg=["RS256"]), "the algorithm ''"),
        (jwk_of(rsa_key(), use="enc"), "not for signatures"),
        (jwk_of(rsa_key(), alg="PS256"), "'PS256'"),
        (jwk_of(rsa_key(), alg="HS256"), "'HS256'"),
        (jwk_of(rsa_key(), alg="ES256"), "'ES256'"),
        (jwk_of(rsa_key(), alg="none"), "'none'"),
        (jwk_of(ec_key("P-256"), alg="ES384"), "'ES384'"),
        (jwk_of(ec_key("P-521")), "'P-521'"),
    ],
)
def test_keys_that_are_not_for_tokens_are_passed_over_and_said_so(key, why):
    found = parsed(key, jwk_of(rsa_key(), kid="good"))
    assert list(found.keys) == ["good"]
    assert why in found.passed_over[0]


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ([jwk_of(rsa_key()), jwk_of(rsa_key(name="two"))], "two keys have the kid k1"),
        ([jwk_of(rsa_key()), jwk_of(ec_key())], "two keys have the kid k1"),
        ([jwk_of(rsa_key(), kid=None)], "kid is missing"),
        ([jwk_of(rsa_key(), kid="")], "kid is missing"),
        ([jwk_of(rsa_key(), kid=7)], "kid is missing"),
        ([jwk_of(rsa_key(1024))], "has 1024 bits"),
        ([jwk_of(rsa_key(), n="AA")], "malformed"),
        ([jwk_of(rsa_key(), n=None)], "malformed"),
        ([jwk_of(rsa_key(), n=5)], "malformed"),
        ([jwk_of(rsa_key(), e="Ag")], "malformed"),
        ([jwk_of(rsa_key(), d="AA")], "private half"),
        ([jwk_of(ec_key(), x="AA")], "malformed"),
        ([jwk_of(ec_key(), y=jwk_of(ec_key())["x"])], "malformed"),
        (["text"], "no key"),
        ([jwk_of(rsa_key(), kid=str(n)) for n in range(MAX_KEYS + 1)], "at most 100"),
    ],
)
def test_a_set_that_holds_such_a_key_is_refused_whole(keys, why):
    assert why in refused(*keys)


def test_a_private_key_is_refused_by_name():
    private = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(rsa_key()))
    assert "private half" in refused({**private, "kid": "k1"})


@pytest.mark.parametrize(
    "octets",
    [b"", b"{}", b"[]", b'{"keys": {}}', b'{"keys": [], "keys": []}', b"\xff\xfe", b'{"keys": null}'],
)
def test_what_is_no_key_set_is_refused(octets):
    with pytest.raises(TokenRefused):
        parse_key_set(octets)


def test_a_set_without_keys_is_a_set():
    assert parsed().keys == {}
