"""Logical sessions: `lsid` documents, and the commands that name sessions.

In: a command. Out: whose session it names, the requirement of naming it. Must not know connections or who is logged
in beyond the `Asker`. Source: the driver sessions specification; rules measured on mongod 6.0.5.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from mongoguard.command.arguments import (
    array_of_documents,
    is_absent,
    missing_field,
    unknown_field,
    wrong_type,
)
from mongoguard.command.command import Command
from mongoguard.command.requires import all_of
from mongoguard.command.spec import Asker, Requires
from mongoguard.errors import CommandError, ErrorCode
from mongoguard.model.action_type import ActionType
from mongoguard.model.names import UserName
from mongoguard.model.privilege import NOTHING, AnyOf, Privilege, Requirement
from mongoguard.model.resource_pattern import CLUSTER
from mongoguard.wire.document import BINARY, DOCUMENT, Document

__all__ = [
    "IMPERSONATE",
    "KILL_ANY_SESSION",
    "KILL_FOREIGN_SESSION",
    "SessionId",
    "check_lsid",
    "names_foreign_session",
    "parse_session_id",
    "requires_own_sessions",
    "requires_session_pattern",
    "session_uid",
    "sessions_named",
]

IMPERSONATE = Privilege(CLUSTER, frozenset({ActionType.IMPERSONATE}))
KILL_ANY_SESSION = Privilege(CLUSTER, frozenset({ActionType.KILL_ANY_SESSION}))
KILL_FOREIGN_SESSION = AnyOf((KILL_ANY_SESSION, IMPERSONATE))
"""What killSessions asks for when it names another user's session: either will do."""

_UUID_SUBTYPE = 4
_LSID_FIELDS = frozenset({"id", "uid"})
_INTERNAL_LSID_FIELDS = frozenset({"txnNumber", "txnUUID"})
_PLAIN_LSID = b"\x1e\0\0\0\x05id\0\x10\0\0\0\x04"
"""How the 30 bytes of an lsid with nothing but an id begin: what drivers send."""
_PLAIN_LSID_SIZE = 30


class SessionId(NamedTuple):
    """A session: its UUID, and the owner's digest when the client gives one."""

    id: bytes
    uid: bytes | None = None


@lru_cache(maxsize=4096)
def session_uid(user: UserName) -> bytes:
    """The digest by which mongod tells users' sessions apart: SHA-256 of `user@db`."""
    return hashlib.sha256(str(user).encode()).digest()


def check_lsid(body: Document) -> SessionId | None:
    """The command's `lsid` when it says more than an id; None when there is none, or just an id.

    Raises `CommandError` in mongod's words for a malformed one.
    """
    element = body.fields.get("lsid")
    if element is None:
        return None
    start = element[2]
    if element[3] - start == _PLAIN_LSID_SIZE and body.data.startswith(_PLAIN_LSID, start):
        return None
    if is_absent(body, "lsid"):
        return None
    if element[0] != DOCUMENT:
        raise wrong_type("OperationSessionInfo", body, "lsid", "'object'")
    return parse_session_id(
        "OperationSessionInfo.lsid", Document(body.data, start, element[3], body.depth + 1)
    )


def parse_session_id(path: str, view: Document) -> SessionId:
    """`{id: UUID, uid: digest}`; the fields of server-to-server sessions are refused as mongod refuses them."""
    for name in view.fields:
        if name in _INTERNAL_LSID_FIELDS:
            raise CommandError(
                ErrorCode.INVALID_OPTIONS, "Internal sessions are only allowed for internal clients"
            )
        if name not in _LSID_FIELDS:
            raise unknown_field(path, name)
    if is_absent(view, "id"):
        raise missing_field(path, "id")
    return SessionId(_uuid(path, view), _digest(path, view))


def _uuid(path: str, view: Document) -> bytes:
    binary = view.binary("id")
    if binary is None:
        raise wrong_type(path, view, "id", "'binData'")
    if binary[0] != _UUID_SUBTYPE:
        raise CommandError(
            ErrorCode.TYPE_MISMATCH,
            f"BSON field '{path}.id' is the wrong binData type '{_SUBTYPES.get(binary[0], 'unknown')}', "
            "expected type 'UUID'",
        )
    if len(binary[1]) != 16:
        raise CommandError(207, "uuid must be a 16-byte binary field with UUID (4) subtype")
    return binary[1]


_SUBTYPES = {0: "general", 1: "function", 2: "general", 3: "UUID (deprecated)", 5: "MD5", 6: "encrypt"}


def _digest(path: str, view: Document) -> bytes | None:
    if is_absent(view, "uid"):
        return None
    if view.type_of("uid") != BINARY:
        raise wrong_type(path, view, "uid", "'binData'")
    binary = view.binary("uid")
    assert binary is not None  # its type was just checked
    if len(binary[1]) != 32:
        raise CommandError(12, f"Unsupported SHA256Block hash length: {len(binary[1])}")
    return binary[1]


def names_foreign_session(session: SessionId | None, asker: Asker) -> bool:
    """Whether the client wrote a digest that is not its own."""
    if session is None or session.uid is None:
        return False
    return asker.user is None or session.uid not in (session_uid(asker.user), asker.upstream_uid)


def sessions_named(command: Command) -> tuple[SessionId, ...]:
    """The sessions that endSessions, refreshSessions or killSessions lists.

    Those without a `uid` are the caller's own: under a shared service identity the relay must write it in.
    """
    struct, elements = _TEXTS[command.name]
    views = array_of_documents(struct, command.body, command.name, elements)
    return tuple(parse_session_id(elements, view) for view in views)


_TEXTS = {
    "endSessions": ("endSessions", "endSessions.endSessionsFromClient"),
    "killSessions": ("KillSessionsCmd", "KillSessionsCmd.killSessions"),
    "refreshSessions": ("refreshSessions", "refreshSessions.refreshSessionsFromClient"),
}
"""What mongod's texts call the array, and its elements."""


def requires_own_sessions(foreign: Requirement) -> Requires:
    """Naming one's own sessions is free; naming another user's needs `foreign`."""

    def requires(command: Command, asker: Asker) -> Requirement:
        named = sessions_named(command)
        return foreign if any(names_foreign_session(s, asker) for s in named) else NOTHING

    return requires


def requires_session_pattern(command: Command, _asker: Asker) -> Requirement:
    """killAllSessionsByPattern: killAnySession; a pattern with users or roles acts as them, and needs impersonate.

    mongod checks killAnySession before it parses: what is no pattern is for the server to refuse.
    """
    acts_as_others = any("users" in pattern or "roles" in pattern for pattern in _patterns(command.body))
    return all_of([KILL_ANY_SESSION, *([IMPERSONATE] if acts_as_others else [])])


def _patterns(body: Document) -> Iterator[Document]:
    array = body.array("killAllSessionsByPattern")
    for key in () if array is None else array:
        pattern = None if array is None else array.document(key)
        if pattern is not None:
            yield pattern
