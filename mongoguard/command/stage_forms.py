"""The aggregation stages that name other namespaces, and those that read something else than the collection.

In: one stage's specification, in place. Out: calls on the walk (`need`, `run`), or the `CommandError` with which
mongod refuses the form. Every form of a field that names a namespace is understood or refused, never passed over.
Must not know commands. Source: the manual's stage pages; forms, codes and texts measured on mongod 6.0.5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mongoguard.command.arguments import (
    is_absent,
    missing_field,
    refuse_unknown_fields,
    unknown_field,
    wrong_type,
)
from mongoguard.command.command import check_collection
from mongoguard.command.requires import ANY_NORMAL, INTERNAL, needs
from mongoguard.errors import CommandError, ErrorCode
from mongoguard.model.action_type import ActionType as A
from mongoguard.model.privilege import Privilege
from mongoguard.model.resource_pattern import CLUSTER, MatchType, ResourcePattern
from mongoguard.wire.document import ARRAY, BOOL, DOCUMENT, STRING, Document

if TYPE_CHECKING:
    from mongoguard.command.pipeline import Walk

__all__ = [
    "COLLECTIONLESS",
    "change_stream",
    "current_op",
    "documents",
    "facet",
    "fusion",
    "graph_lookup",
    "list_sessions",
    "lookup",
    "merge",
    "out",
    "query_stats",
    "union_with",
]

COLLECTIONLESS = "$cmd.aggregate"
"""The pseudo-collection of `{aggregate: 1}`: a normal one, so finding in it means find on the database."""

FIND = needs(A.FIND)
_CHANGE_STREAM = needs(A.CHANGE_STREAM, A.FIND)
_LIST_SESSIONS = Privilege(CLUSTER, needs(A.LIST_SESSIONS))
_INPROG = Privilege(CLUSTER, needs(A.INPROG))

_LOOKUP_FIELDS = frozenset({"from", "as", "localField", "foreignField", "let", "pipeline"})
_GRAPH_LOOKUP_FIELDS = frozenset(
    {
        "from",
        "as",
        "startWith",
        "connectFromField",
        "connectToField",
        "maxDepth",
        "depthField",
        "restrictSearchWithMatch",
    }
)
_UNION_FIELDS = frozenset({"coll", "pipeline"})
_MERGE_FIELDS = frozenset({"into", "on", "let", "whenMatched", "whenNotMatched"})
_INTO_FIELDS = frozenset({"db", "coll"})
_OUT_FORMS = (frozenset({"db", "coll"}), frozenset({"db", "coll", "timeseries"}))
_FUSION_INPUT = frozenset({"pipelines", "normalization"})
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

# (whenMatched, whenNotMatched) -> what the stage does to its target. Pairs that are not here are refused with 51181.
_MERGE_MODES: dict[tuple[str, str], frozenset[str]] = {
    **{(m, "insert"): needs(A.INSERT, A.UPDATE) for m in ("replace", "merge", "keepExisting", "pipeline")},
    **{(m, n): needs(A.UPDATE) for m in ("replace", "merge", "pipeline") for n in ("discard", "fail")},
    ("fail", "insert"): needs(A.INSERT),
}
_OUT_ACTIONS = needs(A.INSERT, A.REMOVE)


def _object(name: str, stage: Document, code: int = ErrorCode.FAILED_TO_PARSE) -> Document:
    view = stage.document(name)
    if view is None:
        raise CommandError(
            code, f"the {name} stage specification must be an object, but found {stage.type_name(name)}"
        )
    return view


def _sub_pipeline(spec: Document, field: str) -> Document | None:
    if field not in spec:
        return None
    array = spec.array(field)
    if array is None:
        raise CommandError(ErrorCode.TYPE_MISMATCH, f"'{field}' option must be specified as an array")
    return array


def _foreign_name(name: str, collection: str) -> str:
    if not collection:
        raise CommandError(ErrorCode.INVALID_NAMESPACE, f"invalid {name} namespace: the collection is empty")
    check_collection("", collection)
    return collection


def lookup(walk: Walk, name: str, stage: Document, _collection: str, depth: int) -> None:
    """`$lookup`: find on the foreign collection, or the privilege of the source that its sub-pipeline starts with."""
    spec = _object(name, stage)
    for field in spec.fields:
        if field not in _LOOKUP_FIELDS:
            raise CommandError(ErrorCode.FAILED_TO_PARSE, f"unknown argument to $lookup: {field}")
    pipeline = _sub_pipeline(spec, "pipeline")
    if "from" not in spec:
        if pipeline is None:
            raise CommandError(ErrorCode.FAILED_TO_PARSE, "must specify 'pipeline' when 'from' is empty")
        _documents_only(walk, name, pipeline, depth)
        return
    db, collection = _lookup_source(walk, spec)
    walk.run(db, collection, pipeline, depth + 1)


def _lookup_source(walk: Walk, spec: Document) -> tuple[str, str]:
    text = spec.string("from")
    if text is not None:
        return walk.db, _foreign_name("$lookup", text)
    view = spec.document("from")
    if view is None:
        raise CommandError(
            ErrorCode.FAILED_TO_PARSE,
            f"$lookup 'from' field must be a string, but found {spec.type_name('from')}",
        )
    refuse_unknown_fields("$lookup.from", view, _INTO_FIELDS)
    db, collection = view.string("db") or "", view.string("coll") or ""
    # The only namespaces of other databases that a server lets a pipeline join; there find is checked as everywhere.
    if (db, collection) != ("local", "oplog.rs") and not (
        db == "config" and collection.startswith("cache.chunks.")
    ):
        raise _unsupported_form("$lookup", db, collection)
    return db, collection


def _unsupported_form(name: str, db: str, collection: str) -> CommandError:
    return CommandError(
        ErrorCode.FAILED_TO_PARSE,
        f"{name} with syntax {{from: {{db:<>, coll:<>}},..}} is not supported for db: {db} and coll: {collection}",
    )


def _documents_only(walk: Walk, name: str, pipeline: Document | None, depth: int) -> None:
    """A join without a collection: its pipeline must begin with `$documents`, which needs find on the database."""
    first = (
        None if pipeline is None or not pipeline.fields else pipeline.document(next(iter(pipeline.fields)))
    )
    if pipeline is None or first is None or "$documents" not in first:
        raise CommandError(
            ErrorCode.FAILED_TO_PARSE,
            f"{name} stage without explicit collection must have a pipeline with $documents as first stage",
        )
    walk.run(walk.db, COLLECTIONLESS, pipeline, depth + 1)


def graph_lookup(walk: Walk, name: str, stage: Document, _collection: str, depth: int) -> None:
    """`$graphLookup`: find on the collection it searches."""
    spec = _object(name, stage)
    for field in spec.fields:
        if field not in _GRAPH_LOOKUP_FIELDS:
            raise CommandError(40104, f"Unknown argument to $graphLookup: {field}")
    if "from" not in spec:
        raise CommandError(
            ErrorCode.FAILED_TO_PARSE, "missing 'from' option to $graphLookup stage specification"
        )
    text = spec.string("from")
    if text is None:
        view = spec.document("from")
        if view is not None:
            raise _unsupported_form(name, view.string("db") or "", view.string("coll") or "")
        raise CommandError(
            ErrorCode.FAILED_TO_PARSE,
            f"$graphLookup 'from' field must be a string, but found {spec.type_name('from')}",
        )
    walk.run(walk.db, _foreign_name(name, text), None, depth + 1)


def union_with(walk: Walk, name: str, stage: Document, _collection: str, depth: int) -> None:
    """`$unionWith`: a collection's name, or `{coll, pipeline}`."""
    text = stage.string(name)
    if text is not None:
        walk.run(walk.db, _foreign_name(name, text), None, depth + 1)
        return
    spec = stage.document(name)
    if spec is None:
        raise CommandError(
            ErrorCode.FAILED_TO_PARSE,
            "the $unionWith stage specification must be an object or string, "
            f"but found {stage.type_name(name)}",
        )
    refuse_unknown_fields(name, spec, _UNION_FIELDS)
    pipeline = None
    if not is_absent(spec, "pipeline"):
        pipeline = spec.array("pipeline")
        if pipeline is None:
            raise wrong_type(name, spec, "pipeline", "'array'")
    if is_absent(spec, "coll"):
        _documents_only(walk, name, pipeline, depth)
        return
    collection = spec.string("coll")
    if collection is None:
        raise wrong_type(name, spec, "coll", "'string'")
    walk.run(walk.db, _foreign_name(name, collection), pipeline, depth + 1)


