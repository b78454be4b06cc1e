"""hello that waits and streams: mongod's own refusals, and waits that end when they are to."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bson import Decimal128, Int64, MinKey, ObjectId, Timestamp
from pymongo import MongoClient, monitoring
from pymongo.errors import OperationFailure

from tests.rawwire import (
    EXHAUST_ALLOWED,
    MORE_TO_COME,
    ConnectionEnded,
    Message,
    RawConnection,
    compressed,
    op_msg,
    op_query,
)
from tests.servers import Guard, password_of

SOON = 8.0
"""Less than what would be waited for, more than a busy machine takes to answer."""


def ask(address: str, body: dict[str, Any], flags: int = 0) -> Message:
    with RawConnection(address) as raw:
        return raw.exchange(op_msg({**body, "$db": "admin"}, flags=flags, request_id=7))


def version(address: str) -> dict[str, Any]:
    found: dict[str, Any] = ask(address, {"hello": 1}).document["topologyVersion"]
    return found


def bodies(own: dict[str, Any]) -> Iterator[tuple[dict[str, Any], int]]:
    """Arguments beside what a server calls its own version, and flags."""
    counter = own["counter"]
    for value in (
        5,
        None,
        "5",
        True,
        -1,
        -1e300,
        2**62,
        0,
        0.5,
        float("nan"),
        Decimal128("1"),
        Decimal128("NaN"),
    ):
        yield {"topologyVersion": own, "maxAwaitTimeMS": value}, 0
        yield {"maxAwaitTimeMS": value}, 0
    for changed in (
        {},
        {"counter": counter},
        {"processId": own["processId"]},
        {**own, "counter": Int64(-5)},
        {**own, "counter": 1},
        {**own, "counter": 1.0},
        {**own, "counter": None},
        {**own, "processId": "x"},
        {**own, "processId": None},
        {**own, "x": 1},
        {"processId": ObjectId(), "counter": Int64(1000)},
        "x",
        [1],
        5,
        None,
    ):
        yield {"topologyVersion": changed, "maxAwaitTimeMS": 1}, 0
        yield {"topologyVersion": changed}, 0
    yield {}, EXHAUST_ALLOWED
    yield {"topologyVersion": own}, EXHAUST_ALLOWED
    yield {"maxAwaitTimeMS": 5}, EXHAUST_ALLOWED
    safe_bools = ("x", [], {}, 1, 0.5, None, Decimal128("1"), Timestamp(1, 1))
    versions = {"minWireVersion": 0, "maxWireVersion": 17}
    for name, values in {
        "helloOk": safe_bools,
        "forShell": safe_bools,
        "hangUpOnStepDown": safe_bools,
        "loadBalanced": ("x", 1, None),
        "hostInfo": ("x", "", 5, None, [], ["x"], {}, True, b"x", MinKey()),
        "compression": (
            *("snappy", 5, None, {}, {"0": "snappy"}, True, b"x", MinKey(), [], [5], [["zlib"]]),
            *(
                ["x"],
                [""],
                [None],
                ["snappy"],
                ["snappy", 5],
                [None, "zlib"],
                ["zlib", "zlib", "no\0op", "noop"],
            ),
        ),
        "internalClient": (
            *("x", 5, None, [], [versions], True, {}, {"x": 1}, versions, {**versions, "x": 1}),
            *(
                {"minWireVersion": 0},
                {"maxWireVersion": 17},
                {"maxWireVersion": None},
                {"maxWireVersion": "17"},
            ),
            *({**versions, "minWireVersion": value} for value in (None, True, 1.5, "x", Int64(1), -5, 99)),
        ),
    }.items():
        for value in values:
            yield {name: value}, 0
    for one, other in (("compression", "hostInfo"), ("internalClient", "helloOk"), ("client", "compression")):
        yield {one: 5.5, other: "x"}, 0
        yield {other: 5.5, one: "x"}, 0
    yield {"compression": None, "topologyVersion": 5}, 0
    yield {"compression": None, "speculativeAuthenticate": {}}, 0
    yield {"compression": 5, "saslSupportedMechs": "x"}, 0
    for more in ({"apiVersion": "1", "apiStrict": True}, {"apiVersion": "2"}, {"apiStrict": True}):
        yield more, 0


def outcome(message: Message) -> tuple[Any, ...]:
    reply = message.document
    told = (reply.get(name) for name in ("ok", "code", "codeName", "errmsg", "helloOk", "compression"))
    return *told, message.flags


@pytest.mark.parametrize("name", ["hello", "isMaster"])
def test_whatever_mongod_makes_of_the_arguments_is_made_of_them(guard: Guard, name: str) -> None:
    server = guard.upstream.address
    pairs = zip(bodies(version(guard.address)), bodies(version(server)), strict=True)
    for (ours, flags), (theirs, _) in pairs:
        expected = outcome(ask(server, {name: 1, **theirs}, flags))
        assert outcome(ask(guard.address, {name: 1, **ours}, flags)) == expected, ours


def test_a_hello_waits_as_long_as_it_is_told(guard: Guard) -> None:
    own = version(guard.address)
    began = time.monotonic()
    reply = ask(guard.address, {"hello": 1, "topologyVersion": own, "maxAwaitTimeMS": 700}).document
    assert time.monotonic() - began >= 0.69
    assert reply["topologyVersion"] == own


def test_a_client_of_another_process_is_answered_at_once(guard: Guard) -> None:
    """As after a restart, or when another worker had answered before."""
    other = {"processId": ObjectId(), "counter": Int64(3)}
    began = time.monotonic()
    ask(guard.address, {"hello": 1, "topologyVersion": other, "maxAwaitTimeMS": 60_000})
    assert time.monotonic() - began < SOON


def test_old_drivers_wait_with_op_query(guard: Guard) -> None:
    own = version(guard.address)
    with RawConnection(guard.address) as raw:
        body = {"isMaster": 1, "topologyVersion": own, "maxAwaitTimeMS": 300}
        assert raw.exchange(op_query(body)).document["ok"] == 1
        for server in (guard.address, guard.upstream.address):
            with RawConnection(server) as other:
                assert other.exchange(op_query({"isMaster": 1}, flags=64)).document["code"] == 18527


def test_a_stream_goes_on_until_its_client_leaves(guard: Guard) -> None:
    body = {"hello": 1, "topologyVersion": version(guard.address), "maxAwaitTimeMS": 500, "$db": "admin"}
    with RawConnection(guard.address) as raw:
        raw.send(op_msg(body, flags=EXHAUST_ALLOWED, request_id=77))
        previous = 77
        for _ in range(3):
            reply = raw.receive()
            assert (reply.response_to, reply.flags, reply.document["ok"]) == (previous, MORE_TO_COME, 1.0)
            previous = reply.request_id


def test_a_stream_without_pauses_is_no_flood(guard: Guard) -> None:
    body = {"hello": 1, "topologyVersion": version(guard.address), "maxAwaitTimeMS": 0, "$db": "admin"}
    with RawConnection(guard.address) as raw:
        raw.send(op_msg(body, flags=EXHAUST_ALLOWED))
        began, replies = time.monotonic(), 0
        while time.monotonic() - began < 1.5:
            raw.receive()
            replies += 1
        assert replies <= 4


def test_hello_must_not_be_compressed_to_be_streamed_either(guard: Guard) -> None:
    body = {"hello": 1, "topologyVersion": version(guard.address), "maxAwaitTimeMS": 500, "$db": "admin"}
    with RawConnection(guard.address) as raw, pytest.raises((ConnectionEnded, ConnectionResetError)):
        raw.exchange(compressed(op_msg(body, flags=EXHAUST_ALLOWED)))


def test_a_user_may_wait_and_then_work_on(guard: Guard) -> None:
    own = version(guard.address)
    with RawConnection(guard.address) as raw:
        raw.log_in("app", password_of("app"))
        raw.send(
            op_msg({"hello": 1, "topologyVersion": own, "maxAwaitTimeMS": 300, "$db": "admin"}, request_id=1)
        )
        raw.send(op_msg({"ping": 1, "$db": "shop"}, request_id=2))
        assert [raw.receive().response_to, raw.receive().response_to] == [1, 2]
        assert raw.command("shop", {"find": "orders"})["ok"] == 1


def test_metadata_is_refused_as_mongod_refuses_it(guard: Guard) -> None:
    driver, os = {"name": "x", "version": "1"}, {"type": "Linux"}
    whole = {"driver": driver, "os": os}
    for client in (
        whole,
        {},
        {"os": os},
        {**whole, "driver": {"name": 5}},
        {**whole, "application": {"name": "x" * 128}},
        {**whole, "application": {"name": "x" * 129}},
        {**whole, "x": "x" * 1024},
    ):
        told = [
            {
                name: ask(address, {"hello": 1, "client": client}).document.get(name)
                for name in ("ok", "code", "errmsg")
            }
            for address in (guard.address, guard.upstream.address)
        ]
        assert told[0] == told[1], client


def test_an_application_that_names_itself_is_named_upstream(guard: Guard) -> None:
    """As behind a mongos: a fail point meets its commands alone, and whoever looks into the server sees its name."""
    fails = {"failCommands": ["count"], "errorCode": 8000, "appName": "till 7"}
    with (
        guard.client() as root,
        guard.client(appName="till 7") as till,
        guard.client(appName="till 8") as other,
    ):
        root.admin.command("configureFailPoint", "failCommand", mode="alwaysOn", data=fails)
        try:
            for _ in range(2):
                with pytest.raises(OperationFailure) as failed:
                    till.shop.command("count", "orders")
                assert failed.value.code == 8000
                assert (
                    other.shop.command("count", "orders")["ok"] == root.shop.command("count", "orders")["ok"]
                )
        finally:
            root.admin.command("configureFailPoint", "failCommand", mode="off")
        mine = [{"$currentOp": {}}, {"$match": {"command.comment": "till's own"}}]
        (operation,) = till.admin.aggregate(mine, comment="till's own")
        assert operation["appName"] == operation["clientMetadata"]["application"]["name"] == "till 7"


class Heartbeats(monitoring.ServerHeartbeatListener):
    """What a driver's monitor has seen."""

    def __init__(self) -> None:
        self.awaited = 0

    def started(self, event: monitoring.ServerHeartbeatStartedEvent) -> None:
        """Nothing to count."""

    def succeeded(self, event: monitoring.ServerHeartbeatSucceededEvent) -> None:
        self.awaited += event.awaited

    def failed(self, event: monitoring.ServerHeartbeatFailedEvent) -> None:
        raise AssertionError(event.reply)


