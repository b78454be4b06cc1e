"""What the core asks of a directory, and what it is told: searches and entries as plain values.

In: nothing. Out: `LdapQuery`, `LdapEntry`, the type of flows, their refusal. Must not know ldap3, sockets or servers.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias, TypeVar

from mongoguard.errors import GuardError

__all__ = [
    "ANY_ENTRY",
    "NO_ATTRIBUTES",
    "LdapEntry",
    "LdapFlow",
    "LdapQuery",
    "LdapRefusal",
    "SearchScope",
]

T = TypeVar("T")

NO_ATTRIBUTES: tuple[str, ...] = ("1.1",)
"""Ask for entries without attributes (RFC 4511 section 4.5.1.8); an empty list would ask for all of them."""

ANY_ENTRY = "(objectClass=*)"
"""The filter that every entry matches, and RFC 4516's default."""


class SearchScope(StrEnum):
    """How far below the base a search looks, in the words of RFC 4516."""

    BASE = "base"
    ONE = "one"
    SUB = "sub"


@dataclass(frozen=True, slots=True)
class LdapQuery:
    """One search. `base` and `filter` are escaped already (RFC 4514, RFC 4515) and must be sent as they are.

    `attributes` is never empty; `NO_ATTRIBUTES` asks for the entries' DNs alone.
    """

    base: str
    scope: SearchScope = SearchScope.BASE
    filter: str = ANY_ENTRY
    attributes: tuple[str, ...] = NO_ATTRIBUTES


@dataclass(frozen=True, slots=True)
class LdapEntry:
    """One entry found (continuation references are none): its DN as the server spells it, and its attributes.

    A value may be text or the octets it came as; `texts` and `octets` read either kind.
    """

    dn: str
    attributes: Mapping[str, tuple[str | bytes, ...]]

    def texts(self, name: str) -> tuple[str, ...]:
        """The values of an attribute, whose name has no case; none when it is absent.

        Raises `LdapRefusal` for a value that is not UTF-8: it is no DN, and half an answer is none.
        """
        try:
            return tuple(v if isinstance(v, str) else v.decode() for v in self._values(name))
        except UnicodeDecodeError:
            raise LdapRefusal(f"the directory's attribute {name} holds a value that is not text") from None

    def octets(self, name: str) -> tuple[bytes, ...]:
        """The values of an attribute as octets. Text is encoded: some binary values happen to be valid UTF-8."""
        return tuple(v.encode() if isinstance(v, str) else v for v in self._values(name))

    def _values(self, name: str) -> tuple[str | bytes, ...]:
        wanted = name.lower()
        return tuple(v for key, values in self.attributes.items() if key.lower() == wanted for v in values)


LdapFlow: TypeAlias = Generator[LdapQuery, Sequence[LdapEntry], T]
"""A computation that asks for searches and returns a T. The entries of each answer are complete, or nothing is sent:
the shell throws an error into the flow when a search fails, is cut short or is not answered."""


class LdapRefusal(GuardError):
    """The login is refused for what the name or the directory's answer is. The text is for the audit event alone."""