def facet(walk: Walk, name: str, stage: Document, collection: str, depth: int) -> None:
    """`$facet`: every sub-pipeline is walked; they read the documents that arrive, so none adds a find of its own."""
    spec = stage.document(name)
    if spec is None or not spec.fields:
        raise CommandError(40169, "the $facet specification must be a non-empty object")
    for field, element in spec.fields.items():
        if element[0] != ARRAY:
            raise CommandError(
                40170, f"arguments to $facet must be arrays, {field} is type {spec.type_name(field)}"
            )
        walk.run(walk.db, collection, spec.array(field), depth + 1, reads=False)


def fusion(walk: Walk, name: str, stage: Document, collection: str, depth: int) -> None:
    """`$rankFusion`, `$scoreFusion`: `input.pipelines` holds pipelines by name, all over the same collection."""
    spec = _object(name, stage)
    entry = spec.document("input")
    pipelines = None if entry is None else entry.document("pipelines")
    if entry is None or pipelines is None or not pipelines.fields:
        raise missing_field(name, "input.pipelines")
    refuse_unknown_fields(f"{name}.input", entry, _FUSION_INPUT)
    for field, element in pipelines.fields.items():
        if element[0] != ARRAY:
            raise wrong_type(f"{name}.input.pipelines", pipelines, field, "'array'")
        walk.run(walk.db, collection, pipelines.array(field), depth + 1)


