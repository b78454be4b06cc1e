"""Exhaust cursors: one getMore, many replies, exactly as mongod streams them, with the rights of now for each batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bson import Int64
from pymongo.cursor import CursorType

from tests.rawwire import EXHAUST_ALLOWED, MORE_TO_COME, Message, RawConnection, compressed, op_msg
from tests.servers import Client, Guard, Mongod, password_of

SMALL, LARGE = "exhaust_small", "exhaust_large"
BATCHES, BATCH_KB = 60, 400
"""24 MB: more than the sockets between a client and mongoguard hold."""
SECONDS = 20.0


@pytest.fixture
def filled(guard: Guard) -> Iterator[Guard]:
    """10 small documents."""
    with guard.upstream.client() as direct:
        direct.shop[SMALL].insert_many([{"_id": i} for i in range(10)])
        yield guard
        direct.shop[SMALL].drop()


@pytest.fixture
def large(filled: Guard) -> Iterator[Guard]:
    """Documents of a batch's size besides."""
    with filled.upstream.client() as direct:
        direct.shop[LARGE].insert_many([{"_id": i, "x": "x" * BATCH_KB * 1000} for i in range(BATCHES)])
        yield filled
        direct.shop[LARGE].drop()


def logged_in(server: Guard | Mongod, user: str = "app") -> RawConnection:
    connection = RawConnection(server.address)
    connection.log_in(user, password_of(user))
    return connection


def open_cursor(connection: RawConnection, collection: str = SMALL, size: int = 2, **more: Any) -> int:
    reply = connection.command("shop", {"find": collection, "batchSize": size, **more})
    cursor_id: int = reply["cursor"]["id"]
    assert cursor_id, reply
    return cursor_id


def get_more(
    cursor_id: int, collection: str = SMALL, size: int = 3, flags: int = EXHAUST_ALLOWED, **more: Any
) -> bytes:
    body = {"getMore": Int64(cursor_id), "collection": collection, "batchSize": size, "$db": "shop", **more}
    return op_msg(body, flags=flags, request_id=60)


def stream(connection: RawConnection) -> list[Message]:
    """All replies up to one without moreToCome."""
    replies = [connection.receive().decompressed()]
    while replies[-1].flags & MORE_TO_COME:
        replies.append(connection.receive().decompressed())
    return replies


def shape(replies: list[Message]) -> list[tuple[int, bool, bool, int]]:
    """(flags, responds to the request, responds to the reply before, how many documents) of each reply."""
    before = [0, *(reply.request_id for reply in replies)]
    return [
        (reply.flags, reply.response_to == 60, reply.response_to == previous, len(batch(reply)))
        for reply, previous in zip(replies, before, strict=False)
    ]


def batch(reply: Message) -> list[Any]:
    cursor = reply.document.get("cursor", {})
    found: list[Any] = cursor.get("nextBatch", cursor.get("firstBatch", []))
    return found


def is_idle(direct: Client, cursor_id: int) -> bool:
    """Whether the cursor is open and waits for a getMore."""
    stages = [
        {"$currentOp": {"idleCursors": True, "allUsers": True}},
        {"$match": {"cursor.cursorId": Int64(cursor_id)}},
    ]
    return bool(list(direct.admin.aggregate(stages)))


def until(condition: Callable[[], Any]) -> bool:
    deadline = time.monotonic() + SECONDS
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_one_request_has_the_replies_that_mongod_gives(filled: Guard) -> None:
    shapes = []
    for server in (filled, filled.upstream):
        with logged_in(server) as raw:
            raw.send(get_more(open_cursor(raw)))
            replies = stream(raw)
            assert [doc["_id"] for reply in replies for doc in batch(reply)] == list(range(2, 10))
            shapes.append(shape(replies))
            assert raw.command("shop", {"ping": 1})["ok"] == 1, "the connection goes on"
    assert shapes[0] == shapes[1]
    assert [flags for flags, *_ in shapes[0]] == [MORE_TO_COME, MORE_TO_COME, 0]


def test_other_commands_have_one_reply_whatever_they_allow(filled: Guard) -> None:
    bodies: list[dict[str, Any]] = [
        {"find": SMALL, "batchSize": 2},
        {"aggregate": SMALL, "pipeline": [], "cursor": {"batchSize": 2}},
        {"ping": 1},
        {"connectionStatus": 1},
    ]
    with logged_in(filled) as raw:
        for body in bodies:
            reply = raw.exchange(op_msg({**body, "$db": "shop"}, flags=EXHAUST_ALLOWED))
            assert (reply.flags, reply.document["ok"]) == (0, 1.0)
        assert raw.silent_for(0.2)


def test_a_message_that_comes_in_the_middle_is_answered_after_the_stream(filled: Guard) -> None:
    with logged_in(filled) as raw:
        raw.send(get_more(open_cursor(raw)) + op_msg({"ping": 1, "$db": "shop"}, request_id=61))
        assert len(stream(raw)) == 3
        assert raw.receive().response_to == 61


def test_every_reply_to_a_compressed_request_is_compressed(filled: Guard) -> None:
    with logged_in(filled) as raw:
        raw.send(compressed(get_more(open_cursor(raw))))
        opcodes = [raw.receive().opcode for _ in range(3)]
        assert opcodes == [2012] * 3


