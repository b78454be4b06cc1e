"""Cases of administrative commands: the server itself, replication, sessions, operations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bson import Binary, Decimal128, Int64

from mongoguard.command.catalog import COMMANDS
from mongoguard.command.catalog_flags import ADMIN_ONLY, BETWEEN_SERVERS
from mongoguard.command.spec import Handling
from tests.oracle.cases.case import SELF, Case, cases

__all__ = ["CASES"]

_ID = Binary(b"7" * 16, 4)
_UID = b"x" * 32

_ADMIN: list[Mapping[str, Any]] = [
    {"serverStatus": 1, "wiredTiger": 0, "tcmalloc": 0},
    {"hostInfo": 1, "comment": 1},
    {"top": 1, "comment": 1},
    {"lockInfo": 1, "comment": 1},
    {"getLog": "startupWarnings"},
    {"getLog": 5},
    {"getLog": "missing"},
    {"getParameter": 1, "quiet": 1},
    {"getParameter": 1, "missing": 1},
    {"getParameter": {"showDetails": True}, "quiet": 1},
    {"setParameter": 1, "missing": 1},
    {"setParameter": 1},
    {"setParameter": 1, "quiet": False},
    {"getClusterParameter": "missing"},
    {"getClusterParameter": []},
    {"setClusterParameter": {"missing": {}}},
    {"setUserWriteBlockMode": 1},
    {"setUserWriteBlockMode": 1, "global": False},
    {"setFeatureCompatibilityVersion": "5.9"},
    {"setFeatureCompatibilityVersion": 5},
    {"setDefaultRWConcern": 1},
    {"setDefaultRWConcern": 1, "defaultReadConcern": {"level": "bogus"}},
    {"getDefaultRWConcern": 1, "inMemory": True},
    {"appendOplogNote": 1},
    {"appendOplogNote": 1, "data": 5},
    {"dropConnections": 1},
    {"dropConnections": 1, "hostAndPort": ["missing.example:1"]},
    {"fsync": 1, "async": True},
    {"fsyncUnlock": 1, "comment": 1},
    {"replSetStepDown": -1},
    {"replSetStepDown": "x"},
    {"replSetFreeze": -1},
    {"replSetMaintenance": "x"},
    {"replSetSyncFrom": "missing.example:1"},
    {"replSetReconfig": {}},
    {"replSetReconfig": 5},
    {"replSetInitiate": {"_id": "other"}},
    {"replSetResizeOplog": 1, "size": 1.0},
    {"replSetGetStatus": 1, "initialSync": 1},
    {"setFreeMonitoring": 1, "action": "bogus"},
    {"setProfilingFilterGlobally": 1, "filter": {}},
    {"rotateCertificates": 1, "message": "x"},
    {"logRotate": "missing"},
    {"startRecordingTraffic": 1},
    {"cleanupOrphaned": "t.missing"},
    {"cleanupOrphaned": 5},
    {"flushRouterConfig": "t.missing"},
    {"getDatabaseVersion": "missing"},
    {"getDatabaseVersion": 5},
    {"getShardVersion": "t2.missing"},
    {"getShardVersion": "missing"},
    {"features": 1, "oidReset": 1},
    {"currentOp": 1, "$ownOps": True},
    {"currentOp": 1, "$ownOps": 1},
    {"currentOp": 1, "$ownOps": False},
    {"currentOp": 1, "$ownOps": "yes"},
    {"currentOp": 1, "$ownOps": None},
    {"currentOp": 1, "active": True},
    {"killOp": 1, "op": 2147483647},
    {"killOp": 1, "op": Int64(2147483646)},
    {"killOp": 1},
    {"killOp": 1, "op": "x"},
    {"killOp": 1, "op": 2147483645.0},
    {"killOp": 1, "op": 0.5},
    {"killOp": 1, "op": Int64(1 << 40)},
    {"killOp": 1, "op": Decimal128("2147483645")},
    {"killOp": 1, "op": Decimal128("0.5")},
    {"killOp": 1, "op": Decimal128("NaN")},
    {"killOp": 1, "op": Decimal128("1E+30")},
    {"killOp": 1, "op": None},
    {"invalidateUserCache": 1, "comment": 1},
    {"isdbgrid": 1},
    {"commitTransaction": 1},
    {"abortTransaction": 1},
    {"connPoolSync": 1, "comment": 1},
    {"whatsmyuri": 1, "comment": 1},
    {"ping": 1},
    {"ping": 1, "comment": 1},
    {"hello": 1, "comment": 1},
    {"isMaster": 1, "comment": 1},
    {"ismaster": 1},
    {"buildinfo": 1},
    {"listCommands": 1, "comment": 1},
    {"startSession": 1, "comment": 1},
    {"availablequeryoptions": 1},
    {"getLastError": 1},
    {"getlasterror": 1},
    {"saslContinue": 1, "conversationId": 1, "payload": b""},
    {"saslStart": 1, "mechanism": "BOGUS", "payload": b""},
    {"authenticate": 1},
]
_HARMFUL: Mapping[str, str] = {
    "shutdown": "shutdown",
    "replSetStepUp": "replSetStateChange",
}
"""Commands that no argument makes harmless."""

_SESSION_LISTS: tuple[Any, ...] = (
    [],
    [{"id": _ID}],
    [{"id": _ID, "uid": _UID}],
    [{"id": _ID}, {"id": _ID, "uid": _UID}],
    [{}],
    [{"id": 5}],
    [{"id": _ID, "bogus": 1}],
    [5],
    1,
    [None],
    [{"id": _ID}, None],
    None,
    {},
)
_SESSIONS: list[Mapping[str, Any]] = [
    *(
        {name: value}
        for name in ("endSessions", "refreshSessions", "killSessions")
        for value in _SESSION_LISTS
    ),
    {"killAllSessions": [{"user": "zzz", "db": "missing"}]},
    {"killAllSessions": [{"user": SELF, "db": "t"}]},
    {"killAllSessions": [{"user": SELF, "db": "admin"}]},
    {"killAllSessions": [{"user": "zzz"}]},
    {"killAllSessions": [None]},
    {"killAllSessions": None},
    {"killAllSessions": 5},
    {"killAllSessionsByPattern": [{"uid": _UID}]},
    {"killAllSessionsByPattern": [{"lsid": {"id": _ID, "uid": _UID}}]},
    {"killAllSessionsByPattern": [{"users": [{"user": "zzz", "db": "t"}]}]},
    {"killAllSessionsByPattern": [{"roles": [{"role": "zzz", "db": "t"}]}]},
    {"killAllSessionsByPattern": [{"uid": _UID}, {"users": [{"user": "zzz", "db": "t"}]}]},
    {"killAllSessionsByPattern": [{"users": [{"user": SELF, "db": "admin"}]}]},
    {"killAllSessionsByPattern": [{"users": []}]},
    {"killAllSessionsByPattern": [{"users": 5}]},
    {"killAllSessionsByPattern": [{"users": [5]}]},
    {"killAllSessionsByPattern": [{"roles": None}]},
    {"killAllSessionsByPattern": [{"uid": 5}]},
    {"killAllSessionsByPattern": [{"bogus": 1}]},
    {"killAllSessionsByPattern": [5]},
    {"killAllSessionsByPattern": [None]},
    {"killAllSessionsByPattern": {}},
    {"killAllSessionsByPattern": None},
    {"killAllSessionsByPattern": 5},
]
_APPLY_OPS: list[Mapping[str, Any]] = [
    {"applyOps": []},
    {"applyOps": [{"op": "i", "ns": "t.missing", "o": {"_id": 1}}]},
    {"applyOps": [{"op": "d", "ns": "t.missing", "o": {"_id": 1}}]},
    {"applyOps": [{"op": "u", "ns": "t.missing", "o": {"$v": 2, "diff": {}}, "o2": {"_id": 1}}]},
    {
        "applyOps": [{"op": "u", "ns": "t.missing", "o": {"$v": 2, "diff": {}}, "o2": {"_id": 1}}],
        "alwaysUpsert": True,
    },
    {
        "applyOps": [{"op": "u", "ns": "t.missing", "o": {"$v": 2, "diff": {}}, "o2": {"_id": 1}}],
        "alwaysUpsert": False,
    },
    {"applyOps": [{"op": "n", "ns": "", "o": {"msg": "x"}}]},
    {
        "applyOps": [
            {"op": "i", "ns": "t.missing", "o": {"_id": 1}},
            {"op": "d", "ns": "t2.missing", "o": {"_id": 1}},
        ]
    },
    {"applyOps": [{"op": "i", "ns": "system.missing", "o": {"_id": 1}}]},
    {"applyOps": [{"op": "i", "ns": "t.missing", "ui": _ID, "o": {"_id": 1}}]},
    {"applyOps": [{"op": "c", "ns": "t.$cmd", "o": {"create": "c"}}]},
    {"applyOps": [{"op": "c", "ns": "t.$cmd", "o": {"drop": "missing"}}]},
    {"applyOps": [{"op": "c", "ns": "t.$cmd", "o": {"applyOps": []}}]},
    {"applyOps": [{"op": "x", "ns": "t.missing", "o": {}}]},
    {"applyOps": [{"op": "i", "o": {"_id": 1}}]},
    {"applyOps": [{"op": "i", "ns": "t.missing", "o": {"_id": 1}, "bogus": 1}]},
    {"applyOps": [5]},
    {"applyOps": 1},
    {
        "applyOps": [{"op": "d", "ns": "t.missing", "o": {"_id": 1}}],
        "preCondition": [{"ns": "t.c", "q": {}, "res": {}}],
    },
    {"applyOps": [{"op": "d", "ns": "t.missing", "o": {"_id": 1}}], "allowAtomic": True},
    {"applyOps": [{"op": "d", "ns": "t.missing", "o": {"_id": 1}}], "bypassDocumentValidation": True},
    {"applyOps": [{"op": "d", "ns": "t.missing", "o": {"_id": 1}, "b": True}]},
]

_ON_ANOTHER_DATABASE = sorted(name for name in ADMIN_ONLY if name in COMMANDS)
"""Sent to t they are refused for everybody, before any login is asked for."""

_DO_NOT_STAND_ALONE = frozenset(_HARMFUL) | {
    # done by `{name: 1}` alone, on every try, to a server that is still needed
    "fsync",
    "logRotate",
    "replSetStepDown",
    "replSetFreeze",
    "replSetMaintenance",
    "logout",
    "dropAllUsersFromDatabase",
    "dropAllRolesFromDatabase",
    "dropDatabase",
    "drop",
    "killAllSessions",
}
_BARE = sorted(
    name
    for name, row in COMMANDS.items()
    if row.since == "6.0" and row.handling is not Handling.REFUSED and name not in _DO_NOT_STAND_ALONE
)
_NEWER = sorted(name for name, row in COMMANDS.items() if row.since != "6.0")


CASES: list[Case] = [
    *cases("admin", _ADMIN),
    *(case for name, action in _HARMFUL.items() for case in cases("admin", [{name: 1}], harmful=action)),
    *cases("admin", _SESSIONS),
    *cases("t", _SESSIONS[:4]),
    *cases("admin", _APPLY_OPS),
    *cases("t", _APPLY_OPS[:4]),
    *cases("t", ({name: 1} for name in _ON_ANOTHER_DATABASE)),
    *cases("admin", ({name: 1} for name in _BARE), more=lambda c: {**c, "comment": "bare"}),
    *cases(
        "t",
        ({name: "c"} for name in _BARE if name not in ADMIN_ONLY),
        more=lambda c: {**c, "comment": "bare"},
    ),
    *cases(
        "admin", ({name: 1} for name in sorted(BETWEEN_SERVERS)), more=lambda c: {**c, "comment": "servers"}
    ),
    *cases("admin", ({name: 1} for name in _NEWER)),
    *cases("t", ({name: 1} for name in ("nope", "FIND", "Find", "shutDown", ""))),
    *cases(
        "t", ({"serverStatus": 1}, {"hostInfo": 1}, {"connPoolStats": 1}, {"features": 1}, {"buildInfo": 1})
    ),
    *cases("$external", ({"find": "c"}, {"ping": 1}, {"dbStats": 1}, {"listCollections": 1})),
    *cases("", ({"ping": 1}, {"find": "c"})),
    *cases("a.b", ({"ping": 1}, {"find": "c"})),
    *cases("x" * 64, ({"find": "c"},)),
]
