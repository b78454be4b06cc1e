"""The forms of single commands, one by one: what each needs, and which are refused; codes measured on mongod 6.0.5."""

from __future__ import annotations

from typing import Any

import pytest
from bson import Binary, Decimal128, Int64

from mongoguard.command.requires import all_of
from mongoguard.errors import CommandError
from mongoguard.model.privilege import (
    NOTHING,
    AllOf,
    AnyActionInDatabase,
    AnyOf,
    NotHeld,
    Privilege,
    Requirement,
)
from mongoguard.model.resource_pattern import ResourcePattern
from tests.unit.command.commands import any_normal, cluster, database, namespace, required

UUID = Binary(b"u" * 16, 4)
STATE = ("enxcol_.c.esc", "enxcol_.c.ecc", "enxcol_.c.ecoc")
WRITE = ("find", "insert", "update", "remove")
BULK: dict[str, Any] = {"bulkWrite": 1, "nsInfo": [{"ns": "t.a"}, {"ns": "d.b"}]}
INSERT_OP: dict[str, Any] = {"op": "i", "ns": "t.c", "o": {}}


def refusal(body: dict[str, Any], db: str = "t", **more: Any) -> tuple[int, str]:
    with pytest.raises(CommandError) as error:
        required(body, db, **more)
    return error.value.code, error.value.errmsg


def state(*actions: str) -> list[Privilege]:
    return [namespace("t", name, *actions) for name in STATE]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"find": "c"}, all_of([namespace("t", "c", "find"), *state("find")])),
        ({"count": "c"}, all_of([namespace("t", "c", "find"), *state("find")])),
        ({"distinct": "c"}, all_of([namespace("t", "c", "find"), *state("find")])),
        ({"aggregate": "c", "pipeline": []}, all_of([namespace("t", "c", "find"), *state("find")])),
        ({"insert": "c", "documents": [{}]}, all_of([namespace("t", "c", "insert"), *state(*WRITE)])),
        (
            {"update": "c", "updates": [{"q": {}, "u": {}}]},
            all_of([namespace("t", "c", "update"), *state(*WRITE)]),
        ),
        ({"delete": "c", "deletes": [{}]}, all_of([namespace("t", "c", "remove"), *state(*WRITE)])),
        (
            {"findAndModify": "c", "remove": True},
            all_of([namespace("t", "c", "find", "remove"), *state(*WRITE)]),
        ),
    ],
)
def test_encryption_touches_its_state_collections_as_the_command_does(
    body: dict[str, Any], expected: Requirement
) -> None:
    assert required({**body, "encryptionInformation": {"schema": {"t.c": {}}}}) == expected


def test_encryption_takes_the_names_that_the_command_gives() -> None:
    schema = {"t.c": {"escCollection": "a", "eccCollection": "b", "ecocCollection": "e"}, "t.d.x": {}}
    need = required({"find": "c", "encryptionInformation": {"schema": schema}})
    names = ("c", "a", "b", "e", "enxcol_.d.x.esc", "enxcol_.d.x.ecc", "enxcol_.d.x.ecoc")
    assert need == all_of([namespace("t", name, "find") for name in names])


@pytest.mark.parametrize(
    ("information", "code", "path"),
    [
        (5, 14, "find.encryptionInformation"),
        ({}, 40414, "find.encryptionInformation.schema"),
        ({"schema": {"t.c": 5}}, 14, "find.encryptionInformation.schema.t.c"),
        ({"schema": {"t.c": {"escCollection": 5}}}, 14, "find.escCollection"),
    ],
)
def test_encryption_that_is_not_understood_is_refused(information: Any, code: int, path: str) -> None:
    got, errmsg = refusal({"find": "c", "encryptionInformation": information})
    assert got == code
    assert errmsg.startswith(f"BSON field '{path}' is ")


def test_encryption_may_not_name_the_servers_own_collections() -> None:
    schema = {"t.c": {"escCollection": "a$b"}}
    assert refusal({"find": "c", "encryptionInformation": {"schema": schema}})[0] == 73


