"""Bytes that no driver sends: broken, ambiguous, oversized, slow. After each of them mongoguard serves on.

Where a table says so, the plain mongod gets the same bytes, and mongoguard must answer the same.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import socket
import struct
import threading
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bson
import pytest
from bson import Binary, Int64

from tests.rawwire import (
    CHECKSUM_PRESENT,
    EXHAUST_ALLOWED,
    MORE_TO_COME,
    NOOP,
    OP_COMPRESSED,
    OP_MSG,
    SNAPPY,
    ZLIB,
    ZSTD,
    ConnectionEnded,
    Message,
    RawConnection,
    compressed,
    document_section,
    header,
    message,
    op_msg,
    op_query,
    sequence_section,
)
from tests.servers import Guard, Mongod, password_of

UNAUTHORIZED, UNKNOWN_FIELD = 13, 40415
PING = op_msg({"ping": 1, "$db": "admin"}, request_id=4242)
MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def serves_on(guard_standalone: Guard) -> Iterator[None]:
    """Whatever a test did: a healthy client is served afterwards, and nothing unforeseen is in the log."""
    seen = len(guard_standalone.log)
    yield
    with RawConnection(guard_standalone.address) as raw:
        raw.log_in("reader", password_of("reader"))
        assert raw.command("shop", {"find": "orders"})["ok"] == 1
    news = guard_standalone.log[seen:]
    assert "internal error" not in news, news[-3000:]
    assert "Traceback" not in news, news[-3000:]


def outcome(address: str, data: bytes, user: str | None = None) -> Any:
    """What comes of these bytes: "closed", "silent", or the opcode and error code (0: ok) of the reply."""
    with RawConnection(address, timeout=10) as raw:
        if user is not None:
            raw.log_in(user, password_of(user))
        try:
            raw.send(data)
            raw.send(PING)
            reply = raw.receive().decompressed()
            if reply.response_to == 4242:
                return "silent"
            document = reply.document
            return reply.opcode, document.get("code", 0)
        except (ConnectionEnded, ConnectionResetError, BrokenPipeError):
            return "closed"


def find(collection: str = "orders", **fields: Any) -> bytes:
    """A find as one document."""
    return bson.encode({"find": collection, **fields, "$db": "shop"})


def joined(*parts: dict[str, Any]) -> bytes:
    """One document of all the parts' elements, which may repeat a name."""
    inside = b"".join(bson.encode(part)[4:-1] for part in parts)
    return struct.pack("<i", len(inside) + 5) + inside + b"\0"


def element(name: str, kind: int, raw: bytes) -> bytes:
    """A BSON element of ready-made bytes."""
    return bytes([kind]) + name.encode() + b"\0" + raw


def document_of(*elements: bytes) -> bytes:
    """A BSON document of ready-made elements."""
    inside = b"".join(elements)
    return struct.pack("<i", len(inside) + 5) + inside + b"\0"


def nested(levels: int, name: str = "a") -> bytes:
    """A document in a document in a document."""
    inner = bson.encode({})
    for _ in range(levels):
        inner = document_of(element(name, 3, inner))
    return inner


# ---- framing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_random_bytes_end_the_connection(guard_standalone: Guard, seed: int) -> None:
    noise = random.Random(seed).randbytes(400)
    with RawConnection(guard_standalone.address) as raw:
        raw.send(noise)
        raw.end_sending()
        with contextlib.suppress(ConnectionResetError):
            assert raw.is_closed_by_peer()


@pytest.mark.parametrize(
    "length", [0, 1, 15, -1, -(2**31), 48_000_001, 2**31 - 1], ids=lambda length: f"length {length}"
)
@pytest.mark.parametrize("user", [None, "app"])
def test_an_impossible_length_ends_the_connection_at_once(
    guard_standalone: Guard, length: int, user: str | None
) -> None:
    with RawConnection(guard_standalone.address, timeout=5) as raw:
        if user:
            raw.log_in(user, password_of(user))
        raw.send(header(length, OP_MSG) + b"\0" * 100)
        assert raw.is_closed_by_peer()


def test_every_truncation_of_a_message_is_survived(guard_standalone: Guard) -> None:
    whole = op_msg(find(), sequence_section("zzz", [{}]), flags=CHECKSUM_PRESENT)
    for end in range(1, len(whole), 3):
        with RawConnection(guard_standalone.address) as raw:
            raw.send(whole[:end])
            raw.end_sending()
            assert raw.is_closed_by_peer()


