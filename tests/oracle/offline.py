"""The same decisions without a server: subjects as users of a users.yaml, commands asked of the catalogue alone.

In: a subject and a case. Out: `Verdict`, as `mongoguard explain` and the file directory come to it: parsed from YAML,
resolved by the role graph, decided by the authorization session.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import bson

from mongoguard.authz.authorization_session import AuthorizationSession
from mongoguard.authz.builtin_roles import builtin_role
from mongoguard.command.catalog import find_row
from mongoguard.command.command import Command
from mongoguard.command.generic import (
    check_api_version,
    check_transaction_fields,
    generic_denied,
    generic_requirement,
)
from mongoguard.command.printing import not_authorized
from mongoguard.command.requirement import requirement_of
from mongoguard.command.spec import Asker, Handling
from mongoguard.config.user_file import parse_user_file
from mongoguard.errors import CommandError
from mongoguard.model.names import RoleName, UserName
from mongoguard.model.privilege import Requirement
from mongoguard.model.user import User
from mongoguard.wire.document import Document
from tests.oracle.cases.case import Case
from tests.oracle.subjects import Subject
from tests.oracle.wire import credentials

__all__ = ["SEEDED_ROLES", "held_actions", "requirement_for", "users_from_file", "users_yaml", "verdict_code"]

SEEDED_ROLES: tuple[Mapping[str, Any], ...] = (
    {
        "role": "zr",
        "db": "t",
        "privileges": [{"resource": {"db": "t", "collection": "c"}, "actions": ["find"]}],
        "roles": [{"role": "read", "db": "t"}],
    },
    {"role": "zadmin", "db": "admin", "privileges": [], "roles": [{"role": "clusterMonitor", "db": "admin"}]},
)
"""The roles that both sides have beside the subjects' own."""


def role_document(subject: Subject) -> dict[str, Any]:
    """The role of a subject's own privileges, as createRole would store it."""
    merged: dict[str, tuple[Any, set[str]]] = {}
    for privilege in subject.privileges:
        key = json.dumps(privilege["resource"], sort_keys=True)
        merged.setdefault(key, (privilege["resource"], set()))[1].update(privilege["actions"])
    privileges = [
        {"resource": resource, "actions": ["anyAction"] if "anyAction" in actions else sorted(actions)}
        for resource, actions in merged.values()
    ]
    return {"role": subject.name, "db": "admin", "privileges": privileges, "roles": []}


def users_yaml(subjects: Iterable[Subject]) -> str:
    """The subjects as a users file. JSON is YAML."""
    named = [s for s in subjects if s.logged_in]
    users = [
        {
            "user": s.name,
            "db": "admin",
            "credentials": credentials(),
            "roles": [{"role": role, "db": db} for role, db in s.direct_roles],
        }
        for s in named
    ]
    roles = [*SEEDED_ROLES, *(role_document(s) for s in named if s.privileges)]
    return json.dumps({"roles": roles, "users": users}, indent=0)


def users_from_file(subjects: Iterable[Subject]) -> Mapping[UserName, User]:
    """The subjects' users as the file directory serves them."""
    return parse_user_file(users_yaml(subjects), "users.yaml").users


def held_actions(subject: Subject) -> frozenset[str]:
    """Every action that the subject holds on anything."""
    held = {action for privilege in subject.privileges for action in privilege["actions"]}
    for role, db in subject.roles:
        definition = builtin_role(RoleName(role, db))
        for privilege in () if definition is None else definition.privileges:
            held.update(str(action) for action in privilege.actions)
    return frozenset(held)


@cache
def _encoded(case: Case, subject_name: str) -> Command:
    body = dict(case.command_for(subject_name))
    sequence = body.pop(case.sequence) if case.sequence else []
    data = bson.encode({**body, "$db": case.db})
    end, spans = len(data), []
    for document in sequence:
        encoded = bson.encode(document)
        spans.append((len(data), len(data) + len(encoded)))
        data += encoded
    return Command(Document(data, 0, end), case.db, {case.sequence: spans} if case.sequence else {})


def _asker(subject: Subject) -> Asker:
    if not subject.logged_in:
        return Asker()
    return Asker(UserName(subject.name, "admin"), frozenset(subject.direct_roles))


def requirement_for(case: Case, subject: Subject) -> Requirement | None:
    """What the catalogue says that the case needs; None where it answers with an error."""
    try:
        command = _encoded(case, subject.name if case.names_self else "")
        row = find_row(command.name)
        return None if row is None else requirement_of(row, command, _asker(subject))
    except CommandError:
        return None


def verdict_code(case: Case, subject: Subject, user: User | None) -> tuple[int, str]:
    """The code and text of the refusal, (0, "") for what is let through; nobody is `user` None."""
    try:
        _decide(_encoded(case, subject.name if case.names_self else ""), _asker(subject), user)
    except CommandError as error:
        return int(error.code), error.errmsg
    return 0, ""


def _decide(command: Command, asker: Asker, user: User | None) -> None:
    """The order of checks of the page (proxy/client_session.py), without a session."""
    command.check_database()
    row = find_row(command.name)
    if row is None:
        raise CommandError(59, f"no such command: '{command.name}'")
    check_api_version(command, row)
    if row.admin_only and command.db != "admin":
        raise CommandError(13, f"{row.name} may only be run against the admin database.")
    if user is None:
        if row.requires_auth:
            raise CommandError(13, f"command {row.name} requires authentication")
        check_transaction_fields(command)
    if row.handling is Handling.LOCAL or (row.name == "ping" and user is None):
        return
    own, generic = requirement_of(row, command, asker), generic_requirement(command, asker)
    session = AuthorizationSession(user)
    if user is not None and not session.authorize(generic).allowed:
        raise generic_denied(command, asker)
    if row.requires_auth and not session.authorize(own).allowed:
        raise not_authorized(command)
