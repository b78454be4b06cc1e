"""Requirements of single commands where arguments change the meaning: each allow with its deny twin."""

from __future__ import annotations

import hashlib
from typing import Any

import bson
import pytest
from bson import Binary, Decimal128, Int64

from mongoguard.command.catalog import find_row
from mongoguard.command.command import Command
from mongoguard.command.requirement import requirement_of
from mongoguard.command.requires import all_of
from mongoguard.command.spec import Asker
from mongoguard.errors import CommandError
from mongoguard.model.privilege import NOTHING, AllOf, AnyOf, Requirement
from mongoguard.wire.document import Document
from tests.unit.command.commands import allowed, any_normal, cluster, database, namespace, required

UUID = Binary(b"u" * 16, 4)


def refused(body: dict[str, Any], db: str = "t", **more: Any) -> int:
    with pytest.raises(CommandError) as error:
        required(body, db, **more)
    return error.value.code


@pytest.mark.parametrize(
    "name", ["find", "count", "distinct", "aggregate", "insert", "drop", "listIndexes", "validate"]
)
def test_a_collection_given_by_uuid_is_refused(name: str) -> None:
    body = {name: UUID, "pipeline": [], "documents": [{}]}
    known = {"aggregate": ("pipeline",), "insert": ("documents",)}.get(name, ())
    assert refused({k: v for k, v in body.items() if k == name or k in known}) == 73


@pytest.mark.parametrize("name", ["", ".x", "a$b", "a\0b", "x" * 256])
@pytest.mark.parametrize("command", ["find", "drop", "create", "collStats"])
def test_a_collection_name_that_no_server_accepts_is_refused(command: str, name: str) -> None:
    assert refused({command: name}) == 73


@pytest.mark.parametrize("upsert", [1, 1.0, 0, "x", {}])
def test_an_upsert_that_is_no_bool_is_refused(upsert: Any) -> None:
    assert refused({"update": "c", "updates": [{"q": {}, "u": {}, "upsert": upsert}]}) == 14


@pytest.mark.parametrize(
    ("upsert", "actions"), [(True, ("insert", "update")), (False, ("update",)), (None, ("update",))]
)
def test_one_upsert_in_a_batch_needs_insert(upsert: Any, actions: tuple[str, ...]) -> None:
    updates = [{"q": {}, "u": {}}, {"q": {}, "u": {}, "upsert": upsert}]
    expected = namespace("t", "c", *actions)
    assert required({"update": "c", "updates": updates}) == expected
    assert required({"update": "c"}, sequences={"updates": updates}) == expected


@pytest.mark.parametrize("value", [True, 1, 0.5, Int64(2), Decimal128("1E-6000")])
def test_find_and_modify_takes_numbers_for_bools(value: Any) -> None:
    assert required({"findAndModify": "c", "update": {}, "upsert": value}) == namespace(
        "t", "c", "find", "insert", "update"
    )
    assert required({"findAndModify": "c", "remove": value}) == namespace("t", "c", "find", "remove")


@pytest.mark.parametrize("value", [False, 0, None, 0.0])
def test_find_and_modify_with_false_flags_only_updates(value: Any) -> None:
    body = {"findAndModify": "c", "update": {}, "upsert": value, "remove": value}
    assert required(body) == namespace("t", "c", "find", "update")


@pytest.mark.parametrize("stage", ["$lookup", "$match", "$out", "$unionWith"])
def test_an_update_pipeline_with_a_stage_that_reads_elsewhere_is_refused(stage: str) -> None:
    assert refused({"update": "c", "updates": [{"q": {}, "u": [{stage: {}}]}]}) == 72
    assert refused({"findAndModify": "c", "update": [{stage: {}}]}) == 72


def test_an_empty_batch_is_refused_before_privileges() -> None:
    assert refused({"insert": "c", "documents": []}) == 16
    assert refused({"insert": "c"}) == 40414
    assert refused({"insert": "c"}, sequences={"documents": []}) == 16


def test_arguments_between_servers_need_internal() -> None:
    assert required({"find": "c", "term": Int64(1)}) == all_of(
        [namespace("t", "c", "find"), cluster("internal")]
    )
    assert required({"find": "c", "term": None}) == all_of([namespace("t", "c", "find"), cluster("internal")])
    assert required({"getMore": Int64(1), "collection": "c", "term": Int64(1)}) == cluster("internal")
    assert required({"getMore": Int64(1), "collection": "c"}) == NOTHING
    exchange = required({"aggregate": "c", "pipeline": [], "$_externalDataSources": []})
    assert exchange == all_of([namespace("t", "c", "find"), cluster("internal")])


