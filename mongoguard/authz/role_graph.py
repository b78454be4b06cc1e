"""RoleGraph: which roles inherit from which, and what a user's direct roles come to.

In: role definitions. Out: effective roles, merged privileges, restriction arrays, and the path by which a role is held.
Must not know users' credentials or where definitions came from. Built-in roles need no definition.
Source: the manual's "Role-Based Access Control"; the definition rules are those of createRole, measured on 6.0.5.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mongoguard.authz.builtin_roles import builtin_role
from mongoguard.errors import ConfigError
from mongoguard.model.documents import merge_privileges
from mongoguard.model.names import EXTERNAL_DB, RoleName
from mongoguard.model.resource_pattern import MatchType, ResourcePattern
from mongoguard.model.restriction import AuthenticationRestriction
from mongoguard.model.user import Role

__all__ = ["EffectiveRoles", "RoleGraph", "RoleGraphError"]

_OF_ONE_DATABASE = frozenset({MatchType.DATABASE, MatchType.EXACT_NAMESPACE})
_WITHOUT_ROLES = frozenset({EXTERNAL_DB, "local"})


class RoleGraphError(ConfigError):
    """A role's definition breaks a rule; `role` is its name (mongod answers createRole with 49, 51002 or 2)."""

    def __init__(self, role: RoleName, problem: str) -> None:
        """Name the role in the text."""
        super().__init__(f"role {role}: {problem}")
        self.role = role
        self.problem = problem


@dataclass(frozen=True, slots=True)
class EffectiveRoles:
    """What a set of direct roles comes to.

    `roles` holds the direct and the inherited ones, also those that do not exist (they are listed, and grant nothing);
    `missing` holds just those. `restrictions` has one array for each role that has any.
    """

    roles: tuple[RoleName, ...]
    privileges: Mapping[ResourcePattern, frozenset[str]]
    restrictions: tuple[tuple[AuthenticationRestriction, ...], ...]
    missing: tuple[RoleName, ...]


class RoleGraph:
    """The roles of one directory. Raises `RoleGraphError` for a definition that mongod would refuse.

    Refused: two roles of one name; a role in local or $external, or named as a built-in of its database; outside
    admin, an inherited role or a privilege that is not of the same database; a cycle. A missing inherited role is
    legal, as in mongod's stored documents. Roles marked `is_builtin` (a newer upstream's) are taken as they are.
    """

    __slots__ = ("_roles",)

    def __init__(self, roles: Iterable[Role] = ()) -> None:
        """Check every definition, then the graph."""
        self._roles: dict[RoleName, Role] = {}
        for role in roles:
            if role.name in self._roles:
                raise RoleGraphError(role.name, "is defined twice")
            if not role.is_builtin:
                _check_place(role)
                _check_scope(role)
            self._roles[role.name] = role
        self._check_cycles()

    @property
    def names(self) -> Iterable[RoleName]:
        """The roles that are defined here; built-in ones are not among them."""
        return self._roles.keys()

    def role(self, name: RoleName) -> Role | None:
        """The definition of that name, built-in roles included."""
        return self._roles.get(name) or builtin_role(name)

    def resolve(self, direct: Iterable[RoleName]) -> EffectiveRoles:
        """Everything that holding `direct` gives."""
        names = sorted(self._reach(direct))
        roles = [role for name in names if (role := self.role(name)) is not None]
        return EffectiveRoles(
            roles=tuple(names),
            privileges=dict(merge_privileges(p for role in roles for p in role.privileges)),
            restrictions=tuple(role.restrictions for role in roles if role.restrictions),
            missing=tuple(name for name in names if self.role(name) is None),
        )

    def path_to(self, user_roles: Iterable[RoleName], role: RoleName) -> tuple[RoleName, ...]:
        """The shortest inheritance path from one of `user_roles` to `role`, both ends included; empty if not held."""
        heirs = self._reach(user_roles)
        path: list[RoleName] = []
        step = role if role in heirs else None
        while step is not None:
            path.append(step)
            step = heirs[step]
        return tuple(reversed(path))

    @property
    def missing(self) -> tuple[RoleName, ...]:
        """Roles that some definition inherits from and that do not exist."""
        inherited = {name for role in self._roles.values() for name in role.roles}
        return tuple(sorted(name for name in inherited if self.role(name) is None))

    def _reach(self, direct: Iterable[RoleName]) -> dict[RoleName, RoleName | None]:
        """Each role held -> the role that inherits it (None: held directly). Breadth first: shortest paths win."""
        heirs: dict[RoleName, RoleName | None] = dict.fromkeys(direct)
        queue = deque(heirs)
        while queue:
            name = queue.popleft()
            role = self.role(name)
            for inherited in role.roles if role else ():
                if inherited not in heirs:
                    heirs[inherited] = name
                    queue.append(inherited)
        return heirs

    def _check_cycles(self) -> None:
        for name, role in self._roles.items():
            if name in self._reach(role.roles):
                raise RoleGraphError(name, "inherits from itself")


def _check_place(role: Role) -> None:
    name, db = role.name
    if not name or not db:
        raise RoleGraphError(role.name, "a role needs a name and a database")
    if db in _WITHOUT_ROLES:
        raise RoleGraphError(role.name, f"roles can't be defined in the {db} database")
    if builtin_role(role.name) is not None:
        raise RoleGraphError(role.name, f"{name} is a built-in role of the {db} database")


def _check_scope(role: Role) -> None:
    db = role.name.db
    if db == "admin":
        return
    for inherited in role.roles:
        if inherited.db != db:
            raise RoleGraphError(
                role.name, f"roles of the {db} database can't inherit from other databases ({inherited})"
            )
    for privilege in role.privileges:
        if privilege.resource.match_type not in _OF_ONE_DATABASE or privilege.resource.db != db:
            raise RoleGraphError(
                role.name,
                f"roles of the {db} database can hold privileges on that database and its collections only "
                f"(not on {privilege.resource.to_document()})",
            )
