"""JSON Web Tokens of identity providers: what a token says, and whether that may be believed.

In: a token's text, a signing key, the time. Out: its parts, then its claims, or `TokenRefused`, whose text is for the
audit event alone and never holds the token. Must not know providers' addresses, sessions or clocks.
Source: RFC 7515 (JWS), 7519 (JWT), 8725 (best current practices), 9068 (access tokens); MongoDB's rules of the same.

A token is read once, strictly: a repeated name, a NaN or a second way to write the same octets is refused, because two
readers would understand it differently. The header is a stranger's until the signature has held: of it only `kid` is
used, to choose a key, and `alg`, which must be one that this key is for. PyJWT checks the signature and nothing else.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

import jwt

from mongoguard.effects import SigningKey
from mongoguard.errors import GuardError

__all__ = ["CLOCK_SKEW_SECS", "Claims", "Token", "TokenRefused", "readable_text", "strict_json"]

CLOCK_SKEW_SECS = 60.0
"""How far the provider's clock may be ahead (MongoDB's figure). There is none for `exp`: a token ends when it says."""

MAX_KEY_ID = 512
"""Characters of a `kid`, which only has to tell a provider's few keys apart; they are hashes or UUIDs."""
MAX_AUDIENCES = 64
"""Audiences of one token: each is another service that may be asked with it."""

_TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt"})
"""`typ`, in lower case, where a token has one: RFC 7519 section 5.1, RFC 9068 section 2.1."""


class TokenRefused(GuardError):
    """The token proves nothing. The text is for the audit event."""


@dataclass(frozen=True, slots=True)
class Claims:
    """The claims of a token whose signature has held."""

    values: Mapping[str, Any] = field(repr=False)

    def text(self, claim: str, limit: int) -> str:
        """A claim that must be a text of 1 to `limit` UTF-8 bytes without a NUL; raises `TokenRefused`."""
        return readable_text(self.values.get(claim), f"the claim {claim}", limit)

    def texts(self, claim: str, count: int, limit: int) -> tuple[str, ...]:
        """A claim that must be such a text, or a list of at most `count` of them; raises `TokenRefused`."""
        value = self.values.get(claim)
        if isinstance(value, str):
            return (self.text(claim, limit),)
        if not isinstance(value, list):
            raise TokenRefused(f"the claim {claim} is missing, or neither a text nor a list of texts")
        if len(value) > count:
            raise TokenRefused(f"the claim {claim} has more than {count} elements")
        return tuple(readable_text(element, f"an element of the claim {claim}", limit) for element in value)

    def check_dates(self, now: float) -> float:
        """Raise `TokenRefused` unless the token holds at `now`; the answer is until when (seconds since the epoch)."""
        expires = self._date("exp")
        if expires is None:
            raise TokenRefused("the claim exp is missing")
        if now >= expires:
            raise TokenRefused(f"the token expired {now - expires:.0f} s ago")
        for claim in ("nbf", "iat", "auth_time"):
            date = self._date(claim)
            if date is not None and date > now + CLOCK_SKEW_SECS:
                raise TokenRefused(f"the claim {claim} is {date - now:.0f} s in the future")
        issued, authenticated = self._date("iat"), self._date("auth_time")
        if issued is not None and authenticated is not None and authenticated > issued:
            raise TokenRefused("the claim auth_time is after the claim iat")
        return expires

    def _date(self, claim: str) -> float | None:
        """A NumericDate (RFC 7519 section 2), or None when the claim is absent."""
        if claim not in self.values:
            return None
        value = self.values[claim]
        if type(value) not in (int, float) or not abs(value) <= _LAST_DATE:
            raise TokenRefused(f"the claim {claim} is no date")
        return float(value)


