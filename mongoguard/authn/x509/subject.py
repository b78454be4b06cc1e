r"""A certificate's subject: its attributes, and the user name that mongod makes of them.

In: a certificate in DER. Out: a `Subject`. Must not know users or configurations.
Source: measured on mongod 6.0.5. RDNs are printed last to first, and the attributes inside one RDN too; types by
OpenSSL's short names; RFC 2253's escapes, with each octet that is not ASCII as `\XX`. `=` is not escaped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from mongoguard.authn.x509.attribute_names import SHORT_NAMES
from mongoguard.authn.x509.der import (
    INTEGER,
    OBJECT_IDENTIFIER,
    SEQUENCE,
    SET,
    DerError,
    DerReader,
    object_identifier,
)

__all__ = ["Subject", "SubjectAttribute", "read_subject"]

MAX_ATTRIBUTES = 256
"""Attributes of one subject: real ones have ten."""

_EXPLICIT_VERSION = 0xA0
_TEXT_TAGS = frozenset({0x0C, 0x12, 0x13, 0x14, 0x16})
"""UTF8String, NumericString, PrintableString, TeletexString and IA5String, whose octets mongod prints as they are. It
drops connections whose subject holds a BMPString or a UniversalString."""

_ESCAPED_ANYWHERE = frozenset(b',+"\\<>;')


@dataclass(frozen=True, slots=True)
class SubjectAttribute:
    """`type` is a dotted object identifier, `value` the text's octets."""

    type: str
    value: bytes


Rdns: TypeAlias = tuple[tuple[SubjectAttribute, ...], ...]


@dataclass(frozen=True, slots=True)
class Subject:
    """RDNs and their attributes in the certificate's order."""

    rdns: Rdns

    def __str__(self) -> str:
        """mongod's spelling: the user's name on `$external`."""
        return ",".join("+".join(_spell(a) for a in reversed(rdn)) for rdn in reversed(self.rdns))


def read_subject(tbs_certificate: bytes) -> Subject:
    """The subject of a TBSCertificate (RFC 5280 section 4.1).

    Raises `DerError` (a `ValueError`) also for a subject that is empty, and for control characters in it, for which
    mongod has no spelling of their own: two subjects would be one user.
    """
    whole = DerReader(tbs_certificate)
    fields = whole.enter(SEQUENCE)
    whole.finish()
    if fields.tag == _EXPLICIT_VERSION:
        fields.take()
    fields.take(INTEGER)
    for _ in ("signature", "issuer", "validity"):
        fields.take(SEQUENCE)
    subject = Subject(_read_rdns(fields.enter(SEQUENCE)))
    if not subject.rdns:
        raise DerError("the subject is empty")
    if sum(len(rdn) for rdn in subject.rdns) > MAX_ATTRIBUTES:
        raise DerError(f"the subject has more than {MAX_ATTRIBUTES} attributes")
    return subject


def _read_rdns(names: DerReader) -> Rdns:
    rdns = []
    while names.tag is not None:
        attributes = names.enter(SET)
        rdn = []
        while attributes.tag is not None:
            rdn.append(_read_attribute(attributes.enter(SEQUENCE)))
        if not rdn:
            raise DerError("an RDN is empty")
        rdns.append(tuple(rdn))
    return tuple(rdns)


def _read_attribute(parts: DerReader) -> SubjectAttribute:
    kind = object_identifier(parts.take(OBJECT_IDENTIFIER))
    if parts.tag not in _TEXT_TAGS:
        raise DerError("the subject holds a value of a type that has no spelling")
    value = parts.take()
    parts.finish()
    if any(octet < 0x20 or octet == 0x7F for octet in value):
        raise DerError("the subject holds a control character")
    return SubjectAttribute(kind, value)


def _spell(attribute: SubjectAttribute) -> str:
    return f"{SHORT_NAMES.get(attribute.type, attribute.type)}={_escape(attribute.value)}"


def _escape(value: bytes) -> str:
    escaped = "".join(_escape_octet(octet, at_start=index == 0) for index, octet in enumerate(value))
    # mongod looks at what it has written so far: one character and a space stay as they are
    return f"{escaped[:-1]}\\ " if len(escaped) > 2 and escaped[-1] == " " else escaped


def _escape_octet(octet: int, *, at_start: bool) -> str:
    if octet >= 0x80:
        return f"\\{octet:02X}"
    character = chr(octet)
    return f"\\{character}" if octet in _ESCAPED_ANYWHERE or (at_start and character in " #") else character
