"""Keys and tokens for unit tests, without a provider: any header, any claims, any way to sign."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from mongoguard.effects import SigningKey

__all__ = [
    "AUDIENCE",
    "ISSUER",
    "RSA_ALGORITHMS",
    "base64url",
    "claims",
    "ec_key",
    "joined",
    "jwk_of",
    "rsa_key",
    "signing_key",
    "token",
]

ISSUER, AUDIENCE = "https://idp.example.test", "mongodb"
RSA_ALGORITHMS = frozenset({"RS256", "RS384", "RS512"})


@cache
def rsa_key(bits: int = 2048, name: str = "") -> rsa.RSAPrivateKey:
    """A key pair; the same for the same arguments. `name` tells several apart."""
    return rsa.generate_private_key(public_exponent=65_537, key_size=bits)


@cache
def ec_key(curve: str = "P-256") -> ec.EllipticCurvePrivateKey:
    """A key pair on that curve."""
    curves = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}
    return ec.generate_private_key(curves[curve])


def signing_key() -> SigningKey:
    """What the shell answers for `rsa_key()`."""
    return SigningKey(rsa_key().public_key(), RSA_ALGORITHMS)


def jwk_of(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, **fields: Any) -> dict[str, Any]:
    """The public half as a JWK; a field given as None is left out."""
    public = key.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        found = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(public))
    else:
        found = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(public))
    found.pop("key_ops", None)
    return {name: value for name, value in {**found, "kid": "k1", **fields}.items() if value is not None}


def claims(now: float, **fields: Any) -> dict[str, Any]:
    """A right token's claims; a claim given as None is left out."""
    right = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "groups": ["dba"], "exp": now + 300, "iat": now}
    return {name: value for name, value in {**right, **fields}.items() if value is not None}


def token(
    body: Mapping[str, Any],
    key: Any = None,
    algorithm: str = "RS256",
    header: Mapping[str, Any] | None = None,
) -> str:
    """A signed token with the kid k1; `header` adds or replaces fields."""
    return jwt.encode(
        dict(body), key or rsa_key(), algorithm=algorithm, headers={"kid": "k1", **(header or {})}
    )


def base64url(octets: bytes) -> str:
    """As RFC 7515 writes octets."""
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def joined(header: bytes, payload: bytes, key: rsa.RSAPrivateKey | None = None) -> str:
    """A token of exactly these octets, rightly signed with RS256."""
    signed = f"{base64url(header)}.{base64url(payload)}"
    algorithm = jwt.algorithms.RSAAlgorithm(jwt.algorithms.RSAAlgorithm.SHA256)
    return f"{signed}.{base64url(algorithm.sign(signed.encode(), key or rsa_key()))}"
