"""Every row of the stage table, and every form of a stage, one by one; codes measured on mongod 6.0.5."""

from __future__ import annotations

from typing import Any

import pytest

from mongoguard.command.pipeline import MAX_DEPTH, MAX_STAGES, stage_names
from mongoguard.command.requires import INTERNAL, all_of
from mongoguard.command.stages import STAGES, UPDATE_STAGES
from mongoguard.errors import CommandError
from mongoguard.model.privilege import NOTHING, Requirement
from tests.unit.command.commands import allowed, any_normal, cluster, command, database, namespace, required

FIND_C = namespace("t", "c", "find")


def words(text: str) -> set[str]:
    return set(text.split())


PLAIN = words(
    "$addFields $bucket $bucketAuto $count $densify $fill $geoNear $limit $match $project $redact "
    "$replaceRoot $replaceWith $sample $set $setWindowFields $skip $sort $sortByCount $unset $unwind "
    "$_internalInhibitOptimization $_internalSplitPipeline $_internalUnpackBucket $_unpackBucket "
    "$changeStreamSplitLargeEvent $search $searchMeta $vectorSearch $score"
)
WALKED = words(
    "$lookup $graphLookup $unionWith $facet $out $merge $changeStream $currentOp $listSessions "
    "$listLocalSessions $documents $rankFusion $scoreFusion $queryStats $listClusterCatalog $group"
)
SOURCES = {
    "$collStats": namespace("t", "c", "collStats"),
    "$indexStats": namespace("t", "c", "indexStats"),
    "$planCacheStats": namespace("t", "c", "planCacheRead"),
    "$listSearchIndexes": namespace("t", "c", "listSearchIndexes"),
    "$operationMetrics": cluster("operationMetrics"),
    "$shardedDataDistribution": cluster("shardedDataDistribution"),
    "$_internalAllCollectionStats": cluster("allCollectionStats"),
    "$backupCursor": cluster("fsync"),
    "$backupCursorExtend": cluster("fsync"),
    "$listCachedAndActiveUsers": any_normal("listCachedAndActiveUsers"),
    "$listSampledQueries": cluster("listSampledQueries"),
    "$querySettings": cluster("querySettings"),
}


def needs(*pipeline: Any, on: Any = "c", db: str = "t", **more: Any) -> Requirement:
    return required({"aggregate": on, "pipeline": list(pipeline), "cursor": {}, **more}, db)


def refusal(*pipeline: Any, on: Any = "c", db: str = "t") -> tuple[int, str]:
    with pytest.raises(CommandError) as error:
        needs(*pipeline, on=on, db=db)
    return error.value.code, error.value.errmsg


def test_every_stage_is_plain_or_a_source_or_walked_or_refused() -> None:
    refused = {name for name, row in STAGES.items() if row.refusal}
    assert PLAIN | WALKED | set(SOURCES) | refused == set(STAGES)
    assert not refused & (PLAIN | WALKED | set(SOURCES))


@pytest.mark.parametrize("name", sorted(PLAIN))
def test_a_stage_that_works_on_what_arrives_needs_find_on_the_collection(name: str) -> None:
    assert needs({name: {}}) == FIND_C


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_a_source_needs_its_own_privilege_and_find_only_when_it_is_not_first(name: str) -> None:
    assert needs({name: {}}) == SOURCES[name]
    assert needs({name: {}}, {"$match": {}}) == SOURCES[name]
    assert needs({"$match": {}}, {name: {}}) == all_of([FIND_C, SOURCES[name]])


@pytest.mark.parametrize("name", sorted(name for name, row in STAGES.items() if row.refusal))
def test_a_stage_between_servers_is_never_relayed(name: str) -> None:
    assert refusal({name: {}}) == (5491300, f"{name}' is not allowed in user requests")
    assert refusal({"$facet": {"a": [{name: {}}]}})[0] == 5491300


