"""`security.ldap.authz.queryTemplate`: the search that finds a user's groups.

In: the option's text; a bind name and the name the client gave. Out: a flow of the groups' DNs as the directory
spells them. Must not know roles, nor how groups are nested.

As in MongoDB `{USER}` is the name after the mapping and `{PROVIDED_USER}` the one before it. When the template names
an attribute, its values are the groups; when it names none, the entries found are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mongoguard.authn.ldap.ldap_url import LdapUrl
from mongoguard.authn.ldap.query import ANY_ENTRY, LdapEntry, LdapFlow, LdapQuery, LdapRefusal, SearchScope
from mongoguard.errors import ConfigError

__all__ = ["MAX_GROUPS", "PROVIDED_USER", "QUERY_TEMPLATE_KEY", "USER", "QueryTemplate", "found_groups"]

USER = "USER"
PROVIDED_USER = "PROVIDED_USER"
QUERY_TEMPLATE_KEY = "security.ldap.authz.queryTemplate"

MAX_GROUPS = 1024
"""Groups of one user. Windows itself refuses a logon with more than 1,024 SIDs in the token, and each group costs a
comparison with the roles; a directory that returns more is misread or hostile, and the login fails."""

_RANGE = re.compile(r";range=([0-9]{1,9})-([0-9]{1,9}|\*)", re.IGNORECASE)
"""More digits are no number of values: the attribute is then another one, and gives nothing."""


@dataclass(frozen=True, slots=True)
class QueryTemplate:
    """The parsed option; `url` has at most one attribute."""

    url: LdapUrl

    @classmethod
    def parse(cls, text: str) -> QueryTemplate:
        """Read the option; raises `ConfigError`."""
        try:
            url = LdapUrl.parse(text, (USER, PROVIDED_USER), (USER,))
        except ValueError as error:
            raise ConfigError(f"{QUERY_TEMPLATE_KEY}: {error}") from None
        if len(url.attributes) > 1:
            raise ConfigError(
                f"{QUERY_TEMPLATE_KEY}: expected at most one attribute, the one that holds the groups"
            )
        return cls(url)

    @property
    def attribute(self) -> str | None:
        """The attribute whose values are the groups, or None when the entries are."""
        return self.url.attributes[0] if self.url.attributes else None

    def groups(self, user_dn: str, provided_user: str) -> LdapFlow[tuple[str, ...]]:
        """The groups that the one search finds, in the directory's spelling and order, each text once.

        Raises `LdapRefusal` for more than `MAX_GROUPS`, and for names that cannot stand where the template puts them.
        """
        return (
            yield from found_groups(
                self.url.query({USER: user_dn, PROVIDED_USER: provided_user}), self.attribute
            )
        )


def found_groups(query: LdapQuery, attribute: str | None) -> LdapFlow[tuple[str, ...]]:
    """The groups of one search: the attribute's values, or without an attribute the entries' DNs."""
    entries = yield query
    found: dict[str, None] = {}
    for entry in entries:
        texts = (entry.dn,) if attribute is None else (yield from _values(entry, attribute))
        found.update(dict.fromkeys(texts))
        if len(found) > MAX_GROUPS:
            raise LdapRefusal(f"the user has more than {MAX_GROUPS} groups")
    return tuple(found)


def _values(entry: LdapEntry, attribute: str) -> LdapFlow[tuple[str, ...]]:
    """All values of an attribute, also when Active Directory hands them out in ranges (MS-ADTS 3.1.1.3.1.3.3).

    A first part must never pass for the whole, so a directory that does not go on where it stopped is refused.
    """
    values = entry.texts(attribute)
    ranged = _range(entry.attributes, attribute)
    while ranged is not None:
        name, first, last = ranged
        if first != len(values):
            raise LdapRefusal(f"the directory's ranges of {attribute} do not follow each other")
        part = entry.texts(name)
        values += part
        if last == "*":
            break
        if not part or len(values) > MAX_GROUPS:
            raise LdapRefusal(f"the directory's ranges of {attribute} are empty or too many")
        wanted = (f"{attribute};range={len(values)}-*",)
        answer: Sequence[LdapEntry] = yield LdapQuery(entry.dn, SearchScope.BASE, ANY_ENTRY, wanted)
        if len(answer) != 1:
            raise LdapRefusal(f"the directory did not return the rest of {attribute}")
        entry = answer[0]
        ranged = _range(entry.attributes, attribute)
        if ranged is None:
            raise LdapRefusal(f"the directory did not return the rest of {attribute}")
    return values


def _range(attributes: Mapping[str, object], attribute: str) -> tuple[str, int, str] | None:
    """The name of a ranged attribute of an entry, its first index and its last ("*" for the end)."""
    for name in attributes:
        found = _RANGE.fullmatch(name[len(attribute) :])
        if found is not None and name[: len(attribute)].lower() == attribute.lower():
            return name, int(found[1]), found[2]
    return None
