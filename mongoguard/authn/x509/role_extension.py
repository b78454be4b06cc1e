"""MongoDB's two certificate extensions: roles that a certificate carries, and the mark of a cluster's members.

In: an extension's value. Out: role names, or the mark. Must not know who may grant them.
Source: mongod's description of both (1.3.6.1.4.1.34601.2.1.1 and .2): SET OF SEQUENCE {role UTF8String, db UTF8String}
and UTF8String.
"""

from __future__ import annotations

from mongoguard.authn.x509.der import SEQUENCE, SET, UTF8_STRING, DerError, DerReader
from mongoguard.model.names import RoleName

__all__ = ["MEMBERSHIP_OID", "ROLES_OID", "read_membership", "read_roles"]

ROLES_OID = "1.3.6.1.4.1.34601.2.1.1"
MEMBERSHIP_OID = "1.3.6.1.4.1.34601.2.1.2"

MAX_ROLES = 100
"""Roles of one certificate: each is asked for at every login, and a role may stand for any number of others."""


def read_roles(extension: bytes) -> tuple[RoleName, ...]:
    """The roles, at least one, each once, sorted. Raises `DerError` (a `ValueError`)."""
    whole = DerReader(extension)
    entries = whole.enter(SET)
    whole.finish()
    roles: set[RoleName] = set()
    while entries.tag is not None:
        entry = entries.enter(SEQUENCE)
        roles.add(RoleName(_text(entry), _text(entry)))
        entry.finish()
        if len(roles) > MAX_ROLES:
            raise DerError(f"more than {MAX_ROLES} roles")
    if not roles:
        raise DerError("no role at all")
    return tuple(sorted(roles))


def read_membership(extension: bytes) -> str:
    """The mark. Raises `DerError`."""
    whole = DerReader(extension)
    text = _text(whole)
    whole.finish()
    return text


def _text(parts: DerReader) -> str:
    content = parts.take(UTF8_STRING)
    if not content or 0 in content:
        raise DerError("a name is empty, or holds a zero")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise DerError("a name is not UTF-8") from None