def test_the_stages_of_an_update_are_those_that_name_no_namespace() -> None:
    assert set(UPDATE_STAGES) == words("$addFields $set $project $unset $replaceRoot $replaceWith")
    assert UPDATE_STAGES <= PLAIN


@pytest.mark.parametrize("name", sorted(set(STAGES) - UPDATE_STAGES))
def test_no_other_stage_gets_into_an_update(name: str) -> None:
    body = {"update": "c", "updates": [{"q": {}, "u": [{name: {}}]}]}
    with pytest.raises(CommandError):
        required(body)
    with pytest.raises(CommandError):
        needs({"$merge": {"into": "o", "whenMatched": [{name: {}}]}})


@pytest.mark.parametrize("name", sorted(UPDATE_STAGES))
def test_a_stage_of_an_update_needs_nothing_of_its_own(name: str) -> None:
    assert required({"update": "c", "updates": [{"q": {}, "u": [{name: {}}]}]}) == namespace(
        "t", "c", "update"
    )


def _nested(kind: str, levels: int) -> dict[str, Any]:
    stage: dict[str, Any] = {"$match": {}}
    for _ in range(levels):
        stage = {
            "$unionWith": {"$unionWith": {"coll": "c", "pipeline": [stage]}},
            "$lookup": {"$lookup": {"from": "c", "as": "x", "pipeline": [stage]}},
            "$facet": {"$facet": {"a": [stage]}},
            "$rankFusion": {"$rankFusion": {"input": {"pipelines": {"a": [stage]}}}},
            "without from": {"$lookup": {"as": "x", "pipeline": [{"$documents": []}, stage]}},
        }[kind]
    return stage


@pytest.mark.parametrize("kind", ["$unionWith", "$lookup", "$facet", "$rankFusion", "without from"])
def test_every_kind_of_sub_pipeline_counts_as_a_level(kind: str) -> None:
    needs(_nested(kind, MAX_DEPTH))
    assert refusal(_nested(kind, MAX_DEPTH + 1)) == (
        232,
        "Maximum number of nested sub-pipelines exceeded. Limit is 20",
    )


@pytest.mark.parametrize(
    "stage",
    [
        {"$unionWith": "o"},
        {"$unionWith": {"coll": "o"}},
        {"$lookup": {"from": "o", "as": "x"}},
        {"$graphLookup": {"from": "o", "as": "x"}},
    ],
)
def test_a_join_without_a_pipeline_counts_as_a_level_too(stage: dict[str, Any]) -> None:
    inner = stage
    for _ in range(MAX_DEPTH - 1):
        inner = {"$facet": {"a": [inner]}}
    assert needs(inner) == all_of([FIND_C, namespace("t", "o", "find")])
    assert refusal({"$facet": {"a": [inner]}})[0] == 232


def test_stages_of_sub_pipelines_count_towards_the_limit() -> None:
    half = [{"$match": {}}] * (MAX_STAGES // 2)
    assert needs(*half[1:], {"$facet": {"a": half}}) == FIND_C
    assert refusal(*half, {"$facet": {"a": half}}) == (
        9,
        "The pipelines of a command must be no longer than 10000 stages together",
    )


def test_a_pipeline_that_is_too_long_for_the_server_is_the_servers_to_refuse() -> None:
    """mongod counts when it runs a pipeline: the privileges come first, and who lacks them reads that."""
    assert needs(*[{"$match": {}}] * 1001, {"$out": "o"}) == all_of(
        [FIND_C, namespace("t", "o", "insert", "remove")]
    )


def test_after_a_join_names_belong_to_the_first_database_again() -> None:
    oplog = {"$lookup": {"from": {"db": "local", "coll": "oplog.rs"}, "as": "x", "pipeline": []}}
    assert needs(oplog, {"$out": "o"}) == all_of(
        [FIND_C, namespace("local", "oplog.rs", "find"), namespace("t", "o", "insert", "remove")]
    )


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ({"db": "local", "coll": "oplog.rs"}, namespace("local", "oplog.rs", "find")),
        (
            {"db": "config", "coll": "cache.chunks.t.c"},
            namespace("config", "cache.chunks.t.c", "find"),
        ),
    ],
)
def test_two_kinds_of_foreign_namespaces_may_be_joined_with_find(source: Any, target: Requirement) -> None:
    assert needs({"$lookup": {"from": source, "as": "x"}}) == all_of([FIND_C, target])


