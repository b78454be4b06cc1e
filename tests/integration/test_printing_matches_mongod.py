"""Refusal texts against a real mongod: every BSON type, every redaction, byte for byte."""

from __future__ import annotations

import datetime
import re
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import pymongo
import pytest
from bson import Binary, Code, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from pymongo.errors import OperationFailure

from mongoguard.command.printing import not_authorized
from tests.servers import Mongod
from tests.unit.command.commands import command

DB = "mongoguard_printing"

VALUES: tuple[Any, ...] = (
    *(1.5, 2.0, -0.0, 1e300, 1e15, 1e16, 0.1, 1 / 3, 1e-7, 5e-324, float("nan"), float("inf"), -float("inf")),
    *(5, Int64(5), 2**40, True, False, None),
    *("", 'a"b\\c\n', "x" * 159, "x" * 160, "é" * 80, "é" * 79 + "a"),
    *(
        b"",
        b"abc",
        b"\x01\xab" * 40,
        b"\x01\xab" * 41,
        Binary(b"abc", 5),
        Binary(b"x" * 16, 3),
        Binary(b"x" * 15, 4),
    ),
    *(Binary(b"abc", 2), Binary(b"abc", 6), Binary(b"abc", 128), Binary(bytes(range(0xF0, 0x100)), 4)),
    *(
        ObjectId("0123456789abcdef01234567"),
        Regex("a/b", "i"),
        Regex("x", "ms"),
        Regex("p" * 200),
        Timestamp(2**32 - 1, 7),
    ),
    *(Code("function(){}"), Code("y" * 79), Code("y" * 80), Code("x", {"a": 1})),
    *(
        Decimal128("1.10"),
        Decimal128("NaN"),
        Decimal128("1E+10"),
        Decimal128("-Infinity"),
        Decimal128("1E-6000"),
    ),
    *(
        MinKey(),
        MaxKey(),
        datetime.datetime(2020, 1, 1, 0, 0, 0, 5000, datetime.UTC),
        datetime.datetime(1960, 1, 1, tzinfo=datetime.UTC),
    ),
    *([], {}, [1, [2, {}]], {"a b": 1, "": 2, "x.y": {}}, ["s" * 200], {"k" * 200: 1}),
)

COMMANDS: tuple[Mapping[str, Any], ...] = (
    {"createUser": "u", "pwd": "secret", "roles": []},
    {"createUser": "u", "roles": [], "customData": {"pwd": "shown"}, "pwd": "secret"},
    {"updateUser": "u", "pwd": "secret"},
    {"explain": {"update": "c", "updates": [{"q": {}, "u": {}}] * 2}},
    {"findandmodify": "c", "remove": True},
    {"datasize": "x.c"},
    {"aggregate": "c", "pipeline": [{"$match": {"a": "z" * 300}}], "cursor": {}},
    {
        "find": "c",
        "comment": "why",
        "$readPreference": {"mode": "primary"},
    },
)


@pytest.fixture(scope="module")
def nobody(standalone: Mongod) -> Iterator[pymongo.MongoClient[dict[str, Any]]]:
    """A client logged in as a user without privileges."""
    name, password = f"nobody-{uuid.uuid4()}", uuid.uuid4().hex
    with standalone.client() as admin:
        admin[DB].command("createUser", name, pwd=password, roles=[])
        with standalone.client(name, password, authSource=DB, authMechanism="SCRAM-SHA-256") as client:
            yield client
        admin[DB].command("dropUser", name)


def _refusal(client: pymongo.MongoClient[dict[str, Any]], body: Mapping[str, Any]) -> str:
    """mongod's text, without the session that the driver adds to the command."""
    with pytest.raises(OperationFailure) as refused:
        client[DB].command(dict(body))
    assert refused.value.details is not None
    return re.sub(r', lsid: \{ id: UUID\("[-0-9a-f]*"\) \}', "", str(refused.value.details["errmsg"]))


@pytest.mark.parametrize("value", VALUES, ids=lambda v: f"{type(v).__name__} {repr(v)[:24]}")
def test_a_value_is_printed_as_mongod_prints_it(
    value: Any, nobody: pymongo.MongoClient[dict[str, Any]]
) -> None:
    body = {"find": "c", "filter": {"a": value}}
    assert not_authorized(command(body, DB)).errmsg == _refusal(nobody, body)


@pytest.mark.parametrize("body", COMMANDS, ids=lambda b: next(iter(b)))
def test_a_command_is_refused_in_mongods_words(
    body: Mapping[str, Any], nobody: pymongo.MongoClient[dict[str, Any]]
) -> None:
    assert not_authorized(command(body, DB)).errmsg == _refusal(nobody, body)
