"""The four messages of SCRAM, parsed strictly and encoded (RFC 5802 section 7).

In: payload bytes of a peer, or values. Out: values, or payload bytes. Must not know keys, users or mechanisms.

Parsing follows mongod 6.0.5 where it is stricter or laxer than the RFC: `p=` (channel binding) is refused because no
`-PLUS` mechanism is offered; an authorization identity must equal the user name; extensions after the known attributes
are ignored; a name's `=` that starts neither `=2C` nor `=3D` stands for itself. Base64 must be canonical: otherwise two
different messages would carry the same proof.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field

__all__ = [
    "ClientFinal",
    "ClientFirst",
    "ScramFormatError",
    "ServerFinal",
    "ServerFirst",
    "decode_name",
    "encode_name",
]

MIN_CLIENT_NONCE = 4
"""Characters of a client nonce that mongod asks for; the drivers send 32 and more."""

_NONCE = re.compile(rb"[\x21-\x2B\x2D-\x7E]+")  # RFC 5802 "printable": visible ASCII except the comma
_COUNT = re.compile(rb"[1-9][0-9]{0,9}")  # RFC 5802 "posit-number", no longer than 2**31
_ESCAPE = re.compile(rb"=(2C|3D)")


class ScramFormatError(ValueError):
    """A message is not what RFC 5802 describes. The text never quotes the message."""


def encode_name(name: str) -> bytes:
    """A `saslname`: `=` and `,` escaped (RFC 5802 section 5.1)."""
    return name.replace("=", "=3D").replace(",", "=2C").encode()


def decode_name(saslname: bytes) -> str:
    """The name behind a `saslname`. One pass, so that `=3D2C` is the name "=2C" and not a comma."""
    try:
        return _ESCAPE.sub(lambda m: b"," if m[1] == b"2C" else b"=", saslname).decode()
    except UnicodeDecodeError:
        raise ScramFormatError("the name is not UTF-8") from None


@dataclass(frozen=True, slots=True)
class ClientFirst:
    """`gs2-header n=name,r=nonce`. `bare` is the message without the GS2 header: it is part of what gets signed."""

    gs2_header: bytes
    user: str
    nonce: bytes
    bare: bytes

    @classmethod
    def of(cls, user: str, nonce: bytes) -> ClientFirst:
        """The message of a client without channel binding."""
        return cls(b"n,,", user, nonce, b"n=" + encode_name(user) + b",r=" + nonce)

    @classmethod
    def parse(cls, payload: bytes) -> ClientFirst:
        """Read a client's first message. Raises `ScramFormatError`."""
        parts = payload.split(b",")
        if len(parts) < 4:
            raise ScramFormatError("the first message has too few attributes")
        flag, authzid, name, nonce = parts[:4]
        if flag not in (b"n", b"y"):
            raise ScramFormatError("the GS2 header asks for channel binding or is malformed")
        if name.startswith(b"m="):
            raise ScramFormatError("mandatory extensions are not supported")
        user = decode_name(_attribute(name, b"n="))
        if not user:
            raise ScramFormatError("the user name is empty")
        if authzid and decode_name(_attribute(authzid, b"a=")) not in ("", user):
            raise ScramFormatError("the authorization identity is not the user")
        nonce = _nonce(nonce)
        if len(nonce) < MIN_CLIENT_NONCE:
            raise ScramFormatError("the client nonce is too short")
        return cls(flag + b"," + authzid + b",", user, nonce, payload[len(flag) + len(authzid) + 2 :])

    def encode(self) -> bytes:
        """The payload."""
        return self.gs2_header + self.bare


@dataclass(frozen=True, slots=True)
class ServerFirst:
    """`r=nonce,s=salt,i=iterations`; the nonce is the client's with the server's own characters behind it."""

    nonce: bytes
    salt: bytes = field(repr=False)
    iterations: int

    @classmethod
    def parse(cls, payload: bytes) -> ServerFirst:
        """Read a server's first message. Raises `ScramFormatError`."""
        parts = payload.split(b",")
        if len(parts) < 3:
            raise ScramFormatError("the server's first message has too few attributes")
        count = _attribute(parts[2], b"i=")
        if not _COUNT.fullmatch(count):
            raise ScramFormatError("the iteration count is no positive number")
        salt = _base64(_attribute(parts[1], b"s="))
        if not salt:
            raise ScramFormatError("the salt is empty")
        return cls(_nonce(parts[0]), salt, int(count))

    def encode(self) -> bytes:
        """The payload."""
        return b"r=%b,s=%b,i=%d" % (self.nonce, base64.b64encode(self.salt), self.iterations)


@dataclass(frozen=True, slots=True)
class ClientFinal:
    """`c=channel-binding,r=nonce,p=proof`. `without_proof` is everything before `,p=`: part of what gets signed."""

    channel_binding: bytes
    nonce: bytes
    proof: bytes = field(repr=False)
    without_proof: bytes

    @classmethod
    def parse(cls, payload: bytes) -> ClientFinal:
        """Read a client's final message; the proof must be its last attribute. Raises `ScramFormatError`."""
        parts = payload.split(b",")
        if len(parts) < 3:
            raise ScramFormatError("the final message has too few attributes")
        return cls(
            channel_binding=_base64(_attribute(parts[0], b"c=")),
            nonce=_nonce(parts[1]),
            proof=_base64(_attribute(parts[-1], b"p=")),
            without_proof=payload[: -len(parts[-1]) - 1],
        )

    @staticmethod
    def prefix(gs2_header: bytes, nonce: bytes) -> bytes:
        """The message without its proof, for a client to sign."""
        return b"c=" + base64.b64encode(gs2_header) + b",r=" + nonce

    def encode(self) -> bytes:
        """The payload."""
        return self.without_proof + b",p=" + base64.b64encode(self.proof)


@dataclass(frozen=True, slots=True)
class ServerFinal:
    """`v=signature`: the server's own proof."""

    signature: bytes = field(repr=False)

    @classmethod
    def parse(cls, payload: bytes) -> ServerFinal:
        """Read a server's final message; `e=` (the server's error) is a `ScramFormatError` like any other."""
        return cls(_base64(_attribute(payload.split(b",")[0], b"v=")))

    def encode(self) -> bytes:
        """The payload."""
        return b"v=" + base64.b64encode(self.signature)


def _attribute(part: bytes, prefix: bytes) -> bytes:
    if not part.startswith(prefix):
        raise ScramFormatError(f"expected the attribute {prefix.decode()}")
    return part[2:]


def _nonce(part: bytes) -> bytes:
    nonce = _attribute(part, b"r=")
    if not _NONCE.fullmatch(nonce):
        raise ScramFormatError("the nonce is empty or not printable")
    return nonce


def _base64(text: bytes) -> bytes:
    try:
        value = base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ScramFormatError("an attribute is not base64") from None
    if base64.b64encode(value) != text:
        raise ScramFormatError("an attribute is not canonical base64")
    return value