def test_every_shortened_message_with_a_fitting_length_is_refused(guard_standalone: Guard) -> None:
    """The header's length is right, what is inside is cut: never a crash, never an ok."""
    whole = op_msg(find(filter={"a": [1, {"b": "text"}]}), sequence_section("zzz", [{"a": 1}]))
    for end in range(17, len(whole)):
        cut = struct.pack("<i", end) + whole[4:end]
        result = outcome(guard_standalone.address, cut)
        assert result == "closed" or result[1] != 0, (end, result)


BAD_MESSAGES: dict[str, bytes] = {
    "no payload": message(OP_MSG, b""),
    "flags only": message(OP_MSG, b"\0\0\0\0"),
    "half the flags": message(OP_MSG, b"\0\0"),
    "flags and a kind": message(OP_MSG, b"\0\0\0\0\0"),
    "flags and half a document": message(OP_MSG, b"\0\0\0\0\0\5\0\0\0"),
    "no body": message(OP_MSG, b"\0\0\0\0" + sequence_section("documents", [{}])),
    "two bodies": op_msg(find(), document_section({"drop": "orders", "$db": "shop"})),
    "unknown kind": op_msg(find(), b"\x07" + bson.encode({})),
    "security token": op_msg(find(), b"\x02" + bson.encode({"tenant": 1})),
    "unknown required flag": op_msg(find(), flags=1 << 2),
    "every required flag": op_msg(find(), flags=0xFFF8),
    "wrong checksum": op_msg(find(), flags=CHECKSUM_PRESENT)[:-1] + b"\x55",
    "checksum flag without checksum": message(
        OP_MSG, struct.pack("<I", CHECKSUM_PRESENT) + document_section(find())
    ),
    "negative document length": message(OP_MSG, b"\0\0\0\0" + b"\0" + struct.pack("<i", -5) + b"\0" * 20),
    "document longer than its message": message(OP_MSG, b"\0\0\0\0\0" + struct.pack("<i", 4000) + find()[4:]),
    "document without its end": message(OP_MSG, b"\0\0\0\0\0" + find()[:-1] + b"\x01"),
    "sequence longer than its message": op_msg(find(), b"\1" + struct.pack("<i", 9999) + b"documents\0"),
    "sequence of negative length": op_msg(find(), b"\1" + struct.pack("<i", -4) + b"documents\0"),
    "same sequence twice": op_msg(
        {"insert": "orders", "$db": "shop"},
        sequence_section("documents", [{"a": 1}]),
        sequence_section("documents", [{"a": 2}]),
    ),
    "sequence and field of one name": op_msg(
        {"insert": "orders", "documents": [{"a": 1}], "$db": "shop"},
        sequence_section("documents", [{"a": 2}]),
    ),
    "hello with a sequence": op_msg({"hello": 1, "$db": "admin"}, sequence_section("client", [{}])),
    "buildInfo with a sequence": op_msg({"buildInfo": 1, "$db": "admin"}, sequence_section("x", [])),
    "empty body": op_msg({}),
    "no $db": op_msg({"find": "orders"}),
    "$db of another type": op_msg({"find": "orders", "$db": 1}),
    "$db first": op_msg({"$db": "shop", "find": "orders"}),
    "$db twice": op_msg(joined({"find": "orders", "$db": "shop"}, {"$db": "admin"})),
    "find twice": op_msg(joined({"find": "orders"}, {"find": "secrets", "$db": "shop"})),
    "empty database name": op_msg({"find": "orders", "$db": ""}),
    "database name with a dot": op_msg({"find": "orders", "$db": "shop.orders"}),
    "database name with a slash": op_msg({"find": "orders", "$db": "shop/x"}),
    "database name of 64 bytes": op_msg({"find": "orders", "$db": "x" * 64}),
    "unknown command": op_msg({"noSuchCommand": 1, "$db": "shop"}),
    "command name in another case": op_msg({"FIND": "orders", "$db": "shop"}),
    "command name with a null byte after it": op_msg(
        document_of(element("find", 2, b"\7\0\0\0orders\0"), element("$db", 2, b"\5\0\0\0sho\0\0"))
    ),
    "collection name with a null byte": op_msg({"find": "orders\0x", "$db": "shop"}),
    "empty collection name": op_msg({"find": "", "$db": "shop"}),
    "collection of another type": op_msg({"find": 1, "$db": "shop"}),
    "1000 levels in a filter": op_msg(
        document_of(
            element("find", 2, b"\7\0\0\0orders\0"),
            element("filter", 3, nested(1000)),
            element("$db", 2, b"\5\0\0\0shop\0"),
        )
    ),
    "insert with no documents": op_msg({"insert": "orders", "documents": [], "$db": "shop"}),
    "find over the database's own name": op_msg({"find": "$cmd", "$db": "shop"}),
}

