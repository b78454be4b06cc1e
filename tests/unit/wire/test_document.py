"""Documents: BSON read in place, each rule with its twin, and every type against bson's own reading."""

import datetime
import math
import struct
import uuid

import bson
import pytest
from bson.datetime_ms import DatetimeMS

from mongoguard.errors import ErrorCode
from mongoguard.wire.document import (
    ARRAY,
    MAX_DEPTH,
    TYPE_NAMES,
    BSONError,
    Document,
    DuplicateFieldError,
    encode,
    encode_element,
)
from tests.unit.wire.cases import document_of, element, nested

_STAMP = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
VALUES = {
    "double": 1.5,
    "string": "zoë",
    "object": {"a": {"b": [1, {"c": None}]}},
    "array": [1, "two", [3]],
    "binData": b"\0\1",
    "uuid": bson.Binary.from_uuid(uuid.UUID(int=7)),
    "objectId": bson.ObjectId(b"o" * 12),
    "true": True,
    "false": False,
    "date": _STAMP,
    "null": None,
    "regex": bson.Regex("a.b", "im"),
    "javascript": bson.Code("f()"),
    "scope": bson.Code("f()", {"x": {"y": 1}}),
    "int": -7,
    "timestamp": bson.Timestamp(1, 2),
    "long": bson.Int64(2**40),
    "decimal": bson.Decimal128("1.10"),
    "maxKey": bson.MaxKey(),
    "minKey": bson.MinKey(),
}


def test_every_type_decodes_as_bson_decodes_it():
    assert Document(bson.encode(VALUES)).decode() == VALUES


def test_fields_keep_their_order_and_can_be_asked_for():
    document = Document(bson.encode({"b": 1, "a": "x"}))
    assert list(document) == ["b", "a"]
    assert len(document) == 2
    assert "a" in document
    assert "c" not in document
    assert document.value("c") is None


def test_a_view_inside_other_bytes_gives_its_own_bytes():
    inner = bson.encode({"a": 1})
    document = Document(b"before" + inner + b"after", 6)
    assert document.raw == inner
    assert document.end == 6 + len(inner)


def test_types_are_named_as_mongod_names_them():
    document = Document(bson.encode({"a": 1, "b": []}))
    assert (document.type_name("a"), document.type_name("b"), document.type_name("c")) == (
        "int",
        "array",
        "missing",
    )
    assert document.type_of("b") == ARRAY
    assert document.type_of("c") is None
    assert len(TYPE_NAMES) == 21


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (3, 3),
        (bson.Int64(2**40), 2**40),
        (2.5, 2.5),
        (bson.Decimal128("1.5"), 1.5),
        (bson.Decimal128("9E6111"), math.inf),
        ("3", None),
        (True, None),
        (None, None),
    ],
)
def test_numbers_of_every_kind_are_read_and_nothing_else(value: object, number: float | None):
    assert Document(bson.encode({"a": value})).number("a") == number


def test_a_missing_field_is_no_number():
    assert Document(bson.encode({})).number("a") is None


@pytest.mark.parametrize("bid", [bytes(15) + b"\x7e", b"\xff" * 16, bytes(15) + b"\x7c"])
def test_a_decimal_nan_signaling_or_not_is_a_nan(bid: bytes):
    document = Document(document_of(element(0x13, b"a", bid)))
    number = document.number("a")
    assert number is not None
    assert math.isnan(number)
    assert document.truthy("a")


@pytest.mark.parametrize("value", [True, 1, -1, 0.5, "", {}, [], bson.Int64(2), bson.Decimal128("1")])
def test_what_mongod_takes_for_true_is_truthy(value: object):
    assert Document(bson.encode({"a": value})).truthy("a")


@pytest.mark.parametrize("value", [False, 0, 0.0, bson.Int64(0), bson.Decimal128("0"), None])
def test_what_mongod_takes_for_false_is_not_truthy(value: object):
    document = Document(bson.encode({"a": value}))
    assert not document.truthy("a")
    assert not document.truthy("absent")


def test_undefined_is_not_truthy():
    assert not Document(document_of(element(6, b"a", b""))).truthy("a")


def test_accessors_give_their_own_type_and_none_for_others():
    document = Document(
        bson.encode(
            {"s": "x", "t": True, "f": False, "b": bson.Binary(b"xy", 4), "d": {"a": 1}, "l": [{}, {}]}
        )
    )
    assert (document.string("s"), document.string("t"), document.string("no")) == ("x", None, None)
    assert (document.boolean("t"), document.boolean("f"), document.boolean("s")) == (True, False, None)
    assert document.boolean("no") is None
    assert (document.binary("b"), document.binary("s"), document.binary("no")) == ((4, b"xy"), None, None)
    view = document.document("d")
    assert view is not None
    assert (view.raw, view.depth) == (bson.encode({"a": 1}), 1)
    assert document.document("l") is None
    assert document.array("d") is None
    assert document.array("no") is None


def test_an_array_of_objects_is_all_objects_or_none():
    document = Document(bson.encode({"yes": [{"a": 1}, {}], "no": [{}, 1], "object": {}, "empty": []}))
    views = document.documents("yes")
    assert views is not None
    assert [v.decode() for v in views] == [{"a": 1}, {}]
    assert document.documents("empty") == []
    assert document.documents("no") is None
    assert document.documents("object") is None


def test_an_array_of_strings_is_all_strings_or_none():
    document = Document(bson.encode({"yes": ["a", "b"], "no": ["a", 1], "object": {}, "empty": []}))
    assert document.strings("yes") == ["a", "b"]
    assert document.strings("empty") == []
    assert document.strings("no") is None
    assert document.strings("object") is None


