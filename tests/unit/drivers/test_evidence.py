"""What the driver proof takes for evidence: lines of mongod's log, and messages that a relay reads along."""

from __future__ import annotations

import json
import socket
import struct
import zlib
from typing import Any

import bson
import pytest

from tests.drivers.evidence import Overhearing, features_of, read_along

IN_A_TRANSACTION = {"txnNumber": 1, "autocommit": False}


def line(command: Any, ns: str = "shop.orders") -> bytes:
    return json.dumps({"msg": "Slow query", "attr": {"ns": ns, "command": command}}).encode()


@pytest.mark.parametrize(
    ("command", "features"),
    [
        ({"insert": "orders", "txnNumber": 1}, {"retryable write"}),
        ({"insert": "orders", **IN_A_TRANSACTION}, {"transaction"}),
        ({"find": "orders", "readConcern": {"afterClusterTime": 1}}, {"afterClusterTime"}),
        ({"find": "orders", "readConcern": {"afterClusterTime": 1}, **IN_A_TRANSACTION}, {"transaction"}),
        ({"find": "orders", "readConcern": {"level": "snapshot"}}, {"snapshot"}),
        ({"find": "orders", "readConcern": {"level": "majority"}}, set()),
        ({"find": "orders", "tailable": True, "awaitData": True}, {"tailable"}),
        ({"find": "orders", "tailable": True}, set()),
        ({"aggregate": "orders", "pipeline": [{"$changeStream": {"resumeAfter": {}}}]}, {"resumed stream"}),
        ({"aggregate": "orders", "pipeline": [{"$changeStream": {}}]}, set()),
        ({"find": "orders", "apiVersion": "1", "apiStrict": True}, {"strict API"}),
        ({"find": "orders", "apiVersion": "1"}, set()),
        ("a command that is cut", set()),
        (None, set()),
    ],
)
def test_a_logged_command_shows_the_features_it_has(command: Any, features: set[str]) -> None:
    assert features_of(line(command), "shop") == features


def test_what_is_logged_of_other_databases_is_nobodys_evidence() -> None:
    assert features_of(line({"insert": "orders", "txnNumber": 1}, "shopping.orders"), "shop") == set()


def message(reply: dict[str, Any], flags: int) -> bytes:
    return struct.pack("<IB", flags, 0) + bson.encode(reply)


BATCH = {"cursor": {"nextBatch": [], "id": 5, "ns": "shop.orders"}, "ok": 1.0}


def test_a_batch_that_nobody_asked_for_is_heard_compressed_or_not() -> None:
    body = message(BATCH, 2)
    compressed = struct.pack("<iiB", 2013, len(body), 2) + zlib.compress(body)
    assert read_along(2013, body, replies=True) == {"unasked batches"}
    assert read_along(2012, compressed, replies=True) == {"unasked batches", "compressed replies"}
    assert read_along(2012, compressed, replies=False) == {"compressed requests"}


def test_neither_an_asked_batch_nor_a_hello_that_streams_is_taken_for_one() -> None:
    assert read_along(2013, message(BATCH, 0), replies=True) == set()
    assert read_along(2013, message({"helloOk": True, "ok": 1.0}, 2), replies=True) == set()


def test_what_goes_over_the_relay_arrives_and_is_heard() -> None:
    body = message(BATCH, 2)
    whole = struct.pack("<iiii", 16 + len(body), 1, 0, 2013) + body
    with socket.create_server(("127.0.0.1", 0)) as server, Overhearing(server.getsockname()[1]) as relay:
        host, _, port = relay.address.partition(":")
        with socket.create_connection((host, int(port)), 30) as client:
            connection, _ = server.accept()
            with connection:
                connection.sendall(whole)
                assert client.makefile("rb").read(len(whole)) == whole
                client.sendall(whole)
                assert connection.makefile("rb").read(len(whole)) == whole
        assert relay.heard == {"unasked batches"}
