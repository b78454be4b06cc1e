"""Reading a command's arguments the way mongod's parsers read them.

In: a `Document` and a field's name. Out: a value, or the `CommandError` with which mongod answers before it checks
privileges (section "typed parsing"). Must not know which command it reads for, nor what the value decides.

`path` is what mongod puts before the field's name in its texts: the command, or `update.updates`.
"""

from __future__ import annotations

from collections.abc import Iterable

from mongoguard.errors import CommandError, ErrorCode
from mongoguard.wire.document import (
    ARRAY,
    BOOL,
    DECIMAL128,
    DOCUMENT,
    DOUBLE,
    INT32,
    INT64,
    NULL,
    STRING,
    Document,
)

__all__ = [
    "MISSING_FIELD",
    "NOT_AN_OBJECT",
    "UNKNOWN_FIELD",
    "array_of_documents",
    "is_absent",
    "missing_field",
    "optional_string",
    "refuse_unknown_fields",
    "required_array",
    "required_string",
    "safe_bool",
    "strict_bool",
    "unknown_field",
    "wrong_type",
]

NOT_AN_OBJECT = 10065
MISSING_FIELD = 40414
UNKNOWN_FIELD = 40415

_NUMBERS = frozenset({DOUBLE, INT32, INT64, DECIMAL128})
_SAFE_BOOL_TYPES = "s '[bool, long, int, decimal, double']"


def wrong_type(path: str, body: Document, field: str, expected: str) -> CommandError:
    """14 TypeMismatch as mongod's IDL parsers word it."""
    return CommandError(
        ErrorCode.TYPE_MISMATCH,
        f"BSON field '{path}.{field}' is the wrong type '{body.type_name(field)}', expected type {expected}",
    )


def missing_field(path: str, field: str) -> CommandError:
    """40414: a required field is not there."""
    return CommandError(MISSING_FIELD, f"BSON field '{path}.{field}' is missing but a required field")


def unknown_field(path: str, field: str) -> CommandError:
    """40415: a field that the parser does not know."""
    return CommandError(UNKNOWN_FIELD, f"BSON field '{path}.{field}' is an unknown field.")


def refuse_unknown_fields(path: str, body: Document, known: frozenset[str]) -> None:
    """Raise 40415 for the first field that is not in `known`."""
    if not body.fields.keys() <= known:
        raise unknown_field(path, _first(name for name in body.fields if name not in known))


def _first(names: Iterable[str]) -> str:
    return next(iter(names))


def is_absent(body: Document, field: str) -> bool:
    """Whether an optional field is not given; null counts as not given in mongod's parsers."""
    element = body.fields.get(field)
    return element is None or element[0] == NULL


def strict_bool(path: str, body: Document, field: str) -> bool:
    """A field that must be a bool when it is given (`update.updates.upsert`): false when absent or null."""
    element = body.fields.get(field)
    if element is None or element[0] == NULL:
        return False
    if element[0] != BOOL:
        raise wrong_type(path, body, field, "'bool'")
    return body.data[element[2]] != 0


def safe_bool(path: str, body: Document, field: str) -> bool:
    """A field that may be a bool or any number (`bypassDocumentValidation`): every number but zero is true.

    A decimal is compared exactly: as a float, 1E-6000 would be zero where the server reads true.
    """
    element = body.fields.get(field)
    if element is None or element[0] == NULL:
        return False
    if element[0] == BOOL:
        return body.data[element[2]] != 0
    if element[0] == DECIMAL128:
        return bool(body.value(field).to_decimal() != 0)
    if element[0] not in _NUMBERS:
        raise CommandError(
            ErrorCode.TYPE_MISMATCH,
            f"BSON field '{path}.{field}' is the wrong type '{body.type_name(field)}', "
            f"expected type{_SAFE_BOOL_TYPES}",
        )
    return body.number(field) != 0


def required_string(path: str, body: Document, field: str) -> str:
    """A field that must be there and be a string."""
    if field not in body.fields:
        raise missing_field(path, field)
    text = body.string(field)
    if text is None:
        raise wrong_type(path, body, field, "'string'")
    return text


def optional_string(path: str, body: Document, field: str) -> str | None:
    """A field that must be a string when it is given; None when absent or null."""
    element = body.fields.get(field)
    if element is None or element[0] == NULL:
        return None
    if element[0] != STRING:
        raise wrong_type(path, body, field, "'string'")
    return body.string(field)


def required_array(path: str, body: Document, field: str) -> Document:
    """A field that must be there and be an array. mongod has a text of its own for a null."""
    element = body.fields.get(field)
    if element is None:
        raise missing_field(path, field)
    if element[0] == NULL:
        raise CommandError(NOT_AN_OBJECT, f"invalid parameter: expected an object ({field})")
    if element[0] != ARRAY:
        raise wrong_type(path, body, field, "'array'")
    array = body.array(field)
    assert array is not None  # its type was just checked
    return array


def array_of_documents(path: str, body: Document, field: str, elements: str = "") -> list[Document]:
    """A required array whose elements must all be objects; nulls among them are passed over, as mongod's parsers do.

    `elements`: what mongod's texts call the elements, where that is not `path.field`.
    """
    array = required_array(path, body, field)
    views: list[Document] = []
    for key, element in array.fields.items():
        if element[0] == NULL:
            continue
        if element[0] != DOCUMENT:
            raise wrong_type(elements or f"{path}.{field}", array, key, "'object'")
        views.append(Document(array.data, element[2], element[3], array.depth + 1))
    return views
