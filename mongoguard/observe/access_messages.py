"""Audit messages about access: logins, logouts, and decisions on commands.

In: names, addresses, a command's body, what was missing. Out: `AuditEvent`s. Must not know how anything was decided.
Source: the manual's "System Event Audit Messages": authenticate, logout, authCheck. `argsHash`, `argsBytes`,
`missing`, `reason` and the whole message connectionRefused are additions of mongoguard's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from mongoguard.errors import ErrorCode
from mongoguard.model.names import RoleName, UserName
from mongoguard.model.privilege import Privilege
from mongoguard.model.restriction import Peer
from mongoguard.observe.command_shape import CommandDocument, holds_secret, shape
from mongoguard.observe.event import AuditEvent, date_document

__all__ = [
    "DEFAULT_PARAMETER_MAX_BYTES",
    "auth_check",
    "authenticate",
    "connection_refused",
    "logout",
    "tls_handshake",
]

DEFAULT_PARAMETER_MAX_BYTES = 4096
"""JSON bytes for a command's arguments in one line; a line below 8 KB passes every log shipper's limit."""
MAX_MISSING = 32
"""Missing privileges that are listed; a pipeline can name thousands of collections."""


def auth_check(
    peer: Peer,
    users: Iterable[UserName],
    roles: Iterable[RoleName],
    command: str,
    ns: str,
    *,
    body: CommandDocument | None,
    result: int,
    missing: Iterable[Privilege] = (),
    reason: str = "",
    max_bytes: int = DEFAULT_PARAMETER_MAX_BYTES,
) -> AuditEvent:
    """A command was allowed (`result` 0) or denied (13, or the code that the client got).

    `ns` is "db.collection", or "db". `body` is None when it could not be read. `max_bytes` bounds the JSON of the
    arguments. `argsHash` (SHA-256, hex) is left out where the body holds a password or a key.
    """
    param: dict[str, Any] = {
        "command": command,
        "ns": ns,
        "args": {} if body is None else shape(body, max_bytes),
    }
    if body is not None:
        raw = body.raw
        param["argsBytes"] = len(raw)
        if not holds_secret(body):
            param["argsHash"] = hashlib.sha256(raw).hexdigest()
    lacking = list(missing)
    if lacking:
        param["missing"] = [privilege.to_document() for privilege in lacking[:MAX_MISSING]]
    if len(lacking) > MAX_MISSING:
        param["missingOmitted"] = len(lacking) - MAX_MISSING
    if reason:
        param["reason"] = reason
    return AuditEvent("authCheck", peer, tuple(users), tuple(roles), param, result)


def authenticate(
    peer: Peer,
    user: UserName,
    mechanism: str,
    *,
    result: int,
    roles: Iterable[RoleName] = (),
    reason: str = "",
) -> AuditEvent:
    """Somebody logged in as `user` (`result` 0) or failed to (18). `reason` is why, never part of the credential."""
    param = {"user": user.user, "db": user.db, "mechanism": mechanism}
    if reason:
        param["reason"] = reason
    return AuditEvent("authenticate", peer, (user,) if result == 0 else (), tuple(roles), param, result)


def logout(peer: Peer, user: UserName, login_time: float, *, reason: str) -> AuditEvent:
    """`user` is logged out; `login_time` is seconds since the epoch; `reason` as "Client has disconnected"."""
    param = {
        "reason": reason,
        "initialUsers": [{"user": user.user, "db": user.db}],
        "updatedUsers": [],
        "loginTime": date_document(login_time),
    }
    return AuditEvent("logout", peer, (), (), param, 0)


def connection_refused(peer: Peer, *, reason: str) -> AuditEvent:
    """A connection was closed before its first message; `peer` as far as it was known then."""
    return AuditEvent("connectionRefused", peer, param={"reason": reason}, result=ErrorCode.PROTOCOL_ERROR)


def tls_handshake(peer: Peer, *, reason: str) -> AuditEvent:
    """A connection was closed because TLS was not agreed on, or was missing (141, as mongod's log has it)."""
    return AuditEvent("tlsHandshake", peer, param={"reason": reason}, result=ErrorCode.SSL_HANDSHAKE_FAILED)