@pytest.mark.parametrize(
    ("command", "field", "statement", "action"),
    [
        ("update", "updates", {"q": {}, "u": {}}, "update"),
        ("delete", "deletes", {"q": {}, "limit": 1}, "remove"),
        ("insert", "documents", {}, "insert"),
    ],
)
def test_nulls_among_statements_are_passed_over(
    command: str, field: str, statement: dict[str, Any], action: str
) -> None:
    for statements in ([None, statement], [statement, None], [statement]):
        assert required({command: "c", field: statements}) == namespace("t", "c", action)


def test_a_null_does_not_hide_the_statement_behind_it() -> None:
    upsert = {"q": {}, "u": {}, "upsert": True}
    assert required({"update": "c", "updates": [None, upsert]}) == namespace("t", "c", "update", "insert")


@pytest.mark.parametrize("name", ["find", "count", "distinct"])
@pytest.mark.parametrize("value", [5, None, {}, Binary(b"u" * 16, 3)])
def test_a_read_of_no_collection_is_refused_in_its_own_words(name: str, value: Any) -> None:
    assert refusal({name: value}) == (73, "Failed to parse namespace element")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"update": "c", "updates": [{"u": {}}]}, 40414),
        ({"update": "c", "updates": [{"q": {}}]}, 40414),
        ({"update": "c", "updates": [{"q": {}, "u": 5}]}, 9),
        ({"update": "c", "updates": [{"q": {}, "u": None}]}, 9),
        ({"update": "c", "updates": [{"q": {}, "u": {}, "bogus": 1}]}, 40415),
        ({"update": "c", "updates": [{"q": {}, "u": {}}, 5]}, 14),
        ({"update": "c", "updates": {}}, 14),
        ({"delete": "c", "deletes": [{"q": {}, "bogus": 1}]}, 40415),
        ({"delete": "c", "deletes": [5]}, 14),
        ({"delete": "c", "deletes": []}, 16),
        ({"delete": "c"}, 40414),
        ({"insert": "c", "documents": 5}, 14),
        ({"findAndModify": "c", "update": 5}, 9),
        ({"findAndModify": "c", "update": {}, "upsert": "x"}, 14),
        ({"findAndModify": "c", "remove": "x"}, 14),
        ({"findAndModify": 5, "remove": True}, 2),
        ({"findAndModify": "c", "remove": True, "upsert": True}, 9),
        ({"aggregate": "c"}, 40414),
        ({"aggregate": "c", "pipeline": [], "explain": 1}, 14),
        ({"aggregate": "c", "pipeline": [], "bypassDocumentValidation": "x"}, 14),
        ({"aggregate": UUID, "pipeline": []}, 73),
        ({"getMore": 5, "collection": "c"}, 14),
        ({"getMore": "c", "collection": "c"}, 14),
        ({"getMore": Int64(5)}, 40414),
        ({"getMore": Int64(5), "collection": 5}, 14),
        ({"killCursors": 5, "cursors": []}, 2),
        ({"killCursors": "c"}, 40414),
        ({"killCursors": "c", "cursors": 5}, 14),
        ({"killCursors": "c", "cursors": [Int64(5), 5]}, 14),
    ],
)
def test_a_form_that_mongod_refuses_is_refused(body: dict[str, Any], code: int) -> None:
    assert refusal(body)[0] == code


def test_killing_cursors_and_reading_on_is_free() -> None:
    assert required({"killCursors": "c", "cursors": [Int64(5), Int64(6)]}) == NOTHING
    assert required({"killCursors": "c", "cursors": []}) == NOTHING
    assert required({"getMore": Int64(5), "collection": "c"}) == NOTHING


@pytest.mark.parametrize("value", [True, False])
def test_an_aggregation_may_be_explained_with_a_bool(value: bool) -> None:
    assert required({"aggregate": "c", "pipeline": [], "explain": value}) == namespace("t", "c", "find")


@pytest.mark.parametrize("number", [1, 1.0, Int64(1), Decimal128("1")])
def test_aggregating_one_is_aggregating_without_a_collection(number: Any) -> None:
    assert required({"aggregate": number, "pipeline": []}) == namespace("t", "$cmd.aggregate", "find")


