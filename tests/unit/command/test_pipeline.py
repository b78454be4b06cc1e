"""The pipeline walk: every form that names a namespace is understood or refused."""

from __future__ import annotations

from typing import Any

import pytest
from bson import Decimal128

from mongoguard.command.pipeline import MAX_DEPTH, MAX_STAGES
from mongoguard.command.requires import all_of
from mongoguard.command.stages import STAGES
from mongoguard.errors import CommandError
from mongoguard.model.privilege import NOTHING, Requirement
from tests.unit.command.commands import any_normal, cluster, database, namespace, required

FIND_C = namespace("t", "c", "find")


def needs(*pipeline: Any, on: Any = "c", db: str = "t", **more: Any) -> Requirement:
    return required({"aggregate": on, "pipeline": list(pipeline), "cursor": {}, **more}, db)


def refused(*pipeline: Any, on: Any = "c", db: str = "t", **more: Any) -> int:
    with pytest.raises(CommandError) as error:
        needs(*pipeline, on=on, db=db, **more)
    return error.value.code


GRAPH = {"startWith": "$a", "connectFromField": "a", "connectToField": "b", "as": "x"}


@pytest.mark.parametrize(
    ("stage", "target"),
    [
        (
            {"$lookup": {"from": "o", "localField": "a", "foreignField": "b", "as": "x"}},
            namespace("t", "o", "find"),
        ),
        (
            {"$lookup": {"from": "o", "pipeline": [{"$indexStats": {}}], "as": "x"}},
            namespace("t", "o", "indexStats"),
        ),
        (
            {
                "$lookup": {
                    "from": {"db": "local", "coll": "oplog.rs"},
                    "pipeline": [{"$unionWith": "o"}],
                    "as": "x",
                }
            },
            all_of([namespace("local", "oplog.rs", "find"), namespace("local", "o", "find")]),
        ),
        ({"$graphLookup": {"from": "o", **GRAPH}}, namespace("t", "o", "find")),
        ({"$unionWith": "o"}, namespace("t", "o", "find")),
        (
            {
                "$unionWith": {
                    "coll": "o",
                    "pipeline": [{"$lookup": {"from": "p", "as": "x", "pipeline": []}}],
                }
            },
            all_of([namespace("t", "o", "find"), namespace("t", "p", "find")]),
        ),
        ({"$facet": {"a": [{"$unionWith": "o"}], "b": []}}, namespace("t", "o", "find")),
        ({"$out": "o"}, namespace("t", "o", "insert", "remove")),
        (
            {"$out": {"db": "d", "coll": "o", "timeseries": {"timeField": "t"}}},
            namespace("d", "o", "insert", "remove"),
        ),
        ({"$merge": "o"}, namespace("t", "o", "insert", "update")),
        ({"$merge": {"into": {"db": "d", "coll": "o"}}}, namespace("d", "o", "insert", "update")),
        ({"$merge": {"into": {"db": "", "coll": "o"}}}, namespace("t", "o", "insert", "update")),
        ({"$merge": {"into": "o", "whenMatched": "fail"}}, namespace("t", "o", "insert")),
        (
            {"$merge": {"into": "o", "whenMatched": [], "whenNotMatched": "discard"}},
            namespace("t", "o", "update"),
        ),
        (
            {"$rankFusion": {"input": {"pipelines": {"a": [{"$unionWith": "o"}]}}}},
            namespace("t", "o", "find"),
        ),
    ],
)
def test_a_stage_that_names_another_namespace_needs_its_privileges(stage: Any, target: Requirement) -> None:
    assert needs({"$match": {}}, stage) == all_of([FIND_C, target])


@pytest.mark.parametrize(
    ("stage", "code"),
    [
        (5, 14),
        ({}, 40323),
        ({"$match": {}, "$limit": 1}, 40323),
        ({"$nope": {}}, 40324),
        ({"match": {}}, 40324),
        ({"$queue": []}, 5491300),
        ({"$mergeCursors": {}}, 5491300),
        ({"$listCatalog": {}}, 5491300),
        ({"$lookup": 5}, 9),
        ({"$lookup": {}}, 9),
        ({"$lookup": {"from": 5, "as": "x"}}, 9),
        ({"$lookup": {"from": None, "as": "x", "pipeline": []}}, 9),
        ({"$lookup": {"from": "o", "as": "x", "pipeline": 5}}, 14),
        ({"$lookup": {"from": "o", "as": "x", "bogus": 1}}, 9),
        ({"$lookup": {"from": {"db": "d", "coll": "o"}, "as": "x"}}, 9),
        ({"$lookup": {"from": "", "as": "x"}}, 73),
        ({"$lookup": {"from": "$cmd.aggregate", "as": "x"}}, 73),
        ({"$lookup": {"as": "x", "pipeline": [{"$match": {}}]}}, 9),
        ({"$graphLookup": GRAPH}, 9),
        ({"$graphLookup": {"from": "o", "bogus": 1, **GRAPH}}, 40104),
        ({"$graphLookup": {"from": {"db": "d", "coll": "o"}, **GRAPH}}, 9),
        ({"$unionWith": 5}, 9),
        ({"$unionWith": {"coll": "o", "db": "d"}}, 40415),
        ({"$unionWith": {"coll": 5}}, 14),
        ({"$unionWith": {"coll": "o", "pipeline": 5}}, 14),
        ({"$unionWith": {"pipeline": []}}, 9),
        ({"$facet": {}}, 40169),
        ({"$facet": {"a": {}}}, 40170),
        ({"$facet": {"a": [{"$nope": 1}]}}, 40324),
        ({"$out": 5}, 16990),
        ({"$out": ""}, 73),
        ({"$out": {"coll": "o"}}, 16994),
        ({"$out": {"db": "d", "coll": "o", "bogus": 1}}, 16994),
        ({"$out": {"db": 5, "coll": "o"}}, 13111),
        ({"$merge": 5}, 14),
        ({"$merge": {}}, 40414),
        ({"$merge": {"into": 5}}, 51178),
        ({"$merge": {"into": {"db": "d"}}}, 5786801),
        ({"$merge": {"into": {"coll": "o", "bogus": 1}}}, 40415),
        ({"$merge": {"into": "o", "bogus": 1}}, 40415),
        ({"$merge": {"into": "o", "whenMatched": "bogus"}}, 2),
        ({"$merge": {"into": "o", "whenMatched": None}}, 51191),
        ({"$merge": {"into": "o", "whenMatched": "keepExisting", "whenNotMatched": "fail"}}, 51181),
        ({"$merge": {"into": "o", "whenMatched": [{"$lookup": {"from": "p"}}]}}, 72),
        ({"$currentOp": {}}, 73),
        ({"$listLocalSessions": {}}, 73),
        ({"$changeStream": 5}, 6188500),
    ],
)
def test_a_form_that_is_not_understood_is_refused(stage: Any, code: int) -> None:
    assert refused(stage) == code


