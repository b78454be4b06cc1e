"""The aggregation stages that write: `$out` and `$merge`.

In: a stage's specification, in place. Out: calls on the walk (`write`, `run_update`), or the `CommandError` with which
mongod refuses the form. Every form of the target is understood or refused. Must not know commands.
Source: the manual's stage pages; forms, codes and texts measured on mongod 6.0.5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mongoguard.command.arguments import is_absent, missing_field, refuse_unknown_fields, wrong_type
from mongoguard.command.command import check_collection
from mongoguard.command.requires import needs
from mongoguard.errors import CommandError, ErrorCode
from mongoguard.model.action_type import ActionType as A
from mongoguard.wire.document import ARRAY, STRING, Document

if TYPE_CHECKING:
    from mongoguard.command.pipeline import Walk

__all__ = ["merge", "out"]

_INTO_FIELDS = frozenset({"db", "coll"})
_MERGE_FIELDS = frozenset({"into", "on", "let", "whenMatched", "whenNotMatched"})
_OUT_FORMS = (frozenset({"db", "coll"}), frozenset({"db", "coll", "timeseries"}))
_OUT_ACTIONS = needs(A.INSERT, A.REMOVE)

# (whenMatched, whenNotMatched) -> what the stage does to its target. Pairs that are not here are refused with 51181.
_MERGE_MODES: dict[tuple[str, str], frozenset[str]] = {
    **{(m, "insert"): needs(A.INSERT, A.UPDATE) for m in ("replace", "merge", "keepExisting", "pipeline")},
    **{(m, n): needs(A.UPDATE) for m in ("replace", "merge", "pipeline") for n in ("discard", "fail")},
    ("fail", "insert"): needs(A.INSERT),
}


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
