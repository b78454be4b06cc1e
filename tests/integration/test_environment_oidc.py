"""The test identity providers: that a token library takes their tokens, and that they break when told to."""

from __future__ import annotations

import json
import ssl
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import jwt
import pytest

from tests.oidc_provider import (
    AUDIENCE,
    DISCOVERY,
    JWKS,
    Misbehaviour,
    MongodbOidcProvider,
    OidcProvider,
    SigningKey,
    token_by_hand,
)
from tests.pki import Pki


def fetch(provider: OidcProvider | MongodbOidcProvider, path: str, timeout: float = 5) -> bytes:
    context = ssl.create_default_context(cafile=str(provider.ca_file))
    with urlopen(provider.issuer + path, timeout=timeout, context=context) as answer:
        found: bytes = answer.read()
        return found


def accepted(provider: OidcProvider | MongodbOidcProvider, token: str) -> dict[str, Any]:
    """The claims, as PyJWT accepts them with the keys that the provider publishes at its discovered address."""
    discovered = json.loads(fetch(provider, DISCOVERY))
    assert discovered["issuer"] == provider.issuer
    keys = jwt.PyJWKSet.from_json(
        fetch(provider, discovered["jwks_uri"].removeprefix(provider.issuer)).decode()
    )
    key = keys[jwt.get_unverified_header(token)["kid"]]
    return jwt.decode(token, key, algorithms=["RS256"], audience=AUDIENCE, issuer=provider.issuer)


def test_a_token_of_the_stand_in_is_accepted(oidc_provider: OidcProvider) -> None:
    assert accepted(oidc_provider, oidc_provider.token("bob", groups=["dba"]))["groups"] == ["dba"]


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"expires_in": -1}, jwt.ExpiredSignatureError),
        ({"aud": "somebody else"}, jwt.InvalidAudienceError),
        ({"iss": "https://elsewhere.example.test"}, jwt.InvalidIssuerError),
        ({"algorithm": "PS256"}, jwt.InvalidAlgorithmError),
        ({"header": {"kid": "key-unknown"}}, KeyError),
        ({"sub": None, "aud": None}, jwt.MissingRequiredClaimError),
    ],
)
def test_a_token_is_wrong_in_what_the_test_asked_for(
    oidc_provider: OidcProvider, claims: dict[str, Any], why: type[Exception]
) -> None:
    with pytest.raises(why):
        accepted(oidc_provider, oidc_provider.token(**claims))


def test_another_key_under_a_published_name_signs_nothing(oidc_provider: OidcProvider) -> None:
    impostor = SigningKey(oidc_provider.keys[-1].key_id)
    with pytest.raises(jwt.InvalidSignatureError):
        accepted(oidc_provider, oidc_provider.token(key=impostor))


def test_a_token_made_by_hand_has_any_header(oidc_provider: OidcProvider) -> None:
    header = {"alg": "none", "kid": oidc_provider.keys[-1].key_id}
    with pytest.raises(jwt.InvalidAlgorithmError):
        accepted(oidc_provider, token_by_hand(header, oidc_provider.claims(), lambda signed: b""))


def test_rotation_ends_the_old_key_or_keeps_it(oidc_provider: OidcProvider) -> None:
    old = oidc_provider.token()
    oidc_provider.rotate(keep_old=True)
    assert accepted(oidc_provider, old)
    assert accepted(oidc_provider, oidc_provider.token())
    oidc_provider.rotate()
    with pytest.raises(KeyError):
        accepted(oidc_provider, old)
    assert accepted(oidc_provider, oidc_provider.token())


def test_requests_are_counted_and_the_discovery_document_may_lie(oidc_provider: OidcProvider) -> None:
    before = oidc_provider.fetches(JWKS)
    oidc_provider.discovery = {"jwks_uri": "http://127.0.0.1:9/", "token_endpoint": None}
    lie = json.loads(fetch(oidc_provider, DISCOVERY))
    assert (lie["jwks_uri"], "token_endpoint" in lie) == ("http://127.0.0.1:9/", False)
    fetch(oidc_provider, JWKS)
    assert oidc_provider.fetches(JWKS) == before + 1
    with pytest.raises(HTTPError) as missing:
        fetch(oidc_provider, "/elsewhere")
    missing.value.close()


@pytest.mark.parametrize("misbehaviour", [Misbehaviour.HANG, Misbehaviour.DRIP])
def test_a_slow_provider_answers_nothing_in_time(
    oidc_provider: OidcProvider, misbehaviour: Misbehaviour
) -> None:
    oidc_provider.misbehaviour[JWKS] = misbehaviour
    context = ssl.create_default_context(cafile=str(oidc_provider.ca_file))
    if misbehaviour is Misbehaviour.HANG:
        with pytest.raises(TimeoutError):
            fetch(oidc_provider, JWKS, timeout=0.3)
    else:
        with urlopen(oidc_provider.issuer + JWKS, timeout=1, context=context) as answer:
            assert answer.read1(100) == b"{"
    assert json.loads(fetch(oidc_provider, DISCOVERY))["issuer"] == oidc_provider.issuer


def test_a_broken_provider_breaks_as_it_is_told(oidc_provider: OidcProvider) -> None:
    oidc_provider.misbehaviour[JWKS] = Misbehaviour.GARBAGE
    with pytest.raises(ValueError):
        json.loads(fetch(oidc_provider, JWKS))
    oidc_provider.misbehaviour[JWKS] = Misbehaviour.ERROR
    with pytest.raises(HTTPError) as error:
        fetch(oidc_provider, JWKS)
    error.value.close()
    assert error.value.code == 500
    oidc_provider.misbehaviour[JWKS] = Misbehaviour.REDIRECT
    with pytest.raises(URLError, match="refused"):
        fetch(oidc_provider, JWKS)
    oidc_provider.misbehaviour[JWKS] = Misbehaviour.ENDLESS
    context = ssl.create_default_context(cafile=str(oidc_provider.ca_file))
    with urlopen(oidc_provider.issuer + JWKS, timeout=5, context=context) as answer:
        assert len(answer.read(10_000_000)) == 10_000_000


def test_a_stopped_provider_is_gone_and_a_restarted_one_has_its_keys(pki: Pki) -> None:
    provider = OidcProvider(pki).start()
    token = provider.token()
    provider.stop()
    with pytest.raises(URLError, match="refused"):
        fetch(provider, JWKS)
    provider.restart()
    assert accepted(provider, token)
    provider.stop()


def test_a_wrong_certificate_is_presented(pki: Pki) -> None:
    provider = OidcProvider(pki, certificate=pki.server_expired).start()
    with pytest.raises(URLError, match="certificate has expired"):
        fetch(provider, JWKS)
    provider.stop()


def test_mongodbs_own_provider_gives_tokens_by_the_device_flow(
    mongodb_oidc_provider: MongodbOidcProvider,
) -> None:
    claims = accepted(mongodb_oidc_provider, mongodb_oidc_provider.token())
    assert (claims["sub"], claims["groups"]) == ("alice", ["dba"])
