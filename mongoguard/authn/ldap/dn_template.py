"""Templates of distinguished names: a value put into one can fill its place, and never change the DN around it.

In: a template's pieces, later the values. Out: the DN's text. Must not know regular expressions, URLs or filters.

There are two places a placeholder may have: inside an attribute value (`uid={0},ou=people`), where values are escaped
by RFC 4514, and instead of one or more RDNs (`{USER}`, `ou=groups,{USER}`), where the value must itself be a DN.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from mongoguard.authn.ldap.attribute_values import escape_rdn_value
from mongoguard.authn.ldap.distinguished_name import AttributeTypeAndValue, DistinguishedName
from mongoguard.authn.ldap.query import LdapRefusal
from mongoguard.authn.ldap.template_text import Pieces, Placeholder, marked, marker

__all__ = ["DnTemplate", "MisplacedPlaceholder"]

_LAST_SEPARATOR = re.compile(r"(?<!\\)(?:\\\\)*[,;] *\Z")
"""A separator at the end of a text: one that is not escaped itself."""


class MisplacedPlaceholder(ValueError):
    """The template is a DN, but a placeholder in it could change more than a value."""


@dataclass(frozen=True, slots=True)
class DnTemplate:
    """A DN with placeholders. `whole_rdns` are the indexes of the pieces whose values are DNs.

    `is_raw`: values are inserted unescaped, and the outcome must parse; for names that are DNs already.
    """

    pieces: Pieces
    whole_rdns: frozenset[int] = frozenset()
    is_raw: bool = False

    @classmethod
    def parse(cls, pieces: Pieces, dn_names: Collection[str]) -> DnTemplate:
        """A template whose values will be escaped; placeholders in `dn_names` may stand for whole RDNs.

        Raises `ValueError` when the template is no DN, or a placeholder stands in a type, behind an escape or a `#`.
        """
        whole = frozenset(i for i in range(len(pieces)) if _stands_for_rdns(pieces, i))
        probe = marked(pieces, lambda i: f"{_type(i)}={marker(i)}" if i in whole else marker(i))
        parsed = DistinguishedName.parse(probe)
        attributes = [attribute for rdn in parsed.rdns for attribute in rdn]
        for i, piece in enumerate(pieces):
            if isinstance(piece, str):
                continue
            if i in whole:
                if piece.name not in dn_names:
                    raise MisplacedPlaceholder(
                        f"{{{piece.name}}} is not a DN and must stand in a value, such as cn={{...}}"
                    )
                is_placed = AttributeTypeAndValue(_type(i), marker(i)) in attributes
            else:
                is_placed = any(marker(i) in a.value for a in attributes if isinstance(a.value, str))
            if not is_placed:
                raise MisplacedPlaceholder(f"{{{piece.name}}} must stand in the value of an attribute")
        return cls(pieces, whole)

    @property
    def names(self) -> frozenset[str]:
        """The placeholders used."""
        return frozenset(piece.name for piece in self.pieces if isinstance(piece, Placeholder))

    def render(self, values: Mapping[str, str]) -> str:
        """The DN. Raises `LdapRefusal` when a value is empty, or is not the DN it must be, or the DN is too long."""
        text = "".join(
            piece if isinstance(piece, str) else self._inserted(i, values[piece.name])
            for i, piece in enumerate(self.pieces)
        )
        return _checked(text, "the name does not make a valid DN")

    def _inserted(self, index: int, value: str) -> str:
        if self.is_raw:
            return value
        if index in self.whole_rdns:
            return _checked(value, "the mapped name is not a DN, and the template needs one")
        try:
            return escape_rdn_value(value)
        except ValueError as error:
            raise LdapRefusal(f"the name cannot stand in a DN: {error}") from None


def _type(index: int) -> str:
    return f"qz{index}"


def _stands_for_rdns(pieces: Pieces, index: int) -> bool:
    """Whether a placeholder fills everything between two separators (or the ends)."""
    if isinstance(pieces[index], str):
        return False
    before = pieces[index - 1] if index else ","
    behind = pieces[index + 1] if index + 1 < len(pieces) else ","
    if not (isinstance(before, str) and isinstance(behind, str)):
        return False
    separator = _LAST_SEPARATOR.search(before)
    return separator is not None and behind.lstrip(" ").startswith((",", ";"))


def _checked(text: str, problem: str) -> str:
    try:
        DistinguishedName.parse(text)
    except ValueError as error:
        raise LdapRefusal(f"{problem}: {error}") from None
    return text