@pytest.mark.parametrize(
    ("body", "actions"),
    [
        ({"insert": "c", "documents": [{}]}, ("insert",)),
        ({"update": "c", "updates": [{"q": {}, "u": {}}]}, ("update",)),
        ({"delete": "c", "deletes": [{}]}, ("remove",)),
        ({"findAndModify": "c", "update": {}}, ("find", "update")),
    ],
)
@pytest.mark.parametrize(
    ("bypass", "asked"), [(True, True), (1, True), (False, False), (None, False), (0, False)]
)
def test_bypassing_validation_is_an_action_of_its_own(
    body: dict[str, Any], actions: tuple[str, ...], bypass: Any, asked: bool
) -> None:
    more = ("bypassDocumentValidation",) if asked else ()
    assert required({**body, "bypassDocumentValidation": bypass}) == namespace("t", "c", *actions, *more)


@pytest.mark.parametrize(
    ("more", "actions"),
    [
        ({"update": {}}, ("find", "update")),
        ({"update": {}, "upsert": True}, ("find", "update", "insert")),
        ({"remove": True}, ("find", "remove")),
        ({"remove": True, "update": {}}, ("find", "remove", "update")),
        ({"update": [{"$set": {"a": 1}}]}, ("find", "update")),
    ],
)
def test_find_and_modify_needs_everything_that_it_is_told_to_do(
    more: dict[str, Any], actions: tuple[str, ...]
) -> None:
    assert required({"findAndModify": "c", **more}) == namespace("t", "c", *actions)


READ = namespace("t", "c", "find")


@pytest.mark.parametrize(
    ("out", "target"),
    [
        ({"inline": 1}, None),
        ("o", namespace("t", "o", "insert", "remove")),
        ({"replace": "o"}, namespace("t", "o", "insert", "remove")),
        ({"merge": "o"}, namespace("t", "o", "insert", "update")),
        ({"reduce": "o"}, namespace("t", "o", "insert", "update")),
        ({"replace": "o", "db": "d"}, namespace("d", "o", "insert", "remove")),
        (
            {"merge": "o", "db": "d", "sharded": False, "nonAtomic": False},
            namespace("d", "o", "insert", "update"),
        ),
    ],
)
@pytest.mark.parametrize("bypass", [True, False])
def test_a_map_reduce_needs_what_it_does_to_its_output(
    out: Any, target: Privilege | None, bypass: bool
) -> None:
    parts = [READ] if target is None else [READ, target]
    if target is not None and bypass:
        parts.append(Privilege(target.resource, frozenset({"bypassDocumentValidation"})))
    assert required({"mapReduce": "c", "out": out, "bypassDocumentValidation": bypass}) == all_of(parts)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"mapReduce": 5, "out": "o"}, 13111),
        ({"mapReduce": UUID, "out": "o"}, 73),
        ({"mapReduce": "c"}, 13606),
        ({"mapReduce": "c", "out": ""}, 73),
        ({"mapReduce": "c", "out": "a$b"}, 73),
        ({"mapReduce": "c", "out": {"replace": 5}}, 13111),
        ({"mapReduce": "c", "out": {"replace": "o", "db": 5}}, 13111),
        ({"mapReduce": "c", "out": {"replace": "o", "db": ""}}, 73),
        ({"mapReduce": "c", "out": {"replace": ""}}, 73),
        ({"mapReduce": "c", "out": {"replace": "o", "bogus": 1}}, 40415),
        ({"mapReduce": "c", "out": {"db": "d"}}, 13522),
        ({"mapReduce": "c", "out": {"replace": "o", "inline": 1}}, 13522),
    ],
)
def test_a_map_reduce_that_is_not_understood_is_refused(body: dict[str, Any], code: int) -> None:
    assert refusal(body)[0] == code