LEGACY: dict[str, bytes] = {
    "OP_QUERY of ping": op_query({"ping": 1}),
    "OP_QUERY of find": op_query({"find": "orders"}, "shop.$cmd"),
    "OP_QUERY of drop": op_query({"drop": "orders"}, "shop.$cmd"),
    "OP_QUERY of an unknown command": op_query({"nope": 1}, "shop.$cmd"),
    "OP_QUERY of a collection": op_query({"a": 1}, "shop.orders"),
    "OP_QUERY of a wrapped command": op_query({"$query": {"drop": "orders"}}, "shop.$cmd"),
    "OP_QUERY without a collection": op_query({"hello": 1}, "admin"),
    "OP_QUERY of hello": op_query({"hello": 1}),
    "OP_QUERY of isMaster elsewhere": op_query({"isMaster": 1}, "shop.$cmd"),
    "OP_QUERY for any number": op_query({"isMaster": 1}, limit=0),
    "OP_QUERY for two": op_query({"isMaster": 1}, limit=2),
    "OP_QUERY that names a database": op_query({"isMaster": 1, "$db": "shop"}),
    "OP_QUERY that wraps a database": op_query({"$query": {"isMaster": 1, "$db": "shop"}}),
    "OP_QUERY that wraps no document": op_query({"$query": 1}),
    "OP_QUERY with a bad read preference": op_query({"$query": {"isMaster": 1}, "$readPreference": 1}),
    "OP_QUERY in a transaction": op_query({"isMaster": 1, "autocommit": False}),
    "OP_GET_MORE": message(2005, b"\0" * 4 + b"shop.orders\0" + struct.pack("<iq", 0, 5)),
    "OP_INSERT": message(2002, b"\0" * 4 + b"shop.orders\0" + bson.encode({"_id": "legacy"})),
    "OP_UPDATE": message(2001, b"\0" * 4 + b"shop.orders\0\0\0\0\0" + bson.encode({}) * 2),
    "OP_DELETE": message(2006, b"\0" * 4 + b"shop.orders\0\0\0\0\0" + bson.encode({})),
    "OP_KILL_CURSORS": message(2007, b"\0" * 4 + struct.pack("<iq", 1, 5)),
    "OP_REPLY": message(1, b"\0" * 20 + bson.encode({})),
    "opcode 0": message(0, b"\0" * 20),
    "opcode 2010 (OP_COMMAND)": message(2010, b"admin\0ping\0" + bson.encode({"ping": 1}) * 2),
    "opcode -1": message(-1, b"\0" * 20),
}

STRICTER: dict[str, tuple[Any, ...]] = {
    # Broken framing ends the connection; mongod reads on where it can.
    "checksum flag without checksum": ("closed",),
    "opcode 0": ("closed",),
    # Which of two errors comes first: a stranger learns no more from either.
    "empty database name": ((OP_MSG, 73),),
    "database name with a slash": ((OP_MSG, 73),),
    "database name of 64 bytes": ((OP_MSG, 73),),
    "1000 levels in a filter": ((OP_MSG, UNAUTHORIZED), (OP_MSG, 15)),
}
"""Name -> what mongoguard may answer where mongod answers something else."""


@pytest.mark.parametrize("name", [*BAD_MESSAGES, *LEGACY])
@pytest.mark.parametrize("user", [None, "reader"], ids=["stranger", "reader"])
def test_a_bad_message_is_answered_as_mongod_answers_it(
    guard_standalone: Guard, name: str, user: str | None
) -> None:
    data = {**BAD_MESSAGES, **LEGACY}[name]
    guarded = outcome(guard_standalone.address, data, user)
    if name in STRICTER:
        assert guarded in STRICTER[name]
        return
    assert guarded == outcome(guard_standalone.upstream.address, data, user)


def test_a_right_checksum_is_accepted(guard_standalone: Guard) -> None:
    assert outcome(guard_standalone.address, op_msg(find(), flags=CHECKSUM_PRESENT), "reader") == (OP_MSG, 0)
    refused = op_msg({"drop": "orders", "$db": "shop"}, flags=CHECKSUM_PRESENT)
    assert outcome(guard_standalone.address, refused, "reader") == (OP_MSG, UNAUTHORIZED)


