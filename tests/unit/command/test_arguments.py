"""Arguments are read as mongod's parsers read them; the codes and texts were measured on mongod 6.0.5."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bson
import pytest
from bson import Decimal128, Int64

from mongoguard.command.arguments import (
    array_of_documents,
    is_absent,
    missing_field,
    optional_string,
    refuse_unknown_fields,
    required_array,
    required_string,
    safe_bool,
    strict_bool,
    unknown_field,
    wrong_type,
)
from mongoguard.errors import CommandError
from mongoguard.wire.document import Document


def body(**fields: Any) -> Document:
    return Document(bson.encode(fields))


def refusal(read: Callable[[], Any]) -> tuple[int, str]:
    with pytest.raises(CommandError) as caught:
        read()
    return caught.value.code, caught.value.errmsg


def test_errors_name_the_path_the_field_and_the_type() -> None:
    assert refusal(lambda: _raise(wrong_type("find", body(filter=5), "filter", "'object'"))) == (
        14,
        "BSON field 'find.filter' is the wrong type 'int', expected type 'object'",
    )
    assert refusal(lambda: _raise(missing_field("find", "x"))) == (
        40414,
        "BSON field 'find.x' is missing but a required field",
    )
    assert refusal(lambda: _raise(unknown_field("find", "x"))) == (
        40415,
        "BSON field 'find.x' is an unknown field.",
    )


def _raise(error: CommandError) -> None:
    raise error


def test_the_first_unknown_field_is_named_and_known_ones_pass() -> None:
    refuse_unknown_fields("p", body(a=1, b=2), frozenset("ab"))
    refuse_unknown_fields("p", body(a=1), frozenset("ab"))
    assert refusal(lambda: refuse_unknown_fields("p", body(a=1, y=1, x=1), frozenset("ab"))) == (
        40415,
        "BSON field 'p.y' is an unknown field.",
    )


@pytest.mark.parametrize(("fields", "absent"), [({}, True), ({"f": None}, True), ({"f": 0}, False)])
def test_null_is_as_good_as_absent(fields: dict[str, Any], absent: bool) -> None:
    assert is_absent(body(**fields), "f") is absent


@pytest.mark.parametrize(
    ("fields", "value"), [({}, False), ({"f": None}, False), ({"f": False}, False), ({"f": True}, True)]
)
def test_both_kinds_of_bool_read_a_bool(fields: dict[str, Any], value: bool) -> None:
    assert strict_bool("p", body(**fields), "f") is value
    assert safe_bool("p", body(**fields), "f") is value


@pytest.mark.parametrize("value", [1, 0, 1.0, Int64(1), Decimal128("1"), "true", {}, []])
def test_a_strict_bool_is_nothing_else(value: Any) -> None:
    code, errmsg = refusal(lambda: strict_bool("p", body(f=value), "f"))
    assert code == 14
    assert errmsg.startswith("BSON field 'p.f' is the wrong type '")
    assert errmsg.endswith("', expected type 'bool'")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, True),
        (-1, True),
        (2, True),
        (0, False),
        (Int64(1), True),
        (Int64(0), False),
        (0.5, True),
        (0.0, False),
        (-0.0, False),
        (float("nan"), True),
        (Decimal128("1E-6000"), True),
        (Decimal128("1"), True),
        (Decimal128("0E+3"), False),
    ],
)
def test_a_safe_bool_may_be_a_number(value: Any, expected: bool) -> None:
    assert safe_bool("p", body(f=value), "f") is expected


@pytest.mark.parametrize("value", ["true", {}, [], b"x"])
def test_a_safe_bool_is_no_other_type(value: Any) -> None:
    code, errmsg = refusal(lambda: safe_bool("p", body(f=value), "f"))
    assert code == 14
    assert errmsg.startswith("BSON field 'p.f' is the wrong type '")
    assert errmsg.endswith("', expected types '[bool, long, int, decimal, double']")


def test_a_required_string_must_be_there_and_be_a_string() -> None:
    assert required_string("p", body(f="x"), "f") == "x"
    assert required_string("p", body(f=""), "f") == ""
    assert refusal(lambda: required_string("p", body(), "f"))[0] == 40414
    assert refusal(lambda: required_string("p", body(f=5), "f")) == (
        14,
        "BSON field 'p.f' is the wrong type 'int', expected type 'string'",
    )
    assert refusal(lambda: required_string("p", body(f=None), "f"))[0] == 14


def test_an_optional_string_may_be_absent_or_null_but_nothing_else() -> None:
    assert optional_string("p", body(f="x"), "f") == "x"
    assert optional_string("p", body(), "f") is None
    assert optional_string("p", body(f=None), "f") is None
    assert refusal(lambda: optional_string("p", body(f=5), "f")) == (
        14,
        "BSON field 'p.f' is the wrong type 'int', expected type 'string'",
    )


def test_a_required_array_must_be_there_and_be_an_array() -> None:
    assert list(required_array("p", body(f=["x"]), "f")) == ["0"]
    assert refusal(lambda: required_array("p", body(), "f")) == (
        40414,
        "BSON field 'p.f' is missing but a required field",
    )
    assert refusal(lambda: required_array("p", body(f={}), "f")) == (
        14,
        "BSON field 'p.f' is the wrong type 'object', expected type 'array'",
    )


def test_an_array_of_documents_holds_nothing_else() -> None:
    first, second = array_of_documents("p", body(f=[{"a": 1}, {"b": 2}]), "f")
    assert (first.decode(), second.decode()) == ({"a": 1}, {"b": 2})
    assert array_of_documents("p", body(f=[]), "f") == []
    assert refusal(lambda: array_of_documents("p", body(f=[{}, 5]), "f")) == (
        14,
        "BSON field 'p.f.1' is the wrong type 'int', expected type 'object'",
    )


def test_an_element_of_an_array_is_one_level_deeper_than_its_array() -> None:
    outer = body(f=[{}])
    (element,) = array_of_documents("p", outer, "f")
    assert element.depth == outer.depth + 2
