"""The aggregation stages that read something else than the collection: change streams, operations, sessions.

In: a stage's specification, in place. Out: calls on the walk (`need`), or the `CommandError` with which mongod refuses
the form. Must not know commands. Source: the manual's stage pages; forms, codes and texts measured on mongod 6.0.5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mongoguard.command.arguments import (
    array_of_documents,
    missing_field,
    optional_string,
    refuse_unknown_fields,
    strict_bool,
    unknown_field,
)
from mongoguard.command.requires import ANY_NORMAL, INTERNAL, needs
from mongoguard.errors import CommandError, ErrorCode
from mongoguard.model.action_type import ActionType as A
from mongoguard.model.privilege import Privilege
from mongoguard.model.resource_pattern import CLUSTER, MatchType, ResourcePattern
from mongoguard.wire.document import BOOL, Document

if TYPE_CHECKING:
    from mongoguard.command.pipeline import Walk

__all__ = [
    "COLLECTIONLESS",
    "FIND",
    "change_stream",
    "current_op",
    "documents",
    "list_cluster_catalog",
    "list_sessions",
    "query_stats",
    "stage_object",
]

COLLECTIONLESS = "$cmd.aggregate"
"""The pseudo-collection of `{aggregate: 1}`: a normal one, so finding in it means find on the database."""

FIND = needs(A.FIND)
_CHANGE_STREAM = needs(A.CHANGE_STREAM, A.FIND)
_LIST_SESSIONS = Privilege(CLUSTER, needs(A.LIST_SESSIONS))
_INPROG = Privilege(CLUSTER, needs(A.INPROG))

_HIDDEN_QUERY_STATS = needs(A.QUERY_STATS_READ_TRANSFORMED)
_QUERY_STATS = _HIDDEN_QUERY_STATS | needs(A.QUERY_STATS_READ)

_CURRENT_OP_FIELDS = frozenset(
    {
        "allUsers",
        "idleConnections",
        "idleSessions",
        "idleCursors",
        "localOps",
        "truncateOps",
        "backtrace",
        "targetAllNodes",
    }
)
_LIST_SESSIONS_FIELDS = frozenset({"allUsers", "users"})
_USER_FIELDS = frozenset({"user", "db"})
_CLUSTER_CATALOG_FIELDS = frozenset({"shards", "balancingConfiguration"})
_LIST_CLUSTER_CATALOG = Privilege(CLUSTER, needs(A.LIST_CLUSTER_CATALOG))
_LIST_COLLECTIONS = needs(A.LIST_COLLECTIONS)
_CHANGE_STREAM_FIELDS = frozenset(
    {
        "fullDocument",
        "fullDocumentBeforeChange",
        "resumeAfter",
        "startAfter",
        "startAtOperationTime",
        "allChangesForCluster",
        "showExpandedEvents",
    }
)
_CHANGE_STREAM_INTERNAL_FIELDS = frozenset(
    {
        "allowToRunOnConfigDB",
        "allowToRunOnSystemNS",
        "showMigrationEvents",
        "showRawUpdateDescription",
        "showSystemEvents",
    }
)
"""Options between servers."""


def stage_object(name: str, stage: Document, code: int = ErrorCode.FAILED_TO_PARSE) -> Document:
    """The stage's specification, which must be an object."""
    view = stage.document(name)
    if view is None:
        raise CommandError(
            code, f"the {name} stage specification must be an object, but found {stage.type_name(name)}"
        )
    return view


def change_stream(walk: Walk, name: str, stage: Document, collection: str, _depth: int) -> None:
    """`$changeStream`: changeStream and find on the collection, on the database, or on any normal resource."""
    spec = stage.document(name)
    if spec is None:
        raise CommandError(6188500, f"{name} must take a nested object")
    _check_change_stream(walk, name, spec, collection)
    if collection != COLLECTIONLESS:
        walk.need(ResourcePattern(MatchType.EXACT_NAMESPACE, walk.db, collection), _CHANGE_STREAM)
    elif walk.db != "admin":
        walk.need(ResourcePattern.for_database(walk.db), _CHANGE_STREAM)
    else:
        walk.need(ANY_NORMAL, _CHANGE_STREAM)
    if not spec.fields.keys() <= _CHANGE_STREAM_FIELDS:
        walk.need(INTERNAL.resource, INTERNAL.actions)


def _check_change_stream(walk: Walk, name: str, spec: Document, collection: str) -> None:
    for field in spec.fields:
        if field not in _CHANGE_STREAM_FIELDS and field not in _CHANGE_STREAM_INTERNAL_FIELDS:
            raise unknown_field(name, field)
    if spec.truthy("allChangesForCluster") and (walk.db, collection) != ("admin", COLLECTIONLESS):
        raise CommandError(
            ErrorCode.INVALID_OPTIONS,
            f"A {name} with 'allChangesForCluster:true' may only be opened on the 'admin' database, and with no "
            f"collection name; found {walk.db}.{collection}",
        )


