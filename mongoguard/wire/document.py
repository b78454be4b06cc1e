"""BSON read in place: views over scanned documents, and values taken out of them on request.

In: bytes that a peer sent. Out: `Document` views with each field's type and offsets, and Python values.
Must not know messages or commands.

Why not `bson.decode`: it keeps the last of two equal keys where a server may read the first, it accepts any depth, and
decoding costs ten times a scan. A `Document` refuses duplicate keys at every level that it opens, checks every length
against its parent, and counts its depth; what nobody opens is never decoded, and the upstream validates it.
Source: bsonspec.org, version 1.1; the depth limit is the server's (BSONDepth: 200 levels).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import bson
from bson.codec_options import CodecOptions, DatetimeConversion

from mongoguard.errors import ErrorCode
from mongoguard.wire.scanning import (
    ARRAY,
    BINARY,
    BOOL,
    CODE_WITH_SCOPE,
    DECIMAL128,
    DOCUMENT,
    DOUBLE,
    INT32,
    INT64,
    MAX_FIELDS,
    NULL,
    OBJECT_ID,
    STRING,
    TIMESTAMP,
    TYPE_NAMES,
    BSONError,
    DuplicateFieldError,
    Element,
    document_end,
    scan,
    string_size,
)

__all__ = [
    "ARRAY",
    "BINARY",
    "BOOL",
    "DECIMAL128",
    "DOCUMENT",
    "DOUBLE",
    "INT32",
    "INT64",
    "MAX_DEPTH",
    "MAX_FIELDS",
    "NULL",
    "OBJECT_ID",
    "STRING",
    "TIMESTAMP",
    "TYPE_NAMES",
    "BSONError",
    "Document",
    "DuplicateFieldError",
    "Element",
    "encode",
    "encode_element",
]

MAX_DEPTH = 200
"""Levels of nesting that a 6.0.5 server accepts in a command; one more is answered with 15 Overflow."""

_int32 = struct.Struct("<i").unpack_from
_int64 = struct.Struct("<q").unpack_from
_double = struct.Struct("<d").unpack_from

_OPTIONS: CodecOptions[dict[str, Any]] = CodecOptions(
    document_class=dict, tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_AUTO
)


class Document:
    """A view of one BSON document (or array) inside `data`, scanned one level deep.

    Iterating gives the field names in order. Raises `BSONError` for malformed bytes, for a depth of more than
    `MAX_DEPTH`, and `DuplicateFieldError` for a repeated key.
    """

    __slots__ = ("data", "depth", "end", "fields", "start")

    def __init__(
        self,
        data: bytes,
        start: int = 0,
        limit: int | None = None,
        depth: int = 0,
        max_fields: int = MAX_FIELDS,
    ) -> None:
        """Scan the document that starts at `start` and must end at or before `limit` (default: the end of data)."""
        if depth > MAX_DEPTH:
            raise BSONError("BSONObj exceeds maximum nested object depth", ErrorCode.OVERFLOW)
        self.data = data
        self.start = start
        self.depth = depth
        self.end = document_end(data, start, len(data) if limit is None else limit)
        self.fields = scan(data, start + 4, self.end - 1, max_fields)

    def __len__(self) -> int:
        """How many fields."""
        return len(self.fields)

    def __iter__(self) -> Iterator[str]:
        """Field names in order."""
        return iter(self.fields)

    def __contains__(self, name: object) -> bool:
        """Whether there is a field of that name."""
        return name in self.fields

    @property
    def raw(self) -> bytes:
        """The document's own bytes."""
        return self.data[self.start : self.end]

    def type_of(self, name: str) -> int | None:
        """The field's BSON type byte; None when absent."""
        element = self.fields.get(name)
        return None if element is None else element[0]

    def type_name(self, name: str) -> str:
        """The field's type as mongod's texts name it; "missing" when absent."""
        element = self.fields.get(name)
        return "missing" if element is None else TYPE_NAMES[element[0]]

    def size_of(self, name: str) -> int:
        """Bytes of the field's value; 0 when absent. What is long need not be opened to be described."""
        element = self.fields.get(name)
        return 0 if element is None else element[3] - element[2]

    def string(self, name: str) -> str | None:
        """The field's value if it is a string, else None."""
        element = self.fields.get(name)
        if element is None or element[0] != STRING:
            return None
        return _text(self.data, element[2] + 4, element[3] - 1)

    def number(self, name: str) -> int | float | None:
        """The field's value if it is an int, long, double (or decimal, rounded to a float), else None."""
        element = self.fields.get(name)
        if element is None:
            return None
        match element[0]:
            case 0x10:
                return int(_int32(self.data, element[2])[0])
            case 0x12:
                return int(_int64(self.data, element[2])[0])
            case 0x01:
                return float(_double(self.data, element[2])[0])
            case 0x13:
                return _decimal128_as_float(self.data[element[2] : element[3]])
            case _:
                return None

    def boolean(self, name: str) -> bool | None:
        """The field's value if it is a bool, else None."""
        element = self.fields.get(name)
        if element is None or element[0] != BOOL:
            return None
        return self.data[element[2]] != 0

    def truthy(self, name: str) -> bool:
        """The field as mongod's `trueValue` reads it: false when absent, null, undefined, false, or a zero number."""
        element = self.fields.get(name)
        if element is None or element[0] in (NULL, 0x06):
            return False
        if element[0] == BOOL:
            return self.data[element[2]] != 0
        number = self.number(name)
        return True if number is None else number != 0

    def binary(self, name: str) -> tuple[int, bytes] | None:
        """(subtype, bytes) if the field is binData, else None."""
        element = self.fields.get(name)
        if element is None or element[0] != BINARY:
            return None
        return self.data[element[2] + 4], self.data[element[2] + 5 : element[3]]

    def document(self, name: str) -> Document | None:
        """The field as a scanned view if it is an object, else None."""
        return self._view(name, DOCUMENT)

    def array(self, name: str) -> Document | None:
        """The field as a scanned view if it is an array, else None (its keys are whatever was sent, in order)."""
        return self._view(name, ARRAY)

    def documents(self, name: str) -> list[Document] | None:
        """The elements of an array of objects, each scanned; None when it is no array or an element is no object."""
        array = self.array(name)
        if array is None:
            return None
        views = [array.document(key) for key in array]
        return None if None in views else [v for v in views if v is not None]

    def strings(self, name: str) -> list[str] | None:
        """The elements of an array of strings; None when it is anything else."""
        array = self.array(name)
        if array is None:
            return None
        texts = [array.string(key) for key in array]
        return None if None in texts else [t for t in texts if t is not None]

    def value(self, name: str) -> Any:
        """The field decoded to a Python value by bson, strictly: duplicate keys and deep nesting are refused.

        None when absent. Costs a full decode: for small values that must be understood, not for payloads.
        """
        element = self.fields.get(name)
        if element is None:
            return None
        if element[0] in (DOCUMENT, ARRAY):
            view = Document(self.data, element[2], element[3], self.depth + 1)
            return view.decode() if element[0] == DOCUMENT else view.decode_array()
        if element[0] == CODE_WITH_SCOPE:
            return self._code_with_scope(element)
        size = element[3] - element[1] + 5
        wrapped = size.to_bytes(4, "little") + self.data[element[1] : element[3]] + b"\0"
        return next(iter(_decode_bson(wrapped).values()))

    def decode(self) -> dict[str, Any]:
        """The whole document as a dict, strictly (see `value`)."""
        return {name: self.value(name) for name in self.fields}

    def decode_array(self) -> list[Any]:
        """The whole array as a list, strictly (see `value`)."""
        return [self.value(name) for name in self.fields]

    def _code_with_scope(self, element: Element) -> bson.Code:
        # bson would decode the scope with its own rules: the last of two equal keys, and any depth.
        text = element.value + 4
        scope = text + string_size(self.data, text, element.end)
        view = Document(self.data, scope, element.end, self.depth + 1)
        if view.end != element.end:
            raise BSONError("invalid bson: bytes follow the scope of a code")
        return bson.Code(_text(self.data, text + 4, scope - 1), view.decode())

    def _view(self, name: str, kind: int) -> Document | None:
        element = self.fields.get(name)
        if element is None or element[0] != kind:
            return None
        return Document(self.data, element[2], element[3], self.depth + 1)


def encode(document: dict[str, Any]) -> bytes:
    """Encode values of our own making (never a client's document decoded and encoded again)."""
    return bson.encode(document)


def encode_element(name: str, value: Any) -> bytes:
    """One element's bytes (type, name, value), for a splice."""
    return bson.encode({name: value})[4:-1]


def _decimal128_as_float(data: bytes) -> float:
    decimal = bson.Decimal128.from_bid(data).to_decimal()
    return float("nan") if decimal.is_nan() else float(decimal)  # float() raises for a signaling NaN


def _decode_bson(data: bytes) -> dict[str, Any]:
    try:
        return bson.decode(data, _OPTIONS)
    except (bson.errors.BSONError, ValueError, OverflowError) as error:
        raise BSONError(f"a value could not be decoded: {type(error).__name__}") from error


def _text(data: bytes, start: int, end: int) -> str:
    try:
        return data[start:end].decode()
    except UnicodeDecodeError:
        raise BSONError("invalid bson: a string is not UTF-8") from None