@pytest.mark.parametrize("value", [True, 1, 1.5, Decimal128("1E-6000")])
def test_bypassing_validation_needs_its_action_on_what_is_written(value: Any) -> None:
    expected = all_of([FIND_C, namespace("t", "o", "insert", "remove", "bypassDocumentValidation")])
    assert needs({"$out": "o"}, bypassDocumentValidation=value) == expected


@pytest.mark.parametrize("value", [False, 0, None, Decimal128("0.0")])
def test_not_bypassing_validation_needs_no_action(value: Any) -> None:
    expected = all_of([FIND_C, namespace("t", "o", "insert", "remove")])
    assert needs({"$out": "o"}, bypassDocumentValidation=value) == expected


def test_a_source_that_is_not_first_needs_find_too() -> None:
    assert needs({"$match": {}}, {"$collStats": {}}) == namespace("t", "c", "find", "collStats")
    assert needs({"$collStats": {}}) == namespace("t", "c", "collStats")


def test_a_change_stream_needs_its_actions_where_it_listens() -> None:
    both = ("changeStream", "find")
    assert needs({"$changeStream": {}}) == namespace("t", "c", *both)
    assert needs({"$changeStream": {}}, on=1) == database("t", *both)
    assert needs({"$changeStream": {}}, on=1, db="admin") == any_normal(*both)
    spread = {"$changeStream": {"allChangesForCluster": True}}
    assert needs(spread, on=1, db="admin") == any_normal(*both)
    assert refused(spread, on=1) == refused(spread, db="admin") == 72


def test_a_change_stream_with_an_unknown_option_is_refused() -> None:
    assert refused({"$changeStream": {"bogus": 1}}) == 40415


def test_documents_over_a_collection_need_find_there() -> None:
    assert needs({"$documents": []}) == namespace("t", "c", "find")
    assert needs({"$documents": []}, on=1) == namespace("t", "$cmd.aggregate", "find")


def test_a_change_stream_with_an_undocumented_option_needs_internal() -> None:
    expected = all_of([namespace("t", "c", "changeStream", "find"), cluster("internal")])
    assert needs({"$changeStream": {"allowToRunOnSystemNS": True}}) == expected


def test_own_operations_and_sessions_are_free_and_others_are_not() -> None:
    alice, bob = {"user": "alice", "db": "shop"}, {"user": "bob", "db": "shop"}
    assert needs({"$currentOp": {}}, on=1, db="admin") == NOTHING
    assert needs({"$currentOp": {"allUsers": True}}, on=1, db="admin") == cluster("inprog")
    assert refused({"$currentOp": {"allUsers": 1}}, on=1, db="admin") == 14
    assert needs({"$listLocalSessions": {"users": [alice]}}, on=1) == NOTHING
    assert needs({"$listLocalSessions": {"users": [alice, bob]}}, on=1) == cluster("listSessions")
    assert refused({"$listSessions": {}}, on="other", db="config") == 73


def test_sub_pipelines_nest_as_deep_as_mongod_allows_and_no_deeper() -> None:
    def nested(levels: int) -> dict[str, Any]:
        stage: dict[str, Any] = {"$match": {}}
        for _ in range(levels):
            stage = {"$unionWith": {"coll": "o", "pipeline": [stage]}}
        return stage

    assert needs(nested(MAX_DEPTH)) == all_of([FIND_C, namespace("t", "o", "find")])
    assert refused(nested(MAX_DEPTH + 1)) == 232


def test_a_pipeline_of_too_many_stages_is_refused() -> None:
    assert refused(*[{"$match": {}}] * (MAX_STAGES + 1)) == 9


@pytest.mark.parametrize(
    ("target", "code"), [(2, 9), (0, 9), (True, 14), (None, 14), ("$cmd.aggregate", 73), ("", 73), (b"", 14)]
)
def test_a_target_that_is_no_collection_and_not_1_is_refused(target: Any, code: int) -> None:
    assert refused({"$match": {}}, on=target) == code


def test_the_pipeline_must_be_an_array() -> None:
    for pipeline, code in (({"$match": {}}, 14), ("x", 14), (None, 14)):
        with pytest.raises(CommandError) as error:
            required({"aggregate": "c", "pipeline": pipeline, "cursor": {}})
        assert error.value.code == code


def test_the_stage_table_names_every_row_after_itself() -> None:
    for name, row in STAGES.items():
        assert name == row.name
        assert name.startswith("$")
        assert not (row.refusal and row.walk)