def test_a_drivers_monitor_streams(guard: Guard) -> None:
    seen = Heartbeats()
    uri = guard.uri("app", heartbeatFrequencyMS="500", serverMonitoringMode="stream")
    with MongoClient[dict[str, Any]](uri, event_listeners=[seen]) as client:
        client.shop.orders.find_one()
        deadline = time.monotonic() + 20
        while seen.awaited < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
    assert seen.awaited >= 2


def test_the_end_of_mongoguard_ends_every_wait(guard_standalone: Guard, tmp_path: Path) -> None:
    guard = Guard(tmp_path, guard_standalone.upstream).start().wait()
    raws = [RawConnection(guard.address, timeout=60) for _ in range(20)]
    try:
        own = version(guard.address)
        for number, raw in enumerate(raws):
            body = {"hello": 1, "topologyVersion": own, "maxAwaitTimeMS": 3_600_000, "$db": "admin"}
            raw.send(op_msg(body, flags=EXHAUST_ALLOWED if number % 2 else 0))
        assert raws[0].silent_for(0.3)
        began = time.monotonic()
        assert guard.stop() == 0
        assert time.monotonic() - began < SOON
        assert all(raw.is_closed_by_peer() for raw in raws)
    finally:
        for raw in raws:
            raw.close()
        guard.stop()
    assert "Traceback" not in guard.log
