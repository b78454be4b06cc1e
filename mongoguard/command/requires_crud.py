"""Requirements of the commands that read and write documents.

In: a `Command`. Out: its `Requirement`. Must not know who asks. Hot path: one `Privilege` from precomputed sets.
Source: the manual's privilege actions; forms, codes and order of checks measured on mongod 6.0.5.
"""

from __future__ import annotations

from mongoguard.command.arguments import (
    array_of_documents,
    is_absent,
    missing_field,
    optional_string,
    refuse_unknown_fields,
    required_array,
    required_string,
    safe_bool,
    strict_bool,
    unknown_field,
    wrong_type,
)
from mongoguard.command.command import Command, check_collection
from mongoguard.command.pipeline import COLLECTIONLESS, check_update_pipeline, pipeline_requirement
from mongoguard.command.requires import INTERNAL, all_of, full_namespace, needs, privilege_on
from mongoguard.command.spec import Asker
from mongoguard.errors import CommandError, ErrorCode
from mongoguard.model.action_type import ActionType as A
from mongoguard.model.privilege import NOTHING, Privilege, Requirement
from mongoguard.wire.document import BOOL, DOCUMENT, INT32, INT64, NULL, STRING, Document

__all__ = [
    "aggregate",
    "bulk_write",
    "count",
    "delete",
    "find",
    "find_and_modify",
    "get_more",
    "insert",
    "kill_cursors",
    "map_reduce",
    "update",
]

MAX_BATCH = 100_000
"""maxWriteBatchSize of every server since 3.6: a longer batch is refused before its statements are opened."""

FIND = needs(A.FIND)
INSERT = needs(A.INSERT)
UPDATE = needs(A.UPDATE)
UPSERT = needs(A.UPDATE, A.INSERT)
REMOVE = needs(A.REMOVE)
BYPASS = needs(A.BYPASS_DOCUMENT_VALIDATION)
_ENCRYPTED_WRITE = needs(A.FIND, A.INSERT, A.UPDATE, A.REMOVE)

_UPDATE_FIELDS = frozenset(
    {
        "q",
        "u",
        "c",
        "arrayFilters",
        "hint",
        "multi",
        "upsert",
        "upsertSupplied",
        "collation",
        "sort",
        "sampleId",
    }
)
_DELETE_FIELDS = frozenset({"q", "limit", "hint", "collation", "sampleId"})


def _exact(command: Command, actions: frozenset[str]) -> Privilege:
    return privilege_on(command.db, command.collection(), actions)


def _with_encryption(command: Command, need: Requirement, actions: frozenset[str]) -> Requirement:
    """Queryable encryption names its state collections in the command; they are touched on the client's word."""
    if "encryptionInformation" not in command.body.fields:
        return need
    return all_of([need, *_encrypted_state(command.name, command.body, command.db, actions)])


def _encrypted_state(path: str, body: Document, db: str, actions: frozenset[str]) -> list[Requirement]:
    spec = body.document("encryptionInformation")
    if spec is None:
        raise wrong_type(path, body, "encryptionInformation", "'object'")
    schema = spec.document("schema")
    if schema is None:
        raise missing_field(f"{path}.encryptionInformation", "schema")
    parts: list[Requirement] = []
    for namespace in schema.fields:
        entry = schema.document(namespace)
        if entry is None:
            raise wrong_type(f"{path}.encryptionInformation.schema", schema, namespace, "'object'")
        for field, suffix in (("escCollection", "esc"), ("eccCollection", "ecc"), ("ecocCollection", "ecoc")):
            collection = namespace.partition(".")[2]
            name = optional_string(path, entry, field) or f"enxcol_.{collection}.{suffix}"
            check_collection(db, name)
            parts.append(privilege_on(db, name, actions))
    return parts


def _check_read_target(command: Command) -> None:
    """find, count and distinct have a text of their own for a collection that is no string."""
    if not command.is_string(command.name):
        command.refuse_uuid()
        raise CommandError(ErrorCode.INVALID_NAMESPACE, "Failed to parse namespace element")


