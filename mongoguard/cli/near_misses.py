"""Near misses: roles that somebody may have meant for a group that gives none.

In: a group's DN, the names of roles on admin, the keys of `security.ldap.roleMapping`. Out: sentences. Must not know
directories or users.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from mongoguard.authn.ldap.distinguished_name import DistinguishedName, DnSyntaxError, Rdn

__all__ = ["NearMisses"]

MAX_SENTENCES = 3
"""For one group: whoever has to read more looks at the roles themselves."""

MAX_GROUPS = 100
"""Groups of one user that are compared: each takes milliseconds with a thousand roles."""

_ALIKE = 0.8
"""difflib's ratio from which a name looks mistyped: one letter of five."""


@dataclass(slots=True)
class NearMisses:
    """What groups are compared with; made once for all groups of a user."""

    _by_value: dict[str, list[tuple[str, DistinguishedName | None, str]]] = field(default_factory=dict)
    _left: int = MAX_GROUPS

    @classmethod
    def among(cls, admin_roles: Iterable[str], mapped: Iterable[DistinguishedName]) -> NearMisses:
        """Read the candidates."""
        found = cls()
        for name in sorted(admin_roles):
            what = f"the role {name} on admin"
            if "=" not in name:
                hint = f"{what}: a role is named as the whole DN, or stands in security.ldap.roleMapping"
                found._add(name, what, None, hint)
                continue
            try:
                dn = DistinguishedName.parse(name)
            except DnSyntaxError as error:
                found._add(
                    name.partition("=")[2].partition(",")[0], what, None, f"{what} is not a DN: {error}"
                )
            else:
                found._add(_value(dn), what, dn, "")
        for dn in mapped:
            found._add(_value(dn), f"security.ldap.roleMapping has {dn}", dn, "")
        return found

    def of(self, group: str) -> tuple[str, ...]:
        """Sentences about the candidates whose first name is the group's, or like it."""
        try:
            dn = DistinguishedName.parse(group)
        except DnSyntaxError as error:
            return (f"the group's DN cannot be read: {error}",)
        if not self._left:
            return ()
        self._left -= 1
        alike = difflib.get_close_matches(_value(dn), self._by_value, n=MAX_SENTENCES, cutoff=_ALIKE)
        sentences = [sentence for value in alike for sentence in self._sentences(dn, value)]
        return tuple(sentences[:MAX_SENTENCES])

    def _add(self, value: str, what: str, dn: DistinguishedName | None, hint: str) -> None:
        self._by_value.setdefault(value.strip().casefold(), []).append((what, dn, hint))

    def _sentences(self, group: DistinguishedName, value: str) -> Iterator[str]:
        for what, dn, hint in self._by_value[value]:
            if dn is None:
                yield hint
            elif dn != group:
                yield f"{what}: {_difference(dn, group)}"


def _value(dn: DistinguishedName) -> str:
    """What the entry is called: the first attribute's value."""
    value = dn.rdns[0][0].value
    return (value if isinstance(value, str) else value.hex()).casefold()


def _difference(dn: DistinguishedName, group: DistinguishedName) -> str:
    """The first RDN that differs."""
    for mine, theirs, key, other in zip(dn.rdns, group.rdns, dn.key, group.key, strict=False):
        if key != other:
            return f"{_spelled(mine)} there, {_spelled(theirs)} in the group's DN"
    return f"{len(dn.rdns)} parts there, {len(group.rdns)} in the group's DN"


def _spelled(rdn: Rdn) -> str:
    return "+".join(f"{a.type}={a.value if isinstance(a.value, str) else a.value.hex()}" for a in rdn)