def test_an_array_may_have_any_keys_in_any_order_but_none_twice():
    keys = document_of(element(0x10, b"7", b"\1\0\0\0"), element(0x10, b"x", b"\2\0\0\0"))
    assert Document(document_of(element(4, b"a", keys))).value("a") == [1, 2]
    twice = document_of(element(0x10, b"0", b"\1\0\0\0"), element(0x10, b"0", b"\2\0\0\0"))
    with pytest.raises(DuplicateFieldError):
        Document(document_of(element(4, b"a", twice))).value("a")


def test_a_repeated_field_is_refused_by_name_at_any_level():
    twice = document_of(element(0x0A, b"x", b""), element(0x10, b"x", b"\1\0\0\0"))
    with pytest.raises(DuplicateFieldError) as refused:
        Document(twice)
    assert (refused.value.code, refused.value.errmsg, refused.value.name) == (
        40413,
        "BSON field 'x' is a duplicate field",
        "x",
    )
    outer = Document(document_of(element(3, b"a", twice)))
    with pytest.raises(DuplicateFieldError):
        outer.document("a")
    with pytest.raises(DuplicateFieldError):
        outer.decode()


@pytest.mark.parametrize("kind", [3, 4])
def test_200_levels_are_read_and_201_are_refused(kind: int):
    assert Document(nested(MAX_DEPTH, kind)).decode()
    with pytest.raises(BSONError) as refused:
        Document(nested(MAX_DEPTH + 1, kind)).decode()
    assert refused.value.code == ErrorCode.OVERFLOW


def _with_scope(code: bytes, scope: bytes, after: bytes = b"") -> Document:
    inner = struct.pack("<i", len(code)) + code + scope + after
    return Document(document_of(element(0x0F, b"a", struct.pack("<i", len(inner) + 4) + inner)))


def test_the_scope_of_a_code_is_read_as_strictly_as_any_document():
    assert _with_scope(b"f\0", bson.encode({"x": 1})).value("a") == bson.Code("f", {"x": 1})
    assert _with_scope(b"f\0", nested(MAX_DEPTH - 1)).value("a")
    with pytest.raises(BSONError) as too_deep:
        _with_scope(b"f\0", nested(MAX_DEPTH)).value("a")
    assert too_deep.value.code == ErrorCode.OVERFLOW
    with pytest.raises(DuplicateFieldError):
        _with_scope(b"f\0", document_of(element(10, b"x", b""), element(10, b"x", b""))).value("a")


@pytest.mark.parametrize(
    ("code", "scope", "after"),
    [
        (b"f", document_of(), b""),
        (b"\xff\0", document_of(), b""),
        (b"f\0", document_of(), b"\0"),
        (b"f\0", b"\6\0\0\0\0", b""),
        (b"f\0", b"\4\0\0\0\0", b""),
    ],
)
def test_a_damaged_code_with_scope_is_refused(code: bytes, scope: bytes, after: bytes):
    document = _with_scope(code, scope, after)
    with pytest.raises(BSONError) as refused:
        document.value("a")
    assert refused.value.code == ErrorCode.INVALID_BSON


def test_a_string_that_is_not_utf8_is_refused_when_it_is_read():
    document = Document(document_of(element(2, b"a", b"\2\0\0\0\xff\0")))
    with pytest.raises(BSONError):
        document.string("a")
    with pytest.raises(BSONError):
        document.value("a")


def test_what_bson_cannot_decode_is_refused():
    with pytest.raises(BSONError) as refused:
        Document(document_of(element(5, b"a", b"\1\0\0\0\2x"))).value("a")
    assert refused.value.code == ErrorCode.INVALID_BSON


def test_a_date_beyond_python_is_kept_as_milliseconds():
    assert Document(document_of(element(9, b"a", b"\xff" * 7 + b"\x7f"))).value("a") == DatetimeMS(2**63 - 1)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\5\0\0\0",
        b"\4\0\0\0\0",
        b"\xff\xff\xff\xff\0",
        b"\6\0\0\0\0",
        b"\5\0\0\0\1",
        b"\6\0\0\0\0\0",
        b"\6\0\0\0\1\0",
    ],
)
def test_bytes_that_are_no_document_are_refused(data: bytes):
    with pytest.raises(BSONError) as refused:
        Document(data)
    assert refused.value.code == ErrorCode.INVALID_BSON


def test_a_document_may_not_run_past_the_limit_it_is_given():
    data = bson.encode({"a": 1}) + bytes(10)
    length = len(bson.encode({"a": 1}))
    assert Document(data, 0, length).end == length
    with pytest.raises(BSONError):
        Document(data, 0, length - 1)


def test_a_value_may_not_take_the_byte_that_ends_its_document():
    with pytest.raises(BSONError):
        Document(b"\x0b\0\0\0\x10a\0\1\0\0\0")  # the int's last byte is the document's end
    with pytest.raises(BSONError):
        Document(b"\x08\0\0\0\x08a\0\0")


def test_encoding_gives_bson_and_an_element_is_its_inside():
    assert encode({"a": 1}) == bson.encode({"a": 1})
    assert document_of(encode_element("a", {"b": [1]})) == bson.encode({"a": {"b": [1]}})


def test_no_error_text_holds_a_value():
    secret = document_of(element(2, b"pwd", b"\7\0\0\0secret\0"), element(0x20, b"x", b""))
    with pytest.raises(BSONError) as refused:
        Document(secret)
    assert "secret" not in str(refused.value)
    assert "secret" not in repr(refused.value)