def out(walk: Walk, name: str, stage: Document, _collection: str, _depth: int) -> None:
    """`$out`: replaces its target: insert and remove there."""
    text = stage.string(name)
    if text is not None:
        db, collection = walk.db, text
    else:
        db, collection = _out_object(name, stage)
    if not db or not collection:
        raise CommandError(ErrorCode.INVALID_NAMESPACE, f"Invalid $out target namespace, {db}.{collection}")
    check_collection(db, collection)
    walk.write(db, collection, _OUT_ACTIONS)


def _out_object(name: str, stage: Document) -> tuple[str, str]:
    spec = stage.document(name)
    if spec is None:
        raise CommandError(
            16990, f"$out only supports a string or object argument, but found {stage.type_name(name)}"
        )
    if spec.fields.keys() not in _OUT_FORMS:
        raise CommandError(
            16994, "If an object is passed to $out it must have exactly 2 fields: 'db' and 'coll'"
        )
    db, collection = spec.string("db"), spec.string("coll")
    if db is None or collection is None:
        field = "db" if db is None else "coll"
        raise CommandError(13111, f"wrong type for field ({field}) {spec.type_name(field)} != string")
    return db, collection


def merge(walk: Walk, name: str, stage: Document, _collection: str, _depth: int) -> None:
    """`$merge`: insert and update on its target, as far as its two modes need them."""
    text = stage.string(name)
    if text is not None:
        _merge_into(walk, walk.db, text, "merge", "insert")
        return
    spec = stage.document(name)
    if spec is None:
        raise CommandError(
            ErrorCode.TYPE_MISMATCH,
            f"$merge requires a string or object argument, but found {stage.type_name(name)}",
        )
    refuse_unknown_fields(name, spec, _MERGE_FIELDS)
    db, collection = _merge_target(walk, spec)
    _merge_into(walk, db, collection, _when_matched(walk, spec), _when_not_matched(spec))


def _merge_into(walk: Walk, db: str, collection: str, matched: str, not_matched: str) -> None:
    if not collection:
        raise CommandError(5786800, "$merge 'into' field cannot be an empty string")
    check_collection(db, collection)
    actions = _MERGE_MODES.get((matched, not_matched))
    if actions is None:
        raise CommandError(
            51181,
            f"Combination of $merge modes 'whenMatched: {matched}' and 'whenNotMatched: {not_matched}' "
            "is not supported",
        )
    walk.write(db, collection, actions)


def _merge_target(walk: Walk, spec: Document) -> tuple[str, str]:
    if "into" not in spec:
        raise missing_field("$merge", "into")
    kind = spec.type_of("into")
    if kind == STRING:
        return walk.db, spec.string("into") or ""
    view = spec.document("into")
    if view is None:
        raise CommandError(
            51178,
            f"$merge 'into' field  must be either a string or an object, but found {spec.type_name('into')}",
        )
    refuse_unknown_fields("into", view, _INTO_FIELDS)
    for field in view.fields:
        if view.type_of(field) != STRING:
            raise wrong_type("into", view, field, "'string'")
    collection = view.string("coll")
    if not collection:
        raise CommandError(
            5786801, "$merge 'into' field must specify a 'coll' that is not empty, null or undefined"
        )
    return view.string("db") or walk.db, collection


