"""Cases of aggregation: every stage, alone, nested and joined."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bson import Timestamp

from mongoguard.command.stages import STAGES
from tests.oracle.cases.case import SELF, Case, cases

__all__ = ["CASES", "JOINS", "PLAIN", "WRITES"]

Stage = Mapping[str, Any]

PLAIN: tuple[Stage, ...] = (
    {"$addFields": {"a": 1}},
    {"$bucket": {"groupBy": "$a", "boundaries": [0, 1], "default": 2}},
    {"$bucketAuto": {"groupBy": "$a", "buckets": 2}},
    {"$count": "n"},
    {"$densify": {"field": "a", "range": {"step": 1, "bounds": "full"}}},
    {"$fill": {"output": {"a": {"value": 0}}}},
    {"$group": {"_id": "$a"}},
    {"$limit": 1},
    {"$match": {"a": 1}},
    {"$project": {"a": 1}},
    {"$redact": "$$KEEP"},
    {"$replaceRoot": {"newRoot": {"a": 1}}},
    {"$replaceWith": {"a": 1}},
    {"$sample": {"size": 1}},
    {"$set": {"a": 1}},
    {"$setWindowFields": {"sortBy": {"a": 1}, "output": {"n": {"$sum": 1}}}},
    {"$skip": 1},
    {"$sort": {"a": 1}},
    {"$sortByCount": "$a"},
    {"$unset": "a"},
    {"$unwind": "$a"},
)

_LOOKUP = {"localField": "a", "foreignField": "b", "as": "x"}
_GRAPH = {"startWith": "$a", "connectFromField": "a", "connectToField": "b", "as": "x"}
JOINS: tuple[Stage, ...] = (
    {"$lookup": {"from": "o", **_LOOKUP}},
    {"$lookup": {"from": "o", "pipeline": [], "as": "x"}},
    {"$lookup": {"from": "o", "let": {"v": "$a"}, "pipeline": [{"$match": {}}], "as": "x"}},
    {"$lookup": {"from": "o", "pipeline": [{"$indexStats": {}}], "as": "x"}},
    {"$lookup": {"from": "o", "pipeline": [{"$planCacheStats": {}}], "as": "x"}},
    {
        "$lookup": {
            "from": "o",
            "pipeline": [{"$match": {}}, {"$lookup": {"from": "p", **_LOOKUP}}],
            "as": "x",
        }
    },
    {
        "$lookup": {
            "from": "o",
            "pipeline": [{"$unionWith": {"coll": "p", "pipeline": [{"$limit": 1}]}}],
            "as": "x",
        }
    },
    {
        "$lookup": {
            "from": "o",
            "pipeline": [{"$facet": {"f": [{"$graphLookup": {"from": "p", **_GRAPH}}]}}],
            "as": "x",
        }
    },
    {"$lookup": {"from": "o", "pipeline": [{"$documents": [{}]}], "as": "x"}},
    {"$lookup": {"from": "system.js", **_LOOKUP}},
    {"$lookup": {"from": "system.views", **_LOOKUP}},
    {"$lookup": {"from": "vw", **_LOOKUP}},
    {"$lookup": {"from": {"db": "t2", "coll": "c2"}, **_LOOKUP}},
    {"$lookup": {"from": {"db": "t", "coll": "o"}, **_LOOKUP}},
    {"$lookup": {"from": {"db": "local", "coll": "oplog.rs"}, "pipeline": [{"$limit": 1}], "as": "x"}},
    {"$lookup": {"from": {"db": "config", "coll": "cache.chunks.t.c"}, **_LOOKUP}},
    {"$graphLookup": {"from": "o", **_GRAPH}},
    {"$graphLookup": {"from": "o", **_GRAPH, "restrictSearchWithMatch": {"a": 1}, "maxDepth": 1}},
    {"$graphLookup": {"from": "system.js", **_GRAPH}},
    {"$graphLookup": {"from": {"db": "local", "coll": "oplog.rs"}, **_GRAPH}},
    {"$unionWith": "o"},
    {"$unionWith": {"coll": "o"}},
    {"$unionWith": {"coll": "o", "pipeline": [{"$lookup": {"from": "p", **_LOOKUP}}]}},
    {"$unionWith": {"coll": "o", "pipeline": [{"$collStats": {"count": {}}}]}},
    {"$unionWith": {"pipeline": [{"$documents": [{"a": 1}]}]}},
    {"$unionWith": {"pipeline": [{"$documents": [{}]}, {"$lookup": {"from": "p", **_LOOKUP}}]}},
    {"$facet": {"f": [{"$match": {}}], "g": [{"$lookup": {"from": "o", **_LOOKUP}}]}},
    {"$facet": {"f": [{"$unionWith": "o"}]}},
    {"$facet": {"f": []}},
)
WRITES: tuple[Stage, ...] = (
    {"$out": "o"},
    {"$out": {"db": "t", "coll": "o"}},
    {"$out": {"db": "t2", "coll": "o"}},
    {"$out": {"db": "admin", "coll": "o"}},
    {"$out": "c"},
    {"$out": "system.js"},
    {"$out": {"db": "config", "coll": "o"}},
    {"$out": {"db": "local", "coll": "o"}},
    {"$merge": "o"},
    {"$merge": {"into": "o"}},
    {"$merge": {"into": {"db": "t2", "coll": "o"}}},
    {"$merge": {"into": {"db": "admin", "coll": "o"}}},
    {"$merge": {"into": {"coll": "o"}}},
    {"$merge": {"into": "c"}},
    {"$merge": {"into": "system.js", "whenMatched": "fail"}},
    {"$merge": {"into": "o", "whenMatched": "fail"}},
    {"$merge": {"into": "o", "whenMatched": "keepExisting"}},
    {"$merge": {"into": "o", "whenMatched": "replace", "whenNotMatched": "discard"}},
    {"$merge": {"into": "o", "whenMatched": [{"$set": {"a": 1}}], "whenNotMatched": "insert"}},
    {"$merge": {"into": "o", "whenMatched": [{"$addFields": {"a": "$$v"}}], "let": {"v": 1}}},
    {"$merge": {"into": "o", "on": "_id", "whenMatched": "merge"}},
)
_SOURCES: tuple[Stage, ...] = (
    {"$collStats": {"count": {}}},
    {"$collStats": {"storageStats": {}, "latencyStats": {"histograms": True}}},
    {"$indexStats": {}},
    {"$planCacheStats": {}},
    {"$changeStream": {}},
    {"$changeStream": {"fullDocument": "updateLookup", "fullDocumentBeforeChange": "off"}},
    {"$changeStream": {"allChangesForCluster": True}},
    {"$changeStream": {"allChangesForCluster": False}},
    {"$changeStream": {"showExpandedEvents": True}},
    {"$changeStream": {"startAtOperationTime": Timestamp(1, 1)}},
    {"$documents": [{"a": 1}]},
    {"$listSessions": {}},
    {"$listLocalSessions": {}},
    {"$currentOp": {}},
    {"$operationMetrics": {}},
    {"$shardedDataDistribution": {}},
    {"$_internalAllCollectionStats": {"stats": {"count": {}}}},
    {"$backupCursor": {}},
)
_CURRENT_OPS: tuple[Stage, ...] = (
    {"$currentOp": {"allUsers": True}},
    {"$currentOp": {"allUsers": False}},
    {"$currentOp": {"allUsers": False, "idleConnections": True, "idleSessions": True, "idleCursors": True}},
    {"$currentOp": {"allUsers": True, "localOps": True, "truncateOps": True}},
    {"$currentOp": {"backtrace": True}},
    {"$currentOp": {"bogus": True}},
    {"$currentOp": {"allUsers": 1}},
    {"$currentOp": 1},
)
_SESSIONS: tuple[Mapping[str, Any], ...] = (
    {"allUsers": True},
    {"allUsers": False},
    {"users": []},
    {"users": [{"user": SELF, "db": "admin"}]},
    {"users": [{"user": SELF, "db": "t"}]},
    {"users": [{"user": SELF, "db": "admin"}, {"user": "root", "db": "admin"}]},
    {"users": [{"user": "root", "db": "admin"}]},
    {"allUsers": False, "users": [{"user": SELF, "db": "admin"}]},
    {"allUsers": True, "users": [{"user": SELF, "db": "admin"}]},
    {"bogus": 1},
    {"users": [{"user": "root"}]},
)
_REFUSED_FORMS: tuple[Any, ...] = (
    {"$lookup": {"from": "o"}},
    {"$lookup": {"from": "o", **_LOOKUP, "bogus": 1}},
    {"$lookup": {"from": 5, **_LOOKUP}},
    {"$lookup": {"from": "", **_LOOKUP}},
    {"$lookup": {"pipeline": [{"$match": {}}], "as": "x"}},
    {"$lookup": "o"},
    {"$lookup": {"from": "o", "pipeline": {}, "as": "x"}},
    {"$lookup": {"from": "o", "pipeline": [{"$out": "p"}], "as": "x"}},
    {"$lookup": {"from": "o", "pipeline": [{"$merge": "p"}], "as": "x"}},
    {"$graphLookup": {"from": "o"}},
    {"$graphLookup": {"from": "o", **_GRAPH, "bogus": 1}},
    {"$unionWith": {}},
    {"$unionWith": 5},
    {"$unionWith": {"coll": "o", "bogus": 1}},
    {"$unionWith": {"coll": "o", "pipeline": [{"$out": "p"}]}},
    {"$facet": {}},
    {"$facet": {"f": {}}},
    {"$facet": {"f": [{"$facet": {"g": []}}]}},
    {"$facet": {"f": [{"$out": "p"}]}},
    {"$facet": {"f": [{"$collStats": {}}]}},
    {"$out": 5},
    {"$out": {"db": "t"}},
    {"$out": ""},
    {"$out": "$x"},
    {"$merge": 5},
    {"$merge": {}},
    {"$merge": {"into": 5}},
    {"$merge": {"into": "o", "bogus": 1}},
    {"$merge": {"into": "o", "whenMatched": "bogus"}},
    {"$merge": {"into": "never", "whenMatched": [{"$lookup": {"from": "p", **_LOOKUP}}]}},
    {"$merge": {"into": ""}},
    {"$bogus": {}},
    {},
    {"$match": {}, "$limit": 1},
    5,
    {"$changeStream": {"bogus": 1}},
    {"$changeStream": 1},
    {"$changeStream": {"allowToRunOnConfigDB": True}},
    {"$changeStream": {"showMigrationEvents": True}},
    {"$collStats": 1},
    {"$documents": 5},
    {"$listSampledQueries": {}},
    {"$mergeCursors": {}},
    {"$queue": []},
    {"$_internalShredDocuments": {}},
)
_UPDATES_WITH_STAGES = (
    {"update": "c", "updates": [{"q": {}, "u": [{"$lookup": {"from": "o", **_LOOKUP}}]}]},
    {"update": "c", "updates": [{"q": {"_id": -1}, "u": [{"$unset": "a"}, {"$replaceWith": {"b": 1}}]}]},
    {"findAndModify": "c", "query": {"_id": -1}, "update": [{"$out": "o"}]},
)


def _over(collection: str | int, *stages: Any, **options: Any) -> Mapping[str, Any]:
    return {"aggregate": collection, "pipeline": list(stages), "cursor": {}, **options}


CASES: list[Case] = [
    *cases("t", (_over("missing", stage) for stage in PLAIN)),
    *cases("t", (_over("c", stage) for stage in JOINS)),
    *cases("t", (_over(1, {"$documents": [{}]}, stage) for stage in JOINS[:4])),
    *cases("t", (_over("c", {"$limit": 1}, {"$facet": {"f": [stage]}}) for stage in JOINS[:4])),
    *cases("t", (_over("c", {"$match": {"_id": -1}}, stage) for stage in WRITES)),
    *cases("t", (_over("c", stage, bypassDocumentValidation=True) for stage in (*WRITES[:4], *WRITES[8:10]))),
    *cases("t", (_over("c", join, {"$out": "o"}) for join in JOINS[20:24])),
    *cases("t", (_over("c", stage) for stage in _SOURCES)),
    *cases("t", (_over(1, stage) for stage in _SOURCES)),
    *cases("admin", (_over(1, stage) for stage in _SOURCES)),
    *cases("admin", (_over("c", stage) for stage in _SOURCES)),
    *cases("config", (_over(1, stage) for stage in _SOURCES)),
    *cases("local", (_over("oplog.rs", stage) for stage in _SOURCES[:8])),
    *cases("admin", (_over(1, stage) for stage in _CURRENT_OPS)),
    *cases("admin", (_over(1, {"$listLocalSessions": options}) for options in _SESSIONS)),
    *cases("t", (_over(1, {"$listLocalSessions": options}) for options in _SESSIONS[:6])),
    *cases("config", (_over("system.sessions", {"$listSessions": options}) for options in _SESSIONS)),
    *cases("config", (_over("other", {"$listSessions": {}}),)),
    *cases("t", (_over("system.sessions", {"$listSessions": {"allUsers": True}}),)),
    *cases("t", (_over("c", stage) for stage in _REFUSED_FORMS)),
    *cases(
        "t",
        (_over(1, {"$changeStream": {"allChangesForCluster": True}}),),
        more=lambda c: {**c, "comment": 1},
    ),
    *cases("t", (_over(1, {"$match": {}}), _over(1, {"$lookup": {"from": "o", **_LOOKUP}}))),
    *cases("t", (_over("c", {"$collStats": {"count": {}}}, {"$lookup": {"from": "o", **_LOOKUP}}),)),
    *cases("t", (_over("c", {"$match": {}}, {"$collStats": {"count": {}}}),)),
    *cases("t", (_over("c", {"$match": {}}, {"$indexStats": {}}), _over("c", {"$out": "o"}, {"$match": {}}))),
    *cases("t", _UPDATES_WITH_STAGES),
    *cases(
        "t",
        (
            _over(name)
            for name in ("vw", "ts", "system.js", "system.views", "system.buckets.ts", "system.foo")
        ),
    ),
    *cases(
        "t",
        ({"explain": _over("c", stage)} for stage in (*JOINS[:8], *WRITES[:3], *WRITES[8:11], *_SOURCES[:5])),
    ),
    *cases(
        "t", ({"aggregate": "c", "pipeline": [stage], "explain": True} for stage in (*JOINS[:3], *WRITES[:2]))
    ),
    *cases(
        "t",
        (
            {"aggregate": "c"},
            {"aggregate": "c", "pipeline": {}},
            {"aggregate": "c", "pipeline": []},
            {"aggregate": "c", "pipeline": [], "cursor": {}, "bogus": 1},
            {"aggregate": 2, "pipeline": [], "cursor": {}},
            {"aggregate": "", "pipeline": [], "cursor": {}},
            {"aggregate": {}, "pipeline": [], "cursor": {}},
            {"aggregate": "c", "pipeline": [], "cursor": 5},
            {"aggregate": "c", "pipeline": [], "explain": 1},
            {"aggregate": "c", "pipeline": [], "cursor": {}, "needsMerge": True, "fromMongos": True},
            {
                "aggregate": "c",
                "pipeline": [],
                "cursor": {},
                "exchange": {"policy": "broadcast", "consumers": 1},
            },
            {"aggregate": "c", "pipeline": [], "cursor": {}, "collation": {"locale": "fr"}, "hint": "_id_"},
        ),
    ),
    *cases(
        "t",
        (_over("c", {name: {}}) for name, row in STAGES.items() if row.refusal and row.since == "6.0"),
        more=lambda c: {**c, "comment": "a stage between servers"},
    ),
]
