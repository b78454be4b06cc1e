"""Cases of the commands that read and write documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bson import Binary, Decimal128, Int64

from tests.oracle.cases.case import Case, cases

__all__ = ["CASES", "EXPLAINABLE"]

_U = {"$set": {"a": 1}}
_UPDATE = {"q": {"_id": -1}, "u": _U}
_UPSERT = {"q": {"_id": "up"}, "u": {"$set": {"a": 1}}, "upsert": True}
_SPECIAL = (
    "system.js",
    "system.views",
    "system.profile",
    "system.buckets.ts",
    "system.foo",
    "systemx",
    "vw",
    "ts",
)
_SPECIAL_ELSEWHERE = {
    "admin": ("c", "system.users", "system.roles", "system.version", "system.keys"),
    "config": ("settings", "system.sessions", "transactions", "c"),
    "local": ("oplog.rs", "startup_log", "replset.minvalid", "system.replset", "replsetx", "c"),
    "t2": ("c", "c2"),
}

_FINDS: list[Mapping[str, Any]] = [
    {"find": "c", "filter": {"_id": -1}, "limit": 1},
    {"find": "c", "limit": Int64(1), "singleBatch": True},
    {"find": "c", "filter": {"$where": "true"}, "limit": 1},
    {"find": "c", "filter": {"$expr": {"$eq": [1, 2]}}, "let": {"x": 1}},
    {"find": "c", "tailable": True, "awaitData": False},
    {"find": "c", "oplogReplay": True},
    {"find": "c", "readConcern": {"level": "majority"}},
    {"find": "c", "comment": "why", "$readPreference": {"mode": "primary"}},
    {"find": "c", "maxTimeMS": 1000, "batchSize": 0, "allowDiskUse": True},
    {"find": "c", "$_requestResumeToken": True, "hint": {"$natural": 1}},
    {"find": "missing.collection"},
    {"find": "C"},
]
_COUNTS: list[Mapping[str, Any]] = [
    {"count": "c", "query": {"a": 1}},
    {"count": "c", "limit": 1, "skip": 1},
    {"count": "missing"},
    {"count": "vw"},
    {"distinct": "c", "key": "a", "query": {"b": 1}},
    {"distinct": "vw", "key": "a"},
    {"distinct": "missing", "key": "a"},
]
_UPDATES: list[Mapping[str, Any]] = [
    {"update": "c", "updates": [_UPDATE]},
    {"update": "c", "updates": [_UPDATE, _UPDATE]},
    {"update": "c", "updates": [{**_UPDATE, "upsert": False}]},
    {"update": "c", "updates": [_UPSERT]},
    {"update": "c", "updates": [_UPDATE, _UPSERT], "ordered": False},
    {"update": "c", "updates": [{**_UPDATE, "multi": True}]},
    {"update": "c", "updates": [{"q": {"_id": -1}, "u": [{"$set": {"a": 1}}]}]},
    {"update": "c", "updates": [{"q": {"_id": -1}, "u": {"a": 1}}]},
    {
        "update": "c",
        "updates": [{"q": {"_id": -1}, "u": {"$set": {"a.$[x]": 1}}, "arrayFilters": [{"x": 1}]}],
    },
    {"update": "c", "updates": [_UPDATE], "bypassDocumentValidation": True},
    {"update": "c", "updates": [_UPDATE], "bypassDocumentValidation": False},
    {"update": "c", "updates": [_UPDATE], "bypassDocumentValidation": 1},
    {"update": "c", "updates": [_UPDATE], "bypassDocumentValidation": 0.0},
    {"update": "c", "updates": [_UPDATE], "bypassDocumentValidation": Decimal128("0.1")},
    {"update": "c", "updates": [_UPSERT], "bypassDocumentValidation": True},
    {"update": "vw", "updates": [_UPDATE]},
    {"update": "ts", "updates": [_UPDATE]},
    {"delete": "c", "deletes": [{"q": {"_id": -1}, "limit": 1}]},
    {"delete": "c", "deletes": [{"q": {"_id": -1}, "limit": 0}, {"q": {"_id": -2}, "limit": 0}]},
    {"delete": "missing", "deletes": [{"q": {}, "limit": 0}]},
    {"delete": "vw", "deletes": [{"q": {}, "limit": 0}]},
]
_INSERTS: list[Mapping[str, Any]] = [
    {"insert": "c", "documents": [{"_id": "twice"}]},
    {"insert": "c", "documents": [{"_id": "twice"}, {"_id": "twice"}], "ordered": False},
    {"insert": "c", "documents": [{"_id": "twice"}], "bypassDocumentValidation": True},
    {"insert": "c", "documents": [{"_id": "twice"}], "bypassDocumentValidation": False},
    {"insert": "vw", "documents": [{"_id": "twice"}]},
    {"insert": "c", "documents": [{"_id": "twice"}], "writeConcern": {"w": 1}},
]
_FIND_AND_MODIFIES: list[Mapping[str, Any]] = [
    {"findAndModify": "c", "query": {"_id": -1}, "update": _U},
    {"findAndModify": "c", "query": {"_id": -1}, "update": _U, "new": True},
    {"findAndModify": "c", "query": {"_id": -1}, "update": [{"$set": {"a": 1}}]},
    {"findAndModify": "c", "query": {"_id": "up"}, "update": _U, "upsert": True},
    {"findAndModify": "c", "query": {"_id": "up"}, "update": _U, "upsert": 1},
    {"findAndModify": "c", "query": {"_id": -1}, "update": _U, "upsert": False},
    {"findAndModify": "c", "query": {"_id": -1}, "remove": True},
    {"findAndModify": "c", "query": {"_id": -1}, "remove": 1},
    {"findAndModify": "c", "query": {"_id": -1}, "remove": False, "update": _U},
    {"findAndModify": "c", "query": {"_id": -1}, "remove": True, "update": _U},
    {"findAndModify": "c", "query": {"_id": -1}, "remove": True, "upsert": True},
    {"findAndModify": "c", "query": {"_id": -1}, "update": _U, "bypassDocumentValidation": True},
    {"findAndModify": "c", "query": {"_id": -1}, "remove": True, "bypassDocumentValidation": True},
    {"findandmodify": "c", "query": {"_id": -1}, "remove": True},
    {"findAndModify": "vw", "query": {"_id": -1}, "remove": True},
]
_JS = "function(){}"
_MAP_REDUCES: list[Mapping[str, Any]] = [
    {"mapReduce": "missing", "map": _JS, "reduce": _JS, "out": {"inline": 1}},
    {"mapreduce": "missing", "map": _JS, "reduce": _JS, "out": {"inline": 1}},
    {"mapReduce": "missing", "map": _JS, "reduce": _JS, "out": "o"},
    {"mapReduce": "missing", "map": _JS, "reduce": _JS, "out": {"replace": "o"}},
    {"mapReduce": "missing", "map": _JS, "reduce": _JS, "out": {"merge": "o"}},
    {"mapReduce": "missing", "map": _JS, "reduce": _JS, "out": {"reduce": "o"}},
    {"mapReduce": "missing", "map": _JS, "reduce": _JS, "out": {"merge": "o", "db": "t2"}},
    {"mapReduce": "missing", "map": _JS, "reduce": _JS, "out": {"replace": "o", "db": "t2"}},
    {"mapReduce": "missing", "map": _JS, "reduce": _JS, "out": "o", "bypassDocumentValidation": True},
    {
        "mapReduce": "missing",
        "map": _JS,
        "reduce": _JS,
        "out": {"inline": 1},
        "bypassDocumentValidation": True,
    },
    {
        "mapReduce": "missing",
        "map": _JS,
        "reduce": _JS,
        "finalize": _JS,
        "scope": {"x": 1},
        "out": {"inline": 1},
    },
]

_NO_COLLECTIONS: tuple[Any, ...] = (5, None, True, {}, "", ".c", "a\0b", "$cmd", "c$d")
_PARSE_FIRST: list[Mapping[str, Any]] = [
    *({"find": value} for value in _NO_COLLECTIONS),
    *({"count": value} for value in (5, "", ".c")),
    *({"insert": value, "documents": [{}]} for value in (5, "", ".c", "$x")),
    {"insert": "c"},
    {"insert": "c", "documents": {}},
    {"insert": "c", "documents": []},
    {"update": "c"},
    {"update": "c", "updates": [{"q": {}}]},
    {"update": "c", "updates": [{"q": {}, "u": {}, "upsert": 1}]},
    {"update": "c", "updates": [{"q": {}, "u": {}, "bogus": 1}]},
    {"update": "c", "updates": []},
    {"delete": "c", "deletes": [{"q": {}}]},
    {"delete": "c", "deletes": [{"q": {}, "limit": 0, "bogus": 1}]},
    {"findAndModify": "c"},
    {"findAndModify": "c", "remove": "yes"},
    {"distinct": "c"},
    {"getMore": 5, "collection": "c"},
    {"getMore": Int64(5)},
    {"getMore": Int64(5), "collection": ""},
    {"killCursors": "c"},
    {"killCursors": "c", "cursors": [5]},
]
_CURSORS: list[Mapping[str, Any]] = [
    {"getMore": Int64(99), "collection": "c"},
    {"getMore": Int64(99), "collection": "c", "batchSize": 5, "maxTimeMS": 10},
    {"getMore": Int64(99), "collection": "c", "term": Int64(1)},
    {"killCursors": "c", "cursors": [Int64(99)]},
    {"killCursors": "c", "cursors": []},
]


def _special(db: str, names: tuple[str, ...]) -> list[Case]:
    return [
        *cases(db, ({"find": name, "limit": 1, "singleBatch": True} for name in names)),
        *cases(db, ({"count": name, "query": {"_id": "none"}} for name in names)),
        *cases(
            db,
            ({"delete": name, "deletes": [{"q": {"_id": "none"}, "limit": 1}]} for name in names),
        ),
        *cases(
            db,
            (
                {"update": name, "updates": [{"q": {"_id": "none"}, "u": {"$set": {"a": 1}}}]}
                for name in names
            ),
        ),
    ]


EXPLAINABLE: tuple[Mapping[str, Any], ...] = (
    *_FINDS[:3],
    *_COUNTS[:1],
    _COUNTS[4],
    *_UPDATES[:4],
    _UPDATES[9],
    _UPDATES[17],
    *_FIND_AND_MODIFIES[:10],
    *_MAP_REDUCES[:9],
)


def _explained(command: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"explain": command, "verbosity": "queryPlanner"}


CASES: list[Case] = [
    *cases("t", _FINDS),
    *cases("t", _COUNTS),
    *cases("t", _UPDATES),
    *cases("t", _INSERTS),
    *cases("t", _FIND_AND_MODIFIES),
    *cases("t", _MAP_REDUCES),
    *cases("t", _PARSE_FIRST),
    *cases("t", _CURSORS),
    *cases("t", (_UPDATES[0], _UPDATES[1], _UPDATES[4]), sequence="updates"),
    *cases("t", _INSERTS[:3], sequence="documents"),
    *cases("t", (_UPDATES[17],), sequence="deletes"),
    *cases("t", EXPLAINABLE, more=_explained),
    *cases("t", ({"explain": {**EXPLAINABLE[0], "$db": db}} for db in ("t", "t2"))),
    *cases(
        "t",
        (
            {"explain": {"explain": {"find": "c"}}},
            {"explain": {"insert": "c", "documents": [{}]}},
            {"explain": {"getMore": Int64(1), "collection": "c"}},
            {"explain": {"find": "c"}, "verbosity": "wrong"},
            {"explain": {"find": "c"}, "verbosity": 5},
            {"explain": 5},
            {"explain": {}},
            {"explain": {"find": 5}},
            {"explain": {"find": "c", "term": Int64(1)}},
            {"explain": {"createIndexes": "c", "indexes": []}},
        ),
    ),
    *_special("t", _SPECIAL),
    *(case for db, names in _SPECIAL_ELSEWHERE.items() for case in _special(db, names)),
    *cases(
        "t",
        ({"find": Binary(b"u" * 16, 4)}, {"aggregate": Binary(b"u" * 16, 4), "pipeline": [], "cursor": {}}),
    ),
]
