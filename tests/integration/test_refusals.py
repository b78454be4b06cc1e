"""What a refused client reads is what mongod would have written: the same user asks both servers the same thing."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from bson import Binary, Code, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp

from tests.rawwire import RawConnection, sequence_section
from tests.servers import Guard, password_of

NOW = datetime.datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=datetime.UTC)
SESSION = {"id": Binary(bytes(range(16)), 4)}

VALUES: dict[str, Any] = {
    "strings": {"a": "text", "empty": "", "quote": 'a "quoted" \\ text\n', "unicode": "Größe ☃"},
    "a string of 159": {"a": "x" * 159},
    "a string of 160": {"a": "x" * 160},
    "a long string": {"a": "x" * 5000},
    "a long unicode string": {"a": "é" * 400},
    "numbers": {"i": 1, "l": Int64(2**40), "d": 2.0, "small": 1e-7, "big": 1e300, "f": 0.1, "n": -0.0},
    "no numbers": {"a": float("inf"), "b": float("-inf"), "c": float("nan")},
    "decimals": {"a": Decimal128("1.10"), "b": Decimal128("NaN"), "c": Decimal128("1E+3")},
    "truth": {"t": True, "f": False, "n": None},
    "ids": {"o": ObjectId("0123456789abcdef01234567"), "u": Binary(uuid.UUID(int=7).bytes, 4)},
    "binaries": {"a": Binary(b"\x00\xffab", 0), "b": Binary(b"", 0), "c": Binary(b"abc", 128)},
    "dates": {"d": NOW, "t": Timestamp(1, 2), "old": datetime.datetime(1960, 1, 1, tzinfo=datetime.UTC)},
    "regular expressions": {"r": Regex("^a/b", "i"), "s": Regex("x", "")},
    "code": {"c": Code("return 1")},
    "code with scope": {"c": Code("return x", {"x": 1})},
    "keys": {"min": MinKey(), "max": MaxKey()},
    "arrays": {"a": [], "b": [1, "x", [2, []], {"c": []}], "many": list(range(300))},
    "nested": {"a": {"b": {"c": {"d": {"e": {}}}}}},
    "odd names": {"": 1, "a.b": 2, "with space": 3, '"': 4, "$gt": 5},
}

NOT_LOGGED_IN: list[tuple[str, dict[str, Any]]] = [
    ("shop", {"find": "orders"}),
    ("shop", {"insert": "orders", "documents": [{}]}),
    ("shop", {"getMore": Int64(5), "collection": "orders"}),
    ("shop", {"noSuchCommand": 1}),
    ("admin", {"shutdown": 1}),
    ("shop", {"shutdown": 1}),
    ("admin", {"logout": 1}),
    ("admin", {"endSessions": []}),
    ("admin", {"startSession": 1}),
    ("admin", {"createUser": "x", "pwd": "canary", "roles": []}),
    ("admin", {"listDatabases": 1}),
    ("shop", {"listDatabases": 1}),
    ("admin", {"getLastError": 1}),
]

REFUSED: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "reader": [
        ("shop", {"insert": "orders", "documents": [{"_id": 1}]}),
        ("shop", {"insert": "orders", "documents": [{"_id": 1}, {"_id": 2}], "ordered": False}),
        ("shop", {"insert": "orders", "documents": [{}] * 100}),
        ("shop", {"update": "orders", "updates": [{"q": {}, "u": {"$set": {"a": 1}}}]}),
        ("shop", {"update": "orders", "updates": [{"q": {}, "u": {}}, {"q": {"a": 1}, "u": {}}]}),
        ("shop", {"delete": "orders", "deletes": [{"q": {}, "limit": 0}]}),
        ("shop", {"delete": "orders", "deletes": [{"q": {}, "limit": 0}, {"q": {}, "limit": 1}]}),
        ("shop", {"findAndModify": "orders", "query": {"a": 1}, "update": {"$set": {"a": 2}}}),
        ("shop", {"findandmodify": "orders", "remove": True}),
        ("shop", {"create": "new", "capped": True, "size": 4096}),
        ("shop", {"createIndexes": "orders", "indexes": [{"key": {"a": 1}, "name": "a_1"}]}),
        ("shop", {"drop": "orders", "writeConcern": {"w": 1}}),
        ("shop", {"dropDatabase": 1}),
        ("shop", {"dropIndexes": "orders", "index": "*"}),
        ("shop", {"collMod": "orders", "validator": {}}),
        ("shop", {"aggregate": "orders", "pipeline": [{"$out": "copy"}], "cursor": {}}),
        ("shop", {"aggregate": "orders", "pipeline": [{"$merge": "copy"}], "cursor": {}}),
        ("admin", {"aggregate": 1, "pipeline": [{"$currentOp": {"allUsers": True}}], "cursor": {}}),
        ("shop", {"createUser": "x", "pwd": "canary", "roles": []}),
        ("shop", {"updateUser": "x", "pwd": "canary"}),
        ("shop", {"dropUser": "x"}),
        ("shop", {"createRole": "x", "privileges": [], "roles": []}),
        ("shop", {"usersInfo": "app"}),
        ("shop", {"usersInfo": 1}),
        ("shop", {"rolesInfo": 1}),
        ("shop", {"profile": 2}),
        ("shop", {"validate": "orders"}),
        ("shop", {"find": "orders", "lsid": SESSION, "$readPreference": {"mode": "primary"}, "comment": "c"}),
        ("shop", {"drop": "orders", "lsid": SESSION, "$readPreference": {"mode": "primary"}, "comment": "c"}),
        ("elsewhere", {"find": "t", "filter": {"a": 1}, "lsid": SESSION, "apiVersion": "1"}),
        ("elsewhere", {"aggregate": "t", "pipeline": [{"$match": {}}], "cursor": {"batchSize": 1}}),
        (
            "elsewhere",
            {"aggregate": 1, "pipeline": [{"$listLocalSessions": {"allUsers": True}}], "cursor": {}},
        ),
        ("elsewhere", {"count": "t", "query": {}}),
        ("elsewhere", {"distinct": "t", "key": "a"}),
        ("elsewhere", {"listCollections": 1}),
        ("elsewhere", {"listIndexes": "t"}),
        ("elsewhere", {"dbStats": 1}),
        ("elsewhere", {"collStats": "t"}),
        ("elsewhere", {"explain": {"find": "t"}, "verbosity": "queryPlanner"}),
        ("shop", {"explain": {"delete": "orders", "deletes": [{"q": {}, "limit": 1}]}}),
        ("admin", {"serverStatus": 1}),
        ("admin", {"shutdown": 1}),
        ("admin", {"getParameter": "*"}),
        ("admin", {"setParameter": 1, "logLevel": 1}),
        ("admin", {"getLog": "global"}),
        ("admin", {"getCmdLineOpts": 1}),
        ("admin", {"currentOp": 1}),
        ("admin", {"killOp": 1, "op": 999999999}),
        ("admin", {"killAllSessions": []}),
        ("admin", {"renameCollection": "shop.orders", "to": "shop.stolen"}),
        ("admin", {"renameCollection": "shop.orders", "to": "elsewhere.stolen", "dropTarget": True}),
        ("admin", {"fsync": 1}),
        ("admin", {"hostInfo": 1}),
        ("admin", {"top": 1}),
        ("admin", {"listDatabases": 1, "authorizedDatabases": False}),
        ("admin", {"replSetGetStatus": 1}),
        # admin only
        ("shop", {"shutdown": 1}),
        ("shop", {"currentOp": 1}),
        ("shop", {"getParameter": 1, "logLevel": 1}),
        ("shop", {"listDatabases": 1}),
        ("shop", {"renameCollection": "shop.a", "to": "shop.b"}),
        ("shop", {"killOp": 1, "op": 5}),
        # unknown
        ("shop", {"noSuchCommand": 1}),
        ("shop", {"Find": "orders"}),
        ("shop", {"": 1}),
        ("shop", {"$db": 1}),
        # malformed, before and after the privileges
        ("shop", {"find": ""}),
        ("shop", {"find": 5}),
        ("shop", {"insert": "orders"}),
        ("shop", {"insert": "orders", "documents": []}),
        ("shop", {"update": "orders", "updates": []}),
        ("shop", {"aggregate": "orders", "pipeline": {}}),
        ("shop", {"aggregate": "orders", "pipeline": [{"$noSuchStage": 1}], "cursor": {}}),
        ("shop", {"aggregate": "orders", "pipeline": [{}], "cursor": {}}),
        ("shop", {"getMore": 5, "collection": "orders"}),
        ("shop", {"getMore": Int64(5)}),
        ("shop", {"getMore": Int64(5), "collection": "orders"}),
        ("shop", {"killCursors": "orders"}),
        ("shop", {"killCursors": "orders", "cursors": [5]}),
        ("shop", {"find": "orders", "lsid": 5}),
        ("shop", {"find": "orders", "lsid": {}}),
        ("shop", {"find": "orders", "lsid": {"id": 5}}),
        ("shop", {"find": "orders", "lsid": {**SESSION, "more": 1}}),
        ("shop", {"find": "orders", "txnNumber": Int64(1)}),
        ("shop", {"find": "orders", "maxTimeMS": "soon"}),
        ("shop", {"find": "orders", "apiVersion": "2"}),
        ("shop", {"find": "orders", "apiStrict": True}),
        # arrays of nulls, and nulls for arrays
        ("shop", {"update": "orders", "updates": [None]}),
        ("shop", {"update": "orders", "updates": [None, 1]}),
        ("shop", {"update": "orders", "updates": [None, {"q": {}, "u": {}}]}),
        ("shop", {"update": "orders", "updates": None}),
        ("shop", {"insert": "orders", "documents": [None]}),
        ("shop", {"createRole": "x", "privileges": [None], "roles": []}),
        ("shop", {"createRole": "x", "privileges": None, "roles": []}),
        ("shop", {"grantRolesToUser": "x", "roles": None}),
        ("shop", {"killCursors": "orders", "cursors": [None]}),
        ("shop", {"killCursors": "orders", "cursors": [None, 1]}),
        # the length of a pipeline is looked at after the privileges
        *(
            (db, {"aggregate": "t", "pipeline": pipeline, "cursor": {}})
            for db in ("shop", "elsewhere")
            for pipeline in (
                [{"$match": {}}] * 1001,
                [{"$facet": {"a": [{"$match": {}}] * 1001}}],
                [{"$lookup": {"from": "u", "as": "v", "pipeline": [{"$match": {}}] * 1001}}],
                [*[{"$match": {}}] * 1001, {"$bogus": 1}],
            )
        ),
        ("admin", {"aggregate": 1, "pipeline": [{"$listCachedAndActiveUsers": {}}], "cursor": {}}),
    ],
    "nobody": [
        ("shop", {"find": "orders"}),
        ("shop", {"listCollections": 1}),
        (
            "shop",
            {
                "aggregate": "orders",
                "pipeline": [{"$lookup": {"from": "x", "as": "y", "pipeline": []}}],
                "cursor": {},
            },
        ),
        ("admin", {"usersInfo": "root"}),
        ("admin", {"rolesInfo": {"role": "root", "db": "admin"}}),
    ],
    "orders_only": [
        ("shop", {"find": "customers"}),
        ("shop", {"listCollections": 1}),
        ("shop", {"aggregate": "orders", "pipeline": [{"$unionWith": "customers"}], "cursor": {}}),
        (
            "shop",
            {"aggregate": "orders", "pipeline": [{"$facet": {"a": [{"$unionWith": "x"}]}}], "cursor": {}},
        ),
        ("shop", {"find": "system.profile"}),
    ],
}

CASES = [(user, db, body) for user, commands in REFUSED.items() for db, body in commands]
CASES += [("reader", "elsewhere", {"find": "t", "filter": value}) for value in VALUES.values()]


@pytest.fixture(scope="module")
def connections(
    guard_standalone: Guard,
) -> Iterator[dict[str | None, tuple[RawConnection, RawConnection]]]:
    """For each user a connection to the plain mongod and one through mongoguard."""
    opened: dict[str | None, tuple[RawConnection, RawConnection]] = {}
    for user in (None, *REFUSED):
        plain = RawConnection(guard_standalone.upstream.address)
        guarded = RawConnection(guard_standalone.address)
        opened[user] = (plain, guarded)
        if user is not None:
            plain.log_in(user, password_of(user))
            guarded.log_in(user, password_of(user))
    yield opened
    for pair in opened.values():
        for connection in pair:
            connection.close()


def told(reply: dict[str, Any]) -> tuple[Any, ...]:
    """What of a reply must be the same, in order."""
    assert reply["ok"] == 0, reply
    return list(reply)[:4], reply["code"], reply.get("codeName"), reply["errmsg"]


@pytest.mark.parametrize(("user", "db", "body"), CASES, ids=lambda v: str(v)[:60].replace("::", ""))
def test_a_refusal_reads_as_mongods(
    connections: dict[str | None, tuple[RawConnection, RawConnection]],
    user: str,
    db: str,
    body: dict[str, Any],
) -> None:
    plain, guarded = connections[user]
    expected = plain.command(db, body)
    reply = guarded.command(db, body)
    if expected["ok"] == 1:
        assert reply["ok"] == 1, reply
        return
    assert told(reply) == told(expected)
    assert "canary" not in str(reply)


@pytest.mark.parametrize(("db", "body"), NOT_LOGGED_IN, ids=lambda v: str(v)[:60])
def test_a_stranger_is_refused_as_by_mongod(
    connections: dict[str | None, tuple[RawConnection, RawConnection]], db: str, body: dict[str, Any]
) -> None:
    plain, guarded = connections[None]
    assert told(guarded.command(db, body)) == told(plain.command(db, body))


def test_document_sequences_are_not_printed(
    connections: dict[str | None, tuple[RawConnection, RawConnection]],
) -> None:
    sequence = sequence_section("documents", [{"_id": 1, "secret": "canary"}])
    plain, guarded = (c.command("shop", {"insert": "orders"}, sequence) for c in connections["reader"])
    assert told(guarded) == told(plain)
    assert "canary" not in str(guarded)


def test_explain_denials_tells_what_is_missing(
    guard_standalone: Guard, tmp_path_factory: pytest.TempPathFactory
) -> None:
    settings = {"security": {"explainDenials": True}}
    guard = Guard(tmp_path_factory.mktemp("explains"), guard_standalone.upstream, settings).start().wait()
    try:
        with RawConnection(guard.address) as raw:
            raw.log_in("reader", password_of("reader"))
            reply = raw.command("shop", {"insert": "orders", "documents": [{}]})
            assert (reply["code"], reply["errInfo"]) == (
                13,
                {"missing": [{"resource": {"db": "shop", "collection": "orders"}, "actions": ["insert"]}]},
            )
            pipeline = [{"$unionWith": "customers"}, {"$out": {"db": "elsewhere", "coll": "stolen"}}]
            reply = raw.command("shop", {"aggregate": "orders", "pipeline": pipeline, "cursor": {}})
            (missing,) = reply["errInfo"]["missing"]
            assert missing["resource"] == {"db": "elsewhere", "collection": "stolen"}
            assert sorted(missing["actions"]) == ["insert", "remove"]
            assert "errInfo" not in raw.command("shop", {"noSuchCommand": 1})
    finally:
        assert guard.stop() == 0


def test_denials_are_not_explained_unless_configured(
    connections: dict[str | None, tuple[RawConnection, RawConnection]],
) -> None:
    assert "errInfo" not in connections["reader"][1].command("shop", {"drop": "orders"})


# ---- generic arguments of what mongoguard answers itself ------------------------------------------------------------

TRANSACTION = {"lsid": SESSION, "txnNumber": Int64(1), "autocommit": False}
ANSWERED_HERE = ("hello", "isMaster", "buildInfo", "connectionStatus", "whatsmyuri", "startSession", "ping")
GENERIC: list[dict[str, Any]] = [
    {"lsid": SESSION, "comment": {"a": 1}, "maxTimeMS": 1000, "apiVersion": "1"},
    {"lsid": 1},
    {"lsid": {**SESSION, "x": 1}},
    {"txnNumber": 1},
    {"txnNumber": Int64(1)},
    {"lsid": SESSION, "txnNumber": Int64(1)},
    TRANSACTION,
    {**TRANSACTION, "startTransaction": True},
    {**TRANSACTION, "autocommit": True},
    {"autocommit": False},
    {"startTransaction": True},
    {"maxTimeMS": "x"},
    {"maxTimeMS": -1},
    {"maxTimeMS": 2**31},
    {"maxTimeMS": 1.5},
    {"$maxTimeMS": 1},
    {"readConcern": 1},
    {"readConcern": {"level": "majority"}},
    {"readConcern": {"level": "x"}},
    {"readConcern": {"x": 1}},
    {"readConcern": {"afterClusterTime": Timestamp(1, 1)}},
    {"writeConcern": {"w": 1}},
    {"$readPreference": {}},
    {"$readPreference": {"mode": "x"}},
    {"apiVersion": "3"},
    {"apiVersion": "2"},
    {"apiVersion": "٣"},
]


def refusal(reply: dict[str, Any]) -> tuple[Any, ...]:
    return reply["ok"], reply.get("code"), reply.get("codeName"), reply.get("errmsg")


@pytest.mark.parametrize("user", [None, "reader"])
def test_generic_arguments_of_what_is_answered_here_are_refused_as_mongod_refuses_them(
    guard: Guard, user: str | None
) -> None:
    differing = []
    with RawConnection(guard.upstream.address) as direct, RawConnection(guard.address) as guarded:
        for raw in (direct, guarded) if user else ():
            raw.log_in(user, password_of(user))
        for name in ANSWERED_HERE:
            for arguments in GENERIC:
                body = {name: 1, **arguments}
                both = [refusal(raw.command("admin", body)) for raw in (direct, guarded)]
                if both[0] != both[1] and not (name == "ping" and user is None and "readConcern" in body):
                    differing.append((body, *both))
    assert differing == []
