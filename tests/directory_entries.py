"""Who is in the test directories: people and groups whose names are hostile to DNs and filters, for OpenLDAP and for AD.

Both kinds of server hold the same ones, so that a test may run on both. Passwords are `servers.password_of(uid)`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["GROUPS", "PEOPLE", "Group", "Person", "escaped_dn_value"]


class Person(NamedTuple):
    """A person's common name and surname, and whether OpenLDAP's entry is named by uid, cn, or both."""

    cn: str
    sn: str
    named_by: str = "cn"


PEOPLE: Mapping[str, Person] = {
    "alice": Person("Alice Archer", "Archer", "uid"),
    "bob": Person("Bob Baker", "Baker", "uid"),
    "carl": Person("Carter, Carl", "Carter"),
    "dave": Person("Dave Dunn", "Dunn", "cn+uid"),
    "eve": Person("C++ Eve", "Eve"),
    "frank": Person('Frank "The Tank" Fox', "Fox"),
    "grace": Person("Grace (Admin)", "Gray"),
    "jose": Person("José Ñandú 山田", "Ñandú"),
    "ivan": Person("#Ivan; <ops>=1", "Ivan"),
    "judy*": Person("Judy\\Star*", "Star"),
    "kim": Person("Kim Kelly", "Kelly", "uid"),
}
"""uid -> person. In Active Directory the uid is the sAMAccountName, which may hold no asterisk: judy."""


class Group(NamedTuple):
    """A group's members: people by uid, and groups by name."""

    people: tuple[str, ...]
    groups: tuple[str, ...] = ()


GROUPS: Mapping[str, Group] = {
    "dba": Group(("alice", "grace")),
    'C++ "core" team': Group(("eve", "frank")),
    "developers": Group(("bob", "dave"), ('C++ "core" team',)),
    "Ops, EU (Admins)": Group(("ivan", "carl", "judy*")),
    "データ分析": Group(("jose", "alice")),
    "everyone": Group((), ("developers", "Ops, EU (Admins)", "データ分析", "dba")),
    "loop a": Group(("bob",)),
    "loop b": Group((), ("loop a",)),
}
"""name -> members. eve is in everyone by three steps; loop b becomes a member of loop a afterwards, which is a cycle.
kim is in no group."""

CYCLE = ("loop a", "loop b")
"""The group, and the member that closes the cycle."""


def escaped_dn_value(value: str) -> str:
    """An attribute's value as RFC 4514 (section 2.4) writes it in a DN."""
    escaped = "".join("\\" + letter if letter in ',+"\\<>;=' else letter for letter in value)
    if value.startswith(("#", " ")):
        escaped = "\\" + escaped
    if len(value) > 1 and value.endswith(" "):
        escaped = escaped[:-1] + "\\ "
    return escaped