def _when_matched(walk: Walk, spec: Document) -> str:
    kind = spec.type_of("whenMatched")
    if kind is None:
        return "merge"
    if kind == ARRAY:
        pipeline = spec.array("whenMatched")
        assert pipeline is not None  # its type was just checked
        walk.run_update(pipeline)
        return "pipeline"
    text = spec.string("whenMatched")
    if text is None:
        raise CommandError(
            51191,
            "$merge 'whenMatched' field  must be either a string or an array, "
            f"but found {spec.type_name('whenMatched')}",
        )
    if text not in ("replace", "merge", "keepExisting", "fail"):
        raise CommandError(
            ErrorCode.BAD_VALUE, f"Enumeration value '{text}' for field 'whenMatched' is not a valid value."
        )
    return text


def _when_not_matched(spec: Document) -> str:
    if is_absent(spec, "whenNotMatched"):
        return "insert"
    text = spec.string("whenNotMatched")
    if text is None:
        raise wrong_type("$merge", spec, "whenNotMatched", "'string'")
    if text not in ("insert", "discard", "fail"):
        raise CommandError(
            ErrorCode.BAD_VALUE,
            f"Enumeration value '{text}' for field '$merge.whenNotMatched' is not a valid value.",
        )
    return text


def change_stream(walk: Walk, name: str, stage: Document, collection: str, _depth: int) -> None:
    """`$changeStream`: changeStream and find on the collection, on the database, or on any normal resource."""
    spec = stage.document(name)
    if spec is None:
        raise CommandError(6188500, f"{name} must take a nested object")
    if collection != COLLECTIONLESS:
        walk.need(ResourcePattern(MatchType.EXACT_NAMESPACE, walk.db, collection), _CHANGE_STREAM)
    elif walk.db != "admin":
        walk.need(ResourcePattern.for_database(walk.db), _CHANGE_STREAM)
    if (walk.db == "admin" and collection == COLLECTIONLESS) or spec.truthy("allChangesForCluster"):
        walk.need(ANY_NORMAL, _CHANGE_STREAM)
    if not spec.fields.keys() <= _CHANGE_STREAM_FIELDS:
        # Options between servers (allowToRunOnConfigDB, showMigrationEvents, …), and whatever is not documented.
        walk.need(INTERNAL.resource, INTERNAL.actions)


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
    _check_session_source(walk, name, collection)
    all_users = spec.boolean("allUsers")
    if all_users is None and not is_absent(spec, "allUsers"):
        raise wrong_type(name, spec, "allUsers", "'bool'")
    others = [] if is_absent(spec, "users") else [u for u in _users(name, spec) if u != walk.asker.user]
    if all_users or others:
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
    array = spec.array("users")
    if array is None:
        raise wrong_type(name, spec, "users", "'array'")
    users: list[tuple[str, str]] = []
    for key, element in array.fields.items():
        view = array.document(key) if element[0] == DOCUMENT else None
        if view is None:
            raise wrong_type(f"{name}.users", array, key, "'object'")
        for field in view.fields:
            if field not in ("user", "db"):
                raise unknown_field(f"{name}.users", field)
        user, db = view.string("user"), view.string("db")
        if user is None or db is None:
            raise missing_field(f"{name}.users", "user" if user is None else "db")
        users.append((user, db))
    return users


def documents(walk: Walk, _name: str, _stage: Document, _collection: str, _depth: int) -> None:
    """`$documents`: its documents are in the command, yet mongod asks for find on the database."""
    walk.need(ResourcePattern(MatchType.EXACT_NAMESPACE, walk.db, COLLECTIONLESS), FIND)


def query_stats(walk: Walk, name: str, stage: Document, _collection: str, _depth: int) -> None:
    """`$queryStats`: reading the shapes needs queryStatsRead; transformed (hashed) ones queryStatsReadTransformed."""
    spec = _object(name, stage)
    transformed = not is_absent(spec, "transformIdentifiers")
    walk.need(CLUSTER, needs(A.QUERY_STATS_READ_TRANSFORMED if transformed else A.QUERY_STATS_READ))
