"""Identity: the bytes that tell the upstream which user a relayed command is for.

In: a user (or nobody), how the upstream takes impersonation, and what names the client. Out: ready-made BSON elements.
Must not know commands.
Source: measured on mongod 6.0.5: a session belongs to (lsid.id, SHA-256 of "user@db"); `$audit` names the real user in
currentOp, profiler and logs. Both need the action `impersonate`, which the service user holds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from mongoguard.model.names import UserName
from mongoguard.model.user import User
from mongoguard.proxy.deployment import Impersonation
from mongoguard.wire.document import encode_element

__all__ = ["Identity", "nobodys_identity", "session_digest"]

MAX_ROLES_BYTES = 4096
"""What naming the user's roles may add to each message. The server decides nothing by them, and only Enterprise's audit
log shows them."""
_ROLE_OVERHEAD_BYTES = 40
_SESSION_ID_BYTES = 16
_PLAIN_LSID_BYTES = 30
_UID_HEAD = b"\x05uid\0"


def session_digest(name: UserName | None) -> bytes:
    """`lsid.uid` of that user's sessions; nobody's is the digest of nothing, as in mongod."""
    return hashlib.sha256(str(name).encode() if name is not None else b"").digest()


class Identity:
    """What is spliced into every relayed command of one user."""

    __slots__ = (
        "appended",
        "audit",
        "audit_element",
        "client_element",
        "digest",
        "digest_without_realm",
        "impersonates",
        "name",
        "plain_lsid_head",
        "plain_lsid_tail",
        "printed_digest",
        "realm",
        "uid_element",
        "uid_value",
    )

    def __init__(
        self, user: User | None, impersonation: Impersonation, realm: str = "", client_element: bytes = b""
    ) -> None:
        """Encode once; the session keeps it until the user changes.

        `realm` is added to the database of the name, for users of a directory of their own: the upstream may have a
        user of the same name, whose sessions and operations are not theirs. No database has such a name, so no user of
        the upstream can have it. `client_element`: `$client`, or nothing (client_metadata.py).
        """
        self.realm = "" if user is None else realm
        self.name = None if user is None else UserName(user.name.user, user.name.db + realm)
        self.digest = session_digest(self.name)
        self.digest_without_realm = session_digest(None if user is None else user.name)
        self.printed_digest = self.digest.hex().upper().encode()  # as a server prints `lsid.uid`
        self.impersonates = impersonation is not Impersonation.NONE
        self.uid_element = encode_element("uid", self.digest)
        self.uid_value = self.uid_element[len(_UID_HEAD) :]
        # An lsid with nothing but its id (30 bytes) becomes head + its bytes 4..28 + tail.
        self.plain_lsid_head = (_PLAIN_LSID_BYTES + len(self.uid_element)).to_bytes(4, "little")
        self.plain_lsid_tail = self.uid_element + b"\0"
        self.audit = _audit(self.name, user, impersonation)
        self.audit_element = encode_element("$audit", self.audit) if self.audit else b""
        self.client_element = client_element
        self.appended = self.audit_element + client_element

    def own_session_id(self, session_id: bytes) -> bytes:
        """A session id that is this user's alone, for an upstream that refuses `lsid.uid`.

        The same client id always becomes the same upstream id, and no two users can meet in one: 16 bytes of
        SHA-256 over the user's digest and the id, so a client cannot aim at another user's.
        """
        return hashlib.sha256(self.digest + session_id).digest()[:_SESSION_ID_BYTES]


@lru_cache(maxsize=len(Impersonation))
def nobodys_identity(impersonation: Impersonation) -> Identity:
    """That of every session before its login."""
    return Identity(None, impersonation)


def _audit(name: UserName | None, user: User | None, impersonation: Impersonation) -> Mapping[str, Any]:
    if name is None or user is None or impersonation is Impersonation.NONE:
        return {}
    document = {"user": name.user, "db": name.db}
    users: object = [document] if impersonation is Impersonation.USERS else document
    roles: list[dict[str, str]] = []
    room = MAX_ROLES_BYTES
    for role in user.inherited_roles or user.roles:
        room -= len(role.role) * 4 + len(role.db) * 4 + _ROLE_OVERHEAD_BYTES
        if room < 0:
            break
        roles.append({"role": role.role, "db": role.db})
    return {str(impersonation): users, "$impersonatedRoles": roles}
