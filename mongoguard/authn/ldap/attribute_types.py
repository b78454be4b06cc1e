"""Attribute types of distinguished names: every spelling of one type becomes one word.

In: a type as a DN holds it (`CN`, `commonName`, `2.5.4.3`, `OID.2.5.4.3`). Out: its comparable form (`cn`). Must not
know values or DNs.

The rows are RFC 4514 section 3, RFC 4519's naming attributes, and OpenSSL's short names, which are what certificates
and mongod print. An unknown type is compared by its own name: two spellings of it never meet, which grants nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["canonical_type"]

_TYPE = re.compile(r"[a-z][a-z0-9-]*|(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*))+")
"""RFC 4512's `descr` or `numericoid`, in lower case."""

_SPELLINGS: tuple[tuple[str, ...], ...] = (
    ("cn", "commonname", "2.5.4.3"),
    ("sn", "surname", "2.5.4.4"),
    ("serialnumber", "2.5.4.5"),
    ("c", "countryname", "2.5.4.6"),
    ("l", "localityname", "2.5.4.7"),
    ("st", "stateorprovincename", "2.5.4.8"),
    ("street", "streetaddress", "2.5.4.9"),
    ("o", "organizationname", "2.5.4.10"),
    ("ou", "organizationalunitname", "2.5.4.11"),
    ("title", "2.5.4.12"),
    ("businesscategory", "2.5.4.15"),
    ("postalcode", "2.5.4.17"),
    ("name", "2.5.4.41"),
    ("givenname", "gn", "2.5.4.42"),
    ("initials", "2.5.4.43"),
    ("generationqualifier", "2.5.4.44"),
    ("dnqualifier", "2.5.4.46"),
    ("pseudonym", "2.5.4.65"),
    ("uid", "userid", "0.9.2342.19200300.100.1.1"),
    ("mail", "rfc822mailbox", "0.9.2342.19200300.100.1.3"),
    ("dc", "domaincomponent", "0.9.2342.19200300.100.1.25"),
    ("emailaddress", "email", "e", "1.2.840.113549.1.9.1"),
    ("jurisdictionl", "jurisdictionlocalityname", "1.3.6.1.4.1.311.60.2.1.1"),
    ("jurisdictionst", "jurisdictionstateorprovincename", "1.3.6.1.4.1.311.60.2.1.2"),
    ("jurisdictionc", "jurisdictioncountryname", "1.3.6.1.4.1.311.60.2.1.3"),
)

_CANONICAL: Mapping[str, str] = {spelling: row[0] for row in _SPELLINGS for spelling in row}


def canonical_type(text: str) -> str:
    """The comparable form of an attribute type.

    Raises `ValueError` when the text is neither a name nor a dotted number (RFC 4512 section 1.4). RFC 2253 section 4
    allows `OID.` before a number, in any case.
    """
    lowered = text.lower() if text.isascii() else ""
    if lowered.startswith("oid.") and lowered[4:5].isdigit():
        lowered = lowered[4:]
    if _TYPE.fullmatch(lowered) is None:
        raise ValueError("an attribute type is a name such as cn, or a dotted number such as 2.5.4.3")
    return _CANONICAL.get(lowered, lowered)