def test_optional_flags_are_ignored(guard_standalone: Guard) -> None:
    for flags in (EXHAUST_ALLOWED, 1 << 17, 1 << 31):
        assert outcome(guard_standalone.address, op_msg(find(), flags=flags), "reader") == (OP_MSG, 0)


# ---- what was checked is what runs ----------------------------------------------------------------------------------


@pytest.fixture
def victim(guard_standalone: Guard) -> Iterator[Callable[[], dict[str, Any]]]:
    """The collections victim and secrets of shop, and what is in them now."""
    with guard_standalone.upstream.client() as direct:
        direct.drop_database("shop")
        direct.shop.victim.insert_one({"_id": 1, "n": 0})
        direct.shop.secrets.insert_one({"_id": 1, "secret": "canary"})

        def state() -> dict[str, Any]:
            return {
                name: list(direct.shop[name].find()) for name in sorted(direct.shop.list_collection_names())
            }

        yield state


DROPS: dict[str, bytes] = {
    "a sequence before the body": op_msg(
        {"drop": "victim", "$db": "shop"}, before=sequence_section("documents", [{"a": 1}])
    ),
    "a sequence named zzz": op_msg({"drop": "victim", "$db": "shop"}, sequence_section("zzz", [{"a": 1}])),
    "a sequence named like a harmless command": op_msg(
        {"drop": "victim", "$db": "shop"}, before=sequence_section("find", [{"a": 1}])
    ),
    "an empty sequence": op_msg({"drop": "victim", "$db": "shop"}, sequence_section("zzz", [])),
}


@pytest.mark.parametrize("name", DROPS)
def test_a_drop_behind_another_section_is_decided_as_a_drop(
    guard_standalone: Guard, victim: Callable[[], dict[str, Any]], name: str
) -> None:
    before = victim()
    result = outcome(guard_standalone.address, DROPS[name], "reader")
    assert result == "closed" or result[1] != 0, result
    assert victim() == before
    # mongod ignores a sequence that a command does not know; here nothing is relayed that was not understood
    assert outcome(guard_standalone.address, DROPS[name], "app") == (OP_MSG, UNKNOWN_FIELD)
    assert victim() == before
    assert outcome(guard_standalone.address, op_msg({"drop": "victim", "$db": "shop"}), "app") == (OP_MSG, 0)
    assert "victim" not in victim()


@pytest.mark.parametrize("first", [True, False])
def test_a_sequence_may_come_before_or_after_the_body(
    guard_standalone: Guard, victim: Callable[[], dict[str, Any]], first: bool
) -> None:
    before, body = victim(), {"insert": "victim", "$db": "shop"}
    section = sequence_section("documents", [{"_id": 2}])
    data = op_msg(body, before=section) if first else op_msg(body, section)
    assert outcome(guard_standalone.address, data, "reader") == (OP_MSG, UNAUTHORIZED)
    assert victim() == before
    assert outcome(guard_standalone.address, data, "app") == (OP_MSG, 0)
    assert victim()["victim"] == [*before["victim"], {"_id": 2}]


def update_with(*statement: bytes) -> bytes:
    """An update command whose one statement has these elements."""
    return document_of(
        element("update", 2, b"\7\0\0\0victim\0"),
        element("updates", 4, document_of(element("0", 3, document_of(*statement)))),
        element("$db", 2, b"\5\0\0\0shop\0"),
    )


def aggregate_with(*pipelines: bytes) -> bytes:
    """An aggregate over orders_public with these pipelines."""
    return document_of(
        element("aggregate", 2, b"\7\0\0\0victim\0"),
        *(element("pipeline", 4, pipeline) for pipeline in pipelines),
        element("cursor", 3, bson.encode({})),
        element("$db", 2, b"\5\0\0\0shop\0"),
    )


def stages(*raw: bytes) -> bytes:
    """An array of stages."""
    return document_of(*(element(str(i), 3, stage) for i, stage in enumerate(raw)))


Q, U = element("q", 3, bson.encode({"_id": 99})), element("u", 3, bson.encode({"$set": {"n": 1}}))
HARMLESS = stages(bson.encode({"$match": {}}))
LOOKUP = {"localField": "_id", "foreignField": "_id", "as": "stolen"}

