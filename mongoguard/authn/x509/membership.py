"""What makes a certificate look like one of the deployment's own servers.

In: subjects, and DNs that an administrator wrote. Out: the attributes that members share. Must not know sockets.
Source: the manual's "Member Certificate Requirements": members are told by their O, OU and DC attributes, in any order.
mongod compares values exactly; here case, width and runs of spaces do not count, so a look-alike is a member too.
"""

from __future__ import annotations

from typing import TypeAlias

from mongoguard.authn.ldap.attribute_types import canonical_type
from mongoguard.authn.ldap.attribute_values import resembling_value
from mongoguard.authn.ldap.distinguished_name import DistinguishedName
from mongoguard.authn.x509.subject import Subject

__all__ = ["MemberAttributes", "members_of_dn", "members_of_subject"]

MemberAttributes: TypeAlias = frozenset[tuple[str, str]]
"""The O, OU and DC attributes of a subject as they are compared; no member has none of them."""

_DISTINGUISHING = frozenset({"o", "ou", "dc"})


def members_of_subject(subject: Subject) -> MemberAttributes:
    """What a certificate with this subject would share with the members of its cluster."""
    pairs = (
        (canonical_type(attribute.type), attribute.value.decode(errors="replace"))
        for rdn in subject.rdns
        for attribute in rdn
    )
    return frozenset((kind, resembling_value(text)) for kind, text in pairs if kind in _DISTINGUISHING)


def members_of_dn(text: str) -> MemberAttributes:
    """The same of a DN in text (RFC 4514). Raises `ValueError` when it is none, or names none of the attributes."""
    pairs = (
        (canonical_type(attribute.type), attribute.value)
        for rdn in DistinguishedName.parse(text).rdns
        for attribute in rdn
    )
    found = frozenset(
        (kind, resembling_value(value))
        for kind, value in pairs
        if kind in _DISTINGUISHING and isinstance(value, str)
    )
    if not found:
        raise ValueError("members are told by O, OU and DC attributes, of which there is none")
    return found
