"""Why a command is allowed or denied, as values.

In: a user, the roles of its directory, a command. Out: an `Explanation`. Must not know where users come from, how it is
printed, and asks nobody. The decision is the proxy's own: the same catalogue, the same `AuthorizationSession`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, assert_never

import bson
from bson import json_util

from mongoguard.authz.authorization_session import AuthorizationSession
from mongoguard.authz.role_graph import RoleGraph
from mongoguard.cli.explain_suggestion import smallest_builtin_role
from mongoguard.cli.explain_words import notes_for
from mongoguard.command.catalog import find_row
from mongoguard.command.command import Command
from mongoguard.command.generic import check_api_version, generic_requirement
from mongoguard.command.requirement import requirement_of
from mongoguard.command.requires import all_of
from mongoguard.command.spec import Asker, CommandRow, Handling
from mongoguard.errors import CommandError, ConfigError
from mongoguard.model.action_type import ActionType
from mongoguard.model.names import RoleName, UserName
from mongoguard.model.privilege import (
    NOTHING,
    AllOf,
    AnyActionInDatabase,
    AnyOf,
    NotHeld,
    Privilege,
    Requirement,
)
from mongoguard.model.resource_pattern import ResourcePattern, search_list
from mongoguard.model.user import User
from mongoguard.proxy.client_session import DIRECTORY_COMMANDS
from mongoguard.wire.document import encode
from mongoguard.wire.message import OpMsg, encode_op_msg, parse_message

__all__ = ["Explanation", "Source", "Step", "explain", "parse_command"]


@dataclass(frozen=True, slots=True)
class Source:
    """One of the user's resource patterns that covers something needed, which of the needed actions it grants, and
    the paths by which the user holds it: from each role held directly to the role whose own privilege it is.
    """

    resource: ResourcePattern
    actions: frozenset[str]
    paths: tuple[tuple[RoleName, ...], ...]

    def to_document(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "resource": self.resource.to_document(),
            "actions": sorted(self.actions),
            "roles": [[str(role) for role in path] for path in self.paths],
        }


@dataclass(frozen=True, slots=True)
class Step:
    """One node of the requirement tree. `parts` are those of AllOf, AnyOf and NotHeld; `sources` and `lacking` (the
    actions that nothing grants) those of a privilege.
    """

    requirement: Requirement
    holds: bool
    parts: tuple[Step, ...] = ()
    sources: tuple[Source, ...] = ()
    lacking: frozenset[str] = frozenset()

    def to_document(self) -> dict[str, Any]:
        """For `--json`."""
        sources = [source.to_document() for source in self.sources]
        parts = [part.to_document() for part in self.parts]
        match self.requirement:
            case Privilege():
                own = {
                    **self.requirement.to_document(),
                    "lacking": sorted(self.lacking),
                    "grantedBy": sources,
                }
                return {"kind": "privilege", "holds": self.holds, **own}
            case AnyActionInDatabase(db):
                return {"kind": "anyActionInDatabase", "holds": self.holds, "db": db, "grantedBy": sources}
            case AllOf():
                return {"kind": "allOf", "holds": self.holds, "parts": parts}
            case AnyOf():
                return {"kind": "anyOf", "holds": self.holds, "parts": parts}
            case NotHeld():
                return {"kind": "notHeld", "holds": self.holds, "part": parts[0]}
            case _:
                assert_never(self.requirement)


@dataclass(frozen=True, slots=True)
class Granted:
    """A needed privilege (its actions that are held), and where each comes from."""

    privilege: Privilege
    sources: tuple[Source, ...]

    def to_document(self) -> dict[str, Any]:
        """For `--json`; `roles` are all paths of all sources."""
        paths = dict.fromkeys(path for source in self.sources for path in source.paths)
        return {
            **self.privilege.to_document(),
            "roles": [[str(role) for role in path] for path in paths],
            "grantedBy": [source.to_document() for source in self.sources],
        }


@dataclass(frozen=True, slots=True)
class Explanation:
    """The verdict and its reasons. `refusal` is set where the answer does not depend on privileges, and then there is
    no `requirement`.

    `missing` is the smallest set of privileges to grant, `excess` the smallest to revoke, that would allow it.
    `suggestion` is the built-in role that, held besides, would allow it with the fewest other rights. `notes` are
    sentences about what else the running server looks at.
    """

    user: UserName
    db: str
    command: str
    allowed: bool
    refusal: str = ""
    requirement: Step | None = None
    granted: tuple[Granted, ...] = ()
    missing: tuple[Privilege, ...] = ()
    excess: tuple[Privilege, ...] = ()
    suggestion: RoleName | None = None
    notes: tuple[str, ...] = ()

    def to_document(self) -> dict[str, Any]:
        """For `--json`; docs/explain.md describes it."""
        return {
            "user": self.user.user,
            "db": self.user.db,
            "command": self.command,
            "commandDb": self.db,
            "allowed": self.allowed,
            "refusal": self.refusal or None,
            "requirement": self.requirement.to_document() if self.requirement else None,
            "granted": [grant.to_document() for grant in self.granted],
            "missing": [privilege.to_document() for privilege in self.missing],
            "excess": [privilege.to_document() for privilege in self.excess],
            "smallestBuiltinRole": str(self.suggestion) if self.suggestion else None,
            "notes": list(self.notes),
        }


def parse_command(text: str, db: str) -> Command:
    """Extended JSON -> the command as a client would send it. Raises `ConfigError`."""
    try:
        json.loads(text, object_pairs_hook=_without_duplicates)
        document = json_util.loads(text)
        if not isinstance(document, dict) or not document:
            raise ConfigError('--command: expected a JSON object such as {"find": "orders"}')
        message = parse_message(encode_op_msg(0, 0, encode({**document, "$db": db})))
    except RecursionError:
        raise ConfigError("--command: expected a JSON object: it is nested too deeply") from None
    except CommandError as error:
        raise ConfigError(f"--command: {error.errmsg}") from None
    except (ValueError, TypeError, OverflowError, bson.errors.BSONError) as error:
        raise ConfigError(f"--command: expected a JSON object: {error}") from None
    assert isinstance(message, OpMsg)  # it was encoded as one
    return Command(message.body, db)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key is given twice")
    return result


def explain(
    user: User,
    graph: RoleGraph,
    command: Command,
    *,
    relays_user_management: bool = True,
    authorization_enabled: bool = True,
) -> Explanation:
    """Decide, and say why. `relays_user_management` is false where users are read from a file."""
    row = find_row(command.name)
    try:
        refusal = _refusal(row, command, relays_user_management)
        if row is None or refusal:
            return Explanation(user.name, command.db, command.name, False, refusal)
        requirement = _requirement(row, command, user)
    except CommandError as error:
        refusal = f"the command is not valid: {error.errmsg}"
        return Explanation(user.name, command.db, command.name, False, refusal)
    notes = notes_for(row.name, requirement, authorization_enabled=authorization_enabled)
    if not authorization_enabled:
        return Explanation(user.name, command.db, command.name, True, notes=notes)
    session = AuthorizationSession(user)
    decision = session.authorize(requirement)
    return Explanation(
        user.name,
        command.db,
        command.name,
        decision.allowed,
        requirement=_step(requirement, session, graph),
        granted=tuple(
            Granted(grant.privilege, _sources(grant.privilege, user, graph, grant.patterns))
            for grant in decision.granted_by
        ),
        missing=decision.missing,
        excess=decision.excess,
        suggestion=None if decision.allowed else smallest_builtin_role(requirement, user),
        notes=notes,
    )


def _refusal(row: CommandRow | None, command: Command, relays_user_management: bool) -> str:
    """In the order of the proxy, which answers the first that applies."""
    command.check_database()
    if row is None:
        return "mongoguard knows no command of this name, and refuses what it does not know"
    check_api_version(command, row)
    if row.admin_only and command.db != "admin":
        return "this command runs on the admin database only (--db admin)"
    if row.name in DIRECTORY_COMMANDS and not relays_user_management:
        return "users and roles are read from a file (security.userDirectory: file); change that file"
    return row.refusal if row.handling is Handling.REFUSED else ""


def _requirement(row: CommandRow, command: Command, user: User) -> Requirement:
    if row.handling is Handling.LOCAL:
        return NOTHING  # answered before anything is asked
    asker = Asker(user.name, frozenset((role.role, role.db) for role in user.roles))
    own = requirement_of(row, command, asker)
    return all_of([generic_requirement(command, asker), own])


def _step(requirement: Requirement, session: AuthorizationSession, graph: RoleGraph) -> Step:
    decision = session.authorize(requirement)
    user = session.user
    assert user is not None  # `explain` made the session of one
    match requirement:
        case Privilege(resource, actions):
            sources = _sources(requirement, user, graph, search_list(resource))
            lacking = actions.difference(*(source.actions for source in sources))
            return Step(requirement, decision.allowed, (), sources, lacking)
        case AnyActionInDatabase():
            grants = decision.granted_by
            sources = _sources(grants[0].privilege, user, graph, grants[0].patterns) if grants else ()
            return Step(requirement, decision.allowed, (), sources)
        case AllOf(parts) | AnyOf(parts):
            return Step(requirement, decision.allowed, tuple(_step(part, session, graph) for part in parts))
        case NotHeld(part):
            return Step(requirement, decision.allowed, (_step(part, session, graph),))
        case _:
            assert_never(requirement)


def _sources(
    needed: Privilege, user: User, graph: RoleGraph, patterns: tuple[ResourcePattern, ...]
) -> tuple[Source, ...]:
    """Every pattern that grants some of it, not only as many as suffice: to revoke it, all must go."""
    sources = []
    for pattern in patterns:
        held = user.privileges.get(pattern, frozenset())
        # A need without actions is any action at all: what is held is what counts.
        wanted = needed.actions or held
        actions = wanted if ActionType.ANY_ACTION in held else wanted & held
        if actions:
            sources.append(Source(pattern, actions, _paths(pattern, actions, user, graph)))
    return tuple(sources)


def _paths(
    pattern: ResourcePattern, actions: frozenset[str], user: User, graph: RoleGraph
) -> tuple[tuple[RoleName, ...], ...]:
    """From each direct role to each role whose own privileges hold one of the actions on the pattern."""
    owners = [
        name
        for name in dict.fromkeys((*user.roles, *user.inherited_roles))
        if _grants(graph, name, pattern, actions)
    ]
    paths = {graph.path_to([direct], owner) for direct in user.roles for owner in owners}
    return tuple(sorted((path for path in paths if path), key=lambda path: (len(path), path)))


def _grants(graph: RoleGraph, name: RoleName, pattern: ResourcePattern, actions: frozenset[str]) -> bool:
    role = graph.role(name)
    return role is not None and any(
        own.resource == pattern and (ActionType.ANY_ACTION in own.actions or actions & own.actions)
        for own in role.privileges
    )