@pytest.mark.parametrize(
    ("ops", "expected"),
    [
        ([{"insert": 0, "document": {}}], [namespace("t", "a", "insert")]),
        ([{"insert": Int64(1), "document": {}}], [namespace("d", "b", "insert")]),
        ([{"delete": 1, "filter": {}, "multi": True}], [namespace("d", "b", "remove")]),
        ([{"update": 0, "filter": {}, "updateMods": {}}], [namespace("t", "a", "update")]),
        ([{"update": 0, "updateMods": [{"$set": {}}], "upsert": False}], [namespace("t", "a", "update")]),
        ([{"update": 1, "updateMods": {}, "upsert": True}], [namespace("d", "b", "update", "insert")]),
        (
            [{"insert": 0}, {"delete": 0}, {"update": 1, "updateMods": {}}],
            [namespace("t", "a", "insert", "remove"), namespace("d", "b", "update")],
        ),
    ],
)
def test_an_operation_of_a_bulk_write_needs_its_actions_on_its_namespace(
    ops: list[dict[str, Any]], expected: list[Privilege]
) -> None:
    assert required({**BULK, "ops": ops}, "admin") == all_of(expected)
    sent = {"ops": ops, "nsInfo": BULK["nsInfo"]}
    assert required({"bulkWrite": 1}, "admin", sequences=sent) == all_of(expected)


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"ops": []}, 16),
        ({}, 40414),
        ({"ops": [{"insert": 2}]}, 2),
        ({"ops": [{"insert": -1}]}, 2),
        ({"ops": [{"insert": 0.0}]}, 2),
        ({"ops": [{"insert": "0"}]}, 2),
        ({"ops": [{"insert": True}]}, 2),
        ({"ops": [{"update": 0, "updateMods": 5}]}, 9),
        ({"ops": [{"update": 0, "updateMods": [{"$lookup": {}}]}]}, 72),
        ({"ops": [{"update": 0, "updateMods": {}, "upsert": 1}]}, 14),
        ({"ops": [{"insert": 0, "bogus": 1}]}, 40415),
        ({"ops": [{"delete": 0, "bogus": 1}]}, 40415),
        ({"ops": [{"update": 0, "updateMods": {}, "bogus": 1}]}, 40415),
        ({"ops": [{"document": {}, "insert": 0}]}, 40415),
        ({"ops": [{"insert": 0}], "nsInfo": [{"ns": "t"}]}, 73),
        ({"ops": [{"insert": 0}], "nsInfo": [{"ns": "t.a", "bogus": 1}]}, 40415),
        ({"ops": [{"insert": 0}], "nsInfo": [{}]}, 40414),
        ({"ops": [{"insert": 0}], "nsInfo": []}, 16),
        ({"ops": [{"insert": 0}], "nsInfo": [{"ns": "t.a", "encryptionInformation": 5}]}, 14),
        ({"ops": [{"insert": 0}], "bypassDocumentValidation": "x"}, 14),
    ],
)
def test_a_bulk_write_that_is_not_understood_is_refused(more: dict[str, Any], code: int) -> None:
    assert refusal({**BULK, **more}, "admin")[0] == code


def test_encryption_in_a_bulk_write_belongs_to_its_namespace() -> None:
    info = [{"ns": "t.c", "encryptionInformation": {"schema": {"t.c": {}}}}]
    need = required({"bulkWrite": 1, "ops": [{"insert": 0}], "nsInfo": info}, "admin")
    assert need == all_of([namespace("t", "c", "insert"), *state(*WRITE)])


def test_a_bulk_write_bypasses_on_every_namespace_or_on_none() -> None:
    ops = [{"insert": 0}]
    need = required({**BULK, "ops": ops, "bypassDocumentValidation": True}, "admin")
    bypass = "bypassDocumentValidation"
    assert need == all_of([namespace("t", "a", "insert", bypass), namespace("d", "b", bypass)])
    assert required({**BULK, "ops": ops, "bypassDocumentValidation": False}, "admin") == namespace(
        "t", "a", "insert"
    )


