"""Audit messages about users and roles that were created, changed or dropped.

In: a user-management command's body and its result. Out: an `AuditEvent` with MongoDB's parameters for that command.
Must not know privileges or directories. Passwords are never read; `customData` is left out, for it may hold anything.
Source: the manual's "System Event Audit Messages" (createUser … revokePrivilegesFromRole).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mongoguard.errors import CommandError
from mongoguard.model.names import RoleName, UserName
from mongoguard.model.restriction import Peer
from mongoguard.observe.command_shape import CommandDocument
from mongoguard.observe.event import AuditEvent

__all__ = ["USER_MANAGEMENT_COMMANDS", "user_management"]

# Command -> (the name of its subject, the lists it carries). The subject is the command field's own value.
_PARAMETERS: Mapping[str, tuple[str | None, tuple[str, ...]]] = {
    "createUser": ("user", ("roles", "authenticationRestrictions")),
    "updateUser": ("user", ("roles", "authenticationRestrictions")),
    "dropUser": ("user", ()),
    "dropAllUsersFromDatabase": (None, ()),
    "grantRolesToUser": ("user", ("roles",)),
    "revokeRolesFromUser": ("user", ("roles",)),
    "createRole": ("role", ("roles", "privileges", "authenticationRestrictions")),
    "updateRole": ("role", ("roles", "privileges", "authenticationRestrictions")),
    "dropRole": ("role", ()),
    "dropAllRolesFromDatabase": (None, ()),
    "grantRolesToRole": ("role", ("roles",)),
    "revokeRolesFromRole": ("role", ("roles",)),
    "grantPrivilegesToRole": ("role", ("privileges",)),
    "revokePrivilegesFromRole": ("role", ("privileges",)),
}

USER_MANAGEMENT_COMMANDS = frozenset(_PARAMETERS)
"""The commands that have a message of their own; its atype is the command's name."""

MAX_ENTRIES = 1000
"""Roles or privileges that are listed in one message; a command of 16 MB could name a million."""


def user_management(
    peer: Peer,
    users: Iterable[UserName],
    roles: Iterable[RoleName],
    command: str,
    db: str,
    *,
    body: CommandDocument,
    result: int,
) -> AuditEvent:
    """The message for a command of `USER_MANAGEMENT_COMMANDS` that ran with `result` (0, or the error code)."""
    subject, lists = _PARAMETERS[command]
    param: dict[str, Any] = {}
    if subject:
        param[subject] = _text(body, command)
    param["db"] = db
    if command == "updateUser":
        param["passwordChanged"] = "pwd" in set(body)
    readers = {"roles": _roles, "privileges": _privileges, "authenticationRestrictions": _restrictions}
    for name in lists:
        entries = _entries(body, name)
        if entries is not None:
            param[name] = readers[name](entries[:MAX_ENTRIES], db)
            if len(entries) > MAX_ENTRIES:
                param[f"{name}Omitted"] = len(entries) - MAX_ENTRIES
    return AuditEvent(command, peer, tuple(users), tuple(roles), param, result)


def _text(body: CommandDocument, name: str) -> str:
    try:
        return body.string(name) or ""
    except CommandError:
        return ""


def _entries(body: CommandDocument, name: str) -> list[Any] | None:
    """The array's values; None when it is absent or can't be read (the server will have refused it)."""
    try:
        value = body.value(name)
    except CommandError:
        return None
    return value if isinstance(value, list) else None


def _roles(entries: list[Any], db: str) -> list[dict[str, str]]:
    """A bare name is a role of the command's database."""
    named = [{"role": e, "db": db} if isinstance(e, str) else e for e in entries]
    return [
        {"role": e["role"], "db": e["db"]}
        for e in named
        if isinstance(e, dict) and isinstance(e.get("role"), str) and isinstance(e.get("db"), str)
    ]


def _privileges(entries: list[Any], _db: str) -> list[dict[str, Any]]:
    return [
        {"resource": _plain(e.get("resource")), "actions": _strings(e.get("actions"))}
        for e in entries
        if isinstance(e, dict)
    ]


def _restrictions(entries: list[Any], _db: str) -> list[dict[str, Any]]:
    names = ("clientSource", "serverAddress")
    return [{n: _strings(e[n]) for n in names if n in e} for e in entries if isinstance(e, dict)]


def _plain(resource: Any) -> dict[str, Any]:
    """A resource document's texts and bools: it has nothing else."""
    if not isinstance(resource, dict):
        return {}
    return {k: v for k, v in resource.items() if isinstance(v, str | bool)}


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [v for v in value if isinstance(v, str)] if isinstance(value, list) else []
