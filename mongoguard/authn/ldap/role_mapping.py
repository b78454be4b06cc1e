r"""From groups to roles: MongoDB's rule, and a table of our own beside it.

In: group DNs as the directory spells them, the names of the roles on admin, `security.ldap.roleMapping`. Out: roles,
and what became of each group. Must not know what a role may do, nor who asked.

MongoDB's rule: a group gives the role on `admin` whose name is the group's DN. MongoDB compares texts; here both are
parsed, for directories spell one DN in several ways (`Ops\2C EU` and `Ops\, EU`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from mongoguard.authn.ldap.distinguished_name import DistinguishedName
from mongoguard.errors import ConfigError
from mongoguard.model.names import RoleName

__all__ = ["ADMIN_DB", "DnRoles", "GroupRoles", "RoleMapping", "read_dn_roles"]

ADMIN_DB = "admin"
_KEY = "security.ldap.roleMapping"

_RolesByDn = Mapping[DistinguishedName, frozenset[RoleName]]


@dataclass(frozen=True, slots=True)
class DnRoles:
    """The roles on admin whose names are DNs. `unparsed` are names with a `=` that are no DNs: no group gives them."""

    roles: _RolesByDn
    unparsed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GroupRoles:
    """The outcome of one login. `matches` holds every group that gave a role, as spelled by the directory.

    `unparsed` are groups whose DN could not be read; they give nothing.
    """

    roles: frozenset[RoleName]
    groups: int
    matches: Mapping[str, frozenset[RoleName]]
    unparsed: tuple[str, ...]

    @property
    def summary(self) -> str:
        """One line for the log and the audit event; "0 matched" is why every command of such a user fails."""
        unread = f", {len(self.unparsed)} with a DN that cannot be read" if self.unparsed else ""
        return f"authenticated, {self.groups} groups, {len(self.matches)} matched{unread}"


@dataclass(frozen=True, slots=True)
class RoleMapping:
    """The table: group -> roles."""

    table: _RolesByDn

    @classmethod
    def parse(cls, option: Mapping[str, Sequence[object]] | None) -> RoleMapping:
        """Read the option: DN -> list of role names (on admin) or `{role, db}`. Raises `ConfigError` naming the key."""
        table: dict[DistinguishedName, frozenset[RoleName]] = {}
        for key, roles in (option or {}).items():
            try:
                dn = DistinguishedName.parse(key)
            except ValueError as error:
                raise ConfigError(f"{_KEY}: {key!a} is not a group's DN: {error}") from None
            if dn in table:
                raise ConfigError(
                    f"{_KEY}: {key!a} names a group that the table holds already, spelled otherwise"
                )
            if not isinstance(roles, list | tuple) or not roles:
                raise ConfigError(f"{_KEY}: {key!a}: expected a list of roles")
            table[dn] = frozenset(_read_role(key, role) for role in roles)
        return cls(table)

    def resolve(self, group_dns: Collection[str], dn_roles: DnRoles) -> GroupRoles:
        """The roles of the groups by both rules."""
        matches: dict[str, frozenset[RoleName]] = {}
        unparsed: list[str] = []
        for text in group_dns:
            try:
                dn = DistinguishedName.parse(text)
            except ValueError:
                unparsed.append(text)
                continue
            roles = self.table.get(dn, frozenset()) | dn_roles.roles.get(dn, frozenset())
            if roles:
                matches[text] = roles
        return GroupRoles(frozenset().union(*matches.values()), len(group_dns), matches, tuple(unparsed))


def read_dn_roles(admin_role_names: Iterable[str]) -> DnRoles:
    """The existing roles on admin by the DN that each one's name is. Cheap to keep between logins.

    Two roles may be named by one DN in two spellings; a member of the group then has both.
    """
    roles: dict[DistinguishedName, frozenset[RoleName]] = {}
    unparsed: list[str] = []
    for name in admin_role_names:
        if "=" not in name:
            continue
        try:
            dn = DistinguishedName.parse(name)
        except ValueError:
            unparsed.append(name)
            continue
        roles[dn] = roles.get(dn, frozenset()) | {RoleName(name, ADMIN_DB)}
    return DnRoles(roles, tuple(unparsed))


def _read_role(key: str, role: object) -> RoleName:
    if isinstance(role, str) and role:
        return RoleName(role, ADMIN_DB)
    if isinstance(role, Mapping) and role.keys() == {"role", "db"}:
        name, db = role["role"], role["db"]
        if isinstance(name, str) and isinstance(db, str) and name and db:
            return RoleName(name, db)
    raise ConfigError(f"{_KEY}: {key!a}: expected the name of a role on admin, or {{role: ..., db: ...}}")