CREATES = namespace("t", "v", "createCollection")
CREATES_CAPPED = AnyOf(
    (
        namespace("t", "v", "createCollection", "convertToCapped"),
        namespace("t", "v", "insert", "convertToCapped"),
    )
)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"create": "v"}, AnyOf((CREATES, namespace("t", "v", "insert")))),
        ({"create": "v", "capped": False, "viewOn": None}, AnyOf((CREATES, namespace("t", "v", "insert")))),
        ({"create": "v", "capped": True}, CREATES_CAPPED),
        ({"create": "v", "capped": 1}, CREATES_CAPPED),
        (
            {"create": "v", "viewOn": "c"},
            AllOf((CREATES, AnyOf((NotHeld(namespace("t", "v", "find")), READ)))),
        ),
        (
            {"create": "v", "viewOn": "c", "pipeline": [{"$unionWith": "o"}]},
            AllOf(
                (
                    CREATES,
                    AnyOf((NotHeld(namespace("t", "v", "find")), AllOf((READ, namespace("t", "o", "find"))))),
                )
            ),
        ),
        ({"collMod": "v"}, namespace("t", "v", "collMod")),
        ({"collMod": "v", "viewOn": None, "pipeline": None}, namespace("t", "v", "collMod")),
        (
            {"collMod": "v", "viewOn": "c", "pipeline": []},
            AllOf((namespace("t", "v", "collMod"), AnyOf((NotHeld(namespace("t", "v", "find")), READ)))),
        ),
    ],
)
def test_collections_and_views_are_made_with(body: dict[str, Any], expected: Requirement) -> None:
    assert required(body) == expected


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"create": "v", "viewOn": ""}, 2),
        ({"create": "v", "viewOn": 5}, 14),
        ({"create": "v", "viewOn": "a$b"}, 73),
        ({"create": "v", "viewOn": "c", "pipeline": 5}, 14),
        ({"create": "v", "viewOn": "c", "pipeline": [{"$nope": 1}]}, 40324),
        ({"create": "v", "capped": "x"}, 14),
        ({"collMod": "v", "viewOn": "c"}, 72),
        ({"collMod": "v", "viewOn": "", "pipeline": []}, 72),
        ({"collMod": "v", "viewOn": 5, "pipeline": []}, 14),
        ({"collMod": "v", "viewOn": "a$b", "pipeline": []}, 73),
        ({"collMod": "v", "pipeline": []}, 72),
    ],
)
def test_a_view_that_is_not_understood_is_refused(body: dict[str, Any], code: int) -> None:
    assert refusal(body)[0] == code


COPIES = all_of([namespace("t", "a", "find", "dropCollection"), namespace("t", "b", "insert", "createIndex")])
COPIES_AND_DROPS = all_of(
    [
        namespace("t", "a", "find", "dropCollection"),
        namespace("t", "b", "insert", "createIndex", "dropCollection"),
    ]
)
RENAMES = database("t", "renameCollectionSameDB")
MAY_READ = AnyOf((namespace("t", "a", "find"), NotHeld(namespace("t", "b", "find"))))


@pytest.mark.parametrize("drops", [None, False, 0, 0.0, Int64(0)])
def test_a_rename_that_keeps_its_target(drops: Any) -> None:
    need = required({"renameCollection": "t.a", "to": "t.b", "dropTarget": drops}, "admin")
    assert need == AnyOf((AllOf((RENAMES, MAY_READ)), COPIES))
    assert required({"renameCollection": "t.a", "to": "t.b"}, "admin") == need


@pytest.mark.parametrize("drops", [True, 1, 0.5, Int64(1), "false", {}, UUID, Decimal128("0")])
def test_a_rename_that_drops_its_target(drops: Any) -> None:
    need = required({"renameCollection": "t.a", "to": "t.b", "dropTarget": drops}, "admin")
    assert need == AnyOf(
        (AllOf((RENAMES, MAY_READ, namespace("t", "b", "dropCollection"))), COPIES_AND_DROPS)
    )


@pytest.mark.parametrize(
    ("source", "target"),
    [("t.a", "d.a"), ("t.system.a", "t.b"), ("t.a", "t.system.b"), ("d.system.a", "t.b")],
)
def test_a_rename_to_elsewhere_copies(source: str, target: str) -> None:
    (source_db, _, a), (target_db, _, b) = source.partition("."), target.partition(".")
    assert required({"renameCollection": source, "to": target}, "admin") == all_of(
        [namespace(source_db, a, "find", "dropCollection"), namespace(target_db, b, "insert", "createIndex")]
    )


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"renameCollection": 5, "to": "t.b"}, 2),
        ({"renameCollection": "t", "to": "t.b"}, 73),
        ({"renameCollection": "t.a"}, 14),
        ({"renameCollection": "t.a", "to": 5}, 14),
        ({"renameCollection": "t.a", "to": ""}, 73),
        ({"renameCollection": "t.a", "to": "t.a$b"}, 73),
    ],
)
def test_a_rename_that_is_not_understood_is_refused(body: dict[str, Any], code: int) -> None:
    assert refusal(body, "admin")[0] == code


