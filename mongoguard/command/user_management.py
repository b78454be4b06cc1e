"""Requirements of the commands that manage users and roles.

In: a `Command` and the `Asker` (one's own user and directly held roles are free to look at). Out: its `Requirement`.
Must not know the directory. Source: the manual; what needs grantRole or revokeRole where was measured on mongod 6.0.5.
One hole of 6.0.5 is closed: changing a user's `mechanisms` needs the right to change the password, as later servers
have it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from mongoguard.command.arguments import (
    array_of_documents,
    optional_string,
    required_array,
    required_string,
)
from mongoguard.command.command import MAX_DB_NAME, Command
from mongoguard.command.requires import ANY_NORMAL, all_of, needs
from mongoguard.command.spec import Asker, Requires
from mongoguard.errors import CommandError, ErrorCode
from mongoguard.model.action_type import ActionType as A
from mongoguard.model.names import RoleName, UserName
from mongoguard.model.privilege import NOTHING, AnyOf, Privilege, Requirement
from mongoguard.model.resource_pattern import CLUSTER, ResourcePattern
from mongoguard.wire.document import ARRAY, BOOL, DOCUMENT, STRING, Document

__all__ = [
    "create_role",
    "create_user",
    "names_user_collection",
    "on_privileges",
    "on_roles",
    "roles_info",
    "update_role",
    "update_user",
    "users_info",
]

_REVOKE_ANYWHERE = Privilege(ANY_NORMAL, needs(A.REVOKE_ROLE))
_VIEW_ALL_USERS = Privilege(CLUSTER, needs(A.VIEW_USER))

_USER_COLLECTIONS = frozenset({"system.users", "system.roles"})
_USER_NAMESPACES = frozenset(f"admin.{name}" for name in _USER_COLLECTIONS)


def names_user_collection(command: Command) -> bool:
    """Whether a command is about the collections that hold users and roles: who may write there changes users, too."""
    if command.db != "admin":
        return False
    if command.name == "bulkWrite":
        return any(one.string("ns") in _USER_NAMESPACES for one in command.documents("nsInfo") or ())
    return command.target in _USER_COLLECTIONS


def _on_db(db: str, action: str) -> Privilege:
    if len(db) > MAX_DB_NAME:
        raise CommandError(ErrorCode.INVALID_NAMESPACE, "database name is too long")
    return Privilege(ResourcePattern.for_database(db), frozenset({action}))


def _named(kind: str, field: str, view: Document) -> tuple[str, str]:
    """`{role, db}` or `{user, db}`, in mongod's words when it is not."""
    values: list[str] = []
    for key in (field, "db"):
        if key not in view:
            raise CommandError(ErrorCode.BAD_VALUE, f"{kind} must contain a field named: {key}")
        text = view.string(key)
        if text is None:
            raise CommandError(
                ErrorCode.BAD_VALUE,
                f"{kind} must contain a string field named: {key}. But, has type {view.type_name(key)}",
            )
        values.append(text)
    for key in view:
        if key not in (field, "db"):
            raise CommandError(ErrorCode.BAD_VALUE, f"{kind} contains an unknown field named: '{key}")
    return values[0], values[1]


def _role_names(command: Command, field: str) -> list[RoleName]:
    """The roles of an array of names and `{role, db}` documents; a bare name is one of the command's database."""
    array = required_array(command.name, command.body, field)
    return [_role_name(array, key, command.db) for key in array]


def _role_name(holder: Document, key: str, db: str) -> RoleName:
    text = holder.string(key)
    if text is not None:
        return RoleName(text, db)
    view = holder.document(key)
    if view is None:
        noun = "Role name must be either a document or string"
        raise CommandError(ErrorCode.BAD_VALUE, noun)
    return RoleName(*_named("RoleName", "role", view))


def _on_role_dbs(roles: list[RoleName], action: str) -> Iterator[Requirement]:
    return (_on_db(role.db, action) for role in roles)


def _on_privilege_dbs(command: Command, action: str) -> Iterator[Requirement]:
    for view in array_of_documents(command.name, command.body, "privileges"):
        resource = view.document("resource")
        if resource is None:
            raise CommandError(ErrorCode.FAILED_TO_PARSE, "missing resource field")
        yield _on_db(_granting_database(resource), action)


def _granting_database(resource: Document) -> str:
    """The database whose grantRole rules a privilege: its own for `{db, collection}`, admin for every wider pattern."""
    fields = frozenset(resource.fields)
    if fields == {"db", "collection"}:
        db, collection = resource.string("db"), resource.string("collection")
        if db is not None and collection is not None:
            return db or "admin"
    elif fields in ({"system_buckets"}, {"db", "system_buckets"}):
        if all(resource.type_of(name) == STRING for name in fields):
            return "admin"
    elif fields in ({"cluster"}, {"anyResource"}):
        (name,) = fields
        if resource.boolean(name):
            return "admin"
        if resource.type_of(name) == BOOL:
            raise CommandError(ErrorCode.FAILED_TO_PARSE, f"{name} must be true when specified")
    elif len(fields & {"db", "collection"}) == 1 and len(fields) == 1:
        raise CommandError(
            ErrorCode.FAILED_TO_PARSE,
            "resource must set both db and collection or neither, but not exactly one.",
        )
    raise CommandError(
        ErrorCode.FAILED_TO_PARSE,
        "resource must have exactly db and collection set, or have only cluster set  or have only anyResource set",
    )


def _restrictions(command: Command) -> list[Requirement]:
    """Setting restrictions, even to none, is an action of its own."""
    if "authenticationRestrictions" not in command.body:
        return []
    return [_on_db(command.db, A.SET_AUTHENTICATION_RESTRICTION)]


