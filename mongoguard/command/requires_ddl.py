"""Requirements of the commands that create, change, describe and drop collections, views and indexes.

In: a `Command`. Out: its `Requirement`. Must not know who asks.
Source: the manual's privilege actions; the non-monotonic rules of views and renameCollection, forms and codes were
measured on mongod 6.0.5.
"""

from __future__ import annotations

from mongoguard.command.arguments import (
    is_absent,
    optional_string,
    required_array,
    safe_bool,
    strict_bool,
    wrong_type,
)
from mongoguard.command.command import MAX_DB_NAME, Command, check_collection
from mongoguard.command.pipeline import pipeline_requirement
from mongoguard.command.requires import ANY_NORMAL, all_of, full_namespace, needs, privilege_on
from mongoguard.command.spec import Asker
from mongoguard.errors import CommandError, ErrorCode
from mongoguard.model.action_type import ActionType as A
from mongoguard.model.names import Namespace
from mongoguard.model.privilege import AllOf, AnyActionInDatabase, AnyOf, NotHeld, Privilege, Requirement
from mongoguard.model.resource_pattern import CLUSTER, ResourcePattern, is_normal_collection
from mongoguard.wire.document import DECIMAL128, DOUBLE, INT32, INT64, STRING

__all__ = [
    "check_metadata_consistency",
    "clone_as_capped",
    "coll_mod",
    "configure_collection_balancing",
    "create",
    "filemd5",
    "list_collections",
    "profile",
    "rename_collection",
    "validate_db_metadata",
]

_NUMBERS = (INT32, INT64, DOUBLE, DECIMAL128)


def _view_rule(command: Command, asker: Asker, collection: str, view_on: str) -> Requirement:
    """Who may read the view must be able to run it; who may not may define it as they like (as mongod has it)."""
    pipeline = None
    if not is_absent(command.body, "pipeline"):
        pipeline = required_array(command.name, command.body, "pipeline")
    runs = pipeline_requirement(command.db, view_on, pipeline, asker)
    return AnyOf((NotHeld(privilege_on(command.db, collection, needs(A.FIND))), runs))


def create(command: Command, asker: Asker) -> Requirement:
    """createCollection or insert; capped: also convertToCapped; a view: createCollection and the view rule."""
    collection = command.collection()
    also = needs(A.CONVERT_TO_CAPPED) if safe_bool("create", command.body, "capped") else needs()
    creates = privilege_on(command.db, collection, needs(A.CREATE_COLLECTION) | also)
    view_on = optional_string("create", command.body, "viewOn")
    if view_on is not None:
        if not view_on:
            raise CommandError(ErrorCode.BAD_VALUE, "'viewOn' cannot be empty")
        check_collection(command.db, view_on)
        return all_of([creates, _view_rule(command, asker, collection, view_on)])
    return AnyOf((creates, privilege_on(command.db, collection, needs(A.INSERT) | also)))


def coll_mod(command: Command, asker: Asker) -> Requirement:
    """collMod; redefining a view needs both halves of its definition, and the view rule."""
    collection = command.collection()
    changes = privilege_on(command.db, collection, needs(A.COLL_MOD))
    has_view_on, has_pipeline = not is_absent(command.body, "viewOn"), not is_absent(command.body, "pipeline")
    if not has_view_on and not has_pipeline:
        return changes
    view_on = optional_string("collMod", command.body, "viewOn")
    if not view_on or not has_pipeline:
        raise CommandError(
            ErrorCode.INVALID_OPTIONS,
            "Must specify both 'viewOn' and 'pipeline' when modifying a view and auth is enabled",
        )
    check_collection(command.db, view_on)
    return all_of([changes, _view_rule(command, asker, collection, view_on)])


def rename_collection(command: Command, _asker: Asker) -> Requirement:
    """Within a database renameCollectionSameDB is enough, unless the target may be read and the source may not.

    Otherwise: find and dropCollection on the source, insert and createIndex on the target.
    """
    source = full_namespace(command.target_string())
    if command.body.type_of("to") != STRING:
        raise CommandError(ErrorCode.TYPE_MISMATCH, "'to' must be of type String")
    target = full_namespace(command.body.string("to") or "")
    drops = not _is_plainly_false(command, "dropTarget")
    copies = _copy_rule(source, target, drops)
    if source.db != target.db or not (is_normal_collection(*source) and is_normal_collection(*target)):
        return copies
    return AnyOf((_same_db_rule(source, target, drops), copies))


def _is_plainly_false(command: Command, field: str) -> bool:
    """Absent, null, false or zero: every other value is taken for true."""
    body = command.body
    return (
        is_absent(body, field)
        or body.boolean(field) is False
        or (body.type_of(field) in (INT32, INT64, DOUBLE) and body.number(field) == 0)
    )