def find(command: Command, _asker: Asker) -> Requirement:
    """find on the collection; a replication `term` is between servers."""
    _check_read_target(command)
    need: Requirement = _exact(command, FIND)
    if "term" in command.body.fields:  # even a null one, as mongod has it
        need = all_of([need, INTERNAL])
    return _with_encryption(command, need, FIND)


def count(command: Command, _asker: Asker) -> Requirement:
    """count and distinct: find on the collection."""
    _check_read_target(command)
    return _with_encryption(command, _exact(command, FIND), FIND)


def _check_batch(command: Command, field: str) -> None:
    """Refuse an empty or too long batch of statements, as mongod does before it checks privileges."""
    spans = command.sequences.get(field)
    size = _batch_size(required_array(command.name, command.body, field)) if spans is None else len(spans)
    if not 0 < size <= MAX_BATCH:
        raise CommandError(
            ErrorCode.INVALID_LENGTH,
            f"Write batch sizes must be between 1 and {MAX_BATCH}. Got {size} operations.",
        )


def _batch_size(array: Document) -> int:
    """How many statements, or 0 when all of them are null: mongod passes over nulls. Those between others count here:
    that matters only at the limit.
    """
    return len(array) if any(element[0] != NULL for element in array.fields.values()) else 0


def _statements(command: Command, field: str) -> list[Document]:
    if field in command.sequences:
        return command.documents(field) or []
    return array_of_documents(command.name, command.body, field)


def _writes(command: Command, actions: frozenset[str]) -> Requirement:
    if "bypassDocumentValidation" in command.body.fields and safe_bool(
        command.name, command.body, "bypassDocumentValidation"
    ):
        actions = actions | BYPASS
    return _with_encryption(command, _exact(command, actions), _ENCRYPTED_WRITE)


def insert(command: Command, _asker: Asker) -> Requirement:
    """insert on the collection; its documents are not opened."""
    _check_batch(command, "documents")
    return _writes(command, INSERT)


def update(command: Command, _asker: Asker) -> Requirement:
    """update, and insert when any statement upserts."""
    _check_batch(command, "updates")
    actions = UPDATE
    for statement in _statements(command, "updates"):
        if _update_statement(statement):
            actions = UPSERT
    return _writes(command, actions)


def _update_statement(statement: Document) -> bool:
    """Whether the statement upserts."""
    refuse_unknown_fields("update.updates", statement, _UPDATE_FIELDS)
    for field in ("q", "u"):
        if field not in statement.fields:
            raise missing_field("update.updates", field)
    _check_update(statement, "u")
    return strict_bool("update.updates", statement, "upsert")


def _check_update(statement: Document, field: str) -> None:
    pipeline = statement.array(field)
    if pipeline is not None:
        check_update_pipeline(pipeline)
    elif statement.type_of(field) != DOCUMENT:
        raise CommandError(ErrorCode.FAILED_TO_PARSE, "Update argument must be either an object or an array")


def delete(command: Command, _asker: Asker) -> Requirement:
    """remove on the collection."""
    _check_batch(command, "deletes")
    for statement in _statements(command, "deletes"):
        refuse_unknown_fields("delete.deletes", statement, _DELETE_FIELDS)
    return _writes(command, REMOVE)


def find_and_modify(command: Command, _asker: Asker) -> Requirement:
    """find, and what the one statement does; `remove` and `upsert` take numbers as bools."""
    body, path = command.body, "findAndModify"
    removes, upserts = safe_bool(path, body, "remove"), safe_bool(path, body, "upsert")
    actions = FIND
    if removes and upserts:
        raise CommandError(ErrorCode.FAILED_TO_PARSE, "Cannot specify both upsert=true and remove=true ")
    if not is_absent(body, "update"):
        _check_update(body, "update")
        actions = actions | UPDATE
    elif not removes:
        raise CommandError(ErrorCode.FAILED_TO_PARSE, "Either an update or remove=true must be specified")
    if removes:
        actions = actions | REMOVE
    if upserts:
        actions = actions | UPSERT
    return _writes(command, actions)