@pytest.mark.parametrize(
    "source",
    [
        {"db": "local", "coll": "x"},
        {"db": "x", "coll": "oplog.rs"},
        {"db": "x", "coll": "cache.chunks.x"},
        {"db": "config", "coll": "chunks"},
        {"db": "config"},
        {"coll": "oplog.rs"},
        {},
    ],
)
def test_no_other_foreign_namespace_may_be_joined(source: dict[str, str]) -> None:
    code, errmsg = refusal({"$lookup": {"from": source, "as": "x"}})
    assert code == 9
    assert errmsg.endswith(
        f"is not supported for db: {source.get('db', '')} and coll: {source.get('coll', '')}"
    )


def test_a_join_without_a_collection_begins_with_documents() -> None:
    find = all_of([FIND_C, namespace("t", "$cmd.aggregate", "find")])
    documents = [{"$documents": []}]
    assert needs({"$lookup": {"as": "x", "pipeline": documents}}) == find
    assert needs({"$unionWith": {"pipeline": documents}}) == find
    assert needs({"$unionWith": {"coll": None, "pipeline": documents}}) == find
    later = [*documents, {"$unionWith": "o"}]
    assert needs({"$unionWith": {"pipeline": later}}) == all_of([find, namespace("t", "o", "find")])


@pytest.mark.parametrize(
    ("stage", "code"),
    [
        ({"$lookup": {"as": "x"}}, 9),
        ({"$lookup": {"as": "x", "pipeline": []}}, 9),
        ({"$lookup": {"as": "x", "pipeline": [5]}}, 9),
        ({"$lookup": {"as": "x", "pipeline": [{"$match": {}}, {"$documents": []}]}}, 9),
        ({"$lookup": {"as": "x", "pipeline": None}}, 14),
        ({"$lookup": {"from": {"db": "local", "coll": "oplog.rs", "x": 1}, "as": "x"}}, 40415),
        ({"$unionWith": {"coll": "", "pipeline": []}}, 73),
        ({"$unionWith": "a$b"}, 73),
        ({"$unionWith": ""}, 73),
        ({"$unionWith": {}}, 9),
        ({"$unionWith": {"pipeline": None}}, 9),
        ({"$graphLookup": 5}, 9),
        ({"$graphLookup": {}}, 9),
        ({"$graphLookup": {"from": 5}}, 9),
        ({"$graphLookup": {"from": ""}}, 73),
        ({"$graphLookup": {"from": "a$b"}}, 73),
        ({"$facet": 5}, 40169),
        ({"$facet": {"a": [], "b": 5}}, 40170),
        ({"$rankFusion": 5}, 9),
        ({"$rankFusion": {}}, 40414),
        ({"$rankFusion": {"input": {}}}, 40414),
        ({"$rankFusion": {"input": {"pipelines": {}}}}, 40414),
        ({"$rankFusion": {"input": {"pipelines": {"a": 5}}}}, 14),
        ({"$rankFusion": {"input": {"pipelines": {"a": []}, "x": 1}}}, 40415),
        ({"$out": {"db": "t", "coll": 5}}, 13111),
        ({"$out": {"db": "", "coll": "o"}}, 73),
        ({"$out": {"db": "d", "coll": ""}}, 73),
        ({"$out": {"db": "d"}}, 16994),
        ({"$out": "a$b"}, 73),
        ({"$merge": ""}, 5786800),
        ({"$merge": "a$b"}, 73),
        ({"$merge": {"into": ""}}, 5786800),
        ({"$merge": {"into": {"db": 5, "coll": "o"}}}, 14),
        ({"$merge": {"into": {"db": "d", "coll": 5}}}, 14),
        ({"$merge": {"into": {"db": "d", "coll": ""}}}, 5786801),
        ({"$merge": {"into": "o", "whenMatched": 5}}, 51191),
        ({"$merge": {"into": "o", "whenMatched": "pipeline"}}, 2),
        ({"$merge": {"into": "o", "whenNotMatched": 5}}, 14),
        ({"$merge": {"into": "o", "whenNotMatched": "bogus"}}, 2),
        ({"$changeStream": {"allChangesForCluster": True}}, 72),
        ({"$queryStats": 5}, 9),
    ],
)
def test_a_form_that_mongod_refuses_is_refused(stage: Any, code: int) -> None:
    assert refusal(stage)[0] == code


