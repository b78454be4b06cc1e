"""Which built-in role would allow what is denied, with the fewest other rights.

In: a requirement and the user it is denied to. Out: a role's name. Must not know commands.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mongoguard.authz.authorization_session import AuthorizationSession
from mongoguard.authz.builtin_roles import ADMIN_ONLY_ROLE_NAMES, BUILTIN_ROLE_NAMES
from mongoguard.authz.role_graph import RoleGraph
from mongoguard.model.documents import merge_privileges
from mongoguard.model.names import RoleName
from mongoguard.model.privilege import AnyActionInDatabase, NotHeld, Privilege, Requirement
from mongoguard.model.resource_pattern import MatchType, ResourcePattern
from mongoguard.model.user import User

__all__ = ["smallest_builtin_role"]

_NEVER_SUGGESTED = frozenset({"__system", "__queryableBackup"})
"""Roles of servers for each other: no person should hold them."""

_WEIGHT = {
    MatchType.EXACT_NAMESPACE: 1,
    MatchType.DATABASE: 10,
    MatchType.CLUSTER: 100,
    MatchType.ANY_RESOURCE: 10_000,
}
_OTHER_WEIGHT = 1000
"""Patterns that reach into every database."""


def smallest_builtin_role(requirement: Requirement, user: User) -> RoleName | None:
    """The one that, held besides what the user holds, allows it; None where no single one does.

    Asked with the user's own rights, because some rules ask that something is *not* held: a role may bring that too.
    """
    databases = sorted({db for db in _databases(requirement) if db})
    names = [RoleName(role, db) for role in sorted(BUILTIN_ROLE_NAMES) for db in databases]
    names += [RoleName(role, "admin") for role in sorted(ADMIN_ONLY_ROLE_NAMES - _NEVER_SUGGESTED)]
    graph = RoleGraph()
    fitting = []
    for name in names:
        privileges = graph.resolve([name]).privileges
        if _would_allow(privileges, requirement, user):
            fitting.append((_breadth(privileges), name))
    return min(fitting)[1] if fitting else None


def _databases(requirement: Requirement) -> Iterator[str]:
    match requirement:
        case Privilege(resource, _):
            yield resource.db
        case AnyActionInDatabase(db):
            yield db
        case NotHeld(part):
            yield from _databases(part)
        case _:
            for part in requirement.parts:
                yield from _databases(part)


def _would_allow(
    privileges: Mapping[ResourcePattern, frozenset[str]], requirement: Requirement, user: User
) -> bool:
    together = merge_privileges(
        Privilege(*item) for held in (user.privileges, privileges) for item in held.items()
    )
    return AuthorizationSession(User(user.name, privileges=dict(together))).authorize(requirement).allowed


def _breadth(privileges: Mapping[ResourcePattern, frozenset[str]]) -> int:
    """How much a role grants: actions, weighed by how far their resource reaches."""
    return sum(_WEIGHT.get(p.match_type, _OTHER_WEIGHT) * len(actions) for p, actions in privileges.items())
