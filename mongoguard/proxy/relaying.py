"""Relaying: the client's message with the named splices, ready for the upstream.

In: a parsed message, the identity of its sender, and what narrowing asks for. Out: bytes. Must not know decisions.

The splices, all of them (docs/architecture.md lists them too):

* identity: `uid` into `lsid`, `$audit` at the end of the body (or, for an upstream that refuses impersonation, the
  value of `lsid.id` made the user's own); before a login, no `lsid` at all;
* client metadata: `$client` behind it, for a client that names its application (see client_metadata.py);
* named users: a realm behind the users of a client's own `$audit` (see named_users.py);
* narrowing: a replaced argument (own operations only, own sessions only, users that are named; see narrowing.py);
* framing: flags cleared, checksum dropped, lengths mended.
"""

from __future__ import annotations

from dataclasses import dataclass

from mongoguard.errors import CommandError, ErrorCode
from mongoguard.proxy.identity import Identity
from mongoguard.proxy.named_users import audit_upstream, uid_upstream, with_values
from mongoguard.wire.document import BINARY, NULL, Document, encode_element
from mongoguard.wire.message import OpMsg
from mongoguard.wire.splice import Splice, append_to_document, splice_message

__all__ = ["Narrowing", "message_for_upstream", "session_id"]


@dataclass(frozen=True, slots=True)
class Narrowing:
    """What a command must be narrowed by: replaced byte ranges of the body, and elements to append to it."""

    splices: tuple[Splice, ...] = ()
    appended: bytes = b""


def session_id(body: Document) -> bytes | None:
    """`lsid.id`, or None without an lsid. Raises `CommandError` for an lsid that is not one."""
    if body.type_of("lsid") in (None, NULL):
        return None
    lsid = body.document("lsid")
    value = None if lsid is None else lsid.binary("id")
    if value is None or value[0] != 4 or len(value[1]) != 16:
        raise CommandError(ErrorCode.TYPE_MISMATCH, "lsid must be an object with a UUID in its field 'id'")
    return value[1]


def message_for_upstream(
    message: OpMsg, identity: Identity, narrowing: Narrowing | None = None, *, keep_session: bool = True
) -> bytes:
    """The bytes to relay: the client's own, with the splices of the module's docstring.

    `keep_session` is false for who has not logged in where a login is asked for: mongod ignores an lsid then.
    The service user's connection would make it a session, and strangers could fill the server's table of them.
    """
    body = message.body
    appended = identity.appended
    splices = _session_splices(body, identity) if keep_session else _without_session(body)
    if "$client" in body.fields:  # of a user who holds internal
        appended = identity.audit_element
    if "$audit" in body.fields:
        appended = appended.removeprefix(identity.audit_element)
        splices = sorted([*splices, *_audit_splices(body, identity)])
    if narrowing is not None:
        appended += narrowing.appended
        splices = sorted([*splices, *narrowing.splices])
    return splice_message(message, splices, appended)


def _audit_splices(body: Document, identity: Identity) -> list[Splice]:
    audit, element = audit_upstream(body, identity), body.fields["$audit"]
    return [] if audit is None else [(element.value, element.end, audit)]


_PLAIN_LSID = b"\x1e\0\0\0\x05id\0\x10\0\0\0\x04"
"""How the 30 bytes of an lsid with nothing but an id begin: what drivers send."""


def _session_splices(body: Document, identity: Identity) -> list[Splice]:
    element = body.fields.get("lsid")
    if element is None:
        return []
    if identity.impersonates and body.data.startswith(_PLAIN_LSID, element[2]):
        start, end = element[2], element[3]
        return [
            (start, end, identity.plain_lsid_head + body.data[start + 4 : end - 1] + identity.plain_lsid_tail)
        ]
    lsid = body.document("lsid")
    if lsid is None:
        return []
    if identity.impersonates:
        return [(lsid.start, lsid.end, _with_uid(lsid, identity))]
    return [own_session_splice(lsid, identity)]


def _without_session(body: Document) -> list[Splice]:
    element = body.fields.get("lsid")
    return [] if element is None else [(element.start, element.end, b"")]


def _with_uid(session: Document, identity: Identity) -> bytes:
    """A session id whose `uid` is certain."""
    uid = session.fields.get("uid")
    if uid is None:
        return append_to_document(session, identity.uid_element)
    if uid.type == BINARY:  # checked before: the user's own digest, or the user may impersonate
        own = uid_upstream(session, identity)
        return with_values(session, own) if own else session.raw
    # A uid of null is no uid for mongod, which then writes in that of the connection's user: the service's.
    inside = session.data[session.start + 4 : uid.start] + session.data[uid.end : session.end - 1]
    inside += identity.uid_element
    return (len(inside) + 5).to_bytes(4, "little") + inside + b"\0"


def own_session_splice(lsid: Document, identity: Identity) -> Splice:
    """The whole lsid replaced by the user's own id, for an upstream without impersonation."""
    value = lsid.binary("id")
    if value is None or value[0] != 4 or len(value[1]) != 16 or len(lsid) != 1:
        raise CommandError(
            ErrorCode.TYPE_MISMATCH, "lsid must be an object with only a UUID in its field 'id'"
        )
    element = lsid.fields["id"]
    return (element.end - 16, element.end, identity.own_session_id(value[1]))


def sessions_for_upstream(sessions: list[Document], identity: Identity) -> list[bytes]:
    """Documents `{id}` of an endSessions-like array, each made the user's own as an lsid would be."""
    if identity.impersonates:
        return [_with_uid(session, identity) for session in sessions]
    out = []
    for session in sessions:
        start, end, own = own_session_splice(session, identity)
        out.append(session.data[session.start : start] + own + session.data[end : session.end])
    return out


def array_element(name: str, documents: list[bytes]) -> bytes:
    """A BSON array element of those documents."""
    body = b"".join(b"\x03" + str(i).encode() + b"\0" + d for i, d in enumerate(documents))
    empty = encode_element(name, [])
    return empty[:-5] + (len(body) + 5).to_bytes(4, "little") + body + b"\0"