MODES = {
    ("replace", "insert"): ("insert", "update"),
    ("merge", "insert"): ("insert", "update"),
    ("keepExisting", "insert"): ("insert", "update"),
    ("pipeline", "insert"): ("insert", "update"),
    ("fail", "insert"): ("insert",),
    ("replace", "discard"): ("update",),
    ("merge", "discard"): ("update",),
    ("pipeline", "discard"): ("update",),
    ("replace", "fail"): ("update",),
    ("merge", "fail"): ("update",),
    ("pipeline", "fail"): ("update",),
}


@pytest.mark.parametrize("matched", ["replace", "merge", "keepExisting", "pipeline", "fail"])
@pytest.mark.parametrize("not_matched", ["insert", "discard", "fail"])
def test_the_modes_of_merge_say_what_is_done_to_its_target(matched: str, not_matched: str) -> None:
    when = [{"$set": {"a": 1}}] if matched == "pipeline" else matched
    stage = {"$merge": {"into": "o", "whenMatched": when, "whenNotMatched": not_matched}}
    actions = MODES.get((matched, not_matched))
    if actions is None:
        assert refusal(stage)[0] == 51181
    else:
        assert needs(stage) == all_of([FIND_C, namespace("t", "o", *actions)])


def test_merge_without_modes_inserts_and_updates() -> None:
    both = all_of([FIND_C, namespace("t", "o", "insert", "update")])
    for into in ("o", {"coll": "o"}, {"db": "t", "coll": "o"}, {"db": "", "coll": "o"}):
        assert needs({"$merge": {"into": into}}) == both
    assert needs({"$merge": {"into": "o", "whenNotMatched": None}}) == both
    elsewhere = needs({"$merge": {"into": {"db": "d", "coll": "o"}}})
    assert elsewhere == all_of([FIND_C, namespace("d", "o", "insert", "update")])


@pytest.mark.parametrize(
    ("stage", "code"),
    [
        ({"$currentOp": 5}, 14),
        ({"$currentOp": {"bogus": True}}, 9),
        ({"$currentOp": {"allUsers": 1}}, 14),
        ({"$listLocalSessions": 5}, 14),
        ({"$listLocalSessions": {"bogus": 1}}, 40415),
        ({"$listLocalSessions": {"allUsers": 1}}, 14),
        ({"$listLocalSessions": {"users": 5}}, 14),
        ({"$listLocalSessions": {"users": [5]}}, 14),
        ({"$listLocalSessions": {"users": [{"user": "u", "db": "d", "x": 1}]}}, 40415),
        ({"$listLocalSessions": {"users": [{"user": "u"}]}}, 40414),
        ({"$listLocalSessions": {"users": [{"db": "d"}]}}, 40414),
        ({"$listLocalSessions": {"users": [{"user": 5, "db": "d"}]}}, 14),
        ({"$listLocalSessions": {"users": [{"user": None, "db": "d"}]}}, 40414),
        ({"$listLocalSessions": {"users": None}}, 10065),
        ({"$listLocalSessions": {"users": [None, 5]}}, 14),
        ({"$listLocalSessions": {"allUsers": True, "users": [{"user": "u", "db": "d"}]}}, 12),
        ({"$listLocalSessions": {"allUsers": True, "users": [None, {"user": "alice", "db": "shop"}]}}, 12),
        ({"$listSessions": {"allUsers": True, "users": [{"user": "u", "db": "d"}]}}, 12),
        ({"$listSessions": {}}, 73),
    ],
)
def test_operations_and_sessions_asked_for_in_another_form_are_refused(stage: Any, code: int) -> None:
    assert refusal(stage, on=1, db="admin")[0] == code


