"""Users whose roles came with their credential: rolesInfo's documents of those roles -> a User.

In: a `UserRequest` with roles, and the `roles` of a rolesInfo reply. Out: the user with everything that those roles
give. Must not know what kind of credential it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mongoguard.errors import CommandError, ErrorCode
from mongoguard.model.documents import (
    merge_privileges,
    parse_privileges,
    parse_restrictions,
    parse_role_name,
)
from mongoguard.model.field_types import as_list, as_mapping
from mongoguard.model.names import RoleName
from mongoguard.model.privilege import Privilege
from mongoguard.model.restriction import AuthenticationRestriction
from mongoguard.model.user import User, UserRequest

__all__ = ["user_with_roles"]

_RESTRICTIONS = "inheritedAuthenticationRestrictions"


def user_with_roles(request: UserRequest, docs: object) -> User:
    """The user that `request` is about, with the roles described by `docs`; a role without a document grants nothing.

    The command must have been `{rolesInfo: [...], showPrivileges: true, showAuthenticationRestrictions: true}`. Raises
    `CommandError` 1 when the reply is not of that shape: such a user can't log in.
    """
    direct: list[RoleName] = []
    inherited: set[RoleName] = set()
    privileges: list[Privilege] = []
    restrictions: list[tuple[AuthenticationRestriction, ...]] = []
    try:
        for doc in as_list(docs, "roles"):
            fields = as_mapping(doc, "role")
            name = _name_of(fields)
            direct.append(name)
            inherited |= {name, *_inherited(fields, name.db)}
            privileges += parse_privileges(fields.get("inheritedPrivileges"), newer_upstream=True)
            restrictions += [parse_restrictions(a) for a in as_list(fields.get(_RESTRICTIONS), _RESTRICTIONS)]
    except CommandError as error:
        problem = "The user directory holds a malformed role document"
        raise CommandError(ErrorCode.INTERNAL_ERROR, problem, reason=error.errmsg) from None
    return User(
        name=request.name,
        roles=tuple(sorted(direct)),
        inherited_roles=tuple(sorted(inherited)),
        privileges=dict(merge_privileges(privileges)),
        restrictions=tuple(array for array in restrictions if array),
        asserted_roles=request.roles,
    )


def _name_of(fields: Mapping[str, Any]) -> RoleName:
    return parse_role_name({"role": fields.get("role"), "db": fields.get("db")}, "")


def _inherited(fields: Mapping[str, Any], db: str) -> list[RoleName]:
    return [parse_role_name(value, db) for value in as_list(fields.get("inheritedRoles"), "inheritedRoles")]
