"""Cases of the commands that create, change, rename and drop collections, views and indexes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.oracle.cases.case import Case, cases

__all__ = ["CASES"]

_LOOKUP = {"$lookup": {"from": "p", "localField": "a", "foreignField": "b", "as": "x"}}

_CREATES: list[Mapping[str, Any]] = [
    {"create": "c"},
    {"create": "c", "capped": False},
    {"create": "c", "capped": True, "size": 4096},
    {"create": "c", "capped": 1, "size": 4096},
    {"create": "c", "validator": {"a": 1}},
    {"create": "c", "timeseries": {"timeField": "t"}},
    {"create": "c", "clusteredIndex": {"key": {"_id": 1}, "unique": True}},
    {"create": "c", "collation": {"locale": "fr"}},
    {"create": "c", "viewOn": "o"},
    {"create": "c", "viewOn": "o", "pipeline": []},
    {"create": "o", "viewOn": "c", "pipeline": [_LOOKUP]},
    {"create": "vw", "viewOn": "c", "pipeline": [{"$unionWith": "p"}]},
    {"create": "vw", "viewOn": "c", "pipeline": [{"$collStats": {"count": {}}}]},
    {"create": "vw", "viewOn": "c", "pipeline": [{"$out": "p"}]},
    {"create": "vw", "viewOn": "system.js", "pipeline": []},
    {"create": "c", "viewOn": "o", "pipeline": [{"$lookup": {"from": {"db": "t", "coll": "p"}, "as": "x"}}]},
    {"create": "vw", "viewOn": "c", "capped": True, "size": 4096},
    {"create": "vw", "pipeline": []},
    {"create": "c", "temp": True},
    {"create": "system.foo"},
    {"create": "system.js"},
    {"create": "system.profile", "capped": True, "size": 4096},
    {"create": "system.views"},
    {"create": ""},
    {"create": 5},
    {"create": "c", "capped": "yes"},
    {"create": "c", "viewOn": 5},
    {"create": "c", "viewOn": ""},
    {"create": "c", "bogus": 1},
]
_COLL_MODS: list[Mapping[str, Any]] = [
    {"collMod": "c"},
    {"collMod": "missing", "validator": {}},
    {"collMod": "c", "index": {"name": "missing", "hidden": True}},
    {"collMod": "vw", "viewOn": "c", "pipeline": []},
    {"collMod": "vw", "viewOn": "c", "pipeline": [_LOOKUP]},
    {"collMod": "o", "viewOn": "c", "pipeline": [_LOOKUP]},
    {"collMod": "vw", "viewOn": "c"},
    {"collMod": "vw", "pipeline": []},
    {"collMod": "vw", "viewOn": 5, "pipeline": []},
    {"collMod": "vw", "viewOn": "", "pipeline": []},
    {"collMod": "system.js"},
    {"collMod": "system.views"},
    {"collMod": "ts", "expireAfterSeconds": "off"},
    {"collMod": ""},
]
_INDEXES: list[Mapping[str, Any]] = [
    {"createIndexes": "c", "indexes": [{"key": {"_id": 1}, "name": "_id_"}]},
    {"createIndexes": "c", "indexes": []},
    {"createIndexes": "c", "indexes": [{"key": {"a": 1}}]},
    {"createIndexes": "system.js", "indexes": [{"key": {"_id": 1}, "name": "_id_"}]},
    {"createIndexes": "ts", "indexes": []},
    {"createIndexes": 5, "indexes": []},
    {"dropIndexes": "c", "index": "missing"},
    {"dropIndexes": "missing", "index": "*"},
    {"deleteIndexes": "c", "index": "missing"},
    {"dropIndexes": "system.js", "index": "missing"},
    {"listIndexes": "c"},
    {"listIndexes": "c", "cursor": {"batchSize": 1}},
    {"listIndexes": "missing"},
    {"listIndexes": "system.js"},
    {"listIndexes": "system.views"},
    {"listIndexes": "vw"},
    {"listIndexes": "ts"},
    {"reIndex": "missing"},
    {"setIndexCommitQuorum": "missing", "indexNames": ["x"], "commitQuorum": 1},
]
_DROPS: list[Mapping[str, Any]] = [
    {"drop": "missing"},
    {"drop": "system.js.missing"},
    {"drop": "system.profile"},
    {"drop": "system.foo"},
    {"drop": ""},
    {"drop": 5},
    {"convertToCapped": "missing", "size": 1000},
    {"convertToCapped": "system.missing", "size": 1000},
    {"cloneCollectionAsCapped": "missing", "toCollection": "o2", "size": 1000},
    {"cloneCollectionAsCapped": "missing", "toCollection": "system.o2", "size": 1000},
    {"cloneCollectionAsCapped": "missing", "size": 1000},
    {"compact": "missing"},
    {"compact": "system.missing"},
    {"compactStructuredEncryptionData": "missing", "compactionTokens": {}},
]


def _rename(source: str, target: str, **options: Any) -> Mapping[str, Any]:
    return {"renameCollection": source, "to": target, **options}


_RENAMES: list[Mapping[str, Any]] = [
    _rename("t.missing", "t.o"),
    _rename("t.missing", "t.o", dropTarget=True),
    _rename("t.missing", "t.o", dropTarget=False),
    _rename("t.missing", "t.o", stayTemp=True),
    _rename("t.missing", "t2.o"),
    _rename("t.missing", "t2.o", dropTarget=True),
    _rename("t2.missing", "t.o"),
    _rename("t.missing", "t.system.js"),
    _rename("t.system.missing", "t.o"),
    _rename("t.missing", "admin.o"),
    _rename("admin.missing", "t.o"),
    _rename("t.missing", "local.o"),
    _rename("config.missing", "config.o"),
    _rename("t.missing", "t.missing"),
    _rename("local.replset.missing", "local.o"),
    _rename("t.c", "t.c"),
    {"renameCollection": "t.missing"},
    {"renameCollection": "t.missing", "to": 5},
    {"renameCollection": "missing", "to": "t.o"},
    {"renameCollection": 5, "to": "t.o"},
]

CASES: list[Case] = [
    *cases("t", _CREATES),
    *cases("t", _COLL_MODS),
    *cases("t", _INDEXES),
    *cases("t", _DROPS),
    *cases("admin", _RENAMES),
    *cases("t", _RENAMES[:1]),
    *cases("t3", ({"dropDatabase": 1}, {"dropDatabase": 2}, {"dropDatabase": "x"})),
    *cases("t2", ({"create": "c2"}, {"drop": "missing"}, {"createIndexes": "c2", "indexes": []})),
    *cases(
        "config",
        ({"create": "settings"}, {"drop": "missing"}, {"listIndexes": "settings"}, {"collMod": "missing"}),
    ),
    *cases("local", ({"drop": "missing"}, {"listIndexes": "startup_log"}, {"collMod": "missing"})),
    *cases(
        "admin",
        ({"create": "c"}, {"drop": "missing"}, {"createIndexes": "system.users", "indexes": []}),
        more=lambda c: {**c, "comment": "admin"},
    ),
    *cases(
        "admin",
        (
            {"createIndexes": n, "indexes": []}
            for n in ("system.roles", "system.version", "system.backup_users")
        ),
    ),
]
