"""MongoDB's documents about access, read strictly into the model's nouns.

In: plain dicts and lists (as bson or YAML decoded them). Out: patterns, privileges, names, restrictions, credentials,
users, roles. Must not know who asked or where a document came from, with one exception: what a *newer upstream* wrote
(`newer_upstream=True`) may hold actions and resource shapes that nobody here knows. Such an action is kept as a plain
string (no requirement names it); such a resource is dropped (it grants nothing).

Everything malformed raises `CommandError`, with the codes and texts of mongod 6.0.5 where it has one. One difference
on purpose: unknown keys in a resource, a privilege or a role name, which mongod ignores, are refused.
Source: the manual's "Resource Document", "system.users Collection", usersInfo, rolesInfo; measured on 6.0.5.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_address, ip_network
from typing import Any, TypeVar

from mongoguard.errors import CommandError, ErrorCode
from mongoguard.model.action_type import ActionType
from mongoguard.model.field_types import (
    as_list,
    as_mapping,
    ill_typed,
    only_known,
    type_name,
    typed,
    wrong_type,
)
from mongoguard.model.names import RoleName, UserName
from mongoguard.model.privilege import Privilege
from mongoguard.model.resource_pattern import MatchType, ResourcePattern
from mongoguard.model.restriction import AuthenticationRestriction, Network
from mongoguard.model.user import Role, ScramCredentials, User

__all__ = [
    "SCRAM_LENGTHS",
    "is_valid_database_name",
    "merge_privileges",
    "parse_credentials",
    "parse_privilege",
    "parse_privileges",
    "parse_resource",
    "parse_restriction",
    "parse_restrictions",
    "parse_role_name",
    "parse_user_name",
    "role_from_directory",
    "user_from_directory",
]

T = TypeVar("T")

_NEITHER_SOURCE_NOR_SERVER = 162
_MAX_DB_BYTES = 63  # mongod refuses 64 bytes and more
_FORBIDDEN_IN_DB = frozenset('./\\ "\0')
_FORBIDDEN_IN_COLLECTION = frozenset("$\0")
_ONE_KIND = (
    "resource must have exactly db and collection set, or have only cluster set  or have only anyResource set"
)
_BOTH_OR_NEITHER = "resource must set both db and collection or neither, but not exactly one."
_PREFIX_LENGTH = re.compile(r"[ \t\n\v\f\r]*[+-]?[0-9]+")  # what C's strtol reads, as mongod does

SCRAM_LENGTHS: Mapping[str, tuple[int, int]] = {"SCRAM-SHA-1": (16, 20), "SCRAM-SHA-256": (28, 32)}
"""Mechanism -> bytes in its salt, bytes in its keys; mongod lets nobody log in with other lengths."""


def is_valid_database_name(db: str) -> bool:
    """Whether mongod accepts that name in a resource: 1 to 63 bytes, no slashes, dot, space, quote or NUL."""
    return (
        bool(db)
        and len(db.encode(errors="surrogatepass")) <= _MAX_DB_BYTES
        and _FORBIDDEN_IN_DB.isdisjoint(db)
    )


def parse_resource(doc: object) -> ResourcePattern:
    """The pattern that a resource document stands for.

    Raises `CommandError` 9 for a combination of fields that means nothing or an invalid name, 2 for a wrong type,
    73 for an invalid bucket suffix, 40415 for an unknown key.
    """
    fields = as_mapping(doc, "resource")
    only_known(fields, "resource", ("anyResource", "cluster", "collection", "db", "system_buckets"))
    cluster, any_resource = (typed(fields, key, bool, "boolean") for key in ("cluster", "anyResource"))
    db, collection, buckets = (
        typed(fields, key, str, "string") for key in ("db", "collection", "system_buckets")
    )
    if buckets is not None and collection is not None:
        raise CommandError(ErrorCode.FAILED_TO_PARSE, "system_buckets and collection cannot both be set")
    if buckets is None and (db is None) != (collection is None):
        raise CommandError(ErrorCode.FAILED_TO_PARSE, _BOTH_OR_NEITHER)
    named = collection is not None or buckets is not None
    if [cluster is not None, any_resource is not None, named].count(True) != 1:
        raise CommandError(ErrorCode.FAILED_TO_PARSE, _ONE_KIND)
    for key, value in (("cluster", cluster), ("anyResource", any_resource)):
        if value is False:
            raise CommandError(ErrorCode.FAILED_TO_PARSE, f"{key} must be true when specified")
    if cluster:
        return ResourcePattern.for_cluster()
    if any_resource:
        return ResourcePattern.for_any_resource()
    if db and not is_valid_database_name(db):
        raise CommandError(ErrorCode.FAILED_TO_PARSE, f"{db} is not a valid database name")
    return _buckets(db or "", buckets) if buckets is not None else _namespace(db or "", collection or "")


def _namespace(db: str, collection: str) -> ResourcePattern:
    valid = _FORBIDDEN_IN_COLLECTION.isdisjoint(collection) and not collection.startswith(".")
    if not valid and (db, collection) != ("local", "oplog.$main"):
        raise CommandError(ErrorCode.FAILED_TO_PARSE, f"{collection} is not a valid collection name")
    if not collection:
        return ResourcePattern.for_database(db) if db else ResourcePattern.for_any_normal_resource()
    return (
        ResourcePattern.for_exact_namespace(db, collection)
        if db
        else ResourcePattern.for_collection(collection)
    )


def _buckets(db: str, suffix: str) -> ResourcePattern:
    if suffix.startswith("."):
        raise CommandError(ErrorCode.INVALID_NAMESPACE, f"Collection names cannot start with '.': {suffix}")
    if "\0" in suffix:
        raise CommandError(ErrorCode.INVALID_NAMESPACE, "namespaces cannot have embedded null characters")
    if db:
        kind = MatchType.EXACT_BUCKETS if suffix else MatchType.ANY_BUCKETS_IN_DB
    else:
        kind = MatchType.BUCKETS_IN_ANY_DB if suffix else MatchType.ANY_BUCKETS
    return ResourcePattern(kind, db, suffix)


def parse_privilege(doc: object, *, newer_upstream: bool = False) -> Privilege:
    """`{resource, actions}`; anyAction swallows the other actions.

    Raises `CommandError` 9 for a missing field or an empty action list, 2 for a wrong type, or (unless
    `newer_upstream`) an action that is no `ActionType`: "Unrecognized action: x". Errors of the resource as
    `parse_resource` raises them.
    """
    fields = as_mapping(doc, "privilege")
    only_known(fields, "privilege", ("actions", "resource"))
    names = _action_names(fields)
    if not names:
        raise CommandError(ErrorCode.FAILED_TO_PARSE, "missing actions field")
    if "resource" not in fields:
        raise CommandError(ErrorCode.FAILED_TO_PARSE, "missing resource field")
    unknown = [name for name in names if name not in _ACTIONS]
    if unknown and not newer_upstream:
        plural = "s" if len(unknown) > 1 else ""
        raise CommandError(ErrorCode.BAD_VALUE, f"Unrecognized action{plural}: {', '.join(unknown)}")
    resource = parse_resource(fields["resource"])
    return Privilege(resource, _swallow(frozenset(_ACTIONS.get(name, name) for name in names)))


def parse_privileges(docs: object, *, newer_upstream: bool = False) -> tuple[Privilege, ...]:
    """An array of privileges, those on one resource merged.

    Raises `CommandError` as `parse_privilege` does. With `newer_upstream`, a privilege whose resource is not understood
    or which has no actions is left out (it grants nothing); a document of the wrong shape still raises.
    """
    parsed: list[Privilege] = []
    for doc in as_list(docs, "privileges"):
        if newer_upstream and _grants_nothing(doc):
            continue
        parsed.append(parse_privilege(doc, newer_upstream=newer_upstream))
    return merge_privileges(parsed)


def merge_privileges(privileges: Iterable[Privilege]) -> tuple[Privilege, ...]:
    """One privilege for each resource, in order of first appearance."""
    merged: dict[ResourcePattern, frozenset[str]] = {}
    for resource, actions in privileges:
        merged[resource] = _swallow(merged.get(resource, frozenset()) | actions)
    return tuple(Privilege(resource, actions) for resource, actions in merged.items())


_ACTIONS: Mapping[str, ActionType] = {str(action): action for action in ActionType}
_JUST_ANY_ACTION: frozenset[str] = frozenset({ActionType.ANY_ACTION})


def _swallow(actions: frozenset[str]) -> frozenset[str]:
    return _JUST_ANY_ACTION if ActionType.ANY_ACTION in actions else actions


def _action_names(fields: Mapping[str, Any]) -> list[str]:
    names = fields.get("actions", [])
    if not isinstance(names, list):
        raise wrong_type("actions", "vector array", names)
    for index, name in enumerate(names):
        if not isinstance(name, str):
            problem = wrong_type(str(index), "string", name).errmsg
            raise CommandError(
                ErrorCode.BAD_VALUE,
                f"error parsing element {index} of field actions :: caused by :: {problem}",
            )
    return names


def _grants_nothing(doc: object) -> bool:
    """Whether a newer upstream's privilege can't be understood; its shape (a resource document) must still be sound."""
    fields = as_mapping(doc, "privilege")
    if not _action_names(fields):
        return True
    resource = as_mapping(fields.get("resource"), "resource")
    try:
        only_known(fields, "privilege", ("actions", "resource"))
        parse_resource(resource)
    except CommandError:
        return True
    return False


def parse_role_name(value: object, default_db: str) -> RoleName:
    """`{role, db}`, or a bare name, which means a role of `default_db`. Raises `CommandError` 2."""
    if isinstance(value, str):
        return RoleName(value, default_db)
    if not isinstance(value, Mapping):
        raise CommandError(ErrorCode.BAD_VALUE, "Role name must be either a document or string")
    return RoleName(*_two_strings(value, "RoleName", "role"))


def parse_user_name(value: object, default_db: str) -> UserName:
    """`{user, db}`, or a bare name, which means a user of `default_db`. Raises `CommandError` 2."""
    if isinstance(value, str):
        return UserName(value, default_db)
    if not isinstance(value, Mapping):
        raise CommandError(ErrorCode.BAD_VALUE, "UserName must be either a string or an object")
    return UserName(*_two_strings(value, "UserName", "user"))


def _two_strings(fields: Mapping[str, Any], kind: str, name_key: str) -> tuple[str, str]:
    for key in fields:
        if key not in (name_key, "db"):
            raise CommandError(ErrorCode.BAD_VALUE, f"{kind} contains an unknown field named: '{key}'")
    return _string_of(fields, kind, name_key), _string_of(fields, kind, "db")


def _string_of(fields: Mapping[str, Any], kind: str, key: str) -> str:
    if key not in fields:
        raise CommandError(ErrorCode.BAD_VALUE, f"{kind} must contain a field named: {key}")
    value = fields[key]
    if not isinstance(value, str):
        problem = f"{kind} must contain a string field named: {key}. But, has type {type_name(value)}"
        raise CommandError(ErrorCode.BAD_VALUE, problem)
    return value


def parse_restriction(doc: object) -> AuthenticationRestriction:
    """`{clientSource: [cidr…], serverAddress: [cidr…]}`; an empty list is kept, and nobody meets it.

    A bare address is a network of one; host bits are tolerated. Raises `CommandError` 14 for a wrong type, 40415 for an
    unknown key, 162 when both lists are absent, 2 for what is neither an address nor a CIDR range.
    """
    fields = as_mapping(doc, "authenticationRestrictions")
    only_known(fields, "authenticationRestrictions", ("clientSource", "serverAddress"))
    if not fields:
        raise CommandError(
            _NEITHER_SOURCE_NOR_SERVER, "At least one of 'clientSource' or 'serverAddress' must be set"
        )
    return AuthenticationRestriction(_networks(fields, "clientSource"), _networks(fields, "serverAddress"))


def parse_restrictions(docs: object) -> tuple[AuthenticationRestriction, ...]:
    """An `authenticationRestrictions` array; empty means none. Raises `CommandError` as `parse_restriction` does."""
    return tuple(parse_restriction(doc) for doc in as_list(docs, "authenticationRestrictions"))


def _networks(fields: Mapping[str, Any], key: str) -> tuple[Network, ...] | None:
    if key not in fields:
        return None
    return tuple(_network(text, key) for text in as_list(fields[key], f"authenticationRestrictions.{key}"))


def _network(text: object, key: str) -> Network:
    if not isinstance(text, str):
        raise ill_typed(f"authenticationRestrictions.{key}", text, "string")
    address, slash, length = text.partition("/")
    try:
        host = ip_address(address)
    except ValueError:
        host = None
    if host is None or "%" in address:  # a zone index means something only on the machine that wrote it
        raise CommandError(ErrorCode.BAD_VALUE, "Invalid IP address in CIDR string")
    if not slash:
        return ip_network(host)
    if not _PREFIX_LENGTH.fullmatch(length):
        raise CommandError(ErrorCode.BAD_VALUE, "Non-numeric length in CIDR string")
    # Longer than any prefix with leading zeros anyone writes; int() of thousands of digits is slow, then refused.
    bits = int(length) if len(length) <= 16 else -1
    if not 0 <= bits <= host.max_prefixlen:
        raise CommandError(ErrorCode.BAD_VALUE, "Invalid length in CIDR string")
    return ip_network((host, bits), strict=False)


def parse_credentials(doc: object) -> dict[str, ScramCredentials]:
    """Mechanism name -> stored SCRAM credentials; `{external: true}` gives none.

    Mechanisms other than SCRAM-SHA-1 and SCRAM-SHA-256 are left out (nobody can log in with them here). Raises
    `CommandError` 2 naming the field, never its value, when an entry is malformed or a length is not the mechanism's.
    """
    fields = as_mapping(doc, "credentials")
    return {name: _scram(name, fields[name]) for name in SCRAM_LENGTHS if name in fields}


def _scram(mechanism: str, doc: object) -> ScramCredentials:
    fields = as_mapping(doc, f"credentials.{mechanism}")
    count = fields.get("iterationCount")
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise CommandError(
            ErrorCode.BAD_VALUE, f"credentials.{mechanism}.iterationCount must be a positive integer"
        )
    salt_length, key_length = SCRAM_LENGTHS[mechanism]
    lengths = {"salt": salt_length, "storedKey": key_length, "serverKey": key_length}
    salt, stored, server = (_base64(fields, key, size, mechanism) for key, size in lengths.items())
    return ScramCredentials(int(count), salt, stored, server)


def _base64(fields: Mapping[str, Any], key: str, size: int, mechanism: str) -> bytes:
    try:
        decoded = base64.b64decode(fields[key], validate=True)
    except (KeyError, TypeError, ValueError, binascii.Error):
        decoded = b""
    if len(decoded) != size:  # `from None`: the cause could show the value
        message = f"credentials.{mechanism}.{key} must be {size} bytes in base64"
        raise CommandError(ErrorCode.BAD_VALUE, message) from None
    return decoded


def user_from_directory(doc: object) -> User:
    """The user that one document of a `usersInfo` reply describes.

    The command must have been `{usersInfo: {user, db}, showCredentials: true, showPrivileges: true,
    showAuthenticationRestrictions: true}`. `inherited_roles` holds the direct roles too. Raises `CommandError` 1 when
    the document is not of that shape: such a user can't log in.
    """
    return _from_directory(_user, doc, "user")


def role_from_directory(doc: object) -> Role:
    """The role that one document of a `rolesInfo` reply describes, as defined (own privileges, direct roles).

    The command must have been sent with `showPrivileges: true` and, for restrictions, `showAuthenticationRestrictions:
    true` (the role's own array comes wrapped in another one). Raises `CommandError` 1 when the shape is another.
    """
    return _from_directory(_role, doc, "role")


def _from_directory(parse: Callable[[Mapping[str, Any]], T], doc: object, kind: str) -> T:
    try:
        return parse(as_mapping(doc, kind))
    except CommandError as error:
        raise CommandError(
            ErrorCode.INTERNAL_ERROR,
            f"The user directory holds a malformed {kind} document",
            reason=error.errmsg,
        ) from None


def _user(doc: Mapping[str, Any]) -> User:
    name = UserName(_string_of(doc, "UserName", "user"), _string_of(doc, "UserName", "db"))
    user_id = doc.get("userId")
    if not isinstance(user_id, bytes) or len(user_id) != 16:
        raise ill_typed("userId", user_id, "UUID")
    roles = _role_names(doc, "roles", name.db)
    inherited = _role_names(doc, "inheritedRoles", name.db)
    own = parse_restrictions(doc.get("authenticationRestrictions"))
    key = "inheritedAuthenticationRestrictions"
    return User(
        name=name,
        user_id=bytes(user_id),
        credentials=parse_credentials(doc.get("credentials")),
        roles=roles,
        inherited_roles=tuple(sorted({*roles, *inherited})),
        privileges=dict(parse_privileges(doc.get("inheritedPrivileges"), newer_upstream=True)),
        restrictions=(own, *(parse_restrictions(array) for array in as_list(doc.get(key), key))),
    )


def _role(doc: Mapping[str, Any]) -> Role:
    name = RoleName(_string_of(doc, "RoleName", "role"), _string_of(doc, "RoleName", "db"))
    arrays = as_list(doc.get("authenticationRestrictions", []), "authenticationRestrictions")
    if len(arrays) > 1:
        raise CommandError(ErrorCode.BAD_VALUE, "authenticationRestrictions must hold one array")
    return Role(
        name=name,
        privileges=parse_privileges(doc.get("privileges"), newer_upstream=True),
        roles=_role_names(doc, "roles", name.db),
        restrictions=parse_restrictions(arrays[0]) if arrays else (),
        is_builtin=doc.get("isBuiltin") is True,
    )


def _role_names(doc: Mapping[str, Any], key: str, db: str) -> tuple[RoleName, ...]:
    return tuple(parse_role_name(value, db) for value in as_list(doc.get(key), key))
