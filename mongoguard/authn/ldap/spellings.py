"""The spellings under which a group may be a role's name, where the role names themselves cannot be listed.

In: a parsed DN. Out: texts. Must not know roles.

Comparing parsed names (`role_mapping.py`) is the rule. A server that only answers for names asked by name gets these:
the text as the directory gave it, and each combination of attribute types as given, in lower case (OpenLDAP) and in
upper case (Active Directory) with separators escaped as hex pairs (OpenLDAP), as characters (RFC 4514), and as Samba
does it, which mixes both.
"""

from __future__ import annotations

from collections.abc import Callable

from mongoguard.authn.ldap.attribute_values import escape_rdn_value
from mongoguard.authn.ldap.distinguished_name import AttributeTypeAndValue, DistinguishedName

__all__ = ["spellings"]

_HEX_PAIRS = {code: f"\\{code:02X}" for code in (*range(0x20), *b',+"\\<>;=', 0x7F)}
_TYPE_CASES: tuple[Callable[[str], str], ...] = (str, str.lower, str.upper)


def spellings(dn: DistinguishedName) -> tuple[str, ...]:
    """The texts, without spaces around separators but for the first, which is the original; each text once."""
    found = {dn.text: None}
    for escape in (_as_openldap, escape_rdn_value, _as_samba):
        for change_case in _TYPE_CASES:
            found[_spelled(dn, change_case, escape)] = None
    return tuple(found)


def _spelled(dn: DistinguishedName, change_case: Callable[[str], str], escape: Callable[[str], str]) -> str:
    return ",".join("+".join(f"{change_case(a.type)}={_value(a, escape)}" for a in rdn) for rdn in dn.rdns)


def _value(attribute: AttributeTypeAndValue, escape: Callable[[str], str]) -> str:
    if isinstance(attribute.value, bytes):
        return f"#{attribute.value.hex().upper()}"
    return escape(attribute.value)


def _as_openldap(value: str) -> str:
    """As libldap prints a value: hex pairs for what has a meaning in DNs, controls, and a space or `#` at the edges."""
    escaped = value.translate(_HEX_PAIRS)
    if escaped[0] in " #":
        escaped = f"\\{ord(escaped[0]):02X}{escaped[1:]}"
    return f"{escaped[:-1]}\\20" if escaped.endswith(" ") else escaped


def _as_samba(value: str) -> str:
    """As Samba's Active Directory prints a value (seen on 4.17): characters, but hex pairs for `;` and `=`."""
    return escape_rdn_value(value).replace("\\;", "\\3B").replace("\\=", "\\3D")
