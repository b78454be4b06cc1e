"""Templates of search filters: a value put into one matches only itself, whatever characters it has.

In: a template's pieces, later the values. Out: the filter's text (RFC 4515). Must not know URLs or DNs' meaning.

A placeholder must stand in an assertion value. Where that value is itself a DN with the placeholder inside
(`(member=uid={PROVIDED_USER},ou=people)`), the value is escaped by RFC 4514 first, then all of it by RFC 4515.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from mongoguard.authn.ldap.dn_template import DnTemplate, MisplacedPlaceholder
from mongoguard.authn.ldap.filter_text import (
    FilterItem,
    escape_filter_value,
    read_filter,
    unescape_filter_value,
)
from mongoguard.authn.ldap.query import LdapRefusal
from mongoguard.authn.ldap.template_text import Pieces, Placeholder, marked, marker, unmarked

__all__ = ["IN_CHAIN", "FilterTemplate"]

IN_CHAIN = "1.2.840.113556.1.4.1941"
"""Active Directory's LDAP_MATCHING_RULE_IN_CHAIN: follows a DN attribute to any depth (MS-ADTS 3.1.1.3.4.4.3)."""

_OPEN_ITEM = re.compile(r"\(([A-Za-z][A-Za-z0-9-]*)=")
_IN_CHAIN_ITEM = re.compile(rf"\([A-Za-z][A-Za-z0-9-]*:{re.escape(IN_CHAIN)}:=")

FilterPart: TypeAlias = "str | Placeholder | DnTemplate"


@dataclass(frozen=True, slots=True)
class FilterTemplate:
    """A filter as literal texts, placeholders (escaped by RFC 4515), and DNs with placeholders (by both)."""

    parts: tuple[FilterPart, ...]

    @classmethod
    def parse(cls, pieces: Pieces, dn_names: Collection[str]) -> FilterTemplate:
        """Raises `ValueError` when the template is no filter, or a placeholder does not stand in a value.

        Outer parentheses may be missing, as libldap allows.
        """
        text = marked(pieces)
        if not text.startswith("("):
            text = f"({text})"
        items = read_filter(text)
        for i, piece in enumerate(pieces):
            if isinstance(piece, Placeholder) and not any(marker(i) in item.value for item in items):
                raise ValueError(
                    f"{{{piece.name}}} must stand in the value of an assertion, such as (cn={{...}})"
                )
        parts: list[FilterPart] = []
        at = 0
        for item in items:
            parts += [text[at : item.start], *_value_parts(item, pieces, dn_names)]
            at = item.start + len(item.value)
        return cls((*parts, text[at:]))

    @property
    def names(self) -> frozenset[str]:
        """The placeholders used."""
        plain = {part.name for part in self.parts if isinstance(part, Placeholder)}
        return frozenset(plain.union(*(part.names for part in self.parts if isinstance(part, DnTemplate))))

    def render(self, values: Mapping[str, str]) -> str:
        """The filter. Raises `LdapRefusal` when a value is empty or cannot be escaped."""
        return "".join(part if isinstance(part, str) else _rendered(part, values) for part in self.parts)

    def in_chain(self, name: str) -> FilterTemplate:
        """The same filter with `(attribute={name})` asked to any depth; other assertions stay as they are.

        Raises `ValueError` when there is no such assertion, neither plain nor with the matching rule already.
        """
        parts = list(self.parts)
        found = False
        for i, part in enumerate(parts):
            if part != Placeholder(name) or not str(parts[i + 1]).startswith(")"):
                continue
            before = str(parts[i - 1])
            head = before[before.rfind("(") :]
            plain = _OPEN_ITEM.fullmatch(head)
            if plain is not None:
                parts[i - 1] = f"{before[: before.rfind('(')]}({plain[1]}:{IN_CHAIN}:="
            found = found or plain is not None or _IN_CHAIN_ITEM.fullmatch(head) is not None
        if not found:
            raise ValueError(
                f"the filter must hold an assertion such as (member={{{name}}}), to be followed in chains"
            )
        return FilterTemplate(tuple(parts))


def _value_parts(item: FilterItem, pieces: Pieces, dn_names: Collection[str]) -> tuple[FilterPart, ...]:
    """An assertion value as parts: one DN template when it is a DN with placeholders in it."""
    value = unmarked(item.value, pieces)
    literals = "".join(piece for piece in value if isinstance(piece, str))
    if len(literals) != len(item.value) and "=" in literals and "*" not in literals:
        try:
            unescaped = tuple(unescape_filter_value(p) if isinstance(p, str) else p for p in value)
            return (DnTemplate.parse(unescaped, dn_names),)
        except MisplacedPlaceholder:
            raise
        except ValueError:  # text with '=' in it, and no DN
            return value
    return value


def _rendered(part: Placeholder | DnTemplate, values: Mapping[str, str]) -> str:
    value = part.render(values) if isinstance(part, DnTemplate) else values[part.name]
    if not value:
        raise LdapRefusal("a filter's value is empty: beside a wildcard it would match every entry")
    try:
        return escape_filter_value(value)
    except UnicodeEncodeError:
        raise LdapRefusal("the name holds a lone surrogate, which no filter can") from None