AMBIGUOUS: dict[str, tuple[str, bytes]] = {
    "upsert twice, false last": (
        "updater",
        update_with(Q, U, element("upsert", 8, b"\1"), element("upsert", 8, b"\0")),
    ),
    "upsert twice, true last": (
        "updater",
        update_with(Q, U, element("upsert", 8, b"\0"), element("upsert", 8, b"\1")),
    ),
    "two pipelines, $out first": (
        "victim_only",
        aggregate_with(stages(bson.encode({"$out": "copy"})), HARMLESS),
    ),
    "two pipelines, $out last": (
        "victim_only",
        aggregate_with(HARMLESS, stages(bson.encode({"$out": "copy"}))),
    ),
    "$lookup.from twice, own last": (
        "victim_only",
        aggregate_with(
            stages(
                document_of(
                    element("$lookup", 3, joined({"from": "secrets"}, {"from": "victim"}, LOOKUP)),
                )
            )
        ),
    ),
    "$lookup.from twice, own first": (
        "victim_only",
        aggregate_with(
            stages(
                document_of(
                    element("$lookup", 3, joined({"from": "victim"}, {"from": "secrets"}, LOOKUP)),
                )
            )
        ),
    ),
    "a stage of two names": (
        "victim_only",
        aggregate_with(stages(bson.encode({"$match": {}, "$unionWith": "secrets"}))),
    ),
    "$merge.into twice": (
        "victim_only",
        aggregate_with(
            stages(document_of(element("$merge", 3, joined({"into": "victim"}, {"into": "copy"}))))
        ),
    ),
    "$unionWith.coll twice": (
        "victim_only",
        aggregate_with(
            stages(document_of(element("$unionWith", 3, joined({"coll": "victim"}, {"coll": "secrets"}))))
        ),
    ),
    "a facet twice": (
        "victim_only",
        aggregate_with(
            stages(
                document_of(
                    element(
                        "$facet",
                        3,
                        joined({"a": [{"$match": {}}]}, {"a": [{"$lookup": {"from": "secrets", **LOOKUP}}]}),
                    )
                )
            )
        ),
    ),
    "array indexes out of order": (
        "victim_only",
        aggregate_with(
            document_of(
                element("7", 3, bson.encode({"$unionWith": "secrets"})),
                element("0", 3, bson.encode({"$match": {}})),
            )
        ),
    ),
    "a pipeline that is an object": (
        "victim_only",
        document_of(
            element("aggregate", 2, b"\7\0\0\0victim\0"),
            element("pipeline", 3, stages(bson.encode({"$unionWith": "secrets"}))),
            element("cursor", 3, bson.encode({})),
            element("$db", 2, b"\5\0\0\0shop\0"),
        ),
    ),
}


@pytest.fixture(scope="module")
def _narrow_users(guard_standalone: Guard) -> None:
    """updater: find and update on shop.victim (no insert); victim_only: find on shop.victim."""
    with guard_standalone.client() as root:
        resource = {"db": "shop", "collection": "victim"}
        for name, actions in (("updater", ["find", "update"]), ("victim_only", ["find"])):
            privileges = [{"resource": resource, "actions": actions}]
            root.admin.command("createRole", f"{name}Role", privileges=privileges, roles=[])
            root.admin.command("createUser", name, pwd=password_of(name), roles=[f"{name}Role"])


@pytest.mark.usefixtures("_narrow_users")
@pytest.mark.parametrize("name", AMBIGUOUS)
def test_what_can_be_read_in_two_ways_is_refused(
    guard_standalone: Guard, victim: Callable[[], dict[str, Any]], name: str
) -> None:
    user, body = AMBIGUOUS[name]
    before = victim()
    with RawConnection(guard_standalone.address) as raw:
        raw.log_in(user, password_of(user))
        reply = raw.exchange(op_msg(body)).document
        assert reply["ok"] == 0, reply
        assert "canary" not in str(reply)
        assert raw.command("shop", {"find": "victim"})["ok"] == 1, "the connection and the right are there"
    assert victim() == before