@pytest.mark.parametrize(
    ("body", "db", "expected"),
    [
        (
            {"cloneCollectionAsCapped": "c", "toCollection": "o", "size": 1},
            "t",
            all_of([READ, namespace("t", "o", "convertToCapped", "createIndex", "insert")]),
        ),
        (
            {"profile": -1},
            "t",
            AnyOf((namespace("t", "system.profile", "find"), database("t", "enableProfiler"))),
        ),
        (
            {"profile": -1.0},
            "t",
            AnyOf((namespace("t", "system.profile", "find"), database("t", "enableProfiler"))),
        ),
        ({"profile": 0}, "t", database("t", "enableProfiler")),
        ({"profile": 2}, "t", database("t", "enableProfiler")),
        ({"profile": 1}, "t", database("t", "enableProfiler")),
        ({"profile": -1, "slowms": 1}, "t", database("t", "enableProfiler")),
        ({"profile": -1, "sampleRate": 1}, "t", database("t", "enableProfiler")),
        ({"profile": -1, "filter": None}, "t", database("t", "enableProfiler")),
        ({"filemd5": 1}, "t", namespace("t", "fs.chunks", "find")),
        ({"filemd5": 1, "root": "img"}, "t", namespace("t", "img.chunks", "find")),
        ({"validateDBMetadata": 1}, "t", any_normal("validate")),
        ({"validateDBMetadata": 1, "db": None}, "t", any_normal("validate")),
        ({"validateDBMetadata": 1, "db": ""}, "t", any_normal("validate")),
        ({"validateDBMetadata": 1, "db": "d"}, "t", database("d", "validate")),
        ({"validateDBMetadata": 1, "db": "d" * 63}, "t", database("d" * 63, "validate")),
        ({"listCollections": 1}, "t", database("t", "listCollections")),
        (
            {"listCollections": 1, "nameOnly": True, "authorizedCollections": True},
            "t",
            AnyOf((database("t", "listCollections"), AnyActionInDatabase("t"))),
        ),
        ({"currentOp": 1}, "admin", cluster("inprog")),
        ({"currentOp": 1, "$ownOps": False}, "admin", cluster("inprog")),
        ({"currentOp": 1, "$ownOps": True}, "admin", NOTHING),
        ({"currentOp": 1, "$ownOps": 1}, "admin", NOTHING),
        ({"listDatabases": 1}, "admin", NOTHING),
        ({"listDatabases": 1, "authorizedDatabases": None}, "admin", NOTHING),
        ({"listDatabases": 1, "authorizedDatabases": True}, "admin", NOTHING),
        ({"listDatabases": 1, "authorizedDatabases": False}, "admin", cluster("listDatabases")),
        (
            {"getDiagnosticData": 1},
            "admin",
            all_of(
                [cluster("serverStatus", "replSetGetStatus"), namespace("local", "oplog.rs", "collStats")]
            ),
        ),
        (
            {"dbCheck": "c"},
            "t",
            Privilege(ResourcePattern.for_any_resource(), frozenset({"dbCheck"})),
        ),
        (
            {"applyOps": []},
            "admin",
            Privilege(ResourcePattern.for_any_resource(), frozenset({"anyAction"})),
        ),
        ({"applyOps": [INSERT_OP]}, "admin", all_of([cluster("applyOps"), namespace("t", "c", "insert")])),
        (
            {"applyOps": [{**INSERT_OP, "op": "u", "o2": {}}]},
            "admin",
            all_of([cluster("applyOps"), namespace("t", "c", "update", "insert")]),
        ),
        (
            {"applyOps": [{**INSERT_OP, "op": "d", "o2": None}]},
            "admin",
            all_of([cluster("applyOps"), namespace("t", "c", "remove")]),
        ),
        (
            {"applyOps": [{"op": "n", "ns": "", "o": {}}, INSERT_OP]},
            "admin",
            all_of([cluster("applyOps", "appendOplogNote"), namespace("t", "c", "insert")]),
        ),
        ({"killAllSessionsByPattern": []}, "admin", cluster("killAnySession")),
        ({"killAllSessionsByPattern": [{"lsid": {}}]}, "admin", cluster("killAnySession")),
        (
            {"killAllSessionsByPattern": [{}, {"users": []}]},
            "admin",
            cluster("killAnySession", "impersonate"),
        ),
        ({"killAllSessionsByPattern": [{"roles": []}]}, "admin", cluster("killAnySession", "impersonate")),
    ],
)
def test_a_command_needs(body: dict[str, Any], db: str, expected: Requirement) -> None:
    assert required(body, db) == expected


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"cloneCollectionAsCapped": "c"}, 14),
        ({"cloneCollectionAsCapped": "c", "toCollection": ""}, 73),
        ({"cloneCollectionAsCapped": "c", "toCollection": "a$b"}, 73),
        ({"cloneCollectionAsCapped": 5, "toCollection": "o"}, 2),
        ({"profile": "x"}, 14),
        ({"profile": True}, 14),
        ({"filemd5": 1, "root": 5}, 73),
        ({"filemd5": 1, "root": "a$b"}, 73),
        ({"filemd5": 1, "root": None}, 73),
        ({"validateDBMetadata": 1, "db": 5}, 14),
        ({"validateDBMetadata": 1, "db": "d" * 64}, 73),
        ({"checkMetadataConsistency": ""}, 73),
        ({"listCollections": 1, "nameOnly": True, "authorizedCollections": 1}, 14),
        ({"listDatabases": 1, "authorizedDatabases": 1}, 14),
        ({"features": 1, "oidReset": "x"}, 14),
        ({"applyOps": 5}, 14),
        ({"applyOps": [5]}, 14),
        ({"applyOps": [{"ns": "t.c", "o": {}}]}, 40414),
        ({"applyOps": [{**INSERT_OP, "op": "x"}]}, 115),
        ({"applyOps": [{**INSERT_OP, "op": "c"}]}, 115),
        ({"applyOps": [{**INSERT_OP, "o": 5}]}, 40415),
        ({"applyOps": [{"op": "i", "ns": "t.c"}]}, 40415),
        ({"applyOps": [{**INSERT_OP, "o2": 5}]}, 40415),
        ({"applyOps": [{**INSERT_OP, "ns": "t"}]}, 73),
        ({"applyOps": [{**INSERT_OP, "ns": 5}]}, 14),
        ({"applyOps": [{**INSERT_OP, "bogus": 1}]}, 40415),
        ({"applyOps": [None]}, 14),
        ({"applyOps": None}, 10065),
        ({"update": "c", "updates": None}, 10065),
        ({"update": "c", "updates": [None]}, 16),
        ({"insert": "c", "documents": [None, None]}, 16),
        ({"update": "c", "updates": [None, 1]}, 14),
        ({"bulkWrite": 1, "ops": [None, {"insert": 0, "document": {}}], "nsInfo": [{"ns": "t.c"}]}, 14),
        ({"bulkWrite": 1, "ops": [{"insert": 0, "document": {}}], "nsInfo": [None, {"ns": "t.c"}]}, 14),
        ({"killSessions": None}, 10065),
        ({"killSessions": [None, 5]}, 14),
        ({"endSessions": 5}, 14),
        ({"killSessions": [5]}, 14),
    ],
)
def test_another_form_of_a_command_is_refused(body: dict[str, Any], code: int) -> None:
    assert refusal(body)[0] == code


@pytest.mark.parametrize("name", ["create", "collMod"])
def test_a_view_of_sessions_is_asked_for_as_the_one_who_defines_it(name: str) -> None:
    stage = {"$listSessions": {"users": [{"user": "alice", "db": "shop"}]}}
    own = required({name: "v", "viewOn": "system.sessions", "pipeline": [stage]}, "config")
    action = "createCollection" if name == "create" else "collMod"
    reads = NotHeld(namespace("config", "v", "find"))
    assert own == AllOf((namespace("config", "v", action), AnyOf((reads, NOTHING))))
    stage["$listSessions"]["users"].append({"user": "bob", "db": "shop"})
    both = required({name: "v", "viewOn": "system.sessions", "pipeline": [stage]}, "config")
    assert both == AllOf((namespace("config", "v", action), AnyOf((reads, cluster("listSessions")))))
