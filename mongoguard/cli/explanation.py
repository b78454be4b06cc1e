"""Why a command is allowed or denied, as values.

In: a user, the roles it holds, a command. Out: an `Explanation`. Must not know where users come from, and asks nobody.
The decision is the proxy's own: the same catalogue, the same `AuthorizationSession`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import bson
from bson import json_util

from mongoguard.authz.authorization_session import AuthorizationSession, Grant
from mongoguard.authz.builtin_roles import ADMIN_ONLY_ROLE_NAMES, BUILTIN_ROLE_NAMES
from mongoguard.authz.role_graph import RoleGraph
from mongoguard.command.catalog import find_row
from mongoguard.command.command import Command
from mongoguard.command.generic import generic_requirement
from mongoguard.command.requirement import requirement_of
from mongoguard.command.spec import Asker, CommandRow, Handling
from mongoguard.errors import CommandError, ConfigError
from mongoguard.model.names import RoleName, UserName
from mongoguard.model.privilege import AllOf, Privilege, Requirement
from mongoguard.model.resource_pattern import MatchType, ResourcePattern
from mongoguard.model.user import User
from mongoguard.wire.document import Document, encode

__all__ = ["Explanation", "GrantedBy", "explain", "parse_command", "smallest_builtin_role"]


@dataclass(frozen=True, slots=True)
class GrantedBy:
    """A needed privilege that is held, and each path of roles (direct role first) that grants some of it."""

    privilege: Privilege
    paths: tuple[tuple[RoleName, ...], ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """The verdict and its reasons. `refusal` is set where the answer does not depend on privileges.

    `suggestion` is the built-in role that grants what is missing with the fewest other rights.
    """

    user: UserName
    db: str
    command: str
    allowed: bool
    refusal: str = ""
    granted: tuple[GrantedBy, ...] = ()
    missing: tuple[Privilege, ...] = ()
    excess: tuple[Privilege, ...] = ()
    suggestion: RoleName | None = None

    def to_document(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "user": self.user.user,
            "db": self.user.db,
            "command": self.command,
            "commandDb": self.db,
            "allowed": self.allowed,
            "refusal": self.refusal or None,
            "granted": [
                {
                    **grant.privilege.to_document(),
                    "roles": [[str(role) for role in path] for path in grant.paths],
                }
                for grant in self.granted
            ],
            "missing": [privilege.to_document() for privilege in self.missing],
            "excess": [privilege.to_document() for privilege in self.excess],
            "smallestBuiltinRole": str(self.suggestion) if self.suggestion else None,
        }


def parse_command(text: str, db: str) -> Command:
    """Extended JSON -> the command as a client would send it. Raises `ConfigError`."""
    try:
        json.loads(text, object_pairs_hook=_without_duplicates)
        document = json_util.loads(text)
    except (ValueError, TypeError, bson.errors.BSONError) as error:
        raise ConfigError(f"--command: expected a JSON object: {error}") from None
    if not isinstance(document, dict) or not document:
        raise ConfigError('--command: expected a JSON object such as {"find": "orders"}')
    return Command(Document(encode({**document, "$db": db})), db)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key is given twice")
    return result


def explain(
    user: User, graph: RoleGraph, command: Command, *, relays_user_management: bool = True
) -> Explanation:
    """Decide, and say why. `relays_user_management` is false where users are read from a file."""
    name, db = command.name, command.db
    row = find_row(name)
    refusal = _refusal(row, command, relays_user_management)
    if row is None or refusal:
        return Explanation(user.name, db, name, False, refusal)
    try:
        command.check_database()
        asker = Asker(user.name, frozenset(user.roles))
        requirement = AllOf((generic_requirement(command, asker), requirement_of(row, command, asker)))
    except CommandError as error:
        return Explanation(user.name, db, name, False, f"the command is not valid: {error.errmsg}")
    decision = AuthorizationSession(user).authorize(requirement)
    return Explanation(
        user.name,
        db,
        name,
        decision.allowed,
        granted=tuple(_granted_by(grant, user, graph) for grant in decision.granted_by),
        missing=decision.missing,
        excess=decision.excess,
        suggestion=smallest_builtin_role(decision.missing) if decision.missing else None,
    )


def _refusal(row: CommandRow | None, command: Command, relays_user_management: bool) -> str:
    if row is None:
        return "mongoguard knows no command of this name, and refuses what it does not know"
    if row.handling is Handling.REFUSED:
        return row.refusal
    if row.changes_users and not relays_user_management:
        return "users and roles are read from a file (security.userDirectory: file); change that file"
    if row.admin_only and command.db != "admin":
        return "this command runs on the admin database only (--db admin)"
    return ""


def _granted_by(grant: Grant, user: User, graph: RoleGraph) -> GrantedBy:
    """The roles whose own privileges hold a pattern and an action that the grant rests on."""
    held = dict.fromkeys((*user.roles, *user.inherited_roles))
    paths = [graph.path_to(user.roles, name) for name in held if _contributes(graph, name, grant)]
    return GrantedBy(grant.privilege, tuple(sorted((p for p in paths if p), key=lambda p: (len(p), p))))


def _contributes(graph: RoleGraph, name: RoleName, grant: Grant) -> bool:
    role = graph.role(name)
    wanted = grant.privilege.actions
    return role is not None and any(
        own.resource in grant.patterns and (not wanted or "anyAction" in own.actions or wanted & own.actions)
        for own in role.privileges
    )


def smallest_builtin_role(missing: Iterable[Privilege]) -> RoleName | None:
    """The built-in role that grants all of `missing` and the least besides; None where none does."""
    wanted = tuple(missing)
    databases = {p.resource.db for p in wanted if p.resource.db}
    names = [RoleName(role, db) for role in BUILTIN_ROLE_NAMES for db in databases]
    names += [RoleName(role, "admin") for role in ADMIN_ONLY_ROLE_NAMES - _NEVER_SUGGESTED]
    graph = RoleGraph()
    fitting = []
    for name in names:
        privileges = graph.resolve([name]).privileges
        if _covers(privileges, AllOf(wanted)):
            fitting.append((_breadth(privileges), name))
    return min(fitting)[1] if fitting else None


def _covers(privileges: Mapping[ResourcePattern, frozenset[str]], requirement: Requirement) -> bool:
    user = User(UserName("candidate", "admin"), privileges=privileges)
    return AuthorizationSession(user).authorize(requirement).allowed


_NEVER_SUGGESTED = frozenset({"__system", "__queryableBackup"})
"""Roles of servers for each other: no person should hold them."""

_WEIGHT = {
    MatchType.EXACT_NAMESPACE: 1,
    MatchType.DATABASE: 10,
    MatchType.CLUSTER: 100,
    MatchType.ANY_RESOURCE: 10_000,
}


def _breadth(privileges: Mapping[ResourcePattern, frozenset[str]]) -> int:
    """How much a role grants: actions, weighed by how far their resource reaches."""
    return sum(_WEIGHT.get(p.match_type, 1000) * len(actions) for p, actions in privileges.items())