@pytest.mark.parametrize(("on", "db"), [(1, "t"), ("c", "admin"), ("c", "t")])
def test_operations_are_read_on_admin_without_a_collection(on: Any, db: str) -> None:
    assert refusal({"$currentOp": {}}, on=on, db=db)[0] == 73


@pytest.mark.parametrize(
    "spec",
    [
        {"allUsers": True},
        {"users": [{"user": "alice", "db": "other"}]},
        {"users": [{"user": "bob", "db": "shop"}]},
    ],
)
def test_sessions_of_others_need_list_sessions(spec: dict[str, Any]) -> None:
    assert needs({"$listLocalSessions": spec}, on=1) == cluster("listSessions")
    assert needs({"$listSessions": spec}, on="system.sessions", db="config") == cluster("listSessions")


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"allUsers": False},
        {"allUsers": None},
        {"users": []},
        {"users": [None]},
        {"users": [None, {"user": "alice", "db": "shop"}]},
        {"users": [{"user": "alice", "db": "shop"}]},
    ],
)
def test_ones_own_sessions_are_free(spec: dict[str, Any]) -> None:
    assert needs({"$listLocalSessions": spec}, on=1) == NOTHING
    assert needs({"$listSessions": spec}, on="system.sessions", db="config") == NOTHING


@pytest.mark.parametrize(
    "spec",
    [
        {"allUsers": True, "users": []},
        {"allUsers": True, "users": [None]},
        {"allUsers": False, "users": [{"user": "bob", "db": "shop"}]},
        {"users": [None, {"user": "bob", "db": "shop"}]},
        {"users": [{"user": "", "db": ""}]},
    ],
)
def test_others_sessions_need_list_sessions(spec: dict[str, Any]) -> None:
    assert needs({"$listLocalSessions": spec}, on=1) == cluster("listSessions")


@pytest.mark.parametrize(("on", "db"), [("system.sessions", "t"), ("other", "config"), (1, "config")])
def test_stored_sessions_are_read_in_their_collection_only(on: Any, db: str) -> None:
    assert refusal({"$listSessions": {}}, on=on, db=db)[0] == 73


def test_operations_of_everybody_need_inprog() -> None:
    everything = {"allUsers": True, "idleConnections": True, "idleCursors": True, "localOps": True}
    assert needs({"$currentOp": everything}, on=1, db="admin") == cluster("inprog")
    mine = {"allUsers": False, "idleSessions": True, "truncateOps": True, "backtrace": True}
    assert needs({"$currentOp": mine}, on=1, db="admin") == NOTHING
    assert needs({"$currentOp": {"targetAllNodes": True}}, on=1, db="admin") == NOTHING


def test_query_statistics_have_a_lesser_action_when_they_are_transformed() -> None:
    both = cluster("queryStatsRead", "queryStatsReadTransformed")
    assert needs({"$queryStats": {}}, on=1, db="admin") == both
    for shown in (None, {}, 1, "hmac-sha-256", {"algorithm": "none"}, {"algorithm": None}, {"hmacKey": b"k"}):
        assert needs({"$queryStats": {"transformIdentifiers": shown}}, on=1, db="admin") == both
    transformed = {"$queryStats": {"transformIdentifiers": {"algorithm": "hmac-sha-256"}}}
    assert needs(transformed, on=1, db="admin") == cluster("queryStatsReadTransformed")


