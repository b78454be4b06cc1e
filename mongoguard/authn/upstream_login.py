"""mongoguard's own login on an upstream connection, as a conversation of plain command documents.

In: the service user's credential, random bytes, the server's replies. Out: commands to send. Must not know sockets or
pools: `upstream_login` yields each command (its database in `$db`) and is sent the decoded reply.
Source: the drivers' authentication specification (github.com/mongodb/specifications, auth.md).
"""

from __future__ import annotations

import base64
from collections.abc import Generator, Mapping
from typing import Any, TypeAlias

from mongoguard.authn.scram import SCRAM_MECHANISMS
from mongoguard.authn.scram_client import ScramClientConversation, ScramClientError, ScramPassword
from mongoguard.errors import UpstreamError
from mongoguard.model.names import EXTERNAL_DB, UserName

__all__ = ["MIN_NONCE_BYTES", "UpstreamCredential", "UpstreamLogin", "UpstreamLoginError", "upstream_login"]

MIN_NONCE_BYTES = 18
"""Random bytes that a login needs: 144 bits, so that no nonce ever comes twice."""

X509 = "MONGODB-X509"

UpstreamLogin: TypeAlias = Generator[dict[str, Any], Mapping[str, Any], None]
"""Yields commands, is sent replies, ends when the server has logged the connection in."""


class UpstreamLoginError(UpstreamError):
    """The upstream did not log mongoguard in, or could not prove that it knows the user. No text holds a secret."""


class UpstreamCredential:
    """Who mongoguard is upstream. One object serves all connections, so that the iterations run once.

    `mechanism` None: ask the server, and prefer SCRAM-SHA-256. Raises `ValueError` for a mechanism that mongoguard
    can't speak upstream, and for SCRAM without a user or a password.
    """

    __slots__ = ("_passwords", "mechanism", "name")

    def __init__(self, mechanism: str | None, user: str | None, password: str | None, source: str) -> None:
        """`source` is the database that defines the user (`authSource`)."""
        if mechanism not in (None, X509, *SCRAM_MECHANISMS):
            raise ValueError(
                f"unknown mechanism {mechanism!r}: known are {', '.join((*SCRAM_MECHANISMS, X509))}"
            )
        if mechanism != X509 and not (user and password):
            raise ValueError("SCRAM needs a user and a password")
        self.mechanism = mechanism
        self.name = UserName(user or "", source)
        self._passwords = {
            row.name: ScramPassword(row, user or "", password or "") for row in SCRAM_MECHANISMS.values()
        }

    def password(self, mechanism: str) -> ScramPassword:
        """The password as that SCRAM mechanism takes it."""
        return self._passwords[mechanism]

    def __repr__(self) -> str:
        """Mechanism and name, nothing secret."""
        return f"<UpstreamCredential {self.mechanism or 'negotiated'} {self.name}>"


def upstream_login(credential: UpstreamCredential, nonce: bytes) -> UpstreamLogin:
    """Log one connection in. `nonce`: at least `MIN_NONCE_BYTES` fresh random bytes.

    Raises `UpstreamLoginError`, and `ValueError` for a short nonce.
    """
    if len(nonce) < MIN_NONCE_BYTES:
        raise ValueError(f"a login needs {MIN_NONCE_BYTES} random bytes")
    mechanism = credential.mechanism or (yield from _negotiated(credential.name))
    if mechanism == X509:
        yield from _x509(credential.name)
        return
    conversation = ScramClientConversation(credential.password(mechanism), base64.b64encode(nonce))
    try:
        yield from _scram(mechanism, credential.name, conversation)
    except ScramClientError as error:
        raise UpstreamLoginError(f"login of {credential.name} with {mechanism}: {error}") from None


def _negotiated(name: UserName) -> Generator[dict[str, Any], Mapping[str, Any], str]:
    """The best mechanism the server offers the user. A server that offers no list gets the strongest one."""
    reply = yield {"hello": 1, "saslSupportedMechs": f"{name.db}.{name.user}", "$db": "admin"}
    offered = _ok(reply, name, "saslSupportedMechs").get("saslSupportedMechs")
    if offered is None:
        return next(iter(SCRAM_MECHANISMS))
    for mechanism in SCRAM_MECHANISMS:
        if isinstance(offered, list) and mechanism in offered:
            return mechanism
    raise UpstreamLoginError(f"login of {name}: the server offers no SCRAM mechanism for this user")


def _scram(mechanism: str, name: UserName, conversation: ScramClientConversation) -> UpstreamLogin:
    reply = yield {
        "saslStart": 1,
        "mechanism": mechanism,
        "payload": conversation.first(),
        "options": {"skipEmptyExchange": True},
        "$db": name.db,
    }
    proof = conversation.final(_payload(reply, name, mechanism))
    reply = yield _continue(reply, proof, name)
    conversation.verify(_payload(reply, name, mechanism))
    if not reply.get("done"):  # a server that does not know skipEmptyExchange
        reply = yield _continue(reply, b"", name)
        _payload(reply, name, mechanism)
    if not reply.get("done"):
        raise UpstreamLoginError(
            f"login of {name} with {mechanism}: the server does not end the conversation"
        )


def _x509(name: UserName) -> UpstreamLogin:
    command: dict[str, Any] = {"authenticate": 1, "mechanism": X509}
    if name.user:
        command["user"] = name.user
    reply = yield {**command, "$db": EXTERNAL_DB}
    _ok(reply, name, X509)


def _continue(reply: Mapping[str, Any], payload: bytes, name: UserName) -> dict[str, Any]:
    return {
        "saslContinue": 1,
        "conversationId": reply.get("conversationId", 1),
        "payload": payload,
        "$db": name.db,
    }


def _ok(reply: Mapping[str, Any], name: UserName, step: str) -> Mapping[str, Any]:
    if not reply.get("ok"):
        raise UpstreamLoginError(
            f"login of {name} with {step} was refused: ({reply.get('code', 0)}) {reply.get('errmsg', '')}"
        )
    return reply


def _payload(reply: Mapping[str, Any], name: UserName, mechanism: str) -> bytes:
    payload = _ok(reply, name, mechanism).get("payload")
    if not isinstance(payload, bytes):
        raise UpstreamLoginError(f"login of {name} with {mechanism}: a reply has no payload")
    return bytes(payload)
