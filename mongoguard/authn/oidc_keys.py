"""JSON Web Key Sets: the public keys that an identity provider signs with.

In: the octets that the provider published. Out: keys by `kid`, and why others were passed over, or `TokenRefused`.
Must not know where they came from.
Source: RFC 7517 and 7518; MongoDB's rules: RSA of at least 2048 bits, P-256 and P-384, every `kid` there and unique,
keys of other types passed over.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from mongoguard.authn.oidc_token import MAX_KEY_ID, TokenRefused, readable_text, strict_json
from mongoguard.effects import SigningKey

__all__ = ["KeySet", "parse_key_set"]

MIN_RSA_BITS = 2048
"""MongoDB's limit, and NIST SP 800-131A's."""
MAX_RSA_BITS = 8192
"""Nobody signs tokens with more, and checking a signature costs with the square of it."""
MAX_KEYS = 100
"""Keys of one provider: the one in use, the next, and some that are running out."""

_RSA_ALGORITHMS = frozenset({"RS256", "RS384", "RS512"})
_RSA_FIELDS = ("kty", "n", "e")
_EC_FIELDS = ("kty", "crv", "x", "y")
_CURVES = {"P-256": frozenset({"ES256"}), "P-384": frozenset({"ES384"})}


@dataclass(frozen=True, slots=True)
class KeySet:
    """`keys` by `kid`. `passed_over`: why other published keys are not among them, a sentence each."""

    keys: Mapping[str, SigningKey]
    passed_over: tuple[str, ...] = ()


def parse_key_set(octets: bytes) -> KeySet:
    """Read a key set, all or nothing; raises `TokenRefused`."""
    published = strict_json(octets, "the key set").get("keys")
    if not isinstance(published, list) or len(published) > MAX_KEYS:
        raise TokenRefused(f"the key set has no list of at most {MAX_KEYS} keys")
    keys: dict[str, SigningKey] = {}
    passed_over: list[str] = []
    for jwk in published:
        if not isinstance(jwk, dict):
            raise TokenRefused("the key set holds what is no key")
        if (unfit := _unfit(jwk)) is not None:
            passed_over.append(unfit)
            continue
        key_id = readable_text(jwk.get("kid"), "a key's kid", MAX_KEY_ID)
        if key_id in keys:
            raise TokenRefused(f"two keys have the kid {key_id}")
        keys[key_id] = _key(jwk, key_id)
    return KeySet(keys, tuple(passed_over))


def _unfit(jwk: Mapping[str, Any]) -> str | None:
    """Why a key is not one that tokens are checked with; None for one that is."""
    kind, curve, algorithm = (_word(jwk, name) for name in ("kty", "crv", "alg"))
    if kind not in ("RSA", "EC"):
        return f"a key of the type {kind!r}"
    if jwk.get("use", "sig") != "sig":
        return "a key that is not for signatures"
    if kind == "EC" and curve not in _CURVES:
        return f"a key on the curve {curve!r}"
    if "alg" in jwk and algorithm not in _algorithms(jwk):
        return f"a key for the algorithm {algorithm!r}"
    return None


def _word(jwk: Mapping[str, Any], name: str) -> str:
    value = jwk.get(name)
    return value[:32] if isinstance(value, str) else ""


def _algorithms(jwk: Mapping[str, Any]) -> frozenset[str]:
    return _RSA_ALGORITHMS if jwk["kty"] == "RSA" else _CURVES[jwk["crv"]]


def _key(jwk: Mapping[str, Any], key_id: str) -> SigningKey:
    if "d" in jwk:
        raise TokenRefused(f"the key {key_id} is published with its private half")
    algorithms = frozenset({jwk["alg"]}) if "alg" in jwk else _algorithms(jwk)
    is_rsa = jwk["kty"] == "RSA"
    fields = json.dumps({name: jwk.get(name) for name in (_RSA_FIELDS if is_rsa else _EC_FIELDS)})
    try:
        public = RSAAlgorithm.from_jwk(fields) if is_rsa else ECAlgorithm.from_jwk(fields)
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError, OverflowError):
        raise TokenRefused(f"the key {key_id} is malformed") from None
    assert isinstance(public, RSAPublicKey | EllipticCurvePublicKey)  # there is no private half
    if isinstance(public, RSAPublicKey) and not MIN_RSA_BITS <= public.key_size <= MAX_RSA_BITS:
        raise TokenRefused(
            f"the key {key_id} has {public.key_size} bits; expected {MIN_RSA_BITS} to {MAX_RSA_BITS}"
        )
    return SigningKey(public, algorithms)
