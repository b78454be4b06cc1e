"""The printed command: texts measured on mongod 6.0.5 that a driver cannot send as they are."""

from __future__ import annotations

from typing import Any

import pytest
from bson import Binary, Code, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp

from mongoguard.command.command import Command
from mongoguard.command.printing import MAX_OPENED_BYTES, MAX_PRINTED, not_authorized, print_command
from mongoguard.wire.document import Document
from tests.unit.command.commands import command


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"insert": "c", "documents": [{"a": 1}]}, '{ insert: "c", documents: [ { a: 1 } ], $db: "t" }'),
        ({"insert": "c", "documents": [{}] * 2}, '{ insert: "c", documents: 2, $db: "t" }'),
        ({"update": "c", "updates": [{}] * 3}, '{ update: "c", updates: 3, $db: "t" }'),
        ({"delete": "c", "deletes": [{}] * 2}, '{ delete: "c", deletes: 2, $db: "t" }'),
        ({"createUser": "u", "pwd": "secret"}, '{ createUser: "u", pwd: "xxx", $db: "t" }'),
        ({"saslStart": 1, "payload": b"secret"}, '{ saslStart: 1, payload: "xxx", $db: "t" }'),
        ({"nope": None}, '{ nope: null, $db: "t" }'),
    ],
)
def test_a_command_is_printed_without_its_secrets_and_batches(body: dict[str, Any], text: str) -> None:
    assert print_command(command(body)) == text


def test_document_sequences_are_not_printed() -> None:
    sent = command({"insert": "c"}, sequences={"documents": [{"ssn": "1"}]})
    assert not_authorized(sent).errmsg == 'not authorized on t to execute command { insert: "c", $db: "t" }'


def test_a_huge_command_is_cut() -> None:
    filters = [{"a": "x" * 100}] * 2000
    assert len(print_command(command({"find": "c", "filter": {"$or": filters}}))) <= MAX_PRINTED + 10


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        (0x06, b"", "undefined"),
        (0x0E, b"\4\0\0\0sym\0", '"sym"'),
        (0x0C, b"\4\0\0\0a.b\0" + b"x" * 12, "DBRef('a.b',787878787878787878787878)"),
        (0x09, (2**62).to_bytes(8, "little"), "new Date(4611686018427387904)"),
        (0x03, b"\x0d\0\0\0\x08a\0\0\x08a\0\0\0", "..."),
    ],
)
def test_rare_types_are_printed_as_mongod_prints_them(kind: int, value: bytes, text: str) -> None:
    element = bytes([kind]) + b"f\0" + value
    data = (len(element) + 5).to_bytes(4, "little") + element + b"\0"
    assert print_command(Command(Document(data), "t")) == f"{{ f: {text} }}"


def test_refused_list_databases_has_a_text_of_its_own() -> None:
    assert (
        not_authorized(command({"listDatabases": 1}, "admin")).errmsg
        == "Insufficient permissions to list all databases"
    )


@pytest.mark.parametrize("name", ["endSessions", "killSessions", "refreshSessions"])
def test_naming_sessions_of_others_is_refused_in_words_of_its_own(name: str) -> None:
    assert (
        not_authorized(command({name: []}, "t")).errmsg
        == "Unauthorized to set user digest in LogicalSessionId"
    )


OID = ObjectId("0123456789abcdef01234567")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.5, "1.5"),
        (2.0, "2.0"),
        (1e100, "1e+100.0"),
        (5, "5"),
        (Int64(5), "5"),
        (True, "true"),
        (False, "false"),
        (None, "null"),
        ("x", '"x"'),
        ("x" * 159, f'"{"x" * 159}"'),
        ("x" * 160, f'"{"x" * 150}..."'),
        (b"\1\xab", "BinData(0, 01AB)"),
        (b"\1" * 80, "BinData(0, " + "01" * 80 + ")"),
        (b"\1" * 81, "BinData(0, " + "01" * 70 + "...)"),
        (Binary(b"\1\2", 2), "BinData(2, 0102)"),
        (Binary(b"secret", 6), '"###"'),
        (Binary(bytes(range(16)), 4), 'UUID("00010203-0405-0607-0809-0a0b0c0d0e0f")'),
        (Binary(b"\1" * 15, 4), "BinData(4, " + "01" * 15 + ")"),
        (OID, "ObjectId('0123456789abcdef01234567')"),
        (Regex("^a", "i"), "/^a/i"),
        (Timestamp(7, 9), "Timestamp(7, 9)"),
        (Decimal128("1.50"), "1.50"),
        (Code("f()"), "f()"),
        (Code("f" * 80), "f" * 70 + "..."),
        (Code("f()", {"a": 1}), "CodeWScope( f(), { a: 1 })"),
        (MinKey(), "MinKey"),
        (MaxKey(), "MaxKey"),
        ([], "[]"),
        ({}, "{}"),
        ([1, "a"], '[ 1, "a" ]'),
        ({"a": 1, "b": {"c": [2]}}, "{ a: 1, b: { c: [ 2 ] } }"),
    ],
)
def test_each_type_is_printed_as_mongod_prints_it(value: Any, text: str) -> None:
    assert print_command(command({"nope": value})) == f'{{ nope: {text}, $db: "t" }}'


def test_what_is_too_large_or_too_deep_is_not_opened() -> None:
    large = {"x": "y" * MAX_OPENED_BYTES}
    assert print_command(command({"nope": large})) == '{ nope: { ... }, $db: "t" }'
    assert print_command(command({"nope": [large["x"]]})) == '{ nope: [ ... ], $db: "t" }'
    deep: Any = 1
    for _ in range(102):
        deep = {"a": deep}
    assert "{ a: { ... }" in print_command(command({"nope": deep}))


def test_a_text_that_is_cut_says_so() -> None:
    sent = command({"nope": [{"a": "x" * 100}] * 1000})
    assert print_command(sent).endswith("...")
    assert len(print_command(sent)) == MAX_PRINTED + len("{ ...")


def test_an_empty_body_is_printed_as_braces() -> None:
    assert print_command(Command(Document(b"\5\0\0\0\0"), "t")) == "{}"


def test_a_damaged_batch_is_printed_and_does_not_hide_the_refusal() -> None:
    array = b"\x0d\0\0\0\x080\0\0\x080\0\0\0"
    element = b"\2insert\0\2\0\0\0c\0" + b"\4documents\0" + array
    data = (len(element) + 5).to_bytes(4, "little") + element + b"\0"
    assert print_command(Command(Document(data), "t")) == '{ insert: "c", documents: ... }'


def test_a_damaged_code_with_scope_is_printed_as_dots() -> None:
    scope = (100).to_bytes(4, "little") + b"f\0" + b"\5\0\0\0\0"
    value = (4 + len(scope) + 0).to_bytes(4, "little") + scope
    element = b"\x0ff\0" + value
    data = (len(element) + 5).to_bytes(4, "little") + element + b"\0"
    assert print_command(Command(Document(data), "t")) == "{ f: ... }"


def test_other_refusals_print_the_command() -> None:
    refused = not_authorized(command({"find": "c"}))
    assert (refused.code, refused.errmsg) == (
        13,
        'not authorized on t to execute command { find: "c", $db: "t" }',
    )