def test_queryable_encryption_needs_its_state_collections() -> None:
    info = {"type": 1, "schema": {"t.c": {"escCollection": "other", "fields": []}}}
    need = required({"insert": "c", "documents": [{}], "encryptionInformation": info})
    held = [namespace("t", "c", "insert")]
    assert not allowed(need, held)
    state = ("other", "enxcol_.c.ecc", "enxcol_.c.ecoc")
    held += [namespace("t", name, "find", "insert", "update", "remove") for name in state]
    assert allowed(need, held)


BULK = {
    "bulkWrite": 1,
    "ops": [{"insert": 0, "document": {}}, {"update": 1, "filter": {}, "updateMods": {}, "upsert": True}],
    "nsInfo": [{"ns": "t.a"}, {"ns": "d.b"}, {"ns": "t.unused"}],
}


def test_bulk_write_needs_the_union_over_its_namespaces() -> None:
    assert required(BULK, "admin") == all_of(
        [namespace("t", "a", "insert"), namespace("d", "b", "insert", "update")]
    )


def test_bulk_write_bypassing_validation_needs_it_on_unused_namespaces_too() -> None:
    need = required({**BULK, "bypassDocumentValidation": True}, "admin")
    held = [
        namespace("t", "a", "insert", "bypassDocumentValidation"),
        namespace("d", "b", "insert", "update", "bypassDocumentValidation"),
    ]
    assert not allowed(need, held)
    assert allowed(need, [*held, namespace("t", "unused", "bypassDocumentValidation")])


@pytest.mark.parametrize(
    "op",
    [
        {"insert": 3, "document": {}},
        {"insert": -1},
        {"insert": 0.0},
        {"bogus": 0},
        {},
        {"delete": 0, "return": 1},
    ],
)
def test_a_bulk_write_operation_that_is_not_understood_is_refused(op: dict[str, Any]) -> None:
    assert refused({**BULK, "ops": [op]}, "admin") in (2, 40415)


def test_creating_needs_create_collection_or_insert() -> None:
    need = required({"create": "o"})
    assert allowed(need, [namespace("t", "o", "insert")])
    assert allowed(need, [namespace("t", "o", "createCollection")])
    assert not allowed(need, [namespace("t", "o", "find")])


@pytest.mark.parametrize("name", ["create", "collMod"])
def test_who_may_read_a_view_must_be_able_to_run_it(name: str) -> None:
    action = "createCollection" if name == "create" else "collMod"
    lookup = {"$lookup": {"from": "e", "as": "x", "pipeline": []}}
    need = required({name: "v", "viewOn": "c", "pipeline": [lookup]})
    defines = namespace("t", "v", action)
    assert allowed(need, [defines])
    assert not allowed(need, [defines, namespace("t", "v", "find")])
    reads = [defines, namespace("t", "v", "find"), namespace("t", "c", "find")]
    assert not allowed(need, reads)
    assert allowed(need, [*reads, namespace("t", "e", "find")])


def test_half_a_view_definition_is_refused() -> None:
    assert refused({"collMod": "v", "viewOn": "c"}) == 72
    assert refused({"collMod": "v", "pipeline": []}) == 72


RENAME = {"renameCollection": "t.a", "to": "t.b"}
SAME_DB = database("t", "renameCollectionSameDB")


def test_renaming_within_a_database_is_refused_to_who_may_read_only_the_target() -> None:
    need = required(RENAME, "admin")
    assert allowed(need, [SAME_DB])
    assert not allowed(need, [SAME_DB, namespace("t", "b", "find")])
    assert allowed(need, [SAME_DB, namespace("t", "b", "find"), namespace("t", "a", "find")])


@pytest.mark.parametrize("drops", [True, 1, "x"])
def test_dropping_the_target_of_a_rename_needs_drop_collection(drops: Any) -> None:
    need = required({**RENAME, "dropTarget": drops}, "admin")
    assert not allowed(need, [SAME_DB])
    assert allowed(need, [SAME_DB, namespace("t", "b", "dropCollection")])


@pytest.mark.parametrize("target", ["d.b", "t.system.js"])
def test_other_renames_need_to_copy(target: str) -> None:
    need = required({"renameCollection": "t.a", "to": target}, "admin")
    db, _, name = target.partition(".")
    assert not allowed(need, [SAME_DB])
    assert allowed(
        need, [namespace("t", "a", "find", "dropCollection"), namespace(db, name, "insert", "createIndex")]
    )


@pytest.mark.parametrize(
    "out", [{"replace": "o", "merge": "p"}, {"inline": 1, "replace": "o"}, {}, {"normal": "o"}, 5]
)
def test_a_map_reduce_output_that_is_ambiguous_is_refused(out: Any) -> None:
    assert refused({"mapReduce": "c", "map": "m", "reduce": "r", "out": out}) in (13522, 13606, 40415)


