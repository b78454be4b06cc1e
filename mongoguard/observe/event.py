"""AuditEvent: what happened, in MongoDB's audit message format.

In: plain model values. Out: a value, and its JSON document. Must not know commands, decisions or sinks.
Source: the manual's "System Event Audit Messages" (fields atype, ts, local, remote, users, roles, param, result).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from mongoguard.model.names import RoleName, UserName
from mongoguard.model.restriction import Address, Peer

__all__ = ["AuditEvent", "date_document", "to_document", "to_json"]

MAX_TEXT = 1024
"""Characters of one text in a message. Clients choose names, mechanisms and targets, before any login too: without a
limit one line could be as long as a message, and the queue of lines would take gigabytes."""


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One audit message. `result` is 0 or the error code; `ts` is seconds since the epoch, filled by the shell."""

    atype: str
    peer: Peer
    users: tuple[UserName, ...] = ()
    roles: tuple[RoleName, ...] = ()
    param: Mapping[str, Any] = field(default_factory=dict)
    result: int = 0


def to_document(event: AuditEvent, ts: float) -> dict[str, Any]:
    """The message as MongoDB writes it; `ts` is seconds since the epoch (UTC)."""
    peer = event.peer
    return {
        "atype": event.atype,
        "ts": date_document(ts),
        "local": _address(peer.server, peer.server_port),
        "remote": _address(peer.client, peer.client_port),
        "users": [{"user": user.user, "db": user.db} for user in event.users],
        "roles": [{"role": role.role, "db": role.db} for role in event.roles],
        "param": _cut(event.param),
        "result": event.result,
    }


def to_json(event: AuditEvent, ts: float) -> str:
    """The message as one line of ASCII, without its line end: names can't forge a second line or a terminal code."""
    return json.dumps(to_document(event, ts), separators=(",", ":"), default=_plain)


def _cut(value: object) -> object:
    """The value with long texts cut, at every level."""
    match value:
        case str():
            return value if len(value) <= MAX_TEXT else f"{value[:MAX_TEXT]}..."
        case Mapping():
            return {name: _cut(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_cut(inner) for inner in value]
        case _:
            return value


def _plain(value: object) -> object:
    """A date as mongod prints it; of anything else only the type: an audit line must never fail to be written."""
    return date_document(value.timestamp()) if isinstance(value, datetime) else f"<{type(value).__name__}>"


def date_document(ts: float) -> dict[str, str]:
    """`{$date: …}` in milliseconds, UTC, as mongod prints it."""
    return {"$date": datetime.fromtimestamp(ts, UTC).isoformat(timespec="milliseconds")}


def _address(address: Address | None, port: int) -> dict[str, Any]:
    """As mongod prints it: `{unix: "anonymous"}` for a client on a Unix socket, whose path isn't known."""
    return {"unix": "anonymous"} if address is None else {"ip": str(address), "port": port}