@pytest.mark.usefixtures("_narrow_users")
def test_a_command_sequence_is_checked_like_the_field_it_stands_for(
    guard_standalone: Guard, victim: Callable[[], dict[str, Any]]
) -> None:
    statement = {"q": {"_id": 50}, "u": {"$set": {"n": 1}}, "upsert": True}
    before = victim()
    with RawConnection(guard_standalone.address) as raw:
        raw.log_in("updater", password_of("updater"))
        refused = raw.command("shop", {"update": "victim"}, sequence_section("updates", [statement]))
        assert refused["code"] == UNAUTHORIZED, refused
        allowed = raw.command(
            "shop", {"update": "victim"}, sequence_section("updates", [{**statement, "upsert": False}])
        )
        assert allowed["ok"] == 1, allowed
        pipeline = sequence_section("pipeline", [{"$unionWith": "secrets"}])
        refused = raw.command("shop", {"aggregate": "victim", "cursor": {}}, pipeline)
        assert refused["ok"] == 0, refused
    assert victim() == before


# ---- bombs ----------------------------------------------------------------------------------------------------------


def resident_mib(pid: int) -> float:
    """The process's resident memory."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


@pytest.fixture
def bounded(guard_standalone: Guard) -> Iterator[None]:
    """The guard's memory may not have grown by more than 60 MiB: one message of the largest size, and a bit."""
    before = resident_mib(guard_standalone.pid)
    yield
    assert resident_mib(guard_standalone.pid) - before < 60


@pytest.mark.usefixtures("bounded")
def test_a_message_of_48_mb_before_login_ends_early(guard_standalone: Guard) -> None:
    start = header(48_000_000, OP_MSG) + b"\0\0\0\0\0"
    for _ in range(10):
        with RawConnection(guard_standalone.address) as raw:
            sent = 0
            try:
                raw.send(start)
                while sent < 48_000_000:
                    raw.send(b"\0" * MIB)
                    sent += MIB
            except (ConnectionResetError, BrokenPipeError):
                assert sent < 16 * MIB, "more was taken than socket buffers hold"
            else:
                pytest.fail("48 MB were taken from a stranger")


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("user", [None, "app"])
def test_a_decompression_bomb_ends_the_connection(guard_standalone: Guard, user: str | None) -> None:
    bomb = zlib.compress(b"\0" * (100 * MIB), 9)
    assert len(bomb) < 128 * 1024
    for claimed in (100 * MIB, 2**31 - 1, -1, 47 * MIB, 100, 0):
        data = message(OP_COMPRESSED, struct.pack("<iiB", OP_MSG, claimed, ZLIB) + bomb)
        assert outcome(guard_standalone.address, data, user) == "closed"


def test_lies_about_compression_end_the_connection(guard_standalone: Guard) -> None:
    inner = op_msg(find())
    lies = [
        compressed(inner, ZLIB, claimed_size=len(inner)),
        compressed(inner, ZLIB, claimed_size=1),
        message(OP_COMPRESSED, struct.pack("<iiB", OP_MSG, 50, 9) + b"x" * 50),
        message(OP_COMPRESSED, struct.pack("<iiB", OP_MSG, 50, SNAPPY) + os.urandom(50)),
        message(OP_COMPRESSED, struct.pack("<iiB", OP_MSG, 50, ZSTD) + os.urandom(50)),
        message(OP_COMPRESSED, struct.pack("<iiB", OP_MSG, 50, ZLIB) + os.urandom(50)),
        message(OP_COMPRESSED, b"\0\0"),
        message(OP_COMPRESSED, b""),
        compressed(compressed(inner)),
    ]
    for lie in lies:
        assert outcome(guard_standalone.address, lie, "reader") == "closed", lie[:40]


@pytest.mark.parametrize("compressor", [NOOP, SNAPPY, ZLIB, ZSTD])
def test_compression_that_was_not_negotiated_hides_nothing(
    guard_standalone: Guard, victim: Callable[[], dict[str, Any]], compressor: int
) -> None:
    before = victim()
    drop = compressed(op_msg({"drop": "victim", "$db": "shop"}), compressor)
    assert outcome(guard_standalone.address, drop) == (OP_MSG, UNAUTHORIZED)
    assert outcome(guard_standalone.address, drop, "reader") == (OP_MSG, UNAUTHORIZED)
    assert victim() == before
    assert outcome(guard_standalone.address, compressed(op_msg(find()), compressor), "reader") == (OP_MSG, 0)


class Compressing(RawConnection):
    """Compresses whatever it sends, as Perl's driver does: logins, too."""

    def exchange(self, data: bytes) -> Message:
        return super().exchange(compressed(data)).decompressed()


