"""The printed command: texts measured on mongod 6.0.5 that a driver cannot send as they are."""

from __future__ import annotations

from typing import Any

import bson
import pytest
from bson import Binary, Code, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp

from mongoguard.command.command import Command
from mongoguard.command.printing import (
    MAX_OPENED_BYTES,
    MAX_PRINTED,
    not_authorized,
    print_command,
    print_element,
)
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
        # What is no UTF-8 must not turn a refusal into another error.
        (0x02, b"\4\0\0\0a\xffb\0", '"a\ufffdb"'),
        (0x02, b"\xa2\0\0\0" + b"\xff" * 161 + b"\0", '"..."'),
        (0x0D, b"\4\0\0\0a\xffb\0", "a\ufffdb"),
        (0x0F, b"\x11\0\0\0\4\0\0\0a\xffb\0\5\0\0\0\0", "CodeWScope( a\ufffdb, {})"),
        (0x0B, b"a\xff\0i\xff\0", "/a\ufffd/i\ufffd"),
        (0x0C, b"\4\0\0\0a\xffb\0" + b"x" * 12, "DBRef('a\ufffdb',787878787878787878787878)"),
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
        (0.1 + 0.2, "0.3"),
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
        (b"\xab" * 81, "BinData(0, " + "AB" * 70 + "...)"),
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
        (Code("", {"a": 1}), "CodeWScope( , { a: 1 })"),
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


def _nested(levels: int) -> dict[str, Any]:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return {"nope": value}


def test_a_hundred_levels_are_opened_and_no_more() -> None:
    inside = "{ a: " * 100 + "1" + " }" * 100
    assert print_command(command(_nested(100))) == f'{{ nope: {inside}, $db: "t" }}'
    inside = "{ a: " * 100 + "{ ... }" + " }" * 100
    assert print_command(command(_nested(101))) == f'{{ nope: {inside}, $db: "t" }}'


def test_the_levels_of_a_single_statement_are_counted_alike() -> None:
    document = _nested(98)["nope"]
    inside = "{ a: " * 98 + "1" + " }" * 98
    for nested, text in ((document, inside), ({"a": document}, "{ a: " + inside + " }")):
        sent = command({"insert": "c", "documents": [nested]})
        assert print_command(sent) == f'{{ insert: "c", documents: [ {text} ], $db: "t" }}'
    sent = command({"insert": "c", "documents": [{"a": {"a": document}}]})
    assert "{ ... }" in print_command(sent)


def test_what_counts_is_how_long_a_document_is_and_not_where_it_lies() -> None:
    sent = command({"nope": b"x" * MAX_OPENED_BYTES, "then": {"a": 1}})
    assert print_command(sent).endswith(', then: { a: 1 }, $db: "t" }')


def test_a_document_of_just_that_length_is_opened() -> None:
    overhead = len(bson.encode({"a": ""}))
    fits = {"a": "x" * (MAX_OPENED_BYTES - overhead)}
    assert len(bson.encode(fits)) == MAX_OPENED_BYTES
    assert "..." in print_command(command({"nope": fits}))
    assert print_command(command({"nope": fits})).startswith('{ nope: { a: "xxx')
    longer = {"a": fits["a"] + "x"}
    assert print_command(command({"nope": longer})) == '{ nope: { ... }, $db: "t" }'


def _of_length(length: int) -> dict[str, Any]:
    """A command whose text, the braces around it apart, is that long."""
    strings = ["x" * 96] * 655  # with quotes and a comma a hundred characters each
    missing = length - len(print_command(command({"nope": [*strings, ""]}))) + len("{  }")
    return {"nope": [*strings, "x" * missing]}


def test_a_text_that_just_fits_is_not_cut() -> None:
    text = print_command(command(_of_length(MAX_PRINTED)))
    assert len(text) == MAX_PRINTED + len("{  }")
    assert text.endswith('], $db: "t" }')
    cut = print_command(command(_of_length(MAX_PRINTED + 1)))
    assert cut.endswith('$db: "t...')


def test_one_field_is_printed_as_it_is_in_its_command() -> None:
    body = command({"killOp": 1, "op": 1.5, "deep": {"a": [1, "x"]}}).body
    assert print_element(body, "op") == "op: 1.5"
    assert print_element(body, "deep") == 'deep: { a: [ 1, "x" ] }'