def test_a_request_that_wants_no_reply_gets_no_stream(filled: Guard) -> None:
    with logged_in(filled) as raw:
        cursor_id = open_cursor(raw)
        raw.send(get_more(cursor_id, flags=EXHAUST_ALLOWED | MORE_TO_COME))
        assert raw.silent_for(0.3)
        assert raw.exchange(get_more(cursor_id, flags=0)).document["cursor"]["id"] == cursor_id


def test_a_tailable_cursor_streams_what_comes(filled: Guard) -> None:
    with filled.upstream.client() as direct, logged_in(filled) as raw:
        direct.shop.create_collection("exhaust_capped", capped=True, size=100_000)
        direct.shop.exhaust_capped.insert_one({"_id": 1})
        cursor_id = open_cursor(raw, "exhaust_capped", tailable=True, awaitData=True)
        raw.send(get_more(cursor_id, "exhaust_capped", maxTimeMS=100))
        assert batch(raw.receive()) == []
        direct.shop.exhaust_capped.insert_one({"_id": 2})
        found: list[Any] = []
        while not found:
            reply = raw.receive()
            assert reply.flags == MORE_TO_COME
            found = batch(reply)
        assert found == [{"_id": 2}]
        direct.shop.exhaust_capped.drop()
        assert stream(raw)[-1].document["ok"] == 0


def test_pymongo_reads_by_exhaust(filled: Guard) -> None:
    # It asks a mongos of before 7.1 for no exhaust cursor, which a mongoguard before a replica set is to it.
    if filled.upstream.replica_set:
        return
    with filled.client("app") as client:
        cursor = client.shop[SMALL].find(cursor_type=CursorType.EXHAUST, batch_size=2)
        assert [doc["_id"] for doc in cursor] == list(range(10))


# ---- who may, for each batch ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("user", ["reader", "root", "nobody"])
def test_nobody_streams_the_cursor_of_another(filled: Guard, user: str) -> None:
    with logged_in(filled) as owner, logged_in(filled, user) as thief:
        replies_of_the_thief = []
        cursor_id = open_cursor(owner)
        thief.send(get_more(cursor_id))
        replies_of_the_thief = stream(thief)
        assert len(replies_of_the_thief) == 1
        assert replies_of_the_thief[0].document["code"] == 13
        owner.send(get_more(cursor_id))
        assert len(stream(owner)) == 3


def test_a_user_who_loses_a_right_gets_no_further_batch(large: Guard) -> None:
    with large.client() as root:
        root.admin.command(
            "createUser", "streamer", pwd=password_of("streamer"), roles=[{"role": "read", "db": "shop"}]
        )
        try:
            with logged_in(large, "streamer") as raw:
                raw.send(get_more(open_cursor(raw, LARGE, 1), LARGE, 1))
                assert raw.receive().flags == MORE_TO_COME
                root.admin.command("updateUser", "streamer", roles=[])
                replies = stream(raw)
                assert len(replies) < BATCHES - 2, "what was not in a socket's buffer yet is not sent"
                assert replies[-1].document["code"] == 13
                assert replies[-1].flags == 0
                assert raw.command("shop", {"find": SMALL})["code"] == 13
        finally:
            root.admin.command("dropUser", "streamer")


def test_a_stream_of_a_cursor_that_is_killed_ends_with_an_error(large: Guard) -> None:
    with large.upstream.client() as direct, logged_in(large) as raw:
        cursor_id = open_cursor(raw, LARGE, 1)
        raw.send(get_more(cursor_id, LARGE, 1))
        raw.receive()
        direct.shop.command({"killCursors": LARGE, "cursors": [Int64(cursor_id)]})
        last = stream(raw)[-1]
        assert (last.document["code"], last.flags) == (43, 0)


# ---- readers that are slow, or leave --------------------------------------------------------------------------------


def test_a_client_that_leaves_leaves_no_cursor_behind(large: Guard) -> None:
    with large.upstream.client() as direct:
        with logged_in(large) as raw:
            cursor_id = open_cursor(raw, LARGE, 1)
            raw.send(get_more(cursor_id, LARGE, 1))
            raw.receive()
            assert until(lambda: is_idle(direct, cursor_id)), "it waits for its reader"
        assert until(lambda: not is_idle(direct, cursor_id))


def test_a_cursor_without_a_stream_outlives_its_clients_connection(filled: Guard) -> None:
    with filled.upstream.client() as direct:
        with logged_in(filled) as raw:
            cursor_id = open_cursor(raw)
        with logged_in(filled) as raw:
            assert is_idle(direct, cursor_id)
            reply = raw.command("shop", {"killCursors": SMALL, "cursors": [Int64(cursor_id)]})
            assert reply["cursorsKilled"] == [cursor_id]


def memory_kb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))


def test_slow_readers_keep_one_batch_each_in_memory(large: Guard) -> None:
    before = memory_kb(large.pid)
    readers = [logged_in(large) for _ in range(10)]
    try:
        for raw in readers:
            raw.send(get_more(open_cursor(raw, LARGE, 1), LARGE, 1))
        for raw in readers:
            raw.receive()
        time.sleep(1.0)
        grown = memory_kb(large.pid) - before
        assert grown < 10 * BATCHES * BATCH_KB / 4, f"{grown} kB for 10 streams of {BATCHES * BATCH_KB} kB"
    finally:
        for raw in readers:
            raw.close()