def create_user(command: Command, _asker: Asker) -> Requirement:
    """createUser on the database, grantRole on the database of each role given."""
    required_string("createUser", command.body, command.name)
    roles = _role_names(command, "roles")
    return all_of(
        [
            _on_db(command.db, A.CREATE_USER),
            *_on_role_dbs(roles, A.GRANT_ROLE),
            *_restrictions(command),
        ]
    )


def update_user(command: Command, asker: Asker) -> Requirement:
    """Each thing that is changed needs its action; on oneself, changing password and custom data has lesser ones."""
    name = required_string("updateUser", command.body, command.name)
    own = asker.user == UserName(name, command.db)
    body, parts = command.body, _restrictions(command)
    optional_string("updateUser", body, "pwd")
    if "pwd" in body or "mechanisms" in body or "digestPassword" in body:
        parts.append(_own_or(command.db, own, A.CHANGE_OWN_PASSWORD, A.CHANGE_PASSWORD))
    if "customData" in body:
        parts.append(_own_or(command.db, own, A.CHANGE_OWN_CUSTOM_DATA, A.CHANGE_CUSTOM_DATA))
    if "roles" in body:
        parts += [_REVOKE_ANYWHERE, *_on_role_dbs(_role_names(command, "roles"), A.GRANT_ROLE)]
    if not parts:
        raise CommandError(ErrorCode.BAD_VALUE, "Must specify at least one field to update in updateUser")
    return all_of(parts)


def _own_or(db: str, own: bool, own_action: str, action: str) -> Requirement:
    return AnyOf((_on_db(db, action), _on_db(db, own_action))) if own else _on_db(db, action)


def create_role(command: Command, _asker: Asker) -> Requirement:
    """createRole, and the right to grant each role and privilege that it is given."""
    required_string("createRole", command.body, command.name)
    for field in ("privileges", "roles"):
        required_array("createRole", command.body, field)
    return all_of(
        [
            _on_db(command.db, A.CREATE_ROLE),
            *_on_role_dbs(_role_names(command, "roles"), A.GRANT_ROLE),
            *_on_privilege_dbs(command, A.GRANT_ROLE),
            *_restrictions(command),
        ]
    )


def update_role(command: Command, _asker: Asker) -> Requirement:
    """revokeRole on any normal resource, and the right to grant what is set."""
    required_string("updateRole", command.body, command.name)
    parts: list[Requirement] = [_REVOKE_ANYWHERE, *_restrictions(command)]
    if "roles" in command.body:
        parts += _on_role_dbs(_role_names(command, "roles"), A.GRANT_ROLE)
    if "privileges" in command.body:
        parts += _on_privilege_dbs(command, A.GRANT_ROLE)
    return all_of(parts)


def on_roles(action: str) -> Requires:
    """grantRolesTo…, revokeRolesFrom…: the action on the database of each role named."""
    return _on_listed("roles", lambda command: _on_role_dbs(_role_names(command, "roles"), action))


def on_privileges(action: str) -> Requires:
    """grantPrivilegesToRole, revokePrivilegesFromRole: the action on the database that rules each privilege."""
    return _on_listed("privileges", lambda command: _on_privilege_dbs(command, action))


def _on_listed(field: str, parts: Callable[[Command], Iterator[Requirement]]) -> Requires:
    def requires(command: Command, _asker: Asker) -> Requirement:
        required_string(command.name, command.body, command.name)
        if not required_array(command.name, command.body, field).fields:
            raise CommandError(
                ErrorCode.BAD_VALUE, f'{command.name} command requires a non-empty "{field}" array'
            )
        return all_of(parts(command))

    return requires


def _targets(command: Command, kind: str, field: str) -> list[tuple[str, str]] | None:
    """The names that usersInfo or rolesInfo is asked for; None for all of the database (`1`)."""
    body, name = command.body, command.name
    if body.type_of(name) == ARRAY:
        array = required_array(name, body, name)
        return [_target(kind, field, array, key, command.db) for key in array]
    number = body.number(name)
    if number is not None and abs(number) < 2 and int(number) == 1:
        return None
    return [_target(kind, field, body, name, command.db)]


def _target(kind: str, field: str, holder: Document, key: str, db: str) -> tuple[str, str]:
    text = holder.string(key)
    if text is not None:
        return text, db
    view = holder.document(key)
    if view is None:
        raise CommandError(ErrorCode.BAD_VALUE, f"{kind} must be either a string or an object")
    return _named(kind, field, view)


def users_info(command: Command, asker: Asker) -> Requirement:
    """Free for oneself; else viewUser on each user's database, or on the cluster for `{forAllDBs: true}`."""
    body = command.body
    if body.type_of(command.name) == DOCUMENT:
        view = body.document(command.name)
        if view is not None and "forAllDBs" in view:
            if not view.truthy("forAllDBs") or len(view) != 1:
                raise CommandError(
                    ErrorCode.BAD_VALUE, "UserName contains an unknown field named: 'forAllDBs"
                )
            return _VIEW_ALL_USERS
    targets = _targets(command, "UserName", "user")
    if targets is None:
        return _on_db(command.db, A.VIEW_USER)
    return all_of(_on_db(db, A.VIEW_USER) for user, db in targets if asker.user != (user, db))


def roles_info(command: Command, asker: Asker) -> Requirement:
    """Free for roles held directly; else viewRole on each role's database."""
    targets = _targets(command, "RoleName", "role")
    if targets is None:
        return _on_db(command.db, A.VIEW_ROLE)
    foreign = [_on_db(db, A.VIEW_ROLE) for role, db in targets if (role, db) not in asker.direct_roles]
    return all_of(foreign) if foreign else NOTHING