def test_what_is_explained_is_asked_for_by_the_one_who_asks() -> None:
    for user, need in (("alice", NOTHING), ("bob", cluster("listSessions"))):
        stage = {"$listLocalSessions": {"users": [{"user": user, "db": "shop"}]}}
        inner = {"aggregate": 1, "pipeline": [stage], "cursor": {}}
        assert required({"explain": inner}) == need
    for user, need in (("alice@shop", NOTHING), ("bob@shop", cluster("impersonate"))):
        lsid = {"id": Binary(bytes(16), 4), "uid": hashlib.sha256(user.encode()).digest()}
        inner = {"find": "c", "lsid": lsid}
        assert required({"explain": inner}) == all_of([namespace("t", "c", "find"), need])


def test_explain_needs_what_the_inner_command_needs() -> None:
    inner = {"update": "c", "updates": [{"q": {}, "u": {}, "upsert": True}]}
    assert required({"explain": inner}) == required(inner)
    assert refused({"explain": {**inner, "$db": "other"}}) == 73
    assert refused({"explain": {"shutdown": 1}}) == 20
    assert refused({"explain": {"nope": 1}}) == 59
    assert refused({"explain": {"find": "c", "bogus": 1}}) == 40415


def test_listing_collections_needs_both_flags_to_be_free() -> None:
    both = {"nameOnly": True, "authorizedCollections": True}
    assert allowed(required({"listCollections": 1, **both}), [namespace("t", "any", "find")])
    for flag in both:
        assert not allowed(required({"listCollections": 1, flag: True}), [namespace("t", "any", "find")])
    assert refused({"listCollections": 1, "nameOnly": 1}) == 14


def test_apply_ops_with_an_operation_that_cannot_be_understood_is_refused() -> None:
    insert = {"op": "i", "ns": "t.c", "o": {"_id": 1}}
    assert required({"applyOps": [insert]}, "admin") == all_of(
        [cluster("applyOps"), namespace("t", "c", "insert")]
    )
    assert refused({"applyOps": [{**insert, "ui": UUID}]}, "admin") == 40415
    assert refused({"applyOps": [{"op": "c", "ns": "t.$cmd", "o": {"drop": "c"}}]}, "admin") == 115
    assert refused({"applyOps": [insert], "preCondition": []}, "admin") == 40415


@pytest.mark.parametrize(
    ("body", "db", "expected"),
    [
        ({"usersInfo": "alice"}, "shop", NOTHING),
        ({"usersInfo": ["alice", "bob"]}, "shop", database("shop", "viewUser")),
        ({"usersInfo": "alice"}, "t", database("t", "viewUser")),
        ({"usersInfo": 1}, "t", database("t", "viewUser")),
        ({"usersInfo": {"forAllDBs": True}}, "t", cluster("viewUser")),
        ({"rolesInfo": "clerk"}, "shop", NOTHING),
        ({"rolesInfo": "clerk"}, "t", database("t", "viewRole")),
        ({"rolesInfo": []}, "t", NOTHING),
    ],
)
def test_what_is_ones_own_may_be_looked_at(body: dict[str, Any], db: str, expected: Requirement) -> None:
    assert required(body, db) == expected


@pytest.mark.parametrize(
    "value", [0, True, None, 5, {}, {"user": "x"}, {"forAllDBs": False}, {"user": "x", "db": "y", "z": 1}]
)
def test_a_user_that_cannot_be_understood_is_refused(value: Any) -> None:
    assert refused({"usersInfo": value}) == 2


def test_changing_ones_own_password_has_a_lesser_action() -> None:
    own = required({"updateUser": "alice", "pwd": "x"}, "shop")
    assert allowed(own, [database("shop", "changeOwnPassword")])
    other = required({"updateUser": "bob", "pwd": "x"}, "shop")
    assert not allowed(other, [database("shop", "changeOwnPassword")])
    assert allowed(other, [database("shop", "changePassword")])


def test_changing_mechanisms_is_changing_the_password() -> None:
    need = required({"updateUser": "root", "mechanisms": ["SCRAM-SHA-1"]}, "admin")
    assert need == database("admin", "changePassword")


def test_updating_roles_needs_revoke_everywhere_and_grant_where_the_roles_are() -> None:
    need = required({"updateUser": "bob", "roles": [{"role": "read", "db": "d"}]})
    assert need == all_of([any_normal("revokeRole"), database("d", "grantRole")])


@pytest.mark.parametrize("roles", [None, 5, [5], [{}], [{"role": "r"}], [{"role": 5, "db": "d"}]])
def test_roles_that_cannot_be_understood_are_refused(roles: Any) -> None:
    assert refused({"grantRolesToUser": "bob", "roles": roles}) in (2, 14, 10065)


