"""Cases of the generic arguments: sessions, transactions, API versions, impersonation, arguments between servers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bson import Binary, Int64, Timestamp

from tests.oracle.cases.case import Case, cases

__all__ = ["CASES"]

_ID = Binary(b"8" * 16, 4)
_FIND: Mapping[str, Any] = {"find": "c", "limit": 1, "singleBatch": True}

_GENERIC: list[Mapping[str, Any]] = [
    {"lsid": {"id": _ID}},
    {"lsid": {"id": _ID, "uid": b"x" * 32}},
    {"lsid": {"id": _ID, "uid": None}},
    {"lsid": {"id": _ID, "bogus": 1}},
    {"lsid": {"id": 5}},
    {"lsid": {}},
    {"lsid": 5},
    {"lsid": None},
    {"lsid": {"id": _ID, "txnNumber": Int64(1)}},
    {"txnNumber": Int64(1)},
    {"lsid": {"id": _ID}, "txnNumber": Int64(1)},
    {"lsid": {"id": _ID}, "txnNumber": Int64(1), "autocommit": False},
    {"lsid": {"id": _ID}, "txnNumber": Int64(1), "autocommit": True},
    {"startTransaction": True},
    {"apiVersion": "1"},
    {"apiVersion": "2"},
    {"apiVersion": 1},
    {"apiVersion": "1", "apiStrict": True},
    {"apiVersion": "1", "apiDeprecationErrors": True},
    {"apiStrict": True},
    {"readConcern": {"level": "bogus"}},
    {"readConcern": {"level": "snapshot"}},
    {"maxTimeMS": -1},
    {"maxTimeMS": "x"},
    {"$readPreference": {"mode": "secondaryPreferred"}},
    {"$readPreference": {"mode": "bogus"}},
    {"comment": {"a": [1, "two"]}},
    {"help": True},
    {"$audit": {"$impersonatedUsers": [{"user": "zu", "db": "t"}], "$impersonatedRoles": []}},
    {"maxTimeMSOpOnly": 5},
    {"mayBypassWriteBlocking": True},
    {"$configTime": Timestamp(1, 1)},
    {"$replData": 1},
    {"$queryOptions": {}},
    {"$tenant": Binary(b"t" * 12, 7)},
    {"bogus": 1},
    {"ordered": True},
]
_STRICT = {"apiVersion": "1", "apiStrict": True}

CASES: list[Case] = [
    *cases("t", ({**_FIND, **fields} for fields in _GENERIC)),
    *cases("t", ({"insert": "c", "documents": [{"_id": "twice"}], **fields} for fields in _GENERIC[:20])),
    *cases("admin", ({"serverStatus": 1, **fields} for fields in _GENERIC[:19])),
    *cases("admin", ({"ping": 1, **fields} for fields in _GENERIC)),
    *cases(
        "admin",
        ({name: 1, **_STRICT} for name in ("ping", "serverStatus", "hello", "buildInfo", "usersInfo")),
    ),
    *cases(
        "t",
        (
            {"dropUser": "missing", "writeConcern": {"w": "majority"}},
            {"dropUser": "missing", "lsid": {"id": _ID}},
        ),
    ),
]
