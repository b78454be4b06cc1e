"""$clusterTime and the stable API: what mongod makes of them is what a client gets through mongoguard."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from bson import Binary, Int64, Timestamp

from tests.rawwire import RawConnection
from tests.servers import Guard, password_of

PARAMETERS: list[dict[str, Any]] = [
    {"apiVersion": "1"},
    {"apiVersion": "1", "apiStrict": True},
    {"apiVersion": "1", "apiDeprecationErrors": True},
    {"apiVersion": "1", "apiStrict": True, "apiDeprecationErrors": True},
    {"apiVersion": "2"},
    {"apiVersion": 1},
    {"apiVersion": ""},
    {"apiVersion": None},
    {"apiStrict": True},
    {"apiDeprecationErrors": True},
    {"apiVersion": "1", "apiStrict": "x"},
    {"apiVersion": "1", "apiStrict": None},
    {"apiVersion": "1", "apiDeprecationErrors": 5},
]
COMMANDS: list[dict[str, Any]] = [
    {"find": "orders"},
    {"count": "orders"},
    {"distinct": "orders", "key": "x"},
    {"ping": 1},
    {"hello": 1},
    {"isMaster": 1},
    {"buildInfo": 1},
    {"listCommands": 1},
    {"aggregate": "orders", "pipeline": [], "cursor": {}},
    {"aggregate": "orders", "pipeline": [{"$indexStats": {}}], "cursor": {}},
    {"explain": {"find": "orders"}},
    {"getMore": Int64(5), "collection": "orders"},
    {"killCursors": "orders", "cursors": [Int64(5)]},
    {"connectionStatus": 1},
    {"usersInfo": 1},
    {"delete": "orders", "deletes": [{"q": {"_id": "nothing"}, "limit": 1}]},
    {"collStats": "orders"},
    {"create": "orders", "autoIndexId": False},
    {"startSession": 1},
    {"endSessions": []},
    {"commitTransaction": 1},
    {"find": "orders", "tailable": True},
    {"nonsense": 1},
    {"saslStart": 1, "mechanism": "x"},
    {"getLastError": 1},
]


@pytest.fixture
def pair(guard: Guard) -> Iterator[tuple[RawConnection, RawConnection]]:
    """root's connections to mongoguard and to mongod."""
    with RawConnection(guard.address) as ours, RawConnection(guard.upstream.address) as theirs:
        for raw in (ours, theirs):
            raw.log_in("root", password_of("root"))
        yield ours, theirs


def outcome(raw: RawConnection, body: dict[str, Any]) -> tuple[Any, ...]:
    reply = raw.command("shop", body)
    return reply["ok"], reply.get("code"), reply.get("codeName"), reply.get("errmsg")


def test_the_stable_api_is_mongods(pair: tuple[RawConnection, RawConnection]) -> None:
    ours, theirs = pair
    for command in COMMANDS:
        for parameters in PARAMETERS:
            body = {**command, **parameters}
            assert outcome(ours, body) == outcome(theirs, body), body


def test_a_time_that_the_deployment_has_signed_is_taken(guard_replica_set: Guard) -> None:
    with RawConnection(guard_replica_set.address) as raw:
        raw.log_in("app", password_of("app"))
        signed = raw.command("shop", {"ping": 1})["$clusterTime"]
        reply = raw.command("shop", {"find": "orders", "$clusterTime": signed})
        assert reply["ok"] == 1
        assert reply["operationTime"] <= reply["$clusterTime"]["clusterTime"]


def test_the_time_that_hello_says_is_taken(guard_replica_set: Guard) -> None:
    """It comes from a heartbeat, which nobody has logged in for, and is signed all the same."""
    with RawConnection(guard_replica_set.address) as raw:
        signed = raw.command("admin", {"hello": 1})["$clusterTime"]
        assert signed["signature"]["keyId"] != 0
        raw.log_in("app", password_of("app"))
        reply = raw.command("shop", {"find": "orders", "$clusterTime": signed})
        assert reply["ok"] == 1
        assert reply["$clusterTime"]["clusterTime"] >= signed["clusterTime"]


def test_a_standalone_server_has_no_time_of_a_cluster(guard_standalone: Guard) -> None:
    with RawConnection(guard_standalone.address) as raw:
        assert "$clusterTime" not in raw.command("admin", {"hello": 1})


@pytest.mark.parametrize("user", ["app", "root"])
def test_a_forged_time_is_refused_and_moves_no_clock(guard_replica_set: Guard, user: str) -> None:
    """The service user's connection must lend nobody the right to set the deployment's clock."""
    upstream = guard_replica_set.upstream.address
    with RawConnection(guard_replica_set.address) as ours, RawConnection(upstream) as theirs:
        for raw in (ours, theirs):
            raw.log_in(user, password_of(user))
        signed = ours.command("shop", {"ping": 1})["$clusterTime"]
        ahead = Timestamp(signed["clusterTime"].time + 100_000, 1)
        for forged in (
            {"clusterTime": ahead, "signature": signed["signature"]},
            {"clusterTime": ahead, "signature": {"hash": Binary(bytes(20)), "keyId": Int64(0)}},
            {"clusterTime": ahead},
            {},
            "x",
            None,
        ):
            body = {"find": "orders", "$clusterTime": forged}
            refused = outcome(ours, body)
            assert refused[0] == 0
            assert refused == outcome(theirs, body)
            assert ours.command("shop", {"hello": 1, "$clusterTime": forged})["ok"] == 1
        assert theirs.command("shop", {"ping": 1})["$clusterTime"]["clusterTime"].time < ahead.time - 50_000