def test_the_names_of_a_pipelines_stages_are_told_in_order() -> None:
    pipeline = command({"aggregate": 1, "pipeline": [{"$match": {}}, {"$limit": 1}]}).body.array("pipeline")
    assert pipeline is not None
    assert stage_names(pipeline) == ("$match", "$limit")


def test_a_facet_reads_what_arrives_and_its_sources_the_collection() -> None:
    arrives = {"$facet": {"a": [{"$match": {}}], "b": []}}
    assert needs({"$collStats": {}}, arrives) == namespace("t", "c", "collStats")
    assert needs({"$facet": {"a": [{"$collStats": {}}]}}) == namespace("t", "c", "find", "collStats")


def test_a_change_stream_may_have_every_documented_option() -> None:
    options: dict[str, Any] = dict.fromkeys(
        words(
            "fullDocument fullDocumentBeforeChange resumeAfter startAfter startAtOperationTime "
            "allChangesForCluster showExpandedEvents"
        )
    )
    assert needs({"$changeStream": options}) == namespace("t", "c", "changeStream", "find")


@pytest.mark.parametrize(
    ("stage", "errmsg"),
    [
        ({"$out": {"db": 5, "coll": "o"}}, "wrong type for field (db) int != string"),
        ({"$out": {"db": "d", "coll": 5}}, "wrong type for field (coll) int != string"),
        (
            {"$graphLookup": {"from": {"db": "d", "coll": "o"}}},
            "$graphLookup with syntax {from: {db:<>, coll:<>},..} is not supported for db: d and coll: o",
        ),
        (
            {"$unionWith": {"pipeline": []}},
            "$unionWith stage without explicit collection must have a pipeline with $documents as first stage",
        ),
    ],
)
def test_a_refused_form_is_named_in_the_text(stage: dict[str, Any], errmsg: str) -> None:
    assert refusal(stage)[1] == errmsg


def test_groups_are_merged_by_servers_only() -> None:
    """mongod 6.0.5 takes `$doingMerge` from everybody; later servers, from each other."""
    plain = {"_id": "$g", "n": {"$sum": 1}}
    assert needs({"$group": plain}) == FIND_C
    for argument in ("$doingMerge", "$willBeMerged"):
        for value in (True, False, None):
            assert needs({"$group": {**plain, argument: value}}) == all_of([FIND_C, INTERNAL])
    hidden = {"$facet": {"a": [{"$group": {**plain, "$doingMerge": True}}]}}
    assert needs(hidden) == all_of([FIND_C, INTERNAL])
    assert needs({"$group": "no document"}) == FIND_C


def test_the_catalogue_of_a_database_needs_list_collections_there() -> None:
    need = needs({"$listClusterCatalog": {"shards": True, "balancingConfiguration": True}}, on=1)
    assert need == database("t", "listCollections")
    assert not allowed(need, [cluster("listClusterCatalog"), database("t", "find")])


def test_the_catalogue_of_the_cluster_needs_list_cluster_catalog() -> None:
    need = needs({"$listClusterCatalog": {}}, on=1, db="admin")
    assert need == cluster("listClusterCatalog")
    assert not allowed(need, [database("admin", "listCollections", "find"), any_normal("listCollections")])


def test_the_catalogue_is_asked_for_over_a_database_and_in_known_words() -> None:
    assert refusal({"$listClusterCatalog": {}})[0] == 73
    assert refusal({"$listClusterCatalog": {}}, db="admin")[0] == 73
    assert refusal({"$unionWith": {"coll": "c", "pipeline": [{"$listClusterCatalog": {}}]}})[0] == 73
    assert refusal({"$listClusterCatalog": 1}, on=1)[0] == 9
    assert refusal({"$listClusterCatalog": {"db": "other"}}, on=1)[0] == 40415