def test_a_compressed_login_gives_what_any_login_gives(guard_standalone: Guard) -> None:
    with Compressing(guard_standalone.address) as raw:
        raw.log_in("reader", password_of("reader"))
        assert raw.command("shop", {"find": "orders"})["ok"] == 1
        assert raw.command("shop", {"insert": "orders", "documents": [{}]})["code"] == UNAUTHORIZED
    with Compressing(guard_standalone.address) as raw:
        with pytest.raises(AssertionError, match="'code': 18"):
            raw.log_in("reader", "not-the-password")
        assert raw.command("shop", {"find": "orders"})["code"] == UNAUTHORIZED


def test_a_compressed_hello_ends_the_connection(guard_standalone: Guard) -> None:
    hello = op_msg({"hello": 1, "$db": "admin"})
    assert outcome(guard_standalone.address, compressed(hello)) == "closed"
    assert outcome(guard_standalone.address, hello) == (OP_MSG, 0)


def facets(levels: int) -> bytes:
    """A facet within a lookup within a facet and so on."""
    inner = stages(bson.encode({"$match": {}}))
    for level in range(levels):
        if level % 2:
            stage = document_of(element("$facet", 3, document_of(element("a", 4, inner))))
        else:
            lookup = document_of(
                element("from", 2, b"\7\0\0\0victim\0"),
                element("pipeline", 4, inner),
                element("as", 2, b"\2\0\0\0x\0"),
            )
            stage = document_of(element("$lookup", 3, lookup))
        inner = stages(stage)
    return inner


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("levels", [25, 1000])
def test_a_pipeline_of_many_levels_is_refused(guard_standalone: Guard, levels: int) -> None:
    data = op_msg(aggregate_with(facets(levels)))
    for user in ("reader", "app", "root"):
        result = outcome(guard_standalone.address, data, user)
        assert result == "closed" or result[1] != 0
        refused = outcome(guard_standalone.upstream.address, data, user)
        assert refused == "closed" or refused[1] != 0, "mongod refuses it too, for another reason"


@pytest.mark.usefixtures("bounded")
def test_a_wide_command_is_answered_in_time(guard_standalone: Guard) -> None:
    """100000 fields, stages, cursors or sessions: each is looked at once."""
    many = {f"f{i}": 1 for i in range(100_000)}
    sessions = [{"id": Binary(uuid.uuid4().bytes, 4)} for _ in range(20_000)]
    wide: list[dict[str, Any]] = [
        {"find": "orders", "filter": many, "$db": "shop"},
        {"find": "orders", **many, "$db": "shop"},
        {"aggregate": "orders", "pipeline": [{"$match": {}}] * 50_000, "cursor": {}, "$db": "shop"},
        {"killCursors": "orders", "cursors": [Int64(i) for i in range(1, 50_000)], "$db": "shop"},
        {"endSessions": sessions, "$db": "admin"},
    ]
    for body in wide:
        began = time.monotonic()
        outcome(guard_standalone.address, op_msg(body), "reader")
        assert time.monotonic() - began < 5, next(iter(body))


# ---- time -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def impatient(guard_standalone: Guard, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guard]:
    """A mongoguard that waits 2 s for a first message, and 2 s for the rest of one."""
    limits = {"net": {"messageTimeoutSecs": 2, "handshakeTimeoutSecs": 2}}
    guard = Guard(tmp_path_factory.mktemp("impatient"), guard_standalone.upstream, limits)
    try:
        yield guard.start().wait()
    finally:
        guard.stop()


def test_a_client_that_says_nothing_is_left(impatient: Guard) -> None:
    with RawConnection(impatient.address, timeout=8) as raw:
        began = time.monotonic()
        assert raw.is_closed_by_peer()
        assert 1 < time.monotonic() - began < 6


@pytest.mark.parametrize("user", [None, "app"])
def test_a_trickle_is_cut_off(impatient: Guard, user: str | None) -> None:
    with RawConnection(impatient.address, timeout=8) as raw:
        if user:
            raw.log_in(user, password_of(user))
        began = time.monotonic()
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            for byte in PING:
                raw.send(bytes([byte]))
                time.sleep(0.25)
        assert raw.is_closed_by_peer()
        assert time.monotonic() - began < 7


def test_a_trickle_behind_a_whole_message_is_cut_off(impatient: Guard) -> None:
    with RawConnection(impatient.address, timeout=8) as raw:
        raw.log_in("app", password_of("app"))
        assert raw.exchange(PING + PING[:20]).document["ok"] == 1
        assert raw.is_closed_by_peer()