def _copy_rule(source: Namespace, target: Namespace, drops: bool) -> Requirement:
    on_target = needs(A.INSERT, A.CREATE_INDEX, *([A.DROP_COLLECTION] if drops else []))
    return all_of([privilege_on(*source, needs(A.FIND, A.DROP_COLLECTION)), privilege_on(*target, on_target)])


def _same_db_rule(source: Namespace, target: Namespace, drops: bool) -> Requirement:
    renames = Privilege(ResourcePattern.for_database(source.db), needs(A.RENAME_COLLECTION_SAME_DB))
    reads_source = privilege_on(*source, needs(A.FIND))
    reads_target = privilege_on(*target, needs(A.FIND))
    parts: list[Requirement] = [renames, AnyOf((reads_source, NotHeld(reads_target)))]
    if drops:
        parts.append(privilege_on(*target, needs(A.DROP_COLLECTION)))
    return AllOf(tuple(parts))


def clone_as_capped(command: Command, _asker: Asker) -> Requirement:
    """find on the source; convertToCapped, createIndex and insert on the copy."""
    source = command.collection()
    target = command.body.string("toCollection")
    if target is None:
        raise CommandError(ErrorCode.TYPE_MISMATCH, "'toCollection' must be of type String")
    if not target:
        raise CommandError(ErrorCode.INVALID_NAMESPACE, f"Invalid target namespace: {command.db}.")
    check_collection(command.db, target)
    return all_of(
        [
            privilege_on(command.db, source, needs(A.FIND)),
            privilege_on(command.db, target, needs(A.CONVERT_TO_CAPPED, A.CREATE_INDEX, A.INSERT)),
        ]
    )


_PROFILE_SETTINGS = ("slowms", "sampleRate", "filter")


def profile(command: Command, _asker: Asker) -> Requirement:
    """Reading the level (`-1`, nothing else): find on system.profile or enableProfiler; any change: enableProfiler."""
    body = command.body
    if body.type_of(command.name) not in _NUMBERS:
        raise wrong_type("profile", body, command.name, "s '[long, int, decimal, double']")
    changes = Privilege(ResourcePattern.for_database(command.db), needs(A.ENABLE_PROFILER))
    if body.number(command.name) != -1 or any(name in body for name in _PROFILE_SETTINGS):
        return changes
    return AnyOf((privilege_on(command.db, "system.profile", needs(A.FIND)), changes))


def filemd5(command: Command, _asker: Asker) -> Requirement:
    """find on the bucket's chunks (`root` defaults to fs)."""
    root = "fs"
    if "root" in command.body:
        text = command.body.string("root")
        if text is None:
            raise CommandError(ErrorCode.INVALID_NAMESPACE, "'root' must be of type String")
        root = text
    check_collection(command.db, f"{root}.chunks")
    return privilege_on(command.db, f"{root}.chunks", needs(A.FIND))


def validate_db_metadata(command: Command, _asker: Asker) -> Requirement:
    """validate on the database named by `db`, or on any normal resource when none is named."""
    db = optional_string("validateDBMetadata", command.body, "db")
    if db is not None and len(db) > MAX_DB_NAME:
        raise CommandError(ErrorCode.INVALID_NAMESPACE, "database name is too long")
    where = ResourcePattern.for_database(db) if db else ANY_NORMAL
    return Privilege(where, needs(A.VALIDATE))


def list_collections(command: Command, _asker: Asker) -> Requirement:
    """listCollections on the database; names one is authorized for: any privilege on something that could live in it.

    The reply to the second form must be filtered (`asks_authorized_collections`).
    """
    lists = Privilege(ResourcePattern.for_database(command.db), needs(A.LIST_COLLECTIONS))
    body = command.body
    if strict_bool("listCollections", body, "nameOnly") and strict_bool(
        "listCollections", body, "authorizedCollections"
    ):
        return AnyOf((lists, AnyActionInDatabase(command.db)))
    return lists


def check_metadata_consistency(command: Command, _asker: Asker) -> Requirement:
    """checkMetadataConsistency on the cluster; on another database than admin, that database or collection will do."""
    action = needs(A.CHECK_METADATA_CONSISTENCY)
    everywhere = Privilege(CLUSTER, action)
    if command.db == "admin":  # the whole cluster is checked, whatever the command names
        return everywhere
    if command.is_string(command.name):
        return AnyOf((everywhere, privilege_on(command.db, command.collection(), action)))
    return AnyOf((everywhere, Privilege(ResourcePattern.for_database(command.db), action)))


def configure_collection_balancing(command: Command, _asker: Asker) -> Requirement:
    """splitChunk on the collection named in full; defragmenting it, or naming enableBalancing, also moveChunk."""
    moves = "enableBalancing" in command.body or safe_bool(command.name, command.body, "defragmentCollection")
    actions = needs(A.SPLIT_CHUNK, A.MOVE_CHUNK) if moves else needs(A.SPLIT_CHUNK)
    return privilege_on(*full_namespace(command.target_string()), actions)
