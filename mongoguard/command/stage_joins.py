"""The aggregation stages with sub-pipelines and foreign collections: joins, unions, facets.

In: one stage's specification, in place. Out: calls on the walk (`run`), or the `CommandError` with which mongod refuses
the form. Every form of a field that names a namespace is understood or refused, never passed over. Must not know
commands. Source: the manual's stage pages; forms, codes and texts measured on mongod 6.0.5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mongoguard.command.arguments import is_absent, missing_field, refuse_unknown_fields, wrong_type
from mongoguard.command.command import check_collection
from mongoguard.command.stage_sources import COLLECTIONLESS, stage_object
from mongoguard.errors import CommandError, ErrorCode
from mongoguard.wire.document import ARRAY, Document

if TYPE_CHECKING:
    from mongoguard.command.pipeline import Walk

__all__ = ["facet", "fusion", "graph_lookup", "lookup", "union_with"]

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
_FOREIGN_FIELDS = frozenset({"db", "coll"})
_FUSION_INPUT = frozenset({"pipelines", "normalization"})


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
    spec = stage_object(name, stage)
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
    refuse_unknown_fields("$lookup.from", view, _FOREIGN_FIELDS)
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
    spec = stage_object(name, stage)
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
    spec = stage_object(name, stage)
    entry = spec.document("input")
    pipelines = None if entry is None else entry.document("pipelines")
    if entry is None or pipelines is None or not pipelines.fields:
        raise missing_field(name, "input.pipelines")
    refuse_unknown_fields(f"{name}.input", entry, _FUSION_INPUT)
    for field, element in pipelines.fields.items():
        if element[0] != ARRAY:
            raise wrong_type(f"{name}.input.pipelines", pipelines, field, "'array'")
        walk.run(walk.db, collection, pipelines.array(field), depth + 1)