_LAST_DATE = 253_402_300_800.0
"""The year 10000: beyond it a date is a mistake."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token that was read, and not believed yet: everything here is what a stranger says."""

    text: str = field(repr=False)
    key_id: str
    algorithm: str
    unproven: Claims

    @classmethod
    def parse(cls, text: str) -> Token:
        """Read a token; raises `TokenRefused`."""
        parts = text.split(".")
        if len(parts) != 3:
            raise TokenRefused("the token does not have three parts")
        header = strict_json(_octets(parts[0], "header"), "the token's header")
        claims = strict_json(_octets(parts[1], "payload"), "the token's payload")
        _octets(parts[2], "signature")
        _check_header(header)
        key_id = readable_text(header.get("kid"), "the token's kid", MAX_KEY_ID)
        return cls(text, key_id, readable_text(header.get("alg"), "the token's alg", 16), Claims(claims))

    @property
    def issuer(self) -> str:
        """The claim `iss`; raises `TokenRefused`."""
        return self.unproven.text("iss", 2048)

    @property
    def audiences(self) -> tuple[str, ...]:
        """The claim `aud`; raises `TokenRefused`."""
        return self.unproven.texts("aud", MAX_AUDIENCES, 2048)

    def proven(self, key: SigningKey) -> Claims:
        """The claims, when this key has signed them; raises `TokenRefused`."""
        if self.algorithm not in key.algorithms:
            raise TokenRefused(f"the token's alg is none that the key {self.key_id} is for")
        try:
            payload = jwt.PyJWS().decode(self.text, key.public, algorithms=[self.algorithm])
        except jwt.PyJWTError as error:
            # Not "from" the error: what it holds is the library's choice.
            raise TokenRefused(f"the signature does not hold ({type(error).__name__})") from None
        return Claims(strict_json(payload, "the token's payload"))


def _check_header(header: Mapping[str, Any]) -> None:
    kind = header.get("typ", "JWT")
    if not isinstance(kind, str) or kind.lower() not in _TYPES:
        raise TokenRefused("the token's typ is not JWT")
    for name in ("crit", "b64"):
        # RFC 7515 section 4.1.11: who does not understand a critical extension must refuse.
        if name in header:
            raise TokenRefused(f"the token's header has {name}, which is not understood")


def readable_text(value: object, what: str, limit: int) -> str:
    """`value` as a text of 1 to `limit` UTF-8 bytes without a NUL; raises `TokenRefused`."""
    if not isinstance(value, str) or not value:
        raise TokenRefused(f"{what} is missing, or no text")
    if "\0" in value:
        raise TokenRefused(f"{what} holds a NUL")
    try:
        length = len(value.encode())
    except UnicodeEncodeError:  # half of a surrogate pair
        raise TokenRefused(f"{what} is no Unicode text") from None
    if length > limit:
        raise TokenRefused(f"{what} is longer than {limit} bytes")
    return value


def _octets(part: str, name: str) -> bytes:
    """base64url in the one way that RFC 7515 section 2 allows: without padding, and the unused bits are zero."""
    try:
        octets = base64.b64decode(
            part.encode("ascii") + b"=" * (-len(part) % 4), altchars=b"-_", validate=True
        )
    except (ValueError, binascii.Error):
        raise TokenRefused(f"the token's {name} is not base64url") from None
    if base64.urlsafe_b64encode(octets).rstrip(b"=").decode() != part:
        raise TokenRefused(f"the token's {name} is not base64url as RFC 7515 writes it")
    return octets


def strict_json(octets: bytes, what: str) -> Mapping[str, Any]:
    """A JSON object in which no name comes twice; raises `TokenRefused`, which names `what` and not its content."""
    try:
        value = json.loads(octets.decode(), object_pairs_hook=_without_repeats, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise TokenRefused(f"{what} is no JSON, or a name comes twice in it") from None
    if not isinstance(value, dict):
        raise TokenRefused(f"{what} is no JSON object")
    return value


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name comes twice")
    return found


def _no_number(_text: str) -> NoReturn:
    raise ValueError("NaN and Infinity are no JSON")