def aggregate(command: Command, asker: Asker) -> Requirement:
    """What the pipeline needs over the collection, or over `{aggregate: 1}`."""
    body = command.body
    collection = _aggregate_target(command)
    element = body.fields.get("pipeline")
    if element is None:
        raise missing_field("aggregate", "pipeline")
    pipeline = body.array("pipeline")
    if pipeline is None:
        raise CommandError(ErrorCode.TYPE_MISMATCH, "'pipeline' option must be specified as an array")
    if "explain" in body.fields and body.type_of("explain") != BOOL:
        raise CommandError(ErrorCode.TYPE_MISMATCH, "explain must be a boolean")
    bypass = "bypassDocumentValidation" in body.fields and safe_bool(
        "aggregate", body, "bypassDocumentValidation"
    )
    need = pipeline_requirement(command.db, collection, pipeline, asker, bypass=bypass)
    return _with_encryption(command, need, FIND)


def _aggregate_target(command: Command) -> str:
    if command.is_string(command.name):
        return command.collection()
    number = command.body.number(command.name)
    if number is None:
        command.refuse_uuid()
        raise CommandError(
            ErrorCode.TYPE_MISMATCH,
            f"collection name has invalid type: {command.body.type_name(command.name)}",
        )
    if number != 1:
        raise CommandError(
            ErrorCode.FAILED_TO_PARSE,
            "Invalid command format: the 'aggregate' field must specify a collection name or 1",
        )
    return COLLECTIONLESS


_OUT_MODES = {"replace": needs(A.INSERT, A.REMOVE), "merge": UPSERT, "reduce": UPSERT}
_OUT_FIELDS = frozenset({"inline", "replace", "merge", "reduce", "db", "sharded", "nonAtomic"})


def map_reduce(command: Command, _asker: Asker) -> Requirement:
    """find on the source, and what `out` does to its target, which may be in another database."""
    if not command.is_string(command.name):
        command.refuse_uuid()
        raise CommandError(
            13111, f"wrong type for field ({command.name}) {command.body.type_name(command.name)} != string"
        )
    read = _exact(command, FIND)
    kind = command.body.type_of("out")
    if kind == STRING:
        target = command.body.string("out") or ""
        return all_of([read, *_map_reduce_out(command, command.db, target, _OUT_MODES["replace"])])
    spec = command.body.document("out")
    if spec is None:
        raise CommandError(13606, "'out' has to be a string or an object")
    return all_of([read, *_map_reduce_object(command, spec)])


def _map_reduce_object(command: Command, spec: Document) -> list[Requirement]:
    refuse_unknown_fields("mapReduce.out", spec, _OUT_FIELDS)
    modes = [name for name in spec.fields if name in _OUT_MODES or name == "inline"]
    if len(modes) != 1:  # with several, which one counts would depend on the server
        raise CommandError(13522, "please specify one of [replace|merge|reduce|inline] in 'out' object")
    mode = modes[0]
    if mode == "inline":
        return []
    for field in (mode, "db"):
        if field in spec and spec.type_of(field) != STRING:
            raise CommandError(13111, f"wrong type for field ({field}) {spec.type_name(field)} != string")
    db = spec.string("db") if "db" in spec else command.db
    return _map_reduce_out(command, db or "", spec.string(mode) or "", _OUT_MODES[mode])


def _map_reduce_out(command: Command, db: str, collection: str, actions: frozenset[str]) -> list[Requirement]:
    if not db or not collection:
        raise CommandError(ErrorCode.INVALID_NAMESPACE, f"Invalid 'out' namespace: {db}.{collection}")
    check_collection(db, collection)
    if safe_bool("mapReduce", command.body, "bypassDocumentValidation"):
        actions = actions | BYPASS
    return [privilege_on(db, collection, actions)]


