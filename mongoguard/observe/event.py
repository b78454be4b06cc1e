"""AuditEvent: what happened, in MongoDB's audit message format.

In: plain model values. Out: a value, and its JSON document. Must not know commands, decisions or sinks.
Source: the manual's "System Event Audit Messages" (fields atype, ts, local, remote, users, roles, param, result).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mongoguard.model.names import RoleName, UserName
from mongoguard.model.restriction import Peer

__all__ = ["AuditEvent"]


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One audit message. `result` is 0 or the error code; `ts` is seconds since the epoch, filled by the shell."""

    atype: str
    peer: Peer
    users: tuple[UserName, ...] = ()
    roles: tuple[RoleName, ...] = ()
    param: Mapping[str, Any] = field(default_factory=dict)
    result: int = 0