@pytest.mark.parametrize(
    ("resource", "db"),
    [
        ({"db": "d", "collection": "c"}, "d"),
        ({"db": "", "collection": "c"}, "admin"),
        ({"db": "d", "system_buckets": "b"}, "admin"),
        ({"cluster": True}, "admin"),
        ({"anyResource": True}, "admin"),
    ],
)
def test_granting_a_privilege_needs_grant_role_where_it_rules(resource: dict[str, Any], db: str) -> None:
    body = {"grantPrivilegesToRole": "r", "privileges": [{"resource": resource, "actions": ["find"]}]}
    assert required(body) == database(db, "grantRole")


@pytest.mark.parametrize(
    "resource", [{"db": "d"}, {"cluster": False}, {"cluster": 1}, {}, {"db": 5, "collection": ""}, {"zz": 1}]
)
def test_a_resource_that_cannot_be_understood_is_refused(resource: dict[str, Any]) -> None:
    assert (
        refused({"grantPrivilegesToRole": "r", "privileges": [{"resource": resource, "actions": ["find"]}]})
        == 9
    )


@pytest.mark.parametrize("name", ["insert", "update", "delete"])
def test_a_batch_longer_than_any_server_takes_is_refused_before_its_statements_are_opened(name: str) -> None:
    field = {"insert": "documents", "update": "updates", "delete": "deletes"}[name]
    row = find_row(name)
    assert row is not None
    body = Document(bson.encode({name: "c"}))
    too_many = Command(body, "t", {field: [(0, 0)] * 100_001})
    with pytest.raises(CommandError) as error:
        requirement_of(row, too_many, Asker())
    assert error.value.code == 16
    assert error.value.errmsg == "Write batch sizes must be between 1 and 100000. Got 100001 operations."
    if name == "insert":
        largest = Command(body, "t", {field: [(0, 0)] * 100_000})
        assert requirement_of(row, largest, Asker()) == namespace("t", "c", "insert")


def test_parts_of_a_requirement_are_merged_in_one_pass_however_many_a_client_writes() -> None:
    """A pass over them takes a second; a pass for each of them would take many minutes."""
    count = 200_000
    parts = [
        AllOf((database(f"d{i % 10}", "find"), database(f"d{i % 10}", "insert"))) for i in range(count // 2)
    ]
    assert all_of(parts) == AllOf(tuple(database(f"d{i}", "find", "insert") for i in range(10)))
    either = [AnyOf((database(f"d{i % 7}", "find"), cluster("inprog"))) for i in range(count // 10)]
    assert all_of(either) == AllOf(tuple(either[:7]))


def test_parts_of_a_requirement_keep_their_order() -> None:
    first, second, third = database("b", "find"), database("a", "find"), database("c", "find")
    assert all_of([first, AllOf((second, AllOf((third, first))))]) == AllOf((first, second, third))


def test_a_capped_view_needs_convert_to_capped_too() -> None:
    view = {"create": "v", "viewOn": "c", "capped": True, "size": 4096}
    assert not allowed(required(view), [namespace("t", "v", "createCollection")])
    assert allowed(required(view), [namespace("t", "v", "createCollection", "convertToCapped")])


@pytest.mark.parametrize("value", [True, 1, 1.5, Decimal128("1")])
def test_features_that_resets_object_ids_needs_oid_reset(value: Any) -> None:
    body = {"features": 1, "oidReset": value}
    assert not allowed(required(body, "admin"), [])
    assert allowed(required(body, "admin"), [cluster("oidReset")])


@pytest.mark.parametrize("value", [False, 0, None])
def test_features_that_only_looks_is_free(value: Any) -> None:
    assert required({"features": 1, "oidReset": value}, "admin") == NOTHING


@pytest.mark.parametrize("more", [{}, {"remove": False}, {"upsert": True}])
def test_find_and_modify_that_does_neither_is_refused(more: dict[str, Any]) -> None:
    assert refused({"findAndModify": "c", **more}) == 9


@pytest.mark.parametrize("action", ["killAnySession", "impersonate"])
def test_killing_sessions_of_others_needs_either_action(action: str) -> None:
    body = {"killSessions": [{"id": UUID, "uid": b"x" * 32}]}
    assert not allowed(required(body, "admin"), [])
    assert allowed(required(body, "admin"), [cluster(action)])


def test_ending_sessions_of_others_needs_impersonate() -> None:
    body = {"endSessions": [{"id": UUID, "uid": b"x" * 32}]}
    assert not allowed(required(body, "admin"), [cluster("killAnySession")])
    assert allowed(required(body, "admin"), [cluster("impersonate")])


def test_find_and_modify_that_removes_and_upserts_is_refused() -> None:
    assert refused({"findAndModify": "c", "remove": True, "upsert": True}) == 9