def current_op(walk: Walk, name: str, stage: Document, collection: str, _depth: int) -> None:
    """`$currentOp`: one's own operations are free, everybody's need inprog."""
    spec = stage.document(name)
    if spec is None:
        raise CommandError(
            ErrorCode.TYPE_MISMATCH,
            f"{name} options must be specified in an object, but found: {stage.type_name(name)}",
        )
    for field, element in spec.fields.items():
        if field not in _CURRENT_OP_FIELDS:
            raise CommandError(ErrorCode.FAILED_TO_PARSE, f"Unrecognized option '{field}' in {name} stage.")
        if element[0] != BOOL:
            raise CommandError(
                ErrorCode.TYPE_MISMATCH,
                f"The '{field}' parameter of the {name} stage must be a boolean value, "
                f"but found: {spec.type_name(field)}",
            )
    if walk.db != "admin" or collection != COLLECTIONLESS:
        raise CommandError(
            ErrorCode.INVALID_NAMESPACE,
            f"{name} must be run against the 'admin' database with {{aggregate: 1}}",
        )
    if spec.boolean("allUsers"):
        walk.need(_INPROG.resource, _INPROG.actions)


def list_sessions(walk: Walk, name: str, stage: Document, collection: str, _depth: int) -> None:
    """`$listSessions`, `$listLocalSessions`: one's own are free, allUsers or another user's need listSessions."""
    spec = stage.document(name)
    if spec is None:
        raise CommandError(
            ErrorCode.TYPE_MISMATCH,
            f"{name} options must be specified in an object, but found: {stage.type_name(name)}",
        )
    refuse_unknown_fields(name, spec, _LIST_SESSIONS_FIELDS)
    all_users = strict_bool(name, spec, "allUsers")
    users = _users(name, spec) if "users" in spec else []
    if all_users and users:
        raise CommandError(
            12, f"{name} may not specify {{allUsers:true}} and {{users:[...]}} at the same time"
        )
    _check_session_source(walk, name, collection)
    if any(user != walk.asker.user for user in users) or all_users:
        walk.need(_LIST_SESSIONS.resource, _LIST_SESSIONS.actions)


def _check_session_source(walk: Walk, name: str, collection: str) -> None:
    if name == "$listSessions" and (walk.db, collection) != ("config", "system.sessions"):
        raise CommandError(
            ErrorCode.INVALID_NAMESPACE, "$listSessions may only be run against config.system.sessions"
        )
    if name == "$listLocalSessions" and collection != COLLECTIONLESS:
        raise CommandError(
            ErrorCode.INVALID_NAMESPACE,
            "$listLocalSessions must be run against the database with {aggregate: 1}, not a collection",
        )


def _users(name: str, spec: Document) -> list[tuple[str, str]]:
    users: list[tuple[str, str]] = []
    path = f"{name}.users"
    for view in array_of_documents(name, spec, "users"):
        refuse_unknown_fields(path, view, _USER_FIELDS)
        user, db = optional_string(path, view, "user"), optional_string(path, view, "db")
        if user is None or db is None:
            raise missing_field(path, "user" if user is None else "db")
        users.append((user, db))
    return users


def documents(walk: Walk, _name: str, _stage: Document, collection: str, _depth: int) -> None:
    """`$documents`: its documents are in the command, yet mongod asks for find on the database.

    Over a collection it asks for find there, and then refuses.
    """
    walk.need(ResourcePattern(MatchType.EXACT_NAMESPACE, walk.db, collection), FIND)


def list_cluster_catalog(walk: Walk, name: str, stage: Document, collection: str, _depth: int) -> None:
    """`$listClusterCatalog`: listCollections on the database; in admin, which lists all, listClusterCatalog."""
    refuse_unknown_fields(name, stage_object(name, stage), _CLUSTER_CATALOG_FIELDS)
    if collection != COLLECTIONLESS:
        raise CommandError(
            ErrorCode.INVALID_NAMESPACE, f"{name} must be run against a database with {{aggregate: 1}}"
        )
    if walk.db == "admin":
        walk.need(_LIST_CLUSTER_CATALOG.resource, _LIST_CLUSTER_CATALOG.actions)
    else:
        walk.need(ResourcePattern.for_database(walk.db), _LIST_COLLECTIONS)


def query_stats(walk: Walk, name: str, stage: Document, _collection: str, _depth: int) -> None:
    """`$queryStats`: queryStatsReadTransformed, and queryStatsRead beside it unless hmac-sha-256 hides the names.

    The server knows an algorithm that hides nothing, so only the one that is known to hide them counts.
    """
    transform = stage_object(name, stage).document("transformIdentifiers")
    hidden = transform is not None and transform.string("algorithm") == "hmac-sha-256"
    walk.need(CLUSTER, _HIDDEN_QUERY_STATS if hidden else _QUERY_STATS)