def test_a_quiet_client_that_is_logged_in_may_stay(impatient: Guard) -> None:
    with RawConnection(impatient.address) as raw:
        raw.log_in("app", password_of("app"))
        assert raw.silent_for(4)
        assert raw.exchange(PING).document["ok"] == 1


def test_200_half_open_connections_disturb_nobody(guard_standalone: Guard) -> None:
    address = ("127.0.0.1", guard_standalone.port)
    with contextlib.ExitStack() as stack:
        for i in range(200):
            sock = stack.enter_context(socket.create_connection(address, 5))
            sock.sendall(PING[: i % 30])
        with RawConnection(guard_standalone.address) as raw:
            raw.log_in("reader", password_of("reader"))
            began = time.monotonic()
            for _ in range(100):
                assert raw.command("shop", {"find": "orders"})["ok"] == 1
            assert time.monotonic() - began < 3


def test_a_client_that_reads_nothing_stops_only_itself(guard_standalone: Guard) -> None:
    with guard_standalone.upstream.client() as direct:
        direct.shop.wide.drop()
        direct.shop.wide.insert_many([{"_id": i, "pad": "x" * MIB} for i in range(8)])
    before = resident_mib(guard_standalone.pid)
    with RawConnection(guard_standalone.address) as deaf, RawConnection(guard_standalone.address) as other:
        deaf.log_in("reader", password_of("reader"))
        other.log_in("reader", password_of("reader"))
        request = op_msg(find("wide", batchSize=8, singleBatch=True))
        for _ in range(200):
            deaf.send(request)
        for _ in range(50):
            assert other.command("shop", {"find": "orders"})["ok"] == 1
        assert resident_mib(guard_standalone.pid) - before < 100, "replies pile up for who doesn't read them"


# ---- order ----------------------------------------------------------------------------------------------------------


def test_pipelined_messages_are_answered_in_order(guard_standalone: Guard) -> None:
    with RawConnection(guard_standalone.address) as raw:
        raw.log_in("reader", password_of("reader"))
        bodies: list[dict[str, Any]] = [
            {"find": "orders", "$db": "shop"},
            {"insert": "orders", "documents": [{}], "$db": "shop"},
            {"ping": 1, "$db": "admin"},
        ]
        raw.send(b"".join(op_msg(bodies[i % 3], request_id=1000 + i) for i in range(300)))
        for i in range(300):
            reply = raw.receive()
            assert reply.response_to == 1000 + i
            assert reply.document.get("code", 0) == (UNAUTHORIZED if i % 3 == 1 else 0)


def test_what_wants_no_reply_gets_none_whatever_is_in_it(
    guard_standalone: Guard, victim: Callable[[], dict[str, Any]]
) -> None:
    before = victim()
    silent = [
        op_msg({"drop": "victim", "$db": "shop"}, flags=MORE_TO_COME),
        op_msg({"insert": "victim", "documents": [{}], "$db": "shop"}, flags=MORE_TO_COME),
        op_msg({"noSuchCommand": 1, "$db": "shop"}, flags=MORE_TO_COME),
        op_msg({"find": "orders"}, flags=MORE_TO_COME),
        op_msg(joined({"find": "orders"}, {"find": "x", "$db": "shop"}), flags=MORE_TO_COME),
        op_msg(find(), document_section(find()), flags=MORE_TO_COME),
        op_msg({"getMore": Int64(5), "collection": "orders", "$db": "shop"}, flags=MORE_TO_COME),
        op_msg({"insert": "victim", "documents": 5, "$db": "shop"}, flags=MORE_TO_COME),
    ]
    for user in (None, "reader"):
        for data in silent:
            assert outcome(guard_standalone.address, data, user) == "silent"
    assert victim() == before
    allowed = op_msg({"insert": "victim", "documents": [{"_id": 2}], "$db": "shop"}, flags=MORE_TO_COME)
    assert outcome(guard_standalone.address, allowed, "app") == "silent"
    assert victim()["victim"][-1] == {"_id": 2}


def test_many_connections_at_once_are_all_served(guard_standalone: Guard) -> None:
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(5):
                with RawConnection(guard_standalone.address) as raw:
                    raw.log_in("reader", password_of("reader"))
                    assert raw.command("shop", {"find": "orders"})["ok"] == 1
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures


def test_the_plain_mongod_survived_too(guard_standalone: Guard) -> None:
    upstream: Mongod = guard_standalone.upstream
    assert upstream.running
