"""Relative LDAP URLs `base?attributes?scope?filter?extensions` (RFC 4516), as MongoDB's options hold searches.

In: the text of `authz.queryTemplate` or of an `ldapQuery`. Out: `LdapUrl`, which makes an `LdapQuery` out of values.
Must not know which option it came from.

Percent-escapes are decoded once, in the template and before any value is put in: a `%2C` in a user's name stays three
characters, and a `?` in it stays in its part.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from mongoguard.authn.ldap.dn_template import DnTemplate
from mongoguard.authn.ldap.filter_template import FilterTemplate
from mongoguard.authn.ldap.query import ANY_ENTRY, NO_ATTRIBUTES, LdapQuery, SearchScope
from mongoguard.authn.ldap.template_text import Pieces, read_template

__all__ = ["LdapUrl"]

_SCHEME = re.compile(r"\s*[A-Za-z][A-Za-z0-9+.-]*:/|\s*/")
_ATTRIBUTE = re.compile(r"[A-Za-z][A-Za-z0-9-]*|[0-9]+(?:\.[0-9]+)+")
_PERCENT = re.compile(rb"%(..?)?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class LdapUrl:
    """A search with placeholders. `base` is None for an empty base; no `attributes` means the entries themselves."""

    base: DnTemplate | None
    attributes: tuple[str, ...]
    scope: SearchScope
    filter: FilterTemplate

    @classmethod
    def parse(cls, text: str, names: Collection[str], dn_names: Collection[str] = ()) -> LdapUrl:
        """Read a relative URL with the placeholders `names`; those in `dn_names` may be DNs of their own.

        The scope's default is base, the filter's `(objectClass=*)` (RFC 4516 section 3). Attribute `dn` means none,
        as in other servers. Raises `ValueError` for hosts, schemes, critical extensions, and what breaks RFC 4516.
        """
        if _SCHEME.match(text) is not None:
            raise ValueError(
                "leave out the scheme and the host: the servers are those of security.ldap.servers"
            )
        parts = text.split("?")
        if len(parts) > 5:
            raise ValueError(
                "there are at most five parts, base?attributes?scope?filter?extensions ('?' itself is %3F)"
            )
        base, attributes, scope, filter_, extensions = parts + [""] * (5 - len(parts))
        if any(e.strip().startswith("!") for e in extensions.split(",")):
            raise ValueError("critical extensions are not supported")
        try:
            scope_found = SearchScope(scope.lower() or SearchScope.BASE)
        except ValueError:
            raise ValueError("the scope (third part) is base, one or sub") from None
        return cls(
            DnTemplate.parse(_read_part(base, names), dn_names) if base else None,
            _read_attributes(attributes),
            scope_found,
            FilterTemplate.parse(_read_part(filter_ or ANY_ENTRY, names), dn_names),
        )

    @property
    def names(self) -> frozenset[str]:
        """The placeholders used."""
        return self.filter.names | (self.base.names if self.base is not None else frozenset())

    def query(self, values: Mapping[str, str]) -> LdapQuery:
        """The search for these values. Raises `LdapRefusal` when they cannot stand where the template puts them."""
        base = "" if self.base is None else self.base.render(values)
        return LdapQuery(base, self.scope, self.filter.render(values), self.attributes or NO_ATTRIBUTES)


def _read_part(text: str, names: Collection[str]) -> Pieces:
    """Placeholders first, percent-escapes then: an escaped brace is a brace."""
    return tuple(_decoded(p) if isinstance(p, str) else p for p in read_template(text, names))


def _read_attributes(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in _decoded(text).split(",")) if text else ()
    if any(name.lower() == "dn" for name in names):
        names = tuple(name for name in names if name.lower() != "dn")
    for name in names:
        if _ATTRIBUTE.fullmatch(name) is None:
            raise ValueError(
                "the attributes (second part) are names, such as memberOf, without options or wildcards"
            )
    return names


def _decoded(text: str) -> str:
    """Percent-decoding that refuses what it cannot decode."""
    try:
        return _PERCENT.sub(_octet, text.encode()).decode()
    except ValueError:
        raise ValueError(
            "'%' stands before two hex digits, and the octets are UTF-8 ('%' itself is %25)"
        ) from None


def _octet(match: re.Match[bytes]) -> bytes:
    digits = match[1] or b""
    if len(digits) != 2 or not digits.isalnum():
        raise ValueError(match[0])
    return bytes([int(digits, 16)])
