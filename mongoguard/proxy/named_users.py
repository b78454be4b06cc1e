"""Named users: the users that a command names, by the names that they have upstream.

In: a part of a client's command, and the identity of its sender. Out: the values to put in place of its own, by field.
Must not know what the command is for.

A client names users of the directory that it logs in by. A directory of its own (`security.userDirectory: file`) has
names that the upstream may have given to other people, so upstream each of its users has a realm behind the database
(`Identity.realm`), and so has whoever a client names. Without a realm nothing is put in place of anything.

A session's `uid` is a digest, which cannot be translated but for the sender's own name. Any other is taken for what it
is: one that the upstream has shown.
"""

from __future__ import annotations

from collections.abc import Mapping

from mongoguard.proxy.identity import Identity
from mongoguard.wire.document import ARRAY, DOCUMENT, STRING, Document

__all__ = ["audit_upstream", "names_upstream", "uid_upstream", "with_values"]

_USERS_OF_AUDIT = ("$impersonatedUsers", "$impersonatedUser")


def with_values(document: Document, values: Mapping[str, bytes]) -> bytes:
    """The document's (or array's) bytes, with other values of the same types for those fields."""
    data = document.data
    pieces = []
    for field, element in document.fields.items():
        value = values.get(field)
        pieces.append(
            data[element.start : element.end]
            if value is None
            else data[element.start : element.value] + value
        )
    inside = b"".join(pieces)
    return (len(inside) + 5).to_bytes(4, "little") + inside + b"\0"


def names_upstream(document: Document, field: str, identity: Identity) -> Mapping[str, bytes]:
    """For a field that is `{user, db}`, or an array of them: the realm behind each `db`.

    What is no such name is left as it is: servers refuse it (measured on 6.0.5: 14, 40414, 40415).
    """
    kind = document.type_of(field) if identity.realm else None
    if kind == DOCUMENT:
        name = document.document(field)
        return {} if name is None else {field: _in_realm(name, identity.realm)}
    array = document.array(field) if kind == ARRAY else None
    if array is None:
        return {}
    names = {
        key: _in_realm(name, identity.realm) for key in array if (name := array.document(key)) is not None
    }
    return {field: with_values(array, names)}


def _in_realm(name: Document, realm: str) -> bytes:
    element = name.fields.get("db")
    if element is None or element.type != STRING:
        return name.raw
    text = name.data[element.value + 4 : element.end - 1] + realm.encode()
    return with_values(name, {"db": (len(text) + 1).to_bytes(4, "little") + text + b"\0"})


def uid_upstream(session: Document, identity: Identity) -> Mapping[str, bytes]:
    """For a `uid` that is the digest of the sender's name in its own directory: the one that it has upstream."""
    binary = session.binary("uid") if identity.realm else None
    if binary is None or binary[1] != identity.digest_without_realm:
        return {}
    return {"uid": identity.uid_value}


def audit_upstream(body: Document, identity: Identity) -> bytes | None:
    """The value of a `$audit` that the client wrote, who may impersonate: its users with the realm."""
    audit = body.document("$audit") if identity.realm else None
    if audit is None:
        return None
    names = [names_upstream(audit, field, identity) for field in _USERS_OF_AUDIT]
    return with_values(audit, {field: value for found in names for field, value in found.items()})