def get_more(command: Command, _asker: Asker) -> Requirement:
    """Free: whose cursor it is, the cursor table knows. A replication `term` is between servers."""
    if command.body.type_of(command.name) != INT64:
        raise wrong_type("getMore", command.body, command.name, "'long'")
    required_string("getMore", command.body, "collection")
    return INTERNAL if "term" in command.body.fields else NOTHING


def kill_cursors(command: Command, _asker: Asker) -> Requirement:
    """Free: whose cursors they are, the cursor table knows."""
    command.target_string()
    cursors = required_array("killCursors", command.body, "cursors")
    for key, element in cursors.fields.items():
        if element[0] not in (INT64, NULL):
            raise wrong_type("killCursors.cursors", cursors, key, "'long'")
    return NOTHING


_BULK_NAMESPACE_FIELDS = frozenset({"ns", "collectionUUID", "encryptionInformation"})
_BULK_OPS: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "insert": (INSERT, frozenset({"insert", "document"})),
    "update": (
        UPDATE,
        frozenset(
            {
                "update",
                "filter",
                "sort",
                "multi",
                "updateMods",
                "upsert",
                "arrayFilters",
                "hint",
                "constants",
                "collation",
            }
        ),
    ),
    "delete": (REMOVE, frozenset({"delete", "filter", "multi", "hint", "collation"})),
}


def bulk_write(command: Command, _asker: Asker) -> Requirement:
    """The union over all operations; bypassing validation needs its action on every namespace listed, used or not."""
    for field in ("ops", "nsInfo"):
        _check_batch(command, field)
        _refuse_nulls(command, field)
    entries = _statements(command, "nsInfo")
    needed = [_bulk_namespace(entry) for entry in entries]
    actions: list[frozenset[str]] = [frozenset()] * len(entries)
    for op in _statements(command, "ops"):
        index, wanted = _bulk_op(op, len(entries))
        actions[index] |= wanted
    if safe_bool("bulkWrite", command.body, "bypassDocumentValidation"):
        actions = [wanted | BYPASS for wanted in actions]
    parts: list[Requirement] = []
    for (db, collection, state), wanted in zip(needed, actions, strict=True):
        if wanted:
            parts.append(privilege_on(db, collection, wanted))
        parts.extend(state)
    return all_of(parts)


def _refuse_nulls(command: Command, field: str) -> None:
    """Which namespace an index means depends on whether nulls count, which was not measured on the servers that have
    this command.
    """
    array = command.body.array(field)
    if array is not None and any(element[0] == NULL for element in array.fields.values()):
        raise CommandError(
            ErrorCode.TYPE_MISMATCH, f"BSON field 'bulkWrite.{field}' holds a null, expected objects"
        )


def _bulk_namespace(entry: Document) -> tuple[str, str, list[Requirement]]:
    refuse_unknown_fields("bulkWrite.nsInfo", entry, _BULK_NAMESPACE_FIELDS)
    namespace = full_namespace(required_string("bulkWrite.nsInfo", entry, "ns"))
    state: list[Requirement] = []
    if "encryptionInformation" in entry:
        state = _encrypted_state("bulkWrite.nsInfo", entry, namespace.db, _ENCRYPTED_WRITE)
    return namespace.db, namespace.collection, state


def _bulk_op(op: Document, count: int) -> tuple[int, frozenset[str]]:
    kind = next(iter(op.fields), "")
    if kind not in _BULK_OPS:
        raise unknown_field("bulkWrite.ops", kind)
    wanted, known = _BULK_OPS[kind]
    refuse_unknown_fields(f"bulkWrite.ops.{kind}", op, known)
    index = op.number(kind)
    if op.type_of(kind) not in (INT32, INT64) or not isinstance(index, int) or not 0 <= index < count:
        raise CommandError(ErrorCode.BAD_VALUE, "BulkWrite ops entry has an invalid nsInfo index.")
    if kind == "update":
        _check_update(op, "updateMods")
        if strict_bool("bulkWrite.ops.update", op, "upsert"):
            wanted = UPSERT
    return index, wanted
